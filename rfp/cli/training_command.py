"""The options of ``rfp train``, those of the paper and of a run to resume, and which of them cannot work together."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from rfp.cli.output import check_can_write
from rfp.data.sets import needs_image_folder
from rfp.data.synthetic import ReliefOptions, SceneOptions
from rfp.data.synthetic.options import SMALLEST_IMAGE
from rfp.records import InputError
from rfp.rewards import BY_DEPTH
from rfp.rollout import RolloutOptions
from rfp.training.checkpoint import check_no_run, first_difference
from rfp.training.idle_options import check_effect, reward_is_only_logged
from rfp.training.objective import check_reward, reward_by_options
from rfp.training.options import TrainerOptions, options_from_json
from rfp.training.run_identity import lasting_options

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
    in_relief: bool = False
    """Where there is no --data, train on the photographs themselves: sharp and whole, as surfaces in relief."""
    relief: ReliefOptions = field(default_factory=ReliefOptions)
    """How they stand out, and the cameras that look at them."""
    rendered_validation: int = 64
    """Rendered pairs that select the weights."""
    rendered_report: int = 200
    """Rendered pairs of held-out layouts and textures in the table."""
    paper: bool = False
    """The policy and objective of Reinforced Feature Points (CVPR 2020) as defaults: no NMS, with replacement, τ = 1,
    the mean as baseline, both terms alike, no average of weights; options given beside it hold."""
    each_key_point: bool = False
    """The recipe of TrainerOptions.each_key_point as defaults: each key point's worth under the true pose, by its
    logarithm; with --data by the epipolar geometry, else by the depth. Options given beside it hold."""
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


def usual_options(*, paper: bool, each_key_point: bool, with_depth: bool) -> TrainerOptions:
    """The options of a command with ``--paper``, ``--each-key-point`` or neither, to be overridden by what is said.

    Raises:
        InputError: both recipes at once.
    """
    if paper and each_key_point:
        raise InputError("--paper and --each-key-point are two recipes; leave one out")
    if paper:
        return replace(MAIN_JOB, rollout=RolloutOptions.paper(), baseline="mean", keypoint_weight=1.0, averaging=0.0)
    if each_key_point:
        return TrainerOptions.each_key_point("reprojection_count" if with_depth else "sampson_count", steps=300)
    return MAIN_JOB


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
            in_relief=options.get("in_relief", False),
            relief=options_from_json(ReliefOptions, options.get("relief", {})),
            rendered_validation=options["rendered_validation"],
            rendered_report=options["rendered_report"],
            output=folder,
            resume=folder,
            trainer=options_from_json(TrainerOptions, options["trainer"]),
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not the options of a run of rfp train ({error}); give a run folder") from error


def check_what_teaches(options: TrainerOptions, usual: TrainerOptions, data: Sequence[Path]) -> None:
    """Refuse rewards and controls that cannot work, and options without an effect; warn of a reward without one.

    Args:
        usual: What the options are where nothing is said.
        data: Folders, which have no depth; none for scenes that are rendered.
    """
    named = (options.reward, *(term.partition("=")[0] for term in options.reward_terms), options.rollout.control.values)
    by_depth = [name for name in named if name in BY_DEPTH]
    if data and by_depth:
        raise InputError(
            f"{by_depth[0]} expected pairs with depth, and folders have none; choose sampson, or no --data"
        )
    check_reward(reward_by_options(options), options)
    check_effect(options, usual)
    said = (options.reward, options.reward_terms) != (usual.reward, usual.reward_terms)
    if said and reward_is_only_logged(options):
        followed = options.rollout.control.values
        warnings.warn(
            f"the reward is only logged: what is followed is --rollout.control.values {followed}", stacklevel=2
        )


def check(command: Train) -> None:
    """Refuse what cannot work before anything is rendered or read."""
    if command.image_size < SMALLEST_IMAGE:
        raise InputError(f"--image-size: expected at least {SMALLEST_IMAGE} pixels, got {command.image_size}; try 320")
    options = command.trainer
    if command.resume is not None and (command.paper or command.each_key_point):
        raise InputError(f"--resume {command.resume}: its options hold; leave --paper and --each-key-point out")
    began = None if command.resume is None else defaults_to_resume(command.resume)
    recipes = {"paper": command.paper, "each_key_point": command.each_key_point}
    usual = usual_options(**recipes, with_depth=not command.data) if began is None else began.trainer
    check_what_teaches(options, usual, command.data)
    if options.curriculum.on and not command.data:
        raise InputError("--curriculum.share is for --data; rendered pairs are new at every step, leave it out")
    if command.in_relief and (command.data or command.photographs is None):
        raise InputError("--in-relief: expected --photographs FOLDER and no --data; they are what stands out")
    if not command.in_relief and command.relief != ReliefOptions():
        raise InputError("--relief.… are for --in-relief; say it, too")
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
    if began is not None:
        _check_resumes_what_began(command, began)
    check_can_write(command.json)
    if command.output is not None and command.resume is None:
        check_no_run(command.output)


def _check_resumes_what_began(command: Train, began: Train) -> None:
    """Refuse options that contradict those the run began with: the trainer would, but only after the first table."""
    free = {"report", "rendered_report", "device", "json", "profile", "paper", "each_key_point", "resume", "output"}
    schedule = command.trainer.schedule
    goes_over_all_steps = schedule == began.trainer.schedule and schedule.on and schedule.steps is None
    if goes_over_all_steps and command.trainer.steps != began.trainer.steps:
        raise InputError(
            f"--resume {command.resume}: the run's schedule ends with step {began.trainer.steps}, so that --steps "
            "cannot change; a new run with --schedule.steps beyond its --steps leaves room"
        )
    before, now = ({key: value for key, value in asdict(run).items() if key not in free} for run in (began, command))
    before["trainer"], now["trainer"] = lasting_options(began.trainer), lasting_options(command.trainer)
    difference = first_difference(before, now)
    if difference is not None:
        raise InputError(
            f"--resume {command.resume}: {difference}; resume with the same (only --steps and --report may change), or "
            "start anew with --output"
        )
