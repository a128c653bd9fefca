"""Relative pose from matched points by the estimators that figures are reported with, behind one function.

Every estimator gets the same pixel threshold: ``max_error_px`` is turned into normalised units by ½ (1/f1 + 1/f2)
(:func:`rfp.geometry.camera.normalized_threshold`), which is also what PoseLib does inside with its own pixels.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.camera import normalize_points, normalized_threshold
from rfp.geometry.pose import essential_from_pose
from rfp.optional import require
from rfp.records import InputError, RelativePose
from rfp.robust.relative_pose import estimate_relative_pose

EstimatorName = Literal["poselib", "opencv", "opencv-ransac", "pycolmap", "rfp"]

MINIMAL_MATCHES = 5
"""Fewer matches determine no essential matrix: the pair has failed."""

FAR_AWAY = 1e9
"""Depth, in baselines, up to which OpenCV's cheirality vote counts a point: all of them. Its default of 50 would drop
the far points of a pair with little parallax, which agree with the right pose as well as any."""


def estimate_pose(
    estimator: str,
    xy1_px: Float[Tensor, "M 2"],
    xy2_px: Float[Tensor, "M 2"],
    K1: Float[Tensor, "3 3"],
    K2: Float[Tensor, "3 3"],
    *,
    max_error_px: float,
    seed: int = 0,
) -> RelativePose:
    """The relative pose of one pair from its matches, in float64; ``valid`` is false where there is none.

    Args:
        estimator: "poselib" (LO-RANSAC with non-linear refinement), "opencv" (USAC MAGSAC++), "opencv-ransac"
            (cv2.RANSAC without refinement, as in Reinforced Feature Points' code), "pycolmap" (COLMAP's LO-RANSAC, of
            the extra ``colmap``) or "rfp" (ours, on the device of the points).
        seed: of the samples. OpenCV's two use a fixed one of their own. All of them repeat bit for bit on the CPU.

    Raises:
        InputError: no estimator of that name, or "pycolmap" without the package.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"expected an estimator among {', '.join(ESTIMATORS)}, got {estimator!r}")
    xy1_px, xy2_px, K1, K2 = (tensor.to(_precision(tensor)) for tensor in (xy1_px, xy2_px, K1, K2))
    if xy1_px.shape[0] < MINIMAL_MATCHES:
        return _failure(xy1_px)
    return ESTIMATORS[estimator](xy1_px, xy2_px, K1, K2, max_error_px, seed)


def _poselib(xy1_px: Tensor, xy2_px: Tensor, K1: Tensor, K2: Tensor, max_error_px: float, seed: int) -> RelativePose:
    import poselib

    pose, information = poselib.estimate_relative_pose(
        _without_skew(xy1_px, K1).cpu().numpy(),
        _without_skew(xy2_px, K2).cpu().numpy(),
        _pinhole_camera(K1),
        _pinhole_camera(K2),
        {"max_epipolar_error": max_error_px, "seed": seed},
        {},
    )
    if information["num_inliers"] < MINIMAL_MATCHES:  # PoseLib's sign of having found nothing is the identity
        return _failure(xy1_px)
    return _success(xy1_px, pose.R, pose.t, information["inliers"])


def _opencv(xy1_px: Tensor, xy2_px: Tensor, K1: Tensor, K2: Tensor, max_error_px: float, seed: int) -> RelativePose:
    import cv2

    # OpenCV's default of 1000 samples is too few at low inlier ratios; PoseLib may take 100 000.
    options = {"method": cv2.USAC_MAGSAC, "prob": 0.9999, "maxIters": 10_000}
    return _opencv_essential_then_pose(xy1_px, xy2_px, K1, K2, max_error_px, options)


def _opencv_ransac(
    xy1_px: Tensor, xy2_px: Tensor, K1: Tensor, K2: Tensor, max_error_px: float, seed: int
) -> RelativePose:
    import cv2

    options = {"method": cv2.RANSAC, "prob": 0.999, "maxIters": 1000}
    return _opencv_essential_then_pose(xy1_px, xy2_px, K1, K2, max_error_px, options)


def _opencv_essential_then_pose(
    xy1_px: Tensor, xy2_px: Tensor, K1: Tensor, K2: Tensor, max_error_px: float, options: dict[str, Any]
) -> RelativePose:
    import cv2
    import numpy as np

    x1, x2 = (normalize_points(xy, K).cpu().numpy() for xy, K in ((xy1_px, K1), (xy2_px, K2)))
    threshold = normalized_threshold(max_error_px, K1, K2).item()
    identity = np.eye(3)
    try:
        stacked, mask = cv2.findEssentialMat(x1, x2, identity, threshold=threshold, **options)
        if stacked is None or stacked.shape[0] < 3 or mask is None:
            return _failure(xy1_px)
        # Up to ten matrices come stacked when OpenCV was left with a minimal sample: cheirality chooses.
        candidates = [stacked[row : row + 3] for row in range(0, stacked.shape[0] - 2, 3)]
        poses = [cv2.recoverPose(E, x1, x2, identity, FAR_AWAY, mask=mask.copy())[:3] for E in candidates]
    except cv2.error:
        return _failure(xy1_px)
    in_front, R, t = max(poses, key=lambda pose: pose[0])
    if in_front == 0 or not (np.isfinite(R).all() and np.isfinite(t).all()):
        return _failure(xy1_px)
    return _success(xy1_px, R, t[:, 0], mask[:, 0] > 0)


def _pycolmap(xy1_px: Tensor, xy2_px: Tensor, K1: Tensor, K2: Tensor, max_error_px: float, seed: int) -> RelativePose:
    pycolmap = require("pycolmap", extra="colmap")
    # COLMAP counts pixels from the corner of the image; K and points share an origin, so nothing is shifted here.
    # It divides the threshold by the mean focal length of each camera and takes the mean, as the others do.
    found = pycolmap.estimate_essential_matrix(
        _without_skew(xy1_px, K1).cpu().numpy(),
        _without_skew(xy2_px, K2).cpu().numpy(),
        pycolmap.Camera(**_pinhole_camera(K1)),
        pycolmap.Camera(**_pinhole_camera(K2)),
        pycolmap.RANSACOptions(max_error=max_error_px, random_seed=seed),
    )
    if found is None or found["num_inliers"] < MINIMAL_MATCHES:
        return _failure(xy1_px)
    pose = found["cam2_from_cam1"].matrix()
    if not math.isfinite(pose.sum()):
        return _failure(xy1_px)
    return _success(xy1_px, pose[:, :3], pose[:, 3], found["inlier_mask"])


def _rfp(xy1_px: Tensor, xy2_px: Tensor, K1: Tensor, K2: Tensor, max_error_px: float, seed: int) -> RelativePose:
    pose = estimate_relative_pose(
        normalize_points(xy1_px, K1)[None],
        normalize_points(xy2_px, K2)[None],
        max_error=normalized_threshold(max_error_px, K1, K2)[None],
        generator=torch.Generator(xy1_px.device).manual_seed(seed),
    )
    return RelativePose(pose.R[0], pose.t[0], pose.E[0], pose.inliers[0], pose.score[0], pose.valid[0])


ESTIMATORS: dict[str, Callable[..., RelativePose]] = {
    "poselib": _poselib,
    "opencv": _opencv,
    "opencv-ransac": _opencv_ransac,
    "pycolmap": _pycolmap,
    "rfp": _rfp,
}


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # MPS has no float64


def _without_skew(xy_px: Tensor, K: Tensor) -> Tensor:
    """The points as a camera with the same focal lengths and centre but no skew sees them: PoseLib has no skew."""
    return torch.stack([xy_px[:, 0] - K[0, 1] / K[1, 1] * (xy_px[:, 1] - K[1, 2]), xy_px[:, 1]], dim=-1)


def _pinhole_camera(K: Tensor) -> dict[str, Any]:
    fx, fy, cx, cy = K[0, 0].item(), K[1, 1].item(), K[0, 2].item(), K[1, 2].item()
    # Width and height serve distortion models only.
    return {"model": "PINHOLE", "width": round(2 * cx), "height": round(2 * cy), "params": [fx, fy, cx, cy]}


def _success(like: Tensor, R: Any, t: Any, inliers: Any) -> RelativePose:
    R, t = (torch.tensor(value, dtype=like.dtype, device=like.device) for value in (R, t))
    inliers = torch.tensor(inliers, dtype=torch.bool, device=like.device)
    t = t / torch.linalg.vector_norm(t).clamp_min(torch.finfo(t.dtype).tiny)
    valid = torch.ones((), dtype=torch.bool, device=like.device)
    return RelativePose(R, t, essential_from_pose(R, t), inliers, inliers.sum().to(like.dtype), valid)


def _failure(like: Tensor) -> RelativePose:
    return RelativePose(
        R=torch.eye(3, dtype=like.dtype, device=like.device),
        t=torch.nn.functional.one_hot(torch.tensor(2, device=like.device), 3).to(like.dtype),
        E=like.new_zeros(3, 3),
        inliers=torch.zeros(like.shape[0], dtype=torch.bool, device=like.device),
        score=like.new_zeros(()),
        valid=torch.zeros((), dtype=torch.bool, device=like.device),
    )
