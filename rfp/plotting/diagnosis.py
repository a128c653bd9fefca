"""A network's diagnosis on one page: where its key points are drawn, what draws earn, how noisy its gradient is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from rfp.plotting.errors import RUN_COLOURS
from rfp.plotting.side_by_side import grey_pixels

DRAWN, DEPLOYED = "#39d0ff", "#ffd166"
BINS = 24
LONGEST_NAME = 28
FLOOR = -14.0
"""Of the map of log P: what is rarer is as dark."""


@dataclass(frozen=True)
class DrawnPolicy:
    """An image, the logarithm of the key-point policy's probability, one draw of it, and what deployment takes."""

    image: Float[Tensor, "3 h w"]
    log_p: Float[Tensor, "h w"]
    """Of each pixel, over the whole image."""
    drawn_xy_px: Float[Tensor, "K 2"]
    deployed_xy_px: Float[Tensor, "K 2"]


@dataclass(frozen=True)
class DrawnPair:
    """What the draws of one pair were like."""

    name: str
    reward: Float[Tensor, "N"]
    entropy_keypoints: float
    """As a share of the largest there can be; so the other one."""
    entropy_matches: float


@dataclass(frozen=True)
class DrawnNoise:
    """Noise to signal of one part of the gradient."""

    label: str
    ratio: float
    error: float | None
    """None where no signal was found: the ratio is the least that it can be."""


def draw_diagnosis(
    policies: Sequence[DrawnPolicy], pairs: Sequence[DrawnPair], noises: Sequence[DrawnNoise], *, title: str = ""
) -> Figure:
    """Above, for each image, its key points and the map they are drawn from; below, rewards, entropies and noise."""
    shape = max(policy.image.shape[-2] / policy.image.shape[-1] for policy in policies)
    above = 10.0 / 4 * shape + 0.35
    below = max(2.1, 0.27 * max(len(pairs), len(noises)) + 0.75)
    figure = Figure(figsize=(10.0, above + below + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04, rect=(0, 0, 1, 1 - 0.3 / (above + below + 0.3)))  # type: ignore
    top, bottom = figure.subfigures(2, 1, height_ratios=(above, below))  # type: ignore[misc]
    for number, (left, right) in enumerate(top.subplots(1, 2 * len(policies), squeeze=False)[0].reshape(-1, 2)):
        _draw_policy(left, right, policies[number], number + 1)
    rewards, entropies, noise = bottom.subplots(1, 3, width_ratios=(1.25, 0.8, 1.0))
    _draw_rewards(rewards, pairs)
    _draw_entropies(entropies, pairs)
    _draw_noise(noise, noises)
    figure.suptitle(title, fontsize=10, x=0.005, y=0.995, ha="left")
    return figure


def _draw_policy(left: Axes, right: Axes, policy: DrawnPolicy, number: int) -> None:
    height, width = policy.image.shape[-2:]
    extent = (0.0, float(width), float(height), 0.0)
    left.imshow(grey_pixels(policy.image).numpy(), extent=extent, cmap="gray", vmin=0, vmax=1)
    log_p = policy.log_p.detach().cpu().clamp_min(FLOOR)
    right.imshow(log_p.numpy(), extent=extent, cmap="inferno", vmin=FLOOR, interpolation="antialiased")
    deployed, drawn = (xy.detach().cpu() + 0.5 for xy in (policy.deployed_xy_px, policy.drawn_xy_px))
    left.scatter(*deployed.T, s=11, facecolors="none", edgecolors="#b45309", linewidths=0.8, label="deployed")
    left.scatter(*drawn.T, s=4, c="#0369a1", linewidths=0, label="drawn")
    right.scatter(*deployed.T, s=11, facecolors="none", edgecolors=DEPLOYED, linewidths=0.4, alpha=0.7)
    left.set_title(f"image {number}: deployed (rings), drawn (dots)", fontsize=8)
    right.set_title(f"log P, from {FLOOR:g} to {float(log_p.max()):.1f}", fontsize=8)
    for axes in (left, right):
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()


def _draw_rewards(axes: Axes, pairs: Sequence[DrawnPair]) -> None:
    """A row of shades for each pair: the share of its draws in each bin of the reward; a tick at the mean."""
    rewards = [pair.reward.detach().cpu().double() for pair in pairs]
    low, high = (float(end) for end in torch.aminmax(torch.cat(rewards)))
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    shares = np.stack([np.histogram(reward.numpy(), edges)[0] / len(reward) for reward in rewards])
    rows = np.arange(len(pairs) + 1) - 0.5
    shown = axes.pcolormesh(edges, rows, shares, cmap="Blues", norm=PowerNorm(0.5, 0.0, 1.0), rasterized=True)
    axes.plot([float(reward.mean()) for reward in rewards], range(len(pairs)), "|", color="#d1495b", markersize=9)
    axes.set_yticks(range(len(pairs)), [_short(pair.name) for pair in pairs], fontsize=7)
    axes.invert_yaxis()
    axes.set_title("rewards of the draws of each pair, mean red", fontsize=9, loc="left")
    bar = axes.figure.colorbar(shown, ax=axes, ticks=[0, 0.1, 0.5, 1], pad=0.02, aspect=16)
    bar.ax.set_yticklabels(["0", "10 %", "50 %", "100 %"], fontsize=7)
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]
    _plain(axes)


def _short(name: str) -> str:
    """The end of a path, without what rendered pairs say about their options."""
    name = name.split(" (")[0]
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def _draw_entropies(axes: Axes, pairs: Sequence[DrawnPair]) -> None:
    for k, (label, values) in enumerate(
        (
            ("key points", [pair.entropy_keypoints for pair in pairs]),
            ("matches", [pair.entropy_matches for pair in pairs]),
        )
    ):
        axes.plot(values, range(len(pairs)), "os"[k], color=RUN_COLOURS[k], markersize=4.5, label=label)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_yticks(range(len(pairs)), [""] * len(pairs))
    axes.set_title("entropy (share of log n)", fontsize=9, loc="left")
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(fontsize=7, frameon=False, loc="best")
    _plain(axes)


def _draw_noise(axes: Axes, noises: Sequence[DrawnNoise]) -> None:
    """A point with its error for each part; from the least that it can be to the right where no signal was found."""
    for row, noise in enumerate(noises):
        if noise.error is None:
            axes.plot(noise.ratio, row, ">", color="#d1495b", markersize=5, markerfacecolor="none")
        else:
            bars = [[min(noise.error, 0.9 * noise.ratio)], [noise.error]]
            place = {"fmt": "o", "color": RUN_COLOURS[0], "markersize": 4, "linewidth": 1, "capsize": 2}
            axes.errorbar(noise.ratio, row, xerr=bars, **place)
    axes.set_xscale("log")
    axes.set_ylim(len(noises) - 0.5, -0.5)
    axes.set_yticks(range(len(noises)), [noise.label for noise in noises], fontsize=7)
    axes.set_title("noise to signal (▷ at least)", fontsize=9, loc="left")
    axes.grid(alpha=0.3, linewidth=0.5, axis="x")
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=7, length=2.5)
