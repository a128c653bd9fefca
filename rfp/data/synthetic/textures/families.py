"""The families by name, and the batch of textures drawn from them."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.cellular import checker, masonry, mosaic
from rfp.data.synthetic.textures.composite import SOURCES, posters
from rfp.data.synthetic.textures.drawn import fabric, shapes
from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.facade import facade
from rfp.data.synthetic.textures.finish import expose, soften, weather
from rfp.data.synthetic.textures.held_out import dead_leaves, handwriting, marble
from rfp.data.synthetic.textures.lettering import letters
from rfp.data.synthetic.textures.natural import clouds, speckle
from rfp.records import InputError

Family = Callable[[int, int, Draws], Float[Tensor, "count 3 size size"]]

_BASIC: dict[str, Family] = {
    "shapes": shapes,
    "masonry": masonry,
    "letters": letters,
    "clouds": clouds,
    "mosaic": mosaic,
    "speckle": speckle,
    "checker": checker,
    "fabric": fabric,
}


def _posters(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Poster walls out of the other training families, which take turns as ground and as posters."""
    names = tuple(_BASIC)
    sources = torch.empty(SOURCES * count, 3, size, size, device=draws.device)
    for first, name in enumerate(names):
        number = len(range(first, SOURCES * count, len(names)))
        if number:
            sources[first :: len(names)] = _BASIC[name](number, size, draws)
    return posters(sources.unflatten(0, (SOURCES, count)), draws)


_TRAINING: dict[str, Family] = {**_BASIC, "posters": _posters}
_HELD_OUT: dict[str, Family] = {
    "dead_leaves": dead_leaves,
    "marble": marble,
    "facade": facade,
    "handwriting": handwriting,
}

TRAINING_FAMILIES: tuple[str, ...] = tuple(_TRAINING)
HELD_OUT_FAMILIES: tuple[str, ...] = tuple(_HELD_OUT)
FAMILIES: tuple[str, ...] = TRAINING_FAMILIES + HELD_OUT_FAMILIES

CHUNK_ON_CPU, CHUNK = 4, 64
"""Textures of a family made at once. On a CPU four are fastest, for their fields stay in the cache; other devices want
large batches. Either bounds the memory, however many are asked for."""


def draw_textures(
    count: int,
    *,
    size: int = 256,
    families: Sequence[str] = TRAINING_FAMILIES,
    generator: torch.Generator,
    device: torch.device | str | None = None,
) -> Float[Tensor, "count 3 size size"]:
    """RGB textures in [0, 1] that wrap around; texture i is of the family ``families[i % len(families)]``.

    Everything about a texture (scale, direction, colours, contrast, wear) is drawn from the generator, and nothing
    visits the host. The families take turns, so that the number of each is known without asking the device.

    Args:
        size: Texels a side, a multiple of 4.
        families: Names out of ``FAMILIES``.
        device: Default: the generator's. ``"meta"`` has no generators and takes one of the CPU.

    Raises:
        InputError: an unknown family, none, or a size that is no multiple of 4.

    Example:
        >>> draw_textures(3, size=32, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 3, 32, 32])
    """
    _check(size, families)
    draws = Draws(generator, torch.device(generator.device if device is None else device))
    textures = torch.empty(count, 3, size, size, device=draws.device)
    step = CHUNK_ON_CPU if draws.device.type == "cpu" else CHUNK
    for first, name in enumerate(families):
        places = range(first, count, len(families))
        for start in range(0, len(places), step):
            chunk = places[start : start + step]
            textures[chunk.start : chunk.stop : chunk.step] = draw_family(name, len(chunk), size, draws)
    return textures


def draw_family(name: str, count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Finished textures of one family."""
    family = {**_TRAINING, **_HELD_OUT}[name]
    return expose(weather(soften(family(count, size, draws), draws), draws), draws)


def _check(size: int, families: Sequence[str]) -> None:
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        found = ", ".join(unknown) if unknown else "none"
        raise InputError(f"expected texture families out of {', '.join(FAMILIES)}; got {found}")
    if size < 16 or size % 4:
        raise InputError(f"expected textures of a size that is a multiple of 4 and at least 16, got {size}")
