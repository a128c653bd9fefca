"""Pictures of errors: shares of pairs below each, shares of matches within each, two runs pair by pair."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RUN_COLOURS = ("#1d5c94", "#d97706", "#0f9d82", "#8b3fa8", "#6b7280", "#d1495b")
"""They differ in lightness too, and each run has a line style of its own besides."""

LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1, 1)), "-.", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))

NEUTRAL, BETTER, WORSE = "#9aa3ad", "#0f9d82", "#d1495b"

BAND_ALPHA = 0.13

FAILED_DEG, HOPELESS_DEG = 180.0, 20.0

NOTE_WIDTH = 95
"""Characters in a line of the note."""


@dataclass(frozen=True)
class ErrorCurve:
    """The errors of one run, in degrees or pixels, and what stands beside its name."""

    errors: Sequence[float]
    auc: Mapping[str, float]
    """Percent by threshold."""
    band: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    """(errors, low, high): where the share of pairs below each of these errors may lie, in percent."""


@dataclass(frozen=True)
class AccuracyCurve:
    """The mean share of matches within each distance, of one run, in percent by distance in pixels."""

    accuracy: Mapping[str, float]
    interval: Mapping[str, Sequence[float] | None]
    """[low, high] by the same distances; drawn where all are known."""


def draw_error_curves(
    curves: Mapping[str, ErrorCurve], *, largest: float = 20.0, quantity: str = "pose error (degrees)", note: str = ""
) -> Figure:
    """The share of pairs with an error below x, for x up to ``largest``: one line a run, its AUC in the legend.

    Args:
        quantity: What the errors are, with their unit.
        note: What the figures were made with; stands below.
    """
    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    axes = figure.subplots()
    for number, (label, curve) in enumerate(curves.items()):
        line = _line_of(number)
        x, share = recall_steps(curve.errors, largest)
        areas = " / ".join(f"{value:.1f}" for value in curve.auc.values())
        axes.plot(x, share, **line, drawstyle="steps-post", label=f"{label}: {areas}")
        if curve.band is not None:
            axes.fill_between(*curve.band, color=line["color"], alpha=BAND_ALPHA, linewidth=0)
    for threshold in next(iter(curves.values())).auc:
        if float(threshold) < largest:
            axes.axvline(float(threshold), color=NEUTRAL, linewidth=0.6, linestyle=":", zorder=0)
    heads = "/".join(next(iter(curves.values())).auc)
    axes.legend(
        title=f"AUC@{heads} (%)", loc="lower right", fontsize=8, title_fontsize=8, frameon=False, alignment="left"
    )
    axes.set_xticks(np.linspace(0, largest, 5))
    axes.set(xlim=(0, largest), ylim=(0, 100), xlabel=quantity, ylabel="pairs below it (%)")
    _plain(axes)
    _add_note(figure, note)
    return figure


def draw_accuracy_curves(curves: Mapping[str, AccuracyCurve], *, note: str = "") -> Figure:
    """The mean share of matches within 1, 2, … pixels of the truth: one line a run, as in D2-Net's figures."""
    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    axes = figure.subplots()
    for number, (label, curve) in enumerate(curves.items()):
        line = _line_of(number)
        at_px = [float(px) for px in curve.accuracy]
        axes.plot(at_px, list(curve.accuracy.values()), **line, marker="o", markersize=3, label=label)
        bounds = [curve.interval.get(px) for px in curve.accuracy]
        known = [each for each in bounds if each is not None]
        if len(known) == len(bounds):
            low, high = zip(*known)
            axes.fill_between(at_px, low, high, color=line["color"], alpha=BAND_ALPHA, linewidth=0)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.set_xticks([float(px) for px in next(iter(curves.values())).accuracy])
    axes.set(ylim=(0, 100), xlabel="threshold (pixels)", ylabel="matches within it, mean over the pairs (%)")
    _plain(axes)
    _add_note(figure, note)
    return figure


def recall_steps(errors: Sequence[float], largest: float) -> tuple[np.ndarray, np.ndarray]:
    """(x, y): at each error the share of pairs, in percent, with at most that error; from 0 to ``largest``."""
    sorted_errors = np.sort(np.asarray(errors, dtype=float))
    inside = sorted_errors[sorted_errors < largest]
    share = 100 * np.arange(1, len(inside) + 1) / max(1, len(sorted_errors))
    last = share[-1] if len(share) else 0.0
    return np.concatenate([[0.0], inside, [largest]]), np.concatenate([[0.0], share, [last]])


def draw_paired_errors(
    first_deg: Sequence[float],
    second_deg: Sequence[float],
    labels: tuple[str, str],
    *,
    tie_deg: float = 0.1,
    note: str = "",
) -> Figure:
    """Each pair as a point, its error in the first run to the right and in the second upwards: below is better.

    Logarithmic from 0.1 degrees; pairs without a pose lie beyond 180 degrees.

    Args:
        tie_deg: Errors nearer to each other than this, both clipped at 20 degrees, are neither better nor worse.
    """
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    first, second = (np.asarray(errors, dtype=float) for errors in (first_deg, second_deg))
    x, y = (np.where(errors >= FAILED_DEG, 300.0, np.clip(errors, 0.1, 180.0)) for errors in (first, second))
    gained = np.minimum(first, HOPELESS_DEG) - np.minimum(second, HOPELESS_DEG)
    better, worse = gained > tie_deg, gained < -tie_deg
    colours = np.where(better, BETTER, np.where(worse, WORSE, NEUTRAL))
    axes.plot([0.1, 400], [0.1, 400], color=NEUTRAL, linewidth=0.8, zorder=0)
    for edge in (5.0, 20.0):
        axes.axvline(edge, color=NEUTRAL, linewidth=0.5, linestyle=":", zorder=0)
        axes.axhline(edge, color=NEUTRAL, linewidth=0.5, linestyle=":", zorder=0)
    axes.scatter(x, y, s=14, c=colours, alpha=0.75, linewidths=0.3, edgecolors="white")
    ticks = [0.1, 0.5, 1, 2, 5, 10, 20, 45, 90, 300]
    names = ["≤0.1", "0.5", "1", "2", "5", "10", "20", "45", "90", "failed"]
    axes.set(xscale="log", yscale="log", xlim=(0.085, 420), ylim=(0.085, 420), aspect="equal")
    axes.set_xticks(ticks, names, fontsize=7)
    axes.set_yticks(ticks, names, fontsize=7)
    axes.minorticks_off()
    axes.set(xlabel=f"error of {labels[0]} (degrees)", ylabel=f"error of {labels[1]} (degrees)")
    place = {"fontsize": 8, "transform": axes.transAxes}
    axes.text(0.97, 0.03, f"{labels[1]} better: {better.sum()}", color=BETTER, ha="right", **place)
    axes.text(0.03, 0.95, f"worse: {worse.sum()}", color=WORSE, **place)
    _plain(axes)
    _add_note(figure, note)
    return figure


def _line_of(run: int) -> dict[str, Any]:
    """The colour and style of the run of that number, the same in every picture."""
    style = LINE_STYLES[run % len(LINE_STYLES)]
    return {"color": RUN_COLOURS[run % len(RUN_COLOURS)], "linestyle": style, "linewidth": 1.6}


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, length=3)


def _add_note(figure: Figure, note: str) -> None:
    if note:
        figure.supxlabel(textwrap.fill(note, NOTE_WIDTH), fontsize=6, color="#4b5563")
