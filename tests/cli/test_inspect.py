import json

import numpy as np
import pytest

from rfp.cli import main
from rfp.data.inspection import inspect_folder
from tests.networks import TinyTestNetwork


def _records(folder, change):
    records = json.loads((folder / "pairs.json").read_text())
    change(records)
    (folder / "pairs.json").write_text(json.dumps(records))


def test_a_good_folder_is_counted_and_code_0(session_pairs_folder, tmp_path, capsys):
    assert main(["inspect", str(session_pairs_folder), "--json", str(tmp_path / "figures.json")]) == 0
    shown = capsys.readouterr().out
    assert "5 pairs of 4 images" in shown
    assert "160×120 (4)" in shown
    assert "nothing wrong" in shown
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["num_problems"] == 0
    quantiles = figures["folders"][0]["quantiles"]
    assert quantiles["focal_px"]["median"] == pytest.approx(144)
    assert quantiles["field_of_view_deg"]["median"] == pytest.approx(58.1, abs=0.1)
    assert quantiles["rotation_deg"]["min"] == pytest.approx(6.5, abs=0.3)
    assert 0.3 < quantiles["baseline"]["min"] < quantiles["baseline"]["max"] < 1.1
    assert "parallax_deg" not in quantiles


def test_every_problem_is_listed_and_the_code_is_2(pairs_folder, tmp_path, capsys):
    def spoil(records):
        records[0].pop("t")
        records[0]["K1"] = [[1]]
        records[1]["R"] = [[2, 0, 0], [0, 1, 0], [0, 0, 1]]
        records[3]["image2"] = "images/lost.png"

    _records(pairs_folder, spoil)
    (pairs_folder / "images" / "3.png").write_bytes(b"broken")
    assert main(["inspect", str(pairs_folder), "--json", str(tmp_path / "figures.json")]) == 2
    captured = capsys.readouterr()
    problems = json.loads((tmp_path / "figures.json").read_text())["folders"][0]["problems"]
    assert len(problems) == 5
    for expected in ("record 0 (counting from 0): missing t", "K1: expected 3×3", "R: not a rotation", "lost.png"):
        assert sum(expected in problem for problem in problems) == 1
    assert sum("3.png: not an image" in problem for problem in problems) == 1
    assert captured.out.count("  problem: ") == 5
    assert captured.err == f"rfp: error: 5 problems in {pairs_folder}; fix or remove what is listed above\n"


def test_warnings_do_not_change_the_code(pairs_folder, capsys):
    def doubt(records):
        records.append(dict(records[0]))
        records[2]["R"] = [[round(value, 4) for value in row] for row in records[2]["R"]]
        records[4]["K1"] = [[288, 0, 159], [0, 288, 119], [0, 0, 1]]

    _records(pairs_folder, doubt)
    (pairs_folder / "images" / "unused.png").write_bytes(b"")
    assert main(["inspect", str(pairs_folder)]) == 0
    warnings = inspect_folder(pairs_folder).warnings
    assert (
        sum("record 5 (counting from 0): the same two images as an earlier record" in warning for warning in warnings)
        == 1
    )
    assert sum("record 2 (counting from 0): R is off a rotation by" in warning for warning in warnings) == 1
    assert sum("1 files that no pair uses: unused.png" in warning for warning in warnings) == 1
    assert capsys.readouterr().out.count("  warning: ") == len(warnings)


def test_intrinsics_of_another_image_size_are_suspected(pairs_folder):
    def double(records):
        for record in records:
            record["K1"] = record["K2"] = [[288, 0, 159], [0, 288, 119], [0, 0, 1]]

    _records(pairs_folder, double)
    warnings = inspect_folder(pairs_folder).warnings
    assert len(warnings) == 4
    assert all("are the intrinsics those of another size?" in warning for warning in warnings)


def test_one_bad_folder_does_not_hide_the_others(session_pairs_folder, tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nowhere"), str(session_pairs_folder)]) == 2
    captured = capsys.readouterr()
    assert "no such folder" in captured.out
    assert "5 pairs of 4 images" in captured.out
    assert captured.err == f"rfp: error: 1 problem in {tmp_path / 'nowhere'}; fix or remove what is listed above\n"


def test_parallax_is_shown_where_the_file_gives_it(pairs_folder):
    _records(pairs_folder, lambda records: [record.update(parallax_deg=8.0) for record in records])
    assert inspect_folder(pairs_folder).quantiles["parallax_deg"]["median"] == 8.0


@pytest.fixture
def network_of_these_tests(monkeypatch):
    monkeypatch.setattr("rfp.cli.inspect.load_network", lambda name: TinyTestNetwork().eval())


def _poses(folder, tmp_path, capsys, *options):
    files = ["--picture", str(tmp_path / "poses.png"), "--json", str(tmp_path / "figures.json")]
    assert main(["inspect", str(folder), *files, *options]) == 0
    assert (tmp_path / "poses.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert f"picture: {tmp_path / 'poses.png'}" in shown
    return json.loads((tmp_path / "figures.json").read_text())["poses"], shown


def test_the_picture_tells_right_poses_from_those_of_another_convention(
    pairs_folder, tmp_path, capsys, network_of_these_tests
):
    poses, shown = _poses(pairs_folder, tmp_path, capsys, "--pairs-drawn", "2")
    assert len(poses) == 2
    assert all(pose["num_matches"] > 50 and pose["median_px"] < 1 for pose in poses)
    assert "warning" not in shown

    def camera_to_world(records):
        for record in records:
            R, t = np.array(record["R"]), np.array(record["t"])
            record.update(R=R.T.tolist(), t=(-R.T @ t).tolist())

    _records(pairs_folder, camera_to_world)
    poses, shown = _poses(pairs_folder, tmp_path, capsys)
    assert len(poses) == 3
    assert all(pose["median_px"] > 2 for pose in poses)
    assert shown.count("warning: corner: ") == 3
    assert "is it X2 = R X1 + t, and K of the stored image?" in shown


def test_images_that_do_not_match_judge_no_pose(pairs_folder, tmp_path, capsys, network_of_these_tests):
    import cv2

    for index in range(4):
        cv2.imwrite(str(pairs_folder / "images" / f"{index}.png"), np.zeros((120, 160, 3), np.uint8))
    poses, shown = _poses(pairs_folder, tmp_path, capsys, "--pairs-drawn", "1")
    assert poses == [{"pair": "corner: 0.png 1.png", "num_matches": 0, "median_px": None}]
    assert "0 verified matches, too few to judge the pose" in shown


def test_pairs_to_draw_are_at_least_one(pairs_folder, capsys):
    assert main(["inspect", str(pairs_folder), "--picture", "a.png", "--pairs-drawn", "0"]) == 2
    assert "--pairs-drawn: expected at least 1" in capsys.readouterr().err


def test_no_folder_is_code_2(capsys):
    assert main(["inspect"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["lund_door", "ngp_fox", "strecha_entry_p10"])
def test_real_folders_have_nothing_wrong(real_data, name):
    inspection = inspect_folder(real_data / name)
    assert inspection.problems == []
    assert inspection.warnings == []
