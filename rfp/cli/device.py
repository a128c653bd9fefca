"""Where a command computes: CUDA if it is usable, else the CPU; the choice and its reason are said."""

import sys

import torch

from rfp.records import InputError


def choose_device(name: str) -> torch.device:
    """The device that ``--device`` asks for, said on stderr with the reason.

    ``auto`` is CUDA if a tensor can be made there, else the CPU. MPS has no float64 and is taken only when asked for.

    Raises:
        InputError: an unknown name, or a device that is not usable here.
    """
    if name == "auto":
        obstacle = cuda_obstacle("cuda")
        device = torch.device("cpu" if obstacle else "cuda")
        reason = f"auto: {obstacle}" if obstacle else f"auto: {torch.cuda.get_device_name(device)} is usable"
    else:
        device, reason = _named(name), "as asked"
    print(f"device: {device} ({reason})", file=sys.stderr)
    return device


def cuda_obstacle(name: str) -> str | None:
    """Why CUDA cannot be used, or None: a driver that is too old shows only when something is allocated."""
    if not torch.backends.cuda.is_built():
        return "this torch is built without CUDA"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        return f"{name} is not usable: {str(error).splitlines()[0]}"
    return None


def _named(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"--device: expected auto, cpu, cuda, cuda:0, … or mps, got {name!r}")
    if device.type == "cuda":
        obstacle = cuda_obstacle(name)
        if obstacle:
            raise InputError(f"--device {name}: {obstacle}; pass --device cpu or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps: not usable here; pass --device cpu or auto")
    return device


def peak_memory_mib() -> float:
    """The largest memory that this process has held so far, in MiB; on Windows 0, which has no such figure."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
