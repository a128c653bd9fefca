import json
import re

import cv2
import numpy as np
import pytest
import torch

from rfp.cli import homography_pictures, main
from rfp.data import HomographyOptions, draw_homography_pairs, read_image
from tests.cli.other_tasks import error_of, give_test_networks

SMALL = ["--network", "test", "--num-keypoints", "150", "--device", "cpu"]


@pytest.fixture(autouse=True)
def test_networks(monkeypatch):
    give_test_networks(monkeypatch)


def _write(path, image):
    cv2.imwrite(str(path), (image.permute(1, 2, 0).flip(-1) * 255).round().byte().numpy())


@pytest.fixture(scope="module")
def drawn():
    generator = torch.Generator().manual_seed(0)
    octaves = [torch.rand(1, 3, size, size, generator=generator) for size in (16, 48, 128)]
    source = sum(torch.nn.functional.interpolate(octave, (260, 260), mode="bicubic") for octave in octaves) / 3
    options = HomographyOptions(image_size=(96, 128), tilt_deg=20.0, roll_deg=10.0, scale=1.2)
    return draw_homography_pairs(source.clamp(0, 1), 5, options=options, generator=generator)


@pytest.fixture
def homography_folder(tmp_path, drawn):
    (tmp_path / "planes" / "images").mkdir(parents=True)
    records = []
    for b in range(2):
        _write(tmp_path / "planes" / "images" / f"{b}a.png", drawn.images1[b])
        _write(tmp_path / "planes" / "images" / f"{b}b.png", drawn.images2[b])
        records.append({"image1": f"images/{b}a.png", "image2": f"images/{b}b.png", "H": drawn.H[b].tolist()})
    (tmp_path / "planes" / "homographies.json").write_text(json.dumps(records))
    return tmp_path / "planes"


@pytest.fixture
def hpatches_folder(tmp_path, drawn):
    """One sequence, whose first image is the first view and whose five others are its copies under small shifts."""
    folder = tmp_path / "hpatches" / "v_drawn"
    folder.mkdir(parents=True)
    _write(folder / "1.ppm", drawn.images1[0])
    for number in range(2, 7):
        _write(folder / f"{number}.ppm", drawn.images1[0].roll(number, dims=-1))
        H = np.array([[1.0, 0.0, number], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        (folder / f"H_1_{number}").write_text("\n".join(" ".join(map(str, row)) for row in H))
    return tmp_path / "hpatches"


def test_a_folder_of_homographies_is_judged_at_the_size_asked_for(homography_folder, tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = ["evaluate-homographies", "--data", str(homography_folder), *SMALL, "--image-size", "128"]
    assert main([*arguments, "--json", str(file)]) == 0
    report = json.loads(file.read_text())["networks"]["test"]
    assert report["num_pairs"] == 2
    assert report["num_failed"] == 0
    assert report["matching_accuracy"]["3"] > 60
    shown = capsys.readouterr().out
    assert f"{report['matching_accuracy']['1']:.1f}" in shown
    assert "images of 128 px, 150 key points" in shown


def test_hpatches_is_pooled_with_a_folder_and_told_apart(homography_folder, hpatches_folder, tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = ["evaluate-homographies", "--data", str(homography_folder), str(hpatches_folder), *SMALL]
    assert main([*arguments, "--image-size", "None", "--json", str(file)]) == 0
    report = json.loads(file.read_text())["networks"]["test"]
    assert {name: part["num_pairs"] for name, part in report["groups"].items()} == {"planes": 2, "v_drawn": 5}
    assert report["groups"]["v_drawn"]["homography_accuracy"]["1"] == 100


def test_two_networks_stand_below_each_other_on_the_same_drawn_pairs(tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = ["evaluate-homographies", *SMALL, "--compare", "other", "--image-size", "96", "--num-pairs", "2"]
    assert main([*arguments, "--json", str(file)]) == 0
    networks = json.loads(file.read_text())["networks"]
    assert [[pair["name"] for pair in networks[name]["pairs"]] for name in ("test", "other")] == [
        ["drawn pair 0", "drawn pair 1"]
    ] * 2
    assert networks["test"]["repeatability"] != networks["other"]["repeatability"]
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("test", "other")] == ["test", "other"]


def test_markdown_and_pictures_of_two_networks(homography_folder, hpatches_folder, tmp_path, monkeypatch, capsys):
    """Of the folder's two pairs one has no content in its second view: it is the worst."""
    monkeypatch.setattr("rfp.cli.homography_pictures.PAIRS_DRAWN", 2)
    drawn = []
    draw = homography_pictures.draw_matches_of_networks
    monkeypatch.setattr(
        homography_pictures,
        "draw_matches_of_networks",
        lambda image1, image2, rows, **options: drawn.append((rows, options)) or draw(image1, image2, rows, **options),
    )
    cv2.imwrite(str(homography_folder / "images" / "1b.png"), np.zeros((96, 128, 3), np.uint8))
    table, pictures = tmp_path / "table.md", tmp_path / "pictures"
    arguments = ["evaluate-homographies", "--data", str(homography_folder), str(hpatches_folder), *SMALL]
    arguments += ["--image-size", "None", "--compare", "other", "--correct-px", "2"]
    assert main([*arguments, "--markdown", str(table), "--pictures", str(pictures)]) == 0
    lines = table.read_text().splitlines()
    names = ["test", "test: planes", "test: v_drawn", "other", "other: planes", "other: v_drawn"]
    assert [line.split(" | ")[0] for line in lines[2:8]] == [f"| {name}" for name in names]
    shown = capsys.readouterr().out
    figures = [line.split("|")[3].split()[0] for line in lines[2:8]]
    rows = [line for line in shown.splitlines()[1:] if "95%" not in line]
    assert [re.split(r" {2,}", row.strip())[2] for row in rows[:6]] == figures
    assert "images of 128 px, 150 key points" in "".join(lines)
    assert {path.name for path in pictures.iterdir()} == {
        *("matching_accuracy.png", "homography_errors.png", "worst_1.png", "worst_2.png")
    }
    assert all(read_image(path).std() > 0.05 for path in pictures.iterdir())
    titles = list(drawn[0][0])
    assert "no homography" in titles[0]
    assert [", test, " in titles[0], ", other, " in titles[1]] == [True, True]
    (matches, _), options = drawn[1][0].values(), drawn[1][1]
    assert options == {"max_error_px": 2.0}
    assert (matches.error_px < 1).double().mean() > 0.5  # the true homography of that very pair


def test_pairs_are_drawn_from_photographs(homography_folder, tmp_path):
    file = tmp_path / "figures.json"
    arguments = ["evaluate-homographies", *SMALL, "--photographs", str(homography_folder), "--image-size", "64"]
    assert main([*arguments, "--num-pairs", "1", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["networks"]["test"]["pairs"][0]["scene"] == "photographs"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data", "/no/such/folder"], "/no/such/folder"),
        (["--num-pairs", "0"], "--num-pairs: expected at least 1"),
        (["--num-pairs", "1", "--image-size", "64", "--correct-px", "0"], "distance of correct points"),
        (["--num-pairs", "1", "--image-size", "4"], "image_size"),
        (["--json", "/no/such/folder/figures.json"], "there is no folder"),
        (["--markdown", "/no/such/folder/table.md"], "there is no folder"),
        (["--pictures", "/no/such/folder/pictures"], "there is no folder"),
        (["--matcher", "lightglue"], "LightGlue"),
        (["--compare", "test"], "expected another network than --network"),
    ],
)
def test_what_means_nothing_is_one_line_and_code_2(options, expected, capsys):
    assert expected in error_of(["evaluate-homographies", *SMALL, *options], capsys)


def test_data_and_photographs_exclude_each_other(homography_folder, capsys):
    folder = str(homography_folder)
    arguments = ["evaluate-homographies", *SMALL, "--data", folder, "--photographs", folder]
    assert "got both" in error_of(arguments, capsys)
