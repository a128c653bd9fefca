"""Which part of a trained network learned: the detector of one beside the descriptors of another.

    RFP_DATA=... python benchmarks/exchanged_parts.py --start runs/start --trained "one=runs/one" "two=runs/two"

Key points, and where they lie, are those of the first network's heat map; the second describes them. On the pairs that
train and select (nothing reported is looked at), at 320 px, 512 key points, PoseLib at 1 px, beside the start as it is,
with 95 % intervals clustered by image. About four minutes of one core for each trained network.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from jaxtyping import Float
from machine import machine
from report_sets import data_root, with_interval
from torch import Tensor, nn

import rfp
from rfp.data import PosedPairs
from rfp.evaluation import compare, pair_errors
from rfp.records import DenseFeatures
from rfp.training.checkpoint import write_json

SETS = ("ngp_fox", "sceaux_castle", "lund_door")
START = "the start"


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    start: str
    """A name, run folder or weights file."""
    trained: tuple[str, ...]
    """Networks that came of it, each as LABEL=NAME, run folder or weights file."""
    threads: int = 1
    """Of torch."""
    json: Path | None = None
    """Where to write the figures."""


class Exchanged(nn.Module):
    """The key points of one network, described by another."""

    def __init__(self, detector: Any, descriptor: Any):
        super().__init__()
        self.detector, self.descriptor = detector, descriptor
        self.describe, self.refine = descriptor.describe, detector.refine

    def extract(self, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
        """The descriptor's maps with the detector's heat."""
        return replace(self.descriptor.extract(images), log_heat=self.detector.extract(images).log_heat)


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(options.threads)
    named = dict(text.split("=", 1) for text in options.trained)
    networks = {name: rfp.load_network(source) for name, source in {START: options.start, **named}.items()}
    pairs = PosedPairs([data_root() / name for name in SETS], image_size=320)
    setting = {"estimator": "poselib", "num_keypoints": 512, "max_error_px": 1.0}
    first = rfp.evaluate(networks[START], pairs, **setting)
    rows: list[dict[str, Any]] = [{"detector": START, "descriptors": START, "AUC@5/10/20": first.auc}]
    for detector, descriptor in combinations(list(named)):
        report = rfp.evaluate(Exchanged(networks[detector], networks[descriptor]), pairs, **setting)
        change = compare(pair_errors(first, START), pair_errors(report, "exchanged"))
        more = {
            f"@{threshold} more by": with_interval(value, change.difference_interval[threshold])
            for threshold, value in change.difference.items()
        }
        rows.append({"detector": detector, "descriptors": descriptor, "AUC@5/10/20": report.auc, **more})
        print(rows[-1], flush=True)
        if options.json is not None:
            write_json(options.json, {"parts": rows, "measured with": {**machine(), "sets": SETS}})


def combinations(trained: list[str]) -> list[tuple[str, str]]:
    """(detector, descriptors) of each with itself, with the start, and with each other."""
    names = [START, *trained]
    return [(one, two) for one in names for two in names if (one, two) != (START, START)]


if __name__ == "__main__":
    main(tyro.cli(Options))
