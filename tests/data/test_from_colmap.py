"""A COLMAP model becomes posed pairs whose K, R and t send its points to where the written images show them."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from rfp.data import InputError, PosedPairs
from rfp.data.from_colmap import pairs_from_colmap
from rfp.data.inspection import inspect_folder
from rfp.data.pair_selection import PairChoice
from tests.data.colmap_models import HEIGHT, WIDTH, apart, make_spot_model, read_grey, spot_centres

pycolmap = pytest.importorskip("pycolmap")

CHOICE = PairChoice(parallax_deg=(1.0, 60.0))


@pytest.fixture(scope="session")
def spots(tmp_path_factory):
    return make_spot_model(tmp_path_factory.mktemp("colmap"))


@pytest.fixture
def own_spots(tmp_path):
    return make_spot_model(tmp_path / "own")


def _truth(reconstruction, name):
    image = reconstruction.find_image_with_name(name)
    pose = image.cam_from_world()
    return pose.rotation.matrix(), np.array(pose.translation)


def _records(folder):
    return json.loads((folder / "pairs.json").read_text(encoding="utf-8"))


def _name(path):
    return path.removeprefix("images/")


def _observed(reconstruction, *names):
    """The points that all of these images observe."""
    ids = [
        {point.point3D_id for point in reconstruction.find_image_with_name(name).get_observation_points2D()}
        for name in names
    ]
    return np.array([reconstruction.points3D[key].xyz for key in sorted(set.intersection(*ids))])


@pytest.mark.parametrize("image_size", [None, 200, 480])
@pytest.mark.parametrize(
    ("camera", "params"),
    [
        ("SIMPLE_RADIAL", (300.0, 165.0, 118.0, -0.15)),
        ("OPENCV", (300.0, 310.0, 165.0, 118.0, 0.08, -0.02, 0.002, -0.003)),
        ("PINHOLE", (300.0, 310.0, 165.0, 118.0)),
        ("SIMPLE_RADIAL", (300.0, 165.0, 118.0, 0.0)),
        ("OPENCV_FISHEYE", (300.0, 310.0, 165.0, 118.0, 0.05, -0.01, 0.0, 0.0)),
        ("OPENCV_FISHEYE", (300.0, 310.0, 165.0, 118.0, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_the_points_lie_where_the_written_images_show_them(tmp_path, camera, params, image_size):
    model = make_spot_model(tmp_path, camera=camera, params=params)
    choice = PairChoice(parallax_deg=(1.0, 60.0), max_pairs=4)
    pairs_from_colmap(model.model, model.images, tmp_path / "out", choice=choice, image_size=image_size)
    for record in _records(tmp_path / "out"):
        R1, t1 = _truth(model.reconstruction, _name(record["image1"]))
        X1 = _observed(model.reconstruction, *(_name(record[key]) for key in ("image1", "image2"))) @ R1.T + t1
        X2 = X1 @ np.array(record["R"]).T + np.array(record["t"])
        for X, image, K in ((X1, "image1", "K1"), (X2, "image2", "K2")):
            grey = read_grey(tmp_path / "out" / record[image])
            if image_size is not None:
                assert max(grey.shape) == image_size
            xy_px = (X @ np.array(record[K]).T)[:, :2] / X[:, 2:]
            radius = round(6 * max(grey.shape) / WIDTH)
            xy_px = xy_px[apart(xy_px, grey.shape, radius)]
            assert len(xy_px) > 20
            error = spot_centres(grey, xy_px, radius) - xy_px
            assert np.linalg.norm(error, axis=1).max() < 0.1
            assert np.abs(error.mean(axis=0)).max() < 0.02  # where half a pixel of COLMAP's, or of resizing, would be


def test_a_panorama_is_refused(tmp_path):
    if not hasattr(pycolmap.CameraModelId, "EQUIRECTANGULAR"):
        pytest.skip("this pycolmap has no panoramas")
    model = make_spot_model(tmp_path, camera="EQUIRECTANGULAR", params=None)
    with pytest.raises(InputError, match=r"EQUIRECTANGULAR.* cannot be undistorted to a pinhole camera"):
        pairs_from_colmap(model.model, model.images, tmp_path / "out", choice=CHOICE)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_every_version_of_the_format_gives_the_true_relative_poses(own_spots, tmp_path, text, legacy):
    folder = own_spots.write(text=text, legacy=legacy)
    written = pairs_from_colmap(folder, own_spots.images, tmp_path / "out", choice=CHOICE, image_size=64)
    records = _records(tmp_path / "out")
    assert written.num_pairs == len(records) == 10
    for record in records:
        R1, t1 = _truth(own_spots.reconstruction, _name(record["image1"]))
        R2, t2 = _truth(own_spots.reconstruction, _name(record["image2"]))
        np.testing.assert_allclose(record["R"], R2 @ R1.T, atol=1e-12)
        np.testing.assert_allclose(record["t"], t2 - R2 @ R1.T @ t1, atol=1e-12)


def test_inspection_finds_nothing_wrong_and_the_pairs_load(spots, tmp_path):
    pairs_from_colmap(spots.model, spots.images, tmp_path / "haus", choice=CHOICE, sparse_depth=True)
    inspection = inspect_folder(tmp_path / "haus")
    assert (inspection.problems, inspection.warnings) == ([], [])
    assert inspection.scenes == {"haus": 10}
    assert 3 < inspection.quantiles["parallax_deg"]["min"] < inspection.quantiles["parallax_deg"]["max"] < 30
    pair = PosedPairs(tmp_path / "haus", image_size=100)[0]
    assert max(pair.image1.shape) == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["haus"]


def test_the_sparse_depth_is_that_of_the_points_at_their_pixels(spots, tmp_path):
    pairs_from_colmap(spots.model, spots.images, tmp_path / "out", choice=CHOICE, image_size=250, sparse_depth=True)
    record = _records(tmp_path / "out")[0]
    depth = np.load(tmp_path / "out" / record["sparse_depth1"])
    R, t = _truth(spots.reconstruction, _name(record["image1"]))
    points = np.array([spots.reconstruction.points3D[key].xyz for key in depth["point_id"].tolist()]) @ R.T + t
    assert len(points) > 40
    np.testing.assert_allclose(depth["depth"], points[:, 2], rtol=1e-6)
    rays = np.concatenate([depth["xy_px"], np.ones((len(points), 1))], axis=1) @ np.linalg.inv(record["K1"]).T
    np.testing.assert_allclose(rays * depth["depth"][:, None], points, atol=1e-4)
    grey = read_grey(tmp_path / "out" / record["image1"])
    clear = depth["xy_px"][apart(depth["xy_px"], grey.shape, 5)]
    assert np.abs(spot_centres(grey, clear, 5) - clear).max() < 0.1


def test_a_missing_image_is_named_or_left_out(own_spots, tmp_path):
    (own_spots.images / "middle.png").unlink()
    with pytest.raises(InputError, match=r"1 of 5 images are not there \(middle\.png\); .*--allow-missing"):
        pairs_from_colmap(own_spots.model, own_spots.images, tmp_path / "out", choice=CHOICE)
    assert not (tmp_path / "out").exists()
    written = pairs_from_colmap(own_spots.model, own_spots.images, tmp_path / "out", choice=CHOICE, allow_missing=True)
    assert (written.num_pairs, written.num_images, written.num_missing) == (6, 4, 1)


def test_an_empty_folder_of_images_is_refused(spots, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: 5 of 5 images are not there .*right folder"):
        pairs_from_colmap(spots.model, tmp_path / "empty", tmp_path / "out", allow_missing=True)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        pairs_from_colmap(spots.model, tmp_path / "nowhere", tmp_path / "out")


def test_names_from_windows_and_with_composed_accents_are_found(own_spots, tmp_path):
    folder = own_spots.write(text=True)
    text = (folder / "images.txt").read_text(encoding="utf-8")
    (folder / "images.txt").write_text(text.replace("left/größe", "left\\gro\u0308ße"), encoding="utf-8")
    pairs_from_colmap(folder, own_spots.images, tmp_path / "out", choice=CHOICE, image_size=64)
    assert any("left/gro\u0308ße.png" in record["image1"] for record in _records(tmp_path / "out"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((WIDTH // 2, HEIGHT // 2), "expected 320×240 pixels, .*, got 160×120; K is that of another size"),
        ((HEIGHT, WIDTH), "expected 320×240 pixels, .*, got 240×320; .*EXIF"),
    ],
)
def test_an_image_of_another_size_than_its_camera_is_refused(own_spots, tmp_path, size, expected):
    path = own_spots.images / "middle.png"
    cv2.imwrite(str(path), np.zeros((*size[::-1], 3), np.uint8))
    with pytest.raises(InputError, match=expected):
        pairs_from_colmap(own_spots.model, own_spots.images, tmp_path / "out", choice=CHOICE)
    assert not list(tmp_path.glob("*out*"))  # nor a half-written one under another name


def test_no_pair_that_qualifies_is_told_by_criterion(spots, tmp_path):
    def message(**arguments):
        with pytest.raises(InputError) as error:
            pairs_from_colmap(spots.model, spots.images, tmp_path / "out", **arguments)
        return str(error.value)

    assert "none of the 10 pairs of 5 images qualifies: 10 share fewer than 1000 points" in message(
        min_shared_points=1000
    )
    far = message(min_shared_points=5, choice=PairChoice(parallax_deg=(7.0, 60.0), max_rotation_deg=3.0))
    assert "4 have a parallax outside 7 to 60° (--parallax-deg), 6 turn by more than 3° (--max-rotation-deg)" in far
    assert not (tmp_path / "out").exists()


def test_limits_for_images_and_in_all_hold_and_the_seed_decides(spots, tmp_path):
    def chosen(name, **options):
        choice = PairChoice(parallax_deg=(1.0, 60.0), **options)
        pairs_from_colmap(spots.model, spots.images, tmp_path / name, choice=choice, image_size=32)
        return [(record["image1"], record["image2"]) for record in _records(tmp_path / name)]

    few = chosen("few", max_pairs_per_image=1)
    assert len({image for pair in few for image in pair}) == 2 * len(few) == 4
    first = chosen("first", max_pairs=4)
    assert len(first) == 4
    assert first == chosen("again", max_pairs=4)
    assert any(chosen(f"seed{seed}", max_pairs=4, seed=seed) != first for seed in (1, 2, 3))


@pytest.mark.parametrize(
    ("quaternion", "accepted"),
    [("0.99999 0 0 0", True), ("2 0 0 0", False), ("0 0 0 0", False), ("0.9 0.1 0 0", False)],
)
@pytest.mark.parametrize("legacy", [True, False])
def test_a_quaternion_that_is_not_normalised(own_spots, tmp_path, quaternion, accepted, legacy):
    folder = own_spots.write(text=True, legacy=legacy)
    path = folder / ("images.txt" if legacy else "frames.txt")
    lines = path.read_text(encoding="utf-8").splitlines()
    place = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    words = lines[place].split()
    start = 1 if legacy else 2
    lines[place] = " ".join([*words[:start], quaternion, *words[start + 4 :]])
    path.write_text("\n".join(lines), encoding="utf-8")
    if accepted:
        pairs_from_colmap(folder, own_spots.images, tmp_path / "out", choice=CHOICE, image_size=32)
        assert inspect_folder(tmp_path / "out").problems == []
    else:
        with pytest.raises(InputError, match=rf"{path.name}, line {place + 1}: expected a quaternion .* of length 1"):
            pairs_from_colmap(folder, own_spots.images, tmp_path / "out")


def test_images_without_points_do_not_shift_the_lines_that_are_checked(own_spots):
    """Their line of 2-D points is empty, and a line of points is no quaternion."""
    from rfp.data.colmap_model import read_colmap_model

    lonely = pycolmap.Image(name="a.png", camera_id=1, image_id=9)
    own_spots.reconstruction.add_image_with_trivial_frame(lonely, pycolmap.Rigid3d())
    model = read_colmap_model(own_spots.write(text=True, legacy=True))
    assert [len(image.observed) > 0 for image in model.images] == [False] + 5 * [True]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cameras.bin", r"cameras\.bin: the file is truncated"),
        ("images.bin", r"images\.bin: the file is truncated"),
        ("points3D.bin", r"points3D\.bin: the file is truncated"),
    ],
)
def test_a_truncated_model_names_itself(own_spots, tmp_path, name, expected):
    path = own_spots.model / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=expected):
        pairs_from_colmap(own_spots.model, own_spots.images, tmp_path / "out")


def test_a_folder_without_a_model_says_what_is_missing_and_where_one_is(own_spots, tmp_path):
    def message(folder):
        with pytest.raises(InputError) as error:
            pairs_from_colmap(folder, own_spots.images, tmp_path / "out")
        return str(error.value)

    assert "no such folder" in message(tmp_path / "nowhere")
    assert f"did you mean {own_spots.model}?" in message(own_spots.model.parent)
    (own_spots.model / "points3D.bin").unlink()
    assert "lacks points3D.bin" in message(own_spots.model)


def test_what_is_there_already_is_not_overwritten(spots, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="out: is there already"):
        pairs_from_colmap(spots.model, spots.images, tmp_path / "out", choice=CHOICE)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", ["16 bit", "grey", "turned"])
def test_deep_grey_and_turned_images_are_written_as_stored(own_spots, tmp_path, kind):
    path = own_spots.images / "middle.png"
    grey = read_grey(path)
    if kind == "16 bit":
        cv2.imwrite(str(path), np.repeat(grey[..., None], 3, axis=2).astype(np.uint16) * 257)
    elif kind == "turned":
        path.write_bytes(_with_orientation(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()))
    pairs_from_colmap(own_spots.model, own_spots.images, tmp_path / "out", choice=CHOICE)
    plain = make_spot_model(tmp_path / "plain")
    pairs_from_colmap(plain.model, plain.images, tmp_path / "expected", choice=CHOICE)
    got, expected = (read_grey(tmp_path / name / "images" / "middle.png") for name in ("out", "expected"))
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= (1 if kind != "turned" else 6)


def test_an_image_of_10000_px_is_reduced_with_its_intrinsics(tmp_path):
    """Spots that a plain sampling of every 16th pixel would show, too, but not where they are."""
    xy_px = np.array([[1203.0, 150.0], [5004.25, 201.75], [9300.5, 302.0]])
    from rfp.data.undistortion import PinholeView, to_pinhole

    across, down = (
        np.exp(-((np.arange(size) - xy_px[:, axis, None]) ** 2) / (2 * 30.0**2))
        for axis, size in ((0, 10_000), (1, 480))
    )
    image = torch.from_numpy((down.T @ across).astype(np.float32)).expand(3, -1, -1)
    K = np.array([[9000.0, 0, 4990], [0, 9000, 230], [0, 0, 1]])
    for bend in (None, lambda points: points * 9000 + np.array([4990, 230])):
        small, K_small = to_pinhole(image, PinholeView((10_000, 480), (10_000, 480), K, bend), 640)
        assert small.shape[2] == 640
        expected = (np.concatenate([xy_px, np.ones((3, 1))], axis=1) @ np.linalg.inv(K).T) @ K_small.T
        centres = spot_centres(small[0].numpy() * 200 + 40, expected[:, :2], 8)
        assert np.abs(centres - expected[:, :2]).max() < 0.05


def test_two_images_that_would_become_one_file_are_kept_apart(own_spots, tmp_path):
    folder = own_spots.write(text=True)
    text = (folder / "images.txt").read_text(encoding="utf-8")
    shutil.copy(own_spots.images / "right" / "4.png", own_spots.images / "right" / "5.bmp.png")
    grey = read_grey(own_spots.images / "right" / "4.png")
    cv2.imwrite(str(own_spots.images / "right" / "5.bmp"), grey)
    (folder / "images.txt").write_text(text.replace("right/4.png", "right/5.bmp"), encoding="utf-8")
    pairs_from_colmap(folder, own_spots.images, tmp_path / "out", choice=CHOICE, image_size=32)
    names = {record[key] for record in _records(tmp_path / "out") for key in ("image1", "image2")}
    assert {"images/right/5.png", "images/right/5.png.png"} < names


def _with_orientation(jpeg: bytes) -> bytes:
    """The JPEG with an EXIF tag that says: turned by 90 degrees."""
    tiff = b"II*\x00\x08\x00\x00\x00" + b"\x01\x00" + b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00" + b"\x00" * 4
    exif = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
