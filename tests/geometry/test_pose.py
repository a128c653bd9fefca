"""Angles between poses, and essential matrices of poses."""

import math

import kornia.metrics
import pytest
import torch

from rfp.geometry.pose import essential_from_pose, relative_pose_error
from tests.geometry.scenes import make_rotations, random_rotations, unit_vectors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.3, math.pi / 2, 3.0, math.pi - 1e-5, math.pi])
def test_the_rotation_error_is_the_angle_even_near_zero_and_pi(angle, dtype):
    generator = torch.Generator().manual_seed(0)
    R_true = random_rotations(20, generator)
    R = R_true @ make_rotations(angle * unit_vectors(20, generator))
    t = unit_vectors(20, generator)
    rotation, _ = relative_pose_error(R.to(dtype), t.to(dtype), R_true.to(dtype), t.to(dtype), fold_translation=False)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(rotation.double(), torch.full((20,), angle, dtype=torch.float64), atol=tolerance, rtol=0)


def test_the_translation_error_of_opposite_directions_is_pi_unless_folded():
    t = unit_vectors(10, torch.Generator().manual_seed(1))
    R = torch.eye(3).double().expand(10, 3, 3)
    _, full = relative_pose_error(R, -3 * t, R, t, fold_translation=False)
    _, folded = relative_pose_error(R, -3 * t, R, t, fold_translation=True)
    torch.testing.assert_close(full, torch.full_like(full, math.pi))
    torch.testing.assert_close(folded, torch.zeros_like(folded), atol=1e-7, rtol=0)


@pytest.mark.parametrize("fold", [False, True])
def test_a_translation_without_direction_has_the_error_pi(fold):
    t = torch.tensor([0.0, 0.0, 1.0])
    for pair in ((0 * t, t), (t, 0 * t), (0 * t, 0 * t)):
        _, translation = relative_pose_error(torch.eye(3), pair[0], torch.eye(3), pair[1], fold_translation=fold)
        assert translation.item() == pytest.approx(math.pi)


def test_errors_agree_with_kornia():
    generator = torch.Generator().manual_seed(2)
    R, R_true = random_rotations(50, generator), random_rotations(50, generator)
    t, t_true = unit_vectors(50, generator), unit_vectors(50, generator)
    rotation, translation = relative_pose_error(R, t, R_true, t_true, fold_translation=False)
    expected = torch.tensor([float(kornia.metrics.angle_error_mat(a, b)) for a, b in zip(R, R_true)]).double()
    torch.testing.assert_close(rotation.rad2deg(), expected, atol=1e-3, rtol=0)
    expected = torch.tensor([float(kornia.metrics.angle_error_vec(a, b)) for a, b in zip(t, t_true)]).double()
    torch.testing.assert_close(translation.rad2deg(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,)])
def test_any_batch_shape(batch):
    R, t = torch.eye(3).expand(*batch, 3, 3), torch.ones(*batch, 3)
    rotation, translation = relative_pose_error(R, t, R, t, fold_translation=True)
    assert rotation.shape == translation.shape == batch
    assert essential_from_pose(R, t).shape == (*batch, 3, 3)


def test_the_essential_matrix_of_a_forward_motion():
    E = essential_from_pose(torch.eye(3), torch.tensor([0.0, 0.0, 1.0]))
    assert torch.equal(E, torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
