"""``rfp pretrain``: make the start that ``rfp train`` goes on from, by low-level matching."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn
from tqdm import tqdm

from rfp.cli.device import choose_device
from rfp.cli.output import check_can_write, write_figures
from rfp.data.homographies import HomographyOptions
from rfp.data.sets import OpenedPairs, open_posed_pairs
from rfp.evaluation.report import EvaluationReport
from rfp.models import Tiny
from rfp.models.pretrained import load_network, network_names
from rfp.plotting.figures import save_figure
from rfp.plotting.pretraining import draw_pretraining
from rfp.records import InputError
from rfp.training.checkpoint import check_no_run, first_difference, prepare_run_folder, write_json
from rfp.training.options import options_from_json
from rfp.training.pretraining import FREE_TO_CHANGE, Pretrainer, PretrainingSummary
from rfp.training.pretraining_labels import CORNERS
from rfp.training.pretraining_options import PretrainingOptions
from rfp.training.pretraining_sources import HomographyViews, label_sources, load_sources

FREE = ("device", "json", "resume", "output")
"""Of the command's options, those that a resumed run need not share with its beginning."""


@dataclass(frozen=True)
class Pretrain:
    """Pretrain a network on true correspondences and a teacher's key points: the start of training on the pose.

    Without any option: tiny from random weights, on textures made by code, for about ten minutes on two cores after
    the labelling. --photographs makes it much better. The run folder then serves rfp train --network RUN.
    """

    network: str | None = None
    """A pretrained network's name, or a run folder or weights file to go on from, batch-norm statistics frozen;
    without one, tiny from random weights."""
    photographs: Path | None = None
    """Folder of photographs; without one, textures alone teach."""
    crops: int = 8
    """Square crops of each photograph, at scales and places of their own."""
    textures: int = 64
    """Textures made by code among the sources."""
    source_size: int = 480
    """Side of a source in pixels."""
    view_size: int = 240
    """Side of a view in pixels."""
    teacher: str = "aliked-n16"
    """Who labels the key points: a network's name, run folder or weights file; or corners, which need no weights. A
    network that goes on from itself gives --network and --teacher alike."""
    labels: int = 1024
    """Key points labelled in each source, at most."""
    adaptations: int = 2
    """Homographies of each source over which the teacher's heat is averaged; drawn two at a time."""
    validation: tuple[Path, ...] = ()
    """Folders of posed pairs whose AUC selects the weights; without any, the last ones are kept."""
    image_size: int = 320
    """Longer side of the images of folders in pixels."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    output: Path | None = None
    """The run folder; a new one under runs/ by default."""
    resume: Path | None = None
    """Go on with the run in this folder: its options hold, --steps and --seconds may be raised."""
    json: Path | None = None
    """Write the figures of the run to this file, too."""
    options: Annotated[PretrainingOptions, tyro.conf.arg(name="")] = field(default_factory=PretrainingOptions)


def defaults_to_resume(folder: Path) -> Pretrain:
    """The command that began the run in ``folder``, to be overridden by what is said now.

    Raises:
        InputError: no run there, or one whose options cannot be read.
    """
    path = folder / "options.json"
    try:
        values = json.loads(path.read_text())
        options = dict(values["pretraining"], seconds=float(values["pretraining"]["seconds"]))
        command: dict[str, Any] = dict(values["command"])
        command["validation"] = tuple(map(Path, command["validation"]))
        command["photographs"] = Path(command["photographs"]) if command["photographs"] else None
        began = options_from_json(PretrainingOptions, options)
        return Pretrain(**command, output=folder, resume=folder, options=began)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the options of a run of rfp pretrain ({error}); give a run folder") from error


def pretrain(command: Pretrain) -> dict[str, Any]:
    """Run the command and return the figures that ``summary.json`` holds."""
    _check(command)
    device = choose_device(command.device)
    network = _network(command).to(device)
    pretrainer = Pretrainer(network, command.options, from_scratch=command.network is None)
    teacher = _teacher(command)
    validation = _posed_pairs(command.validation, command) if command.validation else None
    folder = command.resume or command.output or _new_run_folder(command)
    folder = prepare_run_folder(folder, resume=command.resume is not None)
    print(f"pretraining {command.network or 'tiny from random weights'}, run folder {folder}")
    views = _homography_views(command, teacher, device)
    summary = _fit(pretrainer, command, views, validation, folder)

    figures = _figures(command, summary, repr(views))
    write_json(folder / "summary.json", figures)
    write_figures(command.json, figures)
    save_figure(draw_pretraining(summary.metrics, summary.validations), folder / "curves.png")
    _print_outcome(summary, folder)
    return figures


def _check(command: Pretrain) -> None:
    """Refuse what cannot work before anything is loaded."""
    for name in ("crops", "source_size", "labels", "adaptations"):
        if getattr(command, name) < 1:
            raise InputError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(command, name)}")
    if command.textures < 0 or (command.textures == 0 and command.photographs is None):
        raise InputError(f"--textures: expected at least 1 or a folder of --photographs, got {command.textures}")
    if command.photographs is not None and not command.photographs.is_dir():
        raise InputError(f"{command.photographs}: expected a folder of photographs, found none")
    if command.teacher == CORNERS and command.options.distillation_weight:
        raise InputError("--distillation-weight: corners have no descriptors; name a network as --teacher")
    HomographyOptions(image_size=(command.view_size, command.view_size))
    if command.resume is not None:
        if command.output not in (None, command.resume):
            raise InputError(f"--output {command.output}: a resumed run stays in {command.resume}; leave --output out")
        _check_resumes_what_began(command)
    check_can_write(command.json)
    if command.output is not None and command.resume is None:
        check_no_run(command.output)


def _check_resumes_what_began(command: Pretrain) -> None:
    """Refuse options that contradict those the run began with: the labels are made before the checkpoint is read."""
    began = defaults_to_resume(command.resume)  # type: ignore[arg-type]
    before, now = ({key: value for key, value in asdict(run).items() if key not in FREE} for run in (began, command))
    for option in FREE_TO_CHANGE:
        before["options"][option] = now["options"][option]
    difference = first_difference(before, now)
    if difference is not None:
        raise InputError(
            f"--resume {command.resume}: {difference}; resume with the same (only --steps and --seconds may change), "
            "or start anew with --output"
        )


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


def _homography_views(command: Pretrain, teacher: nn.Module | None, device: torch.device) -> HomographyViews:
    """Views of photographs and textures, whose key points the teacher labels now."""
    generator = torch.Generator(device).manual_seed(command.options.seed)
    sources = load_sources(
        command.photographs,
        crops=command.crops,
        textures=command.textures,
        size=command.source_size,
        seed=command.options.seed,
        generator=generator,
    )
    teacher = None if teacher is None else teacher.to(device)
    with tqdm(total=len(sources), unit="source", desc="labels", dynamic_ncols=True) as bar:
        key_points, descriptors = label_sources(
            teacher,
            sources,
            count=command.labels,
            adaptations=command.adaptations,
            with_descriptors=command.options.distillation_weight > 0,
            generator=generator,
            on_batch=bar.update,
        )
    found = (key_points[..., 2] > 0).sum(1).float().mean()
    print(f"{len(sources)} sources, {found:.0f} key points by {command.teacher} in each")
    views = HomographyOptions(image_size=(command.view_size, command.view_size))
    return HomographyViews(sources, key_points, descriptors, views=views)


def _posed_pairs(folders: tuple[Path, ...], command: Pretrain) -> OpenedPairs:
    pairs = open_posed_pairs(folders, image_size=command.image_size)
    pairs.check_images()
    return pairs


def _fit(
    pretrainer: Pretrainer, command: Pretrain, views: HomographyViews, validation: OpenedPairs | None, folder: Path
) -> PretrainingSummary:
    """Train under a progress bar."""
    record = {name: _plain(value) for name, value in asdict(command).items() if name not in (*FREE, "options")}
    options = command.options
    with tqdm(total=options.steps, unit="step", dynamic_ncols=True) as bar:

        def on_step(row: dict[str, Any]) -> None:
            bar.update(row["step"] - bar.n)
            bar.set_postfix(loss=f"{row['loss']:.3f}", right=f"{row['nearest_is_right']:.1%}")

        def on_validation(step: int, report: EvaluationReport) -> None:
            auc = "/".join(f"{value:.1f}" for value in report.auc.values())
            bar.write(f"step {step:5d}: validation AUC@5/10/20 {auc}")

        return pretrainer.fit(
            views,
            validation=validation,
            output=folder,
            resume=command.resume is not None,
            record={"command": record},
            on_step=on_step,
            on_validation=on_validation,
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
