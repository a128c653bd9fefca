"""The figures of a network on views of planes: pair by pair, their means with intervals, and the table of them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.evaluation.auc import pose_auc
from rfp.evaluation.bootstrap import (
    FEWEST_GROUPS,
    RESAMPLES,
    enough_images,
    group_counts,
    interval,
    resampled_auc,
    resampled_mean,
)
from rfp.evaluation.homography import CORNER_THRESHOLDS_PX, THRESHOLDS_PX
from rfp.evaluation.pose_figures import Intervals
from rfp.evaluation.tables import describe_features, interval_rows, with_notes

RESAMPLED = f"pairs that share images resampled together, of fewer than {FEWEST_GROUPS} such groups the images"

SHOWN_PX = (1, 3, 5, 10)
"""Of the mean matching accuracy, in the table."""


@dataclass(frozen=True)
class PlanarPairFigures:
    """The figures of one pair; shares in percent."""

    scene: str
    name: str
    images: tuple[int, int]
    """The numbers of its two images: equal numbers are the same image."""
    num_keypoints: tuple[int, int]
    num_matches: int
    matching_accuracy: dict[str, float]
    """The share of matches within "1", …, "10" pixels of the true homography (0 without any match)."""
    repeatability: float
    matching_score: float
    corner_error_px: float | None
    """None where the estimator found no homography: an infinite error."""
    num_inliers: int


@dataclass(frozen=True)
class HomographyReport:
    """What :func:`evaluate_homographies` found: means over the pairs, every pair counting the same, in percent."""

    matching_accuracy: dict[str, float]
    """D2-Net's mean matching accuracy at "1", …, "10" pixels (:func:`rfp.evaluation.homography.matching_accuracy`)."""
    repeatability: float
    matching_score: float
    homography_auc: dict[str, float]
    """The area under the curve of corner errors up to "1", "3" and "5" pixels."""
    homography_accuracy: dict[str, float]
    """SuperPoint's share of pairs with a corner error of at most "1", "3" and "5" pixels."""
    num_pairs: int
    num_failed: int
    """Pairs without a homography. They count, with an infinite error."""
    mean_num_matches: float
    groups: dict[str, "HomographyReport"]
    """The same of each part: HPatches's changes of illumination and of viewpoint, else each scene (if several)."""
    pairs: list[PlanarPairFigures]
    settings: dict[str, Any]
    matching_accuracy_interval: Intervals = field(default_factory=dict)
    """[low, high] of 95 % by threshold in pixels (:func:`rfp.evaluation.bootstrap.group_counts`); None where there are
    too few images to tell."""
    homography_auc_interval: Intervals = field(default_factory=dict)

    @property
    def corner_errors_px(self) -> list[float]:
        """Of the pairs, infinite where the estimator found no homography."""
        return corner_errors_px(self.pairs)


def summarise_homographies(
    figures: list[PlanarPairFigures], settings: dict[str, Any], *, part: bool = False
) -> HomographyReport:
    """The report of at least one pair. Its intervals repeat: their resamples are drawn from a seed of their own."""
    corner_errors = corner_errors_px(figures)
    accuracies = {f"{px}": [pair.matching_accuracy[f"{px}"] for pair in figures] for px in THRESHOLDS_PX}
    counts = resampled_counts(figures)
    members: dict[str, list[PlanarPairFigures]] = {}
    if not part:
        for pair, name in zip(figures, group_names([pair.scene for pair in figures])):
            members.setdefault(name, []).append(pair)
    return HomographyReport(
        matching_accuracy={px: statistics.fmean(values) for px, values in accuracies.items()},
        repeatability=statistics.fmean(pair.repeatability for pair in figures),
        matching_score=statistics.fmean(pair.matching_score for pair in figures),
        homography_auc=keyed(pose_auc(corner_errors, CORNER_THRESHOLDS_PX)),
        homography_accuracy=keyed(
            {
                threshold: 100 * statistics.fmean(error <= threshold for error in corner_errors)
                for threshold in CORNER_THRESHOLDS_PX
            }
        ),
        num_pairs=len(figures),
        num_failed=sum(pair.corner_error_px is None for pair in figures),
        mean_num_matches=statistics.fmean(pair.num_matches for pair in figures),
        groups={
            name: summarise_homographies(group, settings, part=True)
            for name, group in members.items()
            if len(members) > 1
        },
        pairs=[] if part else figures,
        settings=settings,
        matching_accuracy_interval={
            px: None if counts is None else interval(resampled_mean(_double(values), counts))
            for px, values in accuracies.items()
        },
        homography_auc_interval={
            f"{px}": None if counts is None else interval(resampled_auc(_double(corner_errors), counts, px))
            for px in CORNER_THRESHOLDS_PX
        },
    )


def corner_errors_px(figures: Sequence[PlanarPairFigures]) -> list[float]:
    """Of each pair, infinite where the estimator found no homography."""
    return [math.inf if pair.corner_error_px is None else pair.corner_error_px for pair in figures]


def resampled_counts(figures: Sequence[PlanarPairFigures]) -> Float[Tensor, "R N"] | None:
    """How often each of N pairs counts in each of R resamples; None where there are too few images."""
    images = torch.tensor([pair.images for pair in figures])
    if not enough_images(images):
        return None
    return group_counts(images, RESAMPLES, torch.Generator().manual_seed(0))


def group_names(scenes: Sequence[str]) -> list[str]:
    """What figures are told apart by: HPatches's two halves where all scenes are named as its are, else the scenes."""
    halves = {"i_": "illumination", "v_": "viewpoint"}
    if all(scene[:2] in halves for scene in scenes):
        return [halves[scene[:2]] for scene in scenes]
    return list(scenes)


def format_homographies(reports: Mapping[str, HomographyReport], *, groups: bool = True, markdown: bool = False) -> str:
    """One row a report and, below each, one row for each part of it; under them the settings that they share."""
    header = ["", "pairs", *(f"MMA@{px}" for px in SHOWN_PX), "repeat.", "M.score"]
    rows = [[*header, *(f"AUC@{px}" for px in CORNER_THRESHOLDS_PX), "failed", "matches"]]
    for name, report in reports.items():
        rows += _rows(name, report, markdown)
        for part, figures in report.groups.items() if groups else ():
            rows += _rows(f"{name}: {part}" if markdown else f"  {part}", figures, markdown)
    first = next(iter(reports.values()))
    settings = first.settings
    notes = [
        f"repeatability and matching score at {settings['correct_px']:g} px, AUC of the corner error by "
        f"{settings['estimator']} at {settings['max_error_px']:g} px",
        describe_features(settings),
    ]
    # A part has no more images than the whole, so where the whole has no interval, none has.
    return with_notes(
        rows, notes + [f"95% intervals: {RESAMPLED}"] * any(first.homography_auc_interval.values()), markdown=markdown
    )


def _rows(name: str, report: HomographyReport, markdown: bool) -> list[list[str]]:
    accuracy = [report.matching_accuracy[f"{px}"] for px in SHOWN_PX]
    shares = [*accuracy, report.repeatability, report.matching_score, *report.homography_auc.values()]
    intervals = [
        *(report.matching_accuracy_interval.get(f"{px}") for px in SHOWN_PX),
        *(None, None),
        *(report.homography_auc_interval.get(px) for px in report.homography_auc),
    ]
    row = [name, str(report.num_pairs), *(f"{share:.1f}" for share in shares)]
    rest = [str(report.num_failed), f"{report.mean_num_matches:.0f}"]
    return interval_rows([*row, *rest], [None, None, *intervals, None, None], markdown=markdown)


def _double(values: Sequence[float]) -> Float[Tensor, "N"]:
    return torch.tensor(values, dtype=torch.float64)


def keyed(figures: Mapping[Any, float]) -> dict[str, float]:
    """By the thresholds as text, as JSON has them."""
    return {f"{threshold:g}": value for threshold, value in figures.items()}
