"""What bfloat16 and weights that lie channels last save of a training step on a CPU, and what they do to the gradient.

    python benchmarks/low_precision.py --json docs/results/low_precision.json

Processor time of one thread, the median of several steps that take turns, on rendered scenes.
"""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
import tyro
from jaxtyping import Float
from machine import machine
from torch import Tensor

import rfp
from rfp.data import RenderedPairs
from rfp.models.state import in_channels_last
from rfp.records import PosedPair
from rfp.training import Trainer, TrainerOptions
from rfp.training.checkpoint import write_json

WAYS = {
    "float32": (False, False),
    "float32, channels last": (False, True),
    "bfloat16, channels last": (True, True),
}
"""(bfloat16, channels last); training runs are channels last."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    network: str = "tiny"
    """A pretrained network's name."""
    repeats: int = 5
    """Steps of each way."""
    json: Path | None = None
    """Where to write the figures."""


def gradient(
    network_name: str, pairs: list[PosedPair], *, seed: int, bfloat16: bool = False, channels_last: bool = True
) -> tuple[Float[Tensor, "n"], float]:
    """The gradient of one step on these pairs, and its processor time."""
    recipe = TrainerOptions.each_key_point("reprojection_count", augment=False, clip_norm=1e9)
    options = replace(recipe, rollout=replace(recipe.rollout, bfloat16=bfloat16))
    network = rfp.load_pretrained(network_name).eval()
    trainer = Trainer(network, options)
    stays = torch.optim.SGD(trainer.parameters, lr=0.0)
    with in_channels_last(network) if channels_last else nullcontext():
        started = time.process_time()
        trainer.gradient_step([pairs], stays, torch.Generator().manual_seed(seed))
        seconds = time.process_time() - started
    gradients = [parameter.grad for parameter in trainer.parameters if parameter.grad is not None]
    return torch.cat([each.flatten() for each in gradients]), seconds


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    stream = RenderedPairs()
    pairs, others = (stream.draw(4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    found: dict[str, Float[Tensor, "n"]] = {}
    for _ in range(options.repeats + 1):
        for name, (bfloat16, channels_last) in WAYS.items():
            found[name], taken = gradient(
                options.network, pairs, seed=0, bfloat16=bfloat16, channels_last=channels_last
            )
            seconds[name].append(taken)
    exact = found["float32"]
    beside = {
        **{name: value for name, value in found.items() if name != "float32"},
        "float32, another draw": gradient(options.network, pairs, seed=1)[0],
        "float32, other pairs": gradient(options.network, others, seed=0)[0],
    }
    middle = {name: median(values[1:]) for name, values in seconds.items()}  # the first is warming up
    result = {
        "a step of four pairs": {
            name: {"processor seconds": value, "of float32": value / middle["float32"]}
            for name, value in middle.items()
        },
        "cosine with the gradient of float32": {
            name: torch.nn.functional.cosine_similarity(value, exact, dim=0).item() for name, value in beside.items()
        },
        "measured with": {**machine(), "network": options.network, "threads": "1", "steps of each": options.repeats},
    }
    print(result)
    if options.json is not None:
        write_json(options.json, result)


if __name__ == "__main__":
    main(tyro.cli(Options))
