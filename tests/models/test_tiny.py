"""The network of our own: its size, its laws, and that the shipped weights do what they were trained for."""

import pytest
import torch
from torch import nn

import rfp
from rfp.data import HomographyOptions, draw_homography_pairs
from rfp.data.synthetic.textures import draw_textures
from rfp.models import Tiny, load_network, load_pretrained, save_weights
from rfp.models.pretrained import SHIPPED_WEIGHTS, WEIGHTS_FILE
from rfp.records import DenseFeatures
from tests.sync_deny_list import no_host_visits

SIZES = [(64, 96), (70, 101), (1, 1), (3, 50), (17, 16)]


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_network(*, batch_norm=False):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tiny(batch_norm=batch_norm)


@pytest.fixture(scope="module")
def network():
    return load_pretrained("tiny")


@pytest.fixture(scope="module")
def pairs():
    """Two views each of textures that the training families draw."""
    textures = draw_textures(6, size=256, generator=_generator(5))
    options = HomographyOptions(image_size=(160, 200), tilt_deg=35.0, roll_deg=20.0, scale=1.3)
    return draw_homography_pairs(textures, 8, options=options, generator=_generator(6))


def points(count, height, width, seed=0):
    return torch.rand(2, count, 2, generator=_generator(seed)) * torch.tensor([width - 1.0, height - 1.0])


def heat_features(log_heat):
    return DenseFeatures(log_heat=log_heat, feature_map=log_heat.new_zeros(len(log_heat), 64, 1, 1))


def test_it_is_small_and_so_is_its_file(network):
    assert sum(parameter.numel() for parameter in network.parameters()) <= 480_000
    assert (SHIPPED_WEIGHTS / "tiny.safetensors").stat().st_size <= 2_000_000


@pytest.mark.parametrize("name", ["tiny", "tiny-pose"])
def test_its_trained_weights_come_in_eval_mode_and_finite(name):
    network = load_network(name)
    assert not network.training
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert (SHIPPED_WEIGHTS / f"{name}.md").is_file()


def test_what_poses_taught_is_another_network_and_near_the_start(network):
    pairs = zip(network.parameters(), load_network("tiny-pose").parameters(), strict=True)
    moved = [((a - b).norm() / a.norm()).item() for a, b in pairs if a.numel() > 1000]
    assert 0.005 < max(moved) < 0.5


@pytest.mark.parametrize("size", SIZES)
def test_any_size_gives_heat_for_each_pixel_and_finite_unit_descriptors(network, size):
    images = torch.rand(2, 3, *size, generator=_generator())
    xy = points(30, *size)
    with torch.no_grad():
        features = network.extract(images)
        descriptors = network.describe(features, xy)
        refined = network.refine(features, xy)
    assert features.log_heat.shape == (2, *size)
    assert features.log_heat.isfinite().all()
    torch.testing.assert_close(descriptors.norm(dim=-1), torch.ones(2, 30))
    assert refined.isfinite().all()


@pytest.mark.parametrize("size", SIZES)
def test_runs_on_the_meta_device_under_the_deny_list_backward_included(size):
    network = Tiny().to("meta")
    images, xy = torch.rand(2, 3, *size, device="meta"), torch.rand(2, 12, 2, device="meta")
    with no_host_visits():
        features = network.extract(images)
        descriptors = network.describe(features, xy)
        refined = network.refine(features, xy)
        (features.log_heat.sum() + descriptors.sum()).backward()
    assert features.log_heat.shape == (2, *size)
    assert descriptors.shape == (2, 12, 64)
    assert refined.shape == (2, 12, 2)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_reach_every_parameter(batch_norm):
    network = random_network(batch_norm=batch_norm)
    features = network.extract(torch.rand(2, 3, 70, 101, generator=_generator()))
    descriptors = network.describe(features, points(60, 70, 101))
    weight = torch.randn(descriptors.shape, generator=_generator(1))
    heat_weight = torch.randn(features.log_heat.shape, generator=_generator(2))
    ((features.log_heat * heat_weight).sum() + (descriptors * weight).sum()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_without_batch_norm_it_is_the_same_function():
    network = random_network(batch_norm=True)
    images = torch.rand(4, 3, 64, 80, generator=_generator())
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.rand(module.num_features, generator=_generator(1)) + 0.5)
                module.bias.copy_(torch.randn(module.num_features, generator=_generator(2)))
        for _ in range(3):
            network.extract(images)  # moves the running statistics
        plain, network = network.without_batch_norm(), network.eval()
        expected, found = network.extract(images), plain.extract(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert plain.state_dict().keys() == Tiny().state_dict().keys()
    torch.testing.assert_close(found.log_heat, expected.log_heat, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.feature_map, expected.feature_map, atol=1e-4, rtol=1e-4)


def test_images_of_a_batch_do_not_see_each_other(network):
    images, xy = torch.rand(2, 3, 48, 70, generator=_generator()), points(30, 48, 70)
    with torch.no_grad():
        together = network.extract(images)
        alone = [network.extract(image[None]) for image in images]
        apart = torch.cat([network.describe(features, xy[i : i + 1]) for i, features in enumerate(alone)])
        torch.testing.assert_close(network.describe(together, xy), apart, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.log_heat, torch.cat([features.log_heat for features in alone]))


@pytest.mark.parametrize("network_of", [random_network, lambda: load_pretrained("tiny")], ids=["random", "trained"])
def test_moving_the_image_by_its_coarsest_stride_moves_the_heat_and_the_descriptors(network_of):
    """By 16 px right and 32 down; away from the borders, whose padding the receptive field sees."""
    network = network_of()
    image = draw_textures(1, size=384, generator=_generator(3))
    with torch.no_grad():
        first = network.extract(image[:, :, :352, :352])
        moved = network.extract(image[:, :, 32:, 16:368])
        middle = slice(128, 192)
        heat1, heat2 = first.log_heat[0, 160:224, 144:208], moved.log_heat[0, middle, middle]
        assert heat1.std() > 0
        torch.testing.assert_close(heat1, heat2, atol=1e-4 * float(first.log_heat.std()) + 1e-5, rtol=1e-4)
        xy = points(40, 64, 64)[:1] + 128
        there = network.describe(first, xy + torch.tensor([16.0, 32.0]))
        torch.testing.assert_close(there, network.describe(moved, xy), atol=1e-4, rtol=0)


def test_refine_finds_the_mean_position_of_bilinear_mass():
    """What the pretraining teaches: a key point between pixels lies on its four pixels by bilinear weights."""
    xy = 4 + points(50, 33, 43, seed=4)[:1]
    corner = xy.floor().long()
    fraction = xy - corner
    for i in range(50):
        heat = torch.full((1, 41, 51), 1e-12)
        (x, y), (fx, fy) = corner[0, i].tolist(), fraction[0, i].tolist()
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            heat[0, y + dy, x + dx] += (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
        found = Tiny().refine(heat_features(heat.log()), xy[:, i : i + 1].round())
        torch.testing.assert_close(found, xy[:, i : i + 1], atol=1e-4, rtol=0)


def test_refine_moves_to_a_smooth_peak():
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(40.0), indexing="ij")
    for px, py in ((12.3, 9.4), (20.0, 15.0), (7.51, 22.45)):
        log_heat = -((x - px) ** 2 + (y - py) ** 2) / (2 * 0.7**2)
        peak = torch.tensor([[[px, py]]])
        found = Tiny().refine(heat_features(log_heat[None]), peak.round())
        assert (found - peak).abs().max() < 0.06


@pytest.mark.parametrize("size", [(9, 11), (1, 1), (2, 40)])
def test_refined_points_stay_within_their_window_and_the_image(size):
    height, width = size
    log_heat = 5 * torch.randn(2, height, width, generator=_generator())
    xy = points(200, height, width)
    corners = torch.tensor([[0.0, 0.0], [width - 1, 0.0], [0.0, height - 1], [width - 1, height - 1]])
    xy = torch.cat([xy, corners.expand(2, -1, -1)], dim=1)
    found = Tiny().refine(heat_features(log_heat), xy)
    assert (found - xy.round()).abs().max() <= 2
    assert found.min() >= 0
    assert (found <= torch.tensor([width - 1.0, height - 1.0]) + 1e-5).all()


def test_equal_heat_leaves_a_point_at_its_pixel_however_large_it_is():
    xy = torch.tensor([[[6.2, 7.4]]])
    for level in (0.0, -1e4, 1e4):
        found = Tiny().refine(heat_features(torch.full((1, 15, 15), level)), xy)
        torch.testing.assert_close(found, xy.round())


@pytest.mark.parametrize("as_run_folder", [False, True], ids=["file", "run folder"])
def test_saved_weights_load_as_the_same_network(tmp_path, as_run_folder):
    network = random_network().eval()
    save_weights(network, tmp_path / WEIGHTS_FILE)
    found = load_network(tmp_path if as_run_folder else tmp_path / WEIGHTS_FILE)
    assert isinstance(found, Tiny)
    assert not found.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in found.state_dict().items())


def test_no_points_give_no_descriptors(network):
    with torch.no_grad():
        features = network.extract(torch.rand(1, 3, 32, 32))
        assert network.describe(features, torch.zeros(1, 0, 2)).shape == (1, 0, 64)
        assert network.refine(features, torch.zeros(1, 0, 2)).shape == (1, 0, 2)


def right_matches(network, pairs):
    """(share of the mutual matches within 2 px of the truth, mean number of right ones a pair)."""
    first, second = (rfp.detect(network, images, num_keypoints=200) for images in (pairs.images1, pairs.images2))
    index2, mutual = rfp.mutual_nearest_neighbours(first.descriptor, second.descriptor, first.valid, second.valid)
    matched = second.xy_px.gather(1, index2[..., None].expand(-1, -1, 2))
    homogeneous = torch.nn.functional.pad(first.xy_px, (0, 1), value=1.0) @ pairs.H.mT
    error = (homogeneous[..., :2] / homogeneous[..., 2:] - matched).norm(dim=-1)
    right = mutual & (error < 2)
    return float(right.sum() / mutual.sum()), float(right.sum() / len(right))


def test_the_shipped_weights_match_warped_textures_and_random_ones_do_not(network, pairs):
    share, count = right_matches(network, pairs)
    random_share, random_count = right_matches(random_network().eval(), pairs)
    assert share > 0.75
    assert count > 80
    assert random_share < 0.5
    assert random_count < 40


def test_sub_pixel_positions_of_the_shipped_weights_are_nearer_to_the_truth_than_pixels(network, pairs):
    """Median distance of right matches from H with and without ``refine``."""
    errors = {}
    for name in ("pixel", "sub-pixel"):
        sides = []
        for images in (pairs.images1, pairs.images2):
            features = rfp.detect(network, images, num_keypoints=200)
            xy = features.xy_px if name == "sub-pixel" else features.xy_px.round()
            sides.append((features, xy))
        (first, xy1), (second, xy2) = sides
        index2, mutual = rfp.mutual_nearest_neighbours(first.descriptor, second.descriptor, first.valid, second.valid)
        homogeneous = torch.nn.functional.pad(xy1, (0, 1), value=1.0) @ pairs.H.mT
        matched = xy2.gather(1, index2[..., None].expand(-1, -1, 2))
        error = (homogeneous[..., :2] / homogeneous[..., 2:] - matched).norm(dim=-1)
        errors[name] = error[mutual & (error < 3)].median()
    assert errors["sub-pixel"] < 0.9 * errors["pixel"]
