"""The commands that README and documentation print, with the page and the line that they stand on."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_ASSIGNMENT = re.compile(r"\w+=\S*")
_EXAMPLE = re.compile(r"(?::  +|Example: |^ *)(?P<line>(?:\w+=\S* )?(?:rfp|python) \S.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    code: str


@dataclass(frozen=True)
class PrintedCommand:
    """One command, as the shell would see its words."""

    page: Path
    line: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {shlex.join(self.words)}"


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        if match["language"] in languages:
            found.append(Block(page, text.count("\n", 0, match.start("code")) + 1, match["language"], match["code"]))
    return found


def commands_of(block: Block) -> Iterator[PrintedCommand]:
    """Continued lines joined; without comments and assignments in front; cut where one command follows another."""
    begun, line = "", block.line
    for number, printed in enumerate(block.code.splitlines(), start=block.line):
        line = line if begun else number
        begun += printed
        if begun.endswith("\\"):
            begun = begun[:-1]
            continue
        yield from _commands(begun, block.page, line)
        begun = ""
    assert not begun, f"{block.page.name}:{line}: the block ends within a command"


def bash_commands(page: Path) -> list[PrintedCommand]:
    return [command for block in blocks(page, "bash") for command in commands_of(block)]


def docstring_commands(file: Path) -> list[PrintedCommand]:
    """The examples that a docstring prints for ``--help``, or at the head of a script; what is optional is taken."""
    found = []
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, (line, following) in enumerate(zip(lines, [*lines[1:], ""]), start=1):
        match = _EXAMPLE.match(line) or _EXAMPLE.search(line)
        if match and "--help" not in line:
            options = f" {following.strip()}" if following.strip().startswith("--") else ""
            found += _commands(re.sub(r"[\[\]]", "", match["line"] + options), file, number)
    return found


def inline_commands(page: Path) -> list[PrintedCommand]:
    """Commands in the text, between single backquotes."""
    text = page.read_text(encoding="utf-8")
    return [
        command
        for match in re.finditer(r"(?<!`)`(?P<line>(?:\w+=\S* )?(?:rfp|python|pip|pytest) [^`]+)`", text)
        for command in _commands(" ".join(match["line"].split()), page, text.count("\n", 0, match.start()) + 1)
    ]


def _commands(line: str, page: Path, number: int) -> Iterator[PrintedCommand]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&;")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, "&&"]:
        if set(word) <= set("&;"):
            if words:
                yield PrintedCommand(page, number, tuple(words))
            words = []
        elif words or not _ASSIGNMENT.fullmatch(word):
            words.append(word)
