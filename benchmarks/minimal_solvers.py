"""Minimal solvers alone: microseconds a solve, how often the true model is found, how many models there are.

    python benchmarks/minimal_solvers.py [--quick] [--json docs/results/minimal_solvers.json]

Ours and kornia's take batches; PoseLib's and OpenCV's are called from Python one sample after another, and a part of
their time is that call. So PoseLib's five- and three-point solvers are timed once more inside its RANSAC loop, as the
cost of one more iteration on matches without any consensus: there it includes sampling and scoring ten matches.

"True model": within 1e-6 of it (1e-4 where the input is float32), both at norm 1, up to the sign. "Solutions":
of all models that one of the float64 solvers found and that solve their sample, so that none of them is the standard.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import poselib
import torch
import tyro
from kornia.geometry.epipolar import find_essential, find_fundamental
from kornia.geometry.homography import find_homography_dlt
from machine import machine
from minimal_problems import MinimalProblems, absolute_poses, planes, two_views
from torch import Tensor
from torch.nn.functional import normalize, pad

import rfp
from rfp.geometry.absolute_pose import three_point
from rfp.geometry.homography import four_point
from rfp.geometry.pose import essential_from_pose
from rfp.geometry.seven_point import seven_point
from rfp.training.checkpoint import write_json

SAME = 1e-6
SOLVED = 1e-9
FLOAT32_SAME = 1e-4

Candidates = tuple[Tensor, Tensor]
"""Models (P, c, k) in float64 at norm 1, and which slots hold one (P, c)."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures."""
    quick: bool = False
    """Few samples and repetitions."""
    samples: int = 10_000
    """Of each kind of problem."""
    batches: tuple[int, ...] = (1, 288, 4096)
    """Solves in one call, for solvers that take several. A GPU wants more: 65536."""
    device: str = "cpu"
    """Of ours and kornia's; the others stay on the CPU."""
    repetitions: int = 5
    """Timed calls of each."""


@dataclass(frozen=True)
class Solver:
    """One of the solvers of a kind of problem."""

    solve: Callable[..., Any]
    """From what ``prepare`` made of (P, n, ·) points to anything; this is what is timed."""
    read: Callable[[Any], Candidates]
    prepare: Callable[[Tensor, Tensor], tuple[Any, Any]]
    dtype: torch.dtype = torch.float64
    """Of the points it is given."""
    batched: bool = True


def batched(solve: Callable, dtype: torch.dtype, **arguments: Any) -> Solver:
    """A solver of tensors; done when its result is there."""

    def prepare(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return first.to(dtype), second.to(dtype)

    def solve_and_wait(first: Tensor, second: Tensor) -> Any:
        result = solve(first, second, **arguments)
        if first.device.type == "cuda":
            torch.cuda.synchronize()
        return result

    return Solver(solve_and_wait, read_tensors, prepare, dtype)


def one_by_one(
    solve: Callable,
    read: Callable[[Any], Tensor],
    convert: Callable[[np.ndarray], np.ndarray] = lambda x: x,
    dtype: torch.dtype = torch.float64,
) -> Solver:
    """A solver of one sample of arrays; ``read`` makes a tensor (c, k) of what it returns.

    ``dtype`` is the precision that the solver itself takes the points in.
    """

    def prepare(first: Tensor, second: Tensor) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [convert(x) for x in first.cpu().numpy()], [convert(x) for x in second.cpu().numpy()]

    def loop(first: list[np.ndarray], second: list[np.ndarray]) -> list[Any]:
        return [solve(x, y) for x, y in zip(first, second, strict=True)]

    def read_all(results: list[Any]) -> Candidates:
        models = [read(result).double() for result in results]
        slots = max(1, *(len(model) for model in models))
        padded = torch.stack([pad(model, (0, 0, 0, slots - len(model))) for model in models])
        return at_norm_1(padded)

    return Solver(loop, read_all, prepare, dtype, batched=False)


def read_tensors(result: Any) -> Candidates:
    """(E, valid), (R, t, valid), or candidates in which NaN or zero marks an empty slot."""
    if isinstance(result, tuple) and len(result) == 3:
        R, t, valid = result
        models = torch.cat((R.flatten(-2), t), dim=-1)
    elif isinstance(result, tuple):
        models, valid = result[0].flatten(-2), result[1]
    else:
        models, valid = result.flatten(-2), None
    if models.dim() == 2:
        models, valid = models[:, None], None if valid is None else valid[:, None]
    models, present = at_norm_1(models.cpu().double())
    return models, present if valid is None else valid.cpu()


def at_norm_1(models: Tensor) -> Candidates:
    """Models scaled to norm 1; those that are zero or not finite are none."""
    present = torch.isfinite(models).all(dim=-1) & (models != 0).any(dim=-1)
    return normalize(torch.where(present[..., None], models, 0), dim=-1), present


def homogeneous(x: np.ndarray) -> np.ndarray:
    return np.concatenate((x, np.ones_like(x[:, :1])), axis=1)


def bearings(x: np.ndarray) -> np.ndarray:
    """Unit rays of image points; points of space as they are."""
    if x.shape[1] == 3:
        return x
    rays = homogeneous(x)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def matrices(result: Any) -> Tensor:
    """(c, 9) of a list of 3×3 matrices, or of matrices stacked as OpenCV stacks them."""
    return torch.from_numpy(np.array(result if result is not None else [], dtype=np.float64)).reshape(-1, 9)


def essentials_of(poses: list[Any]) -> Tensor:
    """(c, 9) of PoseLib's relative poses."""
    R = torch.from_numpy(np.array([pose.R for pose in poses])).reshape(-1, 3, 3)
    t = torch.from_numpy(np.array([pose.t for pose in poses])).reshape(-1, 3)
    return essential_from_pose(R, t).flatten(1)


def absolute(poses: list[tuple[Any, Any]]) -> Tensor:
    """(c, 12) of pairs (R, t)."""
    rows = [np.concatenate((np.asarray(R).reshape(9), np.asarray(t).reshape(3))) for R, t in poses]
    return torch.from_numpy(np.array(rows, dtype=np.float64)).reshape(-1, 12)


def opencv_three_point(X: np.ndarray, x: np.ndarray) -> list[tuple[Any, Any]]:
    _, rotations, translations = cv2.solveP3P(X, x[:, None], np.eye(3), None, cv2.SOLVEPNP_P3P)  # type: ignore[arg-type]
    return list(zip(rotations, translations, strict=True))


def read_opencv_poses(poses: list[tuple[Any, Any]]) -> Tensor:
    return absolute([(cv2.Rodrigues(R)[0], t) for R, t in poses])


def ours(solve: Callable) -> dict[str, Solver]:
    """Ours in float64, as RANSAC uses it, and in float32 throughout."""
    return {
        "rfp, float64": batched(solve, torch.float64),
        "rfp, float32 points, float64 inside": batched(solve, torch.float32),
        "rfp, float32": batched(solve, torch.float32, solver_dtype=torch.float32),
    }


def kornias(solve: Callable, **arguments: Any) -> dict[str, Solver]:
    """kornia's in both precisions of the points."""
    return {
        "kornia, float64": batched(solve, torch.float64, **arguments),
        "kornia, float32 points": batched(solve, torch.float32, **arguments),
    }


IDENTITY = np.eye(3)
KINDS: dict[str, tuple[Callable[[int], MinimalProblems], dict[str, Solver]]] = {
    "five points, essential matrices": (
        lambda count: two_views(count, 5),
        {
            **ours(rfp.five_point),
            **kornias(find_essential),
            "PoseLib, matrices": one_by_one(poselib.essential_matrix_5pt, matrices, bearings),
            "PoseLib, poses in front": one_by_one(poselib.relpose_5pt, essentials_of, bearings),
            "OpenCV": one_by_one(
                lambda x1, x2: cv2.findEssentialMat(x1, x2, IDENTITY, cv2.RANSAC, 0.999, 1e-3)[0], matrices
            ),
        },
    ),
    "seven points, fundamental matrices": (
        lambda count: two_views(count, 7),
        {
            **ours(seven_point),
            **kornias(find_fundamental, method="7POINT"),
            "OpenCV, float32 points": one_by_one(
                lambda x1, x2: cv2.findFundamentalMat(x1, x2, cv2.FM_7POINT)[0], matrices, dtype=torch.float32
            ),
        },
    ),
    "four points, homographies": (
        planes,
        {
            **ours(four_point),
            **kornias(find_homography_dlt),
            "OpenCV, float32 points": one_by_one(
                lambda x1, x2: cv2.getPerspectiveTransform(x1, x2),
                matrices,
                lambda x: x.astype(np.float32),
                dtype=torch.float32,
            ),
        },
    ),
    "three points, absolute poses": (
        absolute_poses,
        {
            **ours(three_point),
            "PoseLib": one_by_one(
                lambda X, x: poselib.p3p(x, X), lambda poses: absolute([(p.R, p.t) for p in poses]), bearings
            ),
            "OpenCV": one_by_one(opencv_three_point, read_opencv_poses),
        },
    ),
}


def distances(models: Tensor, truth: Tensor) -> Tensor:
    """Between models at norm 1, up to the sign."""
    return torch.minimum((models - truth).norm(dim=-1), (models + truth).norm(dim=-1))


def accuracy(solvers: dict[str, Solver], problems: MinimalProblems, device: str) -> dict[str, dict[str, Any]]:
    """For each solver: how often the truth is among its models, how many it has, and how many of all solutions."""
    found = {}
    for name, solver in solvers.items():
        found[name] = solver.read(solver.solve(*solver.prepare(problems.first.to(device), problems.second.to(device))))
    solutions, present = all_solutions(solvers, problems, found)
    rows = {}
    for name, solver in solvers.items():
        models, valid = found[name]
        # Points rounded to float32 have other solutions, nearby.
        tolerance = SAME if solver.dtype == torch.float64 else FLOAT32_SAME
        nearest = torch.where(valid, distances(models, problems.truth[:, None]), torch.inf).amin(dim=1)
        among = torch.where(valid[:, None], distances(solutions[:, :, None], models[:, None]), torch.inf).amin(dim=2)
        rows[name] = {
            "true model found, %": round(100 * (nearest < tolerance).double().mean().item(), 2),
            "within": f"{tolerance:.0e}",
            "median error": nearest.median().item(),
            "models a sample": round(valid.sum(dim=1).double().mean().item(), 3),
            "solutions found, %": round(100 * (among[present] < tolerance).double().mean().item(), 2),
        }
    rows["solutions there are"] = {"models a sample": round(present.sum(dim=1).double().mean().item(), 3)}
    return rows


def all_solutions(
    solvers: dict[str, Solver], problems: MinimalProblems, found: dict[str, Candidates]
) -> tuple[Tensor, Tensor]:
    """The different models among all that solvers of float64 points found, which solve their sample."""
    precise = [found[name] for name, solver in solvers.items() if solver.dtype == torch.float64]
    models, valid = (torch.cat(parts, dim=1) for parts in zip(*precise, strict=True))
    valid = valid & (problems.residual(models, problems.first, problems.second) < SOLVED)
    for slot in range(1, models.shape[1]):
        known = (distances(models[:, :slot], models[:, slot, None]) < SAME) & valid[:, :slot]
        valid[:, slot] &= ~known.any(dim=1)
    most = int(valid.sum(dim=1).max())
    first = valid.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    return models.gather(1, first[..., None].expand(-1, -1, models.shape[2])), valid.gather(1, first)


def times(solvers: dict[str, Solver], problems: MinimalProblems, options: Options) -> dict[str, dict[str, str | float]]:
    """Median microseconds a solve by solver and number of solves in a call, the solvers taking turns."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in solvers}
    for batch in options.batches:
        index = torch.arange(batch) % len(problems.first)
        calls = {}
        for name, solver in solvers.items():
            if solver.batched or batch == 288:
                samples = (points[index].to(options.device) for points in (problems.first, problems.second))
                prepared = solver.prepare(*samples)
                calls[name] = partial(solver.solve, *prepared)
        measured: dict[str, list[float]] = {name: [] for name in calls}
        for repetition in range(options.repetitions + 1):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                if repetition:  # the first one warms up
                    measured[name].append(1e6 * (time.perf_counter() - started) / batch)
        for name, values in measured.items():
            column = f"µs, {batch} a call" if solvers[name].batched else "µs, one by one"
            rows[name][column] = round(statistics.median(values), 2)
    return rows


def microseconds_inside_poselib(options: Options) -> dict[str, dict[str, Any]]:
    """What one more iteration of PoseLib's RANSAC costs, on ten random matches."""
    random = np.random.default_rng(0)
    x1, x2, X = (random.uniform(-1, 1, (10, size)) for size in (2, 2, 3))
    camera = poselib.Camera("SIMPLE_PINHOLE", [1.0, 0.0, 0.0], 2, 2)
    few, many = (500, 2500) if options.quick else (5000, 25000)

    def relative(iterations: int) -> None:
        budget = {"max_iterations": iterations, "min_iterations": iterations, "max_epipolar_error": 1e-6}
        poselib.estimate_relative_pose(x1, x2, camera, camera, budget, {})

    def absolute_pose(iterations: int) -> None:
        budget = {"max_iterations": iterations, "min_iterations": iterations, "max_reproj_error": 1e-6}
        poselib.estimate_absolute_pose(x1, X, camera, budget, {})

    rows = {}
    for kind, run in (("five points, essential matrices", relative), ("three points, absolute poses", absolute_pose)):
        slopes = []
        for _ in range(options.repetitions):
            seconds = []
            for iterations in (few, many):
                started = time.perf_counter()
                run(iterations)
                seconds.append(time.perf_counter() - started)
            slopes.append(1e6 * (seconds[1] - seconds[0]) / (many - few))
        rows[kind] = {"µs, one by one": round(statistics.median(slopes), 2)}
    return rows


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    samples = 400 if options.quick else options.samples
    if options.quick:
        options = replace(options, samples=samples, batches=(1, 288), repetitions=3)
    inside = microseconds_inside_poselib(options)
    result: dict[str, Any] = {}
    for kind, (draw, solvers) in KINDS.items():
        problems = draw(samples)
        timed, judged = times(solvers, problems, options), accuracy(solvers, problems, options.device)
        result[kind] = {name: {**timed.get(name, {}), **judged[name]} for name in judged}
        if kind in inside:
            result[kind]["PoseLib, one more iteration of its loop"] = inside[kind]
        print_kind(kind, result[kind])
    result["measured with"] = {
        **machine(),
        **{"device": options.device, "threads": 1, "samples of each kind": samples, "repetitions": options.repetitions},
        **{"poselib": poselib.__version__, "opencv": cv2.__version__},
    }
    if options.json is not None:
        write_json(options.json, result)


def print_kind(kind: str, rows: dict[str, dict[str, Any]]) -> None:
    """The figures as lines of text."""
    print(f"\n{kind}")
    for name, row in rows.items():
        cells = (f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
        print(f"  {name}: {', '.join(cells)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
