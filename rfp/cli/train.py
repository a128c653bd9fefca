"""``rfp train``: fine-tune a network on posed pairs, and report what it did to held-out accuracy."""

import copy
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from rfp.cli.device import choose_device, peak_memory_mib
from rfp.cli.output import validations_above, write_figures
from rfp.cli.plot import PAGE_NAME
from rfp.cli.training_command import Train, check
from rfp.cli.training_sets import TrainingSets, training_sets
from rfp.evaluation.matching import epipolar_error_px, match_images
from rfp.evaluation.report import EvaluationReport, format_table
from rfp.models.pretrained import load_network
from rfp.models.state import device_of
from rfp.plotting.figures import save_figure
from rfp.plotting.matches import DrawnMatches, draw_matches_of_networks
from rfp.plotting.runs import draw_runs
from rfp.records import PosedPair
from rfp.stages import StageClock, stage_clock
from rfp.training.checkpoint import prepare_run_folder, write_json
from rfp.training.logged_run import read_run
from rfp.training.options import TrainerOptions
from rfp.training.parameters import parameter_groups
from rfp.training.trainer import Trainer, TrainingSummary, judged


def train(command: Train) -> dict[str, Any]:
    """Run the command and return the figures that ``summary.json`` holds."""
    check(command)
    options = command.trainer
    device = choose_device(command.device)
    start = load_network(command.network).to(device)
    parameter_groups(start, options.frozen, options.rates)  # refuse a wrong pattern before anything is rendered or read
    sets = training_sets(command, device)
    folder = command.resume or command.output or _new_run_folder(command.network)
    folder = prepare_run_folder(folder, resume=command.resume is not None)
    print(f"training {command.network} on {sets.train!r}, run folder {folder}")

    network = copy.deepcopy(start)
    before = {name: judged(start, pairs, options.judge, progress=True) for name, pairs in sets.reports.items()}
    started = time.perf_counter()
    with stage_clock(device) if command.profile else nullcontext() as clock:
        summary = _fit(network, options, command, sets, folder)
    seconds = time.perf_counter() - started
    after = {name: judged(network, pairs, options.judge, progress=True) for name, pairs in sets.reports.items()}

    figures = _figures(command, summary, before, after)
    figures |= {"left_out_pairs": sets.left_out, "skipped_pairs": summary.skipped_pairs}
    if clock is not None:
        figures["profile"] = _profile(clock, seconds)
    write_json(folder / "summary.json", figures)
    write_figures(command.json, figures)
    save_figure(draw_runs([read_run(folder)]), folder / PAGE_NAME)
    _draw_matches({"before": start, "after": network}, sets.shown(), options, folder)
    _print_outcome(summary, before, after, folder)
    if clock is not None:
        _print_profile(figures["profile"])
    return figures


def _fit(
    network: nn.Module,
    options: TrainerOptions,
    command: Train,
    sets: TrainingSets,
    folder: Path,
) -> TrainingSummary:
    """Train under a progress bar."""
    record = {
        "start": command.network,
        "data": [str(path) for path in command.data],
        "validation": [str(path) for path in command.validation],
        "report": [str(path) for path in command.report],
        "images": None if command.images is None else str(command.images),
        "image_size": command.image_size,
        "scenes": asdict(command.scenes),
        "photographs": None if command.photographs is None else str(command.photographs),
        "in_relief": command.in_relief,
        "relief": asdict(command.relief),
        "rendered_validation": command.rendered_validation,
        "rendered_report": command.rendered_report,
    }
    with tqdm(total=options.steps, unit="step", dynamic_ncols=True) as bar:

        def on_step(row: dict[str, Any]) -> None:
            bar.update(row["step"] - bar.n)
            bar.set_postfix(reward=f"{row['reward']:.3f}", failed=f"{row['failed']:.1%}")

        def on_warning(line: str) -> None:
            bar.write(f"rfp: warning: {line}", file=sys.stderr)

        return Trainer(network, options).fit(
            sets.train,
            validation=sets.validation,
            output=folder,
            resume=command.resume is not None,
            record=record,
            on_step=on_step,
            on_validation=validations_above(bar),
            on_warning=on_warning,
        )


def _draw_matches(networks: dict[str, nn.Module], pair: PosedPair, options: TrainerOptions, folder: Path) -> None:
    """The deployed matches of each network on one pair, coloured by the true epipolar geometry."""
    rows, judge, pair = {}, options.judge, pair.to("cpu")  # rendered pairs lie where the network is
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
        "image_size": command.image_size if command.data else max(command.scenes.image_size),
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
    if summary.skipped_pairs:
        print(f"{summary.skipped_pairs} times a pair could not be read, and another stood in its place")
    if summary.metrics and min(row["failed"] for row in summary.metrics) == 1.0:
        print("no draw of any step gave a pose, so there was nothing to learn: try larger images, or easier pairs")
    rows = {
        f"{name} {when}": reports[name] for name in before for when, reports in (("before", before), ("after", after))
    }
    if rows:
        print(format_table(rows))
    print(f"run folder: {folder}")


def _profile(clock: StageClock, seconds: float) -> dict[str, Any]:
    """Seconds of each stage of the steps and validations of this call, and what lies between; the peak memory."""
    stages = clock.seconds()
    profile: dict[str, Any] = {
        "seconds": {**stages, "rest": max(0.0, seconds - sum(stages.values()))},
        "peak_memory_mib": round(peak_memory_mib()),
    }
    if clock.device.type == "cuda":
        profile["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(clock.device) / 2**20)
    return profile


def _print_profile(profile: dict[str, Any]) -> None:
    total = sum(profile["seconds"].values())
    print(f"\n{'stage':24s} seconds   share")
    for name, seconds in profile["seconds"].items():
        print(f"{name:24s} {seconds:7.1f}  {seconds / total:6.1%}")
    print(f"peak memory of the process: {profile['peak_memory_mib']} MiB")
    if "peak_gpu_memory_mib" in profile:
        print(f"peak memory on the GPU: {profile['peak_gpu_memory_mib']} MiB")


def _new_run_folder(network: str) -> Path:
    return Path("runs") / f"{Path(network).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
