"""``rfp pretrain``: make the start that ``rfp train`` goes on from, by low-level matching."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from rfp.cli.device import choose_device
from rfp.cli.output import validations_above, write_figures
from rfp.cli.pretraining_command import FREE, Pretrain, check
from rfp.cli.pretraining_views import labelled_views, open_pairs
from rfp.data.sets import OpenedPairs
from rfp.models import Tiny
from rfp.models.pretrained import load_network, network_names
from rfp.plotting.figures import save_figure
from rfp.plotting.pretraining import draw_pretraining
from rfp.records import InputError
from rfp.training.checkpoint import prepare_run_folder, write_json
from rfp.training.pretraining import Pretrainer, PretrainingSummary, ViewSource
from rfp.training.pretraining_labels import CORNERS


def pretrain(command: Pretrain) -> dict[str, Any]:
    """Run the command and return the figures that ``summary.json`` holds."""
    check(command)
    device = choose_device(command.device)
    network = _network(command).to(device)
    pretrainer = Pretrainer(network, command.options, from_scratch=command.network is None)
    teacher = _teacher(command)
    validation = open_pairs(command.validation, command) if command.validation else None
    folder = command.resume or command.output or _new_run_folder(command)
    folder = prepare_run_folder(folder, resume=command.resume is not None)
    print(f"pretraining {command.network or 'tiny from random weights'}, run folder {folder}")
    views = labelled_views(command, None if teacher is None else teacher.to(device), device)
    summary = _fit(pretrainer, command, views, validation, folder)

    figures = _figures(command, summary, repr(views))
    write_json(folder / "summary.json", figures)
    write_figures(command.json, figures)
    save_figure(draw_pretraining(summary.metrics, summary.validations), folder / "curves.png")
    _print_outcome(summary, folder)
    return figures


def _network(command: Pretrain) -> nn.Module:
    if command.network is not None:
        return load_network(command.network)
    with torch.random.fork_rng(devices=[]):  # the layers draw their first weights from the global generator
        torch.manual_seed(command.options.seed)
        return Tiny(batch_norm=True)


def _teacher(command: Pretrain) -> nn.Module | None:
    """The network that labels, or None for corners.

    Raises:
        InputError: no such network, or its weights are missing; the message says what needs none.
    """
    if command.teacher == CORNERS:
        return None
    try:
        return load_network(command.teacher)
    except InputError as error:
        advice = f"or label corners, which need no weights: --teacher {CORNERS}"
        known = "" if command.teacher in network_names() else "--teacher: "
        raise InputError(f"{known}{error}; {advice}") from error


def _fit(
    pretrainer: Pretrainer, command: Pretrain, views: ViewSource, validation: OpenedPairs | None, folder: Path
) -> PretrainingSummary:
    """Train under a progress bar."""
    record = {name: _plain(value) for name, value in asdict(command).items() if name not in (*FREE, "options")}
    options = command.options
    with tqdm(total=options.steps, unit="step", dynamic_ncols=True) as bar:

        def on_step(row: dict[str, Any]) -> None:
            bar.update(row["step"] - bar.n)
            bar.set_postfix(loss=f"{row['loss']:.3f}", right=f"{row['nearest_is_right']:.1%}")

        return pretrainer.fit(
            views,
            validation=validation,
            output=folder,
            resume=command.resume is not None,
            record={"command": record},
            on_step=on_step,
            on_validation=validations_above(bar),
        )


def _plain(value: Any) -> Any:
    """What JSON holds: paths as strings."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _figures(command: Pretrain, summary: PretrainingSummary, data: str) -> dict[str, Any]:
    return {
        "network": command.network,
        "teacher": command.teacher,
        "data": data,
        "seed": command.options.seed,
        "steps": summary.steps,
        "best_step": summary.best_step,
        "seconds": summary.seconds,
        "validations": summary.validations,
        "last": summary.metrics[-1] if summary.metrics else None,
        "torch": torch.__version__,
    }


def _print_outcome(summary: PretrainingSummary, folder: Path) -> None:
    print(f"\n{summary.steps} steps in {summary.seconds:.0f} s; the weights of step {summary.best_step} are kept")
    if summary.metrics:
        latest = summary.metrics[-100:]
        right = sum(row["nearest_is_right"] for row in latest) / len(latest)
        print(f"{right:.1%} of the points have their right partner as nearest neighbour")
    print(f"go on from here: rfp train --network {folder}")


def _new_run_folder(command: Pretrain) -> Path:
    name = Path(command.network).stem if command.network else "tiny"
    return Path("runs") / f"pretrained-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
