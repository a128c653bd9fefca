"""``rfp data``: subcommands explain themselves, write folders that ``rfp inspect`` accepts, and fail on one line."""

import json

import cv2
import numpy as np
import pytest

from rfp.cli import main
from tests.data.colmap_models import make_spot_model


@pytest.mark.parametrize("arguments", [[], ["from-colmap"], ["from-trajectory"], ["from-photographs"], ["split"]])
def test_help_teaches(capsys, arguments):
    assert main(["data", *arguments, "--help"]) == 0
    shown = capsys.readouterr().out
    assert " ".join(["usage: rfp data", *arguments]) in shown
    if arguments:
        assert f"Example: rfp data {arguments[0]} " in " ".join(shown.split())
        assert ("--block" if arguments == ["split"] else "--image-size") in shown
        assert ("TRAIN JUDGE" if arguments == ["split"] else "OUTPUT") in shown
    else:
        assert all(name in shown for name in ("from-colmap", "from-trajectory", "from-photographs"))


def test_a_colmap_model_becomes_a_folder_that_inspect_accepts(tmp_path, capsys):
    pytest.importorskip("pycolmap")
    model = make_spot_model(tmp_path)
    arguments = ["data", "from-colmap", str(model.model), str(model.images), str(tmp_path / "out")]
    options = ["--image-size", "120", "--parallax-deg", "1", "60", "--depth", "--max-pairs", "6", "--scene", "spots"]
    assert main([*arguments, *options, "--json", str(tmp_path / "figures.json")]) == 0
    assert "out: 6 pairs of" in capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["num_pairs"], figures["num_missing"]) == (6, 0)
    assert len(list((tmp_path / "out" / "sparse_depth").rglob("*.npz"))) == figures["num_images"]
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    assert main([*arguments, *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"rfp: error: {tmp_path / 'out'}: is there already")
    assert captured.err.count("\n") == 1


def test_a_video_becomes_a_folder_that_inspect_accepts(tmp_path, capsys):
    poses, images = [], []
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
        images.append(f"{number}.0 {number}.png")
        poses.append(f"{number}.0 {0.2 * number} 0 0 0 0 0 1")
    (tmp_path / "poses.txt").write_text("\n".join(poses[:3]))
    (tmp_path / "rgb.txt").write_text("\n".join(images))
    arguments = ["data", "from-trajectory", str(tmp_path / "poses.txt"), str(tmp_path / "rgb.txt")]
    options = ["--intrinsics", "40", "40", "19.5", "14.5", "--scene-depth", "2", "--image-size", "None"]
    assert main([*arguments, str(tmp_path / "out"), *options]) == 0
    shown = capsys.readouterr().out
    assert "out: 3 pairs of 3 images" in shown
    assert "left out: 1 images without a pose" in shown
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert main([*arguments, str(tmp_path / "more"), *options, "--min-overlap", "0.99"]) == 2
    assert "none of the 3 pairs of 3 images qualifies" in capsys.readouterr().err


@pytest.mark.parametrize("truth", ["poses", "homographies"])
def test_photographs_become_pairs(tmp_path, capsys, truth):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    (tmp_path / "photographs").mkdir()
    cv2.imwrite(str(tmp_path / "photographs" / "one.jpg"), pixels)
    size = ["--image-size", "32", "40", "--texture-size", "32", "--num-pairs", "2", "--image-format", "jpg"]
    arguments = ["data", "from-photographs", str(tmp_path / "photographs"), str(tmp_path / "out")]
    assert main([*arguments, "--truth", truth, *size]) == 0
    assert f"2 pairs with exact {truth}, made of 1 photographs" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "images").glob("*.jpg"))) == 4
    if truth == "poses":
        assert main(["inspect", str(tmp_path / "out")]) == 0
    else:
        assert len(json.loads((tmp_path / "out" / "homographies.json").read_text())) == 2


@pytest.mark.parametrize("arguments", [[], ["from-nowhere"], ["from-colmap", "a"], ["from-trajectory", "a", "b", "c"]])
def test_wrong_usage_is_code_2(arguments, capsys):
    assert main(["data", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err
