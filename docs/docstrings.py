"""Makes docstrings read well as Markdown: doctests become code blocks, and ``:func:`` roles plain names.

Without this a block of ``>>>`` lines would be shown as a quotation.
"""

import re

import griffe

_DOCTEST = re.compile(r"(?:^[ \t]*>>>.*\n?)(?:^[ \t]*\S.*\n?)*", re.MULTILINE)
_ROLE = re.compile(r":(?:func|class|meth|mod|data):`~?([^`]+)`")
_DIRECTIVE = re.compile(r"[ \t]*# doctest:.*$", re.MULTILINE)


class ReadableDocstrings(griffe.Extension):
    """Fences doctest blocks, drops the directives that only the test runner reads, and unwraps roles."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(_fence, _ROLE.sub(r"`\1`", obj.docstring.value))


def _fence(match: re.Match[str]) -> str:
    block = _DIRECTIVE.sub("", match.group()).rstrip("\n")
    indent = block[: len(block) - len(block.lstrip())]
    return f"\n{indent}```pycon\n{block}\n{indent}```\n"
