"""Poses of a batch of calibrated cameras from points of space and their images."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.geometry.absolute_pose import three_point_planes
from rfp.geometry.essential import orthonormalize
from rfp.geometry.linear_systems import product
from rfp.records import AbsolutePose
from rfp.robust.inputs import check_inputs
from rfp.robust.model import Problems, in_batch, make_problems
from rfp.robust.options import RansacOptions
from rfp.robust.ransac import SampleSource, ransac, spread
from rfp.robust.reprojection import (
    PointTables,
    point_tables,
    refine_absolute_poses,
    reprojection_gains,
)
from rfp.robust.scoring import scoring_subset

# Three points leave up to four poses; the fourth tells which.
_LEAST_INLIERS = 4
_NUM_POINTS_OF_THE_SCALE = 64


ABSOLUTE_POSE_OPTIONS = RansacOptions(num_hypotheses=1024, resample_rounds=0, num_scoring_points=48)
"""What suits absolute poses: three points are solved in a microsecond or two, and a sample of three is often right."""


@torch.no_grad()
def estimate_absolute_pose(
    X: Float[Tensor, "*B N 3"],
    x: Float[Tensor, "*B N 2"],
    *,
    max_error: float | Float[Tensor, "*B"],
    options: RansacOptions = ABSOLUTE_POSE_OPTIONS,
    valid: Bool[Tensor, "*B N"] | None = None,
    weight: Float[Tensor, "*B N"] | None = None,
    samples: Int[Tensor, "*B H 3"] | None = None,
    sampling_weight: Float[Tensor, "*B N"] | None = None,
    generator: torch.Generator | None,
) -> AbsolutePose:
    """Poses ``(x, 1) ~ R @ X + t`` of a batch of cameras, each from points X of the world seen at normalised points x.

    Minimal samples of three distinct matches are solved (``rfp.geometry.absolute_pose``), all candidates scored by MSAC
    on the reprojection error of a subset of the matches, the best of them on all, the best of those optimised locally.
    Only points in front of the camera count. With ``samples`` given, the pose of a problem depends neither on the batch
    around it nor, ties apart, on the tile.

    The points are moved to their median and scaled for the work, which is done in the dtype of x; the result has the
    wider one of X and x. World coordinates far from the origin keep their precision if X is float64, even with x in
    float32. In float32 X itself, and t, are rounded to some 1e-7 of the offset.

    A problem without a pose (fewer than four inliers, all in one place, points on a line) comes back with ``valid``
    false, R = I, t = 0 and no inliers. Not differentiable.

    Args:
        options: ``ABSOLUTE_POSE_OPTIONS`` by default: more samples than for relative pose, and no second stage.
        max_error: reprojection error of an inlier, in normalised units: pixels over the focal length.
        valid: which of the N slots hold a match; values under a false mask are ignored, NaN included.
            Points that are not finite are no match either, nor those farther than a million times the usual distance.
        weight: how often each match counts in sampling and scoring, 1 by default and 1e12 at most.
        samples: indices of minimal samples, drawn from ``sampling_weight`` or else ``weight`` if not given.
        sampling_weight: how often each match is drawn into the first samples, without a say in the scores:
            ``weights_of_order``, say. Not with ``samples`` or an early stop, which know of ``weight`` alone.
        generator: of the samples, on the device of ``x``; None only if ``samples`` are given.

    Raises:
        InputError: shapes, dtypes or devices that do not go together, neither samples nor a generator.

    >>> generator = torch.Generator().manual_seed(0)
    >>> X, x = torch.rand(3, 50, 3), torch.rand(3, 50, 2)
    >>> estimate_absolute_pose(X, x, max_error=0.002, generator=generator).R.shape
    torch.Size([3, 3, 3])
    """
    model = AbsolutePoseModel()
    check_inputs(
        X,
        x,
        names=("X", "x"),
        widths=(3, 2),
        sample_size=model.sample_size,
        max_error=max_error,
        valid=valid,
        weight=weight,
        samples=samples,
        sampling_weight=sampling_weight,
        generator=generator,
    )
    scene = _scene(X, x, valid, weight)
    problems = make_problems(torch.cat((scene.inward(X).to(x.dtype), x), dim=-1), max_error, scene.present, weight)
    source = SampleSource(problems, model.sample_size, options, samples, generator, sampling_weight)
    dtype = torch.promote_types(problems.data.dtype, X.dtype)
    if source.empty:
        pose = _failure(problems, dtype)
    else:
        pose = _pose(*ransac(problems, model, source, options), problems, scene, dtype)
    return in_batch(pose, x.shape[:-2])


@dataclass(frozen=True)
class AbsolutePoseModel:
    """Poses of single views as the RANSAC loop's model: candidates and states are R row by row and t."""

    sample_size: int = 3
    final_width: float = 4.0

    def solve(self, sampled: Float[Tensor, "3 5 T"]) -> tuple[Float[Tensor, "12 4 T"], Bool[Tensor, "4 T"]]:
        """``three_point``."""
        return three_point_planes(sampled[:, :3], sampled[:, 3:])

    def tables(self, problems: Problems) -> PointTables:
        """Products of coordinates of the matches."""
        return point_tables(problems.data[..., :3], problems.data[..., 3:], problems.weight, problems.max_error)

    def gains(self, candidates: Float[Tensor, "P 12 C"], tables: PointTables) -> Float[Tensor, "P C N"]:
        """Of the reprojection error, 0 behind the camera."""
        return reprojection_gains(candidates, tables)

    def lift(
        self, candidates: Float[Tensor, "P 12 C"], tables: PointTables
    ) -> tuple[Float[Tensor, "P C 12"], Float[Tensor, "P C N"]]:
        """The candidates themselves."""
        return candidates.transpose(1, 2), reprojection_gains(candidates, tables).mul_(tables.weight[:, None])

    def polish(
        self, states: Float[Tensor, "P L 12"], tables: PointTables, scales: tuple[float, ...]
    ) -> tuple[Float[Tensor, "P L 12"], Float[Tensor, "P L N"]]:
        """Refined on the reprojection error."""
        R, t = refine_absolute_poses(states[..., :9].unflatten(-1, (3, 3)), states[..., 9:], tables, scales=scales)
        return self.lift(torch.cat((R.flatten(-2), t), dim=-1).transpose(1, 2), tables)


@dataclass(frozen=True)
class _Scene:
    """Where the points of each problem are, in float64, and which slots hold a match."""

    present: Bool[Tensor, "*B N"]
    centre: Float[Tensor, "*B 3"]
    size: Float[Tensor, "*B"]

    def inward(self, X: Tensor) -> Tensor:
        """Points moved to the centre and scaled."""
        return (X.double() - self.centre[..., None, :]) / self.size[..., None, None]

    def outward(self, R: Tensor, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Poses of the points as they were, from poses (P, …) of the scaled ones.

        The centre may be far away: R is made orthonormal to the last digit of float64 first, and t fits R as it is
        rounded to ``dtype``.
        """
        R = orthonormalize(R.double()).to(dtype)
        centre = product(R.double(), self.centre.reshape(-1, 3, 1))[..., 0]
        return R, (t * self.size.reshape(-1, 1) - centre).to(dtype)


def _scene(X: Tensor, x: Tensor, valid: Tensor | None, weight: Tensor | None) -> _Scene:
    """Medians of the points and of their distances from there, both of an even subset: no outlier moves them far."""
    batch, num_slots = x.shape[:-2], x.shape[-2]
    present = torch.isfinite(X).all(dim=-1) & torch.isfinite(x).all(dim=-1)
    present = present if valid is None else present & valid
    if present.numel() == 0:
        return _Scene(present, X.new_zeros((*batch, 3)).double(), X.new_ones(batch).double())
    counts = torch.ones_like(x[..., 0]) if weight is None else weight
    counts = torch.where(present & torch.isfinite(counts) & (counts > 0), counts, 0).reshape(-1, num_slots)
    index = scoring_subset(counts, _NUM_POINTS_OF_THE_SCALE)
    points = torch.where(present[..., None], X, 0).reshape(-1, num_slots, 3)
    points = points.gather(1, index[..., None].expand(-1, -1, 3)).double()
    middle = _NUM_POINTS_OF_THE_SCALE // 2
    centre = points.sort(dim=1).values[:, middle]
    squared = (points - centre[:, None]).square()
    distance = (squared[..., 0] + squared[..., 1] + squared[..., 2]).sort(dim=1).values.sqrt()
    size = torch.where(distance[:, middle] > 0, distance[:, middle], distance[:, -1])
    size = torch.where(torch.isfinite(size) & (size > 0), size, 1)
    return _Scene(present, centre.reshape(*batch, 3), size.reshape(batch))


def _pose(state: Tensor, gain: Tensor, problems: Problems, scene: _Scene, dtype: torch.dtype) -> AbsolutePose:
    """The pose with its inliers and score; a failure where nothing supports it."""
    R, t = scene.outward(state[:, :9].unflatten(-1, (3, 3)), state[:, 9:], dtype)
    inliers = gain > 0
    wide = spread(problems.data[..., 3:], inliers) > 4 * problems.max_error
    valid = (inliers.sum(dim=1) >= _LEAST_INLIERS) & wide
    valid = valid & torch.isfinite(R).flatten(1).all(dim=1) & torch.isfinite(t).all(dim=1)
    failure = _failure(problems, dtype)
    return AbsolutePose(
        R=torch.where(valid[:, None, None], R, failure.R),
        t=torch.where(valid[:, None], t, failure.t),
        inliers=inliers & valid[:, None],
        score=torch.where(valid, gain.sum(dim=1), failure.score),
        valid=valid,
    )


def _failure(problems: Problems, dtype: torch.dtype) -> AbsolutePose:
    data = problems.data
    num_problems = data.shape[0]
    return AbsolutePose(
        R=torch.eye(3, dtype=dtype, device=data.device).repeat(num_problems, 1, 1),
        t=data.new_zeros((num_problems, 3), dtype=dtype),
        inliers=torch.zeros_like(problems.weight, dtype=torch.bool),
        score=data.new_zeros(num_problems),
        valid=torch.zeros_like(problems.max_error, dtype=torch.bool),
    )
