"""A bank of textures with all their mip levels, and filtered look-ups in it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

LANE_BITS = 20
"""Of the three colours in a texel: 8 for the colour, 12 for the weights that it is multiplied by."""
WEIGHT = 4096 - 16
"""What the weights of a look-up sum to, roughly: each is rounded by itself, and no sum may leave its lane."""


@dataclass(frozen=True)
class TextureBank:
    """Textures with the three colours of a texel in one integer: a look-up reads and weights all of them at once.

    Each level has a border, one texel wide, of what comes next when it wraps around. Colours are kept as displayed,
    and averaged as light (their squares) from level to level.
    """

    texels: Int[Tensor, "n"]
    """The levels of a texture, the finest first, follow each other."""
    levels_table: Float[Tensor, "2 levels"]
    """Where each level starts in its texture, and its texels a side."""
    size: int
    """Texels a side of level 0, a power of two."""
    count: int

    @property
    def levels(self) -> int:
        return self.size.bit_length()

    @property
    def stride(self) -> int:
        """Texels of one texture."""
        return self.texels.shape[0] // self.count

    def to(self, device) -> "TextureBank":
        return TextureBank(self.texels.to(device), self.levels_table.to(device), self.size, self.count)


def make_bank(textures: Float[Tensor, "n 3 size size"]) -> TextureBank:
    """The bank of textures (RGB in [0, 1], wrapping around)."""
    count, size = textures.shape[0], textures.shape[-1]
    if size & (size - 1):
        raise ValueError(f"expected textures of a size that is a power of two, got {size}")
    light = textures.square()
    levels = []
    while True:
        level = torch.nn.functional.pad(light.sqrt(), (1, 1, 1, 1), mode="circular")
        red, green, blue = level.mul(255).round().clamp(0, 255).long().unbind(dim=1)
        levels.append((red | (green << LANE_BITS) | (blue << 2 * LANE_BITS)).flatten(1))
        if light.shape[-1] == 1:
            break
        light = torch.nn.functional.avg_pool2d(light, 2)
    starts = [float(sum(level.shape[1] for level in levels[:k])) for k in range(len(levels))]
    sides = [float(size >> k) for k in range(len(levels))]
    return TextureBank(torch.cat(levels, dim=1).flatten(), torch.tensor([starts, sides]), size, count)


def look_up(
    bank: TextureBank,
    texture: Float[Tensor, "N"],
    u: Float[Tensor, "N"],
    v: Float[Tensor, "N"],
    level_of_detail: Float[Tensor, "N"],
    *,
    between_levels: bool,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Red, green and blue at (u, v), in periods, interpolated between texels and, if wanted, between mip levels.

    Args:
        texture: places in the bank.
        level_of_detail: 0 is the finest level; each one has half of the texels a side of the one before.
    """
    u, v = u - u.floor(), v - v.floor()
    first = texture.to(torch.int32).mul_(bank.stride)
    if between_levels:
        level_of_detail = level_of_detail.clamp(0, bank.levels - 1.001)
        fine = level_of_detail.floor()
        share = level_of_detail - fine
        packed = _weighted(bank, first, u, v, fine, (1 - share).mul_(WEIGHT))
        packed += _weighted(bank, first, u, v, fine + 1, share.mul_(WEIGHT))
    else:
        level = level_of_detail.round().clamp_(0, bank.levels - 1)
        packed = _weighted(bank, first, u, v, level, torch.full_like(u, WEIGHT))
    lane, scale = 2**LANE_BITS - 1, 1 / (255 * WEIGHT)
    red, green, blue = packed & lane, (packed >> LANE_BITS) & lane, packed >> 2 * LANE_BITS
    return red.to(u.dtype).mul_(scale), green.to(u.dtype).mul_(scale), blue.to(u.dtype).mul_(scale)


def _weighted(
    bank: TextureBank,
    first: Int[Tensor, "N"],
    u: Float[Tensor, "N"],
    v: Float[Tensor, "N"],
    level: Float[Tensor, "N"],
    weight: Float[Tensor, "N"],
) -> Int[Tensor, "N"]:
    """The sum over the four texels around (u, v) on a level, times the weight, in lanes."""
    start, size = bank.levels_table.index_select(1, level.to(torch.int32)).unbind()
    x, y = (u * size).sub_(0.5), (v * size).sub_(0.5)
    column, row = x.floor(), y.floor()
    x.sub_(column)
    y.sub_(row)
    stride = size.add_(2)
    # Texel (0, 0) lies behind the border. All of these are integers below 2²⁴, exact in float32.
    place = row.add_(1).mul_(stride).add_(column).add_(start)
    place = place.to(torch.int32).add_(1).add_(first)
    down = stride.to(torch.int32)
    right, below, both = x.mul_(weight), y * weight, x * y
    places = (place, place + 1, place + down, place + down + 1)
    shares = (weight - right - below + both, right - both, below - both, both)
    total = torch.zeros_like(bank.texels[:1]).expand_as(place).contiguous()
    for texel, share in zip(places, shares):
        total += bank.texels.index_select(0, texel).mul_(share.to(torch.int64))
    return total
