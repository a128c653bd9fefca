"""Smooth random fields on the torus, and the coordinates of the texels, straight or bent."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws


def spectral_noise(
    count: int,
    channels: int,
    size: int,
    draws: Draws,
    *,
    slope: Float[Tensor, " count"],
    stretch: Float[Tensor, "count 2"] | None = None,
) -> Float[Tensor, "count channels size size"]:
    """Gaussian fields of zero mean and unit deviation whose amplitude falls as frequency^-slope; they wrap around.

    Args:
        slope: 1 looks like a photograph, 2 like clouds, 0 is white.
        stretch: Makes structures longer along x and y by these factors: grain of wood, brushed metal.
    """
    rows, columns = _frequencies(size, draws)
    if stretch is not None:
        x, y = stretch[:, :, None, None].unbind(1)
        rows, columns = rows * y, columns * x
    gain = (rows**2 + columns**2 + 1) ** (-0.5 * slope[:, None, None])
    return _filtered_noise(count, channels, size, draws, gain[:, None])


def band_noise(
    count: int, size: int, draws: Draws, *, frequency: Float[Tensor, " count"]
) -> Float[Tensor, "count 1 size size"]:
    """Gaussian fields of structures of one size, ``frequency`` of them a side: zero mean, unit deviation, wrapping."""
    rows, columns = _frequencies(size, draws)
    gain = torch.exp(-8 * (torch.sqrt(rows**2 + columns**2) / frequency[:, None, None] - 1) ** 2)
    return _filtered_noise(count, 1, size, draws, gain[:, None])


def _frequencies(size: int, draws: Draws) -> tuple[Float[Tensor, "size 1"], Float[Tensor, "1 half"]]:
    """Those of ``rfft2`` along y and x, in cycles a texture."""
    index = torch.arange(size, device=draws.device)
    rows = torch.where(index < (size + 1) // 2, index, index - size)[:, None].float()
    return rows, index[None, : size // 2 + 1].float()


def _filtered_noise(
    count: int, channels: int, size: int, draws: Draws, gain: Float[Tensor, "count 1 size half"]
) -> Float[Tensor, "count channels size size"]:
    white = torch.fft.rfft2(draws.normal(count, channels, size, size))
    field = torch.fft.irfft2(white * gain, s=(size, size))
    field = field - field.mean((-2, -1), keepdim=True)
    return field * field.square().mean((-2, -1), keepdim=True).clamp_min(1e-12).rsqrt()


def smooth_noise(
    count: int, channels: int, size: int, draws: Draws, *, slope: float
) -> Float[Tensor, "count channels size size"]:
    """Fields without fine structure: stains, light, the bending of lines. They wrap around and are smooth everywhere.

    A small field of noise, interpolated by its Fourier series: half the time of ``spectral_noise``.
    """
    small = min(size, 32)
    spectrum = torch.fft.rfft2(spectral_noise(count, channels, small, draws, slope=draws.constant(count, value=slope)))
    half = small // 2
    # The frequencies of exactly half the small size have no sign and are left out.
    low, high = spectrum[..., :half, :half], spectrum[..., half + 1 :, :half]
    empty = spectrum.new_zeros(count, channels, size - 2 * half + 1, half)
    return torch.fft.irfft2(torch.cat([low, empty, high], -2), s=(size, size)) * (size / small) ** 2


def texel_grid(size: int, draws: Draws) -> Float[Tensor, "1 2 size size"]:
    """(x, y) of the texels' centres; the texture spans [0, 1)."""
    centres = (torch.arange(size, device=draws.device) + 0.5) / size
    return torch.stack([centres.expand(size, size), centres[:, None].expand(size, size)])[None]


def bent_grid(count: int, size: int, draws: Draws, *, largest: float) -> Float[Tensor, "count 2 size size"]:
    """``texel_grid`` displaced smoothly by up to about ``largest``: nothing made by hand is quite straight."""
    amplitude = largest * draws.uniform(count, 1, 1, 1) ** 2
    return texel_grid(size, draws) + amplitude * smooth_noise(count, 2, size, draws, slope=2.5)
