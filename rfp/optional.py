"""Packages that only some commands need: imported where they are used, with a message where they are missing."""

import importlib
from typing import Any

from rfp.records import InputError


def require(module: str, *, extra: str) -> Any:
    """The imported module.

    Raises:
        InputError: it is not installed; the message names the extra of rfp that brings it.

    Example:
        >>> require("json", extra="colmap").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f'this needs the package {module} ({error}); run: pip install "rfp[{extra}]"') from error
