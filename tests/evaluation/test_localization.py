import json
import math
import shutil
from dataclasses import asdict, replace

import pytest
import torch

from rfp.evaluation.absolute_pose_estimators import ABSOLUTE_POSE_ESTIMATORS, find_absolute_pose
from rfp.evaluation.localization import (
    LocalizationOptions,
    _lift,
    evaluate_localization,
    pose_errors,
)
from rfp.evaluation.localization_report import QueryFigures, format_localizations, summarise_localization
from rfp.evaluation.triangulation import PosedFeatures, Scene, triangulate
from rfp.evaluation.true_poses import TruePose, read_true_poses
from rfp.export.detection import DetectionOptions, FoundMatches
from rfp.export.image_folder import open_image_folder
from rfp.records import AbsolutePose, InputError
from tests.geometry.scenes import make_rotations
from tests.networks import TinyTestNetwork
from tests.scenes import render_views, write_pairs_folder

pytest.importorskip("pycolmap")
OPTIONS = LocalizationOptions(
    detection=DetectionOptions(image_size=None, num_keypoints=300),
    max_error_px=2.0,
    thresholds=((0.02, 0.5), (0.1, 2.0)),
)
K = torch.tensor([[400.0, 0.0, 319.5], [0.0, 410.0, 239.5], [0.0, 0.0, 1.0]], dtype=torch.float64)


def _points(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) * torch.tensor([4, 3, 2]) + torch.tensor(
        [-2.0, -1.5, 4.0]
    )


def _pose(x, angle):
    R = make_rotations(torch.tensor([[0.0, angle, 0.0]], dtype=torch.float64))[0]
    return TruePose(R, -R @ torch.tensor([x, 0.1 * x, 0.0], dtype=torch.float64))


def _project(X, pose):
    seen = X @ pose.R.T + pose.t
    return (seen / seen[:, 2:]) @ K[:2].T


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five views of the corner."""
    return write_pairs_folder(tmp_path_factory.mktemp("scene") / "corner", render_views(count=5), max_gap=4)


@pytest.fixture(scope="module")
def report(folder):
    return evaluate_localization(TinyTestNetwork(), open_image_folder(folder), read_true_poses(folder), options=OPTIONS)


# Estimators


@pytest.mark.parametrize("estimator", ABSOLUTE_POSE_ESTIMATORS)
def test_every_estimator_finds_the_pose_among_outliers(estimator):
    X, pose = _points(100), _pose(0.7, 0.2)
    generator = torch.Generator().manual_seed(1)
    xy_px = _project(X, pose) + 0.3 * torch.randn(100, 2, generator=generator, dtype=torch.float64)
    xy_px[:40] = 640 * torch.rand(40, 2, generator=generator, dtype=torch.float64)
    found = find_absolute_pose(estimator, X, xy_px, K, max_error_px=2.0)
    assert found.valid
    query = PosedFeatures("query", (640, 480), xy_px, K, pose)
    position, rotation = pose_errors(found, query)
    assert position < 0.01
    assert rotation < 0.1
    assert found.inliers[40:].double().mean() > 0.9
    assert found.inliers[:40].double().mean() < 0.1
    again = find_absolute_pose(estimator, X, xy_px, K, max_error_px=2.0)
    assert torch.equal(found.R, again.R)


@pytest.mark.parametrize("estimator", ABSOLUTE_POSE_ESTIMATORS)
@pytest.mark.parametrize("count", [0, 3, 6])
def test_without_a_pose_the_estimate_is_invalid(estimator, count):
    """Too few points, and six that are seen all over the image at one place of the world."""
    xy_px = 640 * torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
    found = find_absolute_pose(estimator, torch.ones(count, 3), xy_px, K, max_error_px=1.0)
    assert not found.valid
    assert found.inliers.tolist() == [False] * count
    assert found.R.isfinite().all()


def test_errors_are_the_distance_of_the_centres_and_the_angle_of_the_rotations():
    estimated = _pose(1.0, 0.3)
    true = TruePose(_pose(0.0, 0.2).R, torch.zeros(3, dtype=torch.float64))
    pose = AbsolutePose(estimated.R, estimated.t, torch.ones(4).bool(), torch.tensor(4.0), torch.tensor(True))
    position, rotation = pose_errors(pose, PosedFeatures("query", (640, 480), torch.zeros(0, 2), K, true))
    assert position == pytest.approx(math.hypot(1, 0.1))
    assert rotation == pytest.approx(math.degrees(0.1))


# The scene


@pytest.fixture(scope="module")
def views():
    """Forty points seen exactly by three cameras, key points in another order in each; wrong matches among them."""
    X = _points(40)
    orders = [torch.randperm(40, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    poses = [_pose(x, angle) for x, angle in ((-1.0, -0.1), (0.0, 0.0), (1.0, 0.1))]
    images = [
        PosedFeatures(f"{i}.png", (640, 480), _project(X, pose)[order], K, pose)
        for i, (pose, order) in enumerate(zip(poses, orders))
    ]
    matches = []
    for one, two in ((0, 1), (0, 2), (1, 2)):
        index = torch.stack([orders[one].argsort(), orders[two].argsort()], dim=1)
        index[:5, 1] = index[:5, 1].roll(1)
        matches.append(FoundMatches(f"{one}.png", f"{two}.png", index, torch.ones(40), 40))
    return X, orders, images, matches


def test_triangulated_points_are_those_that_were_seen(views):
    X, orders, images, matches = views
    scene = triangulate(images, matches, max_error_px=1.0)
    assert len(scene.X) >= 30
    for image, order in zip(images, orders):
        rows = scene.point[image.name]
        seen = rows >= 0
        assert seen.sum() >= 30
        torch.testing.assert_close(scene.X[rows[seen]], X[order[seen]], atol=1e-4, rtol=0)


def test_matches_against_the_poses_make_no_points(views):
    _, _, images, matches = views
    turned = [replace(each, index=torch.stack([each.index[:, 0], each.index[:, 1].roll(7)], dim=1)) for each in matches]
    assert len(triangulate(images, turned, max_error_px=0.1).X) < 5


def test_a_scene_without_matches_has_no_points(views):
    _, _, images, _ = views
    scene = triangulate(images, [], max_error_px=1.0)
    assert len(scene.X) == 0
    assert all((point == -1).all() for point in scene.point.values())


def test_a_query_s_key_points_get_the_points_of_their_matches_each_once():
    X = torch.arange(9.0, dtype=torch.float64).reshape(3, 3)
    scene = Scene(X, {"a": torch.tensor([-1, 0, 2]), "b": torch.tensor([2, -1])})
    xy_px = torch.tensor([[10.0, 10.0], [20.0, 20.0], [30.0, 30.0]], dtype=torch.float64)
    query = PosedFeatures("m", (64, 48), xy_px, K, _pose(0.0, 0.0))
    matches = [
        FoundMatches(
            "a", "m", torch.tensor([[0, 0], [1, 1], [2, 2]]), torch.ones(3), 3
        ),  # a's key point 0 has no point
        FoundMatches("m", "b", torch.tensor([[2, 0], [0, 1]]), torch.ones(2), 3),  # point 2 for key point 2, again
        FoundMatches("m", "q", torch.tensor([[0, 0]]), torch.ones(1), 3),  # another query is no part of the scene
    ]
    points, seen = _lift(query, scene, matches)
    assert points.tolist() == [X[0].tolist(), X[2].tolist()]
    assert seen.tolist() == [[20.0, 20.0], [30.0, 30.0]]


# The evaluation


def test_views_of_a_rendered_scene_are_localised(report):
    assert report.num_queries == 5
    assert report.num_failed == 0
    assert report.within["0.1, 2°"] == 100
    assert report.median_position_error < 0.02  # the walls are 4 away
    assert report.median_rotation_error_deg < 0.3
    assert [query.name for query in report.queries] == [f"{index}.png" for index in range(5)]


@pytest.mark.parametrize("estimator", ["pycolmap", "rfp"])
def test_every_estimator_localises_them(folder, estimator):
    options = replace(OPTIONS, estimator=estimator, folds=5)
    images, truth = open_image_folder(folder), read_true_poses(folder)
    report = evaluate_localization(TinyTestNetwork(), images, truth, options=options)
    assert report.within["0.1, 2°"] == 100
    assert report.settings["estimator"] == estimator


def test_a_query_without_a_pose_counts_and_the_figures_are_json(folder, report, tmp_path):
    import cv2

    broken = shutil.copytree(folder, tmp_path / "broken")
    image = cv2.imread(str(broken / "images" / "1.png"))
    cv2.imwrite(str(broken / "images" / "1.png"), image * 0)
    images, truth = open_image_folder(broken), read_true_poses(broken)
    found = evaluate_localization(TinyTestNetwork(), images, truth, options=OPTIONS)
    assert found.num_failed == 1
    assert found.queries[1].position_error is None
    assert found.within["0.1, 2°"] == 80
    assert "80.0" in format_localizations({"test": found})
    json.dumps(asdict(found), allow_nan=False)


def test_shares_count_queries_within_both_thresholds():
    errors = [(0.1, 1.0), (0.1, 3.0), (0.4, 1.0), (None, None)]
    queries = [QueryFigures(f"{i}", position, rotation, 9, 9, 9) for i, (position, rotation) in enumerate(errors)]
    found = summarise_localization(queries, ((0.25, 2.0), (0.5, 5.0)), {})
    assert found.within == {"0.25, 2°": 25.0, "0.5, 5°": 75.0}
    assert found.median_position_error == pytest.approx(0.25)
    assert found.num_failed == 1
    assert summarise_localization(queries[3:], ((0.25, 2.0),), {}).median_position_error is None


def _queries(num_right, num_wrong):
    errors = [(0.1, 1.0)] * num_right + [(None, None)] * num_wrong
    return [QueryFigures(f"{i}", position, rotation, 9, 9, 9) for i, (position, rotation) in enumerate(errors)]


def test_the_intervals_of_the_shares_are_those_of_resampled_queries():
    """Of 40 queries the binomial's own spread; none of fewer than five, and none where all queries say the same."""
    found = summarise_localization(_queries(30, 10), ((0.25, 2.0), (0.01, 2.0)), {})
    low, high = found.within_interval["0.25, 2°"]
    spread = 100 * 1.96 * math.sqrt(0.75 * 0.25 / 40)
    assert (low, high) == pytest.approx((75 - spread, 75 + spread), abs=2.6)  # a step is one query, 2.5
    assert found.within_interval["0.01, 2°"] is None
    assert summarise_localization(_queries(3, 1), ((0.25, 2.0),), {}).within_interval == {"0.25, 2°": None}


def test_the_table_has_an_interval_where_there_is_one(report):
    found = summarise_localization(_queries(6, 4), ((0.25, 2.0), (0.01, 2.0)), report.settings)
    low, high = found.within_interval["0.25, 2°"]
    lines = format_localizations({"tiny": found}).splitlines()
    assert lines[2].split() == ["95%", f"{low:.1f}–{high:.1f}"]
    assert lines[-1].startswith("95% intervals: the queries resampled")
    lines = format_localizations({"tiny": found}, markdown=True).splitlines()
    assert lines[2].startswith(f"| tiny | 10 | 60.0 ({low:.1f}–{high:.1f}) | 0.0 | 0.1 | 1.000° | 4 | ")
    assert "poselib at 2 px of the stored images, 4 folds." in lines[4]
    assert "300 key points" in lines[5]


def test_the_table_carries_figures_and_settings(report):
    report = replace(report, within={"0.02, 0.5°": 100.0, "0.1, 2°": 100.0}, within_interval={})
    lines = format_localizations({"tiny": report}).splitlines()
    assert lines[0].split()[:5] == ["queries", "0.02,", "0.5°", "0.1,", "2°"]
    assert lines[1].split()[:2] == ["tiny", "5"]
    assert "poselib at 2 px" in lines[2]
    assert "4 folds" in lines[2]
    assert "300 key points" in lines[3]


def test_what_cannot_be_localised_is_one_line(folder, pairs_folder):
    images, truth = open_image_folder(folder), read_true_poses(folder)
    with pytest.raises(InputError, match="expected at least 6 images"):
        evaluate_localization(TinyTestNetwork(), images, truth, options=replace(OPTIONS, folds=6))
    with pytest.raises(InputError, match="one scene of one scale"):
        evaluate_localization(TinyTestNetwork(), images, replace(truth, poses={}), options=OPTIONS)


@pytest.mark.parametrize(
    "change", [{"estimator": "magic"}, {"folds": 1}, {"max_error_px": 0.0}, {"thresholds": ()}, {"seed": -1}]
)
def test_options_that_mean_nothing_are_one_line(change):
    with pytest.raises(InputError, match="expected"):
        LocalizationOptions(**change)
