"""Which images an export is about, what tools call them, and which of them are to be matched."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.images import read_image
from rfp.data.pair_records import PairRecord, read_distinct_records
from rfp.data.photographs import IMAGE_SUFFIXES
from rfp.records import InputError


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images as hloc and COLMAP see it: a root, and names below it."""

    root: Path
    """What these tools call the image folder."""
    names: tuple[str, ...]
    """Paths below the root, with forward slashes."""
    K: dict[str, Float[Tensor, "3 3"]] = field(default_factory=dict)
    """Intrinsics of the stored images, where they are known."""
    posed_pairs: tuple[tuple[str, str], ...] = ()
    """The pairs of a folder of posed pairs, each once; empty for a plain folder."""

    def path(self, name: str) -> Path:
        return self.root / name


@dataclass(frozen=True)
class PairList:
    """Pairs of images, each once and in one order."""

    pairs: Sequence[tuple[str, str]]
    num_duplicates: int = 0
    """Lines that named two images which an earlier line had named, in either order."""


class ExhaustivePairs(Sequence[tuple[str, str]]):
    """Every two of the images, counted but never listed: ten thousand images have fifty million pairs."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names) * (len(self.names) - 1) // 2

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return itertools.combinations(self.names, 2)

    def __getitem__(self, index):  # only a Sequence has to have it; nobody indexes
        return next(itertools.islice(self, index, None))


def open_image_folder(folder: str | Path) -> ImageFolder:
    """The images of a folder of posed pairs (those of its ``pairs.json``), or all below a plain folder.

    Names of posed pairs begin below ``images/``, where all of them are there.

    Raises:
        InputError: no such folder, no images in it, or two intrinsics for one image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of images, found none; check the path")
    if (folder / "pairs.json").is_file():
        return _posed(folder, read_distinct_records(folder))
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not names:
        raise InputError(f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}), found none; check the path")
    return ImageFolder(folder, tuple(names))


def _posed(folder: Path, records: Sequence[PairRecord]) -> ImageFolder:
    paths = dict.fromkeys(path for record in records for path in (record.image1, record.image2))
    root = folder / "images"
    if not all(path.is_relative_to(root) for path in paths):
        root = folder
    if not all(path.is_relative_to(root) for path in paths):
        raise InputError(f"{folder}: images outside of the folder, which have no name in it; move them into images/")
    intrinsics: dict[str, Tensor] = {}
    for record in records:
        for path, K in ((record.image1, record.K1), (record.image2, record.K2)):
            name = path.relative_to(root).as_posix()
            if name in intrinsics and not torch.allclose(intrinsics[name], K, rtol=1e-6, atol=1e-6):
                raise InputError(f"{folder / 'pairs.json'}: {name} has two different K; an image has one, correct them")
            intrinsics.setdefault(name, K)
    named = ((_name(record.image1, root), _name(record.image2, root)) for record in records)
    return ImageFolder(root, tuple(sorted(intrinsics)), intrinsics, tuple(distinct_pairs(named).pairs))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def distinct_pairs(pairs: Iterator[tuple[str, str]]) -> PairList:
    """The pairs without those that an earlier one repeats, in either order."""
    first: dict[frozenset[str], tuple[str, str]] = {}
    count = 0
    for pair in pairs:
        first.setdefault(frozenset(pair), pair)
        count += 1
    return PairList(tuple(first.values()), count - len(first))


def read_pair_list(path: str | Path, names: Sequence[str]) -> PairList:
    """The pairs of a text file, one a line, two names separated by a space, as hloc's and COLMAP's lists have them.

    Raises:
        InputError: no such file, or a line that is not two different ones of these names.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a text file of pairs, one a line ({error})") from None
    known = set(names)

    def parse() -> Iterator[tuple[str, str]]:
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield _two_names(line.strip(), known, f"{path}, line {number}")

    found = distinct_pairs(parse())
    if not found.pairs:
        raise InputError(f"{path}: holds no pairs; expected at least one line with two names")
    return found


def _two_names(line: str, known: set[str], location: str) -> tuple[str, str]:
    """The two known names that a line is made of; they may have spaces themselves."""
    ways = [(line[: gap.start()], line[gap.end() :]) for gap in re.finditer(r"\s+", line)]
    fitting = [way for way in ways if known.issuperset(way)]
    if len(fitting) == 1 and fitting[0][0] != fitting[0][1]:
        return fitting[0]
    if len(ways) == 1 and not fitting:
        unknown = next(name for name in ways[0] if name not in known)
        raise InputError(f"{location}: there is no image {unknown}; names are paths below the folder of images")
    got = "names that can be parted in several ways" if len(fitting) > 1 else f"{line!r:.80}"
    raise InputError(f"{location}: expected the names of two images, got {got}")


def check_images(folder: ImageFolder) -> None:
    """Decode every image once, so that a broken one is found before a long run and not in the middle.

    Raises:
        InputError: the first image that cannot be read.
    """
    for name in folder.names:
        read_image(folder.path(name))
