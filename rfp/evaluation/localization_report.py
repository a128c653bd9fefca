"""The figures of localisation: query by query, their shares with intervals, and the table of them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rfp.evaluation.bootstrap import FEWEST_IMAGES, RESAMPLES, Interval, interval, pair_counts, resampled_mean
from rfp.evaluation.pose_figures import Intervals
from rfp.evaluation.tables import describe_features, interval_rows, with_notes

INTERVALS = "95% intervals: the queries resampled, none where they all agree; the scene is held fixed"


@dataclass(frozen=True)
class QueryFigures:
    """One localised image."""

    name: str
    position_error: float | None
    """Distance between the camera centres, in units of the scene; None where no pose was found."""
    rotation_error_deg: float | None
    num_points: int
    """Of the scene that the query was matched with."""
    num_matches: int
    """Pairs of a key point of the query and a point of the scene."""
    num_inliers: int


@dataclass(frozen=True)
class LocalizationReport:
    """What ``evaluate_localization`` found; a query without a pose counts, as one that is infinitely far off."""

    within: dict[str, float]
    """The share of queries within both of each threshold, in percent, by "0.25, 2°", …"""
    median_position_error: float | None
    """In units of the scene; None where most queries have no pose."""
    median_rotation_error_deg: float | None
    num_queries: int
    num_failed: int
    mean_num_points: float
    mean_num_inliers: float
    queries: list[QueryFigures]
    settings: dict[str, Any]
    within_interval: Intervals = field(default_factory=dict)
    """[low, high] of 95 % of each share, the queries resampled; None of fewer than five queries, and where all of them
    or none are within: then every resample says the same."""


def summarise_localization(
    queries: list[QueryFigures], thresholds: Sequence[tuple[float, float]], settings: dict[str, Any]
) -> LocalizationReport:
    """The report of at least one query. Its intervals repeat: their resamples are drawn from a seed of their own."""
    positions, rotations = (
        [math.inf if error is None else error for error in errors]
        for errors in (
            [query.position_error for query in queries],
            [query.rotation_error_deg for query in queries],
        )
    )
    medians = [statistics.median(errors) for errors in (positions, rotations)]
    within = {
        f"{distance:g}, {degrees:g}°": [p <= distance and r <= degrees for p, r in zip(positions, rotations)]
        for distance, degrees in thresholds
    }
    return LocalizationReport(
        within={name: 100 * statistics.fmean(each) for name, each in within.items()},
        median_position_error=medians[0] if math.isfinite(medians[0]) else None,
        median_rotation_error_deg=medians[1] if math.isfinite(medians[1]) else None,
        num_queries=len(queries),
        num_failed=sum(query.position_error is None for query in queries),
        mean_num_points=statistics.fmean(query.num_points for query in queries),
        mean_num_inliers=statistics.fmean(query.num_inliers for query in queries),
        queries=queries,
        settings=settings,
        within_interval={name: _interval(each) for name, each in within.items()},
    )


def _interval(within: Sequence[bool]) -> Interval | None:
    if len(within) < FEWEST_IMAGES or len(set(within)) == 1:
        return None
    counts = pair_counts(len(within), RESAMPLES, torch.Generator().manual_seed(0))
    return interval(resampled_mean(100 * torch.tensor(within, dtype=torch.float64), counts))


def format_localizations(reports: Mapping[str, LocalizationReport], *, markdown: bool = False) -> str:
    """One row a report, and under them the settings that they share."""
    first = next(iter(reports.values()))
    rows = [["", "queries", *first.within, "position", "rotation", "failed", "points", "inliers"]]
    for name, report in reports.items():
        intervals = [report.within_interval.get(threshold) for threshold in report.within]
        rows += interval_rows([name, *_columns(report)], [None, None, *intervals, *[None] * 5], markdown=markdown)
    settings = first.settings
    notes = [
        f"shares in % within (units of the scene, degrees), medians; {settings['estimator']} at "
        f"{settings['max_error_px']:g} px of the stored images, {settings['folds']} folds",
        describe_features(settings),
    ]
    resampled = any(any(report.within_interval.values()) for report in reports.values())
    return with_notes(rows, notes + [INTERVALS] * resampled, markdown=markdown)


def _columns(report: LocalizationReport) -> list[str]:
    position, rotation = report.median_position_error, report.median_rotation_error_deg
    return [
        str(report.num_queries),
        *(f"{share:.1f}" for share in report.within.values()),
        "–" if position is None else f"{position:.3g}",
        "–" if rotation is None else f"{rotation:.3f}°",
        str(report.num_failed),
        f"{report.mean_num_points:.0f}",
        f"{report.mean_num_inliers:.0f}",
    ]
