"""The pictures of ``rfp evaluate-homographies``: curves of matches and of homographies, and the worst pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from rfp.cli.evaluation_pictures import PAIRS_DRAWN, Deployment, match_again
from rfp.evaluation.bootstrap import recall_band
from rfp.evaluation.homography import transfer_error_px
from rfp.evaluation.homography_evaluation import PlanarPair
from rfp.evaluation.homography_report import RESAMPLED, HomographyReport, resampled_counts
from rfp.evaluation.report import describe_settings
from rfp.evaluation.tables import describe_features
from rfp.plotting import (
    AccuracyCurve,
    DrawnMatches,
    ErrorCurve,
    draw_accuracy_curves,
    draw_error_curves,
    draw_matches_of_networks,
    save_figure,
)

LARGEST_PX = 10.0


def draw_homography_curves(reports: Mapping[str, HomographyReport], folder: Path) -> None:
    """``matching_accuracy.png`` over 1 to 10 pixels, and ``homography_errors.png``, one line a network in both."""
    settings = next(iter(reports.values())).settings
    errors = {name: _error_curve(report) for name, report in reports.items()}
    shaded = f"; shaded: 95%, {RESAMPLED}" if any(curve.band is not None for curve in errors.values()) else ""
    accuracies = {
        name: AccuracyCurve(report.matching_accuracy, report.matching_accuracy_interval)
        for name, report in reports.items()
    }
    figure = draw_accuracy_curves(accuracies, note=f"{describe_features(settings)}{shaded}")
    save_figure(figure, folder / "matching_accuracy.png")
    note = f"{describe_settings(settings)}{shaded}"
    quantity = "error of the corners under the homography (pixels)"
    figure = draw_error_curves(errors, largest=LARGEST_PX, quantity=quantity, note=note)
    save_figure(figure, folder / "homography_errors.png")


def draw_worst_planes(
    reports: Mapping[str, HomographyReport], pairs: Sequence[PlanarPair], deployment: Deployment, folder: Path
) -> None:
    """``worst_1.png``, …: the pairs with the largest error of the first network, with the matches of every network.

    Of pairs without a homography those with the fewest matches near the true one come first.
    """
    first = next(iter(reports.values()))
    errors, accuracy = first.corner_errors_px, [pair.matching_accuracy["3"] for pair in first.pairs]
    order = sorted(range(len(pairs)), key=lambda number: (-errors[number], accuracy[number]))
    for rank, number in enumerate(order[:PAIRS_DRAWN], start=1):
        pair, rows = pairs[number], {}
        for label, report in reports.items():
            _, (xy1_px, xy2_px) = match_again(pair, deployment, label)
            error_px = transfer_error_px(xy1_px, xy2_px, pair.H.cpu())
            title = f"{pair.name}, {label}, {_error(report.pairs[number].corner_error_px)}"
            rows[title] = DrawnMatches(xy1_px, xy2_px, error_px=error_px, geometry="true homography")
        figure = draw_matches_of_networks(pair.image1, pair.image2, rows, max_error_px=deployment.max_error_px)
        save_figure(figure, folder / f"worst_{rank}.png")


def _error_curve(report: HomographyReport) -> ErrorCurve:
    """The report's with a band where there are images enough to resample."""
    errors_px, counts = report.corner_errors_px, resampled_counts(report.pairs)
    if counts is None:
        return ErrorCurve(errors_px, report.homography_auc)
    at_px = torch.linspace(0, LARGEST_PX, 101, dtype=torch.float64)
    low, high = recall_band(torch.tensor(errors_px, dtype=torch.float64), counts, at_px)
    return ErrorCurve(errors_px, report.homography_auc, (at_px.numpy(), low.numpy(), high.numpy()))


def _error(error_px: float | None) -> str:
    return "no homography" if error_px is None else f"corners off by {error_px:.1f} px"
