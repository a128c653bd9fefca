"""A network judged as it is deployed: detect, match, estimate the pose, compare it with the true one."""

import hashlib
import math
import statistics
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.evaluation.auc import FAILED_DEG, mean_clipped_accuracy, pose_auc, pose_auc_binned
from rfp.evaluation.estimators import estimate_pose
from rfp.evaluation.matching import epipolar_error_px, match_features
from rfp.evaluation.report import EvaluationReport, SceneFigures
from rfp.geometry.pose import relative_pose_error
from rfp.models.state import device_of, in_eval_mode
from rfp.records import Features, InputError, PosedPair
from rfp.rollout import detect

FEATURES_KEPT = 1024
"""Images whose features are remembered: 0.6 GB at 1024 key points of 128 dimensions."""


@dataclass(frozen=True)
class _PairFigures:
    scene: str
    name: str
    rotation_deg: float
    translation_deg: float
    failed: bool
    num_matches: int
    num_inliers: int
    precision: float

    @property
    def error_deg(self) -> float:
        return max(self.rotation_deg, self.translation_deg)


@torch.no_grad()
def evaluate(
    network: nn.Module,
    pairs: Sequence[PosedPair],
    *,
    estimator: str = "poselib",
    num_keypoints: int = 1024,
    nms_radius: int = 2,
    max_error_px: float = 1.0,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> EvaluationReport:
    """The network's pose errors on the pairs, under deployment: NMS, the best key points, mutual nearest neighbours.

    The network is in eval mode meanwhile and left as it was. The features of an image are computed once, however many
    pairs it occurs in. Pairs of several scenes are pooled, with figures for each scene beside.

    Args:
        network: any ``nn.Module`` that implements :class:`rfp.FeatureNetwork`.
        estimator: see :func:`rfp.evaluation.estimate_pose`; judge with one that was not used in training.
        max_error_px: the estimator's inlier threshold, in pixels of the images as they come.
        device: where the network runs; by default where its parameters are.
        progress: show a progress bar on stderr, if that is a terminal.

    Raises:
        InputError: no pairs, no such estimator, or an image that cannot be read.

    Example:
        >>> report = rfp.evaluate(network, rfp.data.PosedPairs("lund_door", image_size=640))  # doctest: +SKIP
        >>> print(rfp.evaluation.format_scenes(report))  # doctest: +SKIP
    """
    if len(pairs) == 0:
        raise InputError("expected at least one pair to evaluate on, got none; check the data folders")
    check_settings(num_keypoints, nms_radius, max_error_px, seed)
    device = device_of(network) if device is None else torch.device(device)
    seconds = {"decoding": 0.0, "features": 0.0, "matching": 0.0, "estimation": 0.0}
    extractor = _FeatureExtractor(network, device, num_keypoints, nms_radius, seconds)
    figures, longer_sides = [], set()
    with _eval_mode(network, device):
        for index in _progress(len(pairs), progress):
            with _timed(seconds, "decoding"):
                pair = pairs[index]
            longer_sides |= {max(pair.image1.shape), max(pair.image2.shape)}
            figures.append(_judge(extractor, pair, estimator, max_error_px, seed, seconds))
    settings = {
        "estimator": estimator,
        "max_error_px": max_error_px,
        "image_size": longer_sides.pop() if len(longer_sides) == 1 else None,
        "num_keypoints": num_keypoints,
        "nms_radius": nms_radius,
        "matching": "mutual nearest neighbours",
        "seed": seed,
        "device": str(device),
        "torch": torch.__version__,
    }
    return _report(figures, settings, seconds)


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


def _judge(
    extractor: "_FeatureExtractor",
    pair: PosedPair,
    estimator: str,
    max_error_px: float,
    seed: int,
    seconds: dict[str, float],
) -> _PairFigures:
    features1, features2 = extractor(pair.image1), extractor(pair.image2)
    K1, K2, R, t = (tensor.cpu() for tensor in (pair.K1, pair.K2, pair.R, pair.t))
    with _timed(seconds, "matching"):
        xy1_px, xy2_px = match_features(features1, features2)
        errors_px = epipolar_error_px(xy1_px.cpu(), xy2_px.cpu(), K1, K2, R, t)
    with _timed(seconds, "estimation"):
        K1, K2 = K1.to(xy1_px.device), K2.to(xy2_px.device)
        pose = estimate_pose(estimator, xy1_px, xy2_px, K1, K2, max_error_px=max_error_px, seed=seed)
        failed = not pose.valid.item()
    rotation, translation = relative_pose_error(
        pose.R.cpu().double(), pose.t.cpu().double(), R.double(), t.double(), fold_translation=True
    )
    return _PairFigures(
        scene=pair.scene,
        name=pair.name,
        rotation_deg=FAILED_DEG if failed else math.degrees(rotation.item()),
        translation_deg=FAILED_DEG if failed else math.degrees(translation.item()),
        failed=failed,
        num_matches=xy1_px.shape[0],
        num_inliers=int(pose.inliers.sum()),
        precision=100 * (errors_px < max_error_px).double().mean().item() if len(errors_px) else 0.0,
    )


class _FeatureExtractor:
    """The deployed detector with a memory: an image seen before is not computed again.

    Images are told apart by their content, so that any sequence of pairs profits, whatever its images come from.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, num_keypoints: int, nms_radius: int, seconds: dict[str, float]
    ) -> None:
        self.network, self.device, self.seconds = network, device, seconds
        self.num_keypoints, self.nms_radius = num_keypoints, nms_radius
        self._known: OrderedDict[bytes, Features] = OrderedDict()

    def __call__(self, image: Float[Tensor, "3 h w"]) -> Features:
        key = hashlib.sha1(str(tuple(image.shape)).encode())
        key.update(image.cpu().contiguous().numpy().data)
        features = self._known.pop(key.digest(), None)
        if features is None:
            with _timed(self.seconds, "features"):
                features = self._finite(
                    detect(
                        self.network,  # type: ignore[arg-type]
                        image[None].to(self.device),
                        num_keypoints=self.num_keypoints,
                        nms_radius=self.nms_radius,
                    )
                )
        self._known[key.digest()] = features
        if len(self._known) > FEATURES_KEPT:
            self._known.popitem(last=False)
        return features

    @staticmethod
    def _finite(features: Features) -> Features:
        """A network may answer a strange image with NaN: such key points are no key points."""
        finite = features.descriptor.isfinite().all(-1) & features.xy_px.isfinite().all(-1)
        return Features(
            xy_px=torch.where(finite[..., None], features.xy_px, 0.0),
            score=features.score,
            descriptor=torch.where(finite[..., None], features.descriptor, 0.0),
            valid=features.valid & finite,
        )


def _report(figures: list[_PairFigures], settings: dict[str, Any], seconds: dict[str, float]) -> EvaluationReport:
    errors = [pair.error_deg for pair in figures]
    by_scene: dict[str, list[_PairFigures]] = defaultdict(list)
    for pair in figures:
        by_scene[pair.scene].append(pair)
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
        scenes={scene: _scene_figures(pairs) for scene, pairs in by_scene.items()},
        names=[pair.name for pair in figures],
        settings=settings,
        seconds=seconds,
    )


def _scene_figures(pairs: list[_PairFigures]) -> SceneFigures:
    errors = [pair.error_deg for pair in pairs]
    return SceneFigures(
        num_pairs=len(pairs),
        num_failed=sum(pair.failed for pair in pairs),
        auc=_keyed(pose_auc(errors)),
        median_error_deg=statistics.median(errors),
        mean_num_matches=statistics.fmean(pair.num_matches for pair in pairs),
        precision=statistics.fmean(pair.precision for pair in pairs),
    )


def _keyed(figures: Mapping[int | float, float]) -> dict[str, float]:
    return {f"{threshold:g}": value for threshold, value in figures.items()}


@contextmanager
def _eval_mode(network: nn.Module, device: torch.device) -> Iterator[None]:
    """The network on ``device`` in eval mode; where it was and how it was afterwards."""
    home = device_of(network)
    network.to(device)
    try:
        with in_eval_mode(network):
            yield
    finally:
        network.to(home)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # else the stage that first waits is charged with the ones before it
    seconds[stage] += time.perf_counter() - start


def _progress(count: int, show: bool) -> Iterator[int]:
    from tqdm import tqdm

    yield from tqdm(range(count), desc="evaluating", unit="pair", disable=None if show else True, leave=False)
