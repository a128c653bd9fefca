"""The pictures of ``rfp evaluate`` and ``rfp compare``: error curves, pairs with their matches, key points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.evaluation import Comparison, PairErrors, describe_settings, epipolar_error_px, match_features, pose_auc
from rfp.evaluation.bootstrap import RESAMPLES, enough_images, image_counts, recall_band
from rfp.evaluation.deployed import deployed
from rfp.evaluation.homography_evaluation import PlanarPair
from rfp.matching import load_matcher
from rfp.models.pretrained import network_name
from rfp.plotting import (
    DrawnMatches,
    ErrorCurve,
    draw_error_curves,
    draw_keypoints_of_networks,
    draw_matches_of_networks,
    draw_paired_errors,
    save_figure,
)
from rfp.records import Features, InputError, PosedPair

PAIRS_DRAWN = 4

LARGEST_DEG = 20.0


@dataclass(frozen=True)
class Deployment:
    """How features and matches are computed again for the pairs that are drawn."""

    networks: Mapping[str, nn.Module]
    matcher: str
    num_keypoints: int
    nms_radius: int
    max_error_px: float
    """A match is drawn as right below it."""
    device: torch.device


def check_picture_folder(folder: Path | None) -> None:
    """Find out before the work that pictures have no place.

    Raises:
        InputError: a file stands there, or the folder around it does not exist.
    """
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected the name of a folder for pictures, got a file; choose another name")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: there is no folder {folder.parent} to make it in; make that first")


def draw_curves(runs: Sequence[PairErrors], folder: Path) -> None:
    """``error_curves.png``; of two runs ``paired_errors.png`` besides."""
    note = describe_settings(runs[0].settings)
    curves = {run.label: _curve(run) for run in runs}
    if any(curve.band is not None for curve in curves.values()):
        figure = draw_error_curves(curves, largest=LARGEST_DEG, note=f"{note}; shaded: 95%, images resampled")
    else:
        figure = draw_error_curves(curves, largest=LARGEST_DEG, note=note)
    save_figure(figure, folder / "error_curves.png")
    if len(runs) == 2:
        first, second = runs
        labels = (first.label, second.label)
        figure = draw_paired_errors(first.errors_deg, second.errors_deg, labels, note=note)
        save_figure(figure, folder / "paired_errors.png")


def draw_worst_pairs(run: PairErrors, pairs: Sequence[PosedPair], deployment: Deployment, folder: Path) -> None:
    """``worst_1.png``, …: the pairs with the largest errors, their matches coloured by the true epipolar geometry."""
    order = sorted(range(len(pairs)), key=lambda number: -run.errors_deg[number])
    for rank, number in enumerate(order[:PAIRS_DRAWN], start=1):
        title = {run.label: f"{run.names[number]}, {_error(run.errors_deg[number])}"}
        _draw_pair(pairs[number], deployment, title, folder / f"worst_{rank}.png")


def draw_changed_pairs(
    comparison: Comparison, runs: Sequence[PairErrors], pairs: Sequence[PosedPair], deployment: Deployment, folder: Path
) -> None:
    """``changed_1.png``, …: the pairs that changed most, once for each network; ``keypoints.png`` of the first."""
    numbers = {name: number for number, name in reversed(list(enumerate(runs[0].names)))}
    for rank, change in enumerate(comparison.changes[:PAIRS_DRAWN], start=1):
        errors = (change.first_deg, change.second_deg)
        titles = {
            run.label: f"{change.name}, {run.label}, {_error(error)}" for run, error in zip(runs, errors, strict=True)
        }
        pair = pairs[numbers[change.name]]
        features = _draw_pair(pair, deployment, titles, folder / f"changed_{rank}.png")
        if rank == 1:
            points = {label: found.xy_px[0][found.valid[0]] for label, (found, _) in features.items()}
            save_figure(draw_keypoints_of_networks(pair.image1, points), folder / "keypoints.png")


def _curve(run: PairErrors) -> ErrorCurve:
    """The run with a band where there are images enough to resample."""
    auc = {f"{threshold:g}": value for threshold, value in pose_auc(run.errors_deg).items()}
    images = torch.tensor(run.images)
    if not run.images or not enough_images(images):
        return ErrorCurve(run.errors_deg, auc)
    counts = image_counts(images, run.scenes, RESAMPLES, torch.Generator().manual_seed(0))
    at_deg = torch.linspace(0, LARGEST_DEG, 101, dtype=torch.float64)
    low, high = recall_band(torch.tensor(run.errors_deg, dtype=torch.float64), counts, at_deg)
    return ErrorCurve(run.errors_deg, auc, (at_deg.numpy(), low.numpy(), high.numpy()))


def _draw_pair(
    pair: PosedPair, deployment: Deployment, titles: Mapping[str, str], path: Path
) -> dict[str, tuple[Features, Features]]:
    """One row of matches for each title, whose key is the network's label; and the features that they come from."""
    rows, features = {}, {}
    for label, title in titles.items():
        features[label], (xy1_px, xy2_px) = match_again(pair, deployment, label)
        error_px = epipolar_error_px(xy1_px, xy2_px, pair.K1, pair.K2, pair.R, pair.t)
        rows[title] = DrawnMatches(xy1_px, xy2_px, error_px=error_px)
    figure = draw_matches_of_networks(pair.image1, pair.image2, rows, max_error_px=deployment.max_error_px)
    save_figure(figure, path)
    return features


def match_again(
    pair: PosedPair | PlanarPair, deployment: Deployment, label: str
) -> tuple[tuple[Features, Features], tuple[Float[Tensor, "M 2"], Float[Tensor, "M 2"]]]:
    """The features of a pair's two images by the network of that label, and their matches, row by row, on the CPU."""
    network = deployment.networks[label]
    matcher = load_matcher(deployment.matcher, network=network_name(network))
    budget = {"num_keypoints": deployment.num_keypoints, "nms_radius": deployment.nms_radius}
    with deployed(network, deployment.device, **budget) as detector:
        first, second = detector(pair.image1), detector(pair.image2)
    size1, size2 = ((image.shape[-2], image.shape[-1]) for image in (pair.image1, pair.image2))
    xy1_px, xy2_px = match_features(first, second, matcher, size1=size1, size2=size2)
    return (first, second), (xy1_px.cpu(), xy2_px.cpu())


def _error(error_deg: float) -> str:
    return "no pose" if error_deg == 180 else f"error {error_deg:.1f}°"
