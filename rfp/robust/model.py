"""A batch of problems, and what the RANSAC loop must know of a geometric model to solve them."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.records import map_tensors

# Coordinates beyond this are no match: normalised ones of a ray at a right angle to the optical axis, for all that
# float32 tells. Products of four of them overflow, and one such match would spoil the scores of all.
FARTHEST = 1e6
# The same for points of any unit, before they are centred and scaled: differences must not overflow.
FARTHEST_UNSCALED = 1e30
# Weights count as this at most: their sums, and those of products with derivatives, must not overflow.
_HEAVIEST = 1e12

Record = TypeVar("Record")


@dataclass(frozen=True)
class Problems:
    """P problems with everything invalid replaced: weight zero, data zero, a threshold of one."""

    data: Float[Tensor, "P N d"]
    """The coordinates of N matches: (u1, v1, u2, v2) of two views, (X, Y, Z, u, v) of one."""
    weight: Float[Tensor, "P N"]
    max_error: Float[Tensor, "P"]

    def __getitem__(self, index: Any) -> "Problems":
        return map_tensors(self, lambda tensor: tensor[index])


@runtime_checkable
class GeometricModel(Protocol):
    """What the loop must know of a model. A *candidate* is what the solver gives, k numbers; a *state* of s numbers is
    what is refined (a pose rather than its essential matrix, say). e² is in units of the squared threshold.
    """

    @property
    def sample_size(self) -> int:
        """Matches of a minimal sample."""
        ...

    @property
    def final_width(self) -> float:
        """Of the robust weight at the end of the refinement, in thresholds.

        Wide where an error has two dimensions and a wrong match hardly ever a small one; narrow where many of them lie
        near their epipolar lines and would bend the model.
        """
        ...

    def solve(self, sampled: Float[Tensor, "size d T"]) -> tuple[Float[Tensor, "k slots T"], Bool[Tensor, "slots T"]]:
        """The candidates of T minimal samples, in the dtype of the solver; finite under a false mask."""
        ...

    def tables(self, problems: Problems) -> Any:
        """A frozen dataclass of tensors (P, …): what scores and refinement need to know of the matches."""
        ...

    def gains(self, candidates: Float[Tensor, "P k C"], tables: Any) -> Float[Tensor, "P C n"]:
        """``max(0, 1 - e²)`` without weights: the quick score on n of the matches."""
        ...

    def lift(
        self, candidates: Float[Tensor, "P k C"], tables: Any
    ) -> tuple[Float[Tensor, "P C s"], Float[Tensor, "P C N"]]:
        """States and weighted gains on all matches, 0 for those that the model cannot have seen (behind a camera)."""
        ...

    def polish(
        self, states: Float[Tensor, "P L s"], tables: Any, scales: tuple[float, ...]
    ) -> tuple[Float[Tensor, "P L s"], Float[Tensor, "P L N"]]:
        """The same after one damped Gauss–Newton step for each scale, the width of the robust weight in thresholds."""
        ...


def make_problems(
    data: Float[Tensor, "*B N d"],
    max_error: float | Float[Tensor, "*B"],
    valid: Bool[Tensor, "*B N"] | None,
    weight: Float[Tensor, "*B N"] | None,
    *,
    farthest: float = FARTHEST,
) -> Problems:
    """A batch of any shape as P problems, in float32 at least; what is not usable is masked.

    Args:
        farthest: coordinates beyond this are no match.
    """
    batch, (num_slots, size) = data.shape[:-2], data.shape[-2:]
    num_problems = math.prod(batch)
    dtype = torch.promote_types(data.dtype, torch.float32)
    data = data.reshape(num_problems, num_slots, size).to(dtype)
    threshold = max_error if isinstance(max_error, Tensor) else data.new_full((), max_error)
    threshold = threshold.to(dtype).expand(batch).reshape(num_problems)
    solvable = torch.isfinite(threshold) & (threshold > 0)
    usable = (data.abs() < farthest).all(dim=-1) & solvable[:, None]
    if valid is not None:
        usable = usable & valid.reshape(num_problems, num_slots)
    counts = torch.ones_like(data[..., 0]) if weight is None else weight.reshape(num_problems, num_slots).to(dtype)
    usable = usable & torch.isfinite(counts) & (counts > 0)
    counts = counts.clamp_max(_HEAVIEST)
    return Problems(
        data=torch.where(usable[..., None], data, torch.zeros_like(data)),
        weight=torch.where(usable, counts, torch.zeros_like(counts)),
        max_error=torch.where(solvable, threshold, torch.ones_like(threshold)),
    )


def in_batch(found: Record, batch: torch.Size) -> Record:
    """A record of P results in the shape of the batch that ``make_problems`` flattened."""
    return map_tensors(found, lambda tensor: tensor.reshape((*batch, *tensor.shape[1:])))


def slices(total: int, most: int) -> list[slice]:
    """Slices of nearly equal size, of at most ``most``."""
    count = -(-total // most)
    return [slice(total * part // count, total * (part + 1) // count) for part in range(count)]


def slices_in_memory(problems: Problems, models: int) -> list[slice]:
    """Slices of problems for work on so many models of each over all matches: its tensors are the largest there are."""
    most = (2**20 if problems.data.device.type == "cpu" else 2**26) // (problems.weight.shape[1] * models)
    return slices(problems.weight.shape[0], max(1, most))
