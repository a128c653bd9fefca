"""Estimators that rfp is compared with, each given the problems in the form that it wants before its clock starts.

All have the same threshold by the same measure: every one of them compares the Sampson distance with it, so that the
pixels of PoseLib and the normalised units of the others mean the same. Only the estimate itself is timed, from arrays
to a rotation and a direction of translation; where a library ends at an essential matrix, its own decomposition and
cheirality belong to the time.
"""

import importlib
import importlib.metadata
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import kornia
import numpy as np
import poselib
import torch
from estimation_problems import Problems
from kornia.geometry.epipolar import motion_from_essential_choose_solution
from kornia.geometry.ransac import RANSAC
from our_estimators import CORES
from torch import Tensor

FAR_AWAY = 1e9
"""Depth, in baselines, up to which OpenCV's cheirality counts a point: all of them, as in rfp's evaluation."""

Pose = tuple[Any, Any] | None
"""Arrays of the rotation (3, 3) and the translation (3,), or nothing found."""
Call = Callable[[], Pose]


@dataclass(frozen=True)
class OtherEstimator:
    """One way to estimate, one problem at a time."""

    options: str
    """What the table says about its settings."""
    prepare: Callable[[Problems, int], Call]
    """The estimate of one problem (P = 1) with a seed, its input converted."""
    missing: str = ""
    """Why it cannot run here, if so."""
    in_pool: bool = False
    """Timed as run by as many processes as there are cores."""
    may_fork: bool = True
    """Whether it is safe in a forked process: torch is not."""


def poselib_call(**options: Any) -> Callable[[Problems, int], Call]:
    """PoseLib's LO-RANSAC with its refinement, its own options beside the threshold and those given."""

    def prepare(problem: Problems, seed: int) -> Call:
        x1, x2 = _matches(problem)
        focals = problem.focal_px[0].double().tolist()
        camera1, camera2 = (poselib.Camera("SIMPLE_PINHOLE", [focal, 0.0, 0.0], 640, 480) for focal in focals)
        xy1_px, xy2_px = ((x.double() * focal).numpy() for x, focal in zip((x1, x2), focals, strict=True))
        ransac = {"max_epipolar_error": problem.max_error_px, "seed": seed, **options}

        def call() -> Pose:
            pose, information = poselib.estimate_relative_pose(xy1_px, xy2_px, camera1, camera2, ransac, {})
            return (pose.R, pose.t) if information["num_inliers"] >= 5 else None

        return call

    return prepare


def opencv_call(method: int, confidence: float, iterations: int) -> Callable[[Problems, int], Call]:
    """``cv2.findEssentialMat`` and ``cv2.recoverPose``; its samples have a seed of their own."""

    def prepare(problem: Problems, seed: int) -> Call:
        x1, x2 = (x.double().numpy() for x in _matches(problem))
        threshold, identity = float(problem.max_error[0]), np.eye(3)

        def call() -> Pose:
            try:
                stacked, mask = cv2.findEssentialMat(x1, x2, identity, method, confidence, threshold, iterations)
                if stacked is None or stacked.shape[0] < 3 or mask is None:
                    return None
                # Several matrices come stacked where it was left with a minimal sample: cheirality chooses.
                candidates = [stacked[row : row + 3] for row in range(0, stacked.shape[0] - 2, 3)]
                poses = [cv2.recoverPose(E, x1, x2, identity, FAR_AWAY, mask=mask.copy())[:3] for E in candidates]
            except cv2.error:
                return None
            in_front, R, t = max(poses, key=lambda pose: pose[0])
            return (R, t[:, 0]) if in_front else None

        return call

    return prepare


def kornia_call(batch_size: int | str, device: str) -> Callable[[Problems, int], Call]:
    """``kornia.geometry.RANSAC("essential")`` and kornia's choice of the pose, in float32 as it is used."""

    def prepare(problem: Problems, seed: int) -> Call:
        x1, x2 = (x.to(device) for x in _matches(problem))
        ransac = RANSAC("essential", inl_th=float(problem.max_error[0]), batch_size=batch_size, seed=seed)
        identity = torch.eye(3, device=device)

        def call() -> Pose:
            E, inliers = ransac(x1, x2)
            if not inliers.any():
                return None
            R, t, _, in_front = motion_from_essential_choose_solution(E, identity, identity, x1, x2, inliers)
            return (R.cpu().numpy(), t[:, 0].cpu().numpy()) if in_front > 0 else None

        return call

    return prepare


def fastpose_call(device: str) -> Callable[[Problems, int], Call]:
    """fastpose's relative pose with the budget and the adaptive stop of PoseLib's defaults."""

    def prepare(problem: Problems, seed: int) -> Call:
        estimators: Any = importlib.import_module("fastpose.estimators")
        x1, x2 = (x.double().numpy() for x in _matches(problem))
        budget = {"iterations": 100_000, "min_iterations": 1000, "success_prob": 0.9999, "device": device}
        threshold = float(problem.max_error[0])

        def call() -> Pose:
            model, information = estimators.estimate_relative_pose(x1, x2, max_error=threshold, seed=seed, **budget)
            return (model["R"], model["t"]) if information["num_inliers"] >= 5 else None

        return call

    return prepare


def _matches(problem: Problems) -> tuple[Tensor, Tensor]:
    """The matches of one problem, those of masked slots left out."""
    assert len(problem) == 1
    valid = problem.valid[0]
    return problem.x1[0, valid].contiguous(), problem.x2[0, valid].contiguous()


def other_estimators(device: str) -> dict[str, OtherEstimator]:
    """All of them by name. On a GPU those that can use it appear a second time."""
    adaptive = "its adaptive stop, default options: 1000 to 100 000 iterations, success_prob 0.9999"
    fastpose = "the same budget and stop as PoseLib's defaults"
    essential = "essential, 10 batches at most, confidence 0.99 (defaults)"
    others = {
        "PoseLib": OtherEstimator(f"{poselib.__version__}, {adaptive}", poselib_call()),
        "PoseLib, from 100": OtherEstimator("the same, min_iterations 100", poselib_call(min_iterations=100)),
        "PoseLib, pool": OtherEstimator(f"{CORES} processes", poselib_call(), in_pool=True),
        "OpenCV RANSAC": OtherEstimator(
            f"{cv2.__version__}, confidence 0.999, 1000 iterations at most (default)",
            opencv_call(cv2.RANSAC, 0.999, 1000),
        ),
        "OpenCV USAC_MAGSAC": OtherEstimator(
            "confidence 0.999, 1000 iterations at most (default)", opencv_call(cv2.USAC_MAGSAC, 0.999, 1000)
        ),
        "OpenCV USAC_MAGSAC, longer": OtherEstimator(
            "confidence 0.9999, 10 000 iterations at most", opencv_call(cv2.USAC_MAGSAC, 0.9999, 10_000)
        ),
        "kornia, batch 2048": OtherEstimator(
            f"{kornia.__version__}, {essential}", kornia_call(2048, "cpu"), may_fork=False
        ),
        "kornia, batch auto": OtherEstimator(
            "the same, batches of 64 growing to 1024 (default)", kornia_call("auto", "cpu"), may_fork=False
        ),
        "fastpose": OtherEstimator(f"{_version('fastpose')}, {fastpose}", fastpose_call("cpu"), missing=_no_fastpose()),
    }
    if device != "cpu":
        others |= {
            "kornia, batch 2048, GPU": OtherEstimator("refines on the CPU", kornia_call(2048, device), may_fork=False),
            "kornia, batch auto, GPU": OtherEstimator(
                "refines on the CPU", kornia_call("auto", device), may_fork=False
            ),
            "fastpose, GPU": OtherEstimator(
                f"{fastpose}, numba on CUDA",
                fastpose_call("cuda"),
                missing=_no_fastpose(cuda=True),
                may_fork=False,
            ),
        }
    return others


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _no_fastpose(*, cuda: bool = False) -> str:
    """Why fastpose cannot run, or nothing."""
    try:
        importlib.import_module("fastpose.estimators")
    except ImportError as error:
        return f"not installed ({error}); pip install fastpose"
    device: Any = importlib.import_module("fastpose.cuda")
    return "" if not cuda or device.is_available() else str(device.unavailable_reason())


class Loop:
    """The problems one after another in this process."""

    def __init__(self, estimator: OtherEstimator, problems: Problems):
        self.calls = prepared(estimator, problems)

    def __call__(self) -> list[Pose]:
        return [call() for call in self.calls]

    def close(self) -> None:
        """Nothing is left behind."""


class Pool:
    """The problems by as many processes as there are cores, which hold them already: only numbers travel."""

    _calls: Sequence[Call] = ()

    def __init__(self, estimator: OtherEstimator, problems: Problems, processes: int | None = None):
        processes = processes or CORES
        Pool._calls = prepared(estimator, problems)
        self.indices = range(len(problems))
        self.chunk = max(1, len(problems) // (4 * processes))
        # Forked, so that the calls need not be sent; the children touch neither torch's threads nor a GPU.
        self.pool = multiprocessing.get_context("fork").Pool(processes)
        self.pool.map(time.sleep, [0.01] * processes)  # until all of them are there

    @staticmethod
    def _call(index: int) -> Pose:
        return Pool._calls[index]()

    def __call__(self) -> list[Pose]:
        return self.pool.map(Pool._call, self.indices, chunksize=self.chunk)

    def close(self) -> None:
        """End the processes."""
        self.pool.close()
        self.pool.join()


def prepared(estimator: OtherEstimator, problems: Problems) -> list[Call]:
    """One call a problem, its input converted, its number the seed."""
    return [estimator.prepare(problem, seed) for seed, problem in enumerate(problems.batches(1))]
