"""Fundamental matrices, homographies and absolute poses by rfp, PoseLib and OpenCV on the same problems.

    python benchmarks/other_models.py [--quick] [--json docs/results/other_models.json]

Scenes, cameras and noise are those of ``estimation_problems.py``; for homographies the points lie on a plane that is
slanted at random, for absolute poses the first image's points carry their depth. 300 matches, a threshold of 2 px, one
thread. Ours takes 288 problems at once, the others one after another; all take turns, and a row has the median of the
repetitions. A result is right where the exact points have a root mean square error below 1 px under it: the Sampson
distance for F, the distance in the second image for H and for poses. The thresholds of the others are 2 px on the
distance that they compare, which for homographies is √2 of our Sampson distance: ours has 2 / √2 px there.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import poselib
import torch
import tyro
from estimation_problems import FOCAL_PX, HALF_IMAGE, MAX_ERROR_PX, NOISE_PX, rotation
from machine import machine
from torch import Tensor
from torch.nn.functional import normalize

import rfp
from rfp.geometry.epipolar import sampson_distance
from rfp.robust.absolute_pose import ABSOLUTE_POSE_OPTIONS
from rfp.robust.fundamental import FUNDAMENTAL_OPTIONS
from rfp.robust.homography import HOMOGRAPHY_OPTIONS
from rfp.training.checkpoint import write_json

RIGHT_PX = 1.0
FAILED_PX = 1e3
SIZE_PX = (640.0, 480.0)
CONFIDENCE, ITERATIONS = 0.9999, 10_000  # of OpenCV, whose defaults are fewer


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures."""
    quick: bool = False
    """A few problems of one ratio: shows that it runs."""
    problems: int = 288
    """Problems of each kind."""
    matches: int = 300
    """Matches of each problem."""
    inlier_ratios: tuple[float, ...] = (0.7, 0.4, 0.25)
    """Exact share of the inliers."""
    repetitions: int = 3
    """Timed runs of each row."""
    seconds: float = 20.0
    """Of one run of an estimator; slow ones are given the first problems only."""


@dataclass(frozen=True)
class Scenes:
    """P problems in pixels around the principal point, with the exact points beside them, float64."""

    x1: Tensor  # (P, N, 2)
    x2: Tensor  # (P, N, 2)
    X: Tensor  # (P, N, 3): the points in the frame of camera 1, as they were before the noise
    exact1: Tensor
    exact2: Tensor

    def __getitem__(self, index: slice) -> "Scenes":
        return Scenes(self.x1[index], self.x2[index], self.X[index], self.exact1[index], self.exact2[index])

    def __len__(self) -> int:
        return len(self.x1)


def draw_scenes(count: int, num_matches: int, inlier_ratio: float, *, plane: bool) -> Scenes:
    """Scenes of two cameras one unit apart, points at 2 to 10 units or on one plane, drawn until both see enough."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    half = torch.tensor(HALF_IMAGE, dtype=torch.float64)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    while sum(len(part[0]) for part in found) < count:
        axis = normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)
        R = rotation(axis * 0.5 * uniform(count, 1))
        t = normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)
        x1 = (2 * uniform(count, 6 * num_matches, 2) - 1) * half
        depth = 2 + 8 * uniform(count, 6 * num_matches, 1)
        if plane:
            slope = uniform(count, 1, 2) - 0.5
            depth = (3 + 4 * uniform(count, 1, 1)) / (1 + (slope * x1).sum(dim=-1, keepdim=True))
        X = torch.cat((x1 * depth, depth), dim=-1)
        X2 = X @ R.mT + t[:, None]
        x2 = X2[..., :2] / X2[..., 2:].clamp_min(0.1)
        seen = (X2[..., 2] > 0.1) & (x2.abs() < half).all(dim=-1)
        index = seen.int().argsort(dim=1, descending=True, stable=True)[:, :num_matches]
        enough = seen.gather(1, index).all(dim=1)
        found.append(tuple(v.gather(1, index[..., None].expand(-1, -1, v.shape[-1]))[enough] for v in (x1, x2, X)))  # type: ignore[arg-type]
    x1, x2, X = (torch.cat(parts)[:count] for parts in zip(*found, strict=True))
    noise = NOISE_PX * torch.randn((2, *x1.shape), generator=generator, dtype=torch.float64)
    wild = (2 * uniform(*x2.shape) - 1) * half * FOCAL_PX
    inlier = torch.rand(x1.shape[:2], generator=generator).argsort(dim=1) < round(inlier_ratio * num_matches)
    exact1, exact2 = x1 * FOCAL_PX, x2 * FOCAL_PX
    return Scenes(exact1 + noise[0], torch.where(inlier[..., None], exact2 + noise[1], wild), X, exact1, exact2)


Call = Callable[[Scenes], Any]
"""All models of the scenes: a stack of matrices, NaN or zero for a failure."""


def ours(name: str, **changes: Any) -> Call:
    """Our estimator of that name on the whole batch, a matrix for each problem."""

    def call(scenes: Scenes) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        x1, x2 = scenes.x1.float(), scenes.x2.float()
        if name == "F":
            options = replace(FUNDAMENTAL_OPTIONS, **changes)
            return rfp.estimate_fundamental(x1, x2, max_error=MAX_ERROR_PX, options=options, generator=generator).F
        if name == "H":
            options, max_error = replace(HOMOGRAPHY_OPTIONS, **changes), MAX_ERROR_PX / 2**0.5
            return rfp.estimate_homography(x1, x2, max_error=max_error, options=options, generator=generator).H
        options, max_error = replace(ABSOLUTE_POSE_OPTIONS, **changes), MAX_ERROR_PX / FOCAL_PX
        found = rfp.estimate_absolute_pose(
            scenes.X.float(), x2 / FOCAL_PX, max_error=max_error, options=options, generator=generator
        )
        return torch.cat((found.R, found.t[..., None]), dim=-1) * found.valid[:, None, None]

    return call


def one_by_one(estimate: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray | None], shape: tuple[int, int]):
    """An estimator of single problems in NumPy as a call; a failure is zero."""

    def call(scenes: Scenes) -> Tensor:
        models = []
        for x1, x2, X in zip(scenes.x1.numpy(), scenes.x2.numpy(), scenes.X.numpy()):
            model = estimate(x1, x2, X)
            models.append(np.zeros(shape) if model is None else model)
        return torch.from_numpy(np.stack(models))

    return call


def _poselib_pose(x1: np.ndarray, x2: np.ndarray, X: np.ndarray) -> np.ndarray:
    camera = {"model": "SIMPLE_PINHOLE", "width": 640, "height": 480, "params": [FOCAL_PX, 0.0, 0.0]}
    pose, _ = poselib.estimate_absolute_pose(x2, X, camera, {"max_reproj_error": MAX_ERROR_PX}, {})
    return pose.Rt


def _opencv_pose(x1: np.ndarray, x2: np.ndarray, X: np.ndarray) -> np.ndarray | None:
    K = np.diag([FOCAL_PX, FOCAL_PX, 1.0])
    settings = {"iterationsCount": ITERATIONS, "reprojectionError": MAX_ERROR_PX, "confidence": CONFIDENCE}
    found, vector, t, _ = cv2.solvePnPRansac(X, x2, K, None, flags=cv2.SOLVEPNP_P3P, **settings)
    return np.hstack((cv2.Rodrigues(vector)[0], t)) if found else None


def _opencv_fundamental(method: int):
    return lambda x1, x2, X: _three_by_three(
        cv2.findFundamentalMat(x1, x2, method, MAX_ERROR_PX, CONFIDENCE, ITERATIONS)[0]
    )


def _opencv_homography(method: int):
    return lambda x1, x2, X: cv2.findHomography(
        x1, x2, method, MAX_ERROR_PX, maxIters=ITERATIONS, confidence=CONFIDENCE
    )[0]


def _three_by_three(F: np.ndarray | None) -> np.ndarray | None:
    return F[:3] if F is not None and F.shape[0] >= 3 else None  # minimal samples come stacked


def estimators(model: str) -> dict[str, Call]:
    """All that estimate one model: ours with its default options and with an early stop, PoseLib, OpenCV."""
    stop = {"early_stop": 0.9999}
    epipolar, reprojection = {"max_epipolar_error": MAX_ERROR_PX}, {"max_reproj_error": MAX_ERROR_PX}
    others: dict[str, Call] = {
        "F": {
            "PoseLib": one_by_one(lambda a, b, X: poselib.estimate_fundamental(a, b, epipolar, {})[0], (3, 3)),
            "OpenCV RANSAC": one_by_one(_opencv_fundamental(cv2.FM_RANSAC), (3, 3)),
            "OpenCV USAC_MAGSAC": one_by_one(_opencv_fundamental(cv2.USAC_MAGSAC), (3, 3)),
        },
        "H": {
            "PoseLib": one_by_one(lambda a, b, X: poselib.estimate_homography(a, b, reprojection, {})[0], (3, 3)),
            "OpenCV RANSAC": one_by_one(_opencv_homography(cv2.RANSAC), (3, 3)),
            "OpenCV USAC_MAGSAC": one_by_one(_opencv_homography(cv2.USAC_MAGSAC), (3, 3)),
        },
        "P3P": {
            "PoseLib": one_by_one(_poselib_pose, (3, 4)),
            "OpenCV solvePnPRansac": one_by_one(_opencv_pose, (3, 4)),
        },
    }[model]
    return {"rfp": ours(model), "rfp, early stop": ours(model, **stop), **others}


def errors_px(model: str, found: Tensor, scenes: Scenes) -> Tensor:
    """Root mean square error (P,) of the exact points under the estimates; a failure has ``FAILED_PX``."""
    found = found.double()
    failed = ~torch.isfinite(found).flatten(1).all(dim=1) | (found == 0).flatten(1).all(dim=1)
    if model == "F":
        error = sampson_distance(scenes.exact1, scenes.exact2, found).sqrt()
    else:
        points = torch.cat((scenes.exact1, torch.ones_like(scenes.exact1[..., :1])), dim=-1)
        image = points @ found.mT if model == "H" else scenes.X @ found[..., :3].mT + found[:, None, :, 3]
        scale = 1.0 if model == "H" else FOCAL_PX
        error = (scale * image[..., :2] / image[..., 2:] - scenes.exact2).norm(dim=-1)
    error = error.square().mean(dim=1).sqrt().nan_to_num(FAILED_PX, FAILED_PX)
    return torch.where(failed, FAILED_PX, error.clamp_max(FAILED_PX))


def measure(model: str, scenes: Scenes, options: Options) -> list[dict[str, Any]]:
    """The rows of one model on one set of scenes: times of everybody in turn, errors of the last run."""
    calls = estimators(model)
    count, found, milliseconds = {}, {}, {name: [] for name in calls}
    for name, call in calls.items():
        started = time.perf_counter()
        trial = scenes if name.startswith("rfp") else scenes[:4]
        call(trial)
        each = (time.perf_counter() - started) / len(trial)
        most = max(4, int(options.seconds / each))
        count[name] = len(scenes) if name.startswith("rfp") else min(len(scenes), most)
    for _ in range(options.repetitions):
        for name, call in calls.items():
            started = time.perf_counter()
            found[name] = call(scenes[: count[name]])
            milliseconds[name].append(1e3 * (time.perf_counter() - started) / count[name])
    rows = []
    for name in calls:
        error = errors_px(model, found[name], scenes[: count[name]])
        rows.append(
            {
                "model": model,
                "estimator": name,
                "ms_a_problem": round(statistics.median(milliseconds[name]), 3),
                "right": f"{100 * (error < RIGHT_PX).double().mean().item():.1f} %",
                "median_error_px": round(error.median().item(), 3),
                "problems": count[name],
            }
        )
    return rows


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.quick:
        options = replace(options, problems=8, inlier_ratios=(0.4,), repetitions=1, seconds=0.5)
    result: dict[str, Any] = {}
    for ratio in options.inlier_ratios:
        rows = []
        for model in ("F", "H", "P3P"):
            scenes = draw_scenes(options.problems, options.matches, ratio, plane=model == "H")
            rows += measure(model, scenes, options)
        result[f"{options.matches} matches, {100 * ratio:.0f} % inliers"] = rows
        print(f"{100 * ratio:.0f} % inliers")
        for row in rows:
            print("  ", *(f"{value!s:24s}" for value in row.values()))
        if options.json is not None:
            conditions = {"repetitions": options.repetitions, "versions": _versions(), **machine()}
            write_json(options.json, {**result, "measured with": conditions})


def _versions() -> str:
    return f"PoseLib {poselib.__version__}, OpenCV {cv2.__version__}; default options, OpenCV {ITERATIONS} iterations"


if __name__ == "__main__":
    main(tyro.cli(Options))
