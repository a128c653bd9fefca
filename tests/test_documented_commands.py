"""Every command that README, documentation, docstrings and scripts print is one: nothing is run, all options parse.

A command that would not be understood fails with the page and the line that print it.
"""

import argparse
import importlib.util
import re
import runpy
import sys
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest
import tyro

from rfp.cli import _parse, main, pretraining_command, training_command
from rfp.records import InputError
from tests.printed_commands import PAGES, ROOT, PrintedCommand, bash_commands, docstring_commands, inline_commands

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")])
OPTIONS_OF_OTHERS = {
    "--no-deps": "pip",
    "--shm-size": "docker run",
    "--ways": "benchmarks/main_job.py",
    "--screen": "benchmarks/learning.py",
    "--source": "benchmarks/learning.py",
    "--arms": "benchmarks/learning.py",
    "--curve-every": "benchmarks/learning.py",
    "--mean-of-seeds": "benchmarks/learning.py",
    "--trained": "benchmarks/subpixel.py",
}
COLMAP_OPTIONS = {"--database_path", "--image_path", "--output_path"}


class Parsed(Exception):
    """In place of what a script would do."""


@pytest.fixture(autouse=True)
def no_run_is_read(monkeypatch):
    """``--resume RUN`` parses without a run."""
    monkeypatch.setattr(training_command, "defaults_to_resume", lambda folder: training_command.Train())
    monkeypatch.setattr(pretraining_command, "defaults_to_resume", lambda folder: pretraining_command.Pretrain())


def problem(command: PrintedCommand) -> str | None:
    """What is wrong with the command, if anything is; of a kind that is not known here, that."""
    program, *arguments = command.words
    kinds = {
        **{"rfp": rfp_problem, "python": python_problem, "pip": pip_problem, "pytest": pytest_problem},
        **{"colmap": colmap_problem, "mkdocs": mkdocs_problem, "mkdir": lambda arguments: None},
        ".": lambda arguments: None if arguments == [".venv/bin/activate"] else "not the environment of the page",
        ".ci/run": lambda arguments: None if (ROOT / ".ci" / "run").is_file() else "no such file",
    }
    if program not in kinds:
        return "a kind of command that this test does not know: teach it how to check one"
    return kinds[program](arguments)


def rfp_problem(arguments: list[str]) -> str | None:
    try:
        _parse(arguments)
    except InputError as error:
        return str(error)
    except SystemExit:
        return "rfp does not understand it (its message is on stderr)"
    return None


def python_problem(arguments: list[str]) -> str | None:
    if arguments[0] == "-m":
        return None if importlib.util.find_spec(arguments[1]) else f"no module {arguments[1]}"
    script = ROOT / arguments[0]
    if script not in SCRIPTS:
        return f"{arguments[0]}: no such benchmark or example"
    if not re.search(r"tyro\.cli|parse_args", script.read_text()):
        return None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(arguments))
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # they import each other
        patch.setattr(tyro, "cli", then_stop(tyro.cli))
        patch.setattr(argparse.ArgumentParser, "parse_args", then_stop(argparse.ArgumentParser.parse_args))
        try:
            runpy.run_path(str(script), run_name="__main__")
        except Parsed:
            return None
        except SystemExit:
            return "the script does not understand it (its message is on stderr)"
        finally:
            for path in SCRIPTS:
                sys.modules.pop(path.stem, None)
    return "it ended without parsing its arguments"


def then_stop(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Parses, and leaves the script before it does anything."""

    def parse_and_stop(*arguments: Any, **options: Any) -> None:
        parse(*arguments, **options)
        raise Parsed

    return parse_and_stop


def pip_problem(arguments: list[str]) -> str | None:
    if arguments[0] != "install":
        return "expected pip install"
    for word in arguments[1:]:
        ours = re.fullmatch(r"(?:\.|rfp)(?:\[(?P<extras>[\w,]+)\])?", word)
        if ours:
            missing = set(filter(None, (ours["extras"] or "").split(","))) - set(
                PROJECT["project"]["optional-dependencies"]
            )
            if missing:
                return f"pyproject.toml has no extra {missing}"
        elif word not in ("-e", "--no-deps") and word not in (ROOT / ".ci" / "run").read_text():
            return f"{word}: not what .ci/run installs"
    return None


def pytest_problem(arguments: list[str]) -> str | None:
    lost = [word for word in arguments if "/" in word and not (ROOT / word).exists()]
    if lost:
        return f"no such tests: {lost}"
    markers = {line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    if "-m" in arguments and arguments[arguments.index("-m") + 1] not in markers:
        return f"no such marker among {markers}"
    return None


def colmap_problem(arguments: list[str]) -> str | None:
    if arguments[0] != "mapper":
        return "expected colmap mapper"
    unknown = {word for word in arguments if word.startswith("--")} - COLMAP_OPTIONS
    if importlib.util.find_spec("pycolmap") is not None:
        import pycolmap

        options = pycolmap.IncrementalPipelineOptions()
        unknown = {flag for flag in unknown if not hasattr(options, flag.removeprefix("--Mapper."))}
    else:
        unknown = {flag for flag in unknown if not flag.startswith("--Mapper.")}
    return f"colmap mapper has no {unknown}" if unknown else None


def mkdocs_problem(arguments: list[str]) -> str | None:
    return None if arguments in (["serve"], ["build", "--strict"]) else "expected mkdocs serve"


def problems(commands: list[PrintedCommand]) -> str:
    found = [(command, problem(command)) for command in commands]
    return "\n".join(f"{command}: {wrong}" for command, wrong in found if wrong)


@pytest.mark.parametrize("page", [page for page in PAGES if bash_commands(page)], ids=lambda page: page.name)
def test_every_command_of_a_page_is_understood(page):
    assert not problems(bash_commands(page))


def test_every_whole_command_in_the_text_is_understood():
    """``rfp localize --truth`` names an option; what ends in a value is a command to be typed."""
    inline = [command for page in PAGES for command in inline_commands(page)]
    whole = [
        each
        for each in inline
        if not each.words[-1].startswith("-") and (len(each.words) > 2 or each.words[0] != "rfp")
    ]
    assert len(whole) > 10
    assert not problems([command for command in whole if "|" not in command.words])


def test_every_example_of_a_docstring_is_understood():
    """Those that ``--help`` shows, and those at the head of benchmarks and examples."""
    commands = [
        command
        for file in (*sorted((ROOT / "rfp" / "cli").glob("*.py")), *SCRIPTS)
        for command in docstring_commands(file)
    ]
    assert len(commands) > 50
    assert not problems(commands)


@pytest.fixture(scope="module")
def options() -> dict[tuple[str, ...], set[str]]:
    """The options that ``--help`` of each command explains."""
    explained = {}
    for name in commands_of():
        for command in [(name, part) for part in commands_of(name)] if name in ("data", "export") else [(name,)]:
            explained[command] = set(re.findall(r"(?<![\w-])--\w[\w.-]*", help_of(*command)))
    return explained


def commands_of(*command: str) -> list[str]:
    """The subcommands that the line of usage lists."""
    listed = re.search(r"usage: [^{]*\{([^}]*)\}", help_of(*command))
    assert listed
    return listed[1].split(",")


def help_of(*command: str) -> str:
    with redirect_stdout(StringIO()) as shown:
        assert main([*command, "--help"]) == 0
    return shown.getvalue()


def test_every_option_that_a_page_names_is_there(options):
    known = set(OPTIONS_OF_OTHERS).union(*options.values())
    lost = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"`[^`\n]*`", text):
            for flag in re.findall(r"(?<![\w-])--\w[\w.-]*…?", match[0]):
                if not any(each.startswith(flag[:-1]) if flag[-1] == "…" else each == flag for each in known):
                    lost.append(f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}: {flag}")
    assert not lost, "\n".join(lost)


def test_every_option_that_a_page_names_beside_a_command_is_one_of_that_command(options):
    """Where the words name several, ``rfp export hloc | colmap``, one of them."""
    lost = []
    for command in (command for page in PAGES for command in inline_commands(page) if command.words[0] == "rfp"):
        flags = {word for word in command.words if word.startswith("-")}
        named = tuple(word for word in command.words[1:3] if word not in flags)
        meant = [found for name, found in options.items() if name[: len(named)] == named or name == named[:1]]
        if not meant or flags - set().union(*meant):
            lost.append(str(command))
    assert not lost, "\n".join(lost)
