"""``rfp train``: fine-tune a network on posed pairs, and report what it did to held-out accuracy."""

import copy
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import nn
from tqdm import tqdm

from rfp.cli.device import choose_device
from rfp.cli.output import check_can_write, write_figures
from rfp.data.pairs import PosedPairs
from rfp.evaluation.matching import epipolar_error_px, match_images
from rfp.evaluation.report import EvaluationReport, format_table
from rfp.models.pretrained import load_network
from rfp.models.state import device_of
from rfp.plotting.curves import reward_curve
from rfp.plotting.figures import save_figure
from rfp.plotting.matches import DrawnMatches, draw_matches_of_networks
from rfp.records import InputError, PosedPair
from rfp.rollout import RolloutOptions
from rfp.training.checkpoint import prepare_run_folder, write_json
from rfp.training.options import TrainerOptions, options_from_json
from rfp.training.trainer import Trainer, TrainingSummary, judged

SMALLEST_IMAGE = 32
"""Below this there is no room for key points between the borders."""


@dataclass(frozen=True)
class Train:
    """Fine-tune a network by REINFORCE on the pose error of image pairs.

    Three sets of pairs with three roles: --data teaches, --validation selects the weights that are kept (the start is
    among the candidates), --report is only looked at before and after.
    """

    network: str = "aliked-t16"
    """A pretrained network's name, or a run folder or weights file to go on from."""
    data: tuple[Path, ...] = ()
    """Folders of posed pairs to train on."""
    validation: tuple[Path, ...] = ()
    """Folders whose AUC selects the weights; without any, the last weights are kept."""
    report: tuple[Path, ...] = ()
    """Folders for the table before and after; they select nothing."""
    image_size: int = 320
    """Longer side of the images in pixels; intrinsics are scaled in step."""
    paper: bool = False
    """The policy and baseline of Reinforced Feature Points (CVPR 2020) as defaults: no NMS, with replacement, τ = 1,
    mean; options given beside it hold."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    output: Path | None = None
    """The run folder; a new one under runs/ by default."""
    resume: Path | None = None
    """Go on with the run in this folder: its options hold, --steps may be raised."""
    json: Path | None = None
    """Write the figures of the run to this file, too."""
    trainer: Annotated[TrainerOptions, tyro.conf.arg(name="")] = field(default_factory=TrainerOptions)


def defaults_of_the_paper() -> Train:
    """The command with the paper's policy and baseline, to be overridden by what is said beside ``--paper``."""
    return Train(paper=True, trainer=TrainerOptions(rollout=RolloutOptions.paper(), baseline="mean"))


def defaults_to_resume(folder: Path) -> Train:
    """The command that began the run in ``folder``, to be overridden by what is said now.

    Raises:
        InputError: no run there, or one whose options cannot be read.
    """
    path = folder / "options.json"
    try:
        options = json.loads(path.read_text())
        return Train(
            network=options["start"],
            data=tuple(map(Path, options["data"])),
            validation=tuple(map(Path, options["validation"])),
            report=tuple(map(Path, options["report"])),
            image_size=options["image_size"],
            output=folder,
            resume=folder,
            trainer=options_from_json(TrainerOptions, options["trainer"]),
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not the options of a run of rfp train ({error}); give a run folder") from error


def train(command: Train) -> dict[str, Any]:
    """Run the command and return the figures that ``summary.json`` holds."""
    if not command.data:
        raise InputError("expected folders of posed pairs to train on, got none; give --data FOLDER")
    if command.image_size < SMALLEST_IMAGE:
        raise InputError(f"--image-size: expected at least {SMALLEST_IMAGE} pixels, got {command.image_size}; try 320")
    if command.resume is not None and command.output not in (None, command.resume):
        raise InputError(f"--output {command.output}: a resumed run stays in {command.resume}; leave --output out")
    options = command.trainer
    check_can_write(command.json)
    device = choose_device(command.device)
    pairs = _checked_pairs(command.data, command)
    validation = _checked_pairs(command.validation, command) if command.validation else None
    reports = _report_sets(command)
    start = load_network(command.network).to(device)
    folder = command.resume or command.output or _new_run_folder(command.network)
    folder = prepare_run_folder(folder, resume=command.resume is not None)
    print(f"training {command.network} on {pairs!r}, run folder {folder}")

    network = copy.deepcopy(start)
    before = {name: judged(start, sets, options.judge) for name, sets in reports.items()}
    summary = _fit(network, options, command, pairs, validation, folder)
    after = {name: judged(network, sets, options.judge) for name, sets in reports.items()}

    reward_curve(summary.metrics, path=folder / "reward.png", validations=summary.validations)
    shown = next(iter(reports.values())) if reports else (validation or pairs)
    _draw_matches({"before": start, "after": network}, shown[len(shown) // 2], options, folder)
    figures = _figures(command, summary, before, after)
    write_json(folder / "summary.json", figures)
    write_figures(command.json, figures)
    _print_outcome(summary, before, after, folder)
    return figures


def _fit(
    network: nn.Module,
    options: TrainerOptions,
    command: Train,
    pairs: PosedPairs,
    validation: PosedPairs | None,
    folder: Path,
) -> TrainingSummary:
    """Train under a progress bar."""
    record = {
        "start": command.network,
        "data": [str(path) for path in command.data],
        "validation": [str(path) for path in command.validation],
        "report": [str(path) for path in command.report],
        "image_size": command.image_size,
    }
    with tqdm(total=options.steps, unit="step", dynamic_ncols=True) as bar:

        def on_step(row: dict[str, Any]) -> None:
            bar.update(row["step"] - bar.n)
            bar.set_postfix(reward=f"{row['reward']:.3f}", failed=f"{row['failed']:.1%}")

        def on_validation(step: int, report: EvaluationReport) -> None:
            auc = "/".join(f"{value:.1f}" for value in report.auc.values())
            bar.write(f"step {step:5d}: validation AUC@5/10/20 {auc}")

        return Trainer(network, options).fit(
            pairs,
            validation=validation,
            output=folder,
            resume=command.resume is not None,
            record=record,
            on_step=on_step,
            on_validation=on_validation,
        )


def _draw_matches(networks: dict[str, nn.Module], pair: PosedPair, options: TrainerOptions, folder: Path) -> None:
    """The deployed matches of each network on one pair, coloured by the true epipolar geometry."""
    rows, judge = {}, options.judge
    for name, network in networks.items():
        on_device = pair.to(device_of(network))
        xy1_px, xy2_px = match_images(
            network,  # type: ignore[arg-type]
            on_device.image1,
            on_device.image2,
            num_keypoints=judge.num_keypoints,
        )
        error_px = epipolar_error_px(xy1_px.cpu(), xy2_px.cpu(), pair.K1, pair.K2, pair.R, pair.t)
        rows[name] = DrawnMatches(xy1_px.cpu(), xy2_px.cpu(), error_px=error_px)
    figure = draw_matches_of_networks(pair.image1, pair.image2, rows, max_error_px=judge.max_error_px)
    save_figure(figure, folder / "matches_before_after.png")


def _figures(
    command: Train,
    summary: TrainingSummary,
    before: dict[str, EvaluationReport],
    after: dict[str, EvaluationReport],
) -> dict[str, Any]:
    def brief(reports: dict[str, EvaluationReport]) -> dict[str, Any]:
        keys = ("auc", "auc_binned", "median_error_deg", "num_pairs", "num_failed", "errors_deg", "settings")
        return {name: {key: getattr(report, key) for key in keys} for name, report in reports.items()}

    return {
        "network": command.network,
        "steps": summary.steps,
        "best_step": summary.best_step,
        "seed": command.trainer.seed,
        "image_size": command.image_size,
        "skipped_steps": summary.skipped_steps,
        "seconds": summary.seconds,
        "validations": summary.validations,
        "auc": {name: {"before": before[name].auc, "after": after[name].auc} for name in before},
        "before": brief(before),
        "after": brief(after),
    }


def _print_outcome(
    summary: TrainingSummary, before: dict[str, EvaluationReport], after: dict[str, EvaluationReport], folder: Path
) -> None:
    print(f"\n{summary.steps} steps in {summary.seconds:.0f} s; the weights of step {summary.best_step} are kept")
    if summary.best_step == 0:
        print("no validation was better than the start, so the network is as it was")
    if summary.skipped_steps:
        print(f"{summary.skipped_steps} steps were left out: their gradient was zero or not finite")
    if summary.metrics and min(row["failed"] for row in summary.metrics) == 1.0:
        print("no draw of any step gave a pose, so there was nothing to learn: try larger images, or easier pairs")
    rows = {
        f"{name} {when}": reports[name] for name in before for when, reports in (("before", before), ("after", after))
    }
    if rows:
        print(format_table(rows))
    print(f"run folder: {folder}")


def _report_sets(command: Train) -> dict[str, PosedPairs]:
    """The sets of the table by the names of their folders, or by their paths where two names are equal."""
    names = [path.resolve().name for path in command.report]
    labels = names if len(set(names)) == len(names) else [str(path) for path in command.report]
    return {label: _checked_pairs((path,), command) for label, path in zip(labels, command.report, strict=True)}


def _checked_pairs(folders: tuple[Path, ...], command: Train) -> PosedPairs:
    """The pairs of the folders, every image decoded: a broken one is found now, and not an hour into the run."""
    pairs = PosedPairs(folders, image_size=command.image_size)
    pairs.check_images()
    return pairs


def _new_run_folder(network: str) -> Path:
    return Path("runs") / f"{Path(network).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
