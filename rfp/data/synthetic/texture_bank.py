"""A bank of textures with all their mip levels, and filtered look-ups in it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

RED_BLUE, GREEN = 0x00FF00FF, 0x000000FF


@dataclass(frozen=True)
class TextureBank:
    """Textures as packed bytes, level by level: a look-up then costs one read of memory for all colours.

    Colours are kept as displayed, and averaged as light (their squares) from level to level.
    """

    texels: Int[Tensor, "n"]
    """Red, green and blue in the bytes of an int32; the levels of one texture follow each other."""
    size: int
    """Texels a side of level 0, a power of two."""
    count: int

    @property
    def per_texture(self) -> int:
        return (4 * self.size * self.size - 1) // 3

    @property
    def levels(self) -> int:
        return self.size.bit_length()

    def to(self, device) -> "TextureBank":
        return TextureBank(self.texels.to(device), self.size, self.count)


def make_bank(textures: Float[Tensor, "n 3 size size"]) -> TextureBank:
    """The bank of textures (RGB in [0, 1], wrapping around)."""
    count, size = textures.shape[0], textures.shape[-1]
    if size & (size - 1):
        raise ValueError(f"expected textures of a size that is a power of two, got {size}")
    light = textures.square()
    levels = []
    while True:
        byte = light.sqrt().mul(255).round().clamp(0, 255).to(torch.int32)
        levels.append((byte[:, 0] | (byte[:, 1] << 8) | (byte[:, 2] << 16)).reshape(count, -1))
        if light.shape[-1] == 1:
            break
        light = torch.nn.functional.avg_pool2d(light, 2)
    return TextureBank(torch.cat(levels, dim=1).reshape(-1), size, count)


def look_up_trilinear(
    bank: TextureBank, texture: Int[Tensor, "N"], u: Float[Tensor, "N"], v: Float[Tensor, "N"], lod: Float[Tensor, "N"]
) -> Float[Tensor, "3 N"]:
    """Colours at (u, v), in periods, interpolated between texels and between mip levels; lod 0 is the finest."""
    lod = lod.clamp(0, bank.levels - 1)
    level = lod.floor().clamp_(max=max(bank.levels - 2, 0))
    fraction = lod - level
    level = level.to(torch.int32)
    fine = look_up_bilinear(bank, texture, u, v, level)
    coarse = look_up_bilinear(bank, texture, u, v, (level + 1).clamp_(max=bank.levels - 1))
    return torch.lerp(fine, coarse, fraction, out=fine)


def look_up_bilinear(
    bank: TextureBank, texture: Int[Tensor, "N"], u: Float[Tensor, "N"], v: Float[Tensor, "N"], level: Int[Tensor, "N"]
) -> Float[Tensor, "3 N"]:
    """Colours at (u, v), in periods, of the given mip levels, interpolated between their four texels.

    In integers, with weights of 1/256 that sum to 256: two colours are weighted by one multiplication, and no sum
    leaves its 16 bits.
    """
    shift = (bank.levels - 1) - level  # log2 of the level's size
    size = torch.ones_like(level) << shift
    x, y = (_texel_position(coordinate, size) for coordinate in (u, v))
    fx, fy = x & 255, y & 255
    x, y = x >> 8, y >> 8
    mask = size - 1
    # Σ_{j<level} 4^(L-j) = (4^(L+1) - 4^(shift+1)) / 3 texels lie before this level.
    first = texture * bank.per_texture + ((4 * bank.size * bank.size) - (size * size << 2)).div_(
        3, rounding_mode="floor"
    )
    row0, row1 = first + ((y & mask) << shift), first + (((y + 1) & mask) << shift)
    x0, x1 = x & mask, (x + 1) & mask
    both = (fx * fy + 128) >> 8
    corners = ((row0 + x0, 256 - fx - fy + both), (row0 + x1, fx - both), (row1 + x0, fy - both), (row1 + x1, both))
    red_blue, green = torch.zeros_like(x), torch.zeros_like(x)
    for place, weight in corners:
        texel = bank.texels.index_select(0, place)
        green += ((texel >> 8) & GREEN) * weight
        red_blue += (texel & RED_BLUE) * weight
    colours = torch.stack((red_blue & 0xFFFF, green, (red_blue >> 16) & 0xFFFF))
    return colours.to(u.dtype).mul_(1 / (255 * 256))


def _texel_position(coordinate: Float[Tensor, "N"], size: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """In 1/256 of a texel, from the centre of texel 0, within one period."""
    return ((coordinate - coordinate.floor()) * size - 0.5).mul_(256).floor_().to(torch.int32)
