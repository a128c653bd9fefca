"""Makes docstrings read well as Markdown: doctests become code blocks, and ``:func:`` roles plain names.

Without this a block of ``>>>`` lines would be shown as a quotation.
"""

import re

import griffe

_DOCTEST = re.compile(r"(?:^[ \t]*>>>.*\n?)(?:^[ \t]*\S.*\n?)*", re.MULTILINE)
_ROLE = re.compile(r":(?:func|class|meth|mod|data):`~?([^`]+)`")
_DIRECTIVE = re.compile(r"[ \t]*# doctest:.*$", re.MULTILINE)


class ReadableDocstrings(griffe.Extension):
    """Fences doctests, unwraps roles, and links every function of ``rfp.geometry`` to the page of conventions."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """Rewrite one docstring; called by griffe for each object that it reads."""
        if obj.docstring is None:
            return
        text = _DOCTEST.sub(_fence, _ROLE.sub(r"`\1`", obj.docstring.value))
        if obj.is_function and obj.path.startswith("rfp.geometry."):
            first, _, rest = text.partition("\n")
            text = f"{first} ([Conventions][conventions])\n{rest}"
        obj.docstring.value = text


def _fence(match: re.Match[str]) -> str:
    block = _DIRECTIVE.sub("", match.group()).rstrip("\n")
    indent = block[: len(block) - len(block.lstrip())]
    return f"\n{indent}```pycon\n{block}\n{indent}```\n"
