"""Posed pairs of several sources, one after the other."""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol, runtime_checkable

from rfp.records import InputError, PosedPair


@runtime_checkable
class PosedPairSet(Protocol):
    """Posed pairs of images on disk: folders of them, known sets, and several of these joined."""

    @property
    def names(self) -> list[str]: ...
    @property
    def image_paths(self) -> list[Path]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> PosedPair: ...
    def check_images(self) -> None: ...
    def unreadable_images(self) -> dict[Path, str]: ...
    def without_images(self, paths: Collection[Path], /) -> "PosedPairSet": ...


# Sequence without its item, as RecordPairs.
class JoinedPairs(Sequence):
    """The pairs of several sequences in their order, with the attributes of :class:`rfp.data.PosedPairs`.

    Raises:
        InputError: nothing to join.
    """

    def __init__(self, parts: Sequence[PosedPairSet]) -> None:
        if not parts:
            raise InputError("expected at least one sequence of posed pairs to join, got none")
        self.parts = tuple(parts)
        self._ends = list(accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> PosedPair:  # type: ignore[override]
        """Pair ``index``. Slices are not supported."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        index %= len(self)
        number = bisect_right(self._ends, index)
        return self.parts[number][index - (self._ends[number - 1] if number else 0)]

    def __repr__(self) -> str:
        return f"JoinedPairs({', '.join(map(repr, self.parts))})"

    @property
    def names(self) -> list[str]:
        """What messages call each pair."""
        return [name for part in self.parts for name in part.names]

    @property
    def image_paths(self) -> list[Path]:
        """The distinct images, in the order of their first use."""
        return list(dict.fromkeys(path for part in self.parts for path in part.image_paths))

    def check_images(self) -> None:
        """Decode every distinct image once.

        Raises:
            InputError: the first image that cannot be read.
        """
        for part in self.parts:
            part.check_images()

    def unreadable_images(self) -> dict[Path, str]:
        """Every image that cannot be read, and what is wrong with it."""
        return {path: problem for part in self.parts for path, problem in part.unreadable_images().items()}

    def without_images(self, paths: Collection[Path]) -> "JoinedPairs":
        """The pairs that show none of these images, in the same order.

        Raises:
            InputError: no pair is left.
        """
        kept = []
        for part in self.parts:
            try:
                kept.append(part.without_images(paths))
            except InputError:  # nothing is left of this one
                continue
        if not kept:
            raise InputError(f"{self.parts[0]}: no pair is left without {len(paths)} images that cannot be used")
        return JoinedPairs(kept)
