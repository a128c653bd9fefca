"""A row of uniforms for each scene, read from left to right: what a scene looks like depends on its row alone."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Uniforms:
    """Reads random quantities of B scenes off the columns of (B, Q) uniforms, each column once.

    >>> uniforms = Uniforms(torch.rand(4, 10, generator=torch.Generator().manual_seed(0)))
    >>> uniforms.between(1.0, 2.0, 3).shape, uniforms.chance(0.5).shape
    (torch.Size([4, 3]), torch.Size([4]))
    """

    def __init__(self, values: Float[Tensor, "B Q"]) -> None:
        self._values = values
        self._used = 0

    def between(self, low: float, high: float, *shape: int) -> Float[Tensor, "B *shape"]:
        """Uniform on [low, high), of the given shape for each scene."""
        return low + (high - low) * self._next(shape)

    def log_between(self, low: float, high: float, *shape: int) -> Float[Tensor, "B *shape"]:
        """Between low and high with equal chance for every ratio: the law of scales."""
        return low * torch.exp(math.log(high / low) * self._next(shape))

    def chance(self, probability: float, *shape: int) -> Bool[Tensor, "B *shape"]:
        """True with the probability."""
        return self._next(shape) < probability

    def choice(self, count: int, *shape: int) -> Int[Tensor, "B *shape"]:
        """One of 0 … count - 1, each as likely."""
        return (self._next(shape) * count).long().clamp(max=count - 1)

    def _next(self, shape: tuple[int, ...]) -> Float[Tensor, "B *shape"]:
        start, self._used = self._used, self._used + math.prod(shape)
        if self._used > self._values.shape[1]:
            raise IndexError(f"expected at most {self._values.shape[1]} uniforms a scene, asked for {self._used}")
        return self._values[:, start : self._used].reshape(-1, *shape)
