"""Posed pairs: a folder with ``images/`` and ``pairs.json``, a list of ``{image1, image2, K1, K2, R, t, scene}``."""

import copy
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.images import read_image, resize_image
from rfp.data.pair_records import PairRecord, read_records
from rfp.geometry.camera import scale_intrinsics
from rfp.records import InputError, PosedPair

Folder = str | Path


@runtime_checkable
class PairSequence(Protocol):
    """Posed pairs by number: what a trainer needs of a sequence, a list of pairs among them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> PosedPair: ...


@runtime_checkable
class PairStream(Protocol):
    """An endless source of posed pairs, made where they are needed: what a trainer takes beside a sequence.

    Its ``repr`` tells one stream from another: a run resumes only with the one it began with.
    """

    def draw(self, count: int, *, generator: torch.Generator) -> list[PosedPair]:
        """``count`` new pairs on the generator's device, the same for the same state of the generator."""
        ...


class PosedPairs(Sequence[PosedPair]):
    """The posed pairs of one or several folders, as float32 tensors on the CPU.

    Every record of every ``pairs.json`` is checked when the object is made; images are decoded when a pair is asked
    for, and kept (resized) up to ``cache_mb``, so that an image which occurs in many pairs is decoded once.

    Args:
        folders: one folder or several; their pairs follow each other.
        image_size: the longer side in pixels; ``None`` keeps the stored size.
        cache_mb: memory for decoded images; the least recently used ones go first.

    Raises:
        InputError: what is wrong with which record of which file, on one line.

    Example:
        >>> pairs = PosedPairs("data/my_house", image_size=640)    # doctest: +SKIP
        >>> pairs[0].image1.shape, pairs[0].K1                     # doctest: +SKIP
    """

    def __init__(
        self, folders: Folder | Sequence[Folder], *, image_size: int | None = None, cache_mb: float = 1024.0
    ) -> None:
        if isinstance(folders, str | Path):
            folders = [folders]
        if not folders:
            raise InputError("expected at least one folder of posed pairs, got none")
        if image_size is not None and image_size < 1:
            raise InputError(f"expected an image size of at least 1 pixel, got {image_size}; try 640")
        self.folders = tuple(Path(folder) for folder in folders)
        self.image_size = image_size
        self.records: tuple[PairRecord, ...] = tuple(r for folder in self.folders for r in read_records(folder))
        """One :class:`PairRecord` a pair: paths, intrinsics of the stored image, pose, scene."""
        self._cache = ImageCache(image_size, max_bytes=int(cache_mb * 1e6))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> PosedPair:  # type: ignore[override]
        """Pair ``index``, resized, its intrinsics in step. Slices are not supported: take ``records[a:b]``."""
        record = self.records[index]
        image1, K1 = self._cache.load(record.image1, record.K1)
        image2, K2 = self._cache.load(record.image2, record.K2)
        return PosedPair(image1, image2, K1, K2, record.R.float(), record.t.float(), record.scene, record.name)

    def __repr__(self) -> str:
        return f"PosedPairs({len(self)} pairs of {len(self.image_paths)} images, image_size={self.image_size})"

    @property
    def names(self) -> list[str]:
        """What messages call each pair; together they identify the data of a run."""
        return [record.name for record in self.records]

    @property
    def image_paths(self) -> list[Path]:
        """The distinct images, in the order of their first use."""
        return list(dict.fromkeys(path for record in self.records for path in (record.image1, record.image2)))

    def check_images(self) -> None:
        """Decode every distinct image once, so that a broken one is found before a long run and not in the middle.

        Raises:
            InputError: the first image that cannot be read.
        """
        for path in self.image_paths:
            self._cache.image(path)

    def unreadable_images(self) -> dict[Path, str]:
        """Every image that cannot be read, and what is wrong with it; each distinct image is decoded once."""
        problems = {}
        for path in self.image_paths:
            try:
                self._cache.image(path)
            except InputError as error:
                problems[path] = str(error)
        return problems

    def without_images(self, paths: Collection[Path]) -> "PosedPairs":
        """The pairs that show none of these images, in the same order; decoded images are shared with this object.

        Raises:
            InputError: no pair is left.
        """
        rest = copy.copy(self)
        rest.records = tuple(record for record in self.records if not {record.image1, record.image2} & set(paths))
        if not rest.records:
            raise InputError(f"{self.folders[0]}: no pair is left without {len(paths)} images that cannot be used")
        return rest


class ImageCache:
    """Decoded, resized images by path, the least recently used ones dropped beyond ``max_bytes``."""

    def __init__(self, image_size: int | None, *, max_bytes: int) -> None:
        self.image_size = image_size
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Path, tuple[Tensor, tuple[float, float]]] = OrderedDict()
        self._bytes = 0

    def clear(self) -> None:
        """Drop every image."""
        self._entries.clear()
        self._bytes = 0

    def image(self, path: Path) -> tuple[Float[Tensor, "3 h w"], tuple[float, float]]:
        """The resized image (the cache's own tensor: not to be written to) and its scales (x, y)."""
        entry = self._entries.get(path)
        if entry is not None:
            self._entries.move_to_end(path)
            return entry
        entry = resize_image(read_image(path), self.image_size)
        size = entry[0].nbytes
        while self._entries and self._bytes + size > self.max_bytes:
            self._bytes -= self._entries.popitem(last=False)[1][0].nbytes
        if size <= self.max_bytes:
            self._entries[path] = entry
            self._bytes += size
        return entry

    def load(self, path: Path, K: Float[Tensor, "3 3"]) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 3"]]:
        """A copy of the resized image, and the intrinsics of the stored image brought to it; float32."""
        image, (scale_x, scale_y) = self.image(path)
        return image.clone(), scale_intrinsics(K, scale_x, scale_y).to(torch.float32)
