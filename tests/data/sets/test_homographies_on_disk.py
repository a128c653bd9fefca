import json
import re

import numpy as np
import pytest
import torch

from rfp.data import InputError
from rfp.data.sets import HomographyFolder, HomographyPair, HPatches
from rfp.data.sets.homography_records import resized_homography
from tests.data.sets.blobs import centroids, render_blobs, write_image

SPOTS = np.array([[50.0, 40.0], [110.0, 60.0], [70.0, 90.0]])
H_TRUE = {
    k: np.array([[0.9 + 0.02 * k, 0.05 * k, 3.0 * k], [-0.03 * k, 1.05, 2.0], [1e-4 * k, -2e-4, 1.0]])
    for k in range(2, 7)
}


def _moved(H, xy):
    homogeneous = np.column_stack([xy, np.ones(len(xy))]) @ np.asarray(H).T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def _write_sequence(folder, *, suffix=".ppm"):
    write_image(folder / f"1{suffix}", render_blobs(SPOTS, 160, 120))
    for k, H in H_TRUE.items():
        write_image(folder / f"{k}{suffix}", render_blobs(_moved(H, SPOTS), 180 + 4 * k, 150))
        (folder / f"H_1_{k}").write_text("\n".join(" ".join(f"{x:.10g}" for x in row) for row in H) + "\n")
    return folder


@pytest.fixture
def hpatches(tmp_path):
    for name in ("v_graffiti", "i_dome", "i_dc"):
        _write_sequence(tmp_path / "hpatches" / name)
    return tmp_path / "hpatches"


@pytest.fixture
def folder(tmp_path):
    """The layout of homographies.json."""
    folder = tmp_path / "Häuser"
    write_image(folder / "images/ä.png", render_blobs(SPOTS, 160, 120))
    write_image(folder / "images/b.png", render_blobs(_moved(H_TRUE[3], SPOTS), 190, 150))
    record = {"image1": "images/ä.png", "image2": "images/b.png", "H": H_TRUE[3].tolist(), "source": "here"}
    (folder / "homographies.json").write_text(json.dumps([record]), encoding="utf-8")
    return folder


def _error(call):
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    return message


def _transfer_error_px(pair, H=None):
    """How far H takes the spots of image 1 from those of image 2, in pixels."""
    moved = _moved(pair.H if H is None else H, centroids(pair.image1).numpy())
    return float(np.abs(moved - centroids(pair.image2).numpy()).max())


@pytest.mark.parametrize("image_size", [None, 97, 250])
def test_H_takes_pixels_of_image_1_to_image_2(hpatches, image_size):
    pairs = HPatches(hpatches, image_size=image_size)
    assert len(pairs) == 15
    for pair in pairs:
        assert isinstance(pair, HomographyPair)
        assert pair.H.dtype == torch.float64
        assert _transfer_error_px(pair) < 0.05
        assert _transfer_error_px(pair, torch.linalg.inv(pair.H)) > 3
        assert _transfer_error_px(pair, pair.H.T) > 3


def test_the_half_pixel_of_resizing_matters(hpatches):
    """Without it the transfer of a shrunken pair is off by a good part of a pixel: the test above would see it."""
    pair = HPatches(hpatches / "v_graffiti", image_size=40)[4]
    scales = [size / stored for size, stored in ((40, 160), (40, 204))]
    naive = np.diag([scales[1], scales[1], 1]) @ H_TRUE[6] @ np.diag([1 / scales[0], 1 / scales[0], 1])
    assert _transfer_error_px(pair) < 0.05
    assert _transfer_error_px(pair, naive) > 0.1


def test_resizing_there_and_back_is_nothing():
    H = torch.tensor(H_TRUE[4])
    there = resized_homography(H, (0.5, 0.4), (2.0, 3.0))
    assert torch.allclose(resized_homography(there, (2.0, 2.5), (1 / 2, 1 / 3)), H, atol=1e-12)


def test_sequences_are_chosen_by_kind_and_name(hpatches):
    assert {pair.scene for pair in HPatches(hpatches, kind="illumination")} == {"i_dc", "i_dome"}
    assert {pair.scene for pair in HPatches(hpatches, kind="viewpoint")} == {"v_graffiti"}
    from rfp.data.sets import LARGE_SEQUENCES

    usual = HPatches(hpatches, leave_out=LARGE_SEQUENCES)
    assert {record.scene for record in usual.records} == {"i_dome", "v_graffiti"}
    assert usual.names[0] == "i_dome: 1.ppm 2.ppm"
    assert usual.names[-1] == usual[9].name == "v_graffiti: 1.ppm 6.ppm"
    assert "HPatches" in repr(usual)
    assert "10 pairs of 12 images" in repr(usual)
    usual.check_images()
    assert "no sequence is left" in _error(lambda: HPatches(hpatches, leave_out=["i_dc", "i_dome", "v_graffiti"]))


def test_one_sequence_of_converted_images(tmp_path):
    folder = _write_sequence(tmp_path / "straße", suffix=".png")
    pairs = HPatches(folder)
    assert len(pairs) == 5
    assert _transfer_error_px(pairs[0]) < 0.05


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 0 0\n0 1 0\n", "expected 3 lines of 3 numbers, got lines of [3, 3]"),
        ("1 0 0\n0 1 0\n0 0 1 1\n", "got lines of [3, 3, 4]"),
        ("1 0 0\n0 1 zero\n0 0 1\n", "line 2, column 3: expected a finite number, got 'zero'"),
        ("1 0 0\n0 1 nan\n0 0 1\n", "line 2, column 3: expected a finite number, got 'nan'"),
        ("1 0 0\n2 0 0\n0 0 1\n", "H: singular"),
        ("0 0 0\n0 0 0\n0 0 0\n", "H: singular"),
        ("", "expected at least one line"),
    ],
)
def test_a_wrong_homography_names_its_file(hpatches, text, expected):
    file = hpatches / "v_graffiti" / "H_1_4"
    file.write_text(text)
    message = _error(lambda: HPatches(hpatches))
    assert str(file) in message
    assert expected in message


def test_missing_files_name_themselves(hpatches, tmp_path):
    (hpatches / "i_dome" / "5.ppm").unlink()
    assert re.search(r"i_dome/5\.ppm: no such image", _error(lambda: HPatches(hpatches)))
    (hpatches / "i_dc" / "H_1_6").unlink()
    assert re.search(r"i_dc/H_1_6: no such file", _error(lambda: HPatches(hpatches)))
    (tmp_path / "empty").mkdir()
    assert "found none" in _error(lambda: HPatches(tmp_path / "empty"))
    assert "no such folder" in _error(lambda: HPatches(tmp_path / "nothing"))


def test_an_image_cut_short_is_found_by_check_images(hpatches):
    path = hpatches / "v_graffiti" / "3.ppm"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=r"v_graffiti/3\.ppm"):
        HPatches(hpatches).check_images()


def test_a_folder_of_homographies(folder):
    pairs = HomographyFolder(folder, image_size=97)
    pairs.check_images()
    assert pairs.names == ["Häuser: ä.png b.png"]
    assert _transfer_error_px(pairs[0]) < 0.05
    assert _transfer_error_px(pairs[0], torch.linalg.inv(pairs[0].H)) > 3


def test_the_sign_of_H_puts_the_middle_of_image_1_in_front(folder):
    records = json.loads((folder / "homographies.json").read_text())
    records[0]["H"] = (-2 * H_TRUE[3]).tolist()
    (folder / "homographies.json").write_text(json.dumps(records))
    H = HomographyFolder(folder)[0].H
    assert torch.allclose(H, torch.tensor(2 * H_TRUE[3]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: r.pop("H"), "missing H"),
        (lambda r: r.update(H=[[1, 0, 0], [0, 1, 0]]), "H: expected 3×3 numbers"),
        (lambda r: r.update(H="identity"), "H: expected 3×3 numbers"),
        (lambda r: r.update(H=[[1, 0, 0], [0, 1], [0, 0, 1]]), "H: expected 3×3 numbers"),
        (lambda r: r.update(H=[[1, 0, 0], [0, 1, 0], [0, 0, 0]]), "H: singular"),
        (lambda r: r.update(H=[[1, 0, 0], [0, 1, 0], [0, 0, float("inf")]]), "H: expected finite"),
        (lambda r: r.update(image2="images/c.png"), "no such image"),
        (lambda r: r.update(image2="images/ä.png"), "the same file"),
        (lambda r: r.update(image1=3), "image1: expected a path"),
    ],
)
def test_a_wrong_record_is_named(folder, change, expected):
    records = json.loads((folder / "homographies.json").read_text())
    change(records[0])
    (folder / "homographies.json").write_text(json.dumps(records))
    message = _error(lambda: HomographyFolder(folder))
    assert "homographies.json, record 0 (counting from 0): " in message
    assert expected in message


@pytest.mark.parametrize(("text", "expected"), [("[{", "not JSON"), ("[]", "at least one"), ("{}", "expected a list")])
def test_a_file_that_is_no_list_of_records_is_one_line(folder, text, expected):
    (folder / "homographies.json").write_text(text)
    assert expected in _error(lambda: HomographyFolder(folder))


@pytest.mark.real_data
def test_real_homography_pairs_pass_the_checks(real_data):
    pairs = HomographyFolder(real_data / "homography_pairs", image_size=160)
    assert len(pairs) == 18
    for pair in (pairs[0], pairs[7]):
        assert max(pair.image1.shape) == max(pair.image2.shape) == 160
