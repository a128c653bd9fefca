"""Depths of matched points in both cameras, for cheirality."""

from jaxtyping import Bool, Float
from torch import Tensor


def scaled_depths(
    x1: Float[Tensor, "*B N 2"], x2: Float[Tensor, "*B N 2"], R: Float[Tensor, "*B 3 3"], t: Float[Tensor, "*B 3"]
) -> tuple[Float[Tensor, "*B N"], Float[Tensor, "*B N"], Float[Tensor, "*B N"]]:
    """Depths in cameras 1 and 2 times a common ``scale ≥ 0``, and that scale: depth = value / scale.

    The least-squares solution of ``λ2 (x2, 1) = λ1 R (x1, 1) + t``, by Cramer's rule. The scale is the squared sine of
    the parallax times the squared lengths of both rays; it vanishes for points at infinity, so signs need no division.
    Differentiable.
    """
    u1, v1 = x1[..., 0], x1[..., 1]
    u2, v2 = x2[..., 0], x2[..., 1]
    a = [R[..., i, 0, None] * u1 + R[..., i, 1, None] * v1 + R[..., i, 2, None] for i in range(3)]  # R (x1, 1)
    t0, t1, t2 = t[..., 0, None], t[..., 1, None], t[..., 2, None]
    aa = a[0] * a[0] + a[1] * a[1] + a[2] * a[2]
    ab = a[0] * u2 + a[1] * v2 + a[2]
    bb = u2 * u2 + v2 * v2 + 1
    at = a[0] * t0 + a[1] * t1 + a[2] * t2
    bt = u2 * t0 + v2 * t1 + t2
    return ab * bt - bb * at, aa * bt - ab * at, (aa * bb - ab * ab).clamp_min(0)


def in_front_of_both(
    x1: Float[Tensor, "*B N 2"], x2: Float[Tensor, "*B N 2"], R: Float[Tensor, "*B 3 3"], t: Float[Tensor, "*B 3"]
) -> Bool[Tensor, "*B N"]:
    """Whether each match triangulates in front of both cameras. Not differentiable.

    >>> import torch
    >>> forward = torch.tensor([0.0, 0.0, -1.0])  # camera 2 stands one unit further along the optical axis
    >>> in_front_of_both(torch.tensor([[0.1, 0.0]]), torch.tensor([[0.2, 0.0]]), torch.eye(3), forward)
    tensor([True])
    """
    depth1, depth2, _ = scaled_depths(x1, x2, R, t)
    return (depth1 > 0) & (depth2 > 0)
