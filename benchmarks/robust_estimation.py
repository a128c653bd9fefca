"""Relative poses by rfp and by other libraries on the same problems, in one run: time a problem and accuracy.

    python benchmarks/robust_estimation.py --quick
    RFP_DATA=... python benchmarks/robust_estimation.py --json docs/results/robust_estimation.json
    ... --rows "300 matches" --against poselib rfp     # only what is named so; the rest of the file is kept

Problems come from ``estimation_problems.py``, ours from ``our_estimators.py``, the others and their settings from
``other_estimators.py``. All take turns: each repetition runs all of them, and a row has the median. One thread each,
unless the row says otherwise. Others see one problem after another; ours are called with batches of 288, 9 and 1. Where
an estimator is slow it gets fewer problems, the first of the same list; the row has their number. AUC is of the larger
of the two angles, the sign of the translation not counted, as everyone reports it; a problem without an estimate counts
with 180 degrees.

Results are written after every repetition. Rows that the file has already are kept unless ``--anew``.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import tyro
from estimation_comparison import comparisons, goals, print_table
from estimation_problems import GENERATOR, Problems, real_problems, synthetic_problems
from machine import machine
from other_estimators import Loop, OtherEstimator, Pool, other_estimators
from our_estimators import BATCH, OurEstimator, OurRun, our_estimators
from report_sets import keyed_auc

import rfp
from rfp.evaluation.auc import FAILED_DEG
from rfp.training.checkpoint import write_json

SYNTHETIC = {
    "300 matches, 70 % inliers": (300, 0.7),
    "300 matches, 40 % inliers": (300, 0.4),
    "300 matches, 25 % inliers": (300, 0.25),
    "2000 matches, 50 % inliers": (2000, 0.5),
}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures, and where to look for those that are there already."""
    quick: bool = False
    """A few problems of some rows in small batches, under a minute: shows that it runs, and measures nothing."""
    anew: bool = False
    """Measure again what is named instead of keeping it; all rows go if they were measured under other conditions."""
    rows: tuple[str, ...] = ()
    """Problems to run, by parts of their names; all by default."""
    against: tuple[str, ...] = ()
    """Estimators to run, by parts of their names, ours included; all by default."""
    device: str = "cpu"
    """Where ours run, and those of the others that can."""
    repetitions: int = 3
    """Timed runs of each row."""
    timed: int = BATCH
    """Problems that are timed."""
    judged: int = 2000
    """Problems that ours and PoseLib are judged on."""
    seconds: float = 60.0
    """Of timing an estimator; slow ones get fewer problems. Others than PoseLib are judged for twice that."""
    sets: tuple[str, ...] = ("lund_door",)
    """Folders of real pairs in RFP_DATA: those on which options may be chosen."""


QUICK_ROWS = ("40 %", "50 %", "640 px")
QUICK_ESTIMATORS = ("rfp", "rfp, batch 1", "rfp, early stop", "rfp, CUDA graph")


def quick(options: Options) -> Options:
    """The same with next to no work."""
    return replace(options, timed=8, judged=8, seconds=0.1)


class Run(Protocol):
    """Estimates all of its problems; what it holds is let go afterwards."""

    def __call__(self) -> Iterable[Any]: ...

    def close(self) -> None: ...


class Estimators:
    """Ours and the others by name: how each is run."""

    def __init__(self, device: str):
        self.device = device
        self.ours, self.others = our_estimators(device), other_estimators(device)
        self.all: dict[str, OurEstimator | OtherEstimator] = {**self.ours, **self.others}

    def run(self, name: str, problems: Problems, *, judging: bool = False) -> Run:
        """What runs these problems; where only the poses matter, in as many processes as can be had."""
        torch.set_num_threads(self.ours[name].threads if name in self.ours else 1)
        cv2.setNumThreads(1)
        if name in self.ours:
            return OurRun(self.ours[name], problems, self.device)
        other = self.others[name]
        return Pool(other, problems) if other.in_pool or (judging and other.may_fork) else Loop(other, problems)

    def in_pool(self, name: str) -> bool:
        """Whether it is timed in several processes."""
        return name in self.others and self.others[name].in_pool

    def judged(self, name: str) -> bool:
        """Whether its accuracy is measured: that of some rows is that of others."""
        return self.ours[name].judged if name in self.ours else not self.in_pool(name)

    def row(self, workload: str, name: str) -> dict[str, Any]:
        """What is known of a row before it is measured."""
        row: dict[str, Any] = {"workload": workload, "estimator": name, "options": self.all[name].options}
        if name in self.ours:
            row["batch"] = self.ours[name].batch
        return {**row, "commit": machine()["commit"], "ms_each": [], "processor_ms_each": []}


def timed_run(estimators: Estimators, name: str, problems: Problems, options: Options) -> tuple[Run, int]:
    """A warm run over as many problems as the time allows, and their number."""
    batch = min(estimators.ours[name].batch, len(problems)) if name in estimators.ours else 1
    ms = 0.0
    for count in (batch, 4 * batch):  # the first call compiles or loads what it needs
        if count > 1 and 1e-3 * count * ms > options.seconds / options.repetitions:
            break
        run = estimators.run(name, problems[:count])
        started = time.perf_counter()
        run()
        ms = 1e3 * (time.perf_counter() - started) / min(count, len(problems))
        run.close()
    allowed = int(1e3 * options.seconds / options.repetitions / ms)
    most = max(batch, min(options.timed, len(problems)))
    count = max(1, min(allowed, most) // batch) * batch
    return estimators.run(name, problems[:count]), count


def judge(estimators: Estimators, name: str, problems: Problems, options: Options) -> dict[str, Any]:
    """Accuracy on the first problems, of as many as the time allows."""
    limited = name in estimators.others and not name.startswith("PoseLib")
    started, errors = time.perf_counter(), []
    size = BATCH if name in estimators.ours else min(96, max(1, options.judged // 4))
    for part in problems[: options.judged].batches(size):
        if limited and errors and time.perf_counter() - started > 2 * options.seconds:
            break
        run = estimators.run(name, part, judging=True)
        errors += errors_deg(run(), part)
        run.close()
    return {
        "auc": keyed_auc(errors),
        "median_error_deg": round(statistics.median(errors), 3),
        "failed": sum(error >= FAILED_DEG for error in errors) / len(errors),
        "judged": len(errors),
        "errors_centideg": " ".join(str(round(100 * error)) for error in errors),
    }


def errors_deg(estimates: Iterable[Any], problems: Problems) -> list[float]:
    """The larger angle of each problem, from batches of ours or single poses of the others."""
    Rs, ts, valid = [], [], []
    for estimate in estimates:
        if isinstance(estimate, rfp.RelativePose):
            Rs.append(estimate.R.double().cpu())
            ts.append(estimate.t.double().cpu())
            valid.append(estimate.valid.cpu())
        else:
            R, t = estimate if estimate is not None else (np.eye(3), np.zeros(3))
            Rs.append(torch.from_numpy(np.array(R, dtype=np.float64))[None])
            ts.append(torch.from_numpy(np.array(t, dtype=np.float64)).reshape(1, 3))
            valid.append(torch.tensor([estimate is not None]))
    R, t = torch.cat(Rs), torch.cat(ts)
    found = torch.cat(valid) & torch.isfinite(R).all(-1).all(-1) & torch.isfinite(t).all(-1)
    R, t = torch.where(found[:, None, None], R, 0), torch.where(found[:, None], t, 0)
    angles = rfp.relative_pose_error(R, t, problems.R, problems.t, fold_translation=True)
    return torch.where(found, torch.maximum(*angles).rad2deg(), FAILED_DEG).tolist()


class Benchmark:
    """The rows of one file, measured or kept."""

    def __init__(self, options: Options):
        self.options, self.estimators = options, Estimators(options.device)
        self.result: dict[str, Any] = {"estimation_rows": [], "measured with": conditions(options)}
        if options.json is not None and options.json.is_file():
            before = json.loads(options.json.read_text())
            if check_same(before["measured with"], conditions(options), options):
                self.result = {
                    **before,
                    "estimation_rows": [row for row in before["estimation_rows"] if self._kept(row)],
                }

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All of the file."""
        return self.result["estimation_rows"]

    def _kept(self, row: dict[str, Any]) -> bool:
        """Whether a row of the file may stay."""
        asked_for = named(row["workload"], self.options.rows) and named(row["estimator"], self.options.against)
        return row["estimator"] in self.estimators.all and not (self.options.anew and asked_for)

    def wanted(self, workload: str) -> list[str]:
        """Estimators that were asked for and have no complete row; what cannot run here gets a row that says so."""
        names = [name for name in self.estimators.all if named(name, self.options.against)]
        if self.options.quick:
            names = [name for name in names if name in (*QUICK_ESTIMATORS, *self.estimators.others)]
        names = [name for name in names if not self._complete(self._row(workload, name), name)]
        for name in names:
            if missing := self.estimators.all[name].missing:
                self.keep({**self.estimators.row(workload, name), "missing": missing})
        return [name for name in names if not self.estimators.all[name].missing]

    def _row(self, workload: str, name: str) -> dict[str, Any]:
        return next((row for row in self.rows if (row["workload"], row["estimator"]) == (workload, name)), {})

    def _complete(self, row: dict[str, Any], name: str) -> bool:
        """Whether a row of the file is finished, and was made with the options of today."""
        timed = len(row.get("ms_each", ())) >= self.options.repetitions
        judged = "judged" in row or not self.estimators.judged(name)
        return row.get("options") == self.estimators.all[name].options and timed and judged

    def measure(self, workload: str, problems: Problems) -> None:
        """Time what is wanted, everybody in turn, then judge it."""
        runs: dict[str, Run] = {}
        rows = {name: self.estimators.row(workload, name) for name in self.wanted(workload)}
        for name, row in rows.items():
            try:
                runs[name], row["timed"] = timed_run(self.estimators, name, problems, self.options)
                row |= {"batch": min(row["batch"], row["timed"])} if "batch" in row else {}
            except Exception as error:  # one that fails is a row, not the end of the others
                self.keep({**row, "missing": f"{type(error).__name__}: {str(error).splitlines()[0]}"})
        for repetition in range(self.options.repetitions):
            for name, run in runs.items():
                self._time(name, run, rows[name])
                rows[name]["in_turn_with"] = len(runs) - 1
            for name in runs:
                self.keep(rows[name])
            print(f"{workload}: repetition {repetition + 1} of {self.options.repetitions}", file=sys.stderr)
        for name, run in runs.items():
            run.close()
            if self.estimators.judged(name):
                rows[name] |= judge(self.estimators, name, problems, self.options)
                self.keep(rows[name])

    def _time(self, name: str, run: Run, row: dict[str, Any]) -> None:
        """One repetition, by the clock and by the processor's time of this process."""
        torch.set_num_threads(self.estimators.ours[name].threads if name in self.estimators.ours else 1)
        clock, processor = time.perf_counter(), time.process_time()
        run()
        row["ms_each"].append(round(1e3 * (time.perf_counter() - clock) / row["timed"], 4))
        row["ms"] = statistics.median(row["ms_each"])
        if not self.estimators.in_pool(name):
            row["processor_ms_each"].append(round(1e3 * (time.process_time() - processor) / row["timed"], 4))
            row["processor_ms"] = statistics.median(row["processor_ms_each"])
        if name in self.estimators.ours and (hypotheses := self.estimators.ours[name].num_hypotheses):
            row["hypotheses_per_second"] = round(1e3 * hypotheses / row["ms"])

    def keep(self, row: dict[str, Any]) -> None:
        """Put the row in its place, and write the file."""
        old = self._row(row["workload"], row["estimator"])
        self.result["estimation_rows"] = [each for each in self.rows if each is not old and each is not row] + [row]
        estimators, names = list(self.estimators.all), [*SYNTHETIC]
        names += [each["workload"] for each in self.rows if each["workload"] not in names]
        self.rows.sort(key=lambda each: (names.index(each["workload"]), estimators.index(each["estimator"])))
        self.write()

    def write(self) -> None:
        """The file, if one was named."""
        if self.options.json is not None:
            write_json(self.options.json, self.result)

    def finish(self) -> None:
        """Compare the rows, print them, write them."""
        self.result["comparisons"] = comparisons(self.rows)
        self.result["goals"] = [] if self.options.quick else goals(self.rows, self.options.device)
        print_table(self.result)
        if len(commits := {row["commit"] for row in self.rows}) > 1:
            print(f"rows were measured at several commits, {', '.join(sorted(commits))}: --anew measures again")
        self.write()


def conditions(options: Options) -> dict[str, Any]:
    """What has to be the same for the rows of one file."""
    return {
        "device": options.device,
        "problems timed at most": options.timed,
        "problems judged at most": options.judged,
        "repetitions": options.repetitions,
        "seconds a row": options.seconds,
        "synthetic problems": GENERATOR,
        **{key: value for key, value in machine().items() if key != "commit"},
    }


def check_same(before: dict[str, Any], now: dict[str, Any], options: Options) -> bool:
    """Whether rows of the file can stand beside new ones. Where they cannot, it takes ``--anew`` to lose them."""
    different = [key for key in now if before.get(key) != now[key]]
    if different and not options.anew:
        changes = "; ".join(f"{key}: {before.get(key)} there, {now[key]} now" for key in different)
        sys.exit(f"the file was measured under other conditions ({changes}); name another file or add --anew")
    return not different


def named(name: str, parts: tuple[str, ...]) -> bool:
    """Whether one of the parts is in the name, or there are none."""
    return not parts or any(part.lower() in name.lower() for part in parts)


def workloads(options: Options) -> dict[str, Callable[[], Problems]]:
    """The problems that were asked for, by name; drawn or matched when called."""
    chosen: dict[str, Callable[[], Problems]] = {}
    count = max(options.judged, options.timed)
    for name, (matches, ratio) in SYNTHETIC.items():
        chosen[name] = lambda matches=matches, ratio=ratio: synthetic_problems(count, matches, ratio)
    root = os.environ.get("RFP_DATA")
    if not root:
        print("no real matches: RFP_DATA, a folder of posed-pairs folders, is not set", file=sys.stderr)
    for name in options.sets if root else ():
        folder, most = Path(root or "") / name, 4 if options.quick else None
        chosen[f"{name}, aliked-t16 at 640 px"] = lambda folder=folder, most=most: real_problems(folder, most=most)
    rows = [QUICK_ROWS] if options.quick else []
    return {name: load for name, load in chosen.items() if all(named(name, parts) for parts in (options.rows, *rows))}


def main(options: Options) -> None:
    """Measure what is missing, print everything."""
    options = quick(options) if options.quick else options
    torch.set_num_threads(1)
    benchmark = Benchmark(options)
    for name, load in workloads(options).items():
        if benchmark.wanted(name):
            benchmark.measure(name, load())
    benchmark.finish()


if __name__ == "__main__":
    main(tyro.cli(Options))
