"""How much of a training step's gradient is signal: the cosine between the gradients of independent steps.

    python benchmarks/gradient_signal.py [--scenes hard] [--json docs/results/gradient_signal.json]

At fixed weights (tiny's), each step draws new scenes and new draws; the expected cosine between the unit gradients of
two of them is the squared share of the common direction in each. At 0.01 about a hundred steps have to be averaged
before their mean points more along the gradient than beside it. For each reward, the detector's and the descriptor's
term apart. Needs no data; about three minutes on two free cores.
"""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from machine import machine
from torch import Tensor
from tqdm import tqdm

import rfp
from rfp.data import RenderedPairs, SceneOptions
from rfp.training.checkpoint import write_json

RANGES = {"easy": SceneOptions.easy, "medium": SceneOptions.medium, "hard": SceneOptions.hard}
REWARDS: dict[str, rfp.Reward] = {
    "pose error": rfp.PoseErrorReward(),
    "share of thresholds": rfp.ThresholdReward(),
    "epipolar": rfp.EpipolarReward(),
}
TERMS = {"detector's term": (1.0, 0.0), "descriptor's term": (0.0, 1.0)}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    scenes: Literal["easy", "medium", "hard"] = "medium"
    """Range of viewpoints."""
    steps: int = 40
    """Independent steps."""
    pairs_per_step: int = 4
    """Rendered pairs of each."""
    threads: int = 2
    """Of torch."""
    json: Path | None = None
    """Where to write the figures."""


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(options.threads)
    network, stream = rfp.load_pretrained("tiny"), RenderedPairs(RANGES[options.scenes]())
    gradients: dict[tuple[str, str], list[Tensor]] = {(reward, term): [] for reward in REWARDS for term in TERMS}
    for step in tqdm(range(options.steps), unit="step"):
        for key, gradient in step_gradients(network, stream, options.pairs_per_step, seed=step).items():
            gradients[key].append(gradient)
    rows = [{"reward": key[0], "term": key[1], **signal(torch.stack(rows))} for key, rows in gradients.items()]
    for row in rows:
        print(
            ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else str(value) for name, value in row.items())
        )
    if options.json is not None:
        settings = {"scenes": options.scenes, "steps": options.steps, "pairs per step": options.pairs_per_step}
        write_json(options.json, {"gradients": rows, "measured with": {**machine(), **settings}})


def step_gradients(network, stream: RenderedPairs, count: int, seed: int) -> dict[tuple[str, str], Tensor]:
    """The gradient of each term under each reward, for the same draws."""
    generator = torch.Generator().manual_seed(seed)
    pairs = stream.draw(count, generator=generator)
    rolled = rfp.rollout(network, pairs, generator=generator)
    cameras = {
        name: torch.stack([getattr(pair, name) for pair in pairs])[:, None, None] for name in ("K1", "K2", "R", "t")
    }
    truth = rfp.TwoViewGeometry(**cameras, valid=torch.ones(count, 1, 1, dtype=torch.bool))
    gradients = {}
    for reward_name, reward in REWARDS.items():
        value = reward(rolled.result, rolled.correspondences, truth)
        for term, (keypoint_weight, match_weight) in TERMS.items():
            network.zero_grad(set_to_none=True)
            rfp.surrogate_loss(
                value,
                rolled.log_prob_keypoints,
                rolled.log_prob_matches,
                baseline="leave_one_out",
                valid=rolled.valid,
                keypoint_weight=keypoint_weight,
                match_weight=match_weight,
            ).backward(retain_graph=True)
            present = [p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()) for p in network.parameters()]
            gradients[reward_name, term] = torch.cat(present)
    return gradients


def signal(gradients: Tensor) -> dict[str, Any]:
    """Median norm, and the mean cosine between different steps with its standard error (steps left out in turn)."""
    norms = gradients.norm(dim=1)
    unit = gradients / norms.clamp_min(1e-12)[:, None]
    cosines, count = unit @ unit.T, len(unit)
    total = float(cosines.sum() - cosines.trace())
    mean = total / (count * (count - 1))
    without = [
        (total - 2 * float(cosines[k].sum() - cosines[k, k])) / ((count - 1) * (count - 2)) for k in range(count)
    ]
    centre = statistics.fmean(without)
    error = math.sqrt((count - 1) / count * sum((value - centre) ** 2 for value in without))
    return {"median norm": float(norms.median()), "cosine between steps": mean, "standard error": error}


if __name__ == "__main__":
    main(tyro.cli(Options))
