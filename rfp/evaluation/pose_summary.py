"""From the figures of each pair to those of a scene, of the mean over scenes, and of all pairs."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.evaluation.auc import THRESHOLDS_DEG, mean_clipped_accuracy, pose_auc, pose_auc_binned
from rfp.evaluation.bootstrap import (
    FEWEST_IMAGES,
    RESAMPLES,
    enough_images,
    image_counts,
    interval,
    pair_counts,
    resampled_auc,
)
from rfp.evaluation.pose_figures import EvaluationReport, Intervals, SceneFigures, SceneMean


@dataclass(frozen=True)
class PairFigures:
    """What was found for one pair; shares in percent."""

    scene: str
    name: str
    images: tuple[int, int]
    rotation_deg: float
    translation_deg: float
    failed: bool
    num_matches: int
    num_inliers: int
    precision: float

    @property
    def error_deg(self) -> float:
        return max(self.rotation_deg, self.translation_deg)

    @property
    def inlier_ratio(self) -> float:
        return 100 * self.num_inliers / self.num_matches if self.num_matches else 0.0


def summarise(figures: Sequence[PairFigures], settings: dict[str, Any], seconds: dict[str, float]) -> EvaluationReport:
    """The report of at least one pair. Its intervals repeat: their resamples are drawn from a seed of their own."""
    errors = [pair.error_deg for pair in figures]
    resampled = _Resampled(figures)
    members: dict[str, list[int]] = defaultdict(list)
    for number, pair in enumerate(figures):
        members[pair.scene].append(number)
    scenes = {scene: _scene([figures[n] for n in numbers], resampled.of(numbers)) for scene, numbers in members.items()}
    return EvaluationReport(
        auc=_keyed(pose_auc(errors)),
        auc_binned=_keyed(pose_auc_binned(errors)),
        mean_clipped_accuracy=_keyed(mean_clipped_accuracy(errors)),
        errors_deg=errors,
        rotation_errors_deg=[pair.rotation_deg for pair in figures],
        translation_errors_deg=[pair.translation_deg for pair in figures],
        median_error_deg=statistics.median(errors),
        num_pairs=len(figures),
        num_failed=sum(pair.failed for pair in figures),
        num_matches=[pair.num_matches for pair in figures],
        num_inliers=[pair.num_inliers for pair in figures],
        precisions=[pair.precision for pair in figures],
        precision=statistics.fmean(pair.precision for pair in figures),
        scenes=scenes,
        names=[pair.name for pair in figures],
        settings=settings,
        seconds=seconds,
        median_rotation_deg=statistics.median(pair.rotation_deg for pair in figures),
        median_translation_deg=statistics.median(pair.translation_deg for pair in figures),
        inlier_ratio=statistics.fmean(pair.inlier_ratio for pair in figures),
        auc_interval=resampled.of(range(len(figures))),
        auc_interval_by_pair=resampled.by_pair(),
        scene_mean=_mean(list(scenes.values()), resampled.of_mean(members)) if len(scenes) > 1 else None,
        pair_scenes=[pair.scene for pair in figures],
        pair_images=[list(pair.images) for pair in figures],
    )


class _Resampled:
    """The same resamples for every figure, so that pooled pairs, scenes and their mean belong together."""

    def __init__(self, figures: Sequence[PairFigures]) -> None:
        self.errors = torch.tensor([pair.error_deg for pair in figures], dtype=torch.float64)
        self.images = torch.tensor([pair.images for pair in figures])
        generator = torch.Generator().manual_seed(0)
        self.counts = image_counts(self.images, [pair.scene for pair in figures], RESAMPLES, generator)
        self.generator = generator

    def of(self, members: Sequence[int]) -> Intervals:
        """With the images resampled, of these pairs."""
        return {key: interval(samples) for key, samples in self._samples(members).items()}

    def of_mean(self, scenes: Mapping[str, list[int]]) -> Intervals:
        """Of the mean over the scenes."""
        samples = [self._samples(members) for members in scenes.values()]
        return {key: interval(torch.stack([each[key] for each in samples]).mean(dim=0)) for key in samples[0]}

    def by_pair(self) -> Intervals:
        """With the pairs resampled, of all pairs."""
        if len(self.errors) < FEWEST_IMAGES:
            return {f"{threshold:g}": None for threshold in THRESHOLDS_DEG}
        counts = pair_counts(len(self.errors), RESAMPLES, self.generator)
        return {f"{t:g}": interval(resampled_auc(self.errors, counts, t)) for t in THRESHOLDS_DEG}

    def _samples(self, members: Sequence[int]) -> dict[str, Float[Tensor, "R"]]:
        """By threshold; all NaN where there are too few images."""
        chosen = torch.tensor(list(members))
        if not enough_images(self.images[chosen]):
            return {f"{threshold:g}": torch.full((RESAMPLES,), torch.nan) for threshold in THRESHOLDS_DEG}
        counts = self.counts[:, chosen]
        return {f"{t:g}": resampled_auc(self.errors[chosen], counts, t) for t in THRESHOLDS_DEG}


def _scene(pairs: list[PairFigures], auc_interval: Intervals) -> SceneFigures:
    errors = [pair.error_deg for pair in pairs]
    return SceneFigures(
        num_pairs=len(pairs),
        num_failed=sum(pair.failed for pair in pairs),
        auc=_keyed(pose_auc(errors)),
        median_error_deg=statistics.median(errors),
        mean_num_matches=statistics.fmean(pair.num_matches for pair in pairs),
        precision=statistics.fmean(pair.precision for pair in pairs),
        inlier_ratio=statistics.fmean(pair.inlier_ratio for pair in pairs),
        auc_interval=auc_interval,
    )


def _mean(scenes: list[SceneFigures], auc_interval: Intervals) -> SceneMean:
    return SceneMean(
        num_scenes=len(scenes),
        auc={key: statistics.fmean(scene.auc[key] for scene in scenes) for key in scenes[0].auc},
        median_error_deg=statistics.fmean(scene.median_error_deg for scene in scenes),
        mean_num_matches=statistics.fmean(scene.mean_num_matches for scene in scenes),
        precision=statistics.fmean(scene.precision for scene in scenes),
        inlier_ratio=statistics.fmean(scene.inlier_ratio for scene in scenes),
        auc_interval=auc_interval,
    )


def _keyed(figures: Mapping[int | float, float]) -> dict[str, float]:
    return {f"{threshold:g}": value for threshold, value in figures.items()}
