"""The images that a model or a list names, found on the disk and read in the size that their camera has."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from rfp.data.images import read_image
from rfp.records import InputError


def find_sources(
    names: Iterable[str], folder: Path, *, allow_missing: bool = False, leave_out: str = "leave them out"
) -> dict[str, Path]:
    """The files of the images by their names, which are relative to ``folder``.

    Names written elsewhere are found too: with the backslashes of Windows, or with accents composed (é) where the disk
    has them apart (e + ´), as macOS does.

    Args:
        leave_out: How a user leaves out what is missing, for the message.

    Raises:
        InputError: no such folder, none of the images in it, or, unless ``allow_missing``, one that is not there.
    """
    names = list(names)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the images that are named relative to it")
    found = {name: path for name in names if (path := _find(name, folder)) is not None}
    missing = [name for name in names if name not in found]
    if not missing or (allow_missing and found):
        return found
    shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    advice = f"copy them there, or {leave_out}" if found else "is it the right folder of images?"
    raise InputError(f"{folder}: {len(missing)} of {len(names)} images are not there ({shown}); {advice}")


def read_source(path: Path, size: tuple[int, int], owner: str) -> Float[Tensor, "3 h w"]:
    """The image as stored, if it has the (width, height) that its intrinsics belong to.

    Raises:
        InputError: it cannot be read, or has another size; ``owner`` is what the intrinsics come from.
    """
    image = read_image(path)
    height, width = image.shape[-2:]
    if (width, height) == size:
        return image
    if (height, width) == size:
        hint = f"the pixels are stored turned (EXIF): turn the file for good (mogrify -auto-orient), as {owner} saw it"
    else:
        hint = f"K is that of another size: give the images that {owner} was made from"
    raise InputError(f"{path}: expected {size[0]}×{size[1]} pixels, the size in {owner}, got {width}×{height}; {hint}")


def _find(name: str, folder: Path) -> Path | None:
    slashes = name.replace("\\", "/")
    spellings = [name, slashes, unicodedata.normalize("NFC", slashes), unicodedata.normalize("NFD", slashes)]
    return next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)
