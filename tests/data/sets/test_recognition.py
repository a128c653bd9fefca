import json
import shutil

import numpy as np
import pytest

from rfp.data import InputError, PosedPairs
from rfp.data.sets import (
    HomographyFolder,
    HPatches,
    MegaDepthPairs,
    ReinforcedFeaturePointsPairs,
    SuperGluePairs,
    TUMSequence,
    open_posed_pairs,
    open_set,
)
from tests.data.sets import test_homographies_on_disk as homographies
from tests.data.sets import test_megadepth as megadepth
from tests.data.sets import test_reinforced_feature_points as original
from tests.data.sets import test_superglue_pairs as superglue
from tests.data.sets import test_tum as tum
from tests.data.sets.blobs import render_blobs, write_image

folder = original.folder


def test_folders_and_files_are_recognised_by_what_they_hold(tmp_path, session_pairs_folder):
    lists = superglue._write(tmp_path / "superglue")
    arrays = megadepth._scene(tmp_path / "megadepth")
    scene = megadepth._write(tmp_path / "megadepth" / "0015_0.1_0.3.npz", arrays)
    (tmp_path / "megadepth" / "list.txt").write_text("0015_0.1_0.3\n")
    (fx, fy, cx, cy), distortion = tum.PUBLISHED_CAMERAS["freiburg3"]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    sequence = tum._write(tmp_path / "freiburg3_room", K, (640, 480), distortion)
    homographies._write_sequence(tmp_path / "hpatches" / "i_dome")
    expected = {
        session_pairs_folder: PosedPairs,
        scene: MegaDepthPairs,
        scene.parent: MegaDepthPairs,
        tmp_path / "megadepth" / "list.txt": MegaDepthPairs,
        tmp_path / "hpatches": HPatches,
        tmp_path / "hpatches" / "i_dome": HPatches,
    }
    for path, kind in expected.items():
        pairs = open_set(path, image_size=64)
        assert type(pairs) is kind
        assert pairs.image_size == 64
        assert len(pairs) > 0
    assert type(open_set(lists, images=tmp_path / "superglue" / "images")) is SuperGluePairs
    with pytest.raises(
        InputError, match="no two of its 4 frames with poses lie 10 or 20"
    ):  # four frames are too few for the defaults
        open_set(sequence)
    with pytest.raises(InputError, match="a TUMSequence finds its images itself"):
        open_set(sequence, images=tmp_path)
    assert TUMSequence(sequence, **tum.CHOICE)


def test_the_papers_layout_is_recognised(folder):
    assert type(open_set(folder)) is ReinforcedFeaturePointsPairs


def test_a_folder_of_homographies_is_recognised(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, render_blobs(homographies.SPOTS, 160, 120))
    record = {"image1": "a.png", "image2": "b.png", "H": np.eye(3).tolist()}
    (tmp_path / "homographies.json").write_text(json.dumps([record]))
    assert type(open_set(tmp_path)) is HomographyFolder


@pytest.mark.parametrize("name", ["notes.txt", "photo.png", "."])
def test_other_things_are_refused_with_what_is_known(tmp_path, name):
    (tmp_path / "notes.txt").write_text("some words of no list\n")
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(InputError, match="no known data set: expected a folder with"):
        open_set(tmp_path / name)
    with pytest.raises(InputError, match="no such file or folder"):
        open_set(tmp_path / "nothing")


def test_a_list_cut_short_is_still_a_list(tmp_path):
    file = superglue._write(tmp_path)
    file.write_text(" ".join(file.read_text().split()[:30]))
    with pytest.raises(InputError, match=r"expected 38 columns .* got 30"):
        open_set(file, images=tmp_path / "images")


def test_posed_pairs_of_several_layouts_follow_each_other(tmp_path, session_pairs_folder):
    again = shutil.copytree(session_pairs_folder, tmp_path / "again")
    file = superglue._write(tmp_path / "superglue", pairs=((0, 1), (1, 2)))
    images = tmp_path / "superglue" / "images"
    assert type(open_posed_pairs(session_pairs_folder)) is PosedPairs
    assert len(open_posed_pairs([session_pairs_folder, again])) == 10
    assert type(open_posed_pairs(file, images=images)) is SuperGluePairs
    pairs = open_posed_pairs([session_pairs_folder, file, again], images=images, image_size=64)
    assert len(pairs) == len(list(pairs)) == len(pairs.names) == 12
    assert [pair.name for pair in pairs] == pairs.names
    assert pairs[5].scene == pairs[-7].scene == "scene0711_00"
    assert pairs[6].scene == "scene0711_00"
    assert pairs[7].scene == "corner"
    assert len(pairs.image_paths) == 11
    assert "SuperGluePairs" in repr(pairs)
    assert max(pairs[5].image1.shape) == max(pairs[0].image1.shape) == 64
    pairs.check_images()
    with pytest.raises(IndexError):
        pairs[12]
    assert len(pairs.without_images(pairs.parts[1].image_paths)) == 10
    with pytest.raises(InputError, match="no pair is left"):
        pairs.without_images(pairs.image_paths)


@pytest.mark.parametrize("beside", [False, True])
def test_a_path_that_is_given_twice_counts_once(tmp_path, session_pairs_folder, beside):
    file = superglue._write(tmp_path, pairs=((0, 1), (1, 2)))
    others = [file] if beside else []
    other_way = session_pairs_folder / ".." / session_pairs_folder.name
    paths = [session_pairs_folder, *others, other_way, *others]
    with pytest.warns(UserWarning, match=f"{len(paths)} paths .* given, {len(paths) // 2} of them diff"):
        pairs = open_posed_pairs(paths, images=tmp_path / "images" if beside else None)
    assert len(pairs) == 5 + 2 * len(others)


def test_a_broken_image_of_one_part_is_found(tmp_path, session_pairs_folder):
    file = superglue._write(tmp_path)
    broken = tmp_path / "images" / "scene0711_00_frame-000003.png"
    broken.write_bytes(b"")
    pairs = open_posed_pairs([session_pairs_folder, file], images=tmp_path / "images")
    assert list(pairs.unreadable_images()) == [broken]
    with pytest.raises(InputError, match=r"000003\.png"):
        pairs.check_images()


def test_what_has_no_poses_is_refused_where_poses_are_needed(tmp_path, session_pairs_folder):
    sequence = homographies._write_sequence(tmp_path / "i_dome")
    with pytest.raises(InputError, match=r"i_dome: holds homographies; expected pairs with relative poses"):
        open_posed_pairs([session_pairs_folder, sequence])
    with pytest.raises(InputError, match="at least one folder or list"):
        open_posed_pairs([])
    with pytest.raises(InputError, match="finds its images itself"):
        open_posed_pairs(session_pairs_folder, images=tmp_path)
    with pytest.raises(InputError, match="no such"):
        open_posed_pairs(tmp_path / "nothing")
