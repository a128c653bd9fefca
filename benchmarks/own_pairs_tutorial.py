"""Runs the commands of the tutorial docs/fine-tuning.md as they stand there, and keeps what came out.

    RFP_DATA=... python benchmarks/own_pairs_tutorial.py --json docs/results/own_pairs_tutorial.json

The place is strecha_castle_p30, on which no option of the recipe was chosen. About five minutes of one core.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from machine import machine
from report_sets import data_root

from rfp.training.checkpoint import write_json

PAGE = Path(__file__).parents[1] / "docs" / "fine-tuning.md"
PLACE = "strecha_castle_p30"


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures."""


def commands(page: str) -> list[list[str]]:
    """The commands on data/castle that the page prints in blocks of bash, in their order."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("rfp ") and "data/house" not in line]


def main(options: Options) -> None:
    """Run them in a new folder, and write what they found."""
    minutes: dict[str, float] = {}
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # one core, and no GPU
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        shutil.copytree(data_root() / PLACE, here / "data" / "castle")
        for command in commands(PAGE.read_text(encoding="utf-8")):
            extra = ["--json", "change.json"] if command[1] == "compare" else []
            print("$", shlex.join(command), flush=True)
            started = time.perf_counter()
            program = str(Path(sys.executable).with_name(command[0]))  # of this environment
            subprocess.run([program, *command[1:], *extra], cwd=here, check=True, env=alone)
            name = " ".join(command[:2])
            minutes[name] = minutes.get(name, 0.0) + (time.perf_counter() - started) / 60
        change = json.loads((here / "change.json").read_text())
        steps = json.loads((here / "runs" / "castle" / "summary.json").read_text())["steps"]
    measured_with = {**machine(), "steps": steps, "threads": 1}
    found = {"what came out": _rows(change), "minutes, in all": minutes, "measured with": measured_with}
    if options.json is not None:
        write_json(options.json, found)
    print(json.dumps(found, indent=1))


def _rows(change: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for threshold in ("5", "10", "20"):
        low, high = change["difference_interval"][threshold]
        rows.append(
            {
                "AUC at, degrees": threshold,
                "before": change["auc_first"][threshold],
                "after": change["auc_second"][threshold],
                "change": change["difference"][threshold],
                "95 %, from": low,
                "to": high,
                "pairs won, lost, tied": "{num_won}, {num_lost}, {num_tied}".format(**change),
            }
        )
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options))
