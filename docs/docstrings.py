"""Shows the doctests of docstrings as code: a block of ``>>>`` lines is fenced before Markdown reads it as a quotation."""

import re

import griffe

_DOCTEST = re.compile(r"(?:^[ \t]*>>>.*\n?)(?:^[ \t]*\S.*\n?)*", re.MULTILINE)
_DIRECTIVE = re.compile(r"[ \t]*# doctest:.*$", re.MULTILINE)


class FencedDoctests(griffe.Extension):
    """Fences doctest blocks, and drops the directives that only the test runner reads."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(_fence, obj.docstring.value)


def _fence(match: re.Match[str]) -> str:
    block = _DIRECTIVE.sub("", match.group()).rstrip("\n")
    indent = block[: len(block) - len(block.lstrip())]
    return f"\n{indent}```pycon\n{block}\n{indent}```\n"
