import os
import pickle

import numpy as np
import pytest

from rfp.data import InputError
from rfp.data.sets.plain_arrays import read_arrays


def _objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


CONTENT = {
    "names": _objects("Köln.jpg", None),
    "matrices": _objects(np.eye(3), None),
    "numbers": np.arange(6.0).reshape(2, 3),
    "pairs": _objects((np.array([0, 1]), np.float64(0.5), np.ones((2, 4)))),
}


def _write_npz(path):
    np.savez_compressed(path, **CONTENT)


def _write_pickle(path):
    path.write_bytes(pickle.dumps(CONTENT))


def _write_old_pickle(path):
    """As NumPy 1 wrote it: under numpy.core, protocol 2."""
    path.write_bytes(pickle.dumps(CONTENT, protocol=2).replace(b"numpy._core", b"numpy.core"))


WRITERS = (_write_npz, _write_pickle, _write_old_pickle)


@pytest.mark.parametrize("write", WRITERS)
def test_arrays_and_objects_come_back(tmp_path, write):
    path = tmp_path / "scene.npz"
    write(path)
    arrays = read_arrays(path, ["names", "matrices", "numbers", "pairs", "absent"])
    assert arrays.keys() == CONTENT.keys()
    assert list(arrays["names"]) == ["Köln.jpg", None]
    assert np.array_equal(arrays["matrices"][0], np.eye(3))
    assert np.array_equal(arrays["numbers"], CONTENT["numbers"])
    assert np.array_equal(arrays["pairs"][0][2], np.ones((2, 4)))


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_cut_anywhere_names_itself(tmp_path, write):
    path = tmp_path / "scene.npz"
    write(path)
    content = path.read_bytes()
    for end in [0, 1, 3, *range(10, len(content) - 1, 41), len(content) - 1]:
        path.write_bytes(content[:end])
        with pytest.raises(InputError) as error:
            read_arrays(path, CONTENT)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


class _Greedy:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


@pytest.mark.parametrize("through_numpy", [False, True])
def test_a_pickle_that_asks_for_more_than_data_does_not_get_it(tmp_path, monkeypatch, through_numpy):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "scene.npz"
    if through_numpy:
        np.savez(path, names=_objects(_Greedy()))
    else:
        path.write_bytes(pickle.dumps({"names": _Greedy()}))
    with pytest.raises(InputError, match=r"scene\.npz: holds .*\.mkdir, which is no data"):
        read_arrays(path, ["names"])
    assert not (tmp_path / "made_by_a_pickle").exists()


def test_something_else_than_a_dict_or_no_file_is_one_line(tmp_path):
    path = tmp_path / "scene.npz"
    with pytest.raises(InputError, match="no such file"):
        read_arrays(path, ["names"])
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="got list"):
        read_arrays(path, ["names"])
