import re

import cv2
import numpy as np
import pytest
import torch

import rfp
from rfp.data import InputError
from rfp.data.sets import SuperGluePairs
from rfp.data.sets.superglue_pairs import turn_view
from rfp.policy.keypoints import KeypointOptions
from rfp.robust.options import RansacOptions
from rfp.rollout import RolloutOptions
from tests.data.sets.blobs import assert_pose_is_true, blob_views, relative_matrix, render_blobs, write_image

LIST = "pairs_with_gt.txt"


def _line(views, first, second, names, turns=(0, 0)):
    numbers = [*views[first].K.ravel(), *views[second].K.ravel(), *relative_matrix(views[first], views[second]).ravel()]
    return " ".join([names[first], names[second], *map(str, turns), *(f"{number:.9g}" for number in numbers)])


def _write(folder, pairs=((0, 1), (1, 2), (0, 3)), turns=(0, 0), names=None):
    views = blob_views()
    names = names or [f"scene0711_00_frame-{index:06d}.png" for index in range(len(views))]
    for name, view in zip(names, views):
        write_image(folder / "images" / name, view.image())
    lines = [_line(views, first, second, names, turns) for first, second in pairs]
    (folder / LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / LIST


@pytest.fixture
def pair_list(tmp_path):
    return _write(tmp_path)


def _open(file, **options):
    return SuperGluePairs(file, file.parent / "images", **options)


def _error(file):
    with pytest.raises(InputError) as error:
        _open(file)
    message = str(error.value)
    assert "\n" not in message
    assert str(file) in message
    return message


@pytest.mark.parametrize("image_size", [None, 97])
def test_T_takes_camera_1_to_camera_2_and_K_follows_resizing(pair_list, image_size):
    for pair in _open(pair_list, image_size=image_size):
        assert_pose_is_true(pair)


@pytest.mark.parametrize("turns", [(1, 0), (0, 1), (2, 3), (3, 1)])
@pytest.mark.parametrize("image_size", [None, 97])
def test_turned_images_turn_their_cameras(tmp_path, turns, image_size):
    file = _write(tmp_path, turns=turns)
    turned, stored = _open(file, image_size=image_size), _open(file, image_size=image_size, upright=False)
    for pair, plain in zip(turned, stored):
        assert np.array_equal(pair.image1.numpy(), np.rot90(plain.image1.numpy(), turns[0], axes=(1, 2)))
        assert np.array_equal(pair.image2.numpy(), np.rot90(plain.image2.numpy(), turns[1], axes=(1, 2)))
        assert_pose_is_true(pair)
        assert_pose_is_true(plain)
        assert not torch.allclose(pair.R, plain.R, atol=0.1)


def test_four_quarter_turns_are_none():
    image, K = torch.rand(3, 5, 7), torch.tensor([[9.0, 0, 2.5], [0, 8.0, 3.5], [0, 0, 1]])
    turned, turned_K, R_z = turn_view(image, K, 4)
    assert torch.equal(turned, image)
    assert torch.equal(turned_K, K)
    assert torch.equal(R_z, torch.eye(3))


def test_an_orientation_in_the_image_itself_is_ignored(tmp_path):
    """K belongs to the stored pixels, whatever a viewer would turn them to."""
    file = _write(tmp_path)
    before = _open(file)[0].image1
    stored = cv2.imread(str(tmp_path / "images" / "scene0711_00_frame-000000.png"))
    jpeg = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff
    tagged = jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]
    (tmp_path / "images" / "scene0711_00_frame-000000.png").write_bytes(tagged)
    upright = cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_COLOR)
    assert upright.shape[:2] == stored.shape[1::-1]  # OpenCV obeys the tag unless told otherwise
    pair = _open(file)[0]
    assert pair.image1.shape == before.shape
    assert_pose_is_true(pair, tolerance_px=0.3)


def test_it_has_the_attributes_of_posed_pairs(pair_list):
    pairs = _open(pair_list, image_size=97)
    assert len(pairs) == 3
    assert pairs.names[0] == "scene0711_00: scene0711_00_frame-000000.png scene0711_00_frame-000001.png"
    assert pairs[0].name == pairs.names[0]
    assert pairs[0].scene == "scene0711_00"
    assert [path.name[-5] for path in pairs.image_paths] == ["0", "1", "2", "3"]
    assert "3 pairs of 4 images" in repr(pairs)
    assert pairs.image_size == 97
    pairs.check_images()
    with pytest.raises(IndexError):
        pairs[3]


def test_evaluate_and_train_take_it_as_it_is(tmp_path, network):
    file = _write(tmp_path, pairs=((0, 1), (0, 2)))
    pairs = _open(file, image_size=64)
    report = rfp.evaluate(network.eval(), pairs, num_keypoints=32, device="cpu")
    assert len(report.errors_deg) == 2
    keypoints = KeypointOptions(num_keypoints=16, max_candidates=64)
    ransac = RansacOptions(num_hypotheses=8, resample_rounds=1, resamples=2)
    rollout = RolloutOptions(keypoints=keypoints, num_keypoint_draws=2, num_match_draws=2, ransac=ransac)
    rfp.Trainer(network, rfp.TrainerOptions(steps=1, pairs_per_step=1, rollout=rollout)).fit(pairs)


def test_names_that_are_not_ASCII_and_folders_name_the_scene(tmp_path):
    names = [f"Köln/bilder/Ω_{index}.png" for index in range(4)]
    pair = _open(_write(tmp_path, names=names))[0]
    assert pair.scene == "Köln"
    assert_pose_is_true(pair)


def test_blank_lines_and_comments_are_skipped_and_lines_keep_their_numbers(pair_list):
    lines = pair_list.read_text().splitlines()
    pair_list.write_text("\n".join(["# a comment", "", *lines, "", "a.png"]))
    assert "line 7: expected 38 columns" in _error(pair_list)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda words: words[:-1], "expected 38 columns .* got 37; is the line complete"),
        (lambda words: [*words, "1"], "got 39"),
        (lambda words: words[:4], "a pair without truth"),
        (lambda words: words[:2], "a pair without truth"),
        (lambda words: [*words[:4], "f=500", *words[5:]], "column 5: expected a finite number, got 'f=500'"),
        (lambda words: [*words[:30], "nan", *words[31:]], "column 31: expected a finite number, got 'nan'"),
        (lambda words: [*words[:4], "0", *words[5:]], "K1: expected positive focal lengths on the diagonal, got 0"),
        (lambda words: [*words[:17], "-3", *words[18:]], "K2: expected positive focal lengths"),
        (lambda words: [*words[:7], "3", *words[8:]], "K1: .*is it transposed"),
        (lambda words: [*words[:22], "0.5", *words[23:]], "T: not a rotation"),
        (lambda words: [*words[:22], *(f"{-float(x)}" for x in words[22:25]), *words[25:]], "T: a reflection"),
        (lambda words: [*words[:37], "2"], "T: expected the last row 0 0 0 1"),
        (lambda words: [*words[:25], "0", *words[26:29], "0", *words[30:33], "0", *words[34:]], "t is zero"),
        (lambda words: [*words[:2], "4", *words[3:]], "columns 3 and 4: expected quarter turns"),
        (lambda words: [*words[:3], "1.0", *words[4:]], "columns 3 and 4: expected quarter turns"),
        (lambda words: [*words[:2], "1", words[3], words[4], "2.5", *words[6:]], "skew 2.5"),
        (lambda words: ["missing.png", *words[1:]], "no such image: .*missing.png; image paths are relative to"),
        (lambda words: [words[1], *words[1:]], "both images are"),
    ],
)
def test_a_wrong_line_is_named_with_what_was_expected(pair_list, change, expected):
    lines = pair_list.read_text().splitlines()
    lines[1] = " ".join(change(lines[1].split()))
    pair_list.write_text("\n".join(lines))
    message = _error(pair_list)
    assert f"{pair_list}, line 2" in message
    assert re.search(expected, message)


def test_an_empty_missing_or_binary_list_names_itself(pair_list):
    pair_list.write_text("\n# nothing\n")
    assert "expected at least one line" in _error(pair_list)
    pair_list.write_bytes(b"\xff\xfe\x00 1")
    assert "expected UTF-8" in _error(pair_list)
    pair_list.unlink()
    assert "no such file" in _error(pair_list)


def test_a_repeated_pair_counts_once_and_a_contradiction_is_refused(pair_list):
    lines = pair_list.read_text().splitlines()
    pair_list.write_text("\n".join([*lines, lines[0]]))
    with pytest.warns(UserWarning, match="1 pair occurs more than once and counts once; the first is .*line 4"):
        assert len(_open(pair_list)) == 3
    words = lines[0].split()
    words[25] = "9.5"
    pair_list.write_text("\n".join([*lines, " ".join(words)]))
    assert re.search("line 4: the pair of .*line 1 again .*, with other numbers", _error(pair_list))


def test_intrinsics_of_images_of_another_size_are_found_by_check_images(pair_list):
    write_image(pair_list.parent / "images/scene0711_00_frame-000002.png", render_blobs(np.ones((3, 2)), 60, 50))
    pairs = _open(pair_list, image_size=97)
    with pytest.raises(
        InputError, match=r"frame-000002.*principal point at \(75.7, 63.1\), outside this image of 60×50"
    ):
        pairs.check_images()


def test_a_broken_image_is_found_by_check_images(pair_list):
    (pair_list.parent / "images/scene0711_00_frame-000003.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"frame-000003\.png: not an image"):
        _open(pair_list).check_images()


def test_pairs_without_unreadable_images_are_the_others(pair_list):
    broken = pair_list.parent / "images/scene0711_00_frame-000003.png"
    broken.write_bytes(b"broken")
    pairs = _open(pair_list)
    problems = pairs.unreadable_images()
    assert list(problems) == [broken]
    assert pairs.without_images(problems).names == pairs.names[:2]
    with pytest.raises(InputError, match="no pair is left"):
        pairs.without_images(pairs.image_paths)
