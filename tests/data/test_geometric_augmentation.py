"""Laws of turned, cropped and enlarged pairs: pixels, cameras and pose stay in step, and nothing blank comes in."""

from dataclasses import replace

import pytest
import torch

import rfp
from rfp.data import GeometricAugmentation, PosedPairs
from rfp.data.geometric_augmentation import view_change
from rfp.geometry.camera import normalize_points
from rfp.geometry.depth import inverse_depth_at, transferred_points
from rfp.geometry.pose import essential_from_pose
from rfp.records import InputError, PosedPair
from tests.sync_deny_list import no_host_visits

AUGMENTATIONS = [
    GeometricAugmentation(rotation_deg=180.0, zoom=2.0),
    GeometricAugmentation(rotation_deg=30.0),
    GeometricAugmentation(zoom=1.5),
]
SIZE = (48, 64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def camera(seed):
    """Unequal focal lengths, some skew, a principal point off the middle."""
    draw = torch.rand(5, generator=generator(seed), dtype=torch.float64)
    fx, fy, skew = 50 + 20 * draw[0], 50 + 20 * draw[1], 2 * draw[2]
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack(
        [
            torch.stack([fx, skew, 25 + 10 * draw[3]]),
            torch.stack([zero, fy, 20 + 8 * draw[4]]),
            torch.stack([zero, zero, one]),
        ]
    )


def pair_of_cameras(dtype=torch.float64):
    axis = torch.tensor([[0.0, -0.3, 0.2], [0.3, 0.0, -0.1], [-0.2, 0.1, 0.0]], dtype=torch.float64)
    R, t = torch.linalg.matrix_exp(axis), torch.tensor([1.0, 0.2, -0.1], dtype=torch.float64)
    image = torch.rand(3, *SIZE, generator=generator(), dtype=torch.float32)
    return PosedPair(image, image.flip(-1), *(tensor.to(dtype) for tensor in (camera(1), camera(2), R, t)))


def homogeneous(points):
    return torch.cat([points, torch.ones_like(points[:, :1])], dim=1)


def changes(pair, augment, seed):
    """The two views that the augmentation draws."""
    uniforms = torch.rand(2, 4, generator=generator(seed)).to(pair.K1)
    return [view_change(K, SIZE, each, augment) for K, each in zip((pair.K1, pair.K2), uniforms, strict=True)]


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_true_correspondences_stay_true(augment):
    """Pixels moved as the image is, under the new cameras and the new pose."""
    pair = pair_of_cameras()
    X1 = torch.randn(50, 3, generator=generator(3), dtype=torch.float64) + torch.tensor([0.0, 0.0, 6.0])
    X2 = X1 @ pair.R.T + pair.t
    for seed in range(5):
        turned = augment(pair, generator=generator(seed))
        one, two = changes(pair, augment, seed)
        x1, x2 = X1 @ pair.K1.T @ one.pixels.T, X2 @ pair.K2.T @ two.pixels.T
        F = torch.linalg.inv(turned.K2).T @ essential_from_pose(turned.R, turned.t) @ torch.linalg.inv(turned.K1)
        lines = x1 / x1[:, 2:] @ F.T
        distance = ((x2 / x2[:, 2:]) * lines).sum(-1).abs() / lines[:, :2].norm(dim=-1)
        assert distance.max() < 1e-9
        projected = X1 @ one.R_z.T @ turned.K1.T
        torch.testing.assert_close(projected / projected[:, 2:], x1 / x1[:, 2:], atol=1e-9, rtol=0)
        torch.testing.assert_close(turned.K1[1:, 0], torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_nothing_outside_the_image_is_seen_and_a_zoom_of_one_shows_as_much_as_fits(augment):
    whole = torch.tensor([63.0, 47.0], dtype=torch.float64)
    corners = homogeneous(torch.stack([0 * whole, whole, whole * torch.tensor([1, 0]), whole * torch.tensor([0, 1])]))
    for seed in range(40):
        for change in changes(pair_of_cameras(), augment, seed):
            seen = (corners @ torch.linalg.inv(change.pixels).T)[:, :2]
            assert seen.min() > -1e-9
            assert (seen <= whole + 1e-9).all()
            if augment.zoom == 1.0:
                extent = seen.amax(0) - seen.amin(0)
                assert (extent > whole - 1e-9).any()


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_the_pixels_of_the_new_image_are_those_of_the_old_one(augment):
    """A smooth image, read at the moved points."""
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")

    def shade(x, y):
        return torch.stack([(0.15 * x + 0.05 * y).sin(), (0.1 * y - 0.1 * x).cos(), (0.12 * y).sin()]) / 4 + 0.5

    pair = replace(pair_of_cameras(), image1=shade(columns, rows))
    for seed in range(5):
        turned, change = augment(pair, generator=generator(seed)), changes(pair, augment, seed)[0]
        back = (
            homogeneous(torch.stack([columns.flatten(), rows.flatten()], 1)).double()
            @ torch.linalg.inv(change.pixels).T
        )
        expected = shade(back[:, 0], back[:, 1]).view(3, *SIZE)
        assert (turned.image1 - expected).abs().max() < 2e-3


def test_cropping_and_resizing_move_the_principal_point_as_they_do_elsewhere():
    """Resizing by s moves it to (c + 0.5) s - 0.5, after the crop took off where it begins."""
    pair = pair_of_cameras()
    change = changes(pair, GeometricAugmentation(zoom=2.0), 4)[0]
    scale = change.pixels[0, 0]
    begins = (torch.linalg.inv(change.pixels) @ torch.tensor([-0.5, -0.5, 1.0], dtype=torch.float64))[:2] + 0.5
    expected = (pair.K1[:2, 2] - begins + 0.5) * scale - 0.5
    torch.testing.assert_close(change.K[:2, 2], expected)
    torch.testing.assert_close(change.K[:2, :2], pair.K1[:2, :2] * scale)
    assert 1.05 < scale < 2


def test_tiny_finds_the_pose_of_turned_and_enlarged_views_and_not_the_old_one(session_pairs_folder):
    augment, network = GeometricAugmentation(rotation_deg=15.0, zoom=1.2), rfp.load_pretrained("tiny")
    pairs = list(PosedPairs(session_pairs_folder))[:3]
    turned = [augment(pair, generator=generator(seed)) for seed, pair in enumerate(pairs)]
    stale = [replace(new, R=old.R, t=old.t, K1=old.K1, K2=old.K2) for new, old in zip(turned, pairs, strict=True)]
    errors = [sorted(rfp.evaluate(network, each, num_keypoints=256).errors_deg) for each in (turned, stale)]
    assert errors[0][1] < 3
    assert errors[1][0] > 6


def test_the_two_images_draw_values_of_their_own_and_the_seed_repeats_them():
    pair = pair_of_cameras()
    pair = replace(pair, image2=pair.image1, K2=pair.K1)
    first, again, other = (AUGMENTATIONS[0](pair, generator=generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.image1, again.image1)
    assert torch.equal(first.R, again.R)
    assert not torch.equal(first.image1, other.image1)
    assert (first.K1 - first.K2).abs().max() > 0.1


def test_a_camera_or_an_image_that_is_unusable_stays_so():
    pair = pair_of_cameras(torch.float32)
    broken = replace(pair, K1=torch.full_like(pair.K1, torch.nan))
    assert not AUGMENTATIONS[0](broken, generator=generator()).K1.isfinite().all()
    blind = replace(pair, image1=torch.full_like(pair.image1, torch.nan))
    assert AUGMENTATIONS[0](blind, generator=generator()).image1.isnan().all()


def test_it_visits_the_host_nowhere():
    pair = pair_of_cameras(torch.float32)
    pair = PosedPair(*(getattr(pair, name).to("meta") for name in ("image1", "image2", "K1", "K2", "R", "t")))
    with no_host_visits():
        change = view_change(pair.K1, SIZE, torch.empty(4, device="meta"), AUGMENTATIONS[0])
        assert change.warped(pair.image1).shape == pair.image1.shape
        assert change.warped_depth(pair.image1[0]).shape == SIZE


@pytest.mark.parametrize(
    "wrong", [{"rotation_deg": -1.0}, {"rotation_deg": 181.0}, {"zoom": 0.9}, {"zoom": float("nan")}]
)
def test_impossible_strengths_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        GeometricAugmentation(**wrong)


def test_depth_stays_in_step_with_images_cameras_and_pose():
    """Points of a plane in space, carried to the other view by the depth that the augmentation leaves, both ways."""
    pair = pair_of_cameras()
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SIZE), indexing="ij")
    normal, distance = torch.tensor([0.1, -0.2, 1.0], dtype=torch.float64), 4.0
    rays = homogeneous(torch.stack([x, y], dim=-1).view(-1, 2)) @ torch.linalg.inv(pair.K1).T
    depth1 = (distance / (rays @ normal)).view(SIZE)
    # n · X1 = d with X1 = Rᵀ (X2 - t)
    rays2 = homogeneous(torch.stack([x, y], dim=-1).view(-1, 2)) @ torch.linalg.inv(pair.K2).T
    turned_normal = pair.R @ normal
    depth2 = ((distance + turned_normal @ pair.t) / (rays2 @ turned_normal)).view(SIZE)
    pair = replace(pair, depth1=depth1, depth2=depth2)
    turned = GeometricAugmentation(rotation_deg=40.0, zoom=1.5)(pair, generator=generator(3))

    xy1 = 4 + torch.rand(200, 2, generator=generator(4), dtype=torch.float64) * torch.tensor([55.0, 39.0]).double()
    there, back = carried(xy1, turned.depth1, turned.K1, turned.K2, turned.R, turned.t)
    again, _ = carried(there, turned.depth2, turned.K2, turned.K1, turned.R.T, -turned.R.T @ turned.t)
    inside = back & (there > 1).all(dim=-1) & (there < torch.tensor([62.0, 46.0])).all(dim=-1)
    assert int(inside.sum()) > 20
    torch.testing.assert_close(again[inside], xy1[inside], atol=1e-3, rtol=0)


def carried(xy, depth, K, K_other, R, t):
    inverse, known = inverse_depth_at(depth, xy)
    x, _ = transferred_points(normalize_points(xy, K), inverse, R, t)
    return (homogeneous(x) @ K_other.T)[:, :2], known


def test_unknown_depth_stays_unknown_and_an_edge_of_depth_becomes_no_slope():
    """200 away, so that whatever a hole is filled with would show; a step of 10 % that enlarging would smooth."""
    pair = pair_of_cameras()
    depth = torch.full(SIZE, 200.0)
    depth[:, 32:] = 220.0
    depth[20:30, 20:30] = 0.0
    turned = GeometricAugmentation(rotation_deg=20.0, zoom=2.0)(replace(pair, depth1=depth), generator=generator())
    assert turned.depth2 is None
    known = turned.depth1 > 0
    assert 0.5 < float(known.float().mean()) < 1.0
    values = turned.depth1[known]
    torch.testing.assert_close(values, torch.where(values < 210, 200.0, 220.0), atol=1e-3, rtol=0)
    assert bool((values > 210).any())
