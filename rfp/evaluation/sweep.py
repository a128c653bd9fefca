"""A network at several inlier thresholds: features and matches once, poses at each, and which was best."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from rfp.evaluation.evaluate import evaluate_thresholds
from rfp.evaluation.pose_figures import EvaluationReport
from rfp.evaluation.report import REST, interval_heads, report_cells
from rfp.evaluation.tables import with_notes
from rfp.records import InputError, PosedPair


@dataclass(frozen=True)
class Sweep:
    """One report a threshold, by increasing threshold. Each one's settings name all the thresholds that were tried."""

    reports: dict[float, EvaluationReport]
    """By threshold in pixels."""
    best_px: float
    """The threshold with the highest mean of AUC@5, 10 and 20, chosen on these very pairs."""

    @property
    def best(self) -> EvaluationReport:
        """The report at ``best_px``."""
        return self.reports[self.best_px]


def sweep(network: nn.Module, pairs: Sequence[PosedPair], *, max_errors_px: Sequence[float], **options: Any) -> Sweep:
    """The network's report at each inlier threshold, and the best of them.

    The best figure of several is optimistic: it was chosen on the pairs that it is reported on. Estimators differ in
    the threshold that suits them, so a sweep compares them fairly; to report one number, choose on other pairs.

    Args:
        max_errors_px: At least one, none twice.
        options: Of :func:`rfp.evaluate`.

    Raises:
        InputError: no threshold or one twice, and what :func:`rfp.evaluate` raises.
    """
    if not max_errors_px or len(set(max_errors_px)) < len(max_errors_px):
        raise InputError(f"expected different inlier thresholds, at least one, got {tuple(max_errors_px)}")
    thresholds = sorted(max_errors_px)
    found = evaluate_thresholds(network, pairs, max_errors_px=thresholds, **options)
    if len(thresholds) > 1:
        found = [replace(each, settings={**each.settings, "thresholds_tried_px": thresholds}) for each in found]
    reports = dict(zip(thresholds, found, strict=True))
    best = max(thresholds, key=lambda threshold: statistics.fmean(reports[threshold].auc.values()))
    return Sweep(reports, best)


def format_sweep(sweep: Sweep, *, markdown: bool = False) -> str:
    """One row a threshold, the best marked and said to be chosen on these pairs."""
    first = next(iter(sweep.reports.values()))
    header = ["max error", *interval_heads(first, markdown), *REST]
    rows = [
        [f"{threshold:g} px{' *' if threshold == sweep.best_px else ''}", *report_cells(report, markdown)]
        for threshold, report in sweep.reports.items()
    ]
    note = (
        f"* the best mean of AUC@5/10/20 of the {len(rows)} thresholds, chosen on these pairs and so optimistic: "
        "choose on other pairs to report it"
    )
    return with_notes([header, *rows], [note], markdown=markdown)
