"""Sequences of image pairs over checked records: what folders and known data sets share."""

import copy
import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.image_cache import ImageCache
from rfp.data.pair_records import PairRecord
from rfp.records import InputError, PosedPair


@runtime_checkable
class ImagePairRecord(Protocol):
    """What every record of a pair has: two images, and what to call it."""

    @property
    def image1(self) -> Path: ...
    @property
    def image2(self) -> Path: ...
    @property
    def scene(self) -> str: ...
    @property
    def name(self) -> str: ...


Record = TypeVar("Record", bound=ImagePairRecord)
Item = TypeVar("Item")


# Sequence without its item: what checks types at run time would decode images to look at one.
class RecordPairs(Sequence, ABC, Generic[Record, Item]):
    """A sequence that makes its items from records when they are asked for; images are decoded once and kept.

    Args:
        records: one for each pair, checked.
        image_size: the longer side in pixels; ``None`` keeps the stored size.
        cache_mb: memory for decoded images.
        source: the files that the records came from, for messages and the ``repr``.

    Raises:
        InputError: an image size below 1 pixel, or no records.
    """

    def __init__(
        self, records: Sequence[Record], *, image_size: int | None, cache_mb: float, source: str | Path
    ) -> None:
        if image_size is not None and image_size < 1:
            raise InputError(f"expected an image size of at least 1 pixel, got {image_size}; try 640")
        if not records:
            raise InputError(f"{source}: holds no pairs; expected at least one")
        self.records: tuple[Record, ...] = tuple(records)
        self.image_size = image_size
        self.source = str(source)
        self._cache = ImageCache(image_size, max_bytes=int(cache_mb * 1e6))

    @abstractmethod
    def _item(self, record: Record) -> Item:
        """The pair of a record: its images decoded and resized, its truth in step."""

    def _check(self, record: Record) -> None:
        """Raise InputError where the truth of a record cannot belong to its images, which are in the cache."""

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Item:  # type: ignore[override]
        """Pair ``index``, resized, its truth in step. Slices are not supported: take ``records[a:b]``."""
        return self._item(self.records[index])

    def __repr__(self) -> str:
        images = len(self.image_paths)
        return (
            f"{type(self).__name__}({self.source}: {len(self)} pairs of {images} images, image_size={self.image_size})"
        )

    @property
    def names(self) -> list[str]:
        """What messages call each pair; together they identify the data of a run."""
        return [record.name for record in self.records]

    @property
    def image_paths(self) -> list[Path]:
        """The distinct images, in the order of their first use."""
        return list(dict.fromkeys(path for record in self.records for path in (record.image1, record.image2)))

    def check_images(self) -> None:
        """Decode every distinct image once and look whether the truth can belong to images of these sizes.

        Raises:
            InputError: the first image that cannot be read or does not fit.
        """
        for record in self._first_records():
            self._check(record)

    def unreadable_images(self) -> dict[Path, str]:
        """Every image that cannot be read, and what is wrong with it; each distinct image is decoded once."""
        problems = {}
        for path in self.image_paths:
            try:
                self._cache.image(path)
            except InputError as error:
                problems[path] = str(error)
        return problems

    def without_images(self, paths: Collection[Path]) -> "RecordPairs[Record, Item]":
        """The pairs that show none of these images, in the same order; decoded images are shared with this object.

        Raises:
            InputError: no pair is left.
        """
        rest = copy.copy(self)
        rest.records = tuple(record for record in self.records if not {record.image1, record.image2} & set(paths))
        if not rest.records:
            raise InputError(f"{self.source}: no pair is left without {len(paths)} images that cannot be used")
        return rest

    def stored_size(self, path: Path) -> tuple[int, int]:
        """(width, height) of an image as stored, in pixels."""
        image, (scale_x, scale_y) = self._cache.image(path)
        return round(image.shape[-1] / scale_x), round(image.shape[-2] / scale_y)

    def _first_records(self) -> list[Record]:
        """As few records as show every image: checking them decodes each image about once."""
        seen: set[Path] = set()
        first = []
        for record in self.records:
            if not {record.image1, record.image2} <= seen:
                seen |= {record.image1, record.image2}
                first.append(record)
        return first


class PosedRecordPairs(RecordPairs[PairRecord, PosedPair]):
    """Posed pairs, float32 on the CPU, of records with intrinsics and a relative pose: ``X2 = R @ X1 + t``."""

    def _item(self, record: PairRecord) -> PosedPair:
        image1, K1 = self._view(record.image1, record.K1)
        image2, K2 = self._view(record.image2, record.K2)
        return PosedPair(image1, image2, K1, K2, record.R.float(), record.t.float(), record.scene, record.name)

    def _view(self, path: Path, K: Float[Tensor, "3 3"]) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 3"]]:
        """A copy of the resized image and its intrinsics."""
        return self._cache.load(path, K)

    def _check(self, record: PairRecord) -> None:
        for path, K in ((record.image1, record.K1), (record.image2, record.K2)):
            width, height = self.stored_size(path)
            cx, cy = float(K[0, 2]), float(K[1, 2])
            if not (-0.5 <= cx <= width - 0.5 and -0.5 <= cy <= height - 0.5):
                raise InputError(
                    f"{path}: {self.source} puts the principal point at ({cx:g}, {cy:g}), outside this image of "
                    f"{width}×{height} pixels; use images of the size that the intrinsics were made for"
                )


def distinct_records(located: Iterable[tuple[str, Record]], source: str | Path) -> list[Record]:
    """The records, each pair of images once; what is told twice alike is left out with a warning.

    Args:
        located: (where in the file, record). A pair and the same pair in the other order are two.

    Raises:
        InputError: two records tell different truths about the same two images.
    """
    kept: dict[tuple[Path, Path], tuple[str, Record]] = {}
    repeated = []
    for location, record in located:
        first = kept.setdefault((record.image1, record.image2), (location, record))
        if first[1] is record:
            continue
        if not _same_truth(first[1], record):
            raise InputError(
                f"{location}: the pair of {first[0]} again ({record.name}), with other numbers; remove the wrong one"
            )
        repeated.append(location)
    if repeated:
        warnings.warn(
            f"{source}: {len(repeated)} pairs occur more than once and count once; the first is {repeated[0]}",
            stacklevel=3,
        )
    return [record for _, record in kept.values()]


def evenly_spaced(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most ``limit`` of the items, spread over all of them, in order.

    >>> evenly_spaced(range(10), 4)
    [0, 2, 5, 7]
    """
    if limit is not None and limit < 1:
        raise InputError(f"expected a limit of at least 1 pair, got {limit}")
    if limit is None or limit >= len(items):
        return list(items)
    return [items[len(items) * k // limit] for k in range(limit)]


def _same_truth(first, second) -> bool:
    values = ((getattr(first, field.name), getattr(second, field.name)) for field in dataclasses.fields(first))
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in values)
