"""Where a network is, in which mode it runs, and how its weights lie in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def device_of(network: nn.Module) -> torch.device:
    """The device of the first parameter; the CPU for a network without any."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """The network in eval mode, each of its modules as it was afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def in_channels_last(network: nn.Module) -> Iterator[None]:
    """The network with the weights of its 2-D convolutions channels last in memory, and as usual afterwards.

    Convolutions are mostly faster so (benchmarks/low_precision.py). The function is the same but for rounding.
    Afterwards as usual: not everything that writes weights takes other layouts.
    """
    _lay_out(network, torch.channels_last)
    try:
        yield
    finally:
        _lay_out(network, torch.contiguous_format)


def _lay_out(network: nn.Module, layout: torch.memory_format) -> None:
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
