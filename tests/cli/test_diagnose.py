"""``rfp diagnose``: its figures, its picture, and its verdict in words."""

import json
import math

import pytest
import torch

from rfp.cli import diagnose as command
from rfp.cli import main
from rfp.cli.verdict import steps_in_words, verdict
from rfp.data import PosedPairs
from rfp.reinforce.gradient_noise import NoiseToSignal
from rfp.training.diagnosis import Diagnosis, GradientSignal, diagnose
from tests.networks import TinyTestNetwork
from tests.training.test_trainer import OPTIONS

SMALL = [
    *("--image-size", "160", "--pairs", "3", "--draws", "3", "--device", "cpu"),
    *("--rollout.keypoints.num-keypoints", "48", "--rollout.ransac.num-hypotheses", "16"),
    *("--rollout.num-keypoint-draws", "2", "--rollout.num-match-draws", "2"),
]


REFUSED = (
    (["--each-key-point", "--paper"], "two recipes"),
    (["--each-key-point", "--baseline", "mean"], "--baseline: has no effect"),
    (["--reward", "reprojection"], "pairs with depth"),
    (["--rollout.control.values", "reward"], "adds over matches"),
)


@pytest.fixture
def test_network(monkeypatch):
    monkeypatch.setattr(command, "load_network", lambda name: TinyTestNetwork().eval())


@pytest.mark.usefixtures("test_network")
def test_a_diagnosis_is_printed_drawn_and_written(session_pairs_folder, tmp_path, capsys):
    outputs = ["--output", str(tmp_path / "page.png"), "--json", str(tmp_path / "figures.json"), "--start", "test"]
    assert main(["diagnose", "--network", "test", "--data", str(session_pairs_folder), *SMALL, *outputs]) == 0
    printed = capsys.readouterr().out
    assert "entropy_share_keypoints" in printed
    assert "of 4 pairs must be averaged" in printed or "nothing to learn" in printed
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["metrics"]["kl_start"] == pytest.approx(0, abs=1e-6)
    assert len(figures["metrics of each pair"]) == 3
    assert {(row["term"], row["part"]) for row in figures["gradient"]} == {
        (term, part)
        for term in ("key points", "matches", "both")
        for part in ("all", "shared", "descriptor", "detector")
    }
    assert (tmp_path / "page.png").stat().st_size > 10_000


@pytest.mark.usefixtures("test_network")
def test_the_recipes_of_training_are_diagnosed_by_the_same_flags(session_pairs_folder, tmp_path, capsys):
    small = [*SMALL[:-4], "--rollout.ransac.num-hypotheses", "16"]
    figures = tmp_path / "figures.json"
    data = ["--network", "test", "--data", str(session_pairs_folder), "--json", str(figures)]
    with pytest.warns(UserWarning, match="the reward is only logged"):
        assert main(["diagnose", *data, *small, "--each-key-point", "--reward", "pose_error"]) == 0
    assert "agreeing 1: " not in capsys.readouterr().out  # of one draw, that says nothing
    assert json.loads(figures.read_text())["trainer"]["match_utility"] == "log_of_keypoints"


def test_what_cannot_work_is_one_line(session_pairs_folder, capsys):
    data = ["--data", str(session_pairs_folder)]
    for wrong, word in ((["--draws", "2"], "--draws"), (["--pairs", "99"], "at most the 5 pairs"), *REFUSED):
        assert main(["diagnose", *data, "--device", "cpu", *wrong]) == 2
        error = capsys.readouterr().err
        assert word in error.splitlines()[-1]


def test_the_terms_reach_the_parts_that_they_must_and_add_up(session_pairs_folder):
    """Nothing of the matches' term reaches the detector's head, and the signal of "both" is that of the sum."""
    pairs = [PosedPairs(session_pairs_folder, image_size=160)[k] for k in range(3)]
    network = TinyTestNetwork()
    found = diagnose(network, pairs, OPTIONS, draws=4, generator=torch.Generator().manual_seed(0))
    assert found.reward.shape == (3, 4, 2, 2)
    assert found.of("matches", "detector").fixed_pairs.noise == 0
    assert found.of("key points", "descriptor").fixed_pairs.noise == 0
    for term in ("key points", "matches", "both"):
        parts = [found.of(term, part) for part in ("detector", "descriptor", "shared")]
        for pairs_of in ("fixed_pairs", "new_pairs"):
            total = sum(float(getattr(part, pairs_of).noise) for part in parts)
            assert total == pytest.approx(float(getattr(found.of(term), pairs_of).noise), rel=1e-4)
            assert total > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def noise(signal: float, error: float, noise: float) -> NoiseToSignal:
    ratio = noise / signal if signal > 0 else math.inf
    return NoiseToSignal(*(torch.tensor(value) for value in (ratio, 0.1 * ratio, noise, signal, error)))


def test_the_verdict_says_how_many_steps_or_that_nobody_can_say():
    assert "about 50 steps of 4 pairs must be averaged before" in steps_in_words(noise(1.0, 0.1, 200.0), 4)
    assert "more than about 47 steps of 1 pair must" in steps_in_words(noise(0.1, 1.0, 100.0), 1)
    assert "nothing to learn" in steps_in_words(noise(0.0, 0.0, 0.0), 4)


def test_the_verdict_names_the_noisier_term_and_what_is_sick():
    sound = {"failed": 0.1, "agreeing": 0.0, "overlap": 0.6, "entropy_share_keypoints": 0.9, "effective_matches": 90}
    metrics = sound | {"candidates": 120.0}
    signals = [
        GradientSignal("key points", "all", noise(1.0, 0.1, 300.0), noise(1.0, 0.1, 300.0)),
        GradientSignal("matches", "all", noise(1.0, 0.1, 100.0), noise(1.0, 0.1, 100.0)),
        GradientSignal("both", "all", noise(1.0, 0.1, 200.0), noise(1.0, 0.1, 200.0)),
    ]
    said = verdict(Diagnosis([metrics], torch.zeros(1, 3, 2, 2), signals), 4)
    assert len(said) == 2
    assert "key points is 3.0 times as noisy" in said[1]
    said = verdict(Diagnosis([metrics | {"failed": 0.8, "overlap": 0.1}], torch.zeros(1, 3, 2, 2), signals), 4)
    assert [sentence.split()[0] for sentence in said[2:]] == ["failed", "overlap"]
