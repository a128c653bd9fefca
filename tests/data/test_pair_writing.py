"""A folder of posed pairs is there whole or not at all, and what no reader would take is not written."""

import json
import unicodedata

import numpy as np
import pytest
import torch

from rfp.data import InputError, PosedPairs, read_image
from rfp.data.pair_writing import image_paths, new_folder, pair_record, write_image, write_pairs

K = np.array([[100.0, 0.5, 31.5], [0.0, 101.0, 23.5], [0.0, 0.0, 1.0]])


def _record(first="images/a.png", second="images/b.png", **changes):
    record = pair_record((first, second), (K, 2 * K - np.eye(3)), np.eye(3), np.array([1.0, 0, 0]), scene="s", extra=3)
    record["K2"][2][2] = 1.0
    return record | changes


def _write_images(folder, *names):
    for name in names:
        write_image(torch.full((3, 48, 64), 0.5), folder / name)


def test_what_was_written_is_read_back(tmp_path):
    with new_folder(tmp_path / "späte Häuser") as folder:
        _write_images(folder, "images/a.png", "images/b.png")
        write_pairs(
            folder,
            [
                _record(),
            ],
        )
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
        assert folder.name.startswith(".")
    assert [path.name for path in tmp_path.iterdir()] == ["späte Häuser"]
    pair = PosedPairs(tmp_path / "späte Häuser")[0]
    np.testing.assert_allclose(pair.K1, K, rtol=1e-7)
    assert json.loads((tmp_path / "späte Häuser" / "pairs.json").read_text())[0]["extra"] == 3


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, InputError])
def test_a_failure_leaves_nothing_behind(tmp_path, failure):
    def fail():
        with new_folder(tmp_path / "out") as folder:
            _write_images(folder, "images/a.png")
            raise failure("half-way")

    with pytest.raises(failure):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_filled_and_a_file_or_a_full_folder_not(tmp_path):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as folder:
        (folder / "x").write_text("")
    assert (tmp_path / "empty" / "x").exists()
    (tmp_path / "file").write_text("")
    for name in ("empty", "file"):
        with pytest.raises(InputError, match=f"{name}: is there already"), new_folder(tmp_path / name):
            pass
    with pytest.raises(InputError, match="cannot be made"), new_folder(tmp_path / "file" / "below"):
        pass


def test_the_same_two_images_twice_are_refused_in_either_order(tmp_path):
    _write_images(tmp_path, "images/a.png", "images/b.png")
    with pytest.raises(InputError, match=r"record 1 .*the same two images as record 0 \(images/b.png, images/a.png\)"):
        write_pairs(tmp_path, [_record(), _record("images/b.png", "images/a.png")])
    with pytest.raises(InputError, match="at least one pair"):
        write_pairs(tmp_path, [])
    assert not (tmp_path / "pairs.json").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"R": (2 * np.eye(3)).tolist()}, "R: not a rotation"),
        ({"t": [0.0, 0.0, 0.0]}, "t: zero"),
        ({"K1": [[float("nan")] * 3] * 3}, "K1: .*NaN"),
        ({"image2": "images/lost.png"}, "no such image"),
    ],
)
def test_a_record_that_no_reader_takes_is_not_written(tmp_path, change, expected):
    _write_images(tmp_path, "images/a.png", "images/b.png")
    with pytest.raises(InputError, match=expected):
        write_pairs(tmp_path, [_record(**change)])


def test_images_come_back_within_half_a_step_and_red_stays_red(tmp_path):
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    write_image(image, tmp_path / "sub" / "ü.png")
    torch.testing.assert_close(read_image(tmp_path / "sub" / "ü.png"), image, atol=0.51 / 255, rtol=0)
    smooth = image[:, :2, :2].repeat_interleave(16, 1).repeat_interleave(16, 2)
    write_image(smooth, tmp_path / "smooth.jpg")
    assert (read_image(tmp_path / "smooth.jpg") - smooth).abs().mean() < 0.03


def test_names_stay_apart_on_every_file_system():
    composed, apart = unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")
    names = ["a.jpg", "a.png", "A.JPG", "s/a.jpg", "win\\b.jpg", composed, apart]
    paths = image_paths(names, image_format="jpg")
    keys = {unicodedata.normalize("NFC", path).casefold() for path in paths.values()}
    assert len(keys) == len(names)
    assert paths["a.jpg"] == "images/a.jpg"
    assert paths["win\\b.jpg"] == "images/win/b.jpg"


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "..\\a.jpg", ""])
def test_names_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(InputError, match="inside the folder"):
        image_paths([name])
