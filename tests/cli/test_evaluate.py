import json
import re
import time

import pytest

from rfp.cli import main
from rfp.data import PosedPairs
from rfp.evaluation import evaluate
from tests.networks import TinyTestNetwork


def _edit(folder, **change):
    records = json.loads((folder / "pairs.json").read_text())
    records[2].update(change)
    (folder / "pairs.json").write_text(json.dumps(records))


def _error(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("device: ")]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("rfp: error: ")
    return lines[0]


def test_the_table_and_the_file_hold_the_figures_of_the_library(session_pairs_folder, tmp_path, capsys):
    folder, file = str(session_pairs_folder), tmp_path / "figures.json"
    options = ["--network", "test", "--num-keypoints", "200", "--image-size", "120", "--device", "cpu"]
    assert main(["evaluate", "--data", folder, *options, "--json", str(file)]) == 0
    report = evaluate(TinyTestNetwork(), PosedPairs(folder, image_size=120), num_keypoints=200)
    figures = json.loads(file.read_text())
    assert figures["auc"] == report.auc
    assert figures["errors_deg"] == report.errors_deg
    assert figures["network"] == "test"
    assert figures["data"] == [folder]
    started = time.perf_counter()
    list(PosedPairs(folder, image_size=120))
    decoding = time.perf_counter() - started
    assert decoding / 10 < figures["seconds"]["decoding"] < 10 * decoding + 0.5
    shown = capsys.readouterr().out
    assert re.search(rf"^corner +5 +{report.auc['5']:.1f} +{report.auc['10']:.1f} ", shown, re.MULTILINE)
    assert "poselib at 1 px, images of 120 px, 200 key points" in shown


def test_several_folders_are_pooled(session_pairs_folder, pairs_folder, tmp_path):
    _edit(pairs_folder, scene="other")
    arguments = ["evaluate", "--network", "test", "--num-keypoints", "100", "--json", str(tmp_path / "figures.json")]
    assert main([*arguments, "--data", str(session_pairs_folder), str(pairs_folder)]) == 0
    scenes = json.loads((tmp_path / "figures.json").read_text())["scenes"]
    assert {name: scene["num_pairs"] for name, scene in scenes.items()} == {"corner": 9, "other": 1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"K1": [1, 2, 3]}, "record 2 (counting from 0): K1: expected 3×3 numbers"),
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, 2]]}, "record 2 (counting from 0): R: not a rotation"),
        ({"t": [float("nan"), 0, 1]}, "record 2 (counting from 0): t: expected 3 numbers, got NaN"),
        ({"image2": "images/lost.png"}, "images/lost.png"),
    ],
)
def test_a_bad_record_is_one_line_and_code_2(pairs_folder, capsys, change, expected):
    _edit(pairs_folder, **change)
    message = _error(["evaluate", "--network", "test", "--data", str(pairs_folder)], capsys)
    assert str(pairs_folder) in message
    assert expected in message


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0\x00\x04ab\xff\xda\x00\x02cut"])
def test_an_unreadable_image_is_one_line_and_code_2(pairs_folder, capsys, content):
    (pairs_folder / "images" / "1.png").write_bytes(content)
    message = _error(["evaluate", "--network", "test", "--data", str(pairs_folder)], capsys)
    assert str(pairs_folder / "images" / "1.png") in message


def test_no_pairs_are_one_line_and_code_2(pairs_folder, capsys):
    (pairs_folder / "pairs.json").write_text("[]")
    assert "holds no pairs" in _error(["evaluate", "--network", "test", "--data", str(pairs_folder)], capsys)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--num-keypoints", "0"], "at least 1 key point"),
        (["--nms-radius", "-1"], "NMS radius"),
        (["--max-error-px", "0"], "inlier threshold above 0"),
        (["--max-error-px", "nan"], "inlier threshold above 0"),
        (["--image-size", "0"], "at least 1 pixel"),
        (["--seed", "-1"], "seed of at least 0"),
        (["--device", "gpu"], "--device: expected auto"),
        (["--network", "no-such-network"], "no-such-network"),
        (["--json", "/no/such/folder/figures.json"], "there is no folder"),
    ],
)
def test_options_that_mean_nothing_are_one_line_and_code_2(session_pairs_folder, capsys, options, expected):
    arguments = ["evaluate", "--network", "test", "--data", str(session_pairs_folder), *options]
    assert expected in _error(arguments, capsys)


def test_a_pair_that_cannot_be_solved_is_counted_and_the_run_goes_on(pairs_folder, tmp_path, capsys):
    import cv2

    image = cv2.imread(str(pairs_folder / "images" / "3.png"))
    cv2.imwrite(str(pairs_folder / "images" / "3.png"), image * 0)
    arguments = ["--network", "test", "--num-keypoints", "100", "--json", str(tmp_path / "figures.json")]
    assert main(["evaluate", "--data", str(pairs_folder), *arguments]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["num_failed"] == figures["errors_deg"].count(180.0) == 2
