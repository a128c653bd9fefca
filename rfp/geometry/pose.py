"""Relative poses: their essential matrices and the angles between two of them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def relative_pose_error(
    R: Float[Tensor, "*B 3 3"],
    t: Float[Tensor, "*B 3"],
    R_true: Float[Tensor, "*B 3 3"],
    t_true: Float[Tensor, "*B 3"],
    *,
    fold_translation: bool,
) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """Rotation and translation errors in radians: the angle of ``R_trueᵀ R``, and that between ``t`` and ``t_true``.

    Both angles are ``atan2(sine, cosine)``, which is accurate at 0 and at π where an arc cosine is not, and needs no
    clamping. A translation of zero length has no direction: its error is π, folded or not.

    Args:
        fold_translation: count t and -t as the same direction, so that the error is at most π/2. Evaluation folds, as
            everyone reports; the reward does not, because cheirality counts.

    >>> identity, forward = torch.eye(3), torch.tensor([0.0, 0.0, 1.0])
    >>> relative_pose_error(identity, -forward, identity, forward, fold_translation=True)
    (tensor(0.), tensor(0.))
    """
    difference = (R_true[..., :, :, None] * R[..., :, None, :]).sum(dim=-3)  # R_trueᵀ R
    cosine = (difference[..., 0, 0] + difference[..., 1, 1] + difference[..., 2, 2] - 1) / 2
    axis = torch.stack(
        (
            difference[..., 2, 1] - difference[..., 1, 2],
            difference[..., 0, 2] - difference[..., 2, 0],
            difference[..., 1, 0] - difference[..., 0, 1],
        ),
        dim=-1,
    )
    rotation = torch.atan2(torch.linalg.vector_norm(axis, dim=-1) / 2, cosine)

    sine = torch.linalg.vector_norm(torch.linalg.cross(t, t_true, dim=-1), dim=-1)
    translation = torch.atan2(sine, (t * t_true).sum(dim=-1))
    if fold_translation:
        translation = torch.minimum(translation, math.pi - translation)
    has_direction = (t != 0).any(dim=-1) & (t_true != 0).any(dim=-1)
    return rotation, torch.where(has_direction, translation, torch.full_like(translation, math.pi))


def essential_from_pose(R: Float[Tensor, "*B 3 3"], t: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Essential matrices ``E = [t]× R`` (Hartley and Zisserman, eq. 9.12), not normalised: ``‖E‖ = √2 ‖t‖``.

    >>> essential_from_pose(torch.eye(3), torch.tensor([0.0, 0.0, 1.0]))
    tensor([[ 0., -1.,  0.],
            [ 1.,  0.,  0.],
            [ 0.,  0.,  0.]])
    """
    return torch.linalg.cross(t[..., :, None].expand_as(R), R, dim=-2)


def fundamental_from_pose(
    K1: Float[Tensor, "3 3"], K2: Float[Tensor, "3 3"], R: Float[Tensor, "3 3"], t: Float[Tensor, "3"]
) -> Float[Tensor, "3 3"]:
    """F = K2⁻ᵀ [t]× R K1⁻¹ in pixels, float64: x2ᵀ F x1 = 0."""
    K1, K2, R, t = (tensor.double() for tensor in (K1, K2, R, t))
    return torch.linalg.inv(K2).T @ essential_from_pose(R, t) @ torch.linalg.inv(K1)
