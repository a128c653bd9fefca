"""Laws of training on loaded pairs: what reads them, and what cannot be read, changes no bit of a resumed run."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from rfp.cli import main
from rfp.cli import train as train_command
from rfp.data import PosedPairs
from rfp.records import InputError
from rfp.training import Trainer
from rfp.training.metrics_log import read_metrics
from tests.networks import TinyTestNetwork
from tests.training.test_trainer import OPTIONS, equal, weights

STEPS = replace(OPTIONS, checkpoint_every=2, log_every=1)  # 6 steps of 2 of the 5 pairs: two epochs and a part


@pytest.fixture
def uneven_and_broken(pairs_folder) -> PosedPairs:
    """Five pairs of images of two sizes; two of them show an image that cannot be read."""
    path = str(pairs_folder / "images" / "1.png")
    cv2.imwrite(path, cv2.resize(cv2.imread(path), (112, 100)))
    (pairs_folder / "images" / "3.png").write_bytes(b"broken")
    return PosedPairs(pairs_folder, image_size=100)


def fit(pairs, warnings, *, workers=0, **more):
    network = TinyTestNetwork()
    options = replace(STEPS, workers=workers, **more.pop("options", {}))
    summary = Trainer(network, options).fit(pairs, on_warning=warnings.append, **more)
    return network, summary


def test_a_run_resumed_in_the_middle_of_an_epoch_with_other_workers_is_the_same_bit_for_bit(
    uneven_and_broken, tmp_path
):
    """Beside an image that cannot be read, which is counted in each row and warned about once in each part."""
    pairs, warnings = uneven_and_broken, []
    whole, one = fit(pairs, warnings, output=tmp_path / "whole")
    assert len(warnings) == 1
    assert "3.png: not an image" in warnings[0]
    parted, warnings = tmp_path / "parted", []
    fit(pairs, warnings, workers=1, output=parted, options={"steps": 3})
    again, two = fit(pairs, warnings, workers=2, output=parted, resume=True)
    assert len(warnings) == 2
    assert equal(weights(again), weights(whole))
    assert multiprocessing.active_children() == []
    rows = [
        [{**row, "seconds": 0} for row in read_metrics(folder / "metrics.jsonl")]
        for folder in (tmp_path / "whole", parted)
    ]
    assert rows[0] == rows[1]
    assert one.skipped_pairs == two.skipped_pairs == sum(row["skipped_pairs"] for row in rows[0]) >= 4


def test_a_strict_run_refuses_a_broken_image_and_one_that_began_so_may_go_on_without(uneven_and_broken, tmp_path):
    pairs = uneven_and_broken
    with pytest.raises(InputError, match=r"3\.png: not an image"):
        fit(pairs, [], workers=1, options={"strict": True})
    assert multiprocessing.active_children() == []
    readable = pairs.without_images(pairs.unreadable_images())
    fit(readable, [], output=tmp_path, options={"strict": True, "steps": 2})
    _, summary = fit(readable, [], output=tmp_path, resume=True)
    assert summary.skipped_pairs == 0


def test_without_somebody_to_tell_a_broken_image_is_a_python_warning(uneven_and_broken):
    with pytest.warns(UserWarning, match=r"3\.png: not an image"):
        Trainer(TinyTestNetwork(), STEPS).fit(uneven_and_broken)


FAST = [
    *("--network", "tiny", "--image-size", "96", "--pairs-per-step", "1", "--log-every", "1", "--device", "cpu"),
    *("--rollout.keypoints.num-keypoints", "64", "--rollout.ransac.num-hypotheses", "32"),
    *("--rollout.num-keypoint-draws", "2", "--rollout.num-match-draws", "2"),
]


def train(folder: Path, output: Path, *more: str) -> int:
    return main(["train", "--data", str(folder), "--output", str(output), *FAST, *more])


def test_the_command_leaves_out_what_it_cannot_read_and_says_how_many(uneven_and_broken, tmp_path, capsys):
    folder = uneven_and_broken.folders[0]
    assert train(folder, tmp_path / "strict", "--steps", "1", "--strict") == 2
    assert "3.png: not an image" in capsys.readouterr().err
    assert train(folder, tmp_path / "run", "--steps", "2", "--workers", "1") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rfp: warning: ")]
    assert len(said) == 2
    assert "3.png: not an image" in said[0]
    assert "2 of 5 pairs" in said[1]
    figures = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (figures["left_out_pairs"], figures["skipped_pairs"]) == (2, 0)
    assert main(["train", "--resume", str(tmp_path / "run"), "--steps", "3", "--workers", "0"]) == 0


def test_the_command_warns_of_what_breaks_in_the_middle_and_goes_on(pairs_folder, tmp_path, capsys, monkeypatch):
    """In the middle of the pairs, too, one of which is drawn at the end."""
    fit_of_the_command = train_command._fit

    def broken_by_then(network, options, command, sets, folder):
        (pairs_folder / "images" / "2.png").write_bytes(b"broken")
        sets.train._cache.clear()
        return fit_of_the_command(network, options, command, sets, folder)

    monkeypatch.setattr(train_command, "_fit", broken_by_then)
    assert train(pairs_folder, tmp_path, "--steps", "5") == 0
    printed = capsys.readouterr()
    said = [line for line in printed.err.splitlines() if "rfp: warning: " in line]
    assert len(said) == 1
    assert "2.png: not an image" in said[0]
    assert "3 times a pair could not be read" in printed.out
    assert json.loads((tmp_path / "summary.json").read_text())["skipped_pairs"] == 3
    assert (tmp_path / "matches_before_after.png").is_file()


def test_workers_and_strictness_are_for_folders(capsys):
    for flag in (["--workers", "2"], ["--strict"]):
        assert main(["train", *flag]) == 2
        assert "for --data" in capsys.readouterr().err
    assert main(["train", "--workers", "-1"]) == 2
    assert "workers of at least 0" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals to a group of processes, and /proc")
def test_ctrl_c_ends_every_process_and_loses_no_step(session_pairs_folder, tmp_path):
    """A terminal sends it to all processes of the group, the workers among them."""
    command = ["train", "--data", str(session_pairs_folder), "--output", str(tmp_path), *FAST]
    arguments = [*command, "--steps", "100000", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; from rfp.cli import main; sys.exit(main({arguments!r}))"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    group = process.pid
    try:
        wait_until(lambda: (tmp_path / "metrics.jsonl").is_file() and (tmp_path / "metrics.jsonl").read_text(), 100)
        assert len(processes_of(group)) >= 3, "the command and its workers"
        os.killpg(group, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 1
        assert "rfp: interrupted after step" in said
        assert "Traceback" not in said
        assert "warning" not in said
        assert (tmp_path / "checkpoint.pt").is_file()
        wait_until(lambda: not processes_of(group), 20)
    finally:
        if processes_of(group):
            os.killpg(group, signal.SIGKILL)


def wait_until(holds, seconds: float) -> None:
    """Ask until it does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def processes_of(group: int) -> list[int]:
    """The living processes of a group."""
    lines = subprocess.run(["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in lines.splitlines()[1:]]
    return [int(pid) for pid, pgid, state in rows if int(pgid) == group and not state.startswith("Z")]
