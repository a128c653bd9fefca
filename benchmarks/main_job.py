"""The main job, ``rfp train`` with no arguments, on three seeds: held-out rendered pairs and real ones.

    RFP_DATA=... python benchmarks/main_job.py --json docs/results/main_job.json
    RFP_DATA=... python benchmarks/main_job.py --ways default "heads alone" --seeds 0 1 2

Each way runs the command itself with a few flags. For each seed it reports the weights that validation chose,
as the command does, and the last ones; the real sets select nothing. A run that is done is read from its folder and not
repeated. About six minutes a run on two free cores, and as long for the real sets.
"""

import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from machine import machine
from report_sets import SETTINGS, judge

import rfp
from rfp.cli.training_command import Train
from rfp.cli.training_sets import HELD_OUT, held_out_scenes
from rfp.training.checkpoint import write_json
from rfp.training.metrics_log import read_metrics
from rfp.training.trainer import judged

WAYS: dict[str, list[str]] = {
    "default": [],
    "plain": ["--keypoint-weight", "1", "--averaging", "0"],
    "descriptors alone": ["--keypoint-weight", "0"],
    "heads alone": ["--learning-rate", "1e-4", "--frozen", "stem.*", "level*", "down*", "lateral*", "fuse*"],
    "epipolar reward, descriptors": [
        *("--reward", "epipolar", "--keypoint-weight", "0", "--learning-rate", "3e-5"),
    ],
    "16 pairs a step": [
        *("--accumulate", "4", "--steps", "38", "--learning-rate", "3e-5"),
        *("--warmup-steps", "5", "--averaging", "0.95", "--validate-every", "19"),
    ],
    "16 times the pairs": [
        *("--pairs-per-step", "16", "--steps", "600", "--learning-rate", "3e-5", "--validate-every", "150"),
    ],
}
"""What was tried to get a rise: the flags of the command beside its defaults. All but the last take as long as those;
the last wants a GPU."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures; rewritten after each run."""
    runs: Path = Path("runs/main_job")
    """Folder of the run folders."""
    ways: tuple[str, ...] = ("default",)
    """Out of the table in this file."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run each."""
    real: bool = True
    """Judge on the real report sets, too."""
    threads: int = 2
    """Of torch."""
    device: str = "cpu"
    """Where the runs and the judging take place; the draws differ between devices."""
    jobs: int = 1
    """Runs at the same time; their minutes then say little."""


def run(way: str, seed: int, options: Options) -> dict[str, Any]:
    """The figures of one run, made or read; its selected and its last weights judged on the held-out pairs."""
    folder = options.runs / way.replace(" ", "_") / f"seed_{seed}"
    if not (folder / "figures.json").is_file():
        begun = ["--resume", str(folder)] if (folder / "checkpoint.pt").is_file() else ["--output", str(folder)]
        command = ["train", *begun, "--seed", str(seed), "--device", options.device, "--profile", *WAYS[way]]
        # A process of its own, as a user's: its peak memory is the job's and nobody else's.
        call = "import sys; from rfp.cli import main; sys.exit(main(sys.argv[1:]))"
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", call, *command], check=True)
        figures = json.loads((folder / "summary.json").read_text())
        figures["minutes_in_all"] = (time.perf_counter() - started) / 60
        network = rfp.load_network(folder / "last.safetensors").to(options.device)
        last = judged(network, held_out_scenes(Train(), options.device), Train().trainer.judge)
        figures["last"] = {"auc": last.auc, "errors_deg": last.errors_deg}
        write_json(folder / "figures.json", figures)
    figures = json.loads((folder / "figures.json").read_text())
    rewards = [row["reward"] for row in read_metrics(folder / "metrics.jsonl")]
    quarter = max(1, len(rewards) // 4)
    return {
        "way": way,
        "seed": seed,
        "best_step": figures["best_step"],
        "reward_first_quarter": statistics.fmean(rewards[:quarter]),
        "reward_last_quarter": statistics.fmean(rewards[-quarter:]),
        "minutes_in_all": figures["minutes_in_all"],
        "training_minutes": figures["seconds"] / 60,
        "peak_memory_mib": figures["profile"]["peak_memory_mib"],
        "profile_s": figures["profile"]["seconds"],
        "validations": figures["validations"],
        "before": {key: figures["before"][HELD_OUT][key] for key in ("auc", "errors_deg")},
        "selected": {key: figures["after"][HELD_OUT][key] for key in ("auc", "errors_deg")},
        "last": figures["last"],
        "real": real_figures(folder, options.device) if options.real or (folder / "real.json").is_file() else None,
    }


def real_figures(folder: Path, device: str) -> dict[str, Any]:
    """The selected and the last weights of a run on the real report sets; kept in its folder."""
    path = folder / "real.json"
    if not path.is_file():
        selected, last = (rfp.load_network(folder / f"{name}.safetensors").to(device) for name in ("weights", "last"))
        same = all(map(torch.equal, selected.state_dict().values(), last.state_dict().values()))
        figures = judge(selected)
        write_json(path, {"selected": figures, "last": figures if same else judge(last)})
    return json.loads(path.read_text())


def main(options: Options) -> None:
    """Run every way and seed, writing the results as they come."""
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {"machine": {**machine(), "device": options.device}, "main_job_runs": []}
    if options.real:
        result["real_before"] = judge(rfp.load_pretrained("tiny").to(options.device), with_pairs=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(run, way, seed, options) for way in options.ways for seed in options.seeds]
        for done in runs:
            result["main_job_runs"].append(done.result())
            print_row(result["main_job_runs"][-1])
            if options.json is not None:
                write_json(options.json, result)


def print_row(row: dict[str, Any]) -> None:
    """One run in a few lines."""

    def slashed(auc: dict[str, float]) -> str:
        return "/".join(f"{value:.1f}" for value in auc.values())

    print(f"{row['way']}, seed {row['seed']}: held-out rendered pairs, AUC@5/10/20")
    for name in ("before", "selected", "last"):
        print(f"  {name:9s} {slashed(row[name]['auc'])}")
    if row["real"]:
        for setting in SETTINGS:
            pooled = {name: slashed(figures[setting]["pooled"]) for name, figures in row["real"].items()}
            print(f"  real pairs, {setting}: {pooled}")


if __name__ == "__main__":
    main(tyro.cli(Options))
