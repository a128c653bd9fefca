"""The figures of one evaluation: as a record, as JSON, as a table."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SceneFigures:
    """The figures of one scene's pairs."""

    num_pairs: int
    num_failed: int
    auc: dict[str, float]
    median_error_deg: float
    mean_num_matches: float
    precision: float


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

    def to_json(self) -> str:
        """The report as JSON text, one field a key."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)


def format_table(reports: Mapping[str, EvaluationReport]) -> str:
    """Reports side by side, one a row, under the settings they share."""
    settings = next(iter(reports.values())).settings
    header = ["", "AUC@5", "AUC@10", "AUC@20", "median", "failed", "matches", "precision"]
    rows = [[name, *_columns(report)] for name, report in reports.items()]
    return f"{_align([header, *rows])}\n{describe_settings(settings)}"


def format_scenes(report: EvaluationReport) -> str:
    """One row a scene and, where there are several, one for all of them."""
    header = ["scene", "pairs", "AUC@5", "AUC@10", "AUC@20", "median", "failed", "matches", "precision"]
    rows = []
    for name, scene in report.scenes.items():
        figures = [*scene.auc.values()]
        rest = _rest(scene.median_error_deg, scene.num_failed, scene.mean_num_matches, scene.precision)
        rows.append([name, str(scene.num_pairs), *(f"{value:.1f}" for value in figures), *rest])
    if len(rows) > 1:
        rows.append(["all", str(report.num_pairs), *_columns(report)])
    return f"{_align([header, *rows])}\n{describe_settings(report.settings)}"


def describe_settings(settings: Mapping[str, Any]) -> str:
    """The line under a table: what its figures were made with."""
    size = f"{settings['image_size']} px" if settings["image_size"] else "stored sizes"
    return (
        f"{settings['estimator']} at {settings['max_error_px']:g} px, images of {size}, "
        f"{settings['num_keypoints']} key points, NMS radius {settings['nms_radius']}, mutual nearest neighbours"
    )


def _columns(report: EvaluationReport) -> list[str]:
    matches = statistics.fmean(report.num_matches)
    rest = _rest(report.median_error_deg, report.num_failed, matches, report.precision)
    return [*(f"{value:.1f}" for value in report.auc.values()), *rest]


def _rest(median: float, failed: int, matches: float, precision: float) -> list[str]:
    return [f"{median:.2f}°", str(failed), f"{matches:.0f}", f"{precision:.1f}%"]


def _align(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
