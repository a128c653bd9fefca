"""Peak memory of the estimator beyond its inputs and outputs, over the number of hypotheses and of matches.

    python benchmarks/memory.py [--json docs/results/estimation_memory.json]
    python benchmarks/memory.py --trace --hypotheses 512 --matches 2000    # which tensors are alive at the peak; slow

Each point of the curve is measured in a process of its own: the largest resident set during the call, less the one
right before it, less the bytes of the result. Before, a call on two problems loads what torch loads once.
"""

import linecache
import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import tyro
from estimation_problems import Problems, synthetic_problems
from machine import machine
from our_estimators import BATCH
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import rfp
from rfp.training.checkpoint import write_json

LIMIT_MIB = 512.0
MIB = 2.0**20


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures."""
    problems: int = BATCH
    """In one call."""
    hypotheses: tuple[int, ...] = (256, 1024, 4096)
    """Of each problem."""
    matches: tuple[int, ...] = (300, 2000)
    """Of each problem, half of them inliers."""
    threads: int = 1
    """Of torch."""
    trace: bool = False
    """Say which tensors are alive at the peak instead, with the line of rfp that made them."""


def draw(count: int, num_matches: int) -> Problems:
    """Problems without the memory of drawing them: a few, repeated."""
    few = synthetic_problems(8, num_matches, 0.5)
    rows = torch.arange(count) % len(few)
    tensors = (tensor[rows].clone() for tensor in (few.x1, few.x2, few.valid, few.focal_px, few.R, few.t))
    x1, x2, valid, focal_px, R, t = tensors
    return Problems(x1, x2, valid, focal_px, R, t, few.max_error_px)


def estimate(problems: Problems, num_hypotheses: int) -> rfp.RelativePose:
    """The call that is measured, with the default options beside the number of hypotheses."""
    return rfp.estimate_relative_pose(
        problems.x1,
        problems.x2,
        max_error=problems.max_error,
        options=rfp.RansacOptions(num_hypotheses=num_hypotheses),
        valid=problems.valid,
        generator=torch.Generator().manual_seed(0),
    )


def peak_mib(count: int, num_hypotheses: int, num_matches: int, threads: int) -> float:
    """Of one call in this process, beyond inputs and outputs."""
    torch.set_num_threads(threads)
    problems = draw(count, num_matches)
    estimate(problems[:2], 8)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, at the level of now
    before = resident_mib("VmRSS")
    pose = estimate(problems, num_hypotheses)
    return resident_mib("VmHWM") - before - output_mib(pose)


def resident_mib(field: str) -> float:
    """VmRSS, the resident set of this process, or VmHWM, its largest so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def output_mib(pose: rfp.RelativePose) -> float:
    """Bytes of the result."""
    return sum(getattr(pose, field.name).nbytes for field in fields(pose)) / MIB


class LiveTensors(TorchDispatchMode):
    """Storages that are alive, by the line of rfp that made them, and who they were when they were most.

    Without what an operation takes for itself while it runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int, str]] = {}
        self.most, self.at_most, self.where = 0, Counter(), ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        line = _line_of_rfp()
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                known = self.live.get(reference.cdata)
                if known is None or known[0].expired():
                    self.live[reference.cdata] = (reference, storage.nbytes(), line)
        self.live = {key: value for key, value in self.live.items() if not value[0].expired()}
        total = sum(size for _, size, _ in self.live.values())
        if total > self.most:
            self.most, self.where = total, f"{func} at {line}"
            self.at_most = Counter()
            for _, size, made_at in self.live.values():
                self.at_most[made_at] += size
        return result


def _line_of_rfp() -> str:
    """The innermost line of rfp's that is running."""
    frame = sys._getframe(1)
    while frame is not None and "/rfp/" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return "outside of rfp"
    path = frame.f_code.co_filename
    source = linecache.getline(path, frame.f_lineno).strip()
    return f"{'/'.join(Path(path).parts[-2:])}:{frame.f_lineno} {source}"


def trace(options: Options) -> None:
    """Print the largest tensors at the peak of the last of the hypotheses and matches."""
    torch.set_num_threads(options.threads)
    problems = draw(options.problems, options.matches[-1])
    with LiveTensors() as tensors:
        estimate(problems, options.hypotheses[-1])
    print(f"{tensors.most / MIB:.0f} MiB of tensors (inputs that were touched included) after {tensors.where}")
    for line, size in tensors.at_most.most_common(20):
        print(f"{size / MIB:8.1f} MiB  {line}")


def main(options: Options) -> None:
    """Print the curve and write it."""
    if options.trace:
        trace(options)
        return
    rows = []
    for matches in options.matches:
        row: dict[str, Any] = {"matches": matches}
        for hypotheses in options.hypotheses:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
                peak = executor.submit(peak_mib, options.problems, hypotheses, matches, options.threads).result()
            row[f"{hypotheses} hypotheses, MiB"] = round(peak, 1)
            verdict = "" if peak < LIMIT_MIB else f"  more than {LIMIT_MIB:g} MiB"
            print(
                f"{options.problems} problems, {matches:5d} matches, {hypotheses:5d} hypotheses: "
                f"{peak:7.1f} MiB{verdict}"
            )
            sys.stdout.flush()
        rows.append(row)
    if options.json is not None:
        settings = {
            **machine(),
            "problems": options.problems,
            "threads": options.threads,
            "options beside the number of hypotheses": str(asdict(rfp.RansacOptions())),
            "limit, MiB": LIMIT_MIB,
        }
        write_json(options.json, {"peak beyond inputs and outputs": rows, "measured with": settings})


if __name__ == "__main__":
    main(tyro.cli(Options))
