"""Everything that training runs have logged, on one page: a panel for each kind of figure, the runs over each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rfp.plotting.errors import RUN_COLOURS
from rfp.plotting.smoothing import running_mean
from rfp.reinforce.diagnostics import (
    HISTOGRAM_HIGH,
    HISTOGRAM_LOW,
    HISTOGRAM_PREFIX,
    HISTOGRAM_WIDTH,
    NUM_BINS,
)

STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), "-.")
"""Of the series of a panel: they must be told apart where the colours are the runs'."""
COLUMNS = 3
PANEL_INCHES = (3.15, 2.05)
HEADING_INCHES = 0.35
LONGEST_HISTOGRAM = 60
"""Columns: steps between them are averaged."""


@dataclass(frozen=True)
class LoggedRun:
    """What a run has logged so far; older runs may lack some figures."""

    name: str
    metrics: Sequence[Mapping[str, Any]]
    """Rows with "step", one a step."""
    validations: Sequence[Mapping[str, Any]] = ()
    """Rows with "step", one a validation."""


@dataclass(frozen=True)
class Series:
    """One figure of a panel."""

    key: str
    label: str = ""
    factor: float = 1.0


@dataclass(frozen=True)
class Panel:
    """Figures that are compared with each other, on one pair of axes."""

    title: str
    series: tuple[Series, ...]
    scale: Literal["linear", "log"] = "linear"
    limits: tuple[float | None, float | None] = (None, None)
    band: tuple[str, str] | None = None
    """Two figures between which it is shaded, for a single run."""
    validations: bool = field(default=False)
    """Whether the figures are those of validations rather than of steps."""


PANELS = (
    Panel("reward of the draws", (Series("reward"),), band=("reward_p10", "reward_p90")),
    Panel(
        "validation AUC (%)",
        (Series("auc_5", "5°"), Series("auc_10", "10°"), Series("auc_20", "20°")),
        validations=True,
    ),
    Panel(
        "nothing to learn from (%)",
        (Series("failed", "failed draws", 100.0), Series("agreeing", "pairs whose draws agree", 100.0)),
        limits=(0.0, None),
    ),
    Panel(
        "spread of the reward",
        (Series("spread_keypoints", "key points"), Series("spread_matches", "matches")),
        limits=(0.0, None),
    ),
    Panel(
        "entropy (share of log n)",
        (Series("entropy_share_keypoints", "key points"), Series("entropy_share_matches", "matches")),
    ),
    Panel(
        "effective number (exp H)",
        (Series("effective_keypoints", "key points"), Series("effective_matches", "matches")),
        scale="log",
    ),
    Panel(
        "overlap with the deployed (%)",
        (Series("overlap", "drawn key points", 100.0), Series("expected_overlap", "probability", 100.0)),
    ),
    Panel(
        "gradient norm before clipping",
        (
            Series("gradient_norm", "all"),
            Series("gradient_norm_detector", "detector"),
            Series("gradient_norm_descriptor", "descriptor"),
            Series("gradient_norm_shared", "shared"),
        ),
        scale="log",
    ),
    Panel("KL to the start (nats)", (Series("kl_start"),), limits=(0.0, None), validations=True),
    Panel("drift of descriptors (1 - cos)", (Series("drift_start"),), limits=(0.0, None), validations=True),
    Panel("deployed key points kept (%)", (Series("kept_keypoints", "", 100.0),), validations=True),
)


def draw_runs(runs: Sequence[LoggedRun]) -> Figure:
    """A page with a panel for each kind of figure that any of the runs has, and the rewards' histograms over time.

    Of one run, the colours are those of the figures of a panel; of several, each run has a colour, and the figures of a
    panel have a line style each. Pale: as logged; strong: its running mean over a twentieth of the run.
    """
    panels = [panel for panel in PANELS if any(_has(run, panel) for run in runs)]
    with_histogram = [run for run in runs if any(HISTOGRAM_PREFIX + "00" in row for row in run.metrics)]
    number = len(panels) + len(with_histogram)
    rows = max(1, math.ceil(number / COLUMNS))
    width, height = COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1] + HEADING_INCHES
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - HEADING_INCHES / height), w_pad=0.06, h_pad=0.05)  # type: ignore
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    longest = max((row["step"] for run in runs for row in (*run.metrics, *run.validations)), default=1)
    for each, panel in zip(axes, panels):
        _draw_panel(each, panel, runs)
    for each, run in zip(axes[len(panels) :], with_histogram):
        _draw_histogram(each, run, title=f"rewards, {run.name}" if len(runs) > 1 else "rewards over time")
    for k, each in enumerate(axes):
        each.set_visible(k < number)
        each.set_xlim(0, max(1, longest))
        each.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if k + COLUMNS >= number:
            each.set_xlabel("step", fontsize=8)
    _add_heading(figure, runs)
    return figure


def _has(run: LoggedRun, panel: Panel) -> bool:
    rows = run.validations if panel.validations else run.metrics
    return any(series.key in row for series in panel.series for row in rows)


def _draw_panel(axes: Axes, panel: Panel, runs: Sequence[LoggedRun]) -> None:
    labels: dict[str, tuple[str, Any]] = {}
    for number, run in enumerate(runs):
        rows = run.validations if panel.validations else run.metrics
        if panel.band is not None and len(runs) == 1:
            _draw_band(axes, rows, panel.band)
        for k, series in enumerate(panel.series):
            steps, values = column(rows, series.key)
            if len(steps) == 0:
                continue
            colour = RUN_COLOURS[(number if len(runs) > 1 else k) % len(RUN_COLOURS)]
            style = STYLES[k % len(STYLES)] if len(runs) > 1 else "-"
            on_top = 2.5 - 0.1 * k  # the first ones, which the others may nearly equal
            _draw_series(axes, steps, series.factor * values, colour, style, on_top, few=panel.validations)
            labels[series.label] = (colour if len(runs) == 1 else "#4b5563", style)
    axes.set_title(panel.title, fontsize=9, loc="left")
    if panel.scale == "log":
        axes.set_yscale("log")
    axes.set_ylim(*panel.limits)
    if len(labels) > 1:
        handles = [Line2D([], [], color=colour, linestyle=style, linewidth=1.5) for colour, style in labels.values()]
        axes.legend(
            handles,
            list(labels),
            fontsize=7,
            frameon=False,
            loc="best",
            ncols=1 if len(labels) < 4 else 2,
            handlelength=2.2,
            columnspacing=1.0,
            borderpad=0.1,
        )
    _plain(axes)
    axes.grid(alpha=0.25, linewidth=0.5)


def column(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of the rows that have this figure."""
    found = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    table = np.array(found, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _draw_series(
    axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str, style: Any, zorder: float, *, few: bool
) -> None:
    if few:
        axes.plot(
            steps, values, color=colour, linestyle=style, linewidth=1.3, marker="o", markersize=2.5, zorder=zorder
        )
        return
    axes.plot(steps, values, color=colour, linewidth=0.5, alpha=0.25)
    axes.plot(steps, running_mean(values), color=colour, linestyle=style, linewidth=1.4, zorder=zorder)


def _draw_band(axes: Axes, rows: Sequence[Mapping[str, Any]], band: tuple[str, str]) -> None:
    (steps, low), (_, high) = (column(rows, key) for key in band)
    if len(steps):
        label = "80 % of the draws"
        axes.fill_between(
            steps, running_mean(low), running_mean(high), color=RUN_COLOURS[0], alpha=0.13, linewidth=0, label=label
        )
        axes.legend(fontsize=7, frameon=False, loc="best", borderpad=0.1)


def _draw_histogram(axes: Axes, run: LoggedRun, *, title: str) -> None:
    """The share of draws in each bin of the reward, from left to right the course of the run."""
    steps, shares = histogram_over_time(run.metrics)
    bottom = HISTOGRAM_LOW - HISTOGRAM_WIDTH + HISTOGRAM_WIDTH * np.arange(NUM_BINS + 1)
    shown = axes.pcolormesh(steps, bottom, shares.T, cmap="Blues", norm=PowerNorm(0.5, 0.0, 1.0), rasterized=True)
    filled = np.flatnonzero(np.nan_to_num(shares).max(axis=0))
    if len(filled):  # not where the input of every pair was invalid
        low, high = float(bottom[filled[0]]), float(bottom[filled[-1] + 1])
        axes.set_ylim(low, high)
        axes.set_yticks([tick for tick in np.arange(HISTOGRAM_LOW, HISTOGRAM_HIGH + 0.1, 0.5) if low <= tick <= high])
    # In the title's line: beside the panel it would make its column wider than the others.
    scale = axes.inset_axes((0.66, 1.05, 0.32, 0.045))
    bar = axes.figure.colorbar(shown, cax=scale, ticks=[0, 0.1, 0.5, 1], orientation="horizontal")
    bar.ax.set_xticklabels(["0", "10", "50", "100 %"], fontsize=6)
    bar.ax.tick_params(length=1.5, pad=1, top=True, labeltop=True, bottom=False, labelbottom=False)
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]
    axes.set_title(title, fontsize=9, loc="left", y=1.0)  # beside the scale: by itself it would go above it
    _plain(axes)


def histogram_over_time(metrics: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(edges in steps, shares): the mean share of draws in each bin of the reward, over equal spans of steps."""
    rows = [row for row in metrics if HISTOGRAM_PREFIX + "00" in row]
    steps = np.array([row["step"] for row in rows], dtype=float)
    shares = np.array([[row[f"{HISTOGRAM_PREFIX}{bin:02d}"] for bin in range(NUM_BINS)] for row in rows])
    edges = np.linspace(steps.min() - 1, steps.max(), min(LONGEST_HISTOGRAM, len(steps)) + 1)
    span = np.clip(np.searchsorted(edges, steps, side="left") - 1, 0, len(edges) - 2)
    counts = np.bincount(span, minlength=len(edges) - 1)
    sums = np.stack([np.bincount(span, weights=each, minlength=len(edges) - 1) for each in shares.T], axis=1)
    return edges, np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.nan)


def _add_heading(figure: Figure, runs: Sequence[LoggedRun]) -> None:
    """The run's name, or a legend of several."""
    if len(runs) == 1:
        figure.suptitle(f"{runs[0].name}, {len(runs[0].metrics)} steps", fontsize=10, x=0.01, ha="left", y=0.995)
        return
    handles = [Line2D([], [], color=RUN_COLOURS[k % len(RUN_COLOURS)], linewidth=2) for k in range(len(runs))]
    figure.legend(
        handles, [run.name for run in runs], loc="upper left", ncols=min(len(runs), 5), fontsize=9, frameon=False
    )


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=7, length=2.5)
