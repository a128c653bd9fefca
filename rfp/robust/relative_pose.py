"""Relative poses of a batch of calibrated two-view problems, and the same as the task of a training step."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.geometry.camera import normalized_threshold
from rfp.geometry.essential import decompose_essential
from rfp.geometry.five_point import five_point_planes
from rfp.geometry.pose import essential_from_pose
from rfp.records import Correspondences, InputError, RelativePose
from rfp.robust.cheirality import choose_twins
from rfp.robust.evidence import translation_is_determined
from rfp.robust.inputs import check_inputs
from rfp.robust.minimal_samples import draw_minimal_samples
from rfp.robust.model import Problems, in_batch, make_problems
from rfp.robust.options import RansacOptions
from rfp.robust.ransac import SampleSource, num_distinct, ransac, spread
from rfp.robust.refinement import refine_poses, sampson_jacobian
from rfp.robust.scoring import EpipolarModel, MatchMonomials


@torch.no_grad()
def estimate_relative_pose(
    x1: Float[Tensor, "*B N 2"],
    x2: Float[Tensor, "*B N 2"],
    *,
    max_error: float | Float[Tensor, "*B"],
    options: RansacOptions = RansacOptions(),  # noqa: B008 (frozen)
    valid: Bool[Tensor, "*B N"] | None = None,
    weight: Float[Tensor, "*B N"] | None = None,
    samples: Int[Tensor, "*B H 5"] | None = None,
    sampling_weight: Float[Tensor, "*B N"] | None = None,
    generator: torch.Generator | None,
) -> RelativePose:
    """Relative poses ``X2 = R @ X1 + t`` of a batch of problems, each with its own samples.

    Minimal samples of five distinct matches are solved (``rfp.five_point``), all candidates scored by MSAC on a subset
    of the matches, the best of them on all, the best of those optimised locally. Where all matches are scored, only
    those in front of both cameras count, in the one of the four poses of an essential matrix that has most of them.
    With ``samples`` given, the pose of a problem depends neither on the batch around it nor, ties apart, on the tile.

    A problem without a pose (fewer than six valid matches, all at one place, no consistent model, fewer than six
    distinct inliers that move by more than three thresholds beside the rotation, or no more of them than chance gives
    to a camera that only turns) comes back with ``valid`` false, R = I,
    t = (0, 0, 1), E = 0 and no inliers. Not differentiable.

    Args:
        max_error: Sampson distance of an inlier, in normalised units (see ``normalized_threshold``).
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
    >>> x1, x2 = torch.rand(3, 50, 2), torch.rand(3, 50, 2)
    >>> estimate_relative_pose(x1, x2, max_error=0.002, generator=generator).R.shape
    torch.Size([3, 3, 3])
    """
    model = EssentialModel()
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
    problems = make_problems(torch.cat((x1, x2), dim=-1), max_error, valid, weight)
    source = SampleSource(problems, model.sample_size, options, samples, generator, sampling_weight)
    if source.empty:
        pose = _failure(problems)
    else:
        pose = _pose(*ransac(problems, model, source, options), problems)
    return in_batch(pose, x1.shape[:-2])


@torch.no_grad()
def relative_pose_covariance(
    pose: RelativePose,
    x1: Float[Tensor, "*B N 2"],
    x2: Float[Tensor, "*B N 2"],
    *,
    sigma: float | Float[Tensor, "*B"] | None = None,
    weight: Float[Tensor, "*B N"] | None = None,
) -> Float[Tensor, "*B 5 5"]:
    """Covariances of estimated poses to first order, ``σ² (Σ w Jᵀ J)⁻¹`` over the inliers, J of the Sampson distance.

    The five parameters are those of a refinement step: a rotation vector in radians that turns the second camera (from
    the left), and the direction of t along the two axes of ``tangent_basis(t)``. It tells how far noise of the inliers
    moves the optimum, and nothing about a wrong model. Zero where it is not defined: no valid pose, or inliers that
    leave a direction open. (R. Hartley and A. Zisserman, Multiple View Geometry, 2004, result 5.10.)

    Args:
        sigma: standard deviation of the coordinates in normalised units; by default that of the inliers' Sampson
            distances, ``sqrt(Σ w e² / (Σ w - 5))``.
        weight: as it was given to the estimate.
    """
    batch = x1.shape[:-2]
    counts = torch.ones_like(x1[..., 0]) if weight is None else weight
    problems = make_problems(torch.cat((x1, x2), dim=-1), 1.0, pose.inliers, counts)
    R, t = pose.R.reshape(-1, 1, 3, 3).to(problems.data), pose.t.reshape(-1, 1, 3).to(problems.data)
    matches = EssentialModel().tables(problems)
    error, jacobian = (values[:, 0].double() for values in sampson_jacobian(R, t, matches))
    jacobian, counts = jacobian.transpose(1, 2), matches.weight.double()
    if sigma is None:
        variance = (counts * error.square()).sum(dim=1) / (counts.sum(dim=1) - 5).clamp_min(1)
    else:
        variance = (sigma.double().reshape(-1) if isinstance(sigma, Tensor) else error.new_full((), sigma)).square()
    inverse, determined = _inverse((jacobian * counts[..., None]).transpose(1, 2) @ jacobian)
    usable = pose.valid.reshape(-1) & determined & torch.isfinite(variance)
    covariance = variance[..., None, None] * inverse
    covariance = torch.where(usable[:, None, None], covariance, torch.zeros_like(covariance))
    return covariance.to(pose.R.dtype).reshape(*batch, 5, 5)


def _inverse(information: Float[Tensor, "P 5 5"]) -> tuple[Float[Tensor, "P 5 5"], Bool[Tensor, "P"]]:
    """The inverses, and whether no direction is open: every pivot, of the matrix with a unit diagonal, is above 1e-9.

    Rounding leaves a direction that nothing measures a pivot of 1e-16, or of the other sign, instead of zero.
    """
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.clamp_min(torch.finfo(diagonal.dtype).tiny).rsqrt()
    scale = scale[..., None] * scale[..., None, :]
    triangle, failed = torch.linalg.cholesky_ex(information * scale)  # unlike cholesky, it does not wait for the device
    determined = (failed == 0) & (triangle.diagonal(dim1=-2, dim2=-1).square() > 1e-9).all(dim=-1)
    identity = torch.eye(5, dtype=triangle.dtype, device=triangle.device)
    triangle = torch.where(determined[:, None, None], triangle, identity)
    return torch.cholesky_inverse(triangle) * scale, determined


@dataclass(frozen=True)
class EssentialModel(EpipolarModel):
    """Essential matrices as the RANSAC loop's model: candidates are E row by row, states are R row by row and t."""

    sample_size: int = 5
    final_width: float = 2.0

    def solve(self, sampled: Float[Tensor, "5 4 T"]) -> tuple[Float[Tensor, "9 10 T"], Bool[Tensor, "10 T"]]:
        """``five_point``."""
        return five_point_planes(sampled[:, :2], sampled[:, 2:])

    def lift(
        self, candidates: Float[Tensor, "P 9 C"], tables: MatchMonomials
    ) -> tuple[Float[Tensor, "P C 12"], Float[Tensor, "P C N"]]:
        """The best of the four poses of each E; only matches in front of both cameras gain."""
        R, t = decompose_essential(candidates.transpose(1, 2).unflatten(-1, (3, 3)))
        return _with_best_twin(R[:, :, 0], t[:, :, 0], tables)

    def polish(
        self, states: Float[Tensor, "P L 12"], tables: MatchMonomials, scales: tuple[float, ...]
    ) -> tuple[Float[Tensor, "P L 12"], Float[Tensor, "P L N"]]:
        """Refined on the Sampson distance."""
        R, t = refine_poses(states[..., :9].unflatten(-1, (3, 3)), states[..., 9:], tables, scales=scales)
        return _with_best_twin(R, t, tables)


def _with_best_twin(R: Tensor, t: Tensor, tables: MatchMonomials) -> tuple[Tensor, Tensor]:
    R, t, gain = choose_twins(R, t, tables)
    return torch.cat((R.flatten(-2), t), dim=-1), gain


def _pose(state: Tensor, gain: Tensor, problems: Problems) -> RelativePose:
    """The pose with its inliers and score; a failure where nothing supports it."""
    R, t = state[:, :9].unflatten(-1, (3, 3)), state[:, 9:]
    inliers = gain > 0
    points = problems.data
    wide = torch.minimum(spread(points[..., :2], inliers), spread(points[..., 2:], inliers)) > 4 * problems.max_error
    moves = _moves(R, problems)
    # Five matches fit up to ten matrices exactly: it takes a sixth, and not a repetition, to tell them apart.
    valid = wide & (num_distinct(points, inliers & moves) >= 6) & torch.isfinite(state).all(dim=1)
    valid = valid & translation_is_determined(inliers, problems.weight > 0, moves, _chance(problems))
    failure = _failure(problems)
    return RelativePose(
        R=torch.where(valid[:, None, None], R, failure.R),
        t=torch.where(valid[:, None], t, failure.t),
        E=torch.where(valid[:, None, None], essential_from_pose(R, t), failure.E),
        inliers=inliers & valid[:, None],
        score=torch.where(valid, gain.sum(dim=1), failure.score),
        valid=valid,
    )


def _moves(R: Tensor, problems: Problems) -> Tensor:
    """Whether (P, N) a match is further from where the rotation alone takes it than three thresholds.

    Where the camera only turns, noise decides the translation: any t fits, and none is an estimate.
    """
    x1, x2 = problems.data[..., :2], problems.data[..., 2:]
    turned = [R[:, row, :1] * x1[..., 0] + R[:, row, 1:2] * x1[..., 1] + R[:, row, 2:] for row in range(3)]
    across = torch.stack((turned[0] - x2[..., 0] * turned[2], turned[1] - x2[..., 1] * turned[2]))
    return across.square().sum(dim=0) > (3 * problems.max_error[:, None] * turned[2].clamp_min(0)).square()


def _chance(problems: Problems) -> Tensor:
    """Of a wrong match to lie in the band around its epipolar line, at most.

    The threshold by the mean absolute deviation of the points, a quarter of the side of the box that they fill, in the
    image in which they are nearer together.
    """
    usable = (problems.weight > 0)[..., None]
    number = usable.sum(dim=1, keepdim=True).clamp_min(1)
    distance = problems.data - (problems.data * usable).sum(dim=1, keepdim=True) / number
    deviation = ((distance.abs() * usable).sum(dim=1) / number[:, 0]).unflatten(-1, (2, 2)).mean(dim=-1).amin(dim=-1)
    return problems.max_error / deviation.clamp_min(torch.finfo(deviation.dtype).tiny)


def _failure(problems: Problems) -> RelativePose:
    data = problems.data
    num_problems = data.shape[0]
    t = data.new_zeros((num_problems, 3))
    t[:, 2] = 1
    return RelativePose(
        R=torch.eye(3, dtype=data.dtype, device=data.device).repeat(num_problems, 1, 1),
        t=t,
        E=data.new_zeros((num_problems, 3, 3)),
        inliers=torch.zeros_like(problems.weight, dtype=torch.bool),
        score=data.new_zeros(num_problems),
        valid=torch.zeros_like(problems.max_error, dtype=torch.bool),
    )


class RelativePoseEstimator:
    """RANSAC on the five-point solver as a ``TaskEstimator``: a black box, nothing flows back through it.

    Raises:
        InputError: the threshold is not a positive number.
    """

    def __init__(
        self,
        max_error_px: float = 1.0,
        options: RansacOptions = RansacOptions(),  # noqa: B008 (frozen)
        *,
        common_random_numbers: bool = False,
    ):
        if not (math.isfinite(max_error_px) and max_error_px > 0):
            raise InputError(f"expected max_error_px above 0 pixels and finite, got {max_error_px}; try 1")
        self.max_error_px = max_error_px
        """Threshold of the inliers in pixels, made a normalised one from the cameras of each problem."""
        self.options = options
        self.common_random_numbers = common_random_numbers

    def __repr__(self) -> str:
        return (
            f"RelativePoseEstimator({self.max_error_px}, {self.options}, "
            f"common_random_numbers={self.common_random_numbers})"
        )
        """All draws of a pair use the noise of its first one. Matches are in the order of their key points in image 1,
        so that draws with mostly the same matches get mostly the same samples, and their rewards differ by what was
        drawn rather than by the estimator's luck. Each draw's own distribution is as before."""

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape of the U(0, 1) noise that one problem consumes: one number a match of a minimal sample."""
        return self.options.num_hypotheses, 5

    def __call__(self, correspondences: Correspondences, noise: Float[Tensor, "*B num_hypotheses 5"]) -> RelativePose:
        """Relative poses of a batch of problems; each depends on its own matches and noise alone.

        With common random numbers the batch is (B, S, T): pairs, draws of key points, draws of matches.
        """
        batch = correspondences.x1.shape[:-2]
        if noise.shape[:-2] != batch or noise.shape[-1:] != (5,):
            raise InputError(
                f"expected noise of shape {(*batch, *self.noise_shape)}, got {tuple(noise.shape)}; draw "
                "noise_shape for each problem"
            )
        if self.common_random_numbers:
            if noise.dim() != 5:
                raise InputError(
                    f"common random numbers expected a batch (pairs, draws, draws), got {tuple(noise.shape[:-2])}; "
                    "give three dimensions or leave the option off"
                )
            noise = noise[..., :1, :1, :, :].expand_as(noise)
        weight = correspondences.weight.where(correspondences.valid, 0)
        samples, _ = draw_minimal_samples(noise, weight)
        return estimate_relative_pose(
            correspondences.x1,
            correspondences.x2,
            max_error=normalized_threshold(self.max_error_px, correspondences.K1, correspondences.K2),
            options=self.options,
            valid=correspondences.valid,
            weight=weight,
            samples=samples,
            generator=None,
        )
