import dataclasses
import math
import pickle
import re

import numpy as np
import pytest
import torch

from rfp.data import InputError
from rfp.data.sets import TUMSequence
from rfp.data.sets.trajectories import read_trajectory, rotation_matrix
from rfp.data.sets.tum import PUBLISHED_CAMERAS
from tests.data.sets.blobs import assert_pose_is_true, blob_views, disagreement_px, write_image

CHOICE = {"frame_distances": (1, 2), "stride": 1, "min_baseline": 0.3}
START = 1305031452.79
K_SMALL = np.array([[150.0, 0, 76.0], [0, 152.0, 62.0], [0, 0, 1]])


def _quaternion(R):
    """(x, y, z, w) of a rotation by less than 180°."""
    w = math.sqrt(1 + np.trace(R)) / 2
    return np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 4 * w * w]) / (4 * w)


def _pose_line(time, R_world, centre):
    return " ".join(f"{x:.7f}" for x in (time, *centre, *_quaternion(R_world)))


def _turn(angle):
    return rotation_matrix(np.array([math.sin(angle / 2), 0, 0, math.cos(angle / 2)]))


def _write(folder, K=K_SMALL, size=(160, 120), distortion=(0.0,) * 5):
    """Four frames; the motion capture saw the camera shortly before and after each, never at its time."""
    views = [dataclasses.replace(view, K=K, width=size[0], height=size[1]) for view in blob_views()]
    frames = ["# color images", "# timestamp filename"]
    poses = ["# ground truth trajectory", _pose_line(START - 5, np.eye(3), np.ones(3))]
    for index, view in enumerate(views):
        time = START + index / 30
        write_image(folder / f"rgb/{time:.6f}.png", view.image(distortion))
        frames.append(f"{time:.6f} rgb/{time:.6f}.png")
        R_world, centre = view.R.T, -view.R.T @ view.t
        for side in (-1, 1):
            moved = centre + side * np.array([0.02, -0.03, 0.01])
            poses.append(_pose_line(time + side * 0.01, R_world @ _turn(side * 0.02), moved))
    (folder / "rgb.txt").write_text("\n".join(frames) + "\n")
    (folder / "groundtruth.txt").write_text("\n".join(poses) + "\n")
    return folder


@pytest.fixture
def sequence(tmp_path):
    return _write(tmp_path / "straße_1")


def _open(folder, **options):
    return TUMSequence(folder, **{"K": torch.tensor(K_SMALL), **CHOICE, **options})


def _error(folder, **options):
    with pytest.raises(InputError) as error:
        _open(folder, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def _replace_line(file, number, change):
    lines = file.read_text().splitlines()
    lines[number - 1] = change(lines[number - 1])
    file.write_text("\n".join(lines))


@pytest.mark.parametrize("image_size", [None, 97])
def test_poses_are_camera_to_world_and_interpolated_to_the_frames_time(sequence, image_size):
    pairs = _open(sequence, image_size=image_size)
    pairs.check_images()
    assert len(pairs) == 5
    assert {pair.scene for pair in pairs} == {"straße_1"}
    for pair in pairs:
        assert_pose_is_true(pair)


def test_only_one_near_pose_is_taken_as_it_is(sequence):
    """Half of the poses removed: each frame has one 0.01 s before it, 2 cm and 1° away."""
    lines = (sequence / "groundtruth.txt").read_text().splitlines()
    (sequence / "groundtruth.txt").write_text("\n".join(lines[:2] + lines[2::2]))
    pairs = _open(sequence)
    assert len(pairs) == 5
    assert 0.5 < max(disagreement_px(pair) for pair in pairs) < 10


def test_frames_without_a_pose_are_left_out(sequence):
    file = sequence / "groundtruth.txt"
    file.write_text("\n".join(file.read_text().splitlines()[:-2]))  # none for the last frame
    assert len(_open(sequence)) == 3


def test_published_cameras_are_undistorted(tmp_path):
    (fx, fy, cx, cy), distortion = PUBLISHED_CAMERAS["freiburg1"]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    folder = _write(tmp_path / "rgbd_dataset_freiburg1_desk", K, (640, 480), distortion)
    for pair in TUMSequence(folder, **CHOICE, image_size=640):
        assert_pose_is_true(pair)


def test_undistorted_images_are_the_same_in_every_pair_and_process(tmp_path):
    folder = _write(tmp_path / "rgbd_dataset_freiburg1_desk", distortion=PUBLISHED_CAMERAS["freiburg1"][1])
    pairs = TUMSequence(folder, K=torch.tensor(K_SMALL), distortion=PUBLISHED_CAMERAS["freiburg1"][1], **CHOICE)
    again = pickle.loads(pickle.dumps(pairs))
    torch.testing.assert_close(pairs[0].image1, again[0].image1, atol=0, rtol=0)
    torch.testing.assert_close(pairs[0].image1, pairs[0].image1, atol=0, rtol=0)
    assert pairs[0].image1.data_ptr() != pairs[0].image1.data_ptr()


def test_pairs_are_far_enough_apart_and_turned_little(sequence):
    assert len(_open(sequence, frame_distances=(1,))) == 3
    assert len(_open(sequence, stride=2)) == 3  # (0, 1), (0, 2), (2, 3)
    assert len(_open(sequence, max_pairs=2)) == 2
    near = _open(sequence, min_baseline=0.8)
    assert 0 < len(near) < 5
    assert all(record.t.norm() >= 0.8 for record in near.records)
    message = _error(sequence, min_baseline=50.0)
    assert "none of 5 pairs of frames with poses fits: 5 moved less than 50 m, 0 turned more" in message
    assert "5 turned more than 0.1 degrees" in _error(sequence, max_rotation_deg=0.1)
    assert "at least 1" in _error(sequence, stride=0)


def test_time_stamps_that_do_not_overlap_say_both_ranges(sequence):
    file = sequence / "groundtruth.txt"
    file.write_text(file.read_text().replace("13050314", "14050314"))
    message = _error(sequence)
    assert re.search(r"no frame has a pose within 0.02 s: rgb.txt goes from 1305031452.790 to 1305031452.890", message)
    assert "groundtruth.txt from 14050314" in message


def test_a_sequence_of_no_published_camera_asks_for_K(sequence):
    with pytest.raises(InputError, match=r"straße_1: no intrinsics: .* freiburg1, freiburg2, freiburg3; give K="):
        TUMSequence(sequence)
    assert "K: expected positive focal lengths" in _error(sequence, K=torch.zeros(3, 3))
    assert "4 or 5 finite distortion coefficients" in _error(sequence, distortion=(0.1, 0.2))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda line: line.rsplit(" ", 1)[0], "line 3: expected 8 columns .* got 7"),
        (lambda line: line + " 1", "line 3: expected 8 columns .* got 9"),
        (lambda line: "x" + line, "line 3, column 1: expected a finite number"),
        (lambda line: line.rsplit(" ", 1)[0] + " 7", "line 3: expected a unit quaternion .* of length 7"),
        (lambda line: line.rsplit(" ", 4)[0] + " 0 0 0 0", "line 3: expected a unit quaternion .* of length 0"),
        (lambda line: "1.5 " + line.split(" ", 1)[1], "line 3: expected a time stamp later than"),
    ],
)
def test_a_wrong_pose_is_named_by_its_line(sequence, change, expected):
    _replace_line(sequence / "groundtruth.txt", 3, change)
    message = _error(sequence)
    assert str(sequence / "groundtruth.txt") in message
    assert re.search(expected, message)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda line: line.split()[0], "line 4: expected a time stamp and a path"),
        (lambda line: "now " + line.split()[1], "line 4, column 1: expected a finite number, got 'now'"),
        (lambda line: line + ".jpg", "line 4: no such image"),
        (lambda line: "1.5 " + line.split()[1], "line 4: expected a later time stamp"),
    ],
)
def test_a_wrong_frame_is_named_by_its_line(sequence, change, expected):
    _replace_line(sequence / "rgb.txt", 4, change)
    message = _error(sequence)
    assert str(sequence / "rgb.txt") in message
    assert re.search(expected, message)


def test_missing_or_empty_files_name_themselves(sequence, tmp_path):
    (sequence / "groundtruth.txt").write_text("# nothing\n")
    assert "groundtruth.txt: expected at least one line" in _error(sequence)
    (sequence / "groundtruth.txt").unlink()
    assert "groundtruth.txt: no such file" in _error(sequence)
    (sequence / "rgb.txt").write_text("# nothing\n")
    assert "rgb.txt: expected lines of a time stamp" in _error(sequence)
    assert "no such folder" in _error(tmp_path / "elsewhere")


def test_rounded_quaternions_become_rotations(tmp_path):
    file = tmp_path / "groundtruth.txt"
    file.write_text("1.0 1 2 3 0.6132 0.5962 -0.3311 -0.3986\n")
    R, t = read_trajectory(file).at(1.0, 0.02)
    assert np.allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.allclose(-R.T @ t, [1, 2, 3])


def test_interpolation_takes_the_short_way_and_constant_speed(tmp_path):
    file = tmp_path / "groundtruth.txt"
    last = -np.array([0, 0, math.sin(0.3), math.cos(0.3)])  # -q is the same rotation
    file.write_text("0 0 0 0 0 0 0 1\n1 4 0 0 " + " ".join(map(str, last)))
    R, t = read_trajectory(file).at(0.25, 1.0)
    assert math.isclose(math.atan2(R.T[1, 0], R.T[0, 0]), 0.15, abs_tol=1e-12)
    assert np.allclose(-R.T @ t, [1, 0, 0])


def test_it_goes_to_workers(sequence):
    """A lens has maps, which must travel or be made again."""
    pairs = _open(sequence, distortion=(0.1, 0.0, 0.0, 0.0))
    pair = pairs[0]
    copied = pickle.loads(pickle.dumps(pairs))[0]
    assert torch.equal(pair.image1, copied.image1)
    assert torch.equal(pair.K1, copied.K1)
