"""The command ``rfp``: one module a command, its options a frozen dataclass from which tyro makes the flags.

Exit codes: 0 done, 1 the run failed, 2 bad input or usage. An error is one line on stderr; RFP_DEBUG=1 shows the
traceback.
"""

import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Annotated, Any, Union

from rfp.records import InputError

DESCRIPTION = "Train local features on the task they are used for: reinforced feature points."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are said on stderr, on one line."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")  # OpenCV's own lines about a broken image, beside ours
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    usual_format, warnings.formatwarning = warnings.formatwarning, _format_warning
    try:
        if arguments in (["--version"], ["-V"]):
            print(f"rfp {_version()}")
            return 0
        command, run = _parse(arguments or ["--help"])
        run(command)
    except InputError as error:
        _say(f"error: {error}", error)
        return 2
    except KeyboardInterrupt as error:
        _say(f"interrupted {error}", error)
        return 1
    except SystemExit as finished:  # tyro: 0 after --help, 2 after wrong usage, which it has explained
        return finished.code if isinstance(finished.code, int) else 1
    except Exception as error:
        _say(f"failed: {type(error).__name__}: {error} (RFP_DEBUG=1 shows where)", error)
        return 1
    finally:
        warnings.formatwarning = usual_format
    return 0


def _parse(arguments: list[str]) -> tuple[Any, Callable[[Any], Any]]:
    """The command that the arguments ask for, and the function that runs it."""
    import tyro

    from rfp.cli import (
        compare,
        data,
        diagnose,
        evaluate,
        evaluate_homographies,
        export,
        inspect,
        localize,
        match,
        plot,
        pretrain,
        pretraining_command,
        reconstruct,
        train,
        training_command,
    )

    commands: dict[type, tuple[str, Callable[[Any], Any]]] = {
        training_command.Train: ("train", train.train),
        plot.Plot: ("plot", plot.run),
        diagnose.Diagnose: ("diagnose", diagnose.run),
        pretraining_command.Pretrain: ("pretrain", pretrain.pretrain),
        evaluate.Evaluate: ("evaluate", evaluate.run),
        compare.Compare: ("compare", compare.run),
        evaluate_homographies.EvaluateHomographies: ("evaluate-homographies", evaluate_homographies.run),
        localize.Localize: ("localize", localize.run),
        reconstruct.Reconstruct: ("reconstruct", reconstruct.run),
        data.Data: ("data", data.run),
        match.Match: ("match", match.run),
        inspect.Inspect: ("inspect", inspect.run),
        export.Export: ("export", export.run),
    }
    chosen, resumed = arguments[0], _run_to_resume(arguments)
    start = None
    said = {argument.split("=", 1)[0].replace("_", "-") for argument in arguments}
    if resumed:
        module = {"train": training_command, "pretrain": pretraining_command}[chosen]
        start = tyro.conf.subcommand(chosen, default=module.defaults_to_resume(resumed))
    elif chosen in ("train", "diagnose") and said & {"--paper", "--each-key-point"}:
        recipes = {"paper": "--paper" in said, "each_key_point": "--each-key-point" in said}
        options = training_command.usual_options(**recipes, with_depth="--data" not in said)
        command = {"train": training_command.Train, "diagnose": diagnose.Diagnose}[chosen]
        start = tyro.conf.subcommand(chosen, default=command(**recipes, trainer=options))
    alternatives = tuple(
        Annotated[options, start if start and name == chosen else tyro.conf.subcommand(name)]
        for options, (name, _) in commands.items()
    )
    said_by_tyro = io.StringIO()
    try:
        with redirect_stderr(said_by_tyro):
            command = tyro.cli(
                Union[alternatives],  # type: ignore[valid-type, arg-type]  # noqa: UP007
                args=arguments,
                prog="rfp",
                description=DESCRIPTION,
            )
    except SystemExit as finished:
        refused = _input_error_behind(finished)
        if refused is not None:
            raise refused from None
        sys.stderr.write(said_by_tyro.getvalue())
        raise
    return command, commands[type(command)][1]


def _input_error_behind(finished: BaseException | None) -> InputError | None:
    """What one of our options said for which tyro ends the program, with a box around it and a name of its own."""
    while finished is not None and not isinstance(finished, InputError):
        finished = finished.__cause__ or finished.__context__
    return finished


def _run_to_resume(arguments: list[str]) -> Path | None:
    """RUN of ``rfp train … --resume RUN``, or of ``pretrain``: its options are the defaults of the others."""
    if arguments[0] not in ("train", "pretrain"):
        return None
    for flag, value in zip(arguments, [*arguments[1:], ""]):
        if flag == "--resume" and value:
            return Path(value)
        if flag.startswith("--resume="):
            return Path(flag.removeprefix("--resume="))
    return None


def _version() -> str:
    from importlib.metadata import version

    return version("rfp")


def _format_warning(message: Warning | str, category: type[Warning], *place: Any) -> str:
    """What rfp warns of is for whoever typed the command: on one line, without the place in the code."""
    if category is not UserWarning:
        return f"{category.__name__}: {message} ({place[0]}, line {place[1]})\n"
    return f"rfp: warning: {' '.join(str(message).split())}\n"


def _say(message: str, error: BaseException) -> None:
    """The message on one line of stderr, or the traceback where that was asked for."""
    if os.environ.get("RFP_DEBUG"):
        import traceback

        traceback.print_exception(error)
    print("rfp: " + " ".join(message.split()), file=sys.stderr)
