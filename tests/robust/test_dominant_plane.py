"""The plane that holds most inliers of F, the epipoles beside it, and the evidence that is left."""

import pytest
import torch

from rfp.robust.dominant_plane import dominant_plane, epipoles_beside_plane
from rfp.robust.evidence import is_determined
from rfp.robust.fundamental_refinement import retract
from tests.geometry.scenes import TwoViews, homogeneous, views_of_a_box, views_of_a_plane

THRESHOLD = 0.004


def plane_and_others(n: int, on_plane: int, others: int, seed: int) -> TwoViews:
    """Points of a plane first, then points of other planes, all seen by the same two cameras."""
    parts = [views_of_a_plane(n, on_plane, seed, slope=0.3)]
    parts += [views_of_a_plane(n, 1, seed + 1 + k, slope=-1.0 + 0.4 * (k % 4)) for k in range(others)]
    x1, x2 = (torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("x1", "x2"))
    return TwoViews(x1, x2, parts[0].R, parts[0].t)


def points_of(views: TwoViews) -> torch.Tensor:
    return torch.cat((views.x1, views.x2), dim=-1)


def thresholds(views: TwoViews) -> torch.Tensor:
    return torch.full((len(views.x1),), THRESHOLD, dtype=views.x1.dtype)


def true_plane_errors(views: TwoViews, slope: float = 0.3) -> torch.Tensor:
    """Distances in image 2 to ``R + t nᵀ/d`` of the plane ``Z = 5 + slope X``."""
    normal = torch.tensor([-slope, 0.0, 1.0], dtype=torch.float64) / 5
    H = views.R + views.t[:, :, None] * normal
    mapped = homogeneous(views.x1) @ H.mT
    return (mapped[..., :2] / mapped[..., 2:] - views.x2).norm(dim=-1)


@pytest.mark.parametrize("others", [10, 40])
def test_the_plane_of_most_inliers_is_found(others):
    views = plane_and_others(20, 60, others, 0)
    x2 = views.x2 + 1e-3 * torch.randn(views.x2.shape, generator=torch.Generator().manual_seed(0)).double()
    points = torch.cat((views.x1, x2), dim=-1)
    inliers = torch.ones(points.shape[:2], dtype=torch.bool)
    H, on_plane = dominant_plane(views.E.flatten(1), inliers, points, thresholds(views))
    assert on_plane[:, :60].all()
    far = true_plane_errors(views)[:, 60:] > 8 * THRESHOLD
    assert far.double().mean() > 0.25
    assert not on_plane[:, 60:][far].any()
    mapped = homogeneous(views.x1[:, :60]) @ H.mT
    assert (mapped[..., :2] / mapped[..., 2:] - views.x2[:, :60]).norm(dim=-1).max() < THRESHOLD


def test_the_homography_belongs_to_the_fundamental_matrix():
    views = views_of_a_box(20, 50, 1)
    H, _ = dominant_plane(views.E.flatten(1), torch.ones(20, 50).bool(), points_of(views), thresholds(views))
    product = H.mT @ views.E  # skew exactly if F = [e2]× H
    assert (product + product.mT).abs().max() < 1e-10 * product.abs().amax()


def test_outliers_take_no_part_in_the_choice_of_the_plane():
    views = plane_and_others(10, 30, 60, 2)
    inliers = torch.arange(90) < 30
    _, on_plane = dominant_plane(views.E.flatten(1), inliers.expand(10, 90), points_of(views), thresholds(views))
    assert on_plane[:, :30].all()


@pytest.mark.parametrize("zoom", [0.25, 1.0, 4.0])
def test_noise_of_both_images_counts_where_one_is_magnified(zoom):
    """Image 2 in other pixels: noise of image 1 is magnified by the homography, and is no parallax."""
    views = views_of_a_plane(20, 200, 6, slope=0.3)
    noise = THRESHOLD / 2 * torch.randn(2, *views.x1.shape, generator=torch.Generator().manual_seed(0)).double()
    points = torch.cat((views.x1 + noise[0], zoom * views.x2 + noise[1]), dim=-1)
    to_given = torch.tensor([1 / zoom, 1 / zoom, 1.0], dtype=torch.float64)
    F = to_given[:, None] * views.E
    F = (F / torch.linalg.matrix_norm(F)[:, None, None]).flatten(1)
    _, on_plane = dominant_plane(F, torch.ones(20, 200).bool(), points, thresholds(views))
    assert on_plane.double().mean() > 0.999


def test_the_true_epipole_is_among_those_of_pairs_beside_the_plane():
    views = plane_and_others(20, 60, 12, 3)
    wrong = retract(views.E.flatten(1), torch.zeros(20, 9).double())
    points, inliers = points_of(views), torch.arange(72).expand(20, 72) < 60
    H, on_plane = dominant_plane(wrong, inliers, points, thresholds(views))
    candidates = epipoles_beside_plane(H, ~on_plane, points, wrong)
    torch.testing.assert_close(candidates.norm(dim=1), torch.ones_like(candidates[:, 0]))
    truth = views.E.flatten(1)[..., None]
    gap = torch.minimum((candidates - truth).norm(dim=1), (candidates + truth).norm(dim=1))
    assert (gap < 1e-6).double().mean(dim=1).min() > 0.5


def test_an_epipole_is_found_although_the_matrix_had_another():
    """F = [e]× H for a wrong e has all of the plane; the pairs beside it know better."""
    views = plane_and_others(20, 60, 12, 4)
    normal = torch.tensor([-0.3, 0.0, 1.0], dtype=torch.float64) / 5
    H_true = views.R + views.t[:, :, None] * normal
    e = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double(), dim=1)
    wrong = torch.linalg.cross(e[:, :, None].expand(20, 3, 3), H_true, dim=1).flatten(1)
    wrong = wrong / wrong.norm(dim=1, keepdim=True)
    points, inliers = points_of(views), torch.arange(72).expand(20, 72) < 60
    H, on_plane = dominant_plane(wrong, inliers, points, thresholds(views))
    assert on_plane[:, :60].all()
    candidates = epipoles_beside_plane(H, ~on_plane, points, wrong)
    truth = views.E.flatten(1)[..., None]
    gap = torch.minimum((candidates - truth).norm(dim=1), (candidates + truth).norm(dim=1))
    assert gap.amin(dim=1).max() < 1e-4  # the homography's refits are damped


def test_without_matches_beside_the_plane_the_matrix_stays_and_everything_is_finite():
    views = views_of_a_plane(5, 40, 5, slope=0.3)
    F, points = views.E.flatten(1), points_of(views)
    H, on_plane = dominant_plane(F, torch.ones(5, 40).bool(), points, thresholds(views))
    assert on_plane.all()
    one = torch.arange(40).expand(5, 40) == 7
    assert torch.equal(epipoles_beside_plane(H, one, points, F), F[..., None].expand(-1, -1, 256))
    for empty in (torch.zeros(5, 40).bool(), one):
        H, _ = dominant_plane(torch.zeros_like(F), empty, torch.zeros_like(points), thresholds(views))
        assert torch.isfinite(H).all()


# --- evidence


def evidence(inliers: int, total: int, on_plane: int = 0, chance: float = 0.01) -> bool:
    """``on_plane`` of the inliers are on the dominant plane, and no other match."""
    index = torch.arange(400)
    usable, agreeing, plane = (index < number for number in (total, inliers, on_plane))
    result = is_determined(agreeing[None], usable[None], plane[None], torch.tensor([chance]))
    return bool(result)


def test_a_clear_majority_off_any_plane_is_evidence():
    assert evidence(100, 200)
    assert evidence(40, 300)
    assert evidence(100, 200, on_plane=70)
    assert evidence(12, 12)


@pytest.mark.parametrize("total", [7, 20, 100, 300])
def test_seven_inliers_or_two_beside_the_plane_never_are(total):
    assert not evidence(7, total, chance=1e-6)
    assert not evidence(total, total, on_plane=total - 2, chance=1e-6)
    assert not evidence(total, total, on_plane=total)
    assert not evidence(0, total)


def test_what_chance_gives_is_no_evidence():
    assert not evidence(12, 300, chance=0.01)
    assert not evidence(100, 300, chance=0.4)
    assert not evidence(300, 300, chance=1.5)
    # 8 of 100 beside the plane: 1 by chance, 2 by the choice of the epipole, and its best choice of 4950.
    assert not evidence(208, 300, on_plane=200, chance=0.01)
    assert evidence(220, 300, on_plane=200, chance=0.01)


def test_more_inliers_are_more_evidence():
    for on_plane in (0, 30):
        results = [evidence(inliers, 200, on_plane) for inliers in range(on_plane, 200)]
        assert results == sorted(results)
        assert 0 < sum(results) < len(results)


def test_random_agreement_is_rarely_taken_for_evidence():
    """The best of 1000 draws of as many random inliers as chance gives, and the two that a model fits anyway."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(200, 1000, 100, generator=generator) < 0.02
    best = (drawn.sum(dim=2).amax(dim=1) + 2)[:, None]
    index = torch.arange(300)
    inliers, plane = index < 200 + best, (index < 200).expand(200, 300)
    result = is_determined(inliers, torch.ones(200, 300).bool(), plane, torch.full((200,), 0.02))
    assert result.double().mean() <= 0.01
    assert (best >= 8).all()
