"""The figures of one evaluation: what was found for each pair, as a record, as JSON, and read again from a file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rfp.evaluation.bootstrap import Interval
from rfp.records import InputError

Intervals = dict[str, Interval | None]
"""[low, high] of 95 % by threshold in degrees; None where there are too few images or pairs to tell."""


@dataclass(frozen=True)
class SceneFigures:
    """The figures of one scene's pairs."""

    num_pairs: int
    num_failed: int
    auc: dict[str, float]
    median_error_deg: float
    mean_num_matches: float
    precision: float
    inlier_ratio: float = 0.0
    auc_interval: Intervals = field(default_factory=dict)


@dataclass(frozen=True)
class SceneMean:
    """The mean over the scenes: every scene counts the same, however many pairs it has."""

    num_scenes: int
    auc: dict[str, float]
    median_error_deg: float
    """The mean of the scenes' medians."""
    mean_num_matches: float
    precision: float
    inlier_ratio: float
    auc_interval: Intervals


@dataclass(frozen=True)
class EvaluationReport:
    """What :func:`rfp.evaluate` found. Angles in degrees, areas and shares in percent; lists run over the pairs."""

    auc: dict[str, float]
    """The integral AUC at "5", "10" and "20" degrees (:func:`rfp.evaluation.pose_auc`) of the pose error."""
    auc_binned: dict[str, float]
    """The one in 5-degree bins, which older papers report (:func:`rfp.evaluation.pose_auc_binned`)."""
    mean_clipped_accuracy: dict[str, float]
    errors_deg: list[float]
    """The larger of rotation and translation error; 180 for a pair without an estimate."""
    rotation_errors_deg: list[float]
    translation_errors_deg: list[float]
    """Between directions, t and -t taken as one (at most 90 but for failures), as everyone reports it."""
    median_error_deg: float
    num_pairs: int
    num_failed: int
    """Pairs with fewer than five matches, or without an estimate. They count, with 180 degrees."""
    num_matches: list[int]
    num_inliers: list[int]
    precisions: list[float]
    """Share of each pair's matches within ``max_error_px`` (Sampson) of the true epipolar geometry; 0 without any."""
    precision: float
    """Their mean over the pairs."""
    scenes: dict[str, SceneFigures]
    names: list[str]
    settings: dict[str, Any]
    """Estimator, threshold, image size, budget of key points, …: a figure means nothing without them."""
    seconds: dict[str, float]
    """Time spent on decoding, features, matching and estimation."""
    median_rotation_deg: float = 180.0
    median_translation_deg: float = 180.0
    inlier_ratio: float = 0.0
    """Mean over the pairs of the estimator's inliers as a share of the matches; 0 for a pair without matches."""
    auc_interval: Intervals = field(default_factory=dict)
    """95 % of each AUC, the *images* of each scene resampled: the one printed (:mod:`rfp.evaluation.bootstrap`)."""
    auc_interval_by_pair: Intervals = field(default_factory=dict)
    """The same with the *pairs* resampled: too narrow where pairs share images."""
    scene_mean: SceneMean | None = None
    """None where there is only one scene."""
    pair_scenes: list[str] = field(default_factory=list)
    pair_images: list[list[int]] = field(default_factory=list)
    """The numbers of each pair's two images: equal numbers are the same image."""

    def to_json(self) -> str:
        """The report as JSON text, one field a key."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)


@dataclass(frozen=True)
class PairErrors:
    """What a comparison needs of a run: its errors pair by pair, and what they were made with."""

    label: str
    errors_deg: list[float]
    names: list[str]
    scenes: list[str]
    images: list[list[int]]
    """Empty where the file does not say which pairs share images."""
    settings: dict[str, Any]


def pair_errors(report: EvaluationReport, label: str) -> PairErrors:
    """The report's errors under a name."""
    return PairErrors(label, report.errors_deg, report.names, report.pair_scenes, report.pair_images, report.settings)


def read_pair_errors(path: Path) -> PairErrors:
    """The errors in a file that ``rfp evaluate --json`` wrote.

    Raises:
        InputError: no such file, no JSON, or not such figures.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of rfp evaluate --json") from None
    except ValueError as error:
        raise InputError(f"{path}: expected JSON that rfp evaluate wrote, but: {error}") from None
    wanted = {"errors_deg": list, "names": list, "settings": dict}
    missing = [
        key for key, kind in wanted.items() if not isinstance(figures, dict) or not isinstance(figures.get(key), kind)
    ]
    if missing:
        raise InputError(f"{path}: expected figures of rfp evaluate, found no {missing[0]}; write them by --json")
    errors, names = figures["errors_deg"], figures["names"]
    if not errors or not all(isinstance(error, int | float) and 0 <= error <= 180 for error in errors):
        raise InputError(f"{path}: errors_deg: expected numbers from 0 to 180, one a pair; evaluate again")
    scenes = figures.get("pair_scenes") or ["all"] * len(errors)
    images = figures.get("pair_images") or []
    if not len(errors) == len(names) == len(scenes) or (images and len(images) != len(errors)):
        raise InputError(f"{path}: expected as many names as errors ({len(errors)}), got {len(names)}; evaluate again")
    return PairErrors(str(figures.get("network") or path.stem), errors, names, scenes, images, figures["settings"])
