"""Homographies from matched points by the estimators that figures are reported with, behind one function.

Every estimator gets the same threshold: the distance ``‖π(H x1) - x2‖`` of an inlier in pixels of image 2.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.records import Homography, InputError
from rfp.robust.homography import estimate_homography

HomographyEstimatorName = Literal["opencv", "opencv-ransac", "poselib", "rfp"]

MINIMAL_MATCHES = 4
"""Fewer matches determine no homography: the pair has failed."""


def find_homography(
    estimator: str, xy1_px: Float[Tensor, "M 2"], xy2_px: Float[Tensor, "M 2"], *, max_error_px: float, seed: int = 0
) -> Homography:
    """The homography ``x2 ~ H x1`` of one pair from its matches, in float64, ‖H‖ = 1; ``valid`` false if there is none.

    Args:
        estimator: "opencv" (USAC MAGSAC++), "opencv-ransac" (cv2.RANSAC, which SuperPoint, SuperGlue and LoFTR report
            with), "poselib" (LO-RANSAC with non-linear refinement) or "rfp" (ours, on the device of the points).
        seed: of the samples. OpenCV's two use a fixed one of their own.

    Raises:
        InputError: no estimator of that name.
    """
    if estimator not in HOMOGRAPHY_ESTIMATORS:
        raise InputError(f"expected an estimator among {', '.join(HOMOGRAPHY_ESTIMATORS)}, got {estimator!r}")
    dtype = torch.float32 if xy1_px.device.type == "mps" else torch.float64  # MPS has no float64
    xy1_px, xy2_px = xy1_px.to(dtype), xy2_px.to(dtype)
    if xy1_px.shape[0] < MINIMAL_MATCHES:
        return _failure(xy1_px)
    return HOMOGRAPHY_ESTIMATORS[estimator](xy1_px, xy2_px, max_error_px, seed)


def _opencv(xy1_px: Tensor, xy2_px: Tensor, max_error_px: float, seed: int) -> Homography:
    import cv2

    return _by_opencv(xy1_px, xy2_px, cv2.USAC_MAGSAC, max_error_px, maxIters=10_000, confidence=0.9999)


def _opencv_ransac(xy1_px: Tensor, xy2_px: Tensor, max_error_px: float, seed: int) -> Homography:
    import cv2

    return _by_opencv(xy1_px, xy2_px, cv2.RANSAC, max_error_px, maxIters=3000, confidence=0.9999)


def _by_opencv(xy1_px: Tensor, xy2_px: Tensor, method: int, max_error_px: float, **limits: Any) -> Homography:
    import cv2

    try:
        H, mask = cv2.findHomography(xy1_px.cpu().numpy(), xy2_px.cpu().numpy(), method, max_error_px, **limits)
    except cv2.error:
        return _failure(xy1_px)
    return _failure(xy1_px) if H is None or mask is None else _success(xy1_px, H, mask[:, 0] > 0)


def _poselib(xy1_px: Tensor, xy2_px: Tensor, max_error_px: float, seed: int) -> Homography:
    import poselib

    options = {"max_reproj_error": max_error_px, "seed": seed}
    H, information = poselib.estimate_homography(xy1_px.cpu().numpy(), xy2_px.cpu().numpy(), options, {})
    if information["num_inliers"] < MINIMAL_MATCHES:  # PoseLib's sign of having found nothing is the identity
        return _failure(xy1_px)
    return _success(xy1_px, H, information["inliers"])


def _rfp(xy1_px: Tensor, xy2_px: Tensor, max_error_px: float, seed: int) -> Homography:
    found = estimate_homography(
        xy1_px[None],
        xy2_px[None],
        # A Sampson distance, which is 1 / √2 of the distance in one image where H neither magnifies nor shrinks.
        max_error=max_error_px / math.sqrt(2),
        generator=torch.Generator(xy1_px.device).manual_seed(seed),
    )
    return Homography(found.H[0], found.inliers[0], found.score[0], found.valid[0])


HOMOGRAPHY_ESTIMATORS: dict[str, Callable[..., Homography]] = {
    "opencv": _opencv,
    "opencv-ransac": _opencv_ransac,
    "poselib": _poselib,
    "rfp": _rfp,
}


def _success(like: Tensor, H: Any, inliers: Any) -> Homography:
    H = torch.tensor(H, dtype=like.dtype, device=like.device)
    inliers = torch.tensor(inliers, dtype=torch.bool, device=like.device)
    norm = torch.linalg.vector_norm(H)
    if not (norm > 0 and norm.isfinite()):
        return _failure(like)
    valid = torch.ones((), dtype=torch.bool, device=like.device)
    return Homography(H / norm, inliers, inliers.sum().to(like.dtype), valid)


def _failure(like: Tensor) -> Homography:
    return Homography(
        H=torch.eye(3, dtype=like.dtype, device=like.device) / math.sqrt(3),
        inliers=torch.zeros(like.shape[0], dtype=torch.bool, device=like.device),
        score=like.new_zeros(()),
        valid=torch.zeros((), dtype=torch.bool, device=like.device),
    )
