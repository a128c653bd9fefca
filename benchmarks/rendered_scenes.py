"""Rendered scenes: how well SIFT, tiny and aliked-t16 find the poses on each range, and how fast scenes are made.

    python benchmarks/rendered_scenes.py [--pairs 100] [--json docs/results/rendered_scenes.json]

A detector that works on photographs must work here, and the order of the three should be that on real pairs
(benchmarks/tiny_network.py). Rendering is timed beside the small network's forward pass on the same images, the two
alternating. Needs no data.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
import tyro
from machine import machine
from timing import alternating, spread
from tiny_network import Setting, judge, print_figures

import rfp
from rfp.data import RenderedPairs, SceneOptions, rendered_set
from rfp.training.checkpoint import write_json

RANGES = {
    "easy": SceneOptions.easy(),
    "medium": SceneOptions.medium(),
    "hard": SceneOptions.hard(),
    "held out": SceneOptions.held_out(),
}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures."""
    pairs: int = 100
    """Rendered pairs of each range."""
    repetitions: int = 15
    """Timed batches."""
    threads: int = 2
    """Of torch and of OpenCV."""


def times(options: Options) -> dict[str, Any]:
    """Milliseconds an image of 240 × 320 for rendering a batch of 4 pairs and for tiny's forward pass on it."""
    network, stream = rfp.load_pretrained("tiny"), RenderedPairs()
    generator = torch.Generator().manual_seed(0)
    images = torch.cat(
        [image[None] for pair in stream.draw(4, generator=generator) for image in (pair.image1, pair.image2)]
    )
    calls = {
        "rendering": lambda: stream.draw(4, generator=generator),
        "forward pass of tiny": lambda: network.extract(images),
    }
    rows = {}
    for clock, measured in alternating(calls, repetitions=options.repetitions, threads=options.threads).items():
        each = {name: [value / len(images) for value in values] for name, values in measured.items()}
        ratios = [a / b for a, b in zip(*each.values(), strict=True)]
        rows[clock] = {f"{name}, ms an image": spread(values) for name, values in each.items()}
        rows[clock]["rendering : forward pass"] = spread(ratios)
    return rows


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    measured_with = {**machine(), "threads": options.threads, "estimator": "PoseLib, seed 0; mutual nearest neighbours"}
    networks = {name: rfp.load_pretrained(name) for name in ("tiny", "aliked-t16")}
    setting = Setting(320, 512, 1.0)
    sets = {name: rendered_set(scenes, num_pairs=options.pairs, seed=7) for name, scenes in RANGES.items()}
    overlaps = {name: {"median overlap": overlap(scenes)} for name, scenes in RANGES.items()}
    result = {
        f"{setting} on rendered pairs": judge(sets, setting, networks),
        "ranges": overlaps,
        "time of a 240 × 320 image": times(options),
        "measured with": measured_with,
    }
    print_figures(result)
    if options.json is not None:
        write_json(options.json, result)


def overlap(scenes: SceneOptions) -> float:
    """The median share of a view that the other camera sees, over 40 pairs."""
    batch = RenderedPairs(scenes).render(40, generator=torch.Generator().manual_seed(1))
    return statistics.median(batch.overlap.tolist())


if __name__ == "__main__":
    main(tyro.cli(Options))
