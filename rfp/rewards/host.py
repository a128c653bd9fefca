"""The way out of the device for rewards that only run on the host: numpy, a library, another process."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.records import Correspondences, InputError, TwoViewGeometry, map_tensors
from rfp.rewards.named import callable_name


class HostReward:
    """A black box on the host as a reward; made by ``host_reward``."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __repr__(self) -> str:
        # By name and not by address: a run resumes only with the reward that it began with.
        return f"host_reward({callable_name(self.function)})"

    def __call__(self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        """The reward of each problem, on the device of the correspondences.

        Raises:
            InputError: not one finite number a problem.
        """
        points = correspondences.x1
        there = [map_tensors(record, lambda tensor: tensor.cpu()) for record in (result, correspondences, truth)]
        try:
            value = torch.as_tensor(self.function(*there), dtype=points.dtype, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{self!r} expected to return numbers, got none ({error})") from error
        expected = tuple(points.shape[:-2])
        if tuple(value.shape) != expected:
            raise InputError(f"{self!r} expected to return one number a problem, {expected}, got {tuple(value.shape)}")
        bad = int((~value.isfinite()).sum())
        if bad:
            raise InputError(
                f"{self!r} expected to return finite numbers, got {bad} of {value.numel()} that are not; return the "
                "worst value for a failed estimate"
            )
        return value.to(points.device)


def host_reward(function: Callable[..., Any]) -> HostReward:
    """A reward from a function that needs the host: it gets CPU copies of (result, correspondences, truth).

    It may return whatever becomes a tensor (an array, nested lists), one finite number for each problem, failed
    estimates included. **It waits for the device at each call**, so that the GPU idles meanwhile and the step cannot be
    captured: for experiments; what can be said in tensors is faster without it.

    >>> reward = host_reward(lambda result, correspondences, truth: result.valid.numpy().astype(float))
    """
    return HostReward(function)
