import pytest
import torch

from rfp.data import PhotometricAugmentation, PosedPairs, photometric_augmentation


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images(corner_views):
    return torch.stack([view.image for view in corner_views])


def test_the_same_seed_gives_the_same_images_and_another_one_does_not(images):
    augment = PhotometricAugmentation()
    first = augment(images, generator=_generator())
    assert torch.equal(first, augment(images, generator=_generator()))
    assert not torch.equal(first, augment(images, generator=_generator(1)))


def test_no_global_generator_moves(images):
    state = torch.get_rng_state()
    PhotometricAugmentation()(images, generator=_generator())
    assert torch.equal(state, torch.get_rng_state())


def test_the_global_seed_does_not_matter(images):
    torch.manual_seed(1)
    first = PhotometricAugmentation()(images, generator=_generator())
    torch.manual_seed(2)
    assert torch.equal(first, PhotometricAugmentation()(images, generator=_generator()))


def test_equal_images_are_changed_independently(images):
    twice = images[:1].expand(2, -1, -1, -1)
    augmented = PhotometricAugmentation(noise=0.0)(twice, generator=_generator())
    assert (augmented[0] - augmented[1]).abs().mean() > 0.01


def test_no_strength_is_the_identity(images):
    augment = PhotometricAugmentation(brightness=0.0, contrast=0.0, gamma=0.0, saturation=0.0, blur=0.0, noise=0.0)
    torch.testing.assert_close(augment(images, generator=_generator()), images, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "saturation", "blur", "noise"])
def test_each_strength_acts_alone_and_stays_in_range(images, name):
    strengths = dict.fromkeys(["brightness", "contrast", "gamma", "saturation", "blur", "noise"], 0.0)
    augmented = PhotometricAugmentation(**{**strengths, name: 0.5})(images, generator=_generator())
    assert (augmented - images).abs().mean() > 1e-3
    assert augmented.min() >= 0
    assert augmented.max() <= 1


def test_positions_stay(images):
    """The strongest edge of a step image stays in its column."""
    step = torch.zeros(1, 3, 32, 32)
    step[..., 17:] = 0.8
    augmented = PhotometricAugmentation(noise=0.0)(step, generator=_generator())
    assert (augmented[0].mean((0, 1)).diff().argmax() + 1).item() == 17


def test_a_pair_keeps_its_cameras_and_its_images_get_different_draws(session_pairs_folder):
    pair = PosedPairs(session_pairs_folder)[0]
    same_twice = type(pair)(pair.image1, pair.image1, pair.K1, pair.K2, pair.R, pair.t, pair.scene, pair.name)
    augmented = photometric_augmentation(same_twice, generator=_generator())
    assert not torch.equal(augmented.image1, augmented.image2)
    assert torch.equal(augmented.K1, pair.K1)
    assert torch.equal(augmented.R, pair.R)
    assert augmented.name == pair.name


def test_a_nan_stays_in_its_own_image(images):
    images = images.clone()
    images[1, 0, 5, 5] = torch.nan
    augmented = PhotometricAugmentation()(images, generator=_generator())
    assert augmented[[0, 2, 3]].isfinite().all()
    assert augmented[1].isnan().any()


def test_it_runs_without_visiting_the_host():
    """On the meta device there are no values, so an operation that needs one fails."""
    images = torch.empty(2, 3, 24, 32, device="meta")
    assert PhotometricAugmentation()(images, generator=_generator()).shape == images.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_runs_on_the_gpu_without_synchronising(images):
    on_gpu = images.cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    augment = PhotometricAugmentation()
    augment(on_gpu, generator=generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment(on_gpu, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
