import json
import os
import subprocess
import sys
import warnings

import pytest

from rfp.cli import main

JUDGES = (
    "train",
    "evaluate",
    "compare",
    "evaluate-homographies",
    "localize",
    "reconstruct",
    "match",
    "inspect",
    "diagnose",
)
MAKERS = ("data", "export", "plot")
COMMANDS = (*JUDGES, *MAKERS)


def test_version_and_help_are_answered(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rfp 0.")
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(command in listed for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys, command):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: rfp {command}" in shown
    assert ("--json" in shown) == (command not in MAKERS)


@pytest.mark.parametrize(
    "arguments", [["fly"], ["evaluate"], ["evaluate", "--data"], ["inspect", "--nonsense"], ["match", "one.jpg"]]
)
def test_wrong_usage_is_code_2(arguments, capsys):
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_failure_is_code_1_and_one_line(capsys, monkeypatch, session_pairs_folder):
    def broken(command):
        raise RuntimeError("the disk\nis full")

    monkeypatch.setattr("rfp.cli.inspect.run", broken)
    assert main(["inspect", str(session_pairs_folder)]) == 1
    assert capsys.readouterr().err == "rfp: failed: RuntimeError: the disk is full (RFP_DEBUG=1 shows where)\n"
    monkeypatch.setenv("RFP_DEBUG", "1")
    assert main(["inspect", str(session_pairs_folder)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_code_1_and_one_line(capsys, monkeypatch, session_pairs_folder):
    def interrupted(command):
        raise KeyboardInterrupt

    monkeypatch.setattr("rfp.cli.inspect.run", interrupted)
    assert main(["inspect", str(session_pairs_folder)]) == 1
    assert capsys.readouterr().err == "rfp: interrupted\n"


def test_the_installed_command_says_one_line_and_no_traceback(tmp_path):
    """The whole process, so that nothing else writes to stderr."""
    environment = {key: value for key, value in os.environ.items() if key != "RFP_DEBUG"}
    code = "import sys; from rfp.cli import main; sys.exit(main(sys.argv[1:]))"
    finished = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "--data", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.startswith(f"rfp: error: {tmp_path / 'nowhere'}: no such folder")


def test_what_is_warned_of_is_for_whoever_typed_the_command(pairs_folder, monkeypatch):
    """One line, without the place in the code; afterwards Python's own format is back."""
    records = json.loads((pairs_folder / "pairs.json").read_text())
    (pairs_folder / "pairs.json").write_text(json.dumps([*records, records[0]]))
    said, usual = [], warnings.formatwarning

    def warn(message, *rest, **options):
        said.append(warnings.formatwarning(message, UserWarning, "somewhere.py", 3))

    monkeypatch.setattr(warnings, "warn", warn)
    options = ["--network", "tiny", "--num-keypoints", "16", "--image-size", "64", "--device", "cpu"]
    assert main(["evaluate", "--data", str(pairs_folder), *options]) == 0
    assert len(said) == 1
    assert said[0].startswith("rfp: warning: ")
    assert said[0].endswith("the first is " + str(pairs_folder / "pairs.json") + ", record 5 (counting from 0)\n")
    assert warnings.formatwarning is usual
