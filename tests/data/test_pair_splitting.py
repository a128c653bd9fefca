"""Laws of splitting: no image in both parts, no pair changed, nothing half written."""

import json

import pytest

from rfp.cli import main
from rfp.data import PosedPairs
from rfp.data.pair_splitting import split_pairs
from rfp.records import InputError


@pytest.fixture
def place(tmp_path):
    """Six images whose pairs are all given; each image is its own number in grey, each pair has a further key."""
    import cv2
    import numpy as np

    folder = tmp_path / "place"
    (folder / "images").mkdir(parents=True)
    for number in range(6):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), np.full((24, 32, 3), 10 * number, np.uint8))
    K, R = [[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1.0]], [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
    records = [
        {
            "image1": f"images/{i}.png",
            "image2": f"images/{j}.png",
            "K1": K,
            "K2": K,
            "R": R,
            "t": [1.0, i, j],
            "note": i,
        }
        for i in range(6)
        for j in range(i)
    ]
    (folder / "pairs.json").write_text(json.dumps(records))
    return folder


def names(folder):
    return {path.name for path in (folder / "images").iterdir()}


def test_the_parts_share_no_image_and_keep_their_pairs_as_they_were(place, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    written = split_pairs(place, one, two)
    assert names(one) == {"0.png", "2.png", "4.png"}
    assert names(two) == {"1.png", "3.png", "5.png"}
    assert (written.num_images, written.num_pairs, written.num_left_out) == ((3, 3), (3, 3), 9)
    original = {(r["image1"], r["image2"]): r for r in json.loads((place / "pairs.json").read_text())}
    for folder in (one, two):
        for record in json.loads((folder / "pairs.json").read_text()):
            assert {**original[record["image1"], record["image2"]], "scene": "place"} == record
            assert isinstance(record["note"], int), "further keys stay what they are"
        assert len(PosedPairs(folder)) == 3
    assert (one / "images/2.png").read_bytes() == (place / "images/2.png").read_bytes()


def test_blocks_stay_together(place, tmp_path):
    split_pairs(place, tmp_path / "one", tmp_path / "two", block=3)
    assert names(tmp_path / "one") == {"0.png", "1.png", "2.png"}


def test_what_cannot_be_split_leaves_nothing_behind(place, tmp_path):
    outputs = tmp_path / "one", tmp_path / "two"
    with pytest.raises(InputError, match="choose another block"):
        split_pairs(place, *outputs, block=6)
    with pytest.raises(InputError, match="block of at least 1"):
        split_pairs(place, *outputs, block=0)
    outputs[1].mkdir()
    (outputs[1] / "note").touch()
    with pytest.raises(InputError, match="is there already"):
        split_pairs(place, *outputs)
    records = json.loads((place / "pairs.json").read_text())
    (tmp_path / "elsewhere.png").write_bytes((place / "images/0.png").read_bytes())
    records[0]["image1"] = "../elsewhere.png"
    (place / "pairs.json").write_text(json.dumps(records))
    with pytest.raises(InputError, match="inside the folder"):
        split_pairs(place, tmp_path / "three", tmp_path / "four")
    assert {path.name for path in tmp_path.iterdir()} == {"place", "two", "elsewhere.png"}


def test_one_image_under_two_names_is_in_one_part_and_a_pair_told_twice_counts_once(place, tmp_path):
    records = json.loads((place / "pairs.json").read_text())
    by_another_way = {**records[0], "image1": f"./{records[0]['image1']}"}
    reversed_one = {**records[1], "image1": records[1]["image2"], "image2": records[1]["image1"], "t": [-1.0, -2.0, 0]}
    (place / "pairs.json").write_text(json.dumps([by_another_way, *records[1:], reversed_one]))
    with pytest.warns(UserWarning, match="more than once"):
        written = split_pairs(place, tmp_path / "one", tmp_path / "two")
    assert (written.num_images, written.num_pairs) == ((3, 3), (3, 3))


def test_files_that_are_missing_and_folders_within_each_other_are_refused_at_once(place, tmp_path):
    with pytest.raises(InputError, match="two folders"):
        split_pairs(place, tmp_path / "one", tmp_path / "one")
    with pytest.raises(InputError, match="two folders"):
        split_pairs(place, tmp_path / "one", tmp_path / "one" / "two")
    records = json.loads((place / "pairs.json").read_text())
    records[0]["sparse_depth1"] = "sparse_depth/none.npz"
    (place / "pairs.json").write_text(json.dumps(records))
    with pytest.raises(InputError, match="no such file"):
        split_pairs(place, tmp_path / "one", tmp_path / "two")
    (place / "pairs.json").write_text("[1]")
    with pytest.raises(InputError, match="expected an object"):
        split_pairs(place, tmp_path / "one", tmp_path / "two")


def test_the_command_says_what_it_wrote(place, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    arguments = ["data", "split", str(place), str(tmp_path / "one"), str(tmp_path / "two"), "--json", str(figures)]
    assert main(arguments) == 0
    assert "3 pairs of 3 images" in capsys.readouterr().out
    assert json.loads(figures.read_text())["num_pairs"] == [3, 3]
    assert main(arguments) == 2
