"""Smooth random fields on the torus, and coordinates bent by them."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws


def spectral_noise(
    count: int, channels: int, size: int, draws: Draws, *, slope: Float[Tensor, " count"], lowest: float = 1.0
) -> Float[Tensor, "count channels size size"]:
    """Gaussian fields of zero mean and unit deviation whose amplitude falls as frequency^-slope; they wrap around.

    Args:
        slope: 1 looks like a photograph, 2 like clouds, 0 is white.
        lowest: Frequencies below this many cycles a texture are damped.
    """
    rows = torch.fft.fftfreq(size, d=1 / size, device=draws.device)[:, None]
    columns = torch.fft.rfftfreq(size, d=1 / size, device=draws.device)[None]
    frequency = torch.sqrt(rows**2 + columns**2 + lowest**2)
    white = torch.fft.rfft2(draws.normal(count, channels, size, size))
    field = torch.fft.irfft2(white * (frequency ** -slope[:, None, None])[:, None], s=(size, size))
    field = field - field.mean((-2, -1), keepdim=True)
    return field / field.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(1e-6)


def enlarge(field: Float[Tensor, "count channels s s"], size: int) -> Float[Tensor, "count channels size size"]:
    """A small periodic field at the size of the texture, interpolated so that it still wraps around."""
    small = field.shape[-1]
    padded = F.pad(field, (1, 1, 1, 1), mode="circular")
    factor = size / small
    large = F.interpolate(padded, scale_factor=factor, mode="bilinear", align_corners=False)
    border = (large.shape[-1] - size) // 2
    return large[..., border : border + size, border : border + size]


def smooth_noise(count: int, channels: int, size: int, draws: Draws, *, slope: float) -> Float[Tensor, "..."]:
    """Fields without fine structure, made at a quarter of the size: stains, light, the bending of lines."""
    steepness = torch.full((count,), slope, device=draws.device)
    return enlarge(spectral_noise(count, channels, max(size // 4, 1), draws, slope=steepness), size)


def texel_grid(size: int, draws: Draws) -> Float[Tensor, "1 2 size size"]:
    """(x, y) of the texels' centres; the texture spans [0, 1)."""
    centres = (torch.arange(size, device=draws.device) + 0.5) / size
    return torch.stack([centres.expand(size, size), centres[:, None].expand(size, size)])[None]


def bent_grid(count: int, size: int, draws: Draws, *, largest: float = 0.02) -> Float[Tensor, "count 2 size size"]:
    """``texel_grid`` displaced smoothly by up to about ``largest``: nothing built by hand is quite straight."""
    amplitude = largest * draws.uniform(count, 1, 1, 1) ** 2
    return texel_grid(size, draws) + amplitude * smooth_noise(count, 2, size, draws, slope=2.5)


def per_texture(values: Float[Tensor, " count"]) -> Float[Tensor, "count 1 1 1"]:
    """One number a texture, ready to broadcast against texels."""
    return values[:, None, None, None]


TURN = 2 * math.pi
