"""``rfp plot``: everything that one or more training runs have logged, on one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rfp.cli.output import check_can_write
from rfp.plotting import draw_runs, save_figure
from rfp.records import InputError
from rfp.training.logged_run import read_run

PAGE_NAME = "training.png"


@dataclass(frozen=True)
class Plot:
    """Draw what training runs have logged: rewards, validations, entropies, overlap, gradients, drift.

    One page for all of it; several runs lie over each other, a colour each. Works while a run goes on. The
    documentation's page on diagnostics says what each panel means.

    In use:
      how it is going:     rfp plot runs/castle
      which was better:    rfp plot runs/castle runs/castle-slower --output both.pdf
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN …")]
    """Run folders of rfp train."""
    output: Path | None = None
    """The picture: .png, .jpg, .pdf or .svg. By default training.png in the run's folder, of several runs here."""


def run(command: Plot) -> None:
    """Read, draw, say where."""
    if not command.runs:
        raise InputError("expected at least one run folder, got none; give the folder that rfp train wrote")
    output = command.output or (command.runs[0] / PAGE_NAME if len(command.runs) == 1 else Path(PAGE_NAME))
    check_can_write(command.output)
    names = [folder.resolve().name for folder in command.runs]
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in command.runs]
    runs = [read_run(folder, name=label) for folder, label in zip(command.runs, labels, strict=True)]
    save_figure(draw_runs(runs), output)
    print(f"picture: {output}")
