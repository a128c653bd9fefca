"""Poses of single images from points of a known scene, by the estimators that figures are reported with.

Every estimator gets the same threshold: the reprojection error of an inlier in pixels.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.camera import normalize_points
from rfp.optional import require
from rfp.records import AbsolutePose, InputError
from rfp.robust.absolute_pose import estimate_absolute_pose

AbsolutePoseEstimatorName = Literal["poselib", "pycolmap", "rfp"]

LEAST_INLIERS = 4
"""Three points leave up to four poses; the fourth tells which."""


def find_absolute_pose(
    estimator: str,
    X: Float[Tensor, "M 3"],
    xy_px: Float[Tensor, "M 2"],
    K: Float[Tensor, "3 3"],
    *,
    max_error_px: float,
    seed: int = 0,
) -> AbsolutePose:
    """The pose ``(x, 1) ~ R X + t`` of one pinhole camera, float64 on the CPU; ``valid`` is false if there is none.

    Args:
        estimator: "poselib" or "pycolmap" (both: P3P in LO-RANSAC, then non-linear refinement), or "rfp" (ours).
        K: without skew.
        seed: of the samples.

    Raises:
        InputError: no estimator of that name.
    """
    if estimator not in ABSOLUTE_POSE_ESTIMATORS:
        raise InputError(f"expected an estimator among {', '.join(ABSOLUTE_POSE_ESTIMATORS)}, got {estimator!r}")
    X, xy_px, K = (values.double().cpu() for values in (X, xy_px, K))
    if len(X) < LEAST_INLIERS:
        return _failure(len(X))
    return ABSOLUTE_POSE_ESTIMATORS[estimator](X, xy_px, K, max_error_px, seed)


def _poselib(X: Tensor, xy_px: Tensor, K: Tensor, max_error_px: float, seed: int) -> AbsolutePose:
    import poselib

    pose, information = poselib.estimate_absolute_pose(
        xy_px.numpy(),
        X.numpy(),
        {"model": "PINHOLE", "width": 0, "height": 0, "params": _parameters(K)},
        {"max_reproj_error": max_error_px, "seed": seed},
        {},
    )
    if information["num_inliers"] < LEAST_INLIERS:  # PoseLib's sign of having found nothing is the identity
        return _failure(len(X))
    return _success(pose.R, pose.t, information["inliers"])


def _pycolmap(X: Tensor, xy_px: Tensor, K: Tensor, max_error_px: float, seed: int) -> AbsolutePose:
    pycolmap = require("pycolmap", extra="colmap")
    # Any origin of pixels will do that the points and the principal point share.
    camera = pycolmap.Camera(model="PINHOLE", width=0, height=0, params=_parameters(K))
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = max_error_px
    options.ransac.random_seed = seed
    found = pycolmap.estimate_and_refine_absolute_pose(xy_px.numpy(), X.numpy(), camera, options)
    if found is None or found["num_inliers"] < LEAST_INLIERS:
        return _failure(len(X))
    pose = found["cam_from_world"]
    return _success(pose.rotation.matrix(), pose.translation, found["inlier_mask"])


def _rfp(X: Tensor, xy_px: Tensor, K: Tensor, max_error_px: float, seed: int) -> AbsolutePose:
    focal = (K[0, 0] + K[1, 1]).item() / 2
    found = estimate_absolute_pose(
        X[None],
        normalize_points(xy_px, K)[None],
        max_error=max_error_px / focal,
        generator=torch.Generator().manual_seed(seed),
    )
    return AbsolutePose(found.R[0], found.t[0], found.inliers[0], found.score[0], found.valid[0])


ABSOLUTE_POSE_ESTIMATORS: dict[str, Callable[..., AbsolutePose]] = {
    "poselib": _poselib,
    "pycolmap": _pycolmap,
    "rfp": _rfp,
}


def _parameters(K: Tensor) -> list[float]:
    return [K[0, 0].item(), K[1, 1].item(), K[0, 2].item(), K[1, 2].item()]


def _success(R: Any, t: Any, inliers: Any) -> AbsolutePose:
    R, t = torch.tensor(R, dtype=torch.float64), torch.tensor(t, dtype=torch.float64).flatten()
    inliers = torch.tensor(inliers, dtype=torch.bool)
    if not (R.isfinite().all() and t.isfinite().all()):
        return _failure(len(inliers))
    return AbsolutePose(R, t, inliers, inliers.sum().double(), torch.ones((), dtype=torch.bool))


def _failure(count: int) -> AbsolutePose:
    return AbsolutePose(
        R=torch.eye(3, dtype=torch.float64),
        t=torch.zeros(3, dtype=torch.float64),
        inliers=torch.zeros(count, dtype=torch.bool),
        score=torch.zeros((), dtype=torch.float64),
        valid=torch.zeros((), dtype=torch.bool),
    )
