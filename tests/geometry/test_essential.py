"""Decomposition, cheirality and epipolar distances."""

import pytest
import torch

from rfp.geometry.epipolar import NO_LINE, sampson_distance, symmetric_epipolar_distance
from rfp.geometry.essential import decompose_essential, orthonormalize, twisted_poses
from rfp.geometry.pose import essential_from_pose, relative_pose_error
from rfp.geometry.triangulation import in_front_of_both, scaled_depths
from tests.geometry.scenes import homogeneous, views_of_a_box

POINTS1 = torch.zeros(3, 2, dtype=torch.float64)
POINTS2 = torch.tensor([[2.0, 0.0], [2.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
SIDEWAYS = essential_from_pose(torch.eye(3).double(), torch.tensor([1.0, 0.0, 0.0]).double())


def test_sampson_distances_of_a_sideways_motion():
    expected = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    torch.testing.assert_close(sampson_distance(POINTS1, POINTS2, SIDEWAYS), expected)


def test_symmetric_distances_of_a_sideways_motion():
    expected = torch.tensor([0.0, 2.0, 8.0], dtype=torch.float64)
    torch.testing.assert_close(symmetric_epipolar_distance(POINTS1, POINTS2, SIDEWAYS), expected)


@pytest.mark.parametrize("distance", [sampson_distance, symmetric_epipolar_distance])
def test_distances_do_not_depend_on_the_scale_of_E_and_are_finite_without_one(distance):
    torch.testing.assert_close(distance(POINTS1, POINTS2, SIDEWAYS), distance(POINTS1, POINTS2, -7 * SIDEWAYS))
    assert (distance(POINTS1, POINTS2, 0 * SIDEWAYS) == NO_LINE).all()


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,)])
def test_distances_work_for_any_batch(batch):
    E = SIDEWAYS.expand(*batch, 3, 3)
    points1, points2 = POINTS1.expand(*batch, 3, 2), POINTS2.expand(*batch, 3, 2)
    assert sampson_distance(points1, points2, E).shape == (*batch, 3)
    R, t = decompose_essential(E)
    assert R.shape == (*batch, 4, 3, 3)
    assert t.shape == (*batch, 4, 3)


def test_one_of_the_four_poses_is_the_true_one_and_all_share_E():
    views = views_of_a_box(200, 5, 0, turn=1.5)
    R, t = decompose_essential(3 * views.E)
    rotation, translation = relative_pose_error(
        R, t, views.R[:, None].expand_as(R), views.t[:, None].expand_as(t), fold_translation=False
    )
    assert (torch.maximum(rotation, translation).amin(dim=1) < 1e-7).all()
    E = essential_from_pose(R, t) / 2**0.5
    gap = torch.minimum((E - views.E[:, None]).abs().amax((2, 3)), (E + views.E[:, None]).abs().amax((2, 3)))
    assert gap.max() < 1e-12
    assert torch.linalg.det(R).sub(1).abs().max() < 1e-10


def test_the_zero_matrix_decomposes_into_finite_poses():
    R, t = decompose_essential(torch.zeros(2, 3, 3))
    assert torch.isfinite(R).all()
    torch.testing.assert_close(t.abs()[..., 2], torch.ones(2, 4))


def test_the_four_twins_are_those_of_the_decomposition_and_share_them():
    views = views_of_a_box(100, 1, 1, turn=1.5)
    R, t = twisted_poses(views.R, views.t)
    E = essential_from_pose(R, t)
    assert (E.abs() - E[:, :1].abs()).abs().max() < 1e-12
    decomposed_R, decomposed_t = decompose_essential(views.E)
    for twin in range(4):
        gap_R = (decomposed_R - R[:, twin, None]).abs().amax(dim=(2, 3))
        gap_t = (decomposed_t - t[:, twin, None]).abs().amax(dim=2)
        assert torch.maximum(gap_R, gap_t).amin(dim=1).max() < 1e-7


def test_depths_triangulate_the_points():
    views = views_of_a_box(50, 9, 3)
    depth1, depth2, scale = scaled_depths(views.x1, views.x2, views.R, views.t)
    X1 = homogeneous(views.x1) * (depth1 / scale)[..., None]
    X2 = homogeneous(views.x2) * (depth2 / scale)[..., None]
    torch.testing.assert_close(X2, X1 @ views.R.mT + views.t[:, None])
    assert (in_front_of_both(views.x1, views.x2, views.R, views.t)).all()
    assert not (in_front_of_both(views.x1, views.x2, views.R, -views.t)).any()


def test_orthonormalizing_squares_the_departure():
    R = views_of_a_box(20, 1, 4).R
    noisy = R + 1e-3 * torch.rand(R.shape, generator=torch.Generator().manual_seed(0))
    better = orthonormalize(noisy)
    departure = (better.mT @ better - torch.eye(3)).abs().amax()
    assert departure < 1e-5
