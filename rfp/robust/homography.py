"""Homographies of a batch of two-view problems: planes, or cameras that only turn."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.geometry.direct_linear import similarity
from rfp.geometry.homography import four_point_planes
from rfp.geometry.linear_systems import product
from rfp.records import Homography
from rfp.robust.homography_refinement import (
    TransferMonomials,
    refine_homographies,
    transfer_gains,
    transfer_monomials,
)
from rfp.robust.inputs import check_inputs
from rfp.robust.model import FARTHEST_UNSCALED, Problems, in_batch, make_problems
from rfp.robust.normalization import normalize_problems
from rfp.robust.options import RansacOptions
from rfp.robust.ransac import SampleSource, num_distinct, ransac

# Four matches fit a homography exactly.
_LEAST_INLIERS = 5

HOMOGRAPHY_OPTIONS = RansacOptions(
    num_hypotheses=2048, resample_rounds=0, num_scoring_points=48, num_refined=2, refinement_iterations=4
)
"""What suits homographies: four points are solved in a fraction of a microsecond, so samples are cheap. A wrong H has
hardly an inlier beside its own four (both coordinates must fit by chance), so samples from its inliers find nothing
new: where inliers are few, many samples without a second stage find far more than few samples with one. A right one is
refined in a few steps."""


@torch.no_grad()
def estimate_homography(
    x1: Float[Tensor, "*B N 2"],
    x2: Float[Tensor, "*B N 2"],
    *,
    max_error: float | Float[Tensor, "*B"],
    options: RansacOptions = HOMOGRAPHY_OPTIONS,
    valid: Bool[Tensor, "*B N"] | None = None,
    weight: Float[Tensor, "*B N"] | None = None,
    samples: Int[Tensor, "*B H 4"] | None = None,
    sampling_weight: Float[Tensor, "*B N"] | None = None,
    generator: torch.Generator | None,
) -> Homography:
    """Homographies ``x2 ~ H x1`` of a batch of problems, each with its own samples.

    Minimal samples of four distinct matches are solved (``rfp.geometry.homography.four_point``), all candidates scored
    by MSAC on a subset of the matches, the best of them on all, the best of those optimised locally. Only matches in
    front of the second camera count, ``w > 0``. Points may be in any unit and from any origin: they are brought to the
    size of one inside. Map coordinates, far from the origin, want float64: float32 rounds them, and H. With ``samples``
    given, the homography of a problem depends neither on the batch around it nor, ties apart, on the tile.

    A problem without a homography (fewer than five distinct inliers, inliers at one place or on a line in one of the
    images, mirror images) comes back with ``valid`` false, H = I / √3 and no inliers. Four matches fit some homography
    exactly, whatever they are; the fifth is the first that says anything. Not differentiable.

    Args:
        options: ``HOMOGRAPHY_OPTIONS`` by default: more samples than for relative pose, and no second stage.
        max_error: Sampson distance of an inlier, in the unit of the points: how far the four coordinates of a match
            are from fitting exactly. Where H neither magnifies nor shrinks, that is 1 / √2 of the distance between x2
            and the image of x1, which OpenCV and PoseLib compare with their thresholds. A threshold below the rounding
            of the points (in float32, 1e-7 of their spread) has no homography.
        valid: which of the N slots hold a match; values under a false mask are ignored, NaN included.
            Points that are not finite are no match either.
        weight: how often each match counts in sampling and scoring, 1 by default and 1e12 at most.
        samples: indices of minimal samples, drawn from ``sampling_weight`` or else ``weight`` if not given.
        sampling_weight: how often each match is drawn into the first samples, without a say in the scores:
            ``weights_of_order``, say. Not with ``samples`` or an early stop, which know of ``weight`` alone.
        generator: of the samples, on the device of ``x1``; None only if ``samples`` are given.

    Raises:
        InputError: shapes, dtypes or devices that do not go together, neither samples nor a generator.

    >>> generator = torch.Generator().manual_seed(0)
    >>> x1 = 640 * torch.rand(3, 50, 2)
    >>> found = estimate_homography(x1, 2 * x1 + 1, max_error=1.0, generator=generator)
    >>> found.H.shape, bool(found.inliers.all())
    (torch.Size([3, 3, 3]), True)
    """
    model = HomographyModel()
    check_inputs(
        x1,
        x2,
        sample_size=model.sample_size,
        max_error=max_error,
        valid=valid,
        weight=weight,
        samples=samples,
        sampling_weight=sampling_weight,
        generator=generator,
    )
    points = torch.cat((x1, x2), dim=-1)
    given = make_problems(points, max_error, valid, weight, farthest=FARTHEST_UNSCALED)
    problems, centre, scale = normalize_problems(given)
    problems = _above_rounding(problems)
    source = SampleSource(problems, model.sample_size, options, samples, generator, sampling_weight)
    if source.empty:
        state, gain = problems.data.new_zeros((len(problems.data), 9)), torch.zeros_like(problems.weight)
    else:
        state, gain = ransac(problems, model, source, options)
    return in_batch(_homography(state, gain, problems, centre, scale), x1.shape[:-2])


@dataclass(frozen=True)
class HomographyModel:
    """Homographies as the RANSAC loop's model: candidates and states are H row by row, ‖H‖ = 1."""

    sample_size: int = 4
    final_width: float = 4.0

    def solve(self, sampled: Float[Tensor, "4 4 T"]) -> tuple[Float[Tensor, "9 1 T"], Bool[Tensor, "1 T"]]:
        """``four_point``."""
        H, valid = four_point_planes(sampled[:, :2], sampled[:, 2:])
        return H[:, None], valid[None]

    def tables(self, problems: Problems) -> TransferMonomials:
        """Monomials of the matches."""
        return transfer_monomials(problems.data, problems.weight, problems.max_error)

    def gains(self, candidates: Float[Tensor, "P 9 C"], tables: TransferMonomials) -> Float[Tensor, "P C N"]:
        """Of the Sampson distance, in front of the camera."""
        return transfer_gains(candidates, tables, weighted=False)

    def lift(
        self, candidates: Float[Tensor, "P 9 C"], tables: TransferMonomials
    ) -> tuple[Float[Tensor, "P C 9"], Float[Tensor, "P C N"]]:
        """The candidates themselves."""
        return candidates.transpose(1, 2), transfer_gains(candidates, tables)

    def polish(
        self, states: Float[Tensor, "P L 9"], tables: TransferMonomials, scales: tuple[float, ...]
    ) -> tuple[Float[Tensor, "P L 9"], Float[Tensor, "P L N"]]:
        """Refined on the Sampson distance."""
        H = refine_homographies(states, tables, scales=scales)
        return H, transfer_gains(H.transpose(1, 2), tables)


def _homography(state: Tensor, gain: Tensor, problems: Problems, centre: Tensor, scale: Tensor) -> Homography:
    """In the unit of the points as they were given, ``T2⁻¹ H T1``; a failure where nothing supports it."""
    inliers = gain > 0
    off_lines = [_off_a_line(points, inliers, problems.max_error) for points in problems.data.split(2, dim=-1)]
    valid = (num_distinct(problems.data, inliers) >= _LEAST_INLIERS) & (torch.minimum(*off_lines) >= 2)
    identity = torch.eye(3, dtype=torch.float64, device=state.device)
    centre, scale = centre.double(), scale.double()
    back = similarity(-centre[:, 2:] * scale[:, None], 1 / scale)
    H = torch.where(valid[:, None, None], state.double().unflatten(-1, (3, 3)), identity)
    H = torch.where(valid[:, None, None], product(product(back, H), similarity(centre[:, :2], scale)), identity)
    H = H / H.square().sum(dim=(-2, -1), keepdim=True).sqrt()
    return Homography(
        H=H.to(state.dtype),
        inliers=inliers & valid[:, None],
        score=torch.where(valid, gain.sum(dim=1), 0),
        valid=valid,
    )


def _above_rounding(problems: Problems) -> Problems:
    """Without the matches of problems whose threshold is below the rounding of points of the size of one."""
    sensible = problems.max_error > torch.finfo(problems.max_error.dtype).eps
    weight = torch.where(sensible[:, None], problems.weight, torch.zeros_like(problems.weight))
    threshold = torch.where(sensible, problems.max_error, torch.ones_like(problems.max_error))
    return Problems(problems.data, weight, threshold)


def _off_a_line(
    points: Float[Tensor, "P N 2"], inliers: Bool[Tensor, "P N"], max_error: Float[Tensor, "P"]
) -> Int[Tensor, "P"]:
    """How many inliers are farther than two thresholds from the line that most of them are on.

    Fewer than two leave a homography open: with those of a line, many others fit as well. The line is the least squares
    one, with Cauchy weights that take it from the points off it in a few rounds.
    """
    limit = 2 * max_error[:, None]
    x, y = points.unbind(-1)
    weight, distance = inliers.to(points.dtype), torch.zeros_like(x)
    for _ in range(6):
        share = weight / weight.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
        dx, dy = (value - (value * share).sum(dim=1, keepdim=True) for value in (x, y))
        xx, xy, yy = ((product * share).sum(dim=1, keepdim=True) for product in (dx * dx, dx * dy, dy * dy))
        angle = torch.atan2(2 * xy, xx - yy) / 2
        distance = (dy * angle.cos() - dx * angle.sin()).abs()
        weight = inliers / (1 + (distance / limit).square())
    return (inliers & (distance > limit)).sum(dim=1)
