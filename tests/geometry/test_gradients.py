"""Values and gradients of what is differentiable in geometry, by finite differences in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from rfp.geometry.camera import normalize_points, normalized_threshold, scale_intrinsics
from rfp.geometry.epipolar import sampson_distance, symmetric_epipolar_distance
from rfp.geometry.essential import orthonormalize, twisted_poses
from rfp.geometry.pose import essential_from_pose, relative_pose_error
from rfp.geometry.triangulation import scaled_depths
from tests.geometry.scenes import make_rotations, unit_vectors


def drawn(*shape, seed=0):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (values - 0.5).requires_grad_()


def cameras(seed=0):
    K = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1) + 0.2 * torch.triu(drawn(2, 3, 3, seed=seed).detach())
    K[:, 2] = torch.tensor([0.0, 0.0, 1.0])
    return K.requires_grad_()


def rotations(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return make_rotations(0.5 * unit_vectors(2, generator)).requires_grad_()


def translations(seed=0):
    return unit_vectors(2, torch.Generator().manual_seed(seed)).requires_grad_()


def bearing(R, t):
    """Both angles as one tensor, with other poses as the truth."""
    return torch.stack(
        relative_pose_error(R, t, rotations(5).detach(), translations(6).detach(), fold_translation=False)
    )


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (normalize_points, (drawn(2, 4, 2), cameras())),
        (lambda K1, K2: normalized_threshold(1.5, K1, K2), (cameras(1), cameras(2))),
        (lambda K: scale_intrinsics(K, 0.5, 0.25), (cameras(),)),
        (sampson_distance, (drawn(2, 4, 2, seed=1), drawn(2, 4, 2, seed=2), drawn(2, 3, 3, seed=3))),
        (symmetric_epipolar_distance, (drawn(2, 4, 2, seed=1), drawn(2, 4, 2, seed=2), drawn(2, 3, 3, seed=3))),
        (essential_from_pose, (rotations(1), translations(2))),
        (bearing, (rotations(3), translations(4))),
        (orthonormalize, (rotations(1),)),
        (twisted_poses, (rotations(1), translations(2))),
        (
            lambda x1, x2, R, t: torch.stack(scaled_depths(x1, x2, R, t)),
            (drawn(2, 4, 2, seed=1), drawn(2, 4, 2, seed=2), rotations(1), translations(2)),
        ),
    ],
)
def test_gradients_are_those_of_finite_differences(function, inputs):
    assert gradcheck(function, inputs, atol=1e-6)
