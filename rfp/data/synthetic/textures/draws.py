"""The one source of randomness that a texture family is given."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Random tensors of one generator on one device.

    The device is the generator's own, except for ``"meta"``, which has no generators and accepts one of the CPU.
    """

    generator: torch.Generator
    device: torch.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "..."]:
        """Uniform on [low, high)."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Float[Tensor, "..."]:
        """Between low and high with equal chance for every ratio: the law of scales."""
        return low * (high / low) ** self.uniform(*shape)

    def normal(self, *shape: int) -> Float[Tensor, "..."]:
        """Standard normal."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, *shape: int, probability: float) -> Float[Tensor, "..."]:
        """1 with the probability, else 0."""
        return (self.uniform(*shape) < probability).float()

    def constant(self, *shape: int, value: float) -> Float[Tensor, "..."]:
        """No draw at all, where one is expected."""
        return torch.full(shape, value, device=self.device)
