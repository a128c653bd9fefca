"""Posed pairs: a folder with ``images/`` and ``pairs.json``, a list of ``{image1, image2, K1, K2, R, t, scene}``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from rfp.data.pair_records import located_records
from rfp.data.record_pairs import PosedRecordPairs
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


class PosedPairs(PosedRecordPairs):
    """The posed pairs of one or several folders, as float32 tensors on the CPU.

    Every record of every ``pairs.json`` is checked when the object is made, and two images that occur twice, in either
    order, count once, with a warning. Images are decoded when a pair is asked for, and kept (resized) up to
    ``cache_mb``, so that an image which occurs in many pairs is decoded once.

    Args:
        folders: one folder or several; their pairs follow each other.
        image_size: the longer side in pixels; ``None`` keeps the stored size.
        cache_mb: memory for decoded images; the least recently used ones go first.

    Raises:
        InputError: what is wrong with which record of which file, on one line; two records that contradict each other.

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
        self.folders = tuple(Path(folder) for folder in folders)
        super().__init__(
            (located for folder in self.folders for located in located_records(folder)),
            image_size=image_size,
            cache_mb=cache_mb,
            source=", ".join(map(str, self.folders)),
        )

    def __repr__(self) -> str:
        return f"PosedPairs({len(self)} pairs of {len(self.image_paths)} images, image_size={self.image_size})"
