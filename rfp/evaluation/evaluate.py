"""A network judged as it is deployed: detect, match, estimate the pose, compare it with the true one."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.evaluation.auc import FAILED_DEG
from rfp.evaluation.deployed import deployed
from rfp.evaluation.estimators import estimate_pose
from rfp.evaluation.feature_memory import FeatureMemory, timed
from rfp.evaluation.matching import epipolar_error_px, match_features
from rfp.evaluation.pose_figures import EvaluationReport
from rfp.evaluation.pose_summary import PairFigures, summarise
from rfp.geometry.pose import relative_pose_error
from rfp.matching import load_matcher
from rfp.models.pretrained import network_name
from rfp.models.state import device_of
from rfp.records import InputError, PosedPair
from rfp.rollout import Matcher


@torch.no_grad()
def evaluate(
    network: nn.Module,
    pairs: Sequence[PosedPair],
    *,
    matcher: str | Matcher = "mutual",
    estimator: str = "poselib",
    num_keypoints: int = 1024,
    nms_radius: int = 2,
    max_error_px: float = 1.0,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> EvaluationReport:
    """The network's pose errors on the pairs, under deployment: NMS, the best key points, a matcher, an estimator.

    The network is in eval mode meanwhile and left as it was. The features of an image are computed once, however many
    pairs it occurs in. Pairs of several scenes are pooled, with figures for each scene and their mean beside.

    Args:
        network: any ``nn.Module`` that implements :class:`rfp.FeatureNetwork`.
        matcher: "mutual", "ratio", "dual-softmax", "lightglue", or an object: see :func:`rfp.matching.load_matcher`.
        estimator: see :func:`rfp.evaluation.estimate_pose`; judge with one that was not used in training.
        max_error_px: the estimator's inlier threshold, in pixels of the images as they come.
        device: where the network runs; by default where its parameters are.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        InputError: no pairs, no such estimator or matcher, or an image that cannot be read.

    Example:
        >>> report = rfp.evaluate(network, rfp.data.PosedPairs("lund_door", image_size=640))  # doctest: +SKIP
        >>> print(rfp.evaluation.format_scenes(report))  # doctest: +SKIP
    """
    (report,) = evaluate_thresholds(
        network,
        pairs,
        max_errors_px=(max_error_px,),
        matcher=matcher,
        estimator=estimator,
        num_keypoints=num_keypoints,
        nms_radius=nms_radius,
        device=device,
        seed=seed,
        progress=progress,
    )
    return report


@torch.no_grad()
def evaluate_thresholds(
    network: nn.Module,
    pairs: Sequence[PosedPair],
    *,
    max_errors_px: Sequence[float],
    matcher: str | Matcher = "mutual",
    estimator: str = "poselib",
    num_keypoints: int = 1024,
    nms_radius: int = 2,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> list[EvaluationReport]:
    """:func:`evaluate` at each inlier threshold, in their order; features and matches are computed once for all.

    Every report's ``seconds`` hold the whole time of decoding, features and matching, and its own estimation's.
    """
    if len(pairs) == 0:
        raise InputError("expected at least one pair to evaluate on, got none; check the data folders")
    for max_error_px in max_errors_px:
        check_settings(num_keypoints, nms_radius, max_error_px, seed)
    matching = load_matcher(matcher, network=network_name(network)) if isinstance(matcher, str) else matcher
    device = device_of(network) if device is None else torch.device(device)
    shared = {"decoding": 0.0, "features": 0.0, "matching": 0.0}
    trials = [_Trial(max_error_px, estimator, seed) for max_error_px in max_errors_px]
    longer_sides = set()
    with deployed(network, device, num_keypoints=num_keypoints, nms_radius=nms_radius) as detector:
        memory = FeatureMemory(detector, shared)
        for index in _progress(len(pairs), progress):
            with timed(shared, "decoding"):
                pair = pairs[index]
            longer_sides |= {max(pair.image1.shape), max(pair.image2.shape)}
            matched = _match(memory, pair, matching, shared)
            for trial in trials:
                trial.judge(matched)
    settings = {
        "estimator": estimator,
        "image_size": longer_sides.pop() if len(longer_sides) == 1 else None,
        "num_keypoints": num_keypoints,
        "nms_radius": nms_radius,
        "matching": str(matching),
        "seed": seed,
        "device": str(device),
        "torch": torch.__version__,
    }
    return [
        summarise(
            trial.figures, {**settings, "max_error_px": trial.max_error_px}, {**shared, "estimation": trial.seconds}
        )
        for trial in trials
    ]


def check_settings(num_keypoints: int, nms_radius: int, max_error_px: float, seed: int) -> None:
    """Refuse settings of the deployed detector and the estimator that mean nothing.

    Raises:
        InputError: which one, on one line.
    """
    if num_keypoints < 1:
        raise InputError(f"expected at least 1 key point an image, got {num_keypoints}; try 1024")
    if nms_radius < 0:
        raise InputError(f"expected an NMS radius of at least 0 pixels, got {nms_radius}; try 2")
    if not 0 < max_error_px < math.inf:
        raise InputError(f"expected an inlier threshold above 0 pixels, got {max_error_px}; try 1")
    if seed < 0:
        raise InputError(f"expected a seed of at least 0, got {seed}")


@dataclass(frozen=True)
class _MatchedPair:
    """A pair after matching; the true pose and cameras on the CPU, the matches where the network runs."""

    pair: PosedPair
    images: tuple[int, int]
    xy1_px: Float[Tensor, "M 2"]
    xy2_px: Float[Tensor, "M 2"]
    epipolar_errors_px: Float[Tensor, "M"]


def _match(memory: FeatureMemory, pair: PosedPair, matcher: Matcher, seconds: dict[str, float]) -> _MatchedPair:
    (features1, number1), (features2, number2) = memory(pair.image1), memory(pair.image2)
    size1, size2 = ((image.shape[-2], image.shape[-1]) for image in (pair.image1, pair.image2))
    K1, K2, R, t = (tensor.cpu() for tensor in (pair.K1, pair.K2, pair.R, pair.t))
    with timed(seconds, "matching"):
        xy1_px, xy2_px = match_features(features1, features2, matcher, size1=size1, size2=size2)
    errors_px = epipolar_error_px(xy1_px.cpu(), xy2_px.cpu(), K1, K2, R, t)
    return _MatchedPair(pair, (number1, number2), xy1_px, xy2_px, errors_px)


class _Trial:
    """One inlier threshold: its figures, pair by pair, and the seconds that its estimation took."""

    def __init__(self, max_error_px: float, estimator: str, seed: int) -> None:
        self.max_error_px, self.estimator, self.seed = max_error_px, estimator, seed
        self.figures: list[PairFigures] = []
        self._seconds = {"estimation": 0.0}

    @property
    def seconds(self) -> float:
        return self._seconds["estimation"]

    def judge(self, matched: _MatchedPair) -> None:
        pair, xy1_px, xy2_px = matched.pair, matched.xy1_px, matched.xy2_px
        with timed(self._seconds, "estimation"):
            pose = estimate_pose(
                self.estimator,
                xy1_px,
                xy2_px,
                pair.K1.to(xy1_px.device),
                pair.K2.to(xy2_px.device),
                max_error_px=self.max_error_px,
                seed=self.seed,
            )
            failed = not pose.valid.item()
        rotation, translation = relative_pose_error(
            pose.R.cpu().double(),
            pose.t.cpu().double(),
            pair.R.cpu().double(),
            pair.t.cpu().double(),
            fold_translation=True,
        )
        within = matched.epipolar_errors_px < self.max_error_px
        self.figures.append(
            PairFigures(
                scene=pair.scene,
                name=pair.name,
                images=matched.images,
                rotation_deg=FAILED_DEG if failed else math.degrees(rotation.item()),
                translation_deg=FAILED_DEG if failed else math.degrees(translation.item()),
                failed=failed,
                num_matches=xy1_px.shape[0],
                num_inliers=int(pose.inliers.sum()),
                precision=100 * within.double().mean().item() if len(within) else 0.0,
            )
        )


def _progress(count: int, show: bool) -> Iterator[int]:
    from tqdm import tqdm

    yield from tqdm(range(count), desc="evaluating", unit="pair", disable=None if show else True, leave=False)
