"""``rfp plot``: runs that go on, old runs, several runs, and folders that are none."""

import json

import pytest

from rfp.cli import main
from rfp.training.logged_run import read_run

ROWS = [{"step": step, "reward": -1.0, "failed": 0.1} for step in range(1, 5)]


def run_folder(path, rows=ROWS, tail=""):
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def says(capsys, *words):
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_a_run_is_drawn_into_its_folder_while_its_last_line_is_being_written(tmp_path, capsys):
    folder = run_folder(tmp_path / "run", tail='{"step": 5, "rew')
    assert main(["plot", str(folder)]) == 0
    assert (folder / "training.png").stat().st_size > 1000
    assert str(folder / "training.png") in capsys.readouterr().out
    assert len(read_run(folder).metrics) == 4


def test_several_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    folders = [run_folder(tmp_path / place / "run") for place in ("a", "b")]
    drawn = []
    monkeypatch.setattr("rfp.cli.plot.draw_runs", lambda runs: drawn.extend(runs))
    monkeypatch.setattr("rfp.cli.plot.save_figure", lambda figure, path: drawn.append(path))
    assert main(["plot", *map(str, folders), "--output", str(tmp_path / "both.pdf")]) == 0
    assert [run.name for run in drawn[:2]] == [str(folder) for folder in folders]
    assert drawn[2] == tmp_path / "both.pdf"


def test_validations_are_read_as_lines_or_from_the_summary_of_an_older_run(tmp_path):
    folder = run_folder(tmp_path / "run")
    assert list(read_run(folder).validations) == []
    (folder / "summary.json").write_text(json.dumps({"validations": [{"step": 0, "auc": {"5": 40.0}}]}))
    assert list(read_run(folder).validations) == [{"step": 0, "auc_5": 40.0}]
    (folder / "validations.jsonl").write_text('{"step": 2, "auc_5": 50.0}\n')
    assert list(read_run(folder).validations) == [{"step": 2, "auc_5": 50.0}]


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["plot", str(tmp_path / "nothing")]) == 2
    says(capsys, "no such folder")
    (tmp_path / "empty").mkdir()
    assert main(["plot", str(tmp_path / "empty")]) == 2
    says(capsys, "metrics.jsonl", "rfp train")
    assert main(["plot", str(run_folder(tmp_path / "young", rows=[]))]) == 2
    says(capsys, "no step is logged yet")
    assert main(["plot"]) == 2
    says(capsys, "at least one run folder")
    assert main(["plot", str(run_folder(tmp_path / "run")), "--output", str(tmp_path / "page.txt")]) == 2
    says(capsys, ".png")


@pytest.mark.parametrize("line", ["3", '"step"', '{"no": 1}'])
def test_lines_that_are_no_rows_are_left_out(tmp_path, line):
    folder = run_folder(tmp_path / "run", tail=line + "\n")
    assert len(read_run(folder).metrics) == 4
