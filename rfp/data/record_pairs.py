"""Sequences of image pairs over checked records: what folders and known data sets share."""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from rfp.data.distinct_records import Record, distinct_records
from rfp.data.image_cache import ImageCache, ReadImage, read_resized
from rfp.data.intrinsics import intrinsics_doubt
from rfp.data.pair_records import PairRecord
from rfp.records import InputError, PosedPair

Item = TypeVar("Item")


# Sequence without its item: what checks types at run time would decode images to look at one.
class RecordPairs(Sequence, ABC, Generic[Record, Item]):
    """A sequence that makes its items from records when they are asked for; images are decoded once and kept.

    Args:
        located: (where in a file, record) of each pair, checked; each two images count once.
        image_size: the longer side in pixels; ``None`` keeps the stored size.
        cache_mb: memory for decoded images.
        source: the files that the records came from, for messages and the ``repr``.
        read: decodes and resizes an image.

    Raises:
        InputError: an image size below 1 pixel, no records, or two that contradict each other.
    """

    def __init__(
        self,
        located: Iterable[tuple[str, Record]],
        *,
        image_size: int | None,
        cache_mb: float,
        source: str | Path,
        read: ReadImage = read_resized,
    ) -> None:
        if image_size is not None and image_size < 1:
            raise InputError(f"expected an image size of at least 1 pixel, got {image_size}; try 640")
        self.records: tuple[Record, ...] = tuple(distinct_records(located, source))
        if not self.records:
            raise InputError(f"{source}: holds no pairs; expected at least one")
        self.image_size = image_size
        self.source = str(source)
        self._cache = ImageCache(image_size, max_bytes=int(cache_mb * 1e6), read=read)
        self._stored_sizes: dict[Path, tuple[int, int]] = {}

    @abstractmethod
    def _item(self, record: Record) -> Item:
        """The pair of a record: its images decoded and resized, its truth in step."""

    def _check(self, record: Record) -> None:
        """Raise InputError where the truth of a record cannot belong to its images."""

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
        for path in self.image_paths:
            self.stored_size(path)
        for record in self.records:
            self._check(record)

    def unreadable_images(self) -> dict[Path, str]:
        """Every image that cannot be read, and what is wrong with it; each distinct image is decoded once."""
        problems = {}
        for path in self.image_paths:
            try:
                self.stored_size(path)  # and remember it: what fits an image is then known without decoding it again
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
        if path not in self._stored_sizes:
            image, (scale_x, scale_y) = self._cache.image(path)
            self._stored_sizes[path] = round(image.shape[-1] / scale_x), round(image.shape[-2] / scale_y)
        return self._stored_sizes[path]


class PosedRecordPairs(RecordPairs[PairRecord, PosedPair]):
    """Posed pairs, float32 on the CPU, of records with intrinsics and a relative pose: ``X2 = R @ X1 + t``."""

    def _item(self, record: PairRecord) -> PosedPair:
        image1, K1 = self._view(record.image1, record.K1)
        image2, K2 = self._view(record.image2, record.K2)
        return PosedPair(image1, image2, K1, K2, record.R.float(), record.t.float(), record.scene, record.name)

    def _view(self, path: Path, K: Float[Tensor, "3 3"]) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 3"]]:
        """A copy of the resized image and its intrinsics."""
        return self._cache.load(path, K)

    def check_images(self) -> None:
        """Decode every distinct image once, and look whether the intrinsics can belong to images of these sizes.

        Intrinsics that are unlikely, as those of an image of another size are, get a warning.

        Raises:
            InputError: the first image that cannot be read, or whose principal point lies outside.
        """
        super().check_images()
        found = {
            (path, tuple(K.flatten().tolist())): intrinsics_doubt(K, self.stored_size(path))
            for record in self.records
            for path, K in ((record.image1, record.K1), (record.image2, record.K2))
        }
        doubts = [f"{path}: {doubt}" for (path, _), doubt in found.items() if doubt]
        if doubts:
            cameras = f"{len(doubts)} cameras" if len(doubts) > 1 else "1 camera"
            warnings.warn(f"{cameras} of {self.source} may not fit: {doubts[0]}", stacklevel=2)

    def _check(self, record: PairRecord) -> None:
        for path, K in ((record.image1, record.K1), (record.image2, record.K2)):
            width, height = self.stored_size(path)
            cx, cy = float(K[0, 2]), float(K[1, 2])
            if not (-0.5 <= cx <= width - 0.5 and -0.5 <= cy <= height - 0.5):
                raise InputError(
                    f"{path}: {self.source} puts the principal point at ({cx:g}, {cy:g}), outside this image of "
                    f"{width}×{height} pixels; use images of the size that the intrinsics were made for"
                )


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
