import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch

from rfp.evaluation.reconstruction import MappingOptions, neighbours, reconstruct, registered_poses
from rfp.evaluation.reconstruction_report import (
    compare_poses,
    evaluate_reconstruction,
    format_reconstructions,
    with_intrinsics,
)
from rfp.evaluation.true_poses import TruePose, read_true_poses
from rfp.export.detection import DetectionOptions
from rfp.export.image_folder import open_image_folder
from rfp.records import InputError
from tests.geometry.scenes import random_rotations
from tests.networks import TinyTestNetwork
from tests.scenes import render_views, write_pairs_folder

pytest.importorskip("pycolmap")
OPTIONS = MappingOptions(detection=DetectionOptions(image_size=None, num_keypoints=300))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five views of the corner."""
    return write_pairs_folder(tmp_path_factory.mktemp("scene") / "corner", render_views(count=5), max_gap=4)


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    images, truth = open_image_folder(folder), read_true_poses(folder)
    return evaluate_reconstruction(
        TinyTestNetwork(), images, tmp_path_factory.mktemp("work"), truth=truth, options=OPTIONS
    )


def test_a_rendered_scene_is_reconstructed_as_it_is(report):
    assert report.num_registered == report.num_images == 5
    assert report.num_models == 1
    assert report.num_points > 100
    assert report.mean_track_length > 3
    assert report.mean_reprojection_error_px < 0.6
    assert report.poses.num_unregistered == 0
    assert report.poses.auc["10"] > 80
    assert max(report.poses.position_errors.values()) < 0.02  # the cameras span 1.4
    assert max(report.poses.rotation_errors_deg.values()) < 1.0
    assert 1.4 < report.poses.extent < 1.5


def test_figures_agree_with_each_other_and_are_json(report):
    assert report.num_observations == pytest.approx(report.mean_track_length * report.num_points)
    assert report.database["num_inliers"] <= report.database["num_matches"]
    assert report.settings["intrinsics"] == "known"
    assert min(report.seconds.values()) > 0
    json.dumps(asdict(report), allow_nan=False)


def test_the_same_run_gives_the_same_reconstruction(folder, report, tmp_path):
    images, truth = open_image_folder(folder), read_true_poses(folder)
    again = evaluate_reconstruction(TinyTestNetwork(), images, tmp_path, truth=truth, options=OPTIONS)
    assert replace(again, seconds={}) == replace(report, seconds={})


def test_intrinsics_may_be_estimated(folder, tmp_path):
    """A plain folder, with the poses and without the intrinsics of the truth."""
    truth = read_true_poses(folder)
    images = with_intrinsics(open_image_folder(folder), truth, known=False)
    report = evaluate_reconstruction(TinyTestNetwork(), images, tmp_path, truth=truth, options=OPTIONS)
    assert report.settings["intrinsics"] == "estimated"
    assert report.num_registered == 5
    assert report.poses.auc["20"] > 30


def test_known_intrinsics_stay_as_they_are_in_the_model(folder, tmp_path):
    images = open_image_folder(folder)
    models, counts = reconstruct(TinyTestNetwork(), images, tmp_path, options=OPTIONS)
    assert counts.num_cameras == 1
    assert (tmp_path / "database.db").is_file()
    assert any((tmp_path / "sparse").iterdir())
    (camera,) = models[0].cameras.values()
    K = images.K["0.png"]
    torch.testing.assert_close(
        torch.from_numpy(camera.params), torch.stack([K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5])
    )
    assert set(registered_poses(models[0])) == set(images.names)


def test_the_truth_s_intrinsics_serve_a_plain_folder(folder, tmp_path):
    plain = shutil.copytree(folder / "images", tmp_path / "plain")
    images, truth = open_image_folder(plain), read_true_poses(folder)
    assert images.K == {}
    assert set(with_intrinsics(images, truth, known=True).K) == set(images.names)
    assert with_intrinsics(images, None, known=True).K == {}


def test_an_image_that_is_not_registered_fails_its_pairs(folder, tmp_path):
    import cv2

    broken = shutil.copytree(folder, tmp_path / "broken")
    image = cv2.imread(str(broken / "images" / "4.png"))
    cv2.imwrite(str(broken / "images" / "4.png"), image * 0)
    (tmp_path / "work").mkdir()
    images, truth = open_image_folder(broken), read_true_poses(broken)
    report = evaluate_reconstruction(TinyTestNetwork(), images, tmp_path / "work", truth=truth, options=OPTIONS)
    assert report.registered == ["0.png", "1.png", "2.png", "3.png"]
    assert report.poses.num_unregistered == report.poses.errors_deg.count(180.0) == 4
    assert set(report.poses.position_errors) == set(report.registered)


def test_a_part_of_the_images_is_judged_by_its_part_of_the_truth(folder, tmp_path):
    images = open_image_folder(folder)
    images = replace(images, names=images.names[:4])
    report = evaluate_reconstruction(
        TinyTestNetwork(), images, tmp_path, truth=read_true_poses(folder), options=replace(OPTIONS, max_gap=2)
    )
    assert report.num_images == 4
    assert report.poses.num_pairs == 6
    assert report.database["num_pairs"] == 5


def test_images_without_features_make_no_model_and_no_error(tmp_path):
    views = render_views(count=2)
    black = [replace(view, image=torch.zeros_like(view.image)) for view in views]
    folder = write_pairs_folder(tmp_path / "black", black)
    (tmp_path / "work").mkdir()
    images, truth = open_image_folder(folder), read_true_poses(folder)
    report = evaluate_reconstruction(TinyTestNetwork(), images, tmp_path / "work", truth=truth, options=OPTIONS)
    assert (report.num_registered, report.num_points, report.num_models) == (0, 0, 0)
    assert report.poses.errors_deg == [180.0]
    assert "0/2" in format_reconstructions({"black": report})


def test_poses_are_judged_whatever_the_frame_and_scale_of_the_reconstruction(folder):
    truth = read_true_poses(folder)
    generator = torch.Generator().manual_seed(0)
    A, shift = random_rotations(1, generator)[0].double(), torch.tensor([5.0, 2.0, 1.0], dtype=torch.float64)
    moved = {}
    for name, pose in truth.poses.items():  # the world X becomes 3 A X + shift
        R = pose.R @ A.T
        moved[name] = TruePose(R, 3 * pose.t - R @ shift)
    figures = compare_poses(moved, truth)
    assert figures.auc["5"] == pytest.approx(100)
    assert max(figures.position_errors.values()) < 1e-9
    assert max(figures.rotation_errors_deg.values()) < 1e-5


def test_one_wrong_pose_is_seen(folder):
    truth = read_true_poses(folder)
    axis = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    wrong = {**truth.poses, "2.png": TruePose(axis @ truth.poses["2.png"].R, axis @ truth.poses["2.png"].t)}
    figures = compare_poses(wrong, truth)
    assert sorted(error > 80 for error in figures.errors_deg) == [False] * 6 + [True] * 4
    assert max(figures.rotation_errors_deg, key=figures.rotation_errors_deg.__getitem__) == "2.png"
    assert max(figures.position_errors.values()) < 1e-9  # it turned where it stands


def test_the_table_carries_figures_and_settings(report):
    table = format_reconstructions({"before": report, "after": replace(report, poses=None)})
    lines = table.splitlines()
    assert lines[1].split()[:3] == ["before", "5/5", str(report.num_points)]
    assert f"{report.poses.auc['5']:.1f}" in lines[1]
    assert lines[2].split().count("–") == 5
    assert "300 key points, NMS radius 2, mutual nearest neighbours" in table
    assert "known intrinsics, pairs verified at 4 px of the stored images" in table
    markdown = format_reconstructions({"before": report}, markdown=True).splitlines()
    assert markdown[2].startswith(f"| before | 5/5 | {report.num_points} | {report.num_observations} | ")
    assert "known intrinsics, pairs verified at 4 px of the stored images" in markdown[4]
    assert "300 key points" in markdown[5]


def test_pairs_to_match_are_all_or_those_close_by():
    assert list(neighbours(("a", "b", "c"), None)) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert list(neighbours(("a", "b", "c", "d"), 1)) == [("a", "b"), ("b", "c"), ("c", "d")]


def test_what_cannot_be_reconstructed_is_one_line(folder, session_pairs_folder, tmp_path):
    images, truth = open_image_folder(folder), read_true_poses(folder)
    with pytest.raises(InputError, match="at least 2 images"):
        reconstruct(TinyTestNetwork(), replace(images, names=images.names[:1]), tmp_path, options=OPTIONS)
    other = replace(images, names=("left.png", "right.png"))
    with pytest.raises(InputError, match=r"expected images that the truth names \(0.png, …\), got left.png"):
        evaluate_reconstruction(TinyTestNetwork(), other, tmp_path, truth=truth, options=OPTIONS)
    (tmp_path / "sparse").mkdir()
    with pytest.raises(InputError, match="holds a reconstruction already"):
        reconstruct(TinyTestNetwork(), images, tmp_path, options=OPTIONS)


@pytest.mark.parametrize("change", [{"min_inliers": 0}, {"max_gap": 0}, {"max_error_px": 0.0}, {"num_threads": 0}])
def test_options_that_mean_nothing_are_one_line(change):
    with pytest.raises(InputError, match="expected"):
        MappingOptions(**change)


@pytest.mark.slow
@pytest.mark.real_data
def test_real_photographs_are_reconstructed(real_data, tmp_path):
    """The shipped network at 640 px and 1024 key points: all of Lund's door, at its place."""
    import rfp

    images, truth = open_image_folder(real_data / "lund_door"), read_true_poses(real_data / "lund_door")
    options = MappingOptions(detection=DetectionOptions(image_size=640, num_keypoints=1024))
    report = evaluate_reconstruction(rfp.load_pretrained("tiny"), images, tmp_path, truth=truth, options=options)
    assert report.num_registered == 12
    assert report.poses.auc["5"] > 93
    assert max(report.poses.position_errors.values()) < 0.05  # the cameras span 8.8
