"""Noise to signal of the gradient's estimators, tr Cov(g) / ‖E g‖², on a frozen network, and what each saves.

    python benchmarks/gradient_noise.py [--json docs/results/gradient_noise.json] [--quick]

All estimators see the same draws of ``tiny`` on 20 pairs of the folders ngp_fox and sceaux_castle of RFP_DATA (rendered
pairs where it is unset): the same policy, the same objective, nine robust estimations each, 200 times a pair. For both
policies, the paper's and the default one, and for the detector's and the descriptor's term apart. ‖E g‖² comes from
products of independent draws. The draws of each pair are kept in --work, so that a run that was stopped goes on.
About an hour on one free core for both policies.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from gradient_estimators import ESTIMATORS, estimates, noise_rows
from machine import machine
from projected_draws import Group, draw_groups
from tqdm import tqdm

import rfp
from rfp.data import PosedPairs, RenderedPairs, SceneOptions
from rfp.rollout import ControlOptions, RolloutOptions
from rfp.training.checkpoint import write_json

POLICIES = {"the paper's policy": RolloutOptions.paper(), "the default policy": RolloutOptions()}
FOLDERS = ("ngp_fox", "sceaux_castle")
WARM_UP = 5
"""Groups that only feed the moving average."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    pairs: int = 20
    """Half of them from each folder."""
    draws: int = 200
    """Independent gradients of each estimator on each pair."""
    directions: int = 32
    """Random directions of the parameters that squared lengths are measured along, of each pair its own."""
    image_size: int = 240
    """Longer side in pixels."""
    policies: tuple[str, ...] = tuple(POLICIES)
    """Which of the two."""
    quick: bool = False
    """4 pairs, 20 draws, 8 directions: to see that it runs."""
    work: Path = Path("runs/gradient_noise")
    """Where the draws of each pair are kept."""
    json: Path | None = None
    """Where to write the figures."""


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    if options.quick:
        options = replace(options, pairs=4, draws=20, directions=8)
    pairs, source = chosen_pairs(options.pairs, options.image_size)
    settings = {"pairs": len(pairs), "of": source, "draws": options.draws, "directions": options.directions}
    settings["image size"] = options.image_size
    tables = {}
    for policy in options.policies:
        groups = [draws_of(pair, number, policy, options, source) for number, pair in enumerate(tqdm(pairs, policy))]
        gradients = {name: estimates(name, groups, warm_up=WARM_UP) for name in ESTIMATORS}
        for term in ("detector", "descriptor"):
            tables[f"{policy}, {term}'s term"] = rows = noise_rows(gradients, term)
            print(f"\n{policy}, {term}'s term")
            for row in rows:
                print("  " + ", ".join(f"{key} {in_words(value)}" for key, value in row.items()))
        if options.json is not None:
            write_json(options.json, {**tables, "measured with": {**machine(), **settings}})


def in_words(value: object) -> str:
    """A figure with its interval on one line."""
    if not isinstance(value, dict):
        return str(value)
    return f"{value['mean']:.3g} ({value['low']:.3g} to {value['high']:.3g})"


def chosen_pairs(number: int, image_size: int) -> tuple[list[rfp.PosedPair], str]:
    """The pairs, evenly spaced over the folders, and what they are of."""
    if not os.environ.get("RFP_DATA"):
        scenes = SceneOptions.medium()
        stream = RenderedPairs(replace(scenes, image_size=(image_size * 3 // 4, image_size)))
        return stream.draw(number, generator=torch.Generator().manual_seed(0)), "rendered"
    chosen = []
    for folder in FOLDERS:
        pairs = PosedPairs(Path(os.environ["RFP_DATA"]) / folder, image_size=image_size)
        count = number // len(FOLDERS)
        chosen += [pairs[(2 * k + 1) * len(pairs) // (2 * count)] for k in range(count)]
    return chosen, " and ".join(FOLDERS)


def draws_of(pair: rfp.PosedPair, number: int, policy: str, options: Options, source: str) -> dict[str, Group]:
    """The draws of one pair, from the work folder where they are there."""
    name = f"{policy} {source} {options.pairs} {options.image_size} {options.draws} {options.directions} {number}"
    path = options.work / f"{name.replace(' ', '_')}.pt"
    if path.is_file():
        return torch.load(path, weights_only=False)
    rollout = replace(POLICIES[policy], control=ControlOptions("epipolar"))
    generator = torch.Generator().manual_seed(number)
    network = rfp.load_pretrained("tiny").eval()
    draws = draw_groups(
        network, pair, rollout, groups=options.draws + WARM_UP, directions=options.directions, generator=generator
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(draws, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    return draws


if __name__ == "__main__":
    main(tyro.cli(Options))
