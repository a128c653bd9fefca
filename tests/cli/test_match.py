import json
import math

import cv2
import numpy as np
import pytest
import torch

from rfp.cli import main
from rfp.data import read_image
from rfp.evaluation import epipolar_error_px
from tests.scenes import relative_pose


def _images(folder, first=0, second=1):
    return [str(folder / "images" / f"{index}.png") for index in (first, second)]


def _match(folder, tmp_path, *options):
    output, figures = tmp_path / "matches.png", tmp_path / "matches.json"
    arguments = ["match", *_images(folder), "--network", "test", "--output", str(output), "--json", str(figures)]
    assert main([*arguments, "--num-keypoints", "256", *options]) == 0
    assert read_image(output).shape[2] == 1600
    return json.loads(figures.read_text())


def test_matches_are_true_in_pixels_of_the_stored_images(session_pairs_folder, corner_views, tmp_path, capsys):
    figures = _match(session_pairs_folder, tmp_path, "--image-size", "140")
    matches = torch.tensor(figures["matches"])[torch.tensor(figures["inliers"])]
    R, t = relative_pose(corner_views[0], corner_views[1])
    errors = epipolar_error_px(matches[:, :2], matches[:, 2:], corner_views[0].K, corner_views[1].K, R, t)
    assert errors.median() < 0.5
    assert figures["verified_by"] == "fundamental matrix"
    assert figures["num_inliers"] == sum(figures["inliers"]) > 50
    assert f"{len(figures['matches'])} matches, {figures['num_inliers']} inliers" in capsys.readouterr().out


def test_with_a_focal_length_the_pose_is_found(session_pairs_folder, corner_views, tmp_path):
    """The focal length is one of the stored image, whatever the size it is matched at."""
    R, t = relative_pose(corner_views[0], corner_views[1])
    for focal in (["144"], ["144", "144"]):
        figures = _match(session_pairs_folder, tmp_path, "--image-size", "320", "--focal-px", *focal)
        assert figures["verified_by"] == "relative pose"
        difference = torch.tensor(figures["R"], dtype=torch.float64).T @ R
        assert math.degrees(math.acos(min(1.0, (difference.trace().item() - 1) / 2))) < 1.0
        assert torch.dot(torch.tensor(figures["t"], dtype=torch.float64), t / t.norm()) > 0.98


def test_with_the_truth_errors_are_measured_to_it_and_told(session_pairs_folder, corner_views, tmp_path, capsys):
    """Also where the record names the images in the other order."""
    for first, second in ((0, 1), (1, 0)):
        output, figures = tmp_path / "out.png", tmp_path / "figures.json"
        arguments = [*_images(session_pairs_folder, first, second), "--truth", str(session_pairs_folder)]
        options = ["--network", "test", "--num-keypoints", "256", "--image-size", "140", "--max-error-px", "2"]
        assert main(["match", *arguments, *options, "--output", str(output), "--json", str(figures)]) == 0
        told = json.loads(figures.read_text())
        matches = torch.tensor(told["matches"], dtype=torch.float64)
        R, t = relative_pose(corner_views[first], corner_views[second])
        K = corner_views[0].K
        expected = epipolar_error_px(matches[:, :2], matches[:, 2:], K, K, R, t) * 140 / 160
        torch.testing.assert_close(torch.tensor(told["epipolar_error_px"]).double(), expected, atol=1e-3, rtol=1e-3)
        assert told["rotation_error_deg"] < 1
        assert told["translation_error_deg"] < 10
        assert "error to the true pose: rotation 0." in capsys.readouterr().out


def test_several_drawings_go_to_files_of_their_names(session_pairs_folder, tmp_path, capsys):
    base = ["match", *_images(session_pairs_folder), "--network", "test", "--num-keypoints", "128"]
    names = ["matches", "heat", "epipolar-lines"]
    assert main([*base, "--draw", *names, "--output", str(tmp_path / "out.png")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"out-{name}.png" for name in names)
    assert capsys.readouterr().out.count("picture: ") == 3
    assert main([*base, "--draw", "epipolar-lines", "--output", str(tmp_path / "lines.pdf")]) == 0
    assert (tmp_path / "lines.pdf").read_bytes()[:4] == b"%PDF"


def test_another_matcher_finds_other_matches(session_pairs_folder, tmp_path):
    mutual = _match(session_pairs_folder, tmp_path)
    ratio = _match(session_pairs_folder, tmp_path, "--matcher", "ratio")
    assert len(mutual["matches"]) > len(ratio["matches"]) > 50


def test_images_that_the_truth_does_not_pair_are_one_line(session_pairs_folder, tmp_path, capsys):
    arguments = ["match", *_images(session_pairs_folder, 0, 3), "--truth", str(session_pairs_folder)]
    assert main([*arguments, "--network", "test"]) == 2
    assert f"{session_pairs_folder / 'pairs.json'}: no record of" in capsys.readouterr().err


def test_images_without_content_are_a_picture_without_matches(tmp_path):
    folder = tmp_path / "black"
    (folder / "images").mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), np.zeros((50, 70, 3), np.uint8))
    figures = _match(folder, tmp_path)
    assert figures["num_inliers"] == 0
    assert figures["num_keypoints"] == [0, 0]
    assert "R" not in _match(folder, tmp_path, "--focal-px", "60")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--focal-px", "0"], "--focal-px: expected one or two positive numbers"),
        (["--focal-px", "1", "2", "3"], "--focal-px: expected one or two positive numbers"),
        (["--output", "/no/such/folder/m.png"], "there is no folder"),
        (["--focal-px", "144", "--truth", "here"], "--focal-px and --truth"),
        (["--draw", "heat", "heat"], "--draw: expected one or more different drawings, got heat heat"),
        (["--num-keypoints", "6", "--draw", "epipolar-lines"], "agree on an epipolar geometry"),
        (["--output", "matches.xyz"], "expected a file name that ends in .png"),
        (["--num-keypoints", "0"], "at least 1 key point"),
    ],
)
def test_options_that_mean_nothing_are_one_line_and_code_2(session_pairs_folder, capsys, options, expected):
    assert main(["match", *_images(session_pairs_folder), "--network", "test", "--device", "cpu", *options]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("device: ")]
    assert len(error) == 1
    assert expected in error[0]


def test_a_missing_image_is_one_line_and_code_2(session_pairs_folder, capsys, tmp_path):
    first, _ = _images(session_pairs_folder)
    assert main(["match", first, str(tmp_path / "lost.jpg"), "--network", "test"]) == 2
    assert capsys.readouterr().err == f"rfp: error: {tmp_path / 'lost.jpg'}: no such image; check the path\n"
