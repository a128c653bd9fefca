"""The one writer of posed-pairs folders: ``images/`` and ``pairs.json``, there whole or not at all."""

import json
import shutil
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from rfp.data.pair_records import record_location, record_problems
from rfp.records import InputError

ImageFormat = Literal["png", "jpg"]

JPEG_QUALITY = 95


@contextmanager
def new_folder(output: str | Path) -> Iterator[Path]:
    """A folder to fill, which takes the name ``output`` when the block ends without an error and vanishes otherwise.

    It stands beside ``output`` under a hidden name until then, so that a half-written one is never taken for whole.

    Raises:
        InputError: something is there already, or the folder cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     with new_folder(f"{place}/house") as folder:
        ...         _ = (folder / "notes.txt").write_text("whole")
        ...     print(sorted(path.name for path in Path(place).iterdir()))
        ['house']
    """
    output = Path(output)
    target = output.absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{output}: is there already; choose another name, or remove it first")
    partial = target.parent / f".{target.name}.incomplete-{uuid.uuid4().hex[:8]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise InputError(f"{output}: cannot be made ({error.strerror}); choose another place") from None
    try:
        yield partial
        if target.exists():
            target.rmdir()  # empty, as checked; renaming onto it works on POSIX alone
        partial.rename(target)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}: {error.filename}); free some space") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def image_paths(names: Iterable[str], *, image_format: ImageFormat = "png") -> dict[str, str]:
    """Where each source image goes, relative to the folder: ``images/``, its own subfolders, a new suffix.

    Names that would be one file (``a.jpg`` and ``a.png``; ``A.jpg`` where case does not count) keep their old suffix
    before the new one, or get a number.

    Raises:
        InputError: a name that leads out of the folder.

    Example:
        >>> image_paths(["left/1.jpg", "left/1.tif", "Straße.JPG"])
        {'left/1.jpg': 'images/left/1.png', 'left/1.tif': 'images/left/1.tif.png', 'Straße.JPG': 'images/Straße.png'}
    """
    paths: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        source = PurePosixPath(name.replace("\\", "/"))
        if source.is_absolute() or ".." in source.parts or not source.name:
            raise InputError(f"image name {name!r}: expected a path inside the folder of images; rename the image")
        parent = PurePosixPath("images") / source.parent
        stems = [source.stem, source.name, *(f"{source.name}-{number}" for number in range(2, 1000))]
        paths[name] = next(
            path for stem in stems if _same_file_key(path := str(parent / f"{stem}.{image_format}")) not in taken
        )
        taken.add(_same_file_key(paths[name]))
    return paths


def write_image(image: Float[Tensor, "3 h w"], path: Path) -> None:
    """Write RGB in [0, 1] with 8 bits a channel: PNG without loss, or JPEG of quality 95, as the suffix says.

    Raises:
        InputError: the file cannot be written.
    """
    import cv2

    pixels = image.mul(255).round_().byte().permute(1, 2, 0).numpy()[..., ::-1]
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    encoded = cv2.imencode(path.suffix, np.ascontiguousarray(pixels), options)[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())  # cv2.imwrite fails on names beyond ASCII on Windows
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); free some space") from None


def pair_record(
    images: tuple[str, str],
    K: tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]],
    R: Float[np.ndarray, "3 3"],
    t: Float[np.ndarray, "3"],
    *,
    scene: str,
    **figures: Any,
) -> dict[str, Any]:
    """One record of a ``pairs.json``: ``X2 = R X1 + t``, K in pixels of the written images, and further keys.

    Example:
        >>> record = pair_record(("images/a.png", "images/b.png"), (np.eye(3),) * 2, np.eye(3), np.ones(3), scene="s")
        >>> list(record)
        ['image1', 'image2', 'K1', 'K2', 'R', 't', 'scene']
    """
    return {
        "image1": images[0],
        "image2": images[1],
        "K1": K[0].tolist(),
        "K2": K[1].tolist(),
        "R": R.tolist(),
        "t": t.tolist(),
        "scene": scene,
        **figures,
    }


def write_pairs(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write ``folder/pairs.json``; the images of the records are there already.

    Raises:
        InputError: no records, one that no reader would take, or the same two images twice.
    """
    if not records:
        raise InputError(f"{folder}: expected at least one pair to write, got none")
    seen: dict[frozenset[str], int] = {}
    for index, record in enumerate(records):
        for problem in record_problems(record, folder):
            raise InputError(f"{record_location(folder, index)}: {problem}")
        images = frozenset((record["image1"], record["image2"]))
        if images in seen:
            raise InputError(
                f"{record_location(folder, index)}: the same two images as record {seen[images]} "
                f"({record['image1']}, {record['image2']}); give each pair once"
            )
        seen[images] = index
    write_records(folder / "pairs.json", records)


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write a list of records as JSON, a line each: readable, and small beside one number a line."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _same_file_key(path: str) -> str:
    """Equal for names that some file systems (macOS, Windows) take for one."""
    return unicodedata.normalize("NFC", path).casefold()
