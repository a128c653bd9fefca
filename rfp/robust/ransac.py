"""Relative poses of a batch of calibrated two-view problems: RANSAC without a visit to the host."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.geometry.essential import decompose_essential
from rfp.geometry.five_point import five_point_planes
from rfp.geometry.pose import essential_from_pose
from rfp.records import InputError, RelativePose, map_tensors
from rfp.robust.cheirality import choose_twins
from rfp.robust.minimal_samples import draw_minimal_samples, samples_usable
from rfp.robust.refinement import refine_poses
from rfp.robust.scoring import MatchMonomials, match_monomials, msac_scores, scoring_subset

_SAMPLE_SIZE = 5
# Normalised coordinates of a ray at a right angle to the optical axis, for all that float32 tells. Products of four of
# them overflow beyond this, and one such match would spoil the scores of all.
_FARTHEST = 1e6


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


@torch.no_grad()
def estimate_relative_pose(
    x1: Float[Tensor, "*B N 2"],
    x2: Float[Tensor, "*B N 2"],
    *,
    max_error: float | Float[Tensor, "*B"],
    options: RansacOptions = RansacOptions(),
    valid: Bool[Tensor, "*B N"] | None = None,
    weight: Float[Tensor, "*B N"] | None = None,
    samples: Int[Tensor, "*B H 5"] | None = None,
    generator: torch.Generator | None,
) -> RelativePose:
    """Relative poses ``X2 = R @ X1 + t`` of a batch of problems, each with its own samples.

    Minimal samples of five distinct matches are solved (``rfp.five_point``), all candidates scored by MSAC on a subset
    of the matches, the best of them on all, the best of those optimised locally. Where all matches are scored, only
    those in front of both cameras count, in the one of the four poses of an essential matrix that has most of them.
    The pose of a problem depends neither on the batch around it nor on the tile.

    A problem without a pose (fewer than five valid matches, all at one place, no consistent model) comes back with
    ``valid`` false, R = I, t = (0, 0, 1), E = 0 and no inliers. Not differentiable.

    Args:
        max_error: Sampson distance of an inlier, in normalised units (see ``normalized_threshold``).
        valid: which of the N slots hold a match; values under a false mask are ignored, NaN included.
            Points that are not finite are no match either.
        weight: how often each match counts in sampling and scoring, 1 by default.
        samples: indices of minimal samples, drawn from ``weight`` if not given.
        generator: of the samples, on the device of ``x1``; None only if ``samples`` are given.

    Raises:
        InputError: neither samples nor a generator to draw them with.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x1, x2 = torch.rand(3, 50, 2), torch.rand(3, 50, 2)
    >>> estimate_relative_pose(x1, x2, max_error=0.002, generator=generator).R.shape
    torch.Size([3, 3, 3])
    """
    problems = _problems(x1, x2, max_error, valid, weight)
    if samples is None:
        if generator is None:
            raise InputError("expected samples= or a generator= to draw them with, got neither; pass torch.Generator()")
        shape = (problems.x1.shape[0], options.num_hypotheses, _SAMPLE_SIZE)
        noise = torch.rand(shape, generator=generator, device=x1.device)
        samples, usable = draw_minimal_samples(noise, problems.weight)
    else:
        samples = samples.reshape(problems.x1.shape[0], samples.shape[-2], _SAMPLE_SIZE)
        usable = samples_usable(samples, problems.weight > 0)
    pose = _estimate(problems, samples, usable, options)
    batch = x1.shape[:-2]
    return map_tensors(pose, lambda tensor: tensor.reshape((*batch, *tensor.shape[1:])))


@dataclass(frozen=True)
class _Problems:
    """P problems with everything invalid replaced: weight zero, points at the origin, a threshold of one."""

    x1: Float[Tensor, "P N 2"]
    x2: Float[Tensor, "P N 2"]
    weight: Float[Tensor, "P N"]
    max_error: Float[Tensor, "P"]

    def __getitem__(self, index: slice) -> "_Problems":
        return map_tensors(self, lambda tensor: tensor[index])


def _problems(
    x1: Tensor, x2: Tensor, max_error: float | Tensor, valid: Tensor | None, weight: Tensor | None
) -> _Problems:
    batch, num_slots = x1.shape[:-2], x1.shape[-2]
    num_problems = math.prod(batch)
    dtype = torch.promote_types(x1.dtype, torch.float32)
    x1 = x1.reshape(num_problems, num_slots, 2).to(dtype)
    x2 = x2.reshape(num_problems, num_slots, 2).to(dtype)
    threshold = max_error if isinstance(max_error, Tensor) else x1.new_full((), max_error)
    threshold = threshold.to(dtype).expand(batch).reshape(num_problems)
    solvable = torch.isfinite(threshold) & (threshold > 0)
    usable = ((x1.abs() < _FARTHEST) & (x2.abs() < _FARTHEST)).all(dim=-1) & solvable[:, None]
    if valid is not None:
        usable = usable & valid.reshape(num_problems, num_slots)
    counts = torch.ones_like(x1[..., 0]) if weight is None else weight.reshape(num_problems, num_slots).to(dtype)
    usable = usable & torch.isfinite(counts) & (counts > 0)
    return _Problems(
        x1=torch.where(usable[..., None], x1, torch.zeros_like(x1)),
        x2=torch.where(usable[..., None], x2, torch.zeros_like(x2)),
        weight=torch.where(usable, counts, torch.zeros_like(counts)),
        max_error=torch.where(solvable, threshold, torch.ones_like(threshold)),
    )


def _estimate(problems: _Problems, samples: Tensor, usable: Tensor, options: RansacOptions) -> RelativePose:
    num_problems, num_slots = problems.weight.shape
    num_hypotheses = samples.shape[1]
    if num_problems == 0 or num_slots < _SAMPLE_SIZE or num_hypotheses == 0:
        return _failure(problems)
    matches = match_monomials(problems.x1, problems.x2, problems.weight, problems.max_error)
    tile = options.tile or (4096 if problems.x1.device.type == "cpu" else 65536)
    finalists = [
        _finalists(problems[chunk], samples[chunk], usable[chunk], options, tile)
        for chunk in _slices(num_problems, max(1, tile // num_hypotheses))
    ]
    E = torch.cat(finalists)
    R, t, gain = _refined(E, matches, options)
    return _pose(R, t, gain, problems)


def _slices(total: int, most: int) -> list[slice]:
    """Slices of nearly equal size, of at most ``most``."""
    count = -(-total // most)
    return [slice(total * part // count, total * (part + 1) // count) for part in range(count)]


def _finalists(problems: _Problems, samples: Tensor, usable: Tensor, options: RansacOptions, tile: int) -> Tensor:
    """The candidates (P, 9, finalists) with the best scores on a subset of the matches; E = 0 fills what is missing.

    Hypotheses come in tiles with a running selection, so that memory grows with the tile only.
    """
    num_problems, num_hypotheses = samples.shape[:2]
    subset = scoring_subset(problems.weight, options.num_scoring_points)[..., None].expand(-1, -1, 2)
    x1, x2 = problems.x1.gather(1, subset), problems.x2.gather(1, subset)
    matches = match_monomials(x1, x2, torch.ones_like(x1[..., 0]), problems.max_error)
    best_E = problems.x1.new_zeros((num_problems, 9, options.num_finalists))
    best_score = problems.x1.new_full((num_problems, options.num_finalists), -1)
    for part in _slices(num_hypotheses, max(1, tile // num_problems)):
        E, valid = _candidates(problems, samples[:, part], usable[:, part], getattr(torch, options.solver_dtype))
        score = torch.where(valid, msac_scores(E, matches, weighted=False), -1)
        best_score, index = torch.cat((best_score, score), dim=1).topk(options.num_finalists, dim=1)
        best_E = torch.cat((best_E, E), dim=2).gather(2, index[:, None].expand(-1, 9, -1))
    return best_E


def _candidates(problems: _Problems, samples: Tensor, usable: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """All solutions of the samples of each problem, as (P, 9, 10 H) and (P, 10 H)."""
    num_problems, num_hypotheses = samples.shape[:2]
    index = samples.clamp(0, problems.weight.shape[1] - 1).transpose(1, 2).reshape(num_problems, -1)

    def sampled(points: Tensor) -> Tensor:
        """(5, 2, P H): the hypotheses last."""
        columns = torch.stack([points[..., axis].gather(1, index) for axis in range(2)])
        columns = columns.reshape(2, num_problems, _SAMPLE_SIZE, num_hypotheses).permute(2, 0, 1, 3)
        return columns.reshape(_SAMPLE_SIZE, 2, -1).to(dtype)

    E, valid = five_point_planes(sampled(problems.x1), sampled(problems.x2))
    E = E.to(problems.x1.dtype).reshape(9, 10, num_problems, num_hypotheses).permute(2, 0, 1, 3)
    valid = valid.reshape(10, num_problems, num_hypotheses).transpose(0, 1) & usable[:, None]
    return E.reshape(num_problems, 9, -1), valid.reshape(num_problems, -1)


def _refined(E: Tensor, matches: MatchMonomials, options: RansacOptions) -> tuple[Tensor, Tensor, Tensor]:
    """The best pose of each problem, and the gains (P, N) of its inliers in front of both cameras; all 0 is a failure.

    Scores count matches in front of both cameras only, before refinement and after it.
    """
    present = (E != 0).any(dim=1)
    R, t = decompose_essential(E.transpose(1, 2).unflatten(-1, (3, 3)))
    R, t, gain = choose_twins(R[:, :, 0], t[:, :, 0], matches)
    gain = torch.where(present[..., None], gain, 0)
    index = gain.sum(dim=-1).topk(min(options.num_refined, E.shape[2]), dim=1).indices
    R, t, gain = _taken(R, index), _taken(t, index), _taken(gain, index)
    refined_R, refined_t = refine_poses(R, t, matches, scales=_scales(options.refinement_iterations))
    refined_R, refined_t, refined_gain = choose_twins(refined_R, refined_t, matches)
    refined_gain = torch.where((gain > 0).any(dim=-1, keepdim=True), refined_gain, 0)
    R, t, gain = torch.cat((R, refined_R), 1), torch.cat((t, refined_t), 1), torch.cat((gain, refined_gain), 1)
    best = gain.sum(dim=-1).argmax(dim=1, keepdim=True)
    return _taken(R, best)[:, 0], _taken(t, best)[:, 0], _taken(gain, best)[:, 0]


def _taken(values: Tensor, index: Tensor) -> Tensor:
    """Of ``values`` (P, C, …) those at ``index`` (P, L)."""
    trailing = values.shape[2:]
    return values.gather(1, index.reshape(*index.shape, *(1 for _ in trailing)).expand(*index.shape, *trailing))


def _scales(iterations: int) -> tuple[float, ...]:
    """Widths of the truncated weight, in units of the threshold: from wide, to let matches in, to narrow."""
    return tuple(3.0 if iteration < 2 else 2.0 for iteration in range(iterations))


def _pose(R: Tensor, t: Tensor, gain: Tensor, problems: _Problems) -> RelativePose:
    """The pose with its inliers and score; a failure where nothing supports it."""
    inliers = gain > 0
    valid = (inliers.sum(dim=1) >= _SAMPLE_SIZE) & _spread(problems, inliers)
    valid = valid & torch.isfinite(R).flatten(1).all(dim=1) & torch.isfinite(t).all(dim=1)
    failure = _failure(problems)
    E = essential_from_pose(R, t)
    return RelativePose(
        R=torch.where(valid[:, None, None], R, failure.R),
        t=torch.where(valid[:, None], t, failure.t),
        E=torch.where(valid[:, None, None], E, failure.E),
        inliers=inliers & valid[:, None],
        score=torch.where(valid, gain.sum(dim=1), failure.score),
        valid=valid,
    )


def _spread(problems: _Problems, inliers: Tensor) -> Tensor:
    """Whether the inliers span more than the threshold in both images: closer points fit any geometry."""
    wide = torch.ones_like(inliers[:, 0])
    for points in (problems.x1, problems.x2):
        largest = torch.where(inliers[..., None], points, -torch.inf).amax(dim=1)
        smallest = torch.where(inliers[..., None], points, torch.inf).amin(dim=1)
        wide = wide & ((largest - smallest).amax(dim=-1) > 4 * problems.max_error)
    return wide


def _failure(problems: _Problems) -> RelativePose:
    x1 = problems.x1
    num_problems = x1.shape[0]
    t = x1.new_zeros((num_problems, 3))
    t[:, 2] = 1
    return RelativePose(
        R=torch.eye(3, dtype=x1.dtype, device=x1.device).repeat(num_problems, 1, 1),
        t=t,
        E=x1.new_zeros((num_problems, 3, 3)),
        inliers=torch.zeros_like(problems.weight, dtype=torch.bool),
        score=x1.new_zeros(num_problems),
        valid=torch.zeros_like(problems.max_error, dtype=torch.bool),
    )
