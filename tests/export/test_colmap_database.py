from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

import rfp
from rfp.export.colmap_database import ImageFeatures, PairMatches, write_database
from rfp.records import InputError
from tests.export.exif import write_jpeg
from tests.networks import TinyTestNetwork
from tests.scenes import relative_pose, render_views, write_pairs_folder

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def views():
    return render_views(count=4, height=180, width=240)


@pytest.fixture(scope="module")
def features(views):
    network = TinyTestNetwork().eval()
    return [rfp.detect(network, view.image[None], num_keypoints=400) for view in views]


def _images(views, features):
    return [
        ImageFeatures(f"images/{index}.png", (240, 180), found.xy_px[0], view.K)
        for index, (view, found) in enumerate(zip(views, features))
    ]


def _pairs(features):
    for first in range(len(features)):
        for second in range(first + 1, len(features)):
            one, two = features[first], features[second]
            index2, mutual = rfp.mutual_nearest_neighbours(one.descriptor, two.descriptor, one.valid, two.valid)
            index1 = mutual[0].nonzero()[:, 0]
            index = torch.stack([index1, index2[0][index1]], dim=1)
            yield PairMatches(f"images/{first}.png", f"images/{second}.png", index)


def _map(database, images, output):
    output.mkdir()
    level, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, 2
    try:
        options = pycolmap.IncrementalPipelineOptions(num_threads=1)
        return pycolmap.incremental_mapping(database, images, output, options)
    finally:
        pycolmap.logging.minloglevel = level


@pytest.mark.parametrize("verify", [True, False])
def test_pycolmap_maps_from_the_database_and_finds_the_true_poses(views, features, tmp_path, verify):
    write_pairs_folder(tmp_path / "scene", views)
    counts = write_database(tmp_path / "scene.db", _images(views, features), _pairs(features), verify=verify)
    assert (counts.num_images, counts.num_cameras, counts.num_verified_pairs) == (4, 1, 6)
    models = _map(tmp_path / "scene.db", tmp_path / "scene", tmp_path / "model")
    assert len(models) == 1
    assert models[0].num_reg_images() == 4
    poses = {image.name: image.cam_from_world() for image in models[0].images.values()}
    for first in range(4):
        for second in range(first + 1, 4):
            found = poses[f"images/{second}.png"] * poses[f"images/{first}.png"].inverse()
            R, t = relative_pose(views[first], views[second])
            errors = rfp.relative_pose_error(
                torch.tensor(found.rotation.matrix())[None],
                torch.tensor(found.translation)[None],
                R[None],
                t[None],
                fold_translation=False,
            )
            assert max(error.rad2deg().item() for error in errors) < 1.5


def test_pixels_are_where_colmap_itself_puts_them(tmp_path):
    """A blob around the centre of pixel (40, 30): ours and the key point that COLMAP's own detector writes agree."""
    (tmp_path / "images").mkdir()
    rows, columns = np.mgrid[:64, :96]
    blob = 255 * np.exp(-((columns - 40) ** 2 + (rows - 30) ** 2) / (2 * 4.0**2))
    cv2.imwrite(str(tmp_path / "images" / "blob.png"), blob.astype(np.uint8))
    pycolmap.Database.open(tmp_path / "theirs.db").close()
    pycolmap.extract_features(tmp_path / "theirs.db", tmp_path / "images", device=pycolmap.Device.cpu)
    K = torch.tensor([[100.0, 0, (96 - 1) / 2], [0, 110, (64 - 1) / 2], [0, 0, 1]])
    ours = ImageFeatures("blob.png", (96, 64), torch.tensor([[40.0, 30.0]]), K)
    write_database(tmp_path / "ours.db", [ours], [])
    with pycolmap.Database.open(tmp_path / "theirs.db") as theirs, pycolmap.Database.open(tmp_path / "ours.db") as mine:
        distances = np.linalg.norm(theirs.read_keypoints(1)[:, :2] - mine.read_keypoints(1), axis=1)
        assert distances.min() < 0.1
        camera, guessed = mine.read_all_cameras()[0], theirs.read_all_cameras()[0]
        assert camera.model_name == "PINHOLE"
        assert camera.params.tolist() == [100, 110, guessed.principal_point_x, guessed.principal_point_y]
        assert camera.has_prior_focal_length


def _tables(path):
    with pycolmap.Database.open(path) as database:
        return [
            [camera.summary() for camera in database.read_all_cameras()],
            [(image.name, image.camera_id, image.frame_id) for image in database.read_all_images()],
            [rig.summary() for rig in database.read_all_rigs()],
            [frame.summary() for frame in database.read_all_frames()],
        ]


@pytest.mark.parametrize("orientation", [None, 1, 6])
def test_unknown_cameras_are_those_that_pycolmap_itself_reads_or_guesses(tmp_path, orientation):
    """From EXIF's focal length, or without EXIF; an EXIF orientation turns nothing."""
    (tmp_path / "images").mkdir()
    names = ("a.jpg", "b.jpg")
    for name in names:
        pixels = np.full((40, 60, 3), 90, np.uint8)
        if orientation is None:
            cv2.imwrite(str(tmp_path / "images" / name), pixels)
        else:
            write_jpeg(tmp_path / "images" / name, pixels, orientation=orientation)
    pycolmap.Database.open(tmp_path / "theirs.db").close()
    pycolmap.import_images(tmp_path / "theirs.db", tmp_path / "images", pycolmap.CameraMode.PER_IMAGE)
    images = [ImageFeatures(name, (60, 40), torch.zeros(0, 2), path=tmp_path / "images" / name) for name in names]
    write_database(tmp_path / "ours.db", images, [])
    assert _tables(tmp_path / "ours.db") == _tables(tmp_path / "theirs.db")
    with pycolmap.Database.open(tmp_path / "ours.db") as database:
        camera = database.read_all_cameras()[0]
    assert (camera.width, camera.height) == (60, 40)
    assert camera.has_prior_focal_length == (orientation is not None)
    if orientation is None:  # without the files: the same guess
        write_database(tmp_path / "guess.db", [replace(image, path=None) for image in images], [])
        assert _tables(tmp_path / "guess.db") == _tables(tmp_path / "theirs.db")


def test_images_of_one_named_camera_share_it(tmp_path):
    sizes = {"a": (60, 40), "b": (60, 40), "c": (40, 60)}
    images = [ImageFeatures(name, size, torch.zeros(0, 2), camera="mine") for name, size in sizes.items()]
    assert write_database(tmp_path / "a.db", images, []).num_cameras == 2
    with pycolmap.Database.open(tmp_path / "a.db") as database:
        assert [image.camera_id for image in database.read_all_images()] == [1, 1, 2]


def test_intrinsics_that_differ_in_their_last_digits_are_those_of_one_camera(tmp_path):
    K = torch.tensor([[100.0, 0, 47.5], [0, 110, 31.5], [0, 0, 1]], dtype=torch.float64)
    images = [ImageFeatures(name, (96, 64), torch.zeros(0, 2), K * (1 + off)) for name, off in (("a", 0), ("b", 1e-15))]
    assert write_database(tmp_path / "a.db", images, []).num_cameras == 1
    images.append(ImageFeatures("c", (96, 64), torch.zeros(0, 2), K + 1e-3 * torch.eye(3)))
    assert write_database(tmp_path / "b.db", images, []).num_cameras == 2


@pytest.mark.parametrize(
    ("content", "expected"), [(b"not an image", "pycolmap cannot read it"), (None, "is 30×20 pixels for pycolmap")]
)
def test_a_file_that_colmap_sees_otherwise_is_one_line(tmp_path, content, expected):
    path = write_jpeg(tmp_path / "a.jpg", np.zeros((20, 30, 3), np.uint8))
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        write_database(tmp_path / "a.db", [ImageFeatures("a.jpg", (60, 40), torch.zeros(0, 2), path=path)], [])


def _two(name2="b.png", **change):
    K = torch.tensor([[50.0, 0, 29.5], [0, 50, 19.5], [0, 0, 1]])
    images = [ImageFeatures(name, (60, 40), torch.rand(5, 2) * 40, K) for name in ("a.png", name2)]
    return images, [PairMatches("a.png", name2, torch.tensor([[0, 1], [4, 0]]))]


def test_names_and_matches_come_back_as_written(tmp_path):
    images, pairs = _two("für/ein Bild.png")
    counts = write_database(tmp_path / "ß.db", images, pairs, verify=False)
    assert (counts.num_pairs, counts.num_matches, counts.num_inliers) == (1, 2, 2)
    with pycolmap.Database.open(tmp_path / "ß.db") as database:
        assert [image.name for image in database.read_all_images()] == ["a.png", "für/ein Bild.png"]
        assert database.read_matches(1, 2).tolist() == [[0, 1], [4, 0]]
        assert database.read_matches(2, 1).tolist() == [[1, 0], [0, 4]]


def test_a_pair_may_name_the_later_image_first(tmp_path):
    images, _ = _two()
    write_database(tmp_path / "a.db", images, [PairMatches("b.png", "a.png", torch.tensor([[3, 1]]))])
    with pycolmap.Database.open(tmp_path / "a.db") as database:
        assert database.read_matches(1, 2).tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda images, pairs: (images + images[:1], pairs), "a.png: two images of this name"),
        (lambda images, pairs: (images, pairs * 2), "these two images were matched before"),
        (lambda images, pairs: (images, [PairMatches("a.png", "c.png", pairs[0].index)]), "there is no image c.png"),
        (lambda images, pairs: (images, [PairMatches("a.png", "a.png", pairs[0].index)]), "matched with itself"),
        (lambda images, pairs: (images, [PairMatches("a.png", "b.png", pairs[0].index + 1)]), "of 5 and 5 key points"),
        (
            lambda images, pairs: (
                [ImageFeatures("s", (60, 40), torch.zeros(0, 2), torch.eye(3) + 0.5 * torch.eye(3).roll(1, 1))],
                [],
            ),
            "a skew of 0.5",
        ),
    ],
)
def test_what_a_database_cannot_hold_is_one_line_and_leaves_nothing(tmp_path, change, expected):
    images, pairs = change(*_two())
    with pytest.raises(InputError, match=expected):
        write_database(tmp_path / "a.db", images, pairs)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_database_is_kept_unless_overwriting_is_allowed(tmp_path):
    images, pairs = _two()
    (tmp_path / "a.db").write_text("precious")
    with pytest.raises(InputError, match=r"a\.db: exists already"):
        write_database(tmp_path / "a.db", images, pairs)
    assert (tmp_path / "a.db").read_text() == "precious"
    assert write_database(tmp_path / "a.db", images, pairs, overwrite=True).num_images == 2


def test_images_and_pairs_stream_through(tmp_path):
    """Each image is let go before the next is asked for, and pairs are asked for after the images."""
    images, pairs = _two()
    asked = []

    def stream(items, what):
        for item in items:
            asked.append(what)
            yield item

    write_database(tmp_path / "a.db", stream(images, "image"), stream(pairs, "pair"))
    assert asked == ["image", "image", "pair"]
