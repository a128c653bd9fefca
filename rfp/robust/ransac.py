"""Relative poses of a batch of calibrated two-view problems: RANSAC without a visit to the host."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.geometry.essential import choose_pose, decompose_essential, twisted_poses
from rfp.geometry.five_point import five_point_planes
from rfp.geometry.pose import essential_from_pose
from rfp.records import RelativePose, map_tensors
from rfp.robust.minimal_samples import draw_minimal_samples, samples_usable
from rfp.robust.refinement import refine_poses
from rfp.robust.scoring import MatchMonomials, inlier_mask, match_monomials, msac_scores, scoring_subset

_SAMPLE_SIZE = 5


@dataclass(frozen=True)
class RansacOptions:
    """How much work RANSAC does for each problem. The budget is fixed: it does not stop early."""

    num_hypotheses: int = 1024
    """Minimal samples a problem; each gives up to ten candidates. 256 suffice down to 60 % of inliers."""
    tile: int | None = None
    """Minimal samples solved at once, over all problems together; bounds the memory and changes no result.
    None: 4096 on the CPU, so that the work stays in its caches, and 65536 elsewhere."""
    num_scoring_points: int = 48
    """Matches on which every candidate is scored."""
    num_finalists: int = 32
    """Candidates a problem that are scored on all matches."""
    num_refined: int = 4
    """Finalists a problem that are optimised locally. This is worth 9 to 29 points of AUC@5."""
    refinement_iterations: int = 8
    """Gauss–Newton steps of each. With few good samples the optimum is far: eight are worth 4 points of AUC@5 over
    five at 40 % of inliers, and nothing at 70 %."""
    solver_dtype: Literal["float64", "float32"] = "float64"
    """Of the minimal solver. float32 loses the true matrix in 7 % of samples, and is faster by a half."""


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
    of the matches, the best of them on all, the best of those optimised locally; cheirality chooses among the four
    poses of the best essential matrix. The pose of a problem depends neither on the batch around it nor on the tile.

    A problem without a pose (fewer than five valid matches, all at one place, no consistent model) comes back with
    ``valid`` false, R = I, t = (0, 0, 1), E = 0 and no inliers. Not differentiable.

    Args:
        max_error: Sampson distance of an inlier, in normalised units (see ``normalized_threshold``).
        valid: which of the N slots hold a match; values under a false mask are ignored, NaN included.
        weight: how often each match counts in sampling and scoring, 1 by default.
        samples: indices of minimal samples, drawn from ``weight`` if not given.
        generator: of the samples, on the device of ``x1``; None only if ``samples`` are given.

    Raises:
        ValueError: neither samples nor a generator to draw them with.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x1, x2 = torch.rand(3, 50, 2), torch.rand(3, 50, 2)
    >>> estimate_relative_pose(x1, x2, max_error=0.002, generator=generator).R.shape
    torch.Size([3, 3, 3])
    """
    problems = _problems(x1, x2, max_error, valid, weight)
    if samples is None:
        if generator is None:
            raise ValueError("expected samples= or a generator= to draw them with, got neither; pass torch.Generator()")
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
    usable = (torch.isfinite(x1) & torch.isfinite(x2)).all(dim=-1) & solvable[:, None]
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
    R, t, score = _refined(E, matches, options)
    return _pose(R, t, score, problems, matches)


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
    """The best pose of each problem up to cheirality, and its score on all matches; a score of zero is a failure."""
    present = (E != 0).any(dim=1)
    score = torch.where(present, msac_scores(E, matches), 0)
    num_refined = min(options.num_refined, E.shape[2])
    score, index = score.topk(num_refined, dim=1)
    E = E.gather(2, index[:, None].expand(-1, 9, -1)).transpose(1, 2).unflatten(-1, (3, 3))
    R, t = decompose_essential(E)
    R, t = R[:, :, 0], t[:, :, 0]
    refined_R, refined_t = refine_poses(R, t, matches, scales=_scales(options.refinement_iterations))
    refined_E = essential_from_pose(refined_R, refined_t).flatten(-2).transpose(1, 2)
    refined_score = torch.where(score > 0, msac_scores(refined_E, matches), 0)
    score = torch.cat((score, refined_score), dim=1)
    R, t = torch.cat((R, refined_R), dim=1), torch.cat((t, refined_t), dim=1)
    score, best = score.max(dim=1)
    R = R.gather(1, best[:, None, None, None].expand(-1, 1, 3, 3))[:, 0]
    t = t.gather(1, best[:, None, None].expand(-1, 1, 3))[:, 0]
    return R, t, score


def _scales(iterations: int) -> tuple[float, ...]:
    """Widths of the truncated weight, in units of the threshold: from wide, to let matches in, to narrow."""
    return tuple(3.0 if iteration < 2 else 2.0 for iteration in range(iterations))


def _pose(R: Tensor, t: Tensor, score: Tensor, problems: _Problems, matches: MatchMonomials) -> RelativePose:
    """The pose in front of the cameras, with its inliers; a failure where nothing supports it."""
    inliers = inlier_mask(essential_from_pose(R, t).flatten(-2), matches)
    R, t, in_front = choose_pose(*twisted_poses(R, t), problems.x1, problems.x2, inliers)
    valid = (score > 0) & (in_front >= _SAMPLE_SIZE) & _spread(problems, inliers)
    valid = valid & torch.isfinite(R).flatten(1).all(dim=1) & torch.isfinite(t).all(dim=1)
    failure = _failure(problems)
    E = essential_from_pose(R, t)
    return RelativePose(
        R=torch.where(valid[:, None, None], R, failure.R),
        t=torch.where(valid[:, None], t, failure.t),
        E=torch.where(valid[:, None, None], E, failure.E),
        inliers=inliers & valid[:, None],
        score=torch.where(valid, score, failure.score),
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
