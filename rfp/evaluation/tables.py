"""Tables of text: a name on the left, figures in columns on the right."""


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
