"""Fine-tune aliked-t16 on real photographs for 400 steps and report what that did to held-out accuracy.

    RFP_DATA=... python benchmarks/finetune_aliked.py --output docs/results/aliked_t16_400_steps.json

Trains on sceaux_castle and ngp_fox, selects on lund_door, reports on four sets that selected nothing, at two settings,
under deployment (NMS, top-k, mutual nearest neighbours) with PoseLib, which is not in the loop; for each seed both the
weights that validation chose and the last ones. A run that was cut off goes on from its folder. About half an hour a
seed on two cores.
"""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from machine import machine
from report_sets import REPORT, SETTINGS, data_root, judge

import rfp
from rfp.data import PosedPairs
from rfp.models import load_weights
from rfp.training.checkpoint import write_json

TRAIN = ("sceaux_castle", "ngp_fox")
SELECT = ("lund_door",)


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    output: Path = Path("docs/results/aliked_t16_400_steps.json")
    """Where the figures go; rewritten after each seed."""
    runs: Path = Path("runs/aliked_t16_400_steps")
    """Folder of the run folders."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run each."""
    steps: int = 400
    """Optimiser steps a run."""
    learning_rate: float = 1e-6
    """Adam's."""


def run_seed(seed: int, options: Options) -> dict[str, Any]:
    """Train with one seed (or go on), and judge the selected and the last weights."""
    root, folder = data_root(), options.runs / f"seed_{seed}"
    trainer_options = rfp.TrainerOptions(steps=options.steps, seed=seed, learning_rate=options.learning_rate)
    network = rfp.load_pretrained("aliked-t16")
    summary = rfp.Trainer(network, trainer_options).fit(
        PosedPairs([root / name for name in TRAIN], image_size=320),
        validation=PosedPairs([root / name for name in SELECT], image_size=320),
        output=folder,
        resume=(folder / "checkpoint.pt").is_file(),
        on_step=lambda row: print(f"seed {seed} step {row['step']:4d} reward {row['reward']:.3f}", flush=True),
        on_validation=lambda step, report: print(f"seed {seed} step {step:4d} validation {report.auc}", flush=True),
    )
    rewards = [row["reward"] for row in summary.metrics]
    quarter = max(1, len(rewards) // 4)
    last = load_weights(rfp.load_pretrained("aliked-t16"), folder / "last.safetensors").eval()
    return {
        "seed": seed,
        "best_step": summary.best_step,
        "validations": summary.validations,
        "seconds": summary.seconds,
        "skipped_steps": summary.skipped_steps,
        "reward_first_quarter": statistics.fmean(rewards[:quarter]),
        "reward_last_quarter": statistics.fmean(rewards[-quarter:]),
        "failed_mean": statistics.fmean(row["failed"] for row in summary.metrics),
        "selected": judge(network),
        "last": judge(last),
        "options": asdict(trainer_options),
    }


def main(options: Options) -> None:
    """Run every seed, writing the results as they come."""
    before = judge(rfp.load_pretrained("aliked-t16"), with_pairs=True)
    result: dict[str, Any] = {"machine": machine(), "before": before, "seeds": []}
    for seed in options.seeds:
        result["seeds"].append(run_seed(seed, options))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.output, result)
    print_table(result)


def print_table(result: dict[str, Any]) -> None:
    """Before, selected and last, pooled over the report sets."""
    for name in SETTINGS:
        rows = {"before": result["before"][name]["pooled"]}
        for entry in result["seeds"]:
            rows[f"seed {entry['seed']}, selected (step {entry['best_step']})"] = entry["selected"][name]["pooled"]
            rows[f"seed {entry['seed']}, last"] = entry["last"][name]["pooled"]
        print(f"\n{name}: AUC@5/10/20 pooled over {', '.join(REPORT)}")
        for label, auc in rows.items():
            print(f"  {label:32s}" + "".join(f"{value:7.2f}" for value in auc.values()))


if __name__ == "__main__":
    main(tyro.cli(Options))
