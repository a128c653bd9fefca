"""Photographs become pairs whose poses or homographies relate the written pixels, the same for the same seed."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rfp.data import HomographyOptions, InputError, SceneOptions
from rfp.data.from_photographs import PhotographOptions, homographies_from_photographs, rendered_from_photographs
from rfp.data.inspection import inspect_folder
from rfp.data.sets import HomographyFolder
from tests.data.colmap_models import read_grey

SMALL = PhotographOptions(image_size=(96, 128), texture_size=128)


def _records(folder, name="pairs.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_rendered_planes_agree_with_their_poses(photographs, tmp_path):
    """Matches that OpenCV's SIFT finds lie on the epipolar lines of R, t and K."""
    scenes = replace(SceneOptions.easy(layouts=("cards",), num_textures=1), noise=(0.0, 0.001))
    options = PhotographOptions(image_size=(192, 256), texture_size=128)
    count = rendered_from_photographs(photographs, tmp_path / "out", num_pairs=3, options=options, scenes=scenes)
    assert count == 2
    inspection = inspect_folder(tmp_path / "out")
    assert (inspection.problems, inspection.warnings) == ([], [])
    assert (inspection.scenes, inspection.image_sizes) == ({"out": 3}, {"256×192": 6})
    inliers, total = 0, 0
    for record in _records(tmp_path / "out"):
        assert record["layout"] == "cards"
        xy1_px, xy2_px = _matches(*(read_grey(tmp_path / "out" / record[key]) for key in ("image1", "image2")))
        distance = _epipolar_distance_px(record, xy1_px, xy2_px)
        inliers, total = inliers + (distance < 1).sum(), total + len(distance)
        wrong = _epipolar_distance_px({**record, "t": np.roll(record["t"], 1).tolist()}, xy1_px, xy2_px)
        assert (distance < 1).sum() > 2 * (wrong < 1).sum()
    assert total > 60
    assert inliers / total > 0.85


def test_homographies_take_what_one_image_shows_to_where_the_other_shows_it(photographs, tmp_path):
    views = HomographyOptions(tilt_deg=30.0, scale=1.2)
    homographies_from_photographs(photographs, tmp_path / "out", num_pairs=3, options=SMALL, views=views)
    assert [pair.scene for pair in HomographyFolder(tmp_path / "out")] == 3 * ["out"]
    for record in _records(tmp_path / "out", "homographies.json"):
        one, two = (read_grey(tmp_path / "out" / record[key]).astype(np.float32) for key in ("image1", "image2"))
        assert one.shape == (96, 128)

        def difference(H, one=one, two=two):
            warped, inside = (cv2.warpPerspective(image, H, (128, 96)) for image in (one, np.ones_like(one)))
            blank = cv2.erode(((inside > 0.99) & (two > 0) & (warped > 0)).astype(np.uint8), np.ones((5, 5))) > 0
            assert blank.sum() > 1000
            return np.abs(warped - two)[blank].mean()

        H = np.array(record["H"])
        assert H[2, 2] == 1
        half_a_pixel = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        assert difference(H) < 6
        assert difference(H) < 0.8 * min(difference(half_a_pixel @ H), difference(np.linalg.inv(half_a_pixel) @ H))


@pytest.mark.parametrize("make", [rendered_from_photographs, homographies_from_photographs])
def test_the_seed_decides_and_nothing_else(photographs, tmp_path, make):
    def made(name, num_pairs=2, seed=0):
        options = PhotographOptions(image_size=(32, 40), texture_size=32, seed=seed)
        make(photographs, tmp_path / name, num_pairs=num_pairs, options=options)
        files = sorted(path for path in (tmp_path / name).rglob("*.png"))
        assert len(files) == 2 * num_pairs
        return [path.read_bytes() for path in files]

    first = made("first")
    assert first == made("again")
    assert made("more", num_pairs=3)[:4] == first
    assert made("other", seed=1) != first


@pytest.mark.parametrize("make", [rendered_from_photographs, homographies_from_photographs])
def test_bad_input_is_refused_and_leaves_nothing(photographs, tmp_path, make):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        make(tmp_path / "empty", tmp_path / "out", num_pairs=1, options=SMALL)
    with pytest.raises(InputError, match="nowhere"):
        make(tmp_path / "nowhere", tmp_path / "out", num_pairs=1, options=SMALL)
    with pytest.raises(InputError, match="at least 1 pair"):
        make(photographs, tmp_path / "out", num_pairs=0, options=SMALL)
    with pytest.raises(InputError, match="image_size"):
        make(photographs, tmp_path / "out", num_pairs=1, options=PhotographOptions(image_size=(4, 4)))
    with pytest.raises(InputError, match="seed"):
        make(photographs, tmp_path / "out", num_pairs=1, options=PhotographOptions(seed=-1))
    (tmp_path / "empty" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        make(tmp_path / "empty", tmp_path / "out", num_pairs=1, options=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def _matches(one, two):
    sift = cv2.SIFT_create(300, contrastThreshold=0.01)
    (keypoints1, descriptors1), (keypoints2, descriptors2) = (
        sift.detectAndCompute(image, None) for image in (one, two)
    )
    found = cv2.BFMatcher(cv2.NORM_L2).knnMatch(descriptors1, descriptors2, k=2)
    good = [first for first, second in found if first.distance < 0.7 * second.distance]
    # SIFT's pixels begin at the centre of the top-left pixel, as ours do
    return (
        np.array([keypoints1[match.queryIdx].pt for match in good]),
        np.array([keypoints2[match.trainIdx].pt for match in good]),
    )


def _epipolar_distance_px(record, xy1_px, xy2_px):
    K1, K2, R, t = (np.array(record[key]) for key in ("K1", "K2", "R", "t"))
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    F = np.linalg.inv(K2).T @ cross @ R @ np.linalg.inv(K1)
    one, two = (np.concatenate([xy, np.ones((len(xy), 1))], axis=1) for xy in (xy1_px, xy2_px))
    line = one @ F.T
    return np.abs((line * two).sum(axis=1)) / np.linalg.norm(line[:, :2], axis=1)
