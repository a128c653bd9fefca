"""Pinhole cameras in batches: drawing them, moving them, and the rays through their pixels."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.solids import apply, compose, turn


@dataclass(frozen=True)
class Cameras:
    """World to camera: ``X_camera = R (X - centre)``, so that t = -R centre; x right, y down, z forward."""

    K: Float[Tensor, "*B 3 3"]
    R: Float[Tensor, "*B 3 3"]
    centre: Float[Tensor, "*B 3"]

    @property
    def t(self) -> Float[Tensor, "*B 3"]:
        """``X_camera = R X + t``."""
        return -apply(self.R, self.centre)


def relative_pose(one: Cameras, two: Cameras) -> tuple[Float[Tensor, "*B 3 3"], Float[Tensor, "*B 3"]]:
    """R, t with ``X2 = R X1 + t``. From the centres' difference: two world translations would cancel digits."""
    return compose(two.R, one.R.mT), apply(two.R, one.centre - two.centre)


def intrinsics(focal_px: Float[Tensor, "*B"], image_size: tuple[int, int]) -> Float[Tensor, "*B 3 3"]:
    """Square pixels, the principal point in the middle of the image (pixel (0, 0) is a centre)."""
    height, width = image_size
    zero, one = torch.zeros_like(focal_px), torch.ones_like(focal_px)
    across, down = one * ((width - 1) / 2), one * ((height - 1) / 2)
    entries = (focal_px, zero, across, zero, focal_px, down, zero, zero, one)
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def looking_at(centre: Float[Tensor, "*B 3"], target: Float[Tensor, "*B 3"], roll: Float[Tensor, "*B"]) -> Tensor:
    """R of cameras that look at the target with the vertical upright, then turned by ``roll`` about their axis."""
    forward = torch.nn.functional.normalize(target - centre, dim=-1)
    zero = torch.zeros_like(forward[..., 0])
    right = torch.stack((forward[..., 1], -forward[..., 0], zero), dim=-1)  # forward × up
    right = torch.nn.functional.normalize(right, dim=-1)
    down = torch.linalg.cross(forward, right, dim=-1)
    return compose(turn(roll, 2), torch.stack((right, down, forward), dim=-2))


def normalized(
    cameras: Cameras, xy_px: Float[Tensor, "*#B N 2"]
) -> tuple[Float[Tensor, "*B N"], Float[Tensor, "*B N"]]:
    """x and y of ``K⁻¹ (u, v, 1)``; K has no skew."""
    K = cameras.K[..., None, :, :]
    return (xy_px[..., 0] - K[..., 0, 2]) / K[..., 0, 0], (xy_px[..., 1] - K[..., 1, 2]) / K[..., 1, 1]


def back_project(cameras: Cameras, xy_px: Float[Tensor, "*#B N 2"], depth: Float[Tensor, "*B N"]) -> Tensor:
    """The world's points at the given depths of pixels."""
    x, y = normalized(cameras, xy_px)
    seen = torch.stack((x * depth, y * depth, depth), dim=-1)
    return apply(cameras.R.mT[..., None, :, :], seen) + cameras.centre[..., None, :]


def project(cameras: Cameras, X: Float[Tensor, "*B N 3"]) -> tuple[Float[Tensor, "*B N 2"], Float[Tensor, "*B N"]]:
    """The pixels of the world's points, and their depths. Points behind the camera get finite pixels: see the depth."""
    seen = apply(cameras.R[..., None, :, :], X - cameras.centre[..., None, :])
    depth = seen[..., 2]
    divisor = torch.where(depth.abs() > 1e-6, depth, 1e-6)
    K = cameras.K[..., None, :, :]
    x = K[..., 0, 0] * seen[..., 0] / divisor + K[..., 0, 2]
    y = K[..., 1, 1] * seen[..., 1] / divisor + K[..., 1, 2]
    return torch.stack((x, y), dim=-1), depth
