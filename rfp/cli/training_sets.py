"""The pairs of ``rfp train`` by their role: read from folders, or made where no folder is given."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from rfp.cli.pretraining_command import Pretrain
from rfp.cli.training_command import Train
from rfp.data.pairs import PairSequence
from rfp.data.photographs import load_photographs
from rfp.data.sets import OpenedPairs, needs_image_folder, open_posed_pairs
from rfp.data.synthetic import ReliefOptions, ReliefPairs, RenderedPairs, RenderedSet, SceneOptions
from rfp.records import InputError, PosedPair

VALIDATION_SEED = 1_000_003
"""Of the rendered pairs that select the weights, and the next one of those in the table: fixed, so that runs of any
seed are judged on the same pairs."""
PHOTOGRAPHS = 500
"""Of a folder that are worn by rendered scenes at most: 0.8 GB of crops."""
HELD_OUT = "rendered, held out"


@dataclass(frozen=True)
class TrainingSets:
    """The pairs of a run by their role."""

    train: OpenedPairs | RenderedPairs | ReliefPairs
    validation: Sequence[PosedPair] | None
    reports: dict[str, Sequence[PosedPair]]
    left_out: int = 0
    """Pairs of --data with an image that cannot be read."""

    def shown(self) -> PosedPair:
        """The pair of the picture before and after: one that taught nothing, where there is one."""
        pairs = next(iter(self.reports.values()), self.validation)
        if pairs is None:
            train = self.train
            pairs = (
                train.fixed_set(1, seed=VALIDATION_SEED) if isinstance(train, RenderedPairs | ReliefPairs) else train
            )
        middle = len(pairs) // 2
        return _first_readable(pairs, [*range(middle, len(pairs)), *range(middle)])


def _first_readable(pairs: PairSequence, order: Sequence[int]) -> PosedPair:
    """The first pair in this order that can be read: an image may have broken during the run."""
    for index in order[:-1]:
        with suppress(InputError):
            return pairs[index]
    return pairs[order[-1]]


def training_sets(command: Train, device: torch.device) -> TrainingSets:
    """Read from folders, or rendered where no folder is given."""
    validation = _checked_pairs(command.validation, command) if command.validation else None
    reports: dict[str, Sequence[PosedPair]] = dict(_report_sets(command))
    if command.data:
        pairs, left_out = _readable_pairs(command.data, command)
        return TrainingSets(pairs, validation, reports, left_out)
    train = made_pairs(command)
    if validation is None and command.rendered_validation:
        print(f"rendering {command.rendered_validation} pairs that select the weights")
        validation = train.fixed_set(command.rendered_validation, seed=VALIDATION_SEED, device=device)
    if command.rendered_report:
        print(f"rendering {command.rendered_report} pairs of held-out layouts and textures for the table")
        reports[HELD_OUT] = held_out_scenes(command, device)
    return TrainingSets(train, validation, reports)


def made_pairs(command: Train | Pretrain) -> RenderedPairs | ReliefPairs:
    """The stream that teaches where there is no --data."""
    if command.in_relief:
        assert command.photographs is not None  # checked before
        return relief_pairs(command.photographs, command.relief)
    return rendered_pairs(command.scenes, command.photographs)


def relief_pairs(folder: Path, relief: ReliefOptions) -> ReliefPairs:
    """The stream of the photographs of a folder in relief, three crops of each."""
    draw = torch.Generator().manual_seed(VALIDATION_SEED)
    photographs = load_photographs(
        folder,
        size=int(1.5 * max(relief.image_size)),
        crops=3,
        largest_scale=2.0,
        limit=PHOTOGRAPHS,
        dtype=torch.uint8,
        generator=draw,
    )
    return ReliefPairs(photographs, relief)


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
        InputError: an image that cannot be read with --strict, no pair is left, or intrinsics of another image.
    """
    pairs = _open(folders, command)
    problems = {} if command.trainer.strict else pairs.unreadable_images()
    readable = pairs.without_images(problems) if problems else pairs
    readable.check_images()  # with --strict the first unreadable one ends it here
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
