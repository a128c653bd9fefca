"""A network judged on pairs of views of planes: repeated key points, correct matches, and the homography from them."""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.evaluation.deployed import deployed
from rfp.evaluation.evaluate import check_settings
from rfp.evaluation.feature_memory import FeatureMemory
from rfp.evaluation.homography import (
    corner_error_px,
    matching_accuracy,
    matching_score,
    repeatability,
    transfer_error_px,
)
from rfp.evaluation.homography_estimators import find_homography
from rfp.evaluation.homography_report import HomographyReport, PlanarPairFigures, keyed, summarise_homographies
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
    return summarise_homographies(figures, settings)


def _judge(
    memory: FeatureMemory,
    matcher: MatchingFunction,
    pair: PlanarPair,
    estimator: str,
    max_error_px: float,
    correct_px: float,
    seed: int,
) -> PlanarPairFigures:
    (features1, number1), (features2, number2) = memory(pair.image1), memory(pair.image2)
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
        images=(number1, number2),
        num_keypoints=(len(xy1_px), len(xy2_px)),
        num_matches=len(matched1),
        matching_accuracy=keyed(matching_accuracy(transfer_error_px(matched1, matched2, H))),
        repeatability=repeatability(xy1_px, xy2_px, H, size1, size2, max_error_px=correct_px),
        matching_score=matching_score(xy1_px, xy2_px, matched1, matched2, H, size1, size2, max_error_px=correct_px),
        corner_error_px=corner_error if math.isfinite(corner_error) else None,
        num_inliers=int(found.inliers.sum()),
    )
