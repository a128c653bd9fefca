"""The detector's gradient by the reward of whole draws, and by what each key point's own matches are worth.

    python benchmarks/keypoint_credit.py [--json docs/results/keypoint_credit.json] [--quick]

Both from the same draws of ``tiny`` on pairs of the folders ngp_fox and sceaux_castle of RFP_DATA (rendered pairs where
it is unset): matches by reciprocal choice, the number of right ones as the reward, their expectation over the matches
exact, so that the key points alone are left to chance. Two draws of key points a gradient, the baseline of the first
being the other of the two. Noise to signal is tr Cov(g) / ‖E g‖² of a pair, and the cosine that between the two
expected gradients, which shows the bias of the second. ‖E g‖² and the product come from independent draws; the tables
are of both, the heat map's own spread and a fixed one. About half an hour on one free core.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from gradient_noise import chosen_pairs
from machine import machine
from torch import Tensor
from tqdm import tqdm

import rfp
from rfp.policy import KeypointOptions, MatchOptions
from rfp.records import PosedPair
from rfp.reinforce.gradient_noise import noise_to_signal
from rfp.rewards import REWARDS
from rfp.robust.options import RansacOptions
from rfp.rollout import ControlOptions, RolloutOptions, rollout
from rfp.training import TrainerOptions
from rfp.training.checkpoint import write_json
from rfp.training.objective import loss_of_rollout

WHOLE, OWN = "reward of the draw", "own matches (biased)"
SPREADS = {"the heat map's own spread": None, "spread 1.5": 1.5}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    network: str = "tiny"
    """A name, run folder or weights file."""
    pairs: int = 8
    """Half of them from each folder."""
    draws: int = 150
    """Independent gradients of each kind on each pair."""
    image_size: int = 240
    """Longer side in pixels."""
    quick: bool = False
    """2 pairs and 4 draws: to see that it runs."""
    json: Path | None = None
    """Where to write the figures."""


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    if options.quick:
        options = replace(options, pairs=2, draws=4)
    pairs, source = chosen_pairs(options.pairs, options.image_size)
    network = rfp.load_network(options.network).eval()
    tables = {}
    for name, spread in SPREADS.items():
        drawn = [gradients(network, pair, number, spread, options) for number, pair in enumerate(tqdm(pairs, name))]
        tables[name] = rows = table(drawn)
        for row in rows:
            print("  " + ", ".join(f"{key} {value}" for key, value in row.items()))
        if options.json is not None:
            settings = {"network": options.network, "pairs": len(pairs), "of": source, "draws": options.draws}
            write_json(options.json, {**tables, "measured with": {**machine(), **settings}})


def gradients(network: Any, pair: PosedPair, number: int, spread: float | None, options: Options) -> dict[str, Tensor]:
    """(draws, parameters) of the detector's term by both kinds of credit."""
    plain = TrainerOptions(
        reward="disk_count",
        control_coefficient=1.0,
        match_weight=0.0,
        baseline="all_others",
        rollout=RolloutOptions(
            keypoints=KeypointOptions(num_keypoints=256, spread=spread),
            matches=MatchOptions(candidates="reciprocal", temperature=0.06),
            num_keypoint_draws=2,
            num_match_draws=1,
            control=ControlOptions("reward"),
            ransac=RansacOptions(num_hypotheses=8, resample_rounds=0),  # nothing depends on the estimate
        ),
    )
    kinds = {WHOLE: plain, OWN: replace(plain, keypoint_credit="own_matches_biased")}
    generator = torch.Generator().manual_seed(number)
    rows: dict[str, list[Tensor]] = {name: [] for name in kinds}
    for _ in range(options.draws):
        rolled = rollout(network, [pair], options=plain.rollout, generator=generator, reward=REWARDS["disk_count"])
        for name, kind in kinds.items():
            parts = torch.autograd.grad(
                loss_of_rollout(rolled, kind), list(network.parameters()), retain_graph=True, allow_unused=True
            )
            rows[name].append(torch.cat([part.flatten() for part in parts if part is not None]))
    return {name: torch.stack(of_kind).double() for name, of_kind in rows.items()}


def table(drawn: list[dict[str, Tensor]]) -> list[dict[str, float | str]]:
    """A row for each kind of credit; signal, noise and products are summed over the pairs."""
    noise, signal = {}, {}
    for name in (WHOLE, OWN):
        found = [noise_to_signal(g[name]) for g in drawn]
        signal[name] = float(torch.stack([of_pair.signal for of_pair in found]).sum())
        noise[name] = float(torch.stack([of_pair.noise for of_pair in found]).sum())
    both = float(torch.stack([product(g[WHOLE], g[OWN]) for g in drawn]).sum())
    resolved = min(signal.values()) > 0
    rows: list[dict[str, float | str]] = []
    for name in (WHOLE, OWN):
        row: dict[str, float | str] = {"credit": name}
        row["noise / signal"] = noise[name] / signal[name] if signal[name] > 0 else "signal not found"
        rows.append(row)
    rows[1]["cosine to the other's expectation"] = (
        both / (signal[WHOLE] * signal[OWN]) ** 0.5 if resolved else "signal not found"
    )
    return rows


def product(one: Tensor, two: Tensor) -> Tensor:
    """E g · E g' from the products of different draws."""
    n = len(one)
    return (one.sum(0) @ two.sum(0) - (one * two).sum()) / (n * (n - 1))


if __name__ == "__main__":
    main(tyro.cli(Options))
