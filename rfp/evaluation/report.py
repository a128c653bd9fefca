"""Pose figures as tables, of text or of Markdown, with a line under each that says what they were made with."""

import statistics
from collections.abc import Mapping
from typing import Any

from rfp.evaluation.pose_figures import EvaluationReport, SceneFigures, SceneMean
from rfp.evaluation.tables import describe_features, format_interval, with_notes

INTERVALS = "95% intervals: the images of each scene resampled, not the pairs, since pairs share images"

REST = ["median", "failed", "matches", "inliers", "precision"]
"""The heads of the columns beside the areas."""


def format_table(reports: Mapping[str, EvaluationReport]) -> str:
    """Reports side by side, one a row, under the settings they share."""
    settings = next(iter(reports.values())).settings
    header = ["", "AUC@5", "AUC@10", "AUC@20", "median", "failed", "matches", "precision"]
    rows = []
    for name, report in reports.items():
        figures = [f"{value:.1f}" for value in report.auc.values()]
        matches = statistics.fmean(report.num_matches)
        rest = [f"{report.median_error_deg:.2f}°", str(report.num_failed), f"{matches:.0f}", f"{report.precision:.1f}%"]
        rows.append([name, *figures, *rest])
    return with_notes([header, *rows], [describe_settings(settings)])


def format_scenes(report: EvaluationReport) -> str:
    """One row a scene and, where there are several, one for all pairs and one for the mean over the scenes."""
    return with_notes(scene_rows(report), [*_notes(report), describe_time(report)])


def format_scenes_markdown(report: EvaluationReport) -> str:
    """The same as a Markdown table."""
    return with_notes(scene_rows(report, markdown=True), _notes(report), markdown=True)


def scene_rows(report: EvaluationReport, *, markdown: bool = False) -> list[list[str]]:
    """The cells of the table of scenes, the header first. In Markdown an interval stands beside its figure."""
    intervals = has_intervals(report) and not markdown
    rows = [["scene", "pairs", *interval_heads(report, markdown), *REST]]
    for name, scene in report.scenes.items():
        rows.append([name, str(scene.num_pairs), *_areas(scene, markdown, intervals), *_rest(scene)])
    if len(report.scenes) > 1:
        rows.append(["all", str(report.num_pairs), *report_cells(report, markdown)])
    if report.scene_mean is not None:
        mean = report.scene_mean
        rows.append([f"mean of {mean.num_scenes} scenes", "", *_areas(mean, markdown, intervals), *_rest(mean)])
    return rows


def interval_heads(report: EvaluationReport, markdown: bool) -> list[str]:
    """The heads of the areas and, in text, of their intervals beside them."""
    areas = [f"AUC@{threshold}" for threshold in report.auc]
    return areas + ([f"95% @{threshold}" for threshold in report.auc] if has_intervals(report) and not markdown else [])


def report_cells(report: EvaluationReport, markdown: bool) -> list[str]:
    """All pairs of a report under ``interval_heads`` and ``REST``."""
    rest = [f"{report.median_error_deg:.2f}°", str(report.num_failed), f"{statistics.fmean(report.num_matches):.0f}"]
    rest += [f"{report.inlier_ratio:.1f}%", f"{report.precision:.1f}%"]
    return [*_areas(report, markdown, has_intervals(report)), *rest]


def has_intervals(report: EvaluationReport) -> bool:
    """Whether there were images enough for an interval anywhere."""
    return any(any(figures.auc_interval.values()) for figures in (report, *report.scenes.values()))


def describe_settings(settings: Mapping[str, Any]) -> str:
    """The line under a table: what its figures were made with."""
    estimator = f"{settings['estimator']} at {settings['max_error_px']:g} px{_chosen(settings)}"
    return f"{estimator}, {describe_features(settings)}"


def describe_time(report: EvaluationReport) -> str:
    """Seconds by stage."""
    parts = [f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items()]
    return f"time for {report.num_pairs} pairs: {', '.join(parts)}"


def _notes(report: EvaluationReport) -> list[str]:
    return [describe_settings(report.settings), *([INTERVALS] if has_intervals(report) else [])]


def _chosen(settings: Mapping[str, Any]) -> str:
    tried = settings.get("thresholds_tried_px") or []
    return f" (chosen from {len(tried)} on these pairs)" if len(tried) > 1 else ""


def _areas(figures: EvaluationReport | SceneFigures | SceneMean, markdown: bool, intervals: bool) -> list[str]:
    values = [f"{value:.1f}" for value in figures.auc.values()]
    ranges = [format_interval(figures.auc_interval.get(threshold)) for threshold in figures.auc]
    if not markdown:
        return [*values, *(ranges if intervals else [])]
    return [f"{value} ({text})" if text != "–" else value for value, text in zip(values, ranges)]


def _rest(figures: SceneFigures | SceneMean) -> list[str]:
    failed = str(figures.num_failed) if isinstance(figures, SceneFigures) else ""
    shares = [f"{figures.inlier_ratio:.1f}%", f"{figures.precision:.1f}%"]
    return [f"{figures.median_error_deg:.2f}°", failed, f"{figures.mean_num_matches:.0f}", *shares]
