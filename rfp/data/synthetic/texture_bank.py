"""A bank of textures with all their mip levels, and filtered look-ups in it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class TextureBank:
    """Textures below each other in one image, so that PyTorch's own bilinear sampling looks all of them up at once.

    Of a texture, level 0 stands on the left and the smaller ones below each other on its right, each with a border, one
    texel wide, of what comes next when it wraps around. Colours are kept as displayed, in 255 steps, and averaged as
    light (their squares) from level to level.
    """

    texels: Float[Tensor, "rows columns 3"]
    levels_table: Float[Tensor, "3 levels"]
    """Where each level starts, across and down, behind its border; and its texels a side."""
    size: int
    """Texels a side of level 0, a power of two."""
    count: int

    @property
    def levels(self) -> int:
        return self.size.bit_length()

    def to(self, device) -> "TextureBank":
        return TextureBank(self.texels.to(device), self.levels_table.to(device), self.size, self.count)


def make_bank(textures: Float[Tensor, "n 3 size size"]) -> TextureBank:
    """The bank of textures (RGB in [0, 1], wrapping around)."""
    count, size = textures.shape[0], textures.shape[-1]
    if size & (size - 1):
        raise ValueError(f"expected textures of a size that is a power of two, got {size}")
    sides = [size >> level for level in range(size.bit_length())]
    across = [0] + [size + 2] * (len(sides) - 1)
    down = [0] + [sum(side + 2 for side in sides[1:level]) for level in range(1, len(sides))]
    height = max(row + side + 2 for row, side in zip(down, sides))
    texels = textures.new_zeros(count, height, size + 2 + size // 2 + 2, 3)
    light = textures.square()
    for side, column, row in zip(sides, across, down):
        level = torch.nn.functional.pad(light.sqrt(), (1, 1, 1, 1), mode="circular").mul(255).round().div(255)
        texels[:, row : row + side + 2, column : column + side + 2] = level.permute(0, 2, 3, 1)
        light = torch.nn.functional.avg_pool2d(light, 2) if side > 1 else light
    starts = [[float(start + 1) for start in axis] for axis in (across, down)]
    return TextureBank(texels.flatten(0, 1), torch.tensor([*starts, [float(side) for side in sides]]), size, count)


def look_up(
    bank: TextureBank,
    texture: Float[Tensor, "*N"],
    u: Float[Tensor, "*N"],
    v: Float[Tensor, "*N"],
    level_of_detail: Float[Tensor, "*N"],
    *,
    between_levels: bool,
) -> Float[Tensor, "3 *N"]:
    """Red, green and blue at (u, v), in periods, interpolated between texels and, if wanted, between mip levels.

    Args:
        texture: places in the bank.
        level_of_detail: 0 is the finest level; each one has half of the texels a side of the one before.
    """
    u, v = u - u.floor(), v - v.floor()
    if not between_levels:
        return _bilinear(bank, texture, u, v, level_of_detail.round().clamp_(0, bank.levels - 1)[None])[0]
    level_of_detail = level_of_detail.clamp(0, bank.levels - 1.001)
    fine = level_of_detail.floor()
    sharp, blunt = _bilinear(bank, texture, u, v, torch.stack((fine, fine + 1)))
    return torch.lerp(sharp, blunt, level_of_detail.sub_(fine))


def _bilinear(
    bank: TextureBank,
    texture: Float[Tensor, "*N"],
    u: Float[Tensor, "*N"],
    v: Float[Tensor, "*N"],
    level: Float[Tensor, "K *N"],
) -> Float[Tensor, "K 3 *N"]:
    """Interpolated between the four texels around (u, v) on each of K levels, which a CPU's threads share."""
    rows, columns, _ = bank.texels.shape
    # To sampling, the image spans [-1, 1] from the outer edges of its first texels to those of its last.
    across, down, side = bank.levels_table
    table = torch.stack((across * (2 / columns) - 1, down * (2 / rows) - 1, side * (2 / columns), side * (2 / rows)))
    left, top, width, height = table.index_select(1, level.flatten().to(torch.int32)).unflatten(1, level.shape)
    grid = level.new_empty(2, *level.shape)
    torch.addcmul(left, u, width, out=grid[0])
    torch.addcmul(top, v, height, out=grid[1]).add_(texture, alpha=2 / bank.count)
    count = level.shape[0]
    image = bank.texels.permute(2, 0, 1).expand(count, -1, -1, -1)
    places = grid.reshape(2, count, 1, -1).permute(1, 2, 3, 0)
    found = torch.nn.functional.grid_sample(image, places, padding_mode="border", align_corners=False)
    return found.reshape(count, 3, *u.shape)
