"""Pinhole cameras: pixels to normalised points, thresholds, and intrinsics of resized images."""

import torch
from jaxtyping import Float
from torch import Tensor


def normalize_points(xy_px: Float[Tensor, "*B N 2"], K: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B N 2"]:
    """Normalised points ``(x, y, 1) = K⁻¹ (u, v, 1)`` for upper-triangular K, skew included.

    A camera without a focal length (zero or not finite) gives points at the origin rather than NaN.

    >>> K = torch.tensor([[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]])
    >>> normalize_points(torch.tensor([[320.0, 240.0], [820.0, 240.0]]), K)
    tensor([[0., 0.],
            [1., 0.]])
    """
    fx, skew, cx = K[..., 0, 0, None], K[..., 0, 1, None], K[..., 0, 2, None]
    fy, cy = K[..., 1, 1, None], K[..., 1, 2, None]
    usable = (fx.abs() > 0) & (fy.abs() > 0) & torch.isfinite(fx) & torch.isfinite(fy)
    one = torch.ones_like(fx)
    y = (xy_px[..., 1] - cy) / torch.where(usable, fy, one)
    x = (xy_px[..., 0] - cx - skew * y) / torch.where(usable, fx, one)
    points = torch.stack((x, y), dim=-1)
    return torch.where(usable[..., None], points, torch.zeros_like(points))


def normalized_threshold(
    max_error_px: float, K1: Float[Tensor, "*B 3 3"], K2: Float[Tensor, "*B 3 3"]
) -> Float[Tensor, "*B"]:
    """A pixel threshold in normalised units: ``½ (1/f1 + 1/f2) · max_error_px`` with ``f = (fx + fy) / 2``.

    The same for every estimator that rfp compares. Two cameras of f = 500 turn 1 px into 0.002.
    """
    focal1 = (K1[..., 0, 0] + K1[..., 1, 1]) / 2
    focal2 = (K2[..., 0, 0] + K2[..., 1, 1]) / 2
    return 0.5 * max_error_px * (1 / focal1 + 1 / focal2)


def scale_intrinsics(
    K: Float[Tensor, "*B 3 3"], scale_x: float | Float[Tensor, "*B"], scale_y: float | Float[Tensor, "*B"]
) -> Float[Tensor, "*B 3 3"]:
    """K of the image resized by ``scale_x``, ``scale_y``: ``f → s f``, ``c → (c + ½) s - ½``.

    The half pixels are there because pixel (0, 0) is the centre, not the corner, of the top-left pixel.
    """
    fx, skew, cx = K[..., 0, 0] * scale_x, K[..., 0, 1] * scale_x, (K[..., 0, 2] + 0.5) * scale_x - 0.5
    fy, cy = K[..., 1, 1] * scale_y, (K[..., 1, 2] + 0.5) * scale_y - 0.5
    zero = torch.zeros_like(fx)
    first = torch.stack((fx, skew, cx), dim=-1)
    second = torch.stack((zero, fy, cy), dim=-1)
    return torch.stack((first, second, K[..., 2, :].expand_as(first)), dim=-2)
