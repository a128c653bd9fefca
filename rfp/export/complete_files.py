"""Files that appear under their names only when they are complete."""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rfp.records import InputError

SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")
"""What SQLite leaves beside a database that was not closed."""


def check_may_write(path: Path, *, overwrite: bool) -> None:
    """Find out before the work, and not after it, that its result has no place.

    Raises:
        InputError: something stands there and may not be overwritten, or the folder around it does not exist.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, got a folder")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name or allow overwriting (--overwrite)")
    folder = path.absolute().parent
    while not folder.exists():  # a folder may be made by the export, its parents may not
        folder = folder.parent
    if len(path.absolute().parent.relative_to(folder).parts) > 1 or not folder.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent} to write to; make it first")


@contextmanager
def complete_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Temporary names beside ``paths``, renamed to them in the end, or removed where something was raised."""
    own = uuid.uuid4().hex[:8]  # of two programs that write one file the last wins, and none writes into another's
    temporary = [path.with_name(f"{path.name}.incomplete-{own}") for path in paths]
    try:
        yield temporary
        for path, final in zip(temporary, paths, strict=True):
            os.replace(path, final)
    except OSError as error:
        raise InputError(f"{paths[0]}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        for path in temporary:
            for suffix in ("", *SQLITE_SUFFIXES):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
