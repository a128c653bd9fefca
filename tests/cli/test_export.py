import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch

from rfp.cli import export, main
from rfp.data import read_image, resize_image
from rfp.rollout import detect
from tests.export.exif import write_jpeg
from tests.networks import TinyTestNetwork
from tests.scenes import relative_pose

h5py = pytest.importorskip("h5py")
pycolmap = pytest.importorskip("pycolmap")

SMALL = ["--network", "test", "--num-keypoints", "200", "--image-size", "160", "--device", "cpu"]


@pytest.fixture(autouse=True)
def network_of_these_tests(monkeypatch):
    load = export.load_network
    monkeypatch.setattr(export, "load_network", lambda name: TinyTestNetwork().eval() if name == "test" else load(name))


@pytest.fixture
def photos(tmp_path, corner_views):
    """What comes out of cameras and scanners: colour, grey, 16 bits, a name that is not ASCII, an EXIF orientation."""
    folder = tmp_path / "photos"
    (folder / "tag").mkdir(parents=True)
    pixels = [(view.image * 255).round().byte().permute(1, 2, 0).flip(-1).numpy() for view in corner_views]
    cv2.imwrite(str(folder / "colour.png"), pixels[0])
    cv2.imwrite(str(folder / "grey.png"), cv2.cvtColor(pixels[1], cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(folder / "tag" / "sixteen.png"), pixels[2].astype(np.uint16) * 257)
    (folder / "tag" / "grün.png").write_bytes(cv2.imencode(".png", pixels[3])[1].tobytes())
    write_jpeg(folder / "turned.jpg", pixels[3], orientation=6)
    return folder


NAMES = ["colour.png", "grey.png", "tag/grün.png", "tag/sixteen.png", "turned.jpg"]


def _error(arguments, capsys):
    assert main([str(argument) for argument in arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rfp: ")]
    assert len(errors) == 1
    return errors[0]


def test_hloc_files_of_every_kind_of_image_hold_the_pixels_as_stored(photos, tmp_path, capsys):
    assert main(["export", "hloc", str(photos), str(tmp_path / "out"), *SMALL]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^5 images with 19\d key points each\n10 pairs with \d+ matches each$", shown, re.MULTILINE)
    with h5py.File(tmp_path / "out" / "features.h5") as file:
        for name in NAMES:
            image, _ = resize_image(read_image(photos / name), 160)
            found = detect(TinyTestNetwork().eval(), image[None], num_keypoints=200)
            np.testing.assert_allclose(file[name]["keypoints"].__array__(), found.xy_px[found.valid], atol=1e-4)
            assert file[name]["image_size"].__array__().tolist() == [160, 120]
    assert len((tmp_path / "out" / "pairs.txt").read_text("utf-8").splitlines()) == 10


def test_colmap_maps_from_the_database_of_posed_pairs(session_pairs_folder, corner_views, tmp_path, capsys):
    database = tmp_path / "scene.db"
    options = [*SMALL, "--image-size", "320", "--num-keypoints", "300"]
    assert main(["export", "colmap", str(session_pairs_folder), str(database), *options]) == 0
    shown = capsys.readouterr().out
    assert "4 images with 300 key points each, 1 camera (known)" in shown
    assert f"colmap mapper --database_path {database} --image_path {session_pairs_folder / 'images'}" in shown
    assert "--Mapper.ba_refine_focal_length 0" in shown
    (tmp_path / "model").mkdir()
    options = pycolmap.IncrementalPipelineOptions(num_threads=1, ba_refine_focal_length=False)
    models = pycolmap.incremental_mapping(database, session_pairs_folder / "images", tmp_path / "model", options)
    poses = {image.name: image.cam_from_world() for image in models[0].images.values()}
    found = (poses["3.png"] * poses["0.png"].inverse()).rotation.matrix()
    R, _ = relative_pose(corner_views[0], corner_views[3])
    assert torch.acos(((torch.tensor(found).T @ R).trace() - 1) / 2).rad2deg() < 1.5


def test_colmap_cameras_are_guessed_without_posed_pairs(photos, tmp_path, capsys):
    few = [*SMALL, "--num-keypoints", "60"]
    assert main(["export", "colmap", str(photos), str(tmp_path / "a.db"), *few]) == 0
    assert "5 cameras (guessed, refined by mapping)" in capsys.readouterr().out
    with pycolmap.Database.open(tmp_path / "a.db") as database:
        assert sorted(image.name for image in database.read_all_images()) == NAMES
        assert {(camera.width, camera.height) for camera in database.read_all_cameras()} == {(160, 120)}
    assert main(["export", "colmap", str(photos), str(tmp_path / "a.db"), *few, "--one-camera", "--overwrite"]) == 0
    assert "1 camera (guessed" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "photos"]


def test_pairs_of_a_list_are_matched_once_and_repetitions_said(photos, tmp_path, capsys):
    listed = tmp_path / "pairs.txt"
    listed.write_text("colour.png tag/grün.png\ntag/grün.png colour.png\ncolour.png grey.png\n", encoding="utf-8")
    assert main(["export", "hloc", str(photos), str(tmp_path / "out"), *SMALL, "--pairs", str(listed)]) == 0
    captured = capsys.readouterr()
    assert "2 pairs with" in captured.out
    assert f"{listed}: 1 repeated pairs left out" in captured.err
    with h5py.File(tmp_path / "out" / "matches.h5") as file:
        assert set(file) == {"colour.png"}
        assert set(file["colour.png"]) == {"grey.png", "tag-grün.png"}


def test_another_matcher_and_features_alone(photos, tmp_path, capsys):
    for matcher in ("mutual", "ratio"):
        assert main(["export", "hloc", str(photos), str(tmp_path / matcher), *SMALL, "--matcher", matcher]) == 0
    counts = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines() if "pairs with" in line]
    assert counts[0] > counts[1] > 0
    assert main(["export", "hloc", str(photos), str(tmp_path / "alone"), *SMALL, "--no-matches", "--no-half"]) == 0
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["features.h5"]
    with h5py.File(tmp_path / "alone" / "features.h5") as file:
        assert file["grey.png"]["descriptors"].dtype == np.float32


def test_a_broken_image_is_found_before_the_work(photos, tmp_path, capsys, monkeypatch):
    (photos / "turned.jpg").write_bytes(b"broken")
    monkeypatch.setattr(export, "export_hloc", lambda *_, **__: pytest.fail("the work has begun"))
    monkeypatch.setattr(export, "export_colmap", lambda *_, **__: pytest.fail("the work has begun"))
    for name in ("hloc", "colmap"):
        assert "turned.jpg: not an image" in _error(["export", name, photos, tmp_path / "out", *SMALL], capsys)


def test_folders_without_use_are_one_line(tmp_path, photos, capsys):
    empty, one = tmp_path / "empty", tmp_path / "one"
    for folder in (empty, one):
        folder.mkdir()
    shutil.copy(photos / "grey.png", one)
    for name in ("hloc", "colmap"):
        command = ["export", name]
        assert "found none" in _error([*command, tmp_path / "lost", tmp_path / "out"], capsys)
        assert f"{empty}: expected images (.jpg, " in _error([*command, empty, tmp_path / "out"], capsys)
        assert "at least two images to match" in _error([*command, one, tmp_path / "out"], capsys)
        place = tmp_path / "no" / "such" / "out"
        assert "there is no folder" in _error([*command, photos, place], capsys)


def test_what_stands_there_is_kept(photos, tmp_path, capsys):
    (tmp_path / "a.db").write_text("precious")
    assert "a.db: exists already" in _error(["export", "colmap", photos, tmp_path / "a.db", *SMALL], capsys)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "features.h5").write_text("precious")
    assert "features.h5: exists already" in _error(["export", "hloc", photos, tmp_path / "out", *SMALL], capsys)
    assert (tmp_path / "a.db").read_text() == (tmp_path / "out" / "features.h5").read_text() == "precious"


def test_names_that_collide_in_hloc_are_one_line(photos, tmp_path, capsys):
    shutil.copy(photos / "grey.png", photos / "tag-sixteen.png")
    message = _error(["export", "hloc", photos, tmp_path / "out", *SMALL], capsys)
    assert "tag/sixteen.png and tag-sixteen.png" in message or "tag-sixteen.png and tag/sixteen.png" in message
    assert main(["export", "colmap", str(photos), str(tmp_path / "fine.db"), *SMALL, "--no-verify"]) == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--num-keypoints", "0"], "at least 1 key point"),
        (["--nms-radius", "-1"], "NMS radius"),
        (["--image-size", "0"], "at least 1 pixel"),
        (["--network", "no-such-network"], "no-such-network"),
        (["--pairs", "lost.txt"], "lost.txt: expected a text file of pairs"),
        (["--matcher", "lightglue"], "network that LightGlue was trained for"),
    ],
)
@pytest.mark.parametrize("name", ["hloc", "colmap"])
def test_options_that_mean_nothing_are_one_line_and_leave_nothing(photos, tmp_path, capsys, name, options, expected):
    assert expected in _error(["export", name, photos, tmp_path / "out", *SMALL, *options], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_help_shows_how_each_format_is_used(capsys):
    assert main(["export", "--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name, _ in export.FORMATS.values())
    for name, example in (("hloc", "rfp export hloc photos/ out/"), ("colmap", "pycolmap.incremental_mapping(")):
        assert main(["export", name, "--help"]) == 0
        assert example in capsys.readouterr().out


def test_intrinsics_of_posed_pairs_reach_the_database(pairs_folder, tmp_path):
    records = json.loads((pairs_folder / "pairs.json").read_text())
    for record in records:
        for number in "12":
            if record[f"image{number}"].endswith("3.png"):
                record[f"K{number}"] = [[200, 0, 70], [0, 210, 50], [0, 0, 1]]
    (pairs_folder / "pairs.json").write_text(json.dumps(records))
    assert main(["export", "colmap", str(pairs_folder), str(tmp_path / "a.db"), *SMALL]) == 0
    with pycolmap.Database.open(tmp_path / "a.db") as database:
        cameras = {camera.camera_id: camera.params.tolist() for camera in database.read_all_cameras()}
        known = {image.name: cameras[image.camera_id] for image in database.read_all_images()}
    assert known["3.png"] == [200, 210, 70.5, 50.5]
    assert known["0.png"] == known["1.png"] == [144, 144, 80, 60]
