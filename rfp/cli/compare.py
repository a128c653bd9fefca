"""``rfp compare``: two files of rfp evaluate, pair by pair."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from rfp.cli.evaluation_pictures import check_picture_folder, draw_curves
from rfp.cli.output import check_can_write, write_figures, write_table
from rfp.evaluation import compare, format_comparison, read_pair_errors
from rfp.evaluation.report import describe_settings


@dataclass(frozen=True)
class Compare:
    """Compare two runs on the same pairs: the second minus the first.

    Prints the difference of AUC with its 95 % interval, on how many pairs the second is better and worse, and which
    pairs changed most. Where the runs differ in estimator, threshold, image size or budget, that is said.

    Example: rfp compare before.json after.json --markdown comparison.md
    """

    first: Annotated[Path, tyro.conf.Positional]
    """What rfp evaluate --json wrote: before."""
    second: Annotated[Path, tyro.conf.Positional]
    """What rfp evaluate --json wrote on the same pairs: after."""
    changes: int = 5
    """How many of the pairs that changed most are printed."""
    json: Path | None = None
    """Write the comparison, pair by pair, to this file."""
    markdown: Path | None = None
    """Write the tables as Markdown to this file."""
    pictures: Path | None = None
    """Draw the error curves of both and their errors pair by pair into this folder."""


def run(command: Compare) -> None:
    """Compare, print the tables, write figures and pictures."""
    check_can_write(command.json)
    check_can_write(command.markdown)
    check_picture_folder(command.pictures)
    runs = [read_pair_errors(path) for path in (command.first, command.second)]
    if runs[0].label == runs[1].label:  # one network under two settings
        runs = [replace(run, label=name) for run, name in zip(runs, _file_names(command), strict=True)]
    comparison = compare(*runs)
    settings = describe_settings(runs[0].settings)
    print(f"{format_comparison(comparison, num_changes=command.changes)}\n\n{settings}")
    table = format_comparison(comparison, markdown=True, num_changes=command.changes)
    write_table(command.markdown, f"{table}\n\n{settings}.")
    write_figures(command.json, asdict(comparison))
    if command.pictures is not None:
        draw_curves(runs, command.pictures)
        print(f"pictures: {command.pictures}")


def _file_names(command: Compare) -> tuple[str, str]:
    first, second = command.first.stem, command.second.stem
    return (first, second) if first != second else (str(command.first), str(command.second))
