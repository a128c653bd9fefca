"""What the figures of a benchmark were made with: machine, versions, commit."""

import os
import platform
import subprocess
from pathlib import Path

import torch


def machine() -> dict[str, str]:
    """Processor, cores, GPU, versions of Python and torch, and the commit, with a + where the tree had changes."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def processor() -> str:
    """The processor's model where the system names it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def commit() -> str:
    """The short commit of the code that is run."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=here).stdout.strip()
