"""Geometric augmentation on the device: images turned about their axes, cropped and enlarged, the truth in step."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from kornia.geometry.transform import warp_perspective
from torch import Tensor

from rfp.geometry.depth import inverse_depth_at
from rfp.records import InputError, PosedPair


@dataclass(frozen=True)
class GeometricAugmentation:
    """How far images are turned and enlarged; each image of a pair draws its own values. The defaults change nothing.

    What is seen is always inside the image: a turned view is enlarged until no corner looks past the edge, for a blank
    border would be full of key points. (By 1.65 for 45° at 4:3, by 1.15 for 10°.) The size in pixels stays.

    >>> from rfp.records import PosedPair
    >>> K, image = torch.tensor([[50.0, 0.0, 31.5], [0.0, 50.0, 23.5], [0.0, 0.0, 1.0]]), torch.rand(3, 48, 64)
    >>> pair = PosedPair(image, image, K, K, torch.eye(3), torch.tensor([1.0, 0.0, 0.0]))
    >>> turned = GeometricAugmentation(rotation_deg=90.0)(pair, generator=torch.Generator().manual_seed(0))
    >>> turned.image1.shape
    torch.Size([3, 48, 64])
    """

    rotation_deg: float = 0.0
    """Largest rotation about the optical axis, to each side."""
    zoom: float = 1.0
    """Largest factor by which a view is enlarged beyond what its rotation asks for; the place of the crop is drawn."""

    def __post_init__(self):
        if not 0.0 <= self.rotation_deg <= 180.0:
            raise InputError(f"expected rotation_deg from 0 to 180, got {self.rotation_deg}; 30 is usual")
        if not 1.0 <= self.zoom < math.inf:
            raise InputError(f"expected zoom of at least 1, got {self.zoom}; 1.5 is usual")

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return self.rotation_deg > 0.0 or self.zoom > 1.0

    def __call__(self, pair: PosedPair, *, generator: torch.Generator) -> PosedPair:
        """The pair with each image seen by a camera of its own draw; R, t, K1 and K2 are those of the new cameras.

        X′ = R_z X for each camera, so R ← R_z2 R R_z1ᵀ and t ← R_z2 t.

        Args:
            generator: on the device of the pair.
        """
        uniforms = torch.rand(2, 4, generator=generator, device=generator.device).to(pair.K1)
        one = view_change(pair.K1, _size(pair.image1), uniforms[0], self)
        two = view_change(pair.K2, _size(pair.image2), uniforms[1], self)
        return replace(
            pair,
            image1=one.warped(pair.image1),
            image2=two.warped(pair.image2),
            depth1=None if pair.depth1 is None else one.warped_depth(pair.depth1),
            depth2=None if pair.depth2 is None else two.warped_depth(pair.depth2),
            K1=one.K,
            K2=two.K,
            R=two.R_z @ pair.R @ one.R_z.T,
            t=two.R_z @ pair.t,
        )


@dataclass(frozen=True)
class ViewChange:
    """A camera turned about its axis with a new crop and focal length, and what that does to its pixels."""

    R_z: Float[Tensor, "3 3"]
    """X′ = R_z X."""
    K: Float[Tensor, "3 3"]
    """Of the new camera."""
    pixels: Float[Tensor, "3 3"]
    """Old pixels to new ones: K′ R_z K⁻¹, affine since the axis stays."""

    def warped(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
        """What the new camera sees, read bilinearly."""
        pixels = self.pixels[None].to(image.dtype)
        # The corners may lie on the last pixel's centre: by rounding a hair outside, where zeros would darken them.
        return warp_perspective(image[None], pixels, _size(image), padding_mode="border", align_corners=True)[0]

    def warped_depth(self, depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
        """Its depth, which no turn about the axis changes; 0 where it is unknown or on an edge."""
        height, width = depth.shape
        x, y = (torch.arange(n, device=depth.device, dtype=self.pixels.dtype) for n in (width, height))
        seen = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
        # The affine map by its inverse in closed form: a solver would wait for the device.
        (a, b, u), (c, d, v) = self.pixels[0], self.pixels[1]
        moved = seen - torch.stack([u, v])
        inverse_map = _rows([[d, -b], [-c, a]]) / (a * d - b * c)
        old = (moved[:, None] * inverse_map).sum(dim=-1)
        # As for images: the corners may lie a hair outside.
        old = torch.minimum(old.clamp_min(0.0), torch.stack([x[-1], y[-1]])).to(depth.dtype)
        inverse, known = inverse_depth_at(depth, old)
        return torch.where(known, 1 / torch.where(known, inverse, 1.0), 0.0).view(height, width)


def view_change(
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    uniforms: Float[Tensor, "4"],
    options: GeometricAugmentation,
) -> ViewChange:
    """The change that four numbers in [0, 1) stand for: angle, zoom, and the place of the crop along x and y.

    With F the upper left 2×2 of K, c its principal point and L = F R_z F⁻¹, pixels move by
    x′ = s L (x - m) + half, where half is the middle of the image and m what the new view has there, s ≥ 1 as large as
    the corners need. So K′ = S K with S scaling by s and shifting by half + s L (c - m) - s c.

    Args:
        size: (height, width) in pixels.
    """
    signed = 2 * uniforms - 1
    angle = math.radians(options.rotation_deg) * signed[0]
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    turn = _rows([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    F, principal = K[:2, :2], K[:2, 2]
    F_inverse = _rows([[1 / F[0, 0], -F[0, 1] / (F[0, 0] * F[1, 1])], [zero, 1 / F[1, 1]]])
    L, L_inverse = F @ turn @ F_inverse, F @ turn.T @ F_inverse

    half = torch.stack([one * (size[1] - 1) / 2, one * (size[0] - 1) / 2])
    reach = L_inverse.abs() @ half  # how far the corners of a view of this size look from its middle
    scale = (reach / half).amax() * torch.exp(math.log(options.zoom) * uniforms[1])
    middle = half + (half - reach / scale) * signed[2:]

    shift = half + scale * (L @ (principal - middle)) - scale * principal
    S = _rows([[scale, zero, shift[0]], [zero, scale, shift[1]], [zero, zero, one]])
    offset = half - scale * (L @ middle)
    pixels = torch.cat([torch.cat([scale * L, offset[:, None]], dim=1), torch.stack([zero, zero, one])[None]])
    R_z = _rows([[turn[0, 0], turn[0, 1], zero], [turn[1, 0], turn[1, 1], zero], [zero, zero, one]])
    return ViewChange(R_z=R_z, K=S @ K, pixels=pixels)


def _size(image: Float[Tensor, "3 h w"]) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _rows(rows: list[list[Tensor]]) -> Float[Tensor, "n m"]:
    return torch.stack([torch.stack(row) for row in rows])
