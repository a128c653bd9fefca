"""A network judged on pairs of views of planes: repeated key points, correct matches, and the homography from them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.evaluation.auc import pose_auc
from rfp.evaluation.deployed import deployed
from rfp.evaluation.evaluate import check_settings
from rfp.evaluation.feature_memory import FeatureMemory
from rfp.evaluation.homography import (
    CORNER_THRESHOLDS_PX,
    THRESHOLDS_PX,
    corner_error_px,
    matching_accuracy,
    matching_score,
    repeatability,
    transfer_error_px,
)
from rfp.evaluation.homography_estimators import find_homography
from rfp.evaluation.tables import align
from rfp.matching.match import MatchingFunction, load_matcher
from rfp.models.pretrained import network_name
from rfp.models.state import device_of
from rfp.records import InputError


@runtime_checkable
class PlanarPair(Protocol):
    """Two views of a plane with the true homography between their pixels."""

    @property
    def image1(self) -> Float[Tensor, "3 h1 w1"]:
        """RGB in [0, 1]; the two images may differ in size."""
        ...

    @property
    def image2(self) -> Float[Tensor, "3 h2 w2"]: ...

    @property
    def H(self) -> Float[Tensor, "3 3"]:
        """Pixels of image 1 to pixels of image 2, pixel (0, 0) being the centre of the top-left pixel."""
        ...

    @property
    def scene(self) -> str: ...

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class PlanarPairFigures:
    """The figures of one pair; shares in percent."""

    scene: str
    name: str
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


@torch.no_grad()
def evaluate_homographies(
    network: nn.Module,
    pairs: Sequence[PlanarPair],
    *,
    matcher: str | MatchingFunction = "mutual",
    estimator: str = "opencv",
    num_keypoints: int = 1024,
    nms_radius: int = 2,
    max_error_px: float = 3.0,
    correct_px: float = 3.0,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> HomographyReport:
    """The network's key points, matches and homographies on pairs of views of planes, under deployment.

    Args:
        matcher: a name of ``rfp.matching.MATCHERS``, or any object of that kind.
        estimator: see :func:`rfp.evaluation.find_homography`.
        max_error_px: the estimator's inlier threshold, in pixels of the images as they come.
        correct_px: what counts as the same point in repeatability and matching score; 3 as in SuperPoint.
        device: where the network runs; by default where its parameters are.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        InputError: no pairs, no such estimator, settings that mean nothing, or an image that cannot be read.
    """
    from tqdm import tqdm

    if len(pairs) == 0:
        raise InputError("expected at least one pair to evaluate on, got none; check the data folders")
    check_settings(num_keypoints, nms_radius, max_error_px, seed)
    if not 0 < correct_px < math.inf:
        raise InputError(f"expected a distance of correct points above 0 pixels, got {correct_px}; 3 is usual")
    matcher = load_matcher(matcher, network=network_name(network)) if isinstance(matcher, str) else matcher
    figures, longer_sides = [], set()
    home = device_of(network) if device is None else torch.device(device)
    with deployed(network, home, num_keypoints=num_keypoints, nms_radius=nms_radius) as detector:
        memory = FeatureMemory(detector, {"features": 0.0})  # the first image of a sequence is in five pairs
        for index in tqdm(
            range(len(pairs)), "evaluating", unit="pair", disable=None if progress else True, leave=False
        ):
            pair = pairs[index]
            longer_sides |= {max(pair.image1.shape), max(pair.image2.shape)}
            figures.append(_judge(memory, matcher, pair, estimator, max_error_px, correct_px, seed))
    settings = {
        "estimator": estimator,
        "max_error_px": max_error_px,
        "correct_px": correct_px,
        "image_size": longer_sides.pop() if len(longer_sides) == 1 else None,
        "num_keypoints": num_keypoints,
        "nms_radius": nms_radius,
        "matching": str(matcher),
        "seed": seed,
        "device": str(home),
        "torch": torch.__version__,
    }
    return _report(figures, settings)


def _judge(
    memory: FeatureMemory,
    matcher: MatchingFunction,
    pair: PlanarPair,
    estimator: str,
    max_error_px: float,
    correct_px: float,
    seed: int,
) -> PlanarPairFigures:
    (features1, _), (features2, _) = memory(pair.image1), memory(pair.image2)
    size1, size2 = ((image.shape[-2], image.shape[-1]) for image in (pair.image1, pair.image2))
    matches = matcher(features1, features2, size1, size2)
    chosen = matches.valid[0]
    matched1, matched2 = features1.xy_px[0][chosen], features2.xy_px[0][matches.index2[0][chosen]]
    found = find_homography(estimator, matched1, matched2, max_error_px=max_error_px, seed=seed)
    H, matched1, matched2 = pair.H.double().cpu(), matched1.cpu(), matched2.cpu()
    xy1_px, xy2_px = (each.xy_px[each.valid].cpu() for each in (features1, features2))
    corner_error = corner_error_px(found.H.cpu(), H, size1) if found.valid.item() else math.inf
    return PlanarPairFigures(
        scene=pair.scene,
        name=pair.name,
        num_keypoints=(len(xy1_px), len(xy2_px)),
        num_matches=len(matched1),
        matching_accuracy=_keyed(matching_accuracy(transfer_error_px(matched1, matched2, H))),
        repeatability=repeatability(xy1_px, xy2_px, H, size1, size2, max_error_px=correct_px),
        matching_score=matching_score(xy1_px, xy2_px, matched1, matched2, H, size1, size2, max_error_px=correct_px),
        corner_error_px=corner_error if math.isfinite(corner_error) else None,
        num_inliers=int(found.inliers.sum()),
    )


def _report(figures: list[PlanarPairFigures], settings: dict[str, Any], *, part: bool = False) -> HomographyReport:
    corner_errors = [math.inf if pair.corner_error_px is None else pair.corner_error_px for pair in figures]
    members: dict[str, list[PlanarPairFigures]] = {}
    if not part:
        for pair, name in zip(figures, group_names([pair.scene for pair in figures])):
            members.setdefault(name, []).append(pair)
    return HomographyReport(
        matching_accuracy={
            f"{threshold}": statistics.fmean(pair.matching_accuracy[f"{threshold}"] for pair in figures)
            for threshold in THRESHOLDS_PX
        },
        repeatability=statistics.fmean(pair.repeatability for pair in figures),
        matching_score=statistics.fmean(pair.matching_score for pair in figures),
        homography_auc=_keyed(pose_auc(corner_errors, CORNER_THRESHOLDS_PX)),
        homography_accuracy=_keyed(
            {
                threshold: 100 * statistics.fmean(error <= threshold for error in corner_errors)
                for threshold in CORNER_THRESHOLDS_PX
            }
        ),
        num_pairs=len(figures),
        num_failed=sum(pair.corner_error_px is None for pair in figures),
        mean_num_matches=statistics.fmean(pair.num_matches for pair in figures),
        groups={name: _report(group, settings, part=True) for name, group in members.items() if len(members) > 1},
        pairs=[] if part else figures,
        settings=settings,
    )


def group_names(scenes: Sequence[str]) -> list[str]:
    """What figures are told apart by: HPatches's two halves where all scenes are named as its are, else the scenes."""
    halves = {"i_": "illumination", "v_": "viewpoint"}
    if all(scene[:2] in halves for scene in scenes):
        return [halves[scene[:2]] for scene in scenes]
    return list(scenes)


def format_homographies(reports: Mapping[str, HomographyReport], *, groups: bool = True) -> str:
    """One row a report and, below each, one row for each part of it; under them the settings that they share."""
    header = ["", "pairs", *(f"MMA@{px}" for px in (1, 3, 5, 10)), "repeat.", "M.score"]
    header += [*(f"AUC@{px}" for px in CORNER_THRESHOLDS_PX), "failed", "matches"]
    rows = []
    for name, report in reports.items():
        rows.append([name, *_columns(report)])
        rows += [[f"  {part}", *_columns(figures)] for part, figures in report.groups.items() if groups]
    settings = next(iter(reports.values())).settings
    size = f"{settings['image_size']} px" if settings["image_size"] else "stored sizes"
    return (
        f"{align([header, *rows])}\n"
        f"repeatability and matching score at {settings['correct_px']:g} px, AUC of the corner error by "
        f"{settings['estimator']} at {settings['max_error_px']:g} px;\nimages of {size}, "
        f"{settings['num_keypoints']} key points, NMS radius {settings['nms_radius']}, {settings['matching']}"
    )


def _columns(report: HomographyReport) -> list[str]:
    accuracy = [report.matching_accuracy[f"{px}"] for px in (1, 3, 5, 10)]
    shares = [*accuracy, report.repeatability, report.matching_score, *report.homography_auc.values()]
    return [
        str(report.num_pairs),
        *(f"{share:.1f}" for share in shares),
        str(report.num_failed),
        f"{report.mean_num_matches:.0f}",
    ]


def _keyed(figures: Mapping[Any, float]) -> dict[str, float]:
    return {f"{threshold:g}": value for threshold, value in figures.items()}
