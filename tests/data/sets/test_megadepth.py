import pickle
import re

import numpy as np
import pytest
import torch

from rfp.data import InputError
from rfp.data.sets import MegaDepthPairs
from tests.data.sets.blobs import assert_pose_is_true, blob_views, write_image

COLMAP_SHIFT = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def _objects(values):
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def _scene(root, *, suffix=".png"):
    """The arrays of a scene whose image 1 is missing, as they are with real ones, and its images on disk."""
    views = blob_views()
    views.insert(1, None)
    names = [
        None if view is None else f"Undistorted_SfM/0015/images/Ä{index}{suffix}" for index, view in enumerate(views)
    ]
    for name, view in zip(names, views):
        if view is not None:
            write_image(root / name, view.image())
    overlap = np.full((5, 5), -1.0)
    overlap[0, 2] = overlap[2, 0] = 0.3
    overlap[2, 3] = overlap[3, 2] = 0.65
    overlap[3, 4] = overlap[4, 3] = 0.9
    matches = np.zeros((3, 4))
    return {
        "image_paths": _objects(names),
        "depth_paths": _objects([None if name is None else f"{name}.h5" for name in names]),
        "intrinsics": _objects([None if view is None else view.K + COLMAP_SHIFT for view in views]),
        "poses": _objects([None if view is None else view.matrix for view in views]),
        "pair_infos": _objects([(np.array(pair), share, matches) for pair, share in (((0, 2), 0.1), ((4, 3), 0.5))]),
        "overlap_matrix": overlap,
    }


def _write(path, arrays, *, pickled=False):
    if pickled:
        path.write_bytes(pickle.dumps(arrays))
    else:
        np.savez(path, **arrays)
    return path


@pytest.fixture
def arrays(tmp_path):
    """LoFTR's: with pair_infos and without the matrix."""
    arrays = _scene(tmp_path)
    del arrays["overlap_matrix"]
    return arrays


def _error(path, *args, **options):
    with pytest.raises(InputError) as error:
        MegaDepthPairs(path, *args, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("image_size", [None, 97])
def test_poses_are_world_to_camera_and_K_has_COLMAPs_origin(tmp_path, arrays, pickled, image_size):
    pairs = MegaDepthPairs(_write(tmp_path / "0015_0.1_0.3.npz", arrays, pickled=pickled), image_size=image_size)
    pairs.check_images()
    for pair in pairs:
        assert_pose_is_true(pair)
    assert pairs.names == ["0015: Ä0.png Ä2.png", "0015: Ä4.png Ä3.png"]
    assert [pair.scene for pair in pairs] == ["0015", "0015"]


def test_the_shift_of_the_principal_point_is_an_option(tmp_path, arrays):
    path = _write(tmp_path / "0015_0.1_0.3.npz", arrays)
    ours, theirs = MegaDepthPairs(path)[0], MegaDepthPairs(path, principal_point_shift=0.0)[0]
    assert torch.equal(theirs.K1[:2, 2] - ours.K1[:2, 2], torch.tensor([0.5, 0.5]))
    assert torch.equal(theirs.K1[:2, :2], ours.K1[:2, :2])


def test_flat_matrices_as_D2_Net_writes_them(tmp_path, arrays):
    arrays["poses"] = _objects([None if pose is None else pose.ravel() for pose in arrays["poses"]])
    assert_pose_is_true(MegaDepthPairs(_write(tmp_path / "0015.0.npz", arrays))[0])


def test_pairs_are_chosen_by_their_overlap(tmp_path, arrays):
    path = _write(tmp_path / "0015_0.1_0.3.npz", arrays)
    assert len(MegaDepthPairs(path)) == 2
    assert MegaDepthPairs(path, overlap=(0.1, 1.0)).names == ["0015: Ä4.png Ä3.png"]
    assert MegaDepthPairs(path, overlap=(0.0, 0.1)).names == ["0015: Ä0.png Ä2.png"]
    assert "no pair with an overlap above 0.6 and up to 0.7" in _error(path, overlap=(0.6, 0.7))
    assert "from a smaller to a larger number" in _error(path, overlap=(0.7, 0.6))


def test_an_overlap_matrix_gives_pairs_once_within_the_usual_range(tmp_path):
    arrays = _scene(tmp_path)
    del arrays["pair_infos"]
    path = _write(tmp_path / "0015.0.npz", arrays)
    assert MegaDepthPairs(path).names == ["0015: Ä0.png Ä2.png", "0015: Ä2.png Ä3.png"]
    assert MegaDepthPairs(path, overlap=(0.5, 1.0)).names == ["0015: Ä2.png Ä3.png", "0015: Ä3.png Ä4.png"]
    assert len(MegaDepthPairs(path, pairs_per_file=1)) == 1
    for pair in MegaDepthPairs(path):
        assert_pose_is_true(pair)


def test_a_folder_a_list_of_files_and_a_text_list_are_the_same(tmp_path, arrays):
    folder = tmp_path / "scene_info"
    folder.mkdir()
    files = [
        _write(folder / f"0015_{low}.npz", {**arrays, "pair_infos": arrays["pair_infos"][index : index + 1]})
        for index, low in enumerate(("0.1_0.3", "0.3_0.5"))
    ]
    (folder / "list.txt").write_text("0015_0.1_0.3\n0015_0.3_0.5.npz\n")
    expected = ["0015: Ä0.png Ä2.png", "0015: Ä4.png Ä3.png"]
    for source in (folder, files, folder / "list.txt"):
        assert MegaDepthPairs(source, tmp_path).names == expected
    (folder / "list.txt").write_text("0022_0.1_0.3\n")
    assert "0022_0.1_0.3.npz: no such file" in _error(folder / "list.txt", tmp_path)
    assert "found none" in _error(tmp_path)
    assert "at least one" in _error([])


def test_images_are_found_below_their_own_folder(tmp_path, arrays):
    path = _write(tmp_path / "0015_0.1_0.3.npz", arrays)
    assert re.search(
        "image 0: no such image: .*Ä0.png; image paths are relative to .*elsewhere",
        _error(path, tmp_path / "elsewhere"),
    )


def _set(key, index, value):
    def change(arrays):
        arrays[key][index] = value

    return change


def _drop(key):
    return lambda arrays: arrays.pop(key)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_drop("poses"), "missing poses; expected a scene file"),
        (_drop("pair_infos"), "missing pair_infos or overlap_matrix"),
        (
            lambda a: a.update(poses=a["poses"][:-1]),
            r"expected as many image_paths as intrinsics and poses, got .*'poses': 4",
        ),
        (_set("intrinsics", 0, np.diag([0.0, 1, 1])), "image 0: K: expected positive focal lengths .* got 0"),
        (_set("intrinsics", 0, np.eye(3) * np.nan), "image 0: K: expected finite numbers"),
        (_set("intrinsics", 0, np.eye(4)), "image 0: intrinsics: expected 3×3 numbers"),
        (_set("intrinsics", 0, "K"), "image 0: intrinsics: expected 3×3 numbers"),
        (_set("poses", 2, np.diag([1.0, 1, 2, 1])), "image 2: R: not a rotation"),
        (_set("poses", 2, np.diag([1.0, 1, -1, 1])), "image 2: R: a reflection"),
        (_set("poses", 2, None), "image 2: poses: expected 4×4 numbers"),
        (_set("image_paths", 2, None), "image 2: image_paths: expected a path, got 'None'; a pair needs this image"),
        (_set("pair_infos", 1, ((0, 1), 0.5)), "image 1: image_paths: expected a path"),
        (_set("pair_infos", 1, ((0, 5), 0.5)), r"pair_infos\[1\]: expected two of the 5 images, got \(0, 5\)"),
        (_set("pair_infos", 1, ((2, 2), 0.5)), r"pair_infos\[1\]: expected two of the 5 images"),
        (_set("pair_infos", 1, (3, 0.5)), r"pair_infos\[1\]: expected \(\(i, j\), overlap, …\)"),
        (_set("pair_infos", 1, 7), r"pair_infos\[1\]: expected \(\(i, j\), overlap, …\)"),
    ],
)
def test_a_wrong_value_is_named_by_file_and_key(tmp_path, arrays, change, expected):
    change(arrays)
    path = _write(tmp_path / "0015_0.1_0.3.npz", arrays)
    message = _error(path)
    assert str(path) in message
    assert re.search(expected, message)


def test_cameras_at_one_place_are_refused(tmp_path, arrays):
    arrays["poses"][2] = arrays["poses"][0]
    message = _error(_write(tmp_path / "0015_0.1_0.3.npz", arrays))
    assert "pair 0 (images 0 and 2): t is zero" in message


def test_no_pairs_at_all_and_a_matrix_of_another_size(tmp_path, arrays):
    arrays["pair_infos"] = arrays["pair_infos"][:0]
    assert "no pair with an overlap" in _error(_write(tmp_path / "0015_0.1_0.3.npz", arrays))
    del arrays["pair_infos"]
    arrays["overlap_matrix"] = np.zeros((3, 3))
    assert "overlap_matrix: expected 5×5 numbers" in _error(_write(tmp_path / "0015_0.1_0.3.npz", arrays))


def test_a_repeated_pair_counts_once(tmp_path, arrays):
    arrays["pair_infos"] = _objects([*arrays["pair_infos"], arrays["pair_infos"][0]])
    path = _write(tmp_path / "0015_0.1_0.3.npz", arrays)
    with pytest.warns(UserWarning, match="1 pair occurs more than once"):
        assert len(MegaDepthPairs(path)) == 2


def test_a_truncated_file_names_itself(tmp_path, arrays):
    path = _write(tmp_path / "0015_0.1_0.3.npz", arrays)
    path.write_bytes(path.read_bytes()[:-200])
    assert f"{path}: expected an .npz file, cannot read it" in _error(path)
