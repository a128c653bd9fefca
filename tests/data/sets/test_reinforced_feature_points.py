import re

import numpy as np
import pytest

from rfp.data import InputError
from rfp.data.sets import ReinforcedFeaturePointsPairs
from tests.data.sets.blobs import assert_pose_is_true, blob_views, render_blobs, write_image

h5py = pytest.importorskip("h5py")

SHARES = np.array([[-1, 0.8, 0.3, 0], [0.1, -1, 0.7, 0.5], [0.9, 0.9, -1, 0.6], [0.9, 0.9, 0.9, -1]])


def _calibration(folder, index):
    return folder / f"calibration/calibration_{index:06d}.h5"


def _write_calibration(path, view, **changes):
    centre = np.array([[0, 0, (view.width - 1) / 2], [0, 0, (view.height - 1) / 2], [0, 0, 0]])
    size = np.array([[view.width, view.height]], dtype=np.float64)
    values = {"K": view.K - centre, "R": view.R, "T": view.t[None], "imsize": size, **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in values.items():
            if value is not None:
                file[key] = value


def _write_visibility(folder, visible):
    for index, row in enumerate(visible, start=1):
        path = folder / f"visibility/vis_{index:06d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{value:g}\n" for value in row))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "brown_bm_3---brown_bm_3-maxpairs-10000-random---skip-10-dilate-25" / "test"
    views = blob_views()
    names = [f"images/000{index} é.png" for index in range(len(views))]
    for index, (name, view) in enumerate(zip(names, views), start=1):
        write_image(folder / name, view.image())
        _write_calibration(_calibration(folder, index), view)
    _write_visibility(folder, SHARES)
    numbers = range(1, len(views) + 1)
    (folder / "images.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / "calibration.txt").write_text("".join(f"calibration/calibration_{n:06d}.h5\n" for n in numbers))
    (folder / "visibility.txt").write_text("".join(f"visibility/vis_{n:06d}.txt\n" for n in numbers))
    return folder


def _error(folder, **options):
    with pytest.raises(InputError) as error:
        ReinforcedFeaturePointsPairs(folder, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("image_size", [None, 97])
def test_cameras_are_world_to_camera_with_K_from_the_images_centre(folder, image_size):
    pairs = ReinforcedFeaturePointsPairs(folder, image_size=image_size)
    pairs.check_images()
    assert pairs.names == [
        "brown_bm_3: 0000 é.png 0001 é.png",
        "brown_bm_3: 0001 é.png 0002 é.png",
        "brown_bm_3: 0002 é.png 0003 é.png",
    ]
    for pair in pairs:
        assert_pose_is_true(pair)


def test_pairs_are_chosen_by_visibility(folder):
    assert len(ReinforcedFeaturePointsPairs(folder, min_visibility=0.4)) == 4
    assert len(ReinforcedFeaturePointsPairs(folder, min_visibility=0.4, max_pairs=2)) == 2
    assert "no pair with a visibility above 0.95 (the largest is 0.9)" in _error(folder, min_visibility=0.95)


def test_counts_of_points_have_the_papers_other_threshold(folder):
    _write_visibility(folder, np.where(SHARES > 0, SHARES * 180, SHARES))
    assert len(ReinforcedFeaturePointsPairs(folder)) == 3  # more than 100 points, the paper's outdoor rule
    _write_visibility(folder, np.where(SHARES > 0, SHARES * 110, SHARES))
    assert "no pair with a visibility above 100" in _error(folder)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"K": None}, "missing K; expected K, R, T and imsize"),
        ({"imsize": None}, "missing imsize"),
        ({"K": np.eye(2)}, "K: expected 9 numbers, got 4"),
        ({"T": "north"}, "T: expected 3 numbers, got 0"),
        ({"K": np.diag([0.0, 1, 1])}, "K: expected positive focal lengths"),
        ({"R": 2 * np.eye(3)}, "R: not a rotation"),
        ({"R": np.diag([1.0, 1, -1])}, "R: a reflection"),
        ({"T": np.array([0, np.nan, 0])}, "t: expected finite numbers"),
        ({"imsize": np.array([0.0, 120])}, "imsize: expected width and height in pixels, got 0 and 120"),
    ],
)
def test_a_wrong_calibration_names_its_file_and_key(folder, changes, expected):
    _write_calibration(_calibration(folder, 2), blob_views()[1], **changes)
    message = _error(folder)
    assert str(_calibration(folder, 2)) in message
    assert expected in message


def test_a_calibration_cut_anywhere_names_itself(folder):
    path = _calibration(folder, 2)
    content = path.read_bytes()
    for end in (0, 7, 50, 500, len(content) // 2, len(content) - 8):
        path.write_bytes(content[:end])
        assert f"{path}: " in _error(folder)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "visibility/vis_000002.txt",
            "0.1\n-1\n0.7\n",
            "vis_000002.txt: expected 4 numbers, one for each image, got 3",
        ),
        (
            "visibility/vis_000002.txt",
            "0.1\n-1\nmany\n0.5\n",
            "vis_000002.txt, line 3, column 1: expected a finite number, got 'many'",
        ),
        (
            "visibility.txt",
            "visibility/vis_000001.txt\n",
            "lists of equal length, got images.txt 4, calibration.txt 4, visibility.txt 1",
        ),
        ("images.txt", "", "images.txt: expected at least one line"),
        ("images.txt", "a.png\nb.png\nc.png\nd.png\n", "images.txt, line 1: no such image"),
        ("calibration.txt", "1.h5\n2.h5\n3.h5\n4.h5\n", "calibration.txt, line 1: no such file"),
        ("visibility.txt", "1.txt\n2.txt\n3.txt\n4.txt\n", "1.txt: no such file"),
    ],
)
def test_a_wrong_list_names_its_file(folder, name, text, expected):
    (folder / name).write_text(text)
    assert expected in _error(folder)


def test_a_missing_list_names_itself(folder):
    (folder / "calibration.txt").unlink()
    assert re.search("calibration.txt: no such file", _error(folder))


def test_an_image_of_another_size_than_was_calibrated_is_found_by_check_images(folder):
    write_image(folder / "images/0002 é.png", render_blobs(np.ones((3, 2)), 150, 120))
    with pytest.raises(InputError, match=r"0002 é\.png: expected 160×120 pixels .* got 150×120"):
        ReinforcedFeaturePointsPairs(folder).check_images()
