"""``rfp diagnose``: whether a network can learn from some pairs, before a training run is spent on it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn
from tqdm import tqdm

from rfp.cli.device import choose_device
from rfp.cli.output import check_can_write, write_figures
from rfp.cli.training_command import MAIN_JOB, check_what_teaches, usual_options
from rfp.cli.training_sets import VALIDATION_SEED
from rfp.cli.verdict import verdict
from rfp.data.sets import open_posed_pairs
from rfp.data.synthetic import RenderedPairs, SceneOptions
from rfp.models import load_network
from rfp.plotting import save_figure
from rfp.plotting.diagnosis import DrawnNoise, DrawnPair, DrawnPolicy, draw_diagnosis
from rfp.records import InputError, PosedPair
from rfp.reinforce.diagnostics import HISTOGRAM_PREFIX
from rfp.reinforce.gradient_noise import NoiseToSignal
from rfp.rollout import default_estimator, rollout
from rfp.training.diagnosis import FEWEST, Diagnosis, diagnose
from rfp.training.drift import Drift
from rfp.training.idle_options import follows_draws
from rfp.training.options import TrainerOptions
from rfp.training.rollout_metrics import deployed_keypoints


@dataclass(frozen=True)
class Diagnose:
    """Draw many times from a network on a few pairs, and say how much of its gradient is signal and how much noise.

    Nothing is trained. The options of rfp train that decide what is drawn and rewarded have the same names here.

    In use:
      before a run:        rfp diagnose --network tiny --data data/castle --output diagnosis.png
      what noise does:     rfp diagnose --rollout.num-match-draws 6 --baseline mean
      that of the recipe:  rfp diagnose --each-key-point
      a run so far:        rfp diagnose --network runs/castle/last.safetensors --start tiny
    """

    network: str = "tiny"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    start: str | None = None
    """Another network of the same kind: how far --network has moved from it is said, too."""
    data: tuple[Path, ...] = ()
    """Folders of posed pairs, or files of known sets; without any, scenes are rendered."""
    images: Path | None = None
    """Where the images are, for the lists of SuperGlue and MegaDepth among --data."""
    image_size: int = 320
    """Longer side of the images of folders in pixels; intrinsics are scaled in step."""
    scenes: SceneOptions = field(default_factory=SceneOptions)
    """What is rendered where there is no --data."""
    pairs: int = 8
    """Pairs, evenly spaced in the data."""
    draws: int = 64
    """Rollouts of each pair, each as large as one of training."""
    paper: bool = False
    """As of rfp train: the policy and objective of the paper as defaults."""
    each_key_point: bool = False
    """As of rfp train: the recipe of TrainerOptions.each_key_point as defaults."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    output: Path | None = None
    """Draw the diagnosis to this file: .png, .jpg, .pdf or .svg."""
    json: Path | None = None
    """Write the figures to this file."""
    trainer: Annotated[TrainerOptions, tyro.conf.arg(name="")] = MAIN_JOB


def run(command: Diagnose) -> None:
    """Diagnose, print, draw, write."""
    check_can_write(command.json)
    check_can_write(command.output)
    if min(command.pairs, command.draws) < FEWEST:
        raise InputError(
            f"expected --pairs and --draws of at least {FEWEST}, got {command.pairs} and {command.draws}; "
            "8 and 64 are usual"
        )
    options = command.trainer
    recipes = {"paper": command.paper, "each_key_point": command.each_key_point}
    check_what_teaches(options, usual_options(**recipes, with_depth=not command.data), command.data)
    device = choose_device(command.device)
    network = load_network(command.network).to(device)
    start = None if command.start is None else load_network(command.start).to(device)
    pairs = _pairs(command, device)
    generator = torch.Generator(device=device).manual_seed(options.seed)
    with tqdm(total=len(pairs) * command.draws, unit="rollout", disable=None, leave=False) as bar:
        found = diagnose(network, pairs, options, draws=command.draws, generator=generator, on_rollout=bar.update)
    drift = {} if start is None else Drift(start, pairs, options.rollout.keypoints)(network)  # type: ignore[arg-type]
    sentences = verdict(found, options.pairs_per_step, by_draws=any(follows_draws(options)))
    _print(command, found, drift, sentences)
    write_figures(command.json, _figures(command, found, drift, sentences, [pair.name for pair in pairs]))
    if command.output is not None:
        title = f"{command.network}: {sentences[0]}"
        save_figure(_picture(network, pairs, found, options, title), command.output)
        print(f"picture: {command.output}")


def _pairs(command: Diagnose, device: torch.device) -> list[PosedPair]:
    """The fixed pairs, on the device."""
    if not command.data:
        rendered = RenderedPairs(command.scenes).fixed_set(command.pairs, seed=VALIDATION_SEED, device=device)
        return [rendered[k].to(device) for k in range(len(rendered))]
    pairs = open_posed_pairs(command.data, images=command.images, image_size=command.image_size)
    if len(pairs) < command.pairs:
        raise InputError(f"--pairs: expected at most the {len(pairs)} pairs of --data, got {command.pairs}")
    chosen = [len(pairs) * number // command.pairs for number in range(command.pairs)]
    return [pairs[number].to(device) for number in chosen]


def _print(command: Diagnose, found: Diagnosis, drift: dict[str, float], sentences: Sequence[str]) -> None:
    options = command.trainer
    draws = f"{options.rollout.num_keypoint_draws} × {options.rollout.num_match_draws}"
    print(f"{command.network}, {command.pairs} pairs, {command.draws} rollouts of {draws} draws each\n")
    figures = {name: value for name, value in found.mean().items() if not name.startswith(HISTOGRAM_PREFIX)}
    for name, value in {**figures, **drift}.items():
        print(f"{name:26s} {value:10.4g}")
    print(f"\nnoise to signal            a step on these {command.pairs} pairs    a new pair each")
    for signal in found.signals:
        fixed, new = _ratio(signal.fixed_pairs), _ratio(signal.new_pairs)
        print(f"{signal.term:12s} {signal.part:12s} {fixed:>24s} {new:>24s}")
    print()
    for sentence in sentences:
        print(f"- {sentence}")


def _ratio(noise: NoiseToSignal) -> str:
    if noise.resolved:
        return f"{float(noise.ratio):.3g} ± {float(noise.error):.2g}"
    return f"more than {float(noise.at_least):.3g}" if float(noise.noise) > 0 else "no gradient"


def _figures(
    command: Diagnose, found: Diagnosis, drift: dict[str, float], sentences: list[str], names: list[str]
) -> dict[str, Any]:
    def finite(value: torch.Tensor) -> float | None:
        return float(value) if math.isfinite(float(value)) else None

    def as_json(noise: NoiseToSignal) -> dict[str, float | None]:
        return {**{name: finite(value) for name, value in vars(noise).items()}, "at_least": finite(noise.at_least)}

    return {
        "network": command.network,
        "data": [str(path) for path in command.data],
        "pairs": names,
        "draws": command.draws,
        "metrics": {**found.mean(), **drift},
        "metrics of each pair": found.metrics,
        "gradient": [
            {
                "term": signal.term,
                "part": signal.part,
                "fixed pairs": as_json(signal.fixed_pairs),
                "new pairs": as_json(signal.new_pairs),
            }
            for signal in found.signals
        ],
        "verdict": sentences,
        "trainer": asdict(command.trainer),
    }


def _picture(network: nn.Module, pairs: Sequence[PosedPair], found: Diagnosis, options: TrainerOptions, title: str):
    """The page, with the policy on the pair whose rewards differ most."""
    shown = int(found.reward.flatten(1).std(dim=1).argmax())
    drawn_pairs = [
        DrawnPair(
            pair.name or f"pair {number}",
            found.reward[number].flatten(),
            found.metrics[number]["entropy_share_keypoints"],
            found.metrics[number]["entropy_share_matches"],
        )
        for number, pair in enumerate(pairs)
    ]
    noises = [
        DrawnNoise(f"{each.term}, {each.part}", float(noise.ratio), float(noise.error))
        if (noise := each.fixed_pairs).resolved
        else DrawnNoise(f"{each.term}, {each.part}", float(noise.at_least), None)
        for each in found.signals
        if float(each.fixed_pairs.noise) > 0
    ]
    return draw_diagnosis(_policies(network, pairs[shown], options), drawn_pairs, noises, title=title)


@torch.no_grad()
def _policies(network: nn.Module, pair: PosedPair, options: TrainerOptions) -> list[DrawnPolicy]:
    """What is drawn and what is deployed in both images of a pair."""
    generator = torch.Generator(device=pair.image1.device).manual_seed(options.seed)
    rolled = rollout(
        network,  # type: ignore[arg-type]
        [pair],
        options=options.rollout,
        generator=generator,
        estimator=default_estimator(options.rollout),
    )
    deployed_xy_px, deployed = deployed_keypoints(rolled, options.rollout.keypoints)
    policies = []
    for k, (image, drawn) in enumerate(zip((pair.image1, pair.image2), (rolled.keypoints1, rolled.keypoints2))):
        height, width = image.shape[-2:]
        log_heat = rolled.features.log_heat[k, :height, :width]
        policies.append(
            DrawnPolicy(
                image.cpu(),
                log_heat.flatten().log_softmax(dim=0).view(height, width).cpu(),
                drawn.xy_px[0, 0][drawn.valid[0, 0]].cpu(),
                deployed_xy_px[k][deployed[k]].cpu(),
            )
        )
    return policies
