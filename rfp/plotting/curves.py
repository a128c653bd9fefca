"""Curves of a training run: the reward of the draws, the share of failures, the accuracy on validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rfp.plotting.figures import save_figure

REWARD, FAILED = "#1d5c94", "#d1495b"
VALIDATION = ("#7fb7a4", "#0f9d82", "#0b5c4c")


def reward_curve(
    metrics: Sequence[Mapping[str, Any]], *, path: Path | str, validations: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a picture of a run's metrics: see :func:`draw_training`."""
    save_figure(draw_training(metrics, validations), path)


def draw_training(metrics: Sequence[Mapping[str, Any]], validations: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """The run step by step: reward and failures of the draws and, where there was any, AUC on validation below.

    Args:
        metrics: rows with "step", "reward" and "failed" (a share), as in ``metrics.jsonl``.
        validations: rows with "step" and "auc", a dictionary by threshold in degrees.
    """
    heights = [2.0, 1.1] + ([2.0] if validations else [])
    figure = Figure(figsize=(6.4, 0.5 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    steps = np.array([row["step"] for row in metrics], dtype=float)
    draw_series(axes[0], steps, np.array([row["reward"] for row in metrics], dtype=float), REWARD)
    axes[0].set_ylabel("mean reward")
    draw_series(axes[1], steps, 100 * np.array([row["failed"] for row in metrics], dtype=float), FAILED)
    axes[1].set_ylabel("failed (%)")
    axes[1].set_ylim(bottom=0)
    if validations:
        draw_validation(axes[2], validations)
    axes[-1].set_xlabel("step")
    figure.align_ylabels()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25, linewidth=0.5)
    return figure


def draw_series(axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str) -> None:
    """The values, pale, under their running mean."""
    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
    axes.plot(steps, running_mean(values), color=colour, linewidth=1.6)


def draw_validation(axes: Axes, validations: Sequence[Mapping[str, Any]]) -> None:
    """AUC at each threshold, with the start's as a dotted line."""
    steps = [row["step"] for row in validations]
    beside = axes.get_yaxis_transform()  # x in axes' widths, y in data
    for colour, threshold in zip(VALIDATION, validations[0]["auc"]):
        values = [row["auc"][threshold] for row in validations]
        axes.plot(steps, values, "o-", color=colour, markersize=3, linewidth=1.2)
        axes.axhline(values[0], color=colour, linewidth=0.7, linestyle=":")  # the start, which training has to beat
        axes.text(1.01, values[-1], f"AUC@{threshold}", color=colour, fontsize=8, va="center", transform=beside)
    axes.set_ylabel("validation AUC (%)")
    axes.margins(y=0.15)


def running_mean(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Each value's mean with its neighbours in a window of ``share`` of the run, shorter at the ends; NaN left out."""
    half = max(1, int(len(values) * share / 2))
    finite = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    count = counts[last] - counts[first]
    return np.where(count > 0, (totals[last] - totals[first]) / np.maximum(count, 1), np.nan)
