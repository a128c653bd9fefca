"""Each pair of images once: what lists tell twice, in either order, and what they tell differently."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

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


def distinct_records(located: Iterable[tuple[str, Record]], source: str | Path) -> list[Record]:
    """The records, each two images once; what is told twice alike, in either order, is left out with a warning.

    A pair that counts twice weighs twice in a figure and narrows its interval.

    Args:
        located: (where in the file, record).
        source: What the warning names.

    Raises:
        InputError: two records tell different truths about the same two images.
    """
    kept: dict[frozenset[Path], tuple[str, Record]] = {}
    files: dict[Path, Path] = {}
    repeated = []
    for location, record in located:
        # by the files themselves, whatever the way to them
        one, two = (files.setdefault(path, path.resolve()) for path in (record.image1, record.image2))
        first = kept.setdefault(frozenset((one, two)), (location, record))
        if first[1] is record:
            continue
        in_order = record if files[first[1].image1] == one else record.reversed()
        if not first[1].same_truth(in_order):
            raise InputError(
                f"{location}: the pair of {first[0]} again ({record.name}), with other numbers; remove the wrong one"
            )
        repeated.append(location)
    if repeated:
        pairs, once = ("pairs occur", "count") if len(repeated) > 1 else ("pair occurs", "counts")
        warnings.warn(
            f"{source}: {len(repeated)} {pairs} more than once and {once} once; the first is {repeated[0]}",
            stacklevel=4,
        )
    return [record for _, record in kept.values()]
