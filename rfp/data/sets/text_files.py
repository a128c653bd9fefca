"""Lists and numbers in text files: lines with their numbers, and every fault named by file and line."""

import math
from collections.abc import Sequence
from pathlib import Path

from rfp.records import InputError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        InputError: no such file, no permission, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected UTF-8 text, got other bytes; write the file again") from None


def read_lines(path: Path) -> list[tuple[str, list[str]]]:
    """(``"FILE, line N"``, the line's words) of every line that is neither blank nor a ``#`` comment.

    Raises:
        InputError: as :func:`read_text`, or no such line.
    """
    lines = [
        (f"{path}, line {number}", line.split())
        for number, line in enumerate(read_text(path).splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise InputError(f"{path}: expected at least one line, got none; is the file complete?")
    return lines


def read_names(path: Path) -> list[tuple[str, str]]:
    """(``"FILE, line N"``, the line) of every line that is not blank: a list of names, which may hold spaces.

    Raises:
        InputError: as :func:`read_lines`.
    """
    names = [
        (f"{path}, line {number}", line.strip())
        for number, line in enumerate(read_text(path).splitlines(), start=1)
        if line.strip()
    ]
    if not names:
        raise InputError(f"{path}: expected at least one line, got none; is the file complete?")
    return names


def parse_numbers(words: Sequence[str], location: str, *, first_column: int = 1) -> list[float]:
    """Finite floats.

    Raises:
        InputError: the first word that is none, by its column (counting from 1).
    """
    numbers = []
    for column, word in enumerate(words, start=first_column):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{location}, column {column}: expected a finite number, got {word[:40]!r}; correct it")
        numbers.append(number)
    return numbers
