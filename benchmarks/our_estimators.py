"""The ways in which the benchmarks call rfp: batches, budgets, threads, a CUDA graph."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from estimation_problems import Problems
from torch import Tensor

import rfp
from rfp.records import map_tensors

BATCH = 288
"""32 pairs × 9 draws."""
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class OurEstimator:
    """One way to call rfp."""

    batch: int = BATCH
    ransac: dict[str, Any] = field(default_factory=dict)
    """What differs from the default options."""
    threads: int = 1
    graph: bool = False
    """The whole call captured in a CUDA graph and replayed."""
    judged: bool = False
    """Its accuracy is measured; ways that differ in batch or threads alone compute the same."""

    @property
    def missing(self) -> str:
        """Why this version of rfp cannot do it, or nothing."""
        unknown = self.ransac.keys() - rfp.RansacOptions.__dataclass_fields__.keys()
        return f"no option {', '.join(unknown)}" if unknown else ""

    @property
    def options(self) -> str:
        """For the table: everything that decides the figures."""
        used = self.ransac if self.missing else asdict(rfp.RansacOptions(**self.ransac))
        shown = [f"{key} {value}" for key, value in used.items()]
        shown += [f"threads {self.threads}"] if self.threads > 1 else []
        return ", ".join([*shown, "in a CUDA graph"] if self.graph else shown)

    @property
    def num_hypotheses(self) -> int | None:
        """Minimal samples of each problem, those of the second stage included, where the budget is a fixed one."""
        if self.missing or "early_stop" in self.ransac:
            return None
        used = rfp.RansacOptions(**self.ransac)
        return used.num_hypotheses + used.resample_rounds * used.num_resampled * used.resamples


def our_estimators(device: str) -> dict[str, OurEstimator]:
    """All ways by name. One static budget, the default one, for all problems; the others are beside it."""
    static, stop = {}, {"early_stop": 0.9999}  # PoseLib's confidence
    once = {"resample_rounds": 0}
    ways = {
        "rfp": OurEstimator(ransac=static, judged=True),
        "rfp, batch 9": OurEstimator(9, static),
        "rfp, batch 1": OurEstimator(1, static),
        "rfp, no second stage": OurEstimator(ransac=once, judged=True),
        "rfp, no second stage, 2560 hypotheses": OurEstimator(ransac=once | {"num_hypotheses": 2560}, judged=True),
        "rfp, float32 solver": OurEstimator(ransac={"solver_dtype": "float32"}, judged=True),
        "rfp, likelihood": OurEstimator(ransac={"score": "likelihood"}, judged=True),
    }
    if device == "cpu":
        return ways | {
            "rfp, all cores": OurEstimator(ransac=static, threads=CORES),
            "rfp, early stop": OurEstimator(ransac=stop, judged=True),
            "rfp, early stop at 0.99": OurEstimator(ransac={"early_stop": 0.99}, judged=True),  # kornia's confidence
            "rfp, early stop, batch 9": OurEstimator(9, stop),
            "rfp, early stop, batch 1": OurEstimator(1, stop),
            "rfp, early stop, all cores": OurEstimator(ransac=stop, threads=CORES),
        }
    return ways | {
        "rfp, batch 2000": OurEstimator(2000, static),
        "rfp, CUDA graph": OurEstimator(ransac=static, graph=True),
        "rfp, CUDA graph, batch 9": OurEstimator(9, static, graph=True),
        "rfp, CUDA graph, batch 1": OurEstimator(1, static, graph=True),
    }


class OurRun:
    """The problems in batches on the device. Each batch is waited for, as one who wants the poses would."""

    def __init__(self, way: OurEstimator, problems: Problems, device: str):
        self.generator = torch.Generator(device)
        self.options = rfp.RansacOptions(**way.ransac)
        self.synchronize = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
        self.batches = list(problems.to(device).batches(way.batch))
        self.max_errors = [batch.max_error for batch in self.batches]
        self.replay = captured(self._estimate, self.batches[0], self.generator) if way.graph else None

    def _estimate(self, batch: Problems, max_error: Tensor) -> rfp.RelativePose:
        return rfp.estimate_relative_pose(
            batch.x1, batch.x2, max_error=max_error, options=self.options, valid=batch.valid, generator=self.generator
        )

    def __call__(self) -> list[rfp.RelativePose]:
        self.generator.manual_seed(0)
        poses = []
        for batch, max_error in zip(self.batches, self.max_errors, strict=True):
            poses.append((self.replay or self._estimate)(batch, max_error))
            self.synchronize()
        return poses

    def close(self) -> None:
        """Let go of the tensors and the graph."""
        self.batches, self.max_errors, self.replay = [], [], None


Estimate = Callable[[Problems, Tensor], rfp.RelativePose]


def captured(estimate: Estimate, like: Problems, generator: torch.Generator) -> Estimate:
    """The same as the replay of one CUDA graph: matches are copied into its tensors, poses out of them.

    The generator goes on from one replay to the next, so that each draws samples of its own.
    """
    problems, max_error = like.to_copy(), like.max_error.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            estimate(problems, max_error)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        pose = estimate(problems, max_error)

    def replay(batch: Problems, batch_max_error: Tensor) -> rfp.RelativePose:
        problems.x1.copy_(batch.x1)
        problems.x2.copy_(batch.x2)
        problems.valid.copy_(batch.valid)
        max_error.copy_(batch_max_error)
        graph.replay()
        return map_tensors(pose, torch.clone)

    return replay
