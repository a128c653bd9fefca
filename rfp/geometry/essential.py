"""Essential matrices to poses, in closed form."""

import torch
from jaxtyping import Float
from kornia.geometry.epipolar import decompose_essential_matrix_no_svd
from torch import Tensor


def orthonormalize(R: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """Rotations nearly equal to ``R``, which are nearly rotations: one Newton–Schulz step ``½ R (3 I - Rᵀ R)``.

    The departure from orthonormality is squared.
    """
    gram = (R[..., :, :, None] * R[..., :, None, :]).sum(dim=-3)
    identity = torch.eye(3, dtype=R.dtype, device=R.device)
    correction = 1.5 * identity - 0.5 * gram
    return (R[..., :, :, None] * correction[..., None, :, :]).sum(dim=-2)


def decompose_essential(E: Float[Tensor, "*B 3 3"]) -> tuple[Float[Tensor, "*B 4 3 3"], Float[Tensor, "*B 4 3"]]:
    """The four poses ``(R, t), (R, -t), (R′, t), (R′, -t)`` of each essential matrix, ‖t‖ = 1.

    B. K. P. Horn, Recovering baseline and orientation from essential matrix, 1990, eqs. 18 and 24 (kornia's closed
    form). E = 0, which has no pose, gives those of R = I, t = (0, 0, 1). Not differentiable: signs and
    the order of the four jump.
    """
    batch = E.shape[:-2]
    norm = E.square().sum(dim=(-2, -1), keepdim=True).sqrt()
    usable = torch.isfinite(norm) & (norm > 0)
    placeholder = torch.zeros_like(E)
    placeholder[..., 0, 1], placeholder[..., 1, 0] = -1, 1
    E = torch.where(usable, E / torch.where(usable, norm, torch.ones_like(norm)), placeholder)
    R, R_twisted, t = decompose_essential_matrix_no_svd(E.reshape(-1, 3, 3))
    t = t[..., 0]
    rotations = orthonormalize(torch.stack((R, R, R_twisted, R_twisted), dim=1))
    translations = torch.stack((t, -t, t, -t), dim=1)
    return rotations.reshape(*batch, 4, 3, 3), translations.reshape(*batch, 4, 3)


def twisted_poses(
    R: Float[Tensor, "*B 3 3"], t: Float[Tensor, "*B 3"]
) -> tuple[Float[Tensor, "*B 4 3 3"], Float[Tensor, "*B 4 3"]]:
    """The four poses of one essential matrix up to sign: ±t with R, and ±t with ``R′ = (2 t tᵀ - I) R``."""
    projection = (t[..., :, None] * R).sum(dim=-2)  # tᵀ R
    twisted = 2 * t[..., :, None] * projection[..., None, :] - R
    return torch.stack((R, R, twisted, twisted), dim=-3), torch.stack((t, -t, t, -t), dim=-2)
