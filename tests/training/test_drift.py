"""Drift is zero at the start, grows with the change, and is measured from the start by a resumed run, too."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rfp.data import PosedPairs
from rfp.policy.keypoints import KeypointOptions
from rfp.training import Trainer
from rfp.training.drift import Drift
from tests.networks import TinyTestNetwork
from tests.training.test_trainer import OPTIONS

KEYPOINTS = KeypointOptions(num_keypoints=48, max_candidates=512)


@pytest.fixture
def pairs(session_pairs_folder):
    return PosedPairs(session_pairs_folder)


def test_a_network_has_not_moved_from_itself(pairs):
    drift = Drift(TinyTestNetwork(), pairs, KEYPOINTS)
    assert drift(TinyTestNetwork()) == pytest.approx({"kl_start": 0, "drift_start": 0, "kept_keypoints": 1}, abs=1e-6)


def test_each_figure_answers_to_its_own_part_and_grows_with_the_change(pairs):
    drift = Drift(TinyTestNetwork(), pairs, KEYPOINTS)

    def moved(part: str, by: float):
        network = TinyTestNetwork()
        weight = getattr(network, part).weight
        with torch.no_grad():
            weight += by * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        return drift(network)

    heat = [moved("heat", by) for by in (0.01, 0.1)]
    assert 0 < heat[0]["kl_start"] < heat[1]["kl_start"]
    assert 1 > heat[0]["kept_keypoints"] > heat[1]["kept_keypoints"]
    assert heat[1]["drift_start"] == pytest.approx(0, abs=1e-6)
    descriptors = [moved("descriptors", by) for by in (0.01, 0.1)]
    assert 0 < descriptors[0]["drift_start"] < descriptors[1]["drift_start"]
    assert descriptors[1]["kl_start"] == pytest.approx(0, abs=1e-6)
    assert descriptors[1]["kept_keypoints"] == 1


def test_each_validation_is_a_flat_line_and_a_resumed_run_measures_from_the_start(pairs, tmp_path, monkeypatch):
    report = SimpleNamespace(auc={"5": 1.0, "10": 2.0, "20": 3.0})
    monkeypatch.setattr("rfp.training.trainer.judged", lambda *args, **kwargs: report)
    options = replace(OPTIONS, steps=4, validate_every=2, checkpoint_every=2)
    for folder in ("whole", "parted"):
        steps = 4 if folder == "whole" else 2
        Trainer(TinyTestNetwork(), replace(options, steps=steps)).fit(pairs, validation=pairs, output=tmp_path / folder)
    resumed = TinyTestNetwork(seed=5)  # the start is in the checkpoint
    Trainer(resumed, options).fit(pairs, validation=pairs, output=tmp_path / "parted", resume=True)
    lines = [(tmp_path / folder / "validations.jsonl").read_text() for folder in ("whole", "parted")]
    assert lines[0] == lines[1]
    rows = [json.loads(line) for line in lines[0].splitlines()]
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert set(rows[0]) == {"step", "auc_5", "auc_10", "auc_20", "kl_start", "drift_start", "kept_keypoints"}
    assert rows[0]["kl_start"] == pytest.approx(0, abs=1e-6)
    assert rows[2]["kl_start"] > 1e-5
