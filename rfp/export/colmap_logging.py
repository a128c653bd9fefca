"""What COLMAP says on stderr while it works."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal


@contextmanager
def quiet_colmap(pycolmap: Any, *, least: Literal["WARNING", "ERROR"] = "ERROR") -> Iterator[None]:
    """COLMAP says every step on stderr; here only what is at least so bad, or as bad as it was told before."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = max(before, getattr(pycolmap.logging.Level, least).value)
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
