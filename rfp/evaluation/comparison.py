"""Two runs on the same pairs, pair by pair: the difference of AUC with its interval, wins and losses."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.evaluation.auc import THRESHOLDS_DEG, pose_auc
from rfp.evaluation.bootstrap import (
    FEWEST_IMAGES,
    RESAMPLES,
    enough_images,
    image_counts,
    interval,
    pair_counts,
    resampled_auc,
)
from rfp.evaluation.pose_figures import Intervals, PairErrors
from rfp.evaluation.tables import align, as_markdown
from rfp.records import InputError

TIE_DEG = 0.1
"""Errors nearer to each other than this are neither won nor lost."""

HOPELESS_DEG = float(max(THRESHOLDS_DEG))
"""Errors are compared up to here: of two wrong poses none is the better one."""

COMPARED_SETTINGS = ("estimator", "max_error_px", "image_size", "num_keypoints", "nms_radius", "matching", "seed")


@dataclass(frozen=True)
class PairChange:
    """One pair in both runs."""

    name: str
    scene: str
    first_deg: float
    second_deg: float
    gain: float
    """What the change adds to the pair's mean of max(0, 1 - e / t) at 5, 10 and 20 degrees, in percent."""


@dataclass(frozen=True)
class Comparison:
    """The second run minus the first, in percent: positive where the second is better."""

    first: str
    second: str
    num_pairs: int
    auc_first: dict[str, float]
    auc_second: dict[str, float]
    difference: dict[str, float]
    difference_interval: Intervals
    """95 %, both runs on the same resampled images: what made a pair hard for both cancels."""
    difference_interval_by_pair: Intervals
    num_won: int
    """Pairs on which the second run's error is smaller by more than ``TIE_DEG``, both clipped at 20 degrees."""
    num_lost: int
    num_tied: int
    newly_solved: int
    """Pairs that failed, or were wrong by 20 degrees and more, in the first run only."""
    newly_unsolved: int
    changes: list[PairChange]
    """All pairs, those that changed most first."""
    differing_settings: dict[str, list[Any]]
    """[first, second] of each setting in which the runs differ: the difference is theirs too."""
    settings: dict[str, Any]
    """Of the first run."""


def compare(first: PairErrors, second: PairErrors) -> Comparison:
    """The runs compared on their common list of pairs.

    Raises:
        InputError: they are not runs on the same pairs.
    """
    second = _in_order_of(first, second)
    errors = [torch.tensor(run.errors_deg, dtype=torch.float64) for run in (first, second)]
    areas = [{f"{key:g}": value for key, value in pose_auc(each).items()} for each in errors]
    by_image, by_pair = _intervals(first, errors)
    clipped = [each.clamp_max(HOPELESS_DEG) for each in errors]
    gained = clipped[0] - clipped[1]
    solved = [each < HOPELESS_DEG for each in errors]
    settings = (first.settings, second.settings)
    return Comparison(
        first=first.label,
        second=second.label,
        num_pairs=len(first.errors_deg),
        auc_first=areas[0],
        auc_second=areas[1],
        difference={key: areas[1][key] - areas[0][key] for key in areas[0]},
        difference_interval=by_image,
        difference_interval_by_pair=by_pair,
        num_won=int((gained > TIE_DEG).sum()),
        num_lost=int((gained < -TIE_DEG).sum()),
        num_tied=int((gained.abs() <= TIE_DEG).sum()),
        newly_solved=int((solved[1] & ~solved[0]).sum()),
        newly_unsolved=int((solved[0] & ~solved[1]).sum()),
        changes=_changes(first, second),
        differing_settings={
            key: [each.get(key) for each in settings]
            for key in COMPARED_SETTINGS
            if settings[0].get(key) != settings[1].get(key)
        },
        settings=first.settings,
    )


def format_comparison(comparison: Comparison, *, markdown: bool = False, num_changes: int = 5) -> str:
    """Both runs and their difference as a table, the balance of the pairs, and those that changed most."""
    heads = [f"AUC@{threshold}" for threshold in comparison.difference]
    rows = [["", *heads]]
    for name, areas in ((comparison.first, comparison.auc_first), (comparison.second, comparison.auc_second)):
        rows.append([name, *(f"{value:.1f}" for value in areas.values())])
    rows.append(["difference", *(f"{value:+.1f}" for value in comparison.difference.values())])
    rows.append(["95%, images resampled", *map(_signed, comparison.difference_interval.values())])
    rows.append(["95%, pairs resampled", *map(_signed, comparison.difference_interval_by_pair.values())])
    changes = [["pairs that changed most", comparison.first, comparison.second]]
    for change in comparison.changes[:num_changes]:
        changes.append([change.name, *(_degrees(error) for error in (change.first_deg, change.second_deg))])
    table = as_markdown if markdown else align
    blocks = [table(rows), "\n\n".join(_sentences(comparison)) if markdown else "\n".join(_sentences(comparison))]
    return "\n\n".join([*blocks, table(changes)])


def _sentences(comparison: Comparison) -> list[str]:
    lines = [
        f"{comparison.second} is better on {comparison.num_won} of {comparison.num_pairs} pairs, worse on "
        f"{comparison.num_lost}, equal within {TIE_DEG:g}° on {comparison.num_tied} (errors clipped at "
        f"{HOPELESS_DEG:g}°); {comparison.newly_solved} newly below that, {comparison.newly_unsolved} no longer"
    ]
    for key, (one, two) in comparison.differing_settings.items():
        lines.append(f"the runs differ in {key} too: {one} and {two}")
    return lines


def _in_order_of(first: PairErrors, second: PairErrors) -> PairErrors:
    """The second run with its pairs in the order of the first."""
    if first.names == second.names:
        return second
    missing = [name for name in first.names if name not in set(second.names)]
    missing = missing or [name for name in second.names if name not in set(first.names)]
    if missing or len(first.names) != len(second.names) or len(set(first.names)) < len(first.names):
        what = f"{missing[0]!r} is in one of them only" if missing else "names occur several times, in another order"
        raise InputError(
            f"expected two runs on the same pairs, got {len(first.names)} ({first.label}) and {len(second.names)} "
            f"({second.label}): {what}; evaluate both on the same folders"
        )
    place = {name: number for number, name in enumerate(second.names)}
    order = [place[name] for name in first.names]
    return PairErrors(
        second.label,
        [second.errors_deg[number] for number in order],
        first.names,
        [second.scenes[number] for number in order],
        [second.images[number] for number in order] if second.images else [],
        second.settings,
    )


def _intervals(first: PairErrors, errors: Sequence[Float[Tensor, "N"]]) -> tuple[Intervals, Intervals]:
    """(images resampled, pairs resampled) of the differences."""
    generator = torch.Generator().manual_seed(0)
    by_image: Intervals = {f"{threshold:g}": None for threshold in THRESHOLDS_DEG}
    by_pair = by_image
    if first.images and enough_images(torch.tensor(first.images)):
        counts = image_counts(torch.tensor(first.images), first.scenes, RESAMPLES, generator)
        by_image = _difference_intervals(errors, counts)
    if len(errors[0]) >= FEWEST_IMAGES:
        by_pair = _difference_intervals(errors, pair_counts(len(errors[0]), RESAMPLES, generator))
    return by_image, by_pair


def _difference_intervals(errors: Sequence[Float[Tensor, "N"]], counts: Float[Tensor, "R N"]) -> Intervals:
    one, two = errors
    return {f"{t:g}": interval(resampled_auc(two, counts, t) - resampled_auc(one, counts, t)) for t in THRESHOLDS_DEG}


def _changes(first: PairErrors, second: PairErrors) -> list[PairChange]:
    changes = [
        PairChange(name, scene, one, two, 100 * (_credit(two) - _credit(one)))
        for name, scene, one, two in zip(first.names, first.scenes, first.errors_deg, second.errors_deg, strict=True)
    ]
    return sorted(changes, key=lambda change: (-abs(change.gain), -abs(change.first_deg - change.second_deg)))


def _credit(error_deg: float) -> float:
    return statistics.fmean(max(0.0, 1 - error_deg / threshold) for threshold in THRESHOLDS_DEG)


def _signed(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else f"{bounds[0]:+.1f} to {bounds[1]:+.1f}"


def _degrees(error_deg: float) -> str:
    return "failed" if error_deg == 180 else f"{error_deg:.2f}°"
