"""What the estimators accept: shapes, dtypes and devices, looked at before anything is computed.

All of it is known without reading a value: nothing waits for the device, and a traced or captured call has no branch.
"""

import numbers
from typing import Any

import torch
from torch import Tensor

from rfp.records import InputError


def check_inputs(
    first: Any,
    second: Any,
    *,
    names: tuple[str, str] = ("x1", "x2"),
    widths: tuple[int, int] = (2, 2),
    sample_size: int,
    max_error: Any,
    valid: Any,
    weight: Any,
    samples: Any,
    sampling_weight: Any,
    generator: Any,
) -> None:
    """Refuses what would be reshaped into something else, or fail somewhere inside.

    Args:
        first: the points that all others are compared with.
        names: of the two sets of points, for the message.
        widths: their numbers of coordinates.

    Raises:
        InputError: what was expected, what was found and what to do, on one line.
    """
    for name, points, width in zip(names, (first, second), widths, strict=True):
        _check_points(name, points, width)
    name = names[0]
    batch, device = tuple(first.shape[:-2]), first.device
    slots = (*batch, first.shape[-2])
    if tuple(second.shape[:-1]) != slots:
        raise InputError(
            f"expected {names[1]} of shape {(*slots, widths[1])} beside {name} of {tuple(first.shape)}, got "
            f"{tuple(second.shape)}; give one point of each for every slot"
        )
    if widths[0] == widths[1] and first.dtype != second.dtype:
        raise InputError(
            f"expected {names[1]} in {first.dtype} as {name} is, got {second.dtype}; convert one with .to(dtype)"
        )
    _check_device(names[1], second, device, name)
    _check_threshold(max_error, batch, device, name)
    if valid is not None:
        _check_slots("valid", valid, slots, device, name)
        if valid.dtype != torch.bool:
            raise InputError(f"expected valid of dtype torch.bool, got {valid.dtype}; compare it with 0")
    for kind, values in (("weight", weight), ("sampling_weight", sampling_weight)):
        if values is not None:
            _check_slots(kind, values, slots, device, name)
            if values.dtype == torch.bool or values.is_complex():
                raise InputError(f"expected a {kind} of real numbers, got {values.dtype}; a mask is given as valid=")
    if samples is not None:
        _check_samples(samples, batch, sample_size, device, name)
    if generator is not None:
        _check_generator(generator, device, name)


def _check_points(name: str, points: Any, width: int) -> None:
    if not isinstance(points, Tensor):
        raise InputError(f"expected {name} as a tensor, got {type(points).__name__}; make one with torch.as_tensor")
    if points.ndim < 2 or points.shape[-1] != width:
        remedy = "transpose the last two dimensions" if width in points.shape[-2:-1] else "put coordinates last"
        raise InputError(f"expected {name} of shape (..., N, {width}), got {tuple(points.shape)}; {remedy}")
    if not points.is_floating_point():
        raise InputError(f"expected {name} in float32 or float64, got {points.dtype}; convert it with .float()")


def _check_device(name: str, tensor: Tensor, device: torch.device, beside: str) -> None:
    if tensor.device != device:
        raise InputError(
            f"expected {name} on {device} as {beside} is, got {tensor.device}; move it with .to({beside}.device)"
        )


def _check_slots(name: str, values: Any, slots: tuple[int, ...], device: torch.device, beside: str) -> None:
    if not isinstance(values, Tensor):
        raise InputError(f"expected {name} as a tensor, got {type(values).__name__}; make one with torch.as_tensor")
    if tuple(values.shape) != slots:
        raise InputError(
            f"expected {name} of shape {slots}, got {tuple(values.shape)}; give a value for each slot of {beside} "
            "(expand what all problems share)"
        )
    _check_device(name, values, device, beside)


def _check_threshold(max_error: Any, batch: tuple[int, ...], device: torch.device, beside: str) -> None:
    if not isinstance(max_error, Tensor):
        if isinstance(max_error, bool) or not isinstance(max_error, numbers.Real):
            raise InputError(
                f"expected max_error as a number or a tensor, got {type(max_error).__name__}; give a distance"
            )
        return
    if tuple(max_error.shape) not in ((), batch):
        raise InputError(
            f"expected max_error as one number or of shape {batch}, got {tuple(max_error.shape)}; give a threshold for "
            "each problem (expand what some of them share)"
        )
    if not max_error.is_floating_point():
        raise InputError(f"expected max_error in float32 or float64, got {max_error.dtype}; convert it with .float()")
    _check_device("max_error", max_error, device, beside)


def _check_samples(samples: Any, batch: tuple[int, ...], size: int, device: torch.device, beside: str) -> None:
    if not isinstance(samples, Tensor) or samples.is_floating_point() or samples.dtype == torch.bool:
        got = samples.dtype if isinstance(samples, Tensor) else type(samples).__name__
        raise InputError(f"expected samples as a tensor of integers, got {got}; give indices of slots")
    if tuple(samples.shape[:-2]) != batch or samples.ndim < 2 or samples.shape[-1] != size:
        shape = ", ".join(str(length) for length in (*batch, "H", size))
        raise InputError(
            f"expected samples of shape ({shape}), got {tuple(samples.shape)}; give H of them for each problem"
        )
    _check_device("samples", samples, device, beside)


def _check_generator(generator: Any, device: torch.device, beside: str) -> None:
    if not isinstance(generator, torch.Generator):
        raise InputError(
            f"expected a torch.Generator as generator, got {type(generator).__name__}; make one with torch.Generator()"
        )
    if device.type != "meta" and generator.device.type != device.type:
        raise InputError(
            f"expected a generator on {device} as {beside} is, got one on {generator.device}; make it with "
            f"torch.Generator({device.type!r})"
        )
