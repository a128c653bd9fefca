"""Each pair of images once: what lists tell twice, in either order, and what they tell differently."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from rfp.records import InputError


@runtime_checkable
class ImagePairRecord(Protocol):
    """What every record of a pair has: two images, what to call it, and a truth that can be told in either order."""

    @property
    def image1(self) -> Path: ...
    @property
    def image2(self) -> Path: ...
    @property
    def scene(self) -> str: ...
    @property
    def name(self) -> str: ...

    def reversed(self) -> Any:
        """The same pair with image 2 first."""
        ...

    def same_truth(self, other: Any, /) -> bool:
        """Whether both tell the same about their images, which stand in the same order, up to what files round."""
        ...


Record = TypeVar("Record", bound=ImagePairRecord)


class DistinctRecords(Generic[Record]):
    """Records, each two images once, whatever the order and the way to their files."""

    def __init__(self) -> None:
        self._kept: dict[frozenset[Path], tuple[str, Record]] = {}
        self._files: dict[Path, Path] = {}

    def add(self, location: str, record: Record) -> bool:
        """Whether its pair is new; one that is known and told alike is left out.

        Raises:
            InputError: it pairs an image with itself, or tells another truth than an earlier record.
        """
        one, two = (self._files.setdefault(path, path.resolve()) for path in (record.image1, record.image2))
        if one == two:
            raise InputError(f"{location}: both images are {one}; remove the pair")
        before, first = self._kept.setdefault(frozenset((one, two)), (location, record))
        if first is record:
            return True
        in_order = record if self._files[first.image1] == one else record.reversed()
        if not first.same_truth(in_order):
            raise InputError(
                f"{location}: the pair of {before} again ({record.name}), with other numbers; remove the wrong one"
            )
        return False

    def records(self) -> list[Record]:
        """In the order in which they came."""
        return [record for _, record in self._kept.values()]


def distinct_records(located: Iterable[tuple[str, Record]], source: str | Path) -> list[Record]:
    """The records, each two images once; what is told twice alike, in either order, is left out with a warning.

    A pair that counts twice weighs twice in a figure and narrows its interval.

    Args:
        located: (where in the file, record).
        source: What the warning names.

    Raises:
        InputError: two records tell different truths about the same two images, or one pairs an image with itself.
    """
    distinct: DistinctRecords = DistinctRecords()
    repeated = [location for location, record in located if not distinct.add(location, record)]
    if repeated:
        pairs, once = ("pairs occur", "count") if len(repeated) > 1 else ("pair occurs", "counts")
        warnings.warn(
            f"{source}: {len(repeated)} {pairs} more than once and {once} once; the first is {repeated[0]}",
            stacklevel=4,
        )
    return distinct.records()
