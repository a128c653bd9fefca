"""A posed video becomes posed pairs with the poses of its trajectory and the intrinsics of the written pixels."""

import json
import math
from itertools import pairwise

import cv2
import numpy as np
import pytest

from rfp.data import InputError
from rfp.data.from_trajectory import VideoCamera, _view, pairs_from_trajectory
from rfp.data.inspection import inspect_folder
from rfp.data.pair_selection import PairChoice
from tests.data.colmap_models import HEIGHT, WIDTH, apart, draw_spots, read_grey, spot_centres

CAMERA = VideoCamera((300.0, 305.0, 164.5, 117.5))
DISTORTION = (-0.12, 0.02, 0.002, -0.001)
SETTINGS = {"camera": CAMERA, "scene_depth": 5.5, "choice": PairChoice(parallax_deg=(1.0, 60.0)), "min_overlap": 0.3}


def _rotation(angle):
    return cv2.Rodrigues(np.array([0.1 * angle, angle, 0.2 * angle]))[0]


def _quaternion(R):
    """(x, y, z, w) of a rotation by less than 180°."""
    vector = cv2.Rodrigues(R)[0][:, 0]
    angle = np.linalg.norm(vector)
    return [*(np.sin(angle / 2) * vector / max(angle, 1e-12)), np.cos(angle / 2)]


@pytest.fixture
def video(tmp_path):
    """Six frames on an arc, 0.1 s apart: ``poses.txt``, ``rgb.txt``, ``rgb/``; spots at known points."""
    return _make_video(tmp_path, distortion=())


def _make_video(folder, *, distortion):
    across, down = np.meshgrid(np.linspace(-2.1, 2.1, 9), np.linspace(-1.5, 1.5, 6))
    points = np.stack([across.ravel(), down.ravel(), np.full(54, 5.5)], axis=1)
    points[:, 2] += np.random.default_rng(0).uniform(-0.4, 0.4, 54)
    (folder / "rgb").mkdir()
    poses, listed, truth = [], [], {}
    for number in range(6):
        angle = 0.07 * (number - 2.5)
        R = _rotation(angle)  # world to camera
        centre = np.array([5.5 * math.sin(angle), 0.05 * number, 5.5 * (1 - math.cos(angle))])
        xy = cv2.projectPoints((points - centre) @ R.T, np.zeros(3), np.zeros(3), CAMERA.K, np.array(distortion))[0]
        name = f"rgb/{100 + 0.1 * number:.6f} ä.png"
        pixels = draw_spots(xy[:, 0])
        (folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        listed.append(f"{100 + 0.1 * number:.6f} {name}")
        poses.append(" ".join(f"{value:.9f}" for value in (100 + 0.1 * number, *centre, *_quaternion(R.T))))
        truth[name] = (R, centre)
    (folder / "poses.txt").write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(poses))
    (folder / "rgb.txt").write_text("# colour images\n" + "\n".join(listed), encoding="utf-8")
    return folder, points, truth


def _run(folder, output="out", **settings):
    return pairs_from_trajectory(folder / "poses.txt", folder / "rgb.txt", folder / output, **(SETTINGS | settings))


def _records(folder):
    return json.loads((folder / "pairs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("image_size", [None, 200])
@pytest.mark.parametrize("distortion", [(), DISTORTION])
def test_the_points_lie_where_the_written_images_show_them(tmp_path, distortion, image_size):
    folder, points, truth = _make_video(tmp_path, distortion=distortion)
    camera = VideoCamera(CAMERA.intrinsics, distortion)
    written = _run(folder, camera=camera, image_size=image_size)
    records = _records(folder / "out")
    assert written.num_pairs == len(records) >= 10
    for record in records[::3]:
        names = [record[key].removeprefix("images/") for key in ("image1", "image2")]
        (R1, centre1), (R2, centre2) = (truth[name] for name in names)
        np.testing.assert_allclose(record["R"], R2 @ R1.T, atol=1e-7)
        np.testing.assert_allclose(record["t"], R2 @ (centre1 - centre2), atol=1e-7)
        X1 = (points - centre1) @ R1.T
        X2 = X1 @ np.array(record["R"]).T + np.array(record["t"])
        for X, image, K in ((X1, "image1", "K1"), (X2, "image2", "K2")):
            grey = read_grey(folder / "out" / record[image])
            assert max(grey.shape) == (image_size or WIDTH)
            xy_px = (X @ np.array(record[K]).T)[:, :2] / X[:, 2:]
            radius = round(6 * grey.shape[1] / WIDTH)
            xy_px = xy_px[apart(xy_px, grey.shape, radius)]
            assert len(xy_px) > 20
            error = spot_centres(grey, xy_px, radius) - xy_px
            assert np.linalg.norm(error, axis=1).max() < 0.1
            assert np.abs(error.mean(axis=0)).max() < 0.02


def test_inspection_finds_nothing_wrong(video):
    folder, *_ = video
    written = _run(folder, scene="desk")
    inspection = inspect_folder(folder / "out")
    assert (inspection.problems, inspection.warnings) == ([], [])
    assert inspection.scenes == {"desk": written.num_pairs}


def test_a_folder_of_images_named_by_their_times_does_as_well(video):
    folder, _, truth = video
    _run(folder)
    for name in truth:
        (folder / name).rename(folder / name.replace(" ä", ""))
    pairs_from_trajectory(folder / "poses.txt", folder / "rgb", folder / "again", **SETTINGS)
    first, second = _records(folder / "out"), _records(folder / "again")
    assert [(record["R"], record["t"]) for record in first] == [(record["R"], record["t"]) for record in second]
    (folder / "rgb" / "last.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"last\.png: expected a time stamp as the name"):
        pairs_from_trajectory(folder / "poses.txt", folder / "rgb", folder / "more", **SETTINGS)


def test_poses_between_the_listed_ones_are_interpolated_and_images_without_one_are_left_out(video):
    folder, _, truth = video
    lines = (folder / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text("\n".join([*lines[:3], *lines[4:6]]))  # frame 2 of an even arc, and the last one
    written = _run(folder, max_time_difference=0.15)
    assert written.num_without_pose == 0
    name = sorted(truth)[2]
    for record in _records(folder / "out"):
        if record["image2"].endswith(name):
            R1, centre1 = truth[record["image1"].removeprefix("images/")]
            R2, centre2 = truth[name]
            np.testing.assert_allclose(record["R"], R2 @ R1.T, atol=1e-6)
            # on the chord and not on the arc: 5.5 (1 - cos 0.07)
            assert np.linalg.norm(np.array(record["t"]) - R2 @ (centre1 - centre2)) < 0.014
    assert _run(folder, "strict").num_without_pose == 2
    later = [f"{float(line.split()[0]) + 0.05:.6f} " + line.split(" ", 1)[1] for line in lines[1:]]
    (folder / "poses.txt").write_text("\n".join(later))
    with pytest.raises(InputError, match="none of the 6 images has a pose within 1e-05"):
        _run(folder, "none", max_time_difference=1e-5)


def test_every_nth_image_is_taken_and_the_limits_hold(video):
    folder, _, truth = video
    _run(folder, every=2)
    used = {record[key].removeprefix("images/") for record in _records(folder / "out") for key in ("image1", "image2")}
    assert used == set(sorted(truth)[::2])
    _run(folder, "few", choice=PairChoice(parallax_deg=(6.0, 60.0), max_pairs=3))
    records = _records(folder / "few")
    assert len(records) == 3
    assert all(record["parallax_deg"] >= 6 and record["overlap"] >= 0.3 for record in records)


def test_no_pair_that_qualifies_is_told_by_criterion(video):
    folder, *_ = video
    with pytest.raises(InputError, match=r"15 share less than 0\.9 of a view at depth 0\.5 .*--min-overlap"):
        _run(folder, min_overlap=0.9, scene_depth=0.5)
    with pytest.raises(InputError, match=r"15 have a parallax outside 50 to 60° \(--parallax-deg\)"):
        _run(folder, choice=PairChoice(parallax_deg=(50.0, 60.0)), min_overlap=0.1)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("poses.txt", lambda text: text.replace(" 0.", " 5.", 4), r"poses\.txt, line 2: expected a unit quaternion"),
        ("poses.txt", lambda text: text.rsplit(" ", 1)[0], r"poses\.txt, line 7: expected 8 columns"),
        ("poses.txt", lambda text: "", r"poses\.txt: expected at least one line"),
        ("rgb.txt", lambda text: "# nothing", r"rgb\.txt: expected at least one line"),
        ("rgb.txt", lambda text: text + "\n101.0", r"rgb\.txt, line 8: expected a time stamp and a path"),
        ("rgb.txt", lambda text: text + "\nnow rgb/a.png", r"rgb\.txt, line 8, column 1: expected a finite number"),
        (
            "rgb.txt",
            lambda text: text + "\n101.0 rgb/lost.png",
            r"1 of 7 images are not there \(rgb/lost\.png\); .*take them out of rgb\.txt",
        ),
        ("rgb.txt", lambda text: text + "\n" + text.splitlines()[1], r"rgb\.txt, line 8: .* is listed twice"),
        ("rgb.txt", lambda text: text.replace("100.100000 ", "100.000000 ", 1), "have the same time stamp"),
    ],
)
def test_a_bad_file_is_one_line_with_its_place(video, file, change, expected):
    folder, *_ = video
    text = (folder / file).read_text(encoding="utf-8")
    (folder / file).write_text(change(text), encoding="utf-8")
    with pytest.raises(InputError, match=expected):
        _run(folder)
    assert not (folder / "out").exists()


def test_an_image_of_another_size_and_intrinsics_of_another_size_are_refused(video):
    folder, _, truth = video
    with pytest.raises(InputError, match=r"principal point \(640, 360\) lies outside the image of 320×240"):
        _run(folder, camera=VideoCamera((600.0, 600.0, 640.0, 360.0)))
    with pytest.warns(UserWarning, match=r"principal point at \(80, 60\) .* those of another size"):
        _view(VideoCamera((150.0, 150.0, 79.5, 59.5)), folder / min(truth))
    cv2.imwrite(str(folder / sorted(truth)[3]), np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8))
    with pytest.raises(InputError, match="expected 320×240 pixels, the size in the first image, got 160×120"):
        _run(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"scene_depth": 0.0},
        {"scene_depth": math.nan},
        {"min_overlap": 1.5},
        {"every": 0},
        {"max_time_difference": -1.0},
    ],
)
def test_settings_that_mean_nothing_are_refused(video, change):
    with pytest.raises(InputError, match="expected scene_depth above 0"):
        _run(video[0], **change)


@pytest.mark.parametrize(
    "camera", [((0.0, 1.0, 1.0, 1.0), ()), ((9.0, 9.0, math.nan, 1.0), ()), ((9.0, 9.0, 1.0, 1.0), (0.1,))]
)
def test_cameras_that_mean_nothing_are_refused(camera):
    with pytest.raises(InputError, match="expected"):
        VideoCamera(*camera)


def test_frames_stay_in_the_order_of_time(video):
    folder, *_ = video
    lines = (folder / "rgb.txt").read_text(encoding="utf-8").splitlines()
    (folder / "rgb.txt").write_text("\n".join([lines[0], *lines[:0:-1]]), encoding="utf-8")
    _run(folder)
    records = _records(folder / "out")
    assert all(record["image1"] < record["image2"] for record in records)
    assert all(one["image1"] <= two["image1"] for one, two in pairwise(records))
