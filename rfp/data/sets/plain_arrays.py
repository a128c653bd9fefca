"""Arrays of ``.npz`` and pickled files, read without running anything that such a file could ask for.

Lists with gaps are stored as arrays of objects, which NumPy reads by ``pickle``, and a pickle may call any function.
Here it may build arrays, numbers, strings, lists, tuples and dicts, and nothing else.
"""

import importlib
import pickle
import zipfile
from collections.abc import Iterable
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np

from rfp.records import InputError

_ARRAY_BUILDERS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""What NumPy's own pickles name; NumPy 2 writes ``numpy._core`` for ``numpy.core``."""


def read_arrays(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Those of the keys that an ``.npz`` file, or a pickled dict under that name, holds.

    Raises:
        InputError: no such file, a truncated one, not of this format, or one that asks for more than data.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an .npz file")
    try:
        if zipfile.is_zipfile(path):
            return _read_members(path, keys)
        with path.open("rb") as file:
            content = _PlainUnpickler(file).load()
    except _NotPlainError as error:
        raise InputError(
            f"{path}: {error}; expected arrays, numbers and strings only: do not trust this file"
        ) from None
    except MemoryError:
        raise InputError(f"{path}: asks for more memory than there is; is it damaged? Fetch it again") from None
    # damaged pickles raise whatever their last opcode happens to raise
    except Exception as error:
        raise InputError(
            f"{path}: expected an .npz file, cannot read it ({_reason(error)}); is it complete? Fetch it again"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an .npz file or a pickled dict, got {type(content).__name__}")
    return {key: content[key] for key in keys if key in content}


class _NotPlainError(Exception):
    """A pickle names something that is not data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name.replace("numpy._core", "numpy.core"), global_name) not in _ARRAY_BUILDERS:
            raise _NotPlainError(f"holds {module_name}.{global_name}, which is no data")
        return getattr(importlib.import_module(module_name.replace("numpy.core", "numpy._core")), global_name)


def _read_members(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        present = [key for key in keys if f"{key}.npy" in archive.namelist()]
        return {key: _read_member(archive, f"{key}.npy") for key in present}


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        array = _read_objects(file)
    if array is None:
        with archive.open(name) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _read_objects(file: IO[bytes] | BufferedIOBase) -> np.ndarray | None:
    """The array of objects that the file holds, or None where its numbers are stored as they are."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        return None
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if not dtype.hasobject:
        return None
    # the pickle carries shape and order of the array itself
    return np.asarray(_PlainUnpickler(file).load(), dtype=object).reshape(shape)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
