"""Figures and tables to files: checked before the work, written whole or not at all. Lines beside a bar."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rfp.evaluation.report import EvaluationReport
from rfp.export.complete_files import complete_files
from rfp.records import InputError
from rfp.training.checkpoint import write_json


def check_can_write(path: Path | None) -> None:
    """Find out before an hour's work, and not after it, that its result has no place.

    Raises:
        InputError: a folder stands there, or the folder around it does not exist.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a file to write, got a folder")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent} to write to; make it first")


def validations_above(bar: tqdm) -> Callable[[int, EvaluationReport], None]:
    """What writes a line above a progress bar for each validation of a run."""

    def write(step: int, report: EvaluationReport) -> None:
        auc = "/".join(f"{value:.1f}" for value in report.auc.values())
        bar.write(f"step {step:5d}: validation AUC@5/10/20 {auc}")

    return write


def write_figures(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures as JSON to a temporary name and rename it; nothing where ``path`` is None.

    Raises:
        InputError: the place cannot be written to.
    """
    if path is None:
        return
    try:
        write_json(path, figures)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def write_table(path: Path | None, table: str) -> None:
    """Write a table in Markdown to a temporary name and rename it; nothing where ``path`` is None.

    Raises:
        InputError: the place cannot be written to.
    """
    if path is None:
        return
    with complete_files([path]) as (incomplete,):
        incomplete.write_text(table + "\n", encoding="utf-8")
