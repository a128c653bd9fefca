import json
import re
import shutil

import pytest

from rfp.cli import main
from tests.cli.other_tasks import error_of, give_test_networks
from tests.scenes import render_views, write_pairs_folder

pycolmap = pytest.importorskip("pycolmap")
SMALL = ["--network", "test", "--num-keypoints", "300", "--image-size", "None", "--device", "cpu"]


@pytest.fixture(autouse=True)
def test_networks(monkeypatch):
    give_test_networks(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pairs_folder(tmp_path_factory.mktemp("scene") / "corner", render_views(count=5), max_gap=4)


def test_two_networks_are_reconstructed_and_their_models_kept(folder, tmp_path, capsys):
    output, file = tmp_path / "models", tmp_path / "figures.json"
    arguments = ["reconstruct", str(folder), *SMALL, "--compare", "other", "--output", str(output)]
    table = tmp_path / "table.md"
    assert main([*arguments, "--json", str(file), "--markdown", str(table)]) == 0
    figures = json.loads(file.read_text())
    assert figures["truth"] == str(folder)
    points = [report["num_points"] for report in figures["networks"].values()]
    assert [line.split(" | ")[:3] for line in table.read_text().splitlines()[2:4]] == [
        [f"| {name}", "5/5", str(count)] for name, count in zip(("test", "other"), points)
    ]
    table.unlink()
    assert [report["num_registered"] for report in figures["networks"].values()] == [5, 5]
    model = pycolmap.Reconstruction(output / "network1" / "sparse" / "0")
    assert model.num_points3D() == figures["networks"]["test"]["num_points"]
    assert (output / "network2" / "database.db").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "models"]
    shown = capsys.readouterr().out
    assert re.search(r"^test +5/5 ", shown, re.MULTILINE)
    assert re.search(r"^other +5/5 ", shown, re.MULTILINE)


def test_a_model_that_was_reconstructed_is_a_truth_to_reconstruct_and_to_localise_against(folder, tmp_path):
    plain = shutil.copytree(folder / "images", tmp_path / "plain")
    model = tmp_path / "model"
    assert main(["reconstruct", str(plain), "--truth", str(folder), *SMALL, "--output", str(model)]) == 0
    file = tmp_path / "figures.json"
    truth = ["--truth", str(model / "sparse" / "0"), "--json", str(file)]
    assert main(["reconstruct", str(plain), *SMALL, *truth]) == 0
    report = json.loads(file.read_text())["networks"]["test"]
    assert report["poses"]["num_pairs"] == 10
    assert report["poses"]["auc"]["5"] > 99
    assert main(["localize", str(plain), *SMALL, *truth]) == 0
    report = json.loads(file.read_text())["networks"]["test"]
    assert (report["num_queries"], report["num_failed"]) == (5, 0)


def test_a_plain_folder_needs_no_truth_to_be_reconstructed_whatever_its_names(folder, tmp_path, capsys):
    plain = shutil.copytree(folder / "images", tmp_path / "Tür é")
    (plain / "0.png").rename(plain / "außen 0.png")
    assert main(["reconstruct", str(plain), *SMALL, "--max-gap", "2"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^test +[2-5]/5 .* – +– +– +– +–$", shown, re.MULTILINE)
    assert "estimated intrinsics" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Tür é"]


def test_images_are_localised_within_the_thresholds_asked_for(folder, tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = ["localize", str(folder), *SMALL, "--thresholds", "0.05", "1", "0.1", "2", "--folds", "5"]
    assert (
        main(
            [
                *arguments,
                "--max-error-px",
                "2",
                "--estimator",
                "pycolmap",
                "--json",
                str(file),
                "--markdown",
                f"{file}.md",
            ]
        )
        == 0
    )
    report = json.loads(file.read_text())["networks"]["test"]
    assert report["within"] == {"0.05, 1°": 100.0, "0.1, 2°": 100.0}
    assert [query["name"] for query in report["queries"]] == [f"{index}.png" for index in range(5)]
    assert re.search(r"^test +5 +100.0 +100.0 ", capsys.readouterr().out, re.MULTILINE)
    table = (tmp_path / "figures.json.md").read_text()
    assert "\n| test | 5 | 100.0 | 100.0 | " in table
    assert "pycolmap at 2 px of the stored images, 5 folds." in table


@pytest.mark.parametrize("command", ["evaluate-homographies", "reconstruct", "localize"])
def test_every_command_explains_itself(capsys, command):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: rfp {command}" in shown
    assert "before and after:" in shown


@pytest.mark.parametrize("command", ["reconstruct", "localize"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--max-error-px", "0"], "expected an inlier threshold above 0"),
        (["--truth", "/no/such/model"], "/no/such/model"),
        (["--json", "/no/such/folder/figures.json"], "there is no folder"),
        (["--markdown", "/no/such/folder/table.md"], "there is no folder"),
        (["--network", "no-such-network"], "no-such-network"),
    ],
)
def test_options_that_mean_nothing_are_one_line_and_code_2(folder, capsys, command, options, expected):
    assert expected in error_of([command, str(folder), *SMALL, *options], capsys)


def test_an_output_that_holds_something_is_refused_before_the_work(folder, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    message = error_of(["reconstruct", str(folder), *SMALL, "--output", str(tmp_path)], capsys)
    assert "expected a new or empty folder" in message
    message = error_of(["reconstruct", str(folder), *SMALL, "--output", str(tmp_path / "a" / "b")], capsys)
    assert "there is no folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_that_fails_leaves_nothing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pycolmap, "incremental_mapping", None)
    assert main(["reconstruct", str(folder), *SMALL, "--output", str(tmp_path / "model")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_plain_folder_has_no_poses_to_localise_against(folder, capsys):
    assert "give --truth MODEL" in error_of(["localize", str(folder / "images"), *SMALL], capsys)


def test_an_empty_folder_is_one_line_and_code_2(tmp_path, capsys):
    for command in ("reconstruct", "localize"):
        assert "expected images" in error_of([command, str(tmp_path), *SMALL], capsys)


def test_a_broken_image_is_found_before_the_work(folder, tmp_path, capsys):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "images" / "3.png").write_bytes(b"no image")
    for command in ("reconstruct", "localize"):
        assert str(broken / "images" / "3.png") in error_of([command, str(broken), *SMALL], capsys)
