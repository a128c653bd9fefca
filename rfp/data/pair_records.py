"""``pairs.json``: reading it, and everything that can be wrong with a record of it."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.camera_problems import ROTATION_TOLERANCE, intrinsics_problem, rotation_problem
from rfp.data.distinct_records import distinct_records
from rfp.records import InputError

REQUIRED_KEYS = ("image1", "image2", "K1", "K2", "R", "t")


@dataclass(frozen=True)
class PairRecord:
    """One record of a ``pairs.json``, checked: paths made whole, numbers as float64 tensors."""

    image1: Path
    image2: Path
    K1: Float[Tensor, "3 3"]
    """Pixels of the image as stored, pixel (0, 0) being the centre of the top-left pixel."""
    K2: Float[Tensor, "3 3"]
    R: Float[Tensor, "3 3"]
    t: Float[Tensor, "3"]
    scene: str
    name: str
    """What messages call the pair: ``scene: image1 image2``."""

    def reversed(self) -> "PairRecord":
        """The same pair with image 2 first: Rᵀ, -Rᵀ t."""
        return replace(
            self,
            **{"image1": self.image2, "image2": self.image1, "K1": self.K2, "K2": self.K1},
            **{"R": self.R.T, "t": -self.R.T @ self.t},
        )

    def same_truth(self, other: "PairRecord") -> bool:
        """Whether K, R and the direction of t agree within what files round; t may have another length."""
        one, two = self.t / self.t.norm(), other.t / other.t.norm()
        return (
            torch.allclose(self.K1, other.K1, rtol=ROTATION_TOLERANCE)
            and torch.allclose(self.K2, other.K2, rtol=ROTATION_TOLERANCE)
            and torch.allclose(self.R, other.R, rtol=0, atol=ROTATION_TOLERANCE)
            and torch.allclose(one, two, rtol=0, atol=ROTATION_TOLERANCE)
        )


def read_distinct_records(folder: Path) -> list[PairRecord]:
    """The checked records of ``folder/pairs.json``, each two images once (:func:`distinct_records`).

    Raises:
        InputError: the first problem, on one line: the file, the record, expected and got, what to do.
    """
    return distinct_records(located_records(folder), folder / "pairs.json")


def located_records(folder: Path) -> Iterator[tuple[str, PairRecord]]:
    """(where in the file, checked record) of each record of ``folder/pairs.json``, all of them checked first.

    Raises:
        InputError: the first problem, on one line.
    """
    raw_records = read_raw_records(folder)
    for index, raw in enumerate(raw_records):
        for problem in record_problems(raw, folder):
            raise InputError(f"{record_location(folder, index)}: {problem}")
    yield from ((record_location(folder, index), make_record(raw, folder)) for index, raw in enumerate(raw_records))


def record_location(folder: Path, index: int) -> str:
    """How messages name a record: Python's index, so that ``json.load(file)[index]`` is the one meant."""
    return f"{folder / 'pairs.json'}, record {index} (counting from 0)"


def read_raw_records(folder: Path) -> list[Any]:
    """The parsed but unchecked list of ``folder/pairs.json``.

    Raises:
        InputError: no folder, no file, no JSON, not a list, or an empty one.
    """
    path = folder / "pairs.json"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder with images/ and pairs.json")
    try:
        # Integers become floats, so that one with 400 digits is an infinity like any other and not an OverflowError.
        raw_records = json.loads(path.read_text(encoding="utf-8"), parse_int=float)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a folder of posed pairs holds images/ and pairs.json") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error.msg}, line {error.lineno}; write the file again") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; write the file again") from None
    if not isinstance(raw_records, list):
        raise InputError(f"{path}: expected a list of records, got {_kind(raw_records)}; wrap the records in [ ]")
    if not raw_records:
        raise InputError(f"{path}: holds no pairs; expected at least one record")
    return raw_records


def make_record(raw: dict[str, Any], folder: Path) -> PairRecord:
    """The record of a raw one in which :func:`record_problems` finds nothing."""
    numbers = {key: torch.tensor(raw[key], dtype=torch.float64) for key in ("K1", "K2", "R", "t")}
    scene = str(raw.get("scene") or folder.resolve().name)
    name = f"{scene}: {Path(raw['image1']).name} {Path(raw['image2']).name}"
    return PairRecord(folder / raw["image1"], folder / raw["image2"], **numbers, scene=scene, name=name)


def record_problems(raw: Any, folder: Path) -> Iterator[str]:
    """Everything that makes a raw record unusable, one line each; images are looked for, not decoded."""
    if not isinstance(raw, dict):
        yield f"expected an object with the keys {', '.join(REQUIRED_KEYS)}, got {_kind(raw)}"
        return
    missing = [key for key in REQUIRED_KEYS if key not in raw]
    if missing:
        yield f"missing {', '.join(missing)}; add what is missing or remove the record"
    for key in ("image1", "image2"):
        if key in raw:
            yield from _image_problems(key, raw[key], folder)
    if "image1" in raw and raw["image1"] == raw.get("image2"):
        yield f"image1 and image2 are the same file ({raw['image1']}); remove the record"
    for key in ("K1", "K2"):
        if key in raw:
            yield from _intrinsics_problems(key, raw[key])
    if "R" in raw:
        yield from _rotation_problems(raw["R"])
    if "t" in raw:
        yield from _translation_problems(raw["t"])


def _image_problems(key: str, value: Any, folder: Path) -> Iterator[str]:
    if not isinstance(value, str) or not value:
        yield f"{key}: expected a path relative to {folder}, got {value!r:.40}"
    elif not (folder / value).is_file():
        yield f"{key}: no such image: {folder / value}; paths are relative to the folder of pairs.json"


def _intrinsics_problems(key: str, value: Any) -> Iterator[str]:
    problem = _number_problem(value, (3, 3))
    if problem:
        yield f"{key}: {problem}"
        return
    problem = intrinsics_problem(np.array(value, dtype=np.float64), key)
    if problem:
        yield problem


def _rotation_problems(value: Any) -> Iterator[str]:
    problem = _number_problem(value, (3, 3))
    if problem:
        yield f"R: {problem}"
        return
    problem = rotation_problem(np.array(value, dtype=np.float64))
    if problem:
        yield problem


def _translation_problems(value: Any) -> Iterator[str]:
    problem = _number_problem(value, (3,))
    if problem:
        yield f"t: {problem}"
    elif math.hypot(*value) == 0:
        yield "t: zero, so the pair has no direction of translation to compare with; remove the record"


def _number_problem(value: Any, shape: tuple[int, ...]) -> str | None:
    """What keeps ``value`` from being nested lists of finite numbers of this shape."""
    expected = "×".join(map(str, shape)) + " numbers"
    if not _has_shape(value, shape):
        return f"expected {expected}, got {json.dumps(value)[:80]}"
    numbers = value if len(shape) == 1 else [number for row in value for number in row]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        return f"expected {expected}, got {json.dumps(value)[:80]}"
    if not all(math.isfinite(number) for number in numbers):
        return f"expected {expected}, got NaN or infinity among them; remove the record or compute it again"
    return None


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return not isinstance(value, list)
    return isinstance(value, list) and len(value) == shape[0] and all(_has_shape(item, shape[1:]) for item in value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
