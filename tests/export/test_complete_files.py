import pytest

from rfp.export.complete_files import complete_files
from rfp.records import InputError


def test_two_programs_that_write_one_file_do_not_meet(tmp_path):
    target = tmp_path / "figures.json"
    with complete_files([target]) as (first,):
        first.write_text("first")
        with complete_files([target]) as (second,):
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def _write_half_of(paths):
    with complete_files(paths) as (first, *_):
        first.write_text("half")
        raise ZeroDivisionError


def _write_none_of(paths):
    with complete_files(paths):
        pass


def test_nothing_is_left_of_what_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        _write_half_of([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(InputError, match="cannot be written"):
        _write_none_of([tmp_path / "a"])
    assert list(tmp_path.iterdir()) == []
