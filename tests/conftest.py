"""Fixtures that several rooms' tests share."""

import os
from pathlib import Path

import cv2
import jaxtyping
import numpy as np
import pytest
import torch

from tests.networks import TinyTestNetwork
from tests.scenes import View, render_views, write_pairs_folder

torch.set_num_threads(1)  # pytest-xdist runs one worker a core


@pytest.fixture(scope="session")
def corner_views() -> list[View]:
    """Four rendered views of two textured walls."""
    return render_views()


@pytest.fixture(scope="session")
def session_pairs_folder(tmp_path_factory, corner_views) -> Path:
    """A small folder of posed pairs that no test may change."""
    return write_pairs_folder(tmp_path_factory.mktemp("posed") / "corner", corner_views)


@pytest.fixture
def pairs_folder(tmp_path, corner_views) -> Path:
    """A small folder of posed pairs that this test may break."""
    return write_pairs_folder(tmp_path / "corner", corner_views)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Two busy pictures, one grey with 16 bits, in a subfolder with a name beyond ASCII."""
    folder = tmp_path_factory.mktemp("photographs") / "Bilder für später"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, shape, largest in (("a.png", (30, 40, 3), 255), ("b.png", (40, 30), 65535)):
        coarse = generator.uniform(0, largest, shape)
        pixels = cv2.resize(coarse, (shape[1] * 6, shape[0] * 6), interpolation=cv2.INTER_CUBIC).clip(0, largest)
        pixels = pixels.astype(np.uint8 if largest == 255 else np.uint16)
        (folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return folder.parent


@pytest.fixture
def without_type_checks():
    """As users run the library: what the tests' type checker would refuse first reaches the library's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def network() -> TinyTestNetwork:
    """A few-layer network with seeded weights, in training mode."""
    return TinyTestNetwork()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real posed pairs that RFP_DATA names; the test is skipped without it."""
    if not os.environ.get("RFP_DATA"):
        pytest.skip("needs real photographs: set RFP_DATA to a folder of posed-pairs folders")
    return Path(os.environ["RFP_DATA"])
