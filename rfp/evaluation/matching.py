"""From deployed features to matched points, and how far those are from the true epipolar geometry."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.epipolar import sampson_distance
from rfp.geometry.pose import fundamental_from_pose
from rfp.matching import ImageSize, load_matcher, match
from rfp.models.pretrained import network_name
from rfp.records import Features
from rfp.rollout import FeatureNetwork, Matcher, detect


def match_features(
    features1: Features,
    features2: Features,
    matcher: str | Matcher = "mutual",
    *,
    size1: ImageSize | None = None,
    size2: ImageSize | None = None,
) -> tuple[Float[Tensor, "M 2"], Float[Tensor, "M 2"]]:
    """The pixel positions of the matches of two images (B = 1), matched row by row: see :func:`rfp.matching.match`."""
    matches = match(features1, features2, matcher, size1=size1, size2=size2)
    chosen = matches.valid[0]
    return features1.xy_px[0][chosen], features2.xy_px[0][matches.index2[0][chosen]]


def match_images(
    network: FeatureNetwork,
    image1: Float[Tensor, "3 h1 w1"],
    image2: Float[Tensor, "3 h2 w2"],
    *,
    num_keypoints: int = 1024,
    nms_radius: int = 2,
    matcher: str | Matcher = "mutual",
) -> tuple[Float[Tensor, "M 2"], Float[Tensor, "M 2"]]:
    """The matched pixel positions in two images (on the network's device) under deployment, row by row."""
    first, second = (
        detect(network, image[None], num_keypoints=num_keypoints, nms_radius=nms_radius) for image in (image1, image2)
    )
    if isinstance(matcher, str):
        matcher = load_matcher(matcher, network=network_name(network))  # type: ignore[arg-type]
    size1, size2 = ((image.shape[-2], image.shape[-1]) for image in (image1, image2))
    return match_features(first, second, matcher, size1=size1, size2=size2)


def epipolar_error_px(
    xy1_px: Float[Tensor, "M 2"],
    xy2_px: Float[Tensor, "M 2"],
    K1: Float[Tensor, "3 3"],
    K2: Float[Tensor, "3 3"],
    R: Float[Tensor, "3 3"],
    t: Float[Tensor, "3"],
) -> Float[Tensor, "M"]:
    """The Sampson distance of each match in pixels under the pose ``X2 = R X1 + t``: F = K2⁻ᵀ [t]× R K1⁻¹.

    About how far the two points have to move, together, to lie on each other's epipolar lines (Hartley and Zisserman,
    section 11.4.3). Computed in float64.
    """
    F = fundamental_from_pose(K1, K2, R, t)
    return sampson_distance(xy1_px.double(), xy2_px.double(), F).sqrt()


def fundamental_inliers(
    xy1_px: Float[Tensor, "M 2"], xy2_px: Float[Tensor, "M 2"], *, max_error_px: float
) -> Bool[Tensor, "M"]:
    """Which matches agree with one fundamental matrix, found by OpenCV's MAGSAC++: needs no cameras. On the CPU.

    Fewer than eight matches verify nothing (seven fit one exactly), and none of them is an inlier then.
    """
    import cv2

    none = torch.zeros(xy1_px.shape[0], dtype=torch.bool)
    if xy1_px.shape[0] < 8:
        return none
    points1, points2 = (xy.detach().cpu().double().numpy() for xy in (xy1_px, xy2_px))
    try:
        F, mask = cv2.findFundamentalMat(points1, points2, cv2.USAC_MAGSAC, max_error_px, 0.9999, 10_000)
    except cv2.error:
        return none
    return none if F is None or mask is None else torch.from_numpy(mask[:, 0] > 0)
