"""The options of ``rfp pretrain``, those of a run to resume, and which of them cannot work together."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from rfp.cli.output import check_can_write
from rfp.data.homographies import HomographyOptions
from rfp.data.synthetic import ReliefOptions, SceneOptions
from rfp.records import InputError
from rfp.training.checkpoint import check_no_run, first_difference
from rfp.training.options import options_from_json
from rfp.training.pretraining import FREE_TO_CHANGE
from rfp.training.pretraining_labels import CORNERS
from rfp.training.pretraining_options import PretrainingOptions

FREE = ("device", "json", "resume", "output")
"""Of the command's options, those that a resumed run need not share with its beginning."""


@dataclass(frozen=True)
class Pretrain:
    """Pretrain a network on true correspondences and a teacher's key points: the start of training on the pose.

    Without any option: tiny from random weights, on textures made by code, for about ten minutes on two cores after
    the labelling. --photographs makes it much better. The run folder then serves rfp train --network RUN.

    What teaches: homographies of photographs and textures; with --rendered or --in-relief, rendered scenes or
    photographs in relief, and their exact correspondences; with --data, real posed pairs and the teacher's matches that
    the true pose confirms. The last three are the pairs of rfp train with the same seed, scenes and folders.
    """

    network: str | None = None
    """A pretrained network's name, or a run folder or weights file to go on from, batch-norm statistics frozen;
    without one, tiny from random weights."""
    photographs: Path | None = None
    """Folder of photographs, flat or worn by rendered scenes, or in relief; without one, textures alone teach."""
    rendered: bool = False
    """Learn from rendered scenes."""
    scenes: SceneOptions = field(default_factory=SceneOptions)
    """What is rendered with --rendered."""
    in_relief: bool = False
    """Learn from photographs in relief: the pairs of rfp train --in-relief, with exact correspondences."""
    relief: ReliefOptions = field(default_factory=ReliefOptions)
    """How they stand out, and the cameras that look at them."""
    data: tuple[Path, ...] = ()
    """Folders of posed pairs, or files of known sets, to learn from."""
    max_error_px: float = 1.0
    """With --rendered or --in-relief, how near a teacher's key point must be to the counterpart of another to label the
    detector; with --data, to the true epipolar geometry."""
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
    """Key points labelled in each source or image, at most."""
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
        for name in ("data", "validation"):
            command[name] = tuple(map(Path, command[name]))
        command["scenes"] = options_from_json(SceneOptions, command["scenes"])
        command["relief"] = options_from_json(ReliefOptions, command["relief"])
        command["photographs"] = Path(command["photographs"]) if command["photographs"] else None
        began = options_from_json(PretrainingOptions, options)
        return Pretrain(**command, output=folder, resume=folder, options=began)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the options of a run of rfp pretrain ({error}); give a run folder") from error


def check(command: Pretrain) -> None:
    """Refuse what cannot work before anything is loaded."""
    for name in ("crops", "source_size", "labels", "adaptations"):
        if getattr(command, name) < 1:
            raise InputError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(command, name)}")
    _check_kind_of_pairs(command)
    if command.textures < 0 or (command.textures == 0 and command.photographs is None):
        raise InputError(f"--textures: expected at least 1 or a folder of --photographs, got {command.textures}")
    if command.photographs is not None and not command.photographs.is_dir():
        raise InputError(f"{command.photographs}: expected a folder of photographs, found none")
    HomographyOptions(image_size=(command.view_size, command.view_size))
    if command.resume is not None:
        if command.output not in (None, command.resume):
            raise InputError(f"--output {command.output}: a resumed run stays in {command.resume}; leave --output out")
        _check_resumes_what_began(command)
    check_can_write(command.json)
    if command.output is not None and command.resume is None:
        check_no_run(command.output)


def _check_kind_of_pairs(command: Pretrain) -> None:
    """Refuse options of another kind than the one that teaches, which would change nothing."""
    flat = ("crops", "textures", "source_size", "view_size", "adaptations")
    scenes = command.rendered or command.in_relief or bool(command.data)
    if command.rendered + command.in_relief + bool(command.data) > 1:
        raise InputError(
            "--rendered, --in-relief and --data: expected one of them, got more; the pairs of a run are of one kind"
        )
    if command.in_relief and command.photographs is None:
        raise InputError("--in-relief: expected --photographs FOLDER, got none; they are what stands out")
    if not command.in_relief and command.relief != ReliefOptions():
        raise InputError("--relief.… are for --in-relief; say it, too")
    if command.data and (command.photographs is not None or command.teacher == CORNERS):
        raise InputError("--data: a network as --teacher proposes its matches; leave out --photographs, and no corners")
    if scenes and any(getattr(command, name) != getattr(Pretrain(), name) for name in flat):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in flat)
        raise InputError(f"{flags} are for homographies; leave them out beside --rendered, --in-relief and --data")
    if not command.rendered and command.scenes != SceneOptions():
        raise InputError("--scenes are for --rendered; say it, too")
    if not command.max_error_px > 0:
        raise InputError(f"--max-error-px: expected a number above 0, got {command.max_error_px}; 1 is usual")
    if command.options.distillation_weight and (scenes or command.teacher == CORNERS):
        raise InputError(
            "--distillation-weight is for homographies with a network as --teacher; corners have no descriptors"
        )


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
