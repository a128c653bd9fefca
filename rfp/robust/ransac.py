"""RANSAC for a batch of problems, the same loop for every geometric model, without a visit to the host.

Minimal samples are solved in tiles, their candidates scored on a subset of the matches with a running selection of the
best, these scored on all matches, the best of them optimised locally. What a model is (solver, error, refinement) comes
as a ``GeometricModel``: relative pose, fundamental matrix, homography and absolute pose have a file each beside this.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.records import InputError, map_tensors
from rfp.robust.minimal_samples import draw_minimal_samples, samples_usable
from rfp.robust.scoring import scoring_subset

# Coordinates beyond this are no match: normalised ones of a ray at a right angle to the optical axis, for all that
# float32 tells. Products of four of them overflow, and one such match would spoil the scores of all.
FARTHEST = 1e6


@dataclass(frozen=True)
class RansacOptions:
    """How much work RANSAC does for each problem. The budget is fixed: it does not stop early."""

    num_hypotheses: int = 1024
    """Minimal samples a problem; each gives up to ten candidates. The more outliers, the more are needed."""
    tile: int | None = None
    """Minimal samples solved at once, over all problems together; bounds the memory and changes no result.
    None: 4096 on the CPU, so that the work stays in its caches, and 65536 elsewhere."""
    num_scoring_points: int = 48
    """Matches on which every candidate is scored."""
    num_finalists: int = 32
    """Candidates a problem that are scored on all matches, with cheirality."""
    num_refined: int = 8
    """Finalists a problem that are optimised locally, at most all of them. Refinement decides the accuracy, and beside
    a wrong pose that fits a plane a true one often needs it to win."""
    refinement_iterations: int = 8
    """Gauss–Newton steps of each. With few good samples the optimum is far, and takes more of them."""
    solver_dtype: Literal["float64", "float32"] = "float64"
    """Of the minimal solver. float32 is faster, and loses the true matrix in some of the samples."""

    def __post_init__(self):
        """Refuses what cannot be computed.

        Raises:
            InputError: which option, on one line.
        """
        least = {"num_hypotheses": 1, "num_scoring_points": 1, "num_finalists": 1, "num_refined": 1, "tile": 1}
        for name, lowest in {**least, "refinement_iterations": 0}.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                default = type(self).__dataclass_fields__[name].default
                raise InputError(f"expected {name} of at least {lowest}, got {value}; the default is {default}")


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
) -> Problems:
    """A batch of any shape as P problems, in float32 at least; what is not usable is masked."""
    batch, (num_slots, size) = data.shape[:-2], data.shape[-2:]
    num_problems = math.prod(batch)
    dtype = torch.promote_types(data.dtype, torch.float32)
    data = data.reshape(num_problems, num_slots, size).to(dtype)
    threshold = max_error if isinstance(max_error, Tensor) else data.new_full((), max_error)
    threshold = threshold.to(dtype).expand(batch).reshape(num_problems)
    solvable = torch.isfinite(threshold) & (threshold > 0)
    usable = (data.abs() < FARTHEST).all(dim=-1) & solvable[:, None]
    if valid is not None:
        usable = usable & valid.reshape(num_problems, num_slots)
    counts = torch.ones_like(data[..., 0]) if weight is None else weight.reshape(num_problems, num_slots).to(dtype)
    usable = usable & torch.isfinite(counts) & (counts > 0)
    return Problems(
        data=torch.where(usable[..., None], data, torch.zeros_like(data)),
        weight=torch.where(usable, counts, torch.zeros_like(counts)),
        max_error=torch.where(solvable, threshold, torch.ones_like(threshold)),
    )


def given_or_drawn_samples(
    problems: Problems,
    sample_size: int,
    options: RansacOptions,
    samples: Int[Tensor, "*B H size"] | None,
    generator: torch.Generator | None,
) -> tuple[Int[Tensor, "P H size"], Bool[Tensor, "P H"]]:
    """Minimal samples and whether each is usable.

    Raises:
        InputError: neither samples nor a generator to draw them with.
    """
    num_problems = problems.weight.shape[0]
    if samples is not None:
        samples = samples.reshape(num_problems, samples.shape[-2], sample_size)
        return samples, samples_usable(samples, problems.weight > 0)
    if generator is None:
        raise InputError("expected samples= or a generator= to draw them with, got neither; pass torch.Generator()")
    shape = (num_problems, options.num_hypotheses, sample_size)
    noise = torch.rand(shape, generator=generator, device=problems.weight.device)
    return draw_minimal_samples(noise, problems.weight)


def ransac(
    problems: Problems,
    model: GeometricModel,
    samples: Int[Tensor, "P H size"],
    usable: Bool[Tensor, "P H"],
    options: RansacOptions,
) -> tuple[Float[Tensor, "P s"], Float[Tensor, "P N"]]:
    """The best state of each problem, and the gains of its inliers: all zero is a failure.

    What a problem gets depends neither on the batch around it nor on the tile. There must be a problem, as many
    matches as a sample has, and a sample.
    """
    num_problems, num_hypotheses = usable.shape
    tile = options.tile or (4096 if problems.data.device.type == "cpu" else 65536)
    pools = [
        _finalists(problems[chunk], model, samples[chunk], usable[chunk], options, tile)
        for chunk in slices(num_problems, max(1, tile // num_hypotheses))
    ]
    return _settled(torch.cat(pools), problems, model, options)


def slices(total: int, most: int) -> list[slice]:
    """Slices of nearly equal size, of at most ``most``."""
    count = -(-total // most)
    return [slice(total * part // count, total * (part + 1) // count) for part in range(count)]


def _finalists(
    problems: Problems, model: GeometricModel, samples: Tensor, usable: Tensor, options: RansacOptions, tile: int
) -> Tensor:
    """The candidates (P, k, finalists) with the best scores on a subset of the matches; zeros fill what is missing.

    Hypotheses come in tiles with a running selection, so that memory grows with the tile only.
    """
    num_problems, num_hypotheses = usable.shape
    subset = scoring_subset(problems.weight, options.num_scoring_points)[..., None]
    data = problems.data.gather(1, subset.expand(-1, -1, problems.data.shape[-1]))
    tables = model.tables(Problems(data, torch.ones_like(data[..., 0]), problems.max_error))
    best: Tensor | None = None
    best_score = data.new_full((num_problems, options.num_finalists), -1)
    for part in slices(num_hypotheses, max(1, tile // num_problems)):
        candidates, valid = _candidates(problems, model, samples[:, part], usable[:, part], options)
        if best is None:
            best = candidates.new_zeros((*candidates.shape[:2], options.num_finalists))
        score = torch.where(valid, model.gains(candidates, tables).sum(dim=-1), -1)
        best_score, index = torch.cat((best_score, score), dim=1).topk(options.num_finalists, dim=1)
        best = torch.cat((best, candidates), dim=2).gather(2, index[:, None].expand(-1, best.shape[1], -1))
    assert best is not None, "there is at least one sample"
    return best


def _candidates(
    problems: Problems, model: GeometricModel, samples: Tensor, usable: Tensor, options: RansacOptions
) -> tuple[Tensor, Tensor]:
    """All solutions of the samples of each problem, as (P, k, slots H) and (P, slots H)."""
    (num_problems, num_hypotheses, size), width = samples.shape, problems.data.shape[-1]
    index = samples.clamp(0, problems.weight.shape[1] - 1).transpose(1, 2).reshape(num_problems, -1)
    columns = torch.stack([problems.data[..., axis].gather(1, index) for axis in range(width)])
    columns = columns.reshape(width, num_problems, size, num_hypotheses).permute(2, 0, 1, 3)
    sampled = columns.reshape(size, width, -1).to(getattr(torch, options.solver_dtype))
    candidates, valid = model.solve(sampled)
    numbers, slots = candidates.shape[:2]
    candidates = candidates.to(problems.data.dtype).reshape(numbers, slots, num_problems, num_hypotheses)
    valid = valid.reshape(slots, num_problems, num_hypotheses).transpose(0, 1) & usable[:, None]
    return candidates.permute(2, 0, 1, 3).reshape(num_problems, numbers, -1), valid.reshape(num_problems, -1)


def _settled(pool: Tensor, problems: Problems, model: GeometricModel, options: RansacOptions) -> tuple[Tensor, Tensor]:
    """The best state of each problem after local optimisation, chunk by chunk of problems to bound the memory."""
    num_problems, num_slots = problems.weight.shape
    most = 2**20 if problems.data.device.type == "cpu" else 2**26
    chunks = slices(num_problems, max(1, most // (num_slots * options.num_finalists)))
    settled = [_settled_chunk(pool[chunk], model.tables(problems[chunk]), model, options) for chunk in chunks]
    return torch.cat([state for state, _ in settled]), torch.cat([gain for _, gain in settled])


def _settled_chunk(pool: Tensor, tables: Any, model: GeometricModel, options: RansacOptions) -> tuple[Tensor, Tensor]:
    present = (pool != 0).any(dim=1)
    states, gains = model.lift(pool, tables)
    gains = torch.where(present[..., None], gains, 0)
    index = gains.sum(dim=-1).topk(min(options.num_refined, pool.shape[2]), dim=1).indices
    states, gains = taken(states, index), taken(gains, index)
    polished, polished_gains = model.polish(states, tables, _scales(options.refinement_iterations))
    polished_gains = torch.where((gains > 0).any(dim=-1, keepdim=True), polished_gains, 0)
    states, gains = torch.cat((states, polished), 1), torch.cat((gains, polished_gains), 1)
    best = gains.sum(dim=-1).argmax(dim=1, keepdim=True)
    return taken(states, best)[:, 0], taken(gains, best)[:, 0]


def taken(values: Float[Tensor, "P C n"], index: Int[Tensor, "P L"]) -> Float[Tensor, "P L n"]:
    """Of ``values`` those at ``index``."""
    return values.gather(1, index[..., None].expand(*index.shape, values.shape[-1]))


def _scales(iterations: int) -> tuple[float, ...]:
    """Widths of the truncated weight, in units of the threshold: from wide, to let matches in, to narrow."""
    return tuple(3.0 if iteration < 2 else 2.0 for iteration in range(iterations))


def spread(points: Float[Tensor, "P N d"], inliers: Bool[Tensor, "P N"]) -> Float[Tensor, "P"]:
    """The longest side of the box around the inliers: where it is of the size of the threshold, any model fits them."""
    largest = torch.where(inliers[..., None], points, -torch.inf).amax(dim=1)
    smallest = torch.where(inliers[..., None], points, torch.inf).amin(dim=1)
    return (largest - smallest).amax(dim=-1)
