"""Curves of a pretraining run: its losses, the share of right nearest neighbours, the accuracy on validation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rfp.plotting.curves import REWARD, draw_series, draw_validation

LABELS = {
    "matching_loss": "matching loss",
    "heat_loss": "heat loss",
    "distillation_loss": "distillation loss",
    "nearest_is_right": "right neighbours",
}


def draw_pretraining(metrics: Sequence[Mapping[str, Any]], validations: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """The run step by step, one panel for each metric that it has and, where there was any, AUC on validation below.

    Args:
        metrics: rows with "step" and some of the names of ``LABELS``, as in ``metrics.jsonl``.
        validations: rows with "step" and "auc", a dictionary by threshold in degrees.
    """
    names = [name for name in LABELS if metrics and name in metrics[0]]
    panels = len(names) + bool(validations)
    figure = Figure(figsize=(6.4, 0.5 + 1.5 * max(panels, 1)), layout="constrained")
    axes = figure.subplots(max(panels, 1), 1, sharex=True, squeeze=False)[:, 0]
    steps = np.array([row["step"] for row in metrics], dtype=float)
    for each, name in zip(axes, names):
        draw_series(each, steps, np.array([row[name] for row in metrics], dtype=float), REWARD)
        each.set_ylabel(LABELS[name])
    if validations:
        draw_validation(axes[-1], validations)
    axes[-1].set_xlabel("step")
    figure.align_ylabels()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25, linewidth=0.5)
    return figure
