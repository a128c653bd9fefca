import json
import math
import re
import warnings

import numpy as np
import pytest
import torch

from rfp.data import InputError, PosedPairs, image_cache, read_image, resize_image
from rfp.data.inspection import inspect_folder


def _edit(folder, change, record=1):
    records = json.loads((folder / "pairs.json").read_text())
    change(records[record])
    (folder / "pairs.json").write_text(json.dumps(records))


def _error(folder):
    with pytest.raises(InputError) as error:
        PosedPairs(folder)
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_true_pose_and_intrinsics_project_one_image_onto_the_other(session_pairs_folder):
    """A wall point seen in image 1 has the same colour where K2 (R X + t) says it is in image 2, resized or not."""
    for image_size in (None, 100):
        for pair in PosedPairs(session_pairs_folder, image_size=image_size):
            height, width = pair.image1.shape[-2:]
            xy = torch.stack(torch.meshgrid(torch.arange(20, width - 20), torch.arange(20, height - 20), indexing="xy"))
            pixel = torch.stack([*xy.flatten(1).float(), torch.ones(xy[0].numel())])
            ray = torch.linalg.inv(pair.K1) @ pixel
            # Depth is unknown to the record, so every depth is tried and the best colour kept: only a match on the
            # epipolar line can be good.
            best = torch.full((ray.shape[1],), math.inf)
            for depth in torch.linspace(2.5, 5, 60):
                projected = pair.K2 @ (pair.R @ (ray * depth) + pair.t[:, None])
                u, v = (projected[:2] / projected[2]).round().long()
                inside = (u >= 0) & (v >= 0) & (u < pair.image2.shape[-1]) & (v < pair.image2.shape[-2])
                colour2 = pair.image2[:, v.clamp(0, pair.image2.shape[-2] - 1), u.clamp(0, pair.image2.shape[-1] - 1)]
                colour1 = pair.image1[:, pixel[1].long(), pixel[0].long()]
                difference = torch.where(inside, (colour1 - colour2).abs().mean(0), math.inf)
                best = torch.minimum(best, difference)
            assert best.median() < 0.04


def test_images_are_those_of_the_decoder_and_intrinsics_follow_them(session_pairs_folder):
    pairs = PosedPairs(session_pairs_folder, image_size=100)
    record, pair = pairs.records[2], pairs[2]
    image, (scale_x, scale_y) = resize_image(read_image(record.image2), 100)
    assert torch.equal(pair.image2, image)
    assert pair.K2.dtype == torch.float32
    assert pair.K2[0, 0].item() == pytest.approx(record.K2[0, 0].item() * scale_x)
    assert pair.K2[1, 2].item() == pytest.approx((record.K2[1, 2].item() + 0.5) * scale_y - 0.5)
    assert pair.scene == "corner"
    assert pair.name == f"corner: {record.image1.name} {record.image2.name}"


def test_it_is_a_sequence(session_pairs_folder):
    pairs = PosedPairs(session_pairs_folder)
    assert len(pairs) == len(list(pairs)) == 5
    assert torch.equal(pairs[-1].image1, pairs[4].image1)
    with pytest.raises(IndexError):
        pairs[5]


def test_several_folders_follow_each_other(session_pairs_folder, pairs_folder):
    pairs = PosedPairs([session_pairs_folder, str(pairs_folder)])
    assert len(pairs) == 10
    assert torch.equal(pairs[7].t, pairs[2].t)
    assert pairs.names[5] == pairs.names[0] == pairs[0].name


def _count_decoding(monkeypatch):
    decoded = []
    original = image_cache.read_image
    monkeypatch.setattr(image_cache, "read_image", lambda path: decoded.append(path.name) or original(path))
    return decoded


def test_an_image_is_decoded_once(session_pairs_folder, monkeypatch):
    decoded = _count_decoding(monkeypatch)
    pairs = PosedPairs(session_pairs_folder, image_size=80)
    pairs.check_images()
    for _ in range(2):
        list(pairs)
    assert sorted(decoded) == ["0.png", "1.png", "2.png", "3.png"]


def test_the_cache_keeps_to_its_budget_and_changes_no_value(session_pairs_folder, monkeypatch):
    decoded = _count_decoding(monkeypatch)
    whole = PosedPairs(session_pairs_folder)
    one_image_mb = whole[0].image1.nbytes / 1e6
    small = PosedPairs(session_pairs_folder, cache_mb=2.5 * one_image_mb)
    none = PosedPairs(session_pairs_folder, cache_mb=0.0)
    decoded.clear()
    for pair, same, again in zip(whole, small, none):
        assert torch.equal(pair.image1, same.image1)
        assert torch.equal(pair.image2, again.image2)
        assert small._cache._bytes <= 2.5 * one_image_mb * 1e6
        assert small._cache._bytes == sum(entry[0].nbytes for entry in small._cache._entries.values())
    assert len(small._cache._entries) == 2
    assert not none._cache._entries


def test_writing_to_a_pair_does_not_reach_the_next_reader(session_pairs_folder):
    pairs = PosedPairs(session_pairs_folder)
    before = pairs[0].image1.clone()
    pairs[0].image1.zero_()
    assert torch.equal(pairs[0].image1, before)


def test_rotations_rounded_to_three_digits_pass(pairs_folder):
    _edit(pairs_folder, lambda record: record.update(R=[[round(x, 4) for x in row] for row in record["R"]]))
    assert len(PosedPairs(pairs_folder)) == 5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: r.pop("K1"), "missing K1"),
        (lambda r: r.update(K1=[1, 2, 3]), "K1: expected 3×3 numbers"),
        (lambda r: r.update(K2=[[100, 0, 50], [0, 100], [0, 0, 1]]), "K2: expected 3×3 numbers"),
        (lambda r: r.update(K2="K"), "K2: expected 3×3 numbers"),
        (lambda r: r.update(K1=[[math.nan, 0, 50], [0, 100, 50], [0, 0, 1]]), "K1: .* NaN or infinity"),
        (lambda r: r.update(K1=[[10**400, 0, 50], [0, 100, 50], [0, 0, 1]]), "K1: .* NaN or infinity"),
        (lambda r: r.update(K1=[[-100, 0, 50], [0, 100, 50], [0, 0, 1]]), "K1: expected positive focal lengths"),
        (lambda r: r.update(K1=[[100, 0, 0], [0, 100, 0], [50, 50, 1]]), "K1: .*is it transposed"),
        (lambda r: r.update(R=[[1, 0, 0], [0, 1, 0], [0, 0.1, 1]]), "R: not a rotation"),
        (lambda r: r.update(R=[[1, 0, 0], [0, 1, 0], [0, 0, -1]]), "R: a reflection"),
        (lambda r: r.update(R=[[math.nan] * 3] * 3), "R: .*NaN"),
        (lambda r: r.update(R=[1, 0, 0, 0]), "R: expected 3×3 numbers"),
        (lambda r: r.update(t=[0, 0, 0]), "t: zero"),
        (lambda r: r.update(t=[0, math.inf, 0]), "t: .*infinity"),
        (lambda r: r.update(t=[1, None, 0]), "t: expected 3 numbers"),
        (lambda r: r.update(t=[1, True, 0]), "t: expected 3 numbers"),
        (lambda r: r.update(t=[1, 0]), "t: expected 3 numbers"),
        (lambda r: r.update(image1="images/9.png"), "no such image"),
        (lambda r: r.update(image1=7), "image1: expected a path"),
        (lambda r: r.update(image1=r["image2"]), "same file"),
    ],
)
def test_a_bad_record_is_one_line_with_its_number_and_remedy(pairs_folder, change, expected):
    _edit(pairs_folder, change, record=3)
    message = _error(pairs_folder)
    assert "pairs.json, record 3 (counting from 0): " in message
    assert re.search(expected, message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[{", "not JSON"),
        ("[]", "holds no pairs"),
        ("{}", "expected a list of records, got an object"),
        ("[3]", "record 0 (counting from 0): expected an object"),
        ("\ufeff[]", "not JSON"),
    ],
)
def test_a_file_that_is_no_list_of_records_is_one_line(pairs_folder, text, expected):
    (pairs_folder / "pairs.json").write_text(text, encoding="utf-8")
    assert expected in _error(pairs_folder)


def test_a_missing_file_or_folder_is_one_line(pairs_folder):
    (pairs_folder / "pairs.json").unlink()
    assert "no such file" in _error(pairs_folder)
    assert "no such folder" in _error(pairs_folder / "elsewhere")
    with pytest.raises(InputError, match="at least one folder"):
        PosedPairs([])


def _change_records(folder, change):
    file = folder / "pairs.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def _reversed(record):
    R, t = np.array(record["R"]), np.array(record["t"])
    swapped = {key: record[key.translate(str.maketrans("12", "21"))] for key in ("image1", "image2", "K1", "K2")}
    return {**record, **swapped, "R": R.T.tolist(), "t": (-R.T @ t * 2).tolist()}  # t has no scale


@pytest.mark.parametrize("repeat", [dict, _reversed], ids=["same order", "reversed"])
def test_a_pair_that_occurs_twice_counts_once(pairs_folder, repeat):
    expected = PosedPairs(pairs_folder).names
    _change_records(pairs_folder, lambda records: [*records, repeat(records[1])])
    with pytest.warns(UserWarning, match=r"1 pair occurs more than once and counts once; the first is .*record 5 "):
        assert PosedPairs(pairs_folder).names == expected


def test_an_image_is_no_pair_with_itself_under_another_name(pairs_folder):
    alias = {"image2": "images/../images/0.png"}
    _change_records(pairs_folder, lambda records: [*records, {**records[0], **alias}])
    assert re.search(r"record 5 .*: both images are .*0\.png; remove the pair", _error(pairs_folder))
    inspection = inspect_folder(pairs_folder)
    assert len(inspection.problems) == 1
    assert "both images are" in inspection.problems[0]


def test_inspection_tells_what_is_refused_from_what_counts_once(pairs_folder):
    link = pairs_folder / "images" / "link.png"
    link.symlink_to("0.png")
    wrong = {"R": np.diag([1.0, -1, -1]).tolist()}
    _change_records(pairs_folder, lambda records: [*records, {**records[0], "image1": "images/link.png"}])
    assert any(
        "record 5 (counting from 0): the same two images" in each for each in inspect_folder(pairs_folder).warnings
    )
    _change_records(pairs_folder, lambda records: [*records[:5], {**_reversed(records[1]), **wrong}])
    inspection = inspect_folder(pairs_folder)
    assert len(inspection.problems) == 1
    assert "with other numbers" in inspection.problems[0]


def test_an_image_under_two_names_is_one(pairs_folder):
    (pairs_folder / "images" / "link.png").symlink_to("0.png")
    _change_records(pairs_folder, lambda records: [*records, {**records[0], "image1": "images/link.png"}])
    with pytest.warns(UserWarning, match="1 pair occurs more than once"):
        assert len(PosedPairs(pairs_folder)) == 5


@pytest.mark.parametrize("repeat", [dict, _reversed], ids=["same order", "reversed"])
@pytest.mark.parametrize("key", ["R", "t", "K1", "K2"])
def test_records_that_contradict_each_other_are_refused(pairs_folder, key, repeat):
    def contradict(records):
        wrong = repeat(records[1])
        numbers = np.array(wrong[key])
        turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
        wrong[key] = (
            -numbers if key == "t" else turn @ numbers if key == "R" else numbers * [[1.1], [1], [1]]
        ).tolist()
        return [*records, wrong]

    _change_records(pairs_folder, contradict)
    assert re.search("record 5 .*the pair of .*record 1 .* again .*, with other numbers", _error(pairs_folder))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_intrinsics_of_another_size_are_doubted_in_every_record(pairs_folder, scale):
    """Only the last record has them; earlier ones show the same image with right ones."""

    def change(records):
        (fx, _, cx), (_, fy, cy), _ = records[-1]["K1"]
        off = 6 if scale < 1 else -6  # a sensor is not quite in the middle
        cx, cy = cx + off, cy + off
        K = [[fx * scale, 0, (cx + 0.5) * scale - 0.5], [0, fy * scale, (cy + 0.5) * scale - 0.5], [0, 0, 1]]
        return [*records[:-1], {**records[-1], "K1": K}]

    _change_records(pairs_folder, change)
    pairs = PosedPairs(pairs_folder, image_size=40)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pairs.check_images()
    doubts = [str(each.message) for each in caught]
    assert len(doubts) == (scale != 1.0)
    assert all("1 camera of" in doubt and "are the intrinsics those of another size?" in doubt for doubt in doubts)


def test_a_broken_image_is_found_by_check_images(pairs_folder):
    PosedPairs(pairs_folder).check_images()
    (pairs_folder / "images" / "2.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"2\.png: not an image"):
        PosedPairs(pairs_folder).check_images()


@pytest.mark.parametrize("size", [0, -3])
def test_sizes_below_one_pixel_are_refused(session_pairs_folder, size):
    with pytest.raises(InputError, match="at least 1 pixel"):
        PosedPairs(session_pairs_folder, image_size=size)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["lund_door", "ngp_fox", "sacre_coeur10", "strecha_fountain_p11"])
def test_real_folders_pass_the_checks(real_data, name):
    pairs = PosedPairs(real_data / name, image_size=320)
    pair = pairs[0]
    assert max(pair.image1.shape) == 320
    assert {record.scene for record in pairs.records} == {name}
