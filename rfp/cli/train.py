"""``rfp train``: fine-tune a network on posed pairs, and report what it did to held-out accuracy."""

import copy
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn
from tqdm import tqdm

from rfp.cli.device import choose_device, peak_memory_mib
from rfp.cli.output import check_can_write, validations_above, write_figures
from rfp.cli.plot import PAGE_NAME
from rfp.data.pairs import PairSequence
from rfp.data.photographs import load_photographs
from rfp.data.sets import OpenedPairs, needs_image_folder, open_posed_pairs
from rfp.data.synthetic import RenderedPairs, RenderedSet, SceneOptions
from rfp.data.synthetic.options import SMALLEST_IMAGE
from rfp.evaluation.matching import epipolar_error_px, match_images
from rfp.evaluation.report import EvaluationReport, format_table
from rfp.models.pretrained import load_network
from rfp.models.state import device_of
from rfp.plotting.figures import save_figure
from rfp.plotting.matches import DrawnMatches, draw_matches_of_networks
from rfp.plotting.runs import draw_runs
from rfp.records import InputError, PosedPair
from rfp.rollout import RolloutOptions
from rfp.stages import StageClock, stage_clock
from rfp.training.checkpoint import check_no_run, first_difference, prepare_run_folder, write_json
from rfp.training.logged_run import read_run
from rfp.training.options import TrainerOptions, options_from_json
from rfp.training.parameters import parameter_groups
from rfp.training.trainer import Trainer, TrainingSummary, judged, lasting_options

VALIDATION_SEED = 1_000_003
"""Of the rendered pairs that select the weights, and the next one of those in the table: fixed, so that runs of any
seed are judged on the same pairs."""
PHOTOGRAPHS = 500
"""Of a folder that are worn by rendered scenes at most: 0.8 GB of crops."""
HELD_OUT = "rendered, held out"
MAIN_JOB = TrainerOptions(
    steps=120,
    learning_rate=1e-5,
    averaging=0.99,
    keypoint_weight=0.1,
    validate_every=60,
)
"""The command's defaults: five minutes on two cores. The detector's term is by far the noisier one and weighted down,
and the weights are averaged, for a short run not to drift (benchmarks/gradient_signal.py, benchmarks/main_job.py)."""


@dataclass(frozen=True)
class Train:
    """Fine-tune a network by REINFORCE on the pose error of image pairs.

    Three sets of pairs with three roles: --data teaches, --validation selects the weights that are kept (the start is
    among the candidates), --report is only looked at before and after. Without --data, rfp renders its own scenes for
    all three; those of the table are of layouts and textures that training does not draw.
    """

    network: str = "tiny"
    """A pretrained network's name, or a run folder or weights file to go on from."""
    data: tuple[Path, ...] = ()
    """Folders of posed pairs, or files of known sets, to train on; without any, scenes are rendered."""
    validation: tuple[Path, ...] = ()
    """Folders whose AUC selects the weights; without any, rendered pairs of the training's kinds do, or with --data
    the last weights are kept."""
    report: tuple[Path, ...] = ()
    """Folders for the table before and after; they select nothing."""
    images: Path | None = None
    """Where the images are, for the lists of SuperGlue and MegaDepth among --data, --validation and --report."""
    image_size: int = 320
    """Longer side of the images of folders in pixels; intrinsics are scaled in step."""
    scenes: SceneOptions = field(default_factory=SceneOptions)
    """What is rendered where there is no --data."""
    photographs: Path | None = None
    """Folder of photographs that rendered scenes wear beside the procedural textures; 500 of them at most."""
    rendered_validation: int = 64
    """Rendered pairs that select the weights."""
    rendered_report: int = 200
    """Rendered pairs of held-out layouts and textures in the table."""
    paper: bool = False
    """The policy and objective of Reinforced Feature Points (CVPR 2020) as defaults: no NMS, with replacement, τ = 1,
    the mean as baseline, both terms alike, no average of weights; options given beside it hold."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    output: Path | None = None
    """The run folder; a new one under runs/ by default."""
    resume: Path | None = None
    """Go on with the run in this folder: its options hold, --steps may be raised."""
    json: Path | None = None
    """Write the figures of the run to this file, too."""
    profile: bool = False
    """Print where the time of the training steps went, stage by stage, and the peak memory."""
    trainer: Annotated[TrainerOptions, tyro.conf.arg(name="")] = MAIN_JOB


def defaults_of_the_paper() -> Train:
    """The command with the paper's policy and baseline, to be overridden by what is said beside ``--paper``."""
    options = replace(MAIN_JOB, rollout=RolloutOptions.paper(), baseline="mean", keypoint_weight=1.0, averaging=0.0)
    return Train(paper=True, trainer=options)


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
            images=Path(options["images"]) if options.get("images") else None,
            image_size=options["image_size"],
            scenes=options_from_json(SceneOptions, options["scenes"]),
            photographs=Path(options["photographs"]) if options["photographs"] else None,
            rendered_validation=options["rendered_validation"],
            rendered_report=options["rendered_report"],
            output=folder,
            resume=folder,
            trainer=options_from_json(TrainerOptions, options["trainer"]),
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not the options of a run of rfp train ({error}); give a run folder") from error


def train(command: Train) -> dict[str, Any]:
    """Run the command and return the figures that ``summary.json`` holds."""
    _check(command)
    options = command.trainer
    device = choose_device(command.device)
    start = load_network(command.network).to(device)
    parameter_groups(start, options.frozen, options.rates)  # refuse a wrong pattern before anything is rendered or read
    sets = _sets(command, device)
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


@dataclass(frozen=True)
class _Sets:
    """The pairs of a run by their role."""

    train: OpenedPairs | RenderedPairs
    validation: Sequence[PosedPair] | None
    reports: dict[str, Sequence[PosedPair]]
    left_out: int = 0
    """Pairs of --data with an image that cannot be read."""

    def shown(self) -> PosedPair:
        """The pair of the picture before and after: one that taught nothing, where there is one."""
        pairs = next(iter(self.reports.values()), self.validation)
        if pairs is None:
            train = self.train
            pairs = train.fixed_set(1, seed=VALIDATION_SEED) if isinstance(train, RenderedPairs) else train
        middle = len(pairs) // 2
        return _first_readable(pairs, [*range(middle, len(pairs)), *range(middle)])


def _first_readable(pairs: PairSequence, order: Sequence[int]) -> PosedPair:
    """The first pair in this order that can be read: an image may have broken during the run."""
    for index in order[:-1]:
        with suppress(InputError):
            return pairs[index]
    return pairs[order[-1]]


def _sets(command: Train, device: torch.device) -> _Sets:
    """Read from folders, or rendered where no folder is given."""
    validation = _checked_pairs(command.validation, command) if command.validation else None
    reports: dict[str, Sequence[PosedPair]] = dict(_report_sets(command))
    if command.data:
        pairs, left_out = _readable_pairs(command.data, command)
        return _Sets(pairs, validation, reports, left_out)
    train = rendered_pairs(command.scenes, command.photographs)
    if validation is None and command.rendered_validation:
        print(f"rendering {command.rendered_validation} pairs that select the weights")
        validation = train.fixed_set(command.rendered_validation, seed=VALIDATION_SEED, device=device)
    if command.rendered_report:
        print(f"rendering {command.rendered_report} pairs of held-out layouts and textures for the table")
        reports[HELD_OUT] = held_out_scenes(command, device)
    return _Sets(train, validation, reports)


def rendered_pairs(scenes: SceneOptions, folder: Path | None) -> RenderedPairs:
    """The stream of scenes that wear the photographs of a folder beside their procedural textures."""
    photographs = None
    if folder is not None:
        draw = torch.Generator().manual_seed(VALIDATION_SEED)
        photographs = load_photographs(folder, size=256, crops=2, largest_scale=2.0, limit=PHOTOGRAPHS, generator=draw)
    return RenderedPairs(scenes, photographs=photographs)


def held_out_scenes(command: Train, device: torch.device | str = "cpu") -> RenderedSet:
    """The rendered pairs of the table: ranges as in training, layouts and textures that it does not draw."""
    scenes = RenderedPairs(command.scenes.on_held_out_kinds())
    return scenes.fixed_set(command.rendered_report, seed=VALIDATION_SEED + 1, device=device)


def _check(command: Train) -> None:
    """Refuse what cannot work before anything is rendered or read."""
    if command.image_size < SMALLEST_IMAGE:
        raise InputError(f"--image-size: expected at least {SMALLEST_IMAGE} pixels, got {command.image_size}; try 320")
    if command.resume is not None and command.output not in (None, command.resume):
        raise InputError(f"--output {command.output}: a resumed run stays in {command.resume}; leave --output out")
    for flag, count in (
        ("--rendered-validation", command.rendered_validation),
        ("--rendered-report", command.rendered_report),
    ):
        if count < 0:
            raise InputError(f"{flag}: expected a number of pairs of at least 0, got {count}")
    rendering = (command.scenes, command.photographs, command.rendered_validation, command.rendered_report)
    defaults = Train()
    if command.data and rendering != (defaults.scenes, None, defaults.rendered_validation, defaults.rendered_report):
        raise InputError("--scenes, --photographs and --rendered-… are for rendered scenes; leave out them or --data")
    listed = [path for path in (*command.data, *command.validation, *command.report) if needs_image_folder(path)]
    if command.images is not None and not listed:
        raise InputError(
            f"--images {command.images}: no list among the data names images that lie elsewhere; leave it out"
        )
    if not command.data and (command.trainer.workers or command.trainer.strict):
        raise InputError("--workers and --strict are for --data; rendered scenes are made where the network is")
    if not (command.data or command.validation or command.report) and command.image_size != defaults.image_size:
        raise InputError("--image-size is for folders; rendered scenes have --scenes.image-size HEIGHT WIDTH")
    if command.resume is not None:
        _check_resumes_what_began(command)
    check_can_write(command.json)
    if command.output is not None and command.resume is None:
        check_no_run(command.output)


def _check_resumes_what_began(command: Train) -> None:
    """Refuse options that contradict those the run began with: the trainer would, but only after the first table."""
    began = defaults_to_resume(command.resume)  # type: ignore[arg-type]
    free = {"report", "rendered_report", "device", "json", "profile", "paper", "resume", "output"}
    before, now = ({key: value for key, value in asdict(run).items() if key not in free} for run in (began, command))
    before["trainer"], now["trainer"] = lasting_options(began.trainer), lasting_options(command.trainer)
    difference = first_difference(before, now)
    if difference is not None:
        raise InputError(
            f"--resume {command.resume}: {difference}; resume with the same (only --steps and --report may change), or "
            "start anew with --output"
        )


def _fit(
    network: nn.Module,
    options: TrainerOptions,
    command: Train,
    sets: _Sets,
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


def _report_sets(command: Train) -> dict[str, OpenedPairs]:
    """The sets of the table by the names of their folders, or by their paths where two names are equal."""
    names = [path.resolve().name for path in command.report]
    labels = names if len(set(names)) == len(names) else [str(path) for path in command.report]
    return {label: _checked_pairs((path,), command) for label, path in zip(labels, command.report, strict=True)}


def _checked_pairs(folders: tuple[Path, ...], command: Train) -> OpenedPairs:
    """The pairs that judge, every image decoded: what has fewer pairs than its folder is another set, and refused."""
    pairs = _open(folders, command)
    pairs.check_images()
    return pairs


def _readable_pairs(folders: tuple[Path, ...], command: Train) -> tuple[OpenedPairs, int]:
    """The pairs that teach, every image decoded now and not an hour into the run; and how many are left out, if any.

    Raises:
        InputError: an image that cannot be read with --strict, or no pair is left.
    """
    pairs = _open(folders, command)
    if command.trainer.strict:
        pairs.check_images()
    problems = pairs.unreadable_images()
    readable = pairs.without_images(problems) if problems else pairs
    left_out = len(pairs) - len(readable)
    for problem in problems.values():
        print(f"rfp: warning: {problem}", file=sys.stderr)
    if left_out:
        print(f"rfp: warning: {left_out} of {len(pairs)} pairs of --data are left out", file=sys.stderr)
    return readable, left_out


def _open(paths: tuple[Path, ...], command: Train) -> OpenedPairs:
    """Of one role: --images is for the lists among all of them, and folders that know their images do without."""
    listed = command.images if any(needs_image_folder(path) for path in paths) else None
    return open_posed_pairs(paths, images=listed, image_size=command.image_size)


def _new_run_folder(network: str) -> Path:
    return Path("runs") / f"{Path(network).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
