"""hloc's files read as hloc reads them: a reader of its documented access pattern, and none of our own code."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

import rfp
from rfp.data import read_image, resize_image
from rfp.export.detection import DetectedFeatures, DetectionOptions, FoundMatches, detect_file, match_pairs
from rfp.export.hloc import check_names, export_hloc, write_matches
from rfp.export.image_folder import ExhaustivePairs, open_image_folder, read_pair_list
from rfp.records import InputError
from tests.networks import TinyTestNetwork

h5py = pytest.importorskip("h5py")

SMALL = DetectionOptions(image_size=140, num_keypoints=150)


def _keypoints_of_hloc(path, name):
    with h5py.File(str(path), "r", libver="latest") as file:
        dataset = file[name]["keypoints"]
        return dataset.__array__(), dataset.attrs.get("uncertainty")


def _pair_of_hloc(name0, name1):
    return "/".join((name0.replace("/", "-"), name1.replace("/", "-")))


def _matches_of_hloc(path, name0, name1):
    with h5py.File(str(path), "r", libver="latest") as file:
        pair, turned = _pair_of_hloc(name0, name1), False
        if pair not in file:
            pair, turned = _pair_of_hloc(name1, name0), True
        matches = file[pair]["matches0"].__array__()
        scores = file[pair]["matching_scores0"].__array__()
    index = np.where(matches != -1)[0]
    rows = np.stack([index, matches[index]], -1)
    return (rows[:, ::-1] if turned else rows), scores[index]


def _export(images, output, **options):
    network = TinyTestNetwork().eval()
    options = {"pairs": ExhaustivePairs(images.names), "detection": SMALL, "device": torch.device("cpu"), **options}
    return export_hloc(network, images, output, **options)


def _detected(path, image_size=140):
    stored = read_image(path)
    image, scale = resize_image(stored, image_size)
    features = rfp.detect(TinyTestNetwork().eval(), image[None], num_keypoints=150)
    return features, (features.xy_px[0] + 0.5) / torch.tensor(scale) - 0.5, stored.shape


@pytest.fixture
def image_folder(session_pairs_folder, tmp_path):
    """Three images at two depths; hloc names them by their paths."""
    folder = tmp_path / "photos"
    (folder / "tag").mkdir(parents=True)
    for index, name in enumerate(("a.png", "tag/b.png", "tag/für.PNG")):
        shutil.copy(session_pairs_folder / "images" / f"{index}.png", folder / name)
    return folder


def test_features_are_those_of_detect_in_pixels_of_the_stored_image(image_folder, tmp_path):
    images = open_image_folder(image_folder)
    assert images.names == ("a.png", "tag/b.png", "tag/für.PNG")
    counts = _export(images, tmp_path / "out")
    assert counts.num_images == 3
    for name in images.names:
        features, xy_px, shape = _detected(image_folder / name)
        keypoints, uncertainty = _keypoints_of_hloc(tmp_path / "out" / "features.h5", name)
        assert keypoints.dtype == np.float32
        np.testing.assert_allclose(keypoints, xy_px, atol=1e-4)
        assert uncertainty == pytest.approx(160 / 140)
        with h5py.File(tmp_path / "out" / "features.h5") as file:
            group = file[name]
            assert set(group.keys()) == {"keypoints", "scores", "descriptors", "image_size"}
            assert group["image_size"].__array__().tolist() == [shape[2], shape[1]] == [160, 120]
            assert group["descriptors"].shape == (32, len(keypoints))
            assert group["descriptors"].dtype == group["scores"].dtype == np.float16
            np.testing.assert_allclose(group["descriptors"].__array__().T, features.descriptor[0], atol=1e-3)
            np.testing.assert_allclose(group["scores"].__array__(), features.score[0], rtol=1e-3)


def test_matches_are_mutual_nearest_neighbours_and_found_under_either_order(image_folder, tmp_path):
    images = open_image_folder(image_folder)
    counts = _export(images, tmp_path / "out", half=False)
    assert counts.num_pairs == 3
    listed = [line.split() for line in (tmp_path / "out" / "pairs.txt").read_text("utf-8").splitlines()]
    assert listed == [["a.png", "tag/b.png"], ["a.png", "tag/für.PNG"], ["tag/b.png", "tag/für.PNG"]]
    total = 0
    for name1, name2 in listed:
        features1, features2 = (_detected(image_folder / name)[0] for name in (name1, name2))
        index2, mutual = rfp.mutual_nearest_neighbours(
            features1.descriptor, features2.descriptor, features1.valid, features2.valid
        )
        rows, scores = _matches_of_hloc(tmp_path / "out" / "matches.h5", name1, name2)
        assert dict(rows.tolist()) == {int(k): int(index2[0][k]) for k in mutual[0].nonzero()}
        cosine = (features1.descriptor[0][rows[:, 0]] * features2.descriptor[0][rows[:, 1]]).sum(1)
        np.testing.assert_allclose(scores, cosine, atol=2e-3)
        turned, _ = _matches_of_hloc(tmp_path / "out" / "matches.h5", name2, name1)
        assert (turned[:, ::-1] == rows).all()
        total += len(rows)
    assert counts.num_matches == total > 100


def test_a_folder_of_posed_pairs_gives_its_own_pairs(pairs_folder, tmp_path):
    records = json.loads((pairs_folder / "pairs.json").read_text())
    (pairs_folder / "pairs.json").write_text(json.dumps([*records, records[0]]))
    with pytest.warns(UserWarning, match="1 pair occurs more than once"):
        images = open_image_folder(pairs_folder)
    assert images.root == pairs_folder / "images"
    assert images.names == ("0.png", "1.png", "2.png", "3.png")
    assert len(images.posed_pairs) == 5
    assert images.K["2.png"][0, 0] == 144
    assert _export(images, tmp_path / "out", pairs=images.posed_pairs).num_pairs == 5


def test_one_image_with_two_intrinsics_is_one_line(pairs_folder):
    records = json.loads((pairs_folder / "pairs.json").read_text())
    records[0]["K1"][0][0] += 1
    (pairs_folder / "pairs.json").write_text(json.dumps(records))
    with pytest.raises(InputError, match=r"0\.png has two different K"):
        open_image_folder(pairs_folder)


def test_an_image_without_content_has_no_keypoints_and_no_matches(image_folder, tmp_path):
    cv2.imwrite(str(image_folder / "a.png"), np.zeros((50, 70, 3), np.uint8))
    _export(open_image_folder(image_folder), tmp_path / "out")
    assert _keypoints_of_hloc(tmp_path / "out" / "features.h5", "a.png")[0].shape == (0, 2)
    for names in (("a.png", "tag/b.png"), ("tag/b.png", "a.png")):
        assert len(_matches_of_hloc(tmp_path / "out" / "matches.h5", *names)[0]) == 0


def test_descriptors_that_are_not_numbers_are_in_no_file(image_folder):
    class Overflowing(TinyTestNetwork):
        def describe(self, features, xy_px):
            descriptor = super().describe(features, xy_px)
            return torch.where(xy_px[..., :1] < 70, descriptor, float("nan"))

    path = image_folder / "a.png"
    whole, part = (
        detect_file(network.eval(), path, SMALL, device=torch.device("cpu"))
        for network in (TinyTestNetwork(), Overflowing())
    )
    assert 0 < len(part.xy_px) < len(whole.xy_px)
    assert part.descriptor.isfinite().all()


def test_more_keypoints_than_int16_counts_keep_their_numbers(tmp_path):
    matches = FoundMatches("a", "b", torch.tensor([[1, 40_000]]), torch.ones(1), 3)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_matches(file, matches)
    assert _matches_of_hloc(tmp_path / "m.h5", "a", "b")[0].tolist() == [[1, 40_000]]
    matches = FoundMatches("a", "b", torch.tensor([[1, 4]]), torch.ones(1), 3)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        write_matches(file, matches)
        assert file["a/b/matches0"].dtype == np.int16


def test_one_image_at_a_time_is_held(image_folder, tmp_path, monkeypatch):
    """What was read is let go before the next image is: a folder of ten thousand streams through."""
    import weakref

    from rfp.export import detection

    alive: list[weakref.ref] = []
    most = []

    def watched(path):
        image = read_image(path)
        alive.append(weakref.ref(image))
        most.append(sum(reference() is not None for reference in alive))
        return image

    monkeypatch.setattr(detection, "read_image", watched)
    _export(open_image_folder(image_folder), tmp_path / "out")
    assert most == [1, 1, 1]


def test_what_stands_there_is_kept_unless_overwriting_is_allowed(image_folder, tmp_path):
    images = open_image_folder(image_folder)
    _export(images, tmp_path / "out", pairs=None)
    before = (tmp_path / "out" / "features.h5").read_bytes()
    with pytest.raises(InputError, match=r"features\.h5: exists already"):
        _export(images, tmp_path / "out")
    assert (tmp_path / "out" / "features.h5").read_bytes() == before
    _export(images, tmp_path / "out", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["features.h5", "matches.h5", "pairs.txt"]


def test_a_broken_image_leaves_no_file_that_looks_complete(image_folder, tmp_path):
    (image_folder / "tag" / "b.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"b\.png: not an image"):
        _export(open_image_folder(image_folder), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/b.png", "a-b.png"], "a-b.png and a/b.png: one and the same name in hloc's match file"),
        (["ein Bild.png"], "end a name at a space"),
    ],
)
def test_names_that_hloc_cannot_tell_apart_are_one_line(names, expected):
    with pytest.raises(InputError, match=expected):
        check_names(names)


def test_a_list_of_pairs_is_read_once_each_with_repetitions_counted(tmp_path):
    (tmp_path / "pairs.txt").write_text("# retrieval\na b\nb a\n\na c\na b\n")
    listed = read_pair_list(tmp_path / "pairs.txt", ["a", "b", "c"])
    assert listed.pairs == (("a", "b"), ("a", "c"))
    assert listed.num_duplicates == 2


def test_names_in_a_list_may_have_spaces(tmp_path):
    (tmp_path / "pairs.txt").write_text("ein Bild.png  am Tor.png\nam Tor.png\tb.png\n")
    listed = read_pair_list(tmp_path / "pairs.txt", ["ein Bild.png", "am Tor.png", "b.png"])
    assert listed.pairs == (("ein Bild.png", "am Tor.png"), ("am Tor.png", "b.png"))
    (tmp_path / "pairs.txt").write_text("a a a\n")
    with pytest.raises(InputError, match=r"line 1: .* got names that can be parted in several ways"):
        read_pair_list(tmp_path / "pairs.txt", ["a", "a a"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a b\na d\n", "line 2: there is no image d"),
        ("a\n", "line 1: expected the names of two images, got 'a'"),
        ("a a\n", "line 1: expected the names of two images"),
        ("a b c\n", "line 1: expected the names of two images"),
        ("\n", "holds no pairs"),
    ],
)
def test_a_list_that_cannot_be_used_names_the_line(tmp_path, content, expected):
    (tmp_path / "pairs.txt").write_text(content)
    with pytest.raises(InputError, match=expected):
        read_pair_list(tmp_path / "pairs.txt", ["a", "b", "c"])
    with pytest.raises(InputError, match=r"lost\.txt: expected a text file of pairs"):
        read_pair_list(tmp_path / "lost.txt", ["a"])


def test_ten_thousand_images_have_fifty_million_pairs_that_nobody_lists():
    pairs = ExhaustivePairs([str(index) for index in range(10_000)])
    assert len(pairs) == 49_995_000
    assert next(iter(pairs)) == ("0", "1")


def test_features_beyond_the_cache_are_read_again_and_not_kept():
    detected = {name: DetectedFeatures((9, 9), *_three_points(), 1.0) for name in "abcd"}
    read = []

    def reading(name):
        read.append(name)
        return detected[name]

    two_images = 2 * detected["a"].descriptor.nbytes
    pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("a", "b")]
    found = match_pairs(pairs, reading, device=torch.device("cpu"), cache_bytes=two_images)
    assert [len(matches.index) for matches in found] == [3, 3, 3, 3]
    assert read == ["a", "b", "c", "d", "b"]


def _three_points():
    return torch.zeros(3, 2), torch.zeros(3), torch.eye(3)
