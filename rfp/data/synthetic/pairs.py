"""Rendered pairs: an endless stream for training, and fixed sets for evaluation."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.relief import ReliefBatch, ReliefNoise, ReliefOptions, draw_relief_noise, relief_on_noise
from rfp.data.synthetic.rendering import RenderedBatch, draw_rendering_noise, render_on_noise
from rfp.data.synthetic.texture_bank import TextureBank, make_bank
from rfp.data.synthetic.textures import draw_textures
from rfp.records import InputError, PosedPair, map_tensors

SET_CHUNK = 8
"""Pairs of a fixed set rendered at once."""


class RenderedPairs:
    """A stream of posed pairs rendered from scenes that are drawn anew for every pair.

    What is drawn depends on the options, the photographs and the generator alone: the textures are drawn once, by
    ``options.texture_seed``, when pairs are first asked for on a device (about 2 s on a CPU).

    Args:
        photographs: (n, 3, s, s) RGB in [0, 1] of float32, or uint8, beside the procedural textures; resized to the
            size of those.

    Raises:
        InputError: what is given as photographs is none.

    Example:
        >>> stream = RenderedPairs(SceneOptions(image_size=(48, 64), num_textures=2))
        >>> pairs = stream.draw(2, generator=torch.Generator().manual_seed(0))
        >>> len(pairs), pairs[0].image1.shape
        (2, torch.Size([3, 48, 64]))
    """

    def __init__(self, options: SceneOptions | None = None, *, photographs: Tensor | None = None) -> None:
        self.options = SceneOptions() if options is None else options
        self._photographs = None if photographs is None else _checked(photographs)
        self._banks: dict[torch.device, TextureBank] = {}

    def __repr__(self) -> str:
        height, width = self.options.image_size
        none = ", 0 photographs" if self._photographs is None else ""
        return f"RenderedPairs({width}x{height} px, {self.ingredients}{none})"

    @cached_property
    def ingredients(self) -> str:
        """The options and photographs that scenes are made of, in a few words that tell them from any others."""
        options = _options_digest(self.options)
        return options if self._photographs is None else f"{options}, {_photographs_digest(self._photographs)}"

    def draw(self, count: int, *, generator: torch.Generator) -> list[PosedPair]:
        """The next ``count`` pairs, on the generator's device, rendered in one batch.

        ``draw(4)`` is not the head of ``draw(8)``: the noise is drawn for the whole batch, kind by kind. A stream
        repeats itself for the same generator state and the same counts.
        """
        return posed_pairs(self.render(count, generator=generator))

    def render(self, count: int, *, generator: torch.Generator) -> RenderedBatch:
        """The next ``count`` pairs with depth, cameras and everything else that is true of them.

        Raises:
            InputError: no pairs asked for.
        """
        if count < 1:
            raise InputError(f"expected at least 1 rendered pair, got {count}")
        noise = draw_rendering_noise(count, self.options, generator=generator)
        return render_on_noise(noise, self.bank(generator.device), self.options)

    def fixed_set(self, num_pairs: int, *, seed: int, device: torch.device | str = "cpu") -> "RenderedSet":
        """Pairs of the stream's making, rendered once and kept on a device, the same for the same seed.

        The noise is drawn on the CPU and moved, so that the set does not depend on the device but for rounding. Pair i
        is the same in sets of any length.

        Raises:
            InputError: no pairs asked for.
        """
        device, options = torch.device(device), self.options

        def chunk(generator: torch.Generator) -> list[PosedPair]:
            noise = draw_rendering_noise(SET_CHUNK, options, generator=generator)
            batch = render_on_noise(map_tensors(noise, lambda value: value.to(device)), self.bank(device), options)
            layouts = [options.layouts[place] for place in batch.layout.tolist()]
            return [replace(pair, scene=layout) for pair, layout in zip(posed_pairs(batch), layouts, strict=True)]

        pairs = _numbered(chunk, num_pairs, seed, self.ingredients, "rendered pair")
        return RenderedSet(pairs, max(options.image_size))

    def bank(self, device: torch.device) -> TextureBank:
        """The stream's textures on a device. They are drawn on the CPU, so that they are the same everywhere."""
        if device not in self._banks:
            generator = torch.Generator().manual_seed(self.options.texture_seed)
            families, size = self.options.textures, self.options.texture_size
            textures = draw_textures(self.options.num_textures, size=size, families=families, generator=generator)
            if self._photographs is not None:
                resized = torch.nn.functional.interpolate(
                    self._photographs, (size, size), mode="bilinear", antialias=True
                )
                textures = torch.cat((textures, resized.clamp(0, 1)))
            self._banks[device] = make_bank(textures).to(device)
        return self._banks[device]


class ReliefPairs:
    """A stream of posed pairs, each of a photograph in a relief that is drawn anew (:mod:`rfp.data.synthetic.relief`).

    Args:
        photographs: (n, 3, s, s) RGB in [0, 1] of float32, or uint8, which takes a quarter of the memory.

    Raises:
        InputError: what is given as photographs is none.

    Example:
        >>> stream = ReliefPairs(torch.rand(2, 3, 96, 96), ReliefOptions(image_size=(48, 64)))
        >>> pairs = stream.draw(2, generator=torch.Generator().manual_seed(0))
        >>> len(pairs), pairs[0].image1.shape
        (2, torch.Size([3, 48, 64]))
    """

    def __init__(self, photographs: Tensor, options: ReliefOptions | None = None) -> None:
        _check_photographs(photographs)
        self.options = ReliefOptions() if options is None else options
        self._photographs = photographs.detach().cpu().contiguous()
        self._on_device: dict[torch.device, Tensor] = {}

    def __repr__(self) -> str:
        height, width = self.options.image_size
        return f"ReliefPairs({width}x{height} px, {self.ingredients})"

    @cached_property
    def ingredients(self) -> str:
        """The options and photographs in a few words that tell them from any others."""
        return f"{_options_digest(self.options)}, {_photographs_digest(self._photographs)}"

    def draw(self, count: int, *, generator: torch.Generator) -> list[PosedPair]:
        """The next ``count`` pairs, on the generator's device, made in one batch."""
        return posed_pairs(self.render(count, generator=generator), "relief")

    def render(self, count: int, *, generator: torch.Generator) -> ReliefBatch:
        """The next ``count`` pairs with their depth.

        Raises:
            InputError: no pairs asked for.
        """
        if count < 1:
            raise InputError(f"expected at least 1 pair in relief, got {count}")
        return self._made(draw_relief_noise(count, self.options, generator=generator))

    def fixed_set(self, num_pairs: int, *, seed: int, device: torch.device | str = "cpu") -> "RenderedSet":
        """Pairs of the stream's making, made once and kept on a device, the same for the same seed and everywhere.

        Raises:
            InputError: no pairs asked for.
        """

        def chunk(generator: torch.Generator) -> list[PosedPair]:
            noise = draw_relief_noise(SET_CHUNK, self.options, generator=generator)
            return posed_pairs(self._made(map_tensors(noise, lambda value: value.to(device))), "relief")

        pairs = _numbered(chunk, num_pairs, seed, self.ingredients, "pair in relief")
        return RenderedSet(pairs, max(self.options.image_size))

    def _made(self, noise: ReliefNoise) -> ReliefBatch:
        device = noise.photograph.device
        if device not in self._on_device:
            self._on_device[device] = self._photographs.to(device)
        return relief_on_noise(self._on_device[device], noise, self.options)


def _numbered(
    chunk: Callable[[torch.Generator], list[PosedPair]], num_pairs: int, seed: int, ingredients: str, what: str
) -> list[PosedPair]:
    """Pairs by whole chunks, so that the last one is drawn and rounded as if the set went on, each named by its place.

    Raises:
        InputError: no pairs asked for.
    """
    if num_pairs < 1:
        raise InputError(f"expected at least 1 {what}, got {num_pairs}")
    generator = torch.Generator().manual_seed(seed)
    pairs = [pair for _ in range(0, num_pairs, SET_CHUNK) for pair in chunk(generator)][:num_pairs]
    # What judges needs no depth, which would be a quarter of what is kept.
    return [
        replace(pair, name=f"{pair.scene} {index} ({ingredients}, seed {seed})", depth1=None, depth2=None)
        for index, pair in enumerate(pairs)
    ]


def _options_digest(options: SceneOptions | ReliefOptions) -> str:
    return f"options {hashlib.sha256(repr(options).encode()).hexdigest()[:8]}"


def _photographs_digest(photographs: Tensor) -> str:
    digest = hashlib.sha256(repr(tuple(photographs.shape)).encode())
    digest.update(photographs.numpy().tobytes())
    return f"{len(photographs)} photographs {digest.hexdigest()[:8]}"


def _checked(photographs: Tensor) -> Float[Tensor, "n 3 s s"]:
    """Photographs as float32 in [0, 1] on the CPU.

    Raises:
        InputError: they are no square RGB images in [0, 1] of float32, or of uint8.
    """
    _check_photographs(photographs)
    photographs = photographs.detach().cpu()
    return (photographs / 255 if photographs.dtype == torch.uint8 else photographs).contiguous()


def _check_photographs(photographs: Tensor) -> None:
    shape = tuple(photographs.shape)
    if photographs.ndim != 4 or shape[0] < 1 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < 1:
        raise InputError(f"expected photographs of shape (n, 3, s, s), got {shape}; crop them to squares of one size")
    if photographs.dtype not in (torch.float32, torch.uint8):
        raise InputError(
            f"expected photographs of float32 in [0, 1] or of uint8, got {photographs.dtype}; convert them"
        )
    if photographs.dtype == torch.uint8:
        return
    low, high = (float(value) for value in photographs.aminmax())
    if not -1e-4 <= low <= high <= 1 + 1e-4:  # NaN fails, too; resizing may overshoot by rounding
        raise InputError(f"expected photographs in [0, 1], got {low:g} to {high:g}; divide bytes by 255, remove NaN")


def posed_pairs(batch: RenderedBatch | ReliefBatch, scene: str = "rendered") -> list[PosedPair]:
    """The pairs of a batch as records."""
    return [
        PosedPair(
            image1=batch.images[b, 0],
            image2=batch.images[b, 1],
            K1=batch.K[b, 0],
            K2=batch.K[b, 1],
            R=batch.R[b],
            t=batch.t[b],
            scene=scene,  # a layout is known to the device alone
            name=f"{scene} pair",
            depth1=batch.depth[b, 0],
            depth2=batch.depth[b, 1],
        )
        for b in range(batch.images.shape[0])
    ]


class RenderedSet(Sequence[PosedPair]):
    """Pairs rendered once and kept; ``scene`` is each pair's layout, and the names tell one set from another."""

    def __init__(self, pairs: Sequence[PosedPair], image_size: int) -> None:
        self._pairs = list(pairs)
        self.image_size = image_size
        """The longer side in pixels."""

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PosedPair:  # type: ignore[override]
        return self._pairs[index]

    @property
    def names(self) -> list[str]:
        """What messages call each pair; together they identify the set."""
        return [pair.name for pair in self._pairs]


def rendered_set(
    options: SceneOptions | None = None,
    *,
    num_pairs: int,
    seed: int,
    device: torch.device | str = "cpu",
    photographs: Tensor | None = None,
) -> RenderedSet:
    """A fixed set of rendered pairs: ``RenderedPairs.fixed_set`` of a stream that is used for nothing else.

    Raises:
        InputError: no pairs asked for, or what is given as photographs is none.
    """
    return RenderedPairs(options, photographs=photographs).fixed_set(num_pairs, seed=seed, device=device)
