"""Tables of text or Markdown: a name on the left, figures in columns on the right, what they were made with below."""

from collections.abc import Mapping, Sequence
from typing import Any

from rfp.evaluation.bootstrap import Interval


def align(rows: list[list[str]]) -> str:
    """The rows as lines, the first column flush left and the others flush right.

    >>> print(align([["", "AUC"], ["tiny", "7.5"]]))
          AUC
    tiny  7.5
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(rows: list[list[str]]) -> str:
    """The rows as a Markdown table, its first row the header, the figures flush right.

    >>> print(as_markdown([["", "AUC"], ["tiny", "7.5"]]))
    |  | AUC |
    |:---|---:|
    | tiny | 7.5 |
    """
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|:---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def with_notes(rows: list[list[str]], notes: Sequence[str], *, markdown: bool = False) -> str:
    """The table and, under it, a line for each note; in Markdown a sentence for each.

    >>> print(with_notes([["", "AUC"], ["tiny", "7.5"]], ["opencv at 3 px"], markdown=True))
    |  | AUC |
    |:---|---:|
    | tiny | 7.5 |
    <BLANKLINE>
    opencv at 3 px.
    """
    if markdown:
        return "\n".join([as_markdown(rows), "", *(f"{note}." for note in notes)])
    return "\n".join([align(rows), *notes])


def interval_rows(row: list[str], intervals: Sequence[Interval | None], *, markdown: bool = False) -> list[list[str]]:
    """The row with an interval for each of its cells: in Markdown beside the figure, in text in a row below it.

    >>> interval_rows(["tiny", "7.5"], [None, [6.0, 9.0]])
    [['tiny', '7.5'], ['  95%', '6.0–9.0']]
    >>> interval_rows(["tiny", "7.5"], [None, [6.0, 9.0]], markdown=True)
    [['tiny', '7.5 (6.0–9.0)']]
    """
    if not any(intervals):
        return [row]
    texts = ["" if bounds is None else format_interval(bounds) for bounds in intervals]
    if markdown:
        return [[f"{cell} ({text})" if text else cell for cell, text in zip(row, texts, strict=True)]]
    indent = len(row[0]) - len(row[0].lstrip()) + 2
    return [row, [" " * indent + "95%", *texts[1:]]]


def format_interval(interval: Interval | None) -> str:
    """Low–high, a dash alone where there is none."""
    return "–" if interval is None else f"{interval[0]:.1f}–{interval[1]:.1f}"


def describe_features(settings: Mapping[str, Any]) -> str:
    """What the key points and matches under every table's figures were made with."""
    size = f"{settings['image_size']} px" if settings["image_size"] else "stored sizes"
    return (
        f"images of {size}, {settings['num_keypoints']} key points, NMS radius {settings['nms_radius']}, "
        f"{settings['matching']}"
    )
