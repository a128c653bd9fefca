"""Fundamental matrices of a batch of uncalibrated two-view problems."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.geometry.direct_linear import similarity
from rfp.geometry.seven_point import seven_point_planes
from rfp.records import FundamentalMatrix
from rfp.robust.dominant_plane import dominant_plane, epipoles_beside_plane
from rfp.robust.evidence import is_determined
from rfp.robust.fundamental_refinement import refine_fundamental, retract
from rfp.robust.inputs import check_inputs
from rfp.robust.model import FARTHEST_UNSCALED, Problems, in_batch, make_problems, slices_in_memory
from rfp.robust.normalization import normalize_problems
from rfp.robust.options import RansacOptions
from rfp.robust.ransac import SampleSource, ransac
from rfp.robust.scoring import EpipolarModel, MatchMonomials, msac_gains, shaped_gains
from rfp.robust.search import subset_tables

# Of the search for epipoles beside a dominant plane. A second round finds a better plane; where inliers are few the two
# save many of the problems that RANSAC alone gets wrong, and further rounds hardly any.
_ROUNDS, _NUM_REFINED, _SCALES, _NUM_SCORING_POINTS = 2, 2, (3.0, 3.0, 2.0, 2.0), 128
_NUM_MODELS = 32  # whose tensors over all matches stand for what that search takes

FUNDAMENTAL_OPTIONS = RansacOptions(num_hypotheses=256, num_resampled=16, resamples=16, num_scoring_points=192)
"""What suits fundamental matrices: a sample of seven is seldom free of outliers, so that it takes more of them than of
five, and more matches to see which models are a little better than chance."""


@torch.no_grad()
def estimate_fundamental(
    x1: Float[Tensor, "*B N 2"],
    x2: Float[Tensor, "*B N 2"],
    *,
    max_error: float | Float[Tensor, "*B"],
    options: RansacOptions = FUNDAMENTAL_OPTIONS,
    valid: Bool[Tensor, "*B N"] | None = None,
    weight: Float[Tensor, "*B N"] | None = None,
    samples: Int[Tensor, "*B H 7"] | None = None,
    sampling_weight: Float[Tensor, "*B N"] | None = None,
    generator: torch.Generator | None,
) -> FundamentalMatrix:
    """Fundamental matrices, ``x2ᵀ F x1 = 0``, of a batch of problems, each with its own samples.

    Minimal samples of seven distinct matches are solved (``seven_point``), all candidates scored by MSAC on a subset of
    the matches, the best of them on all, the best of those optimised locally. Then the plane that holds most inliers of
    the best is found and epipoles from pairs of matches beside it compete with it, because a plane fits any epipole
    (DEGENSAC); at low inlier ratios this finds many an F that RANSAC missed. With ``samples`` given, the F of a problem
    depends neither on the batch around it nor, ties apart, on the tile.

    What the matches do not determine is rejected: ``valid`` is false, F = 0 and there are no inliers where the inliers
    are no more than chance gives, or those beside their dominant plane are no more (a camera that only turns gives a
    plane, too). A match within three thresholds of the plane belongs to it, so that a scene with little relief has no
    F. Seven matches are never enough. Matches of a ruled quadric through both cameras, which leave up to three
    matrices, are not told apart. Not differentiable.

    Args:
        x1: in any unit and from any origin: the points are normalised inside. Map coordinates, far from the origin,
            want float64: float32 rounds them, and F.
        options: ``FUNDAMENTAL_OPTIONS`` by default: more samples than for relative pose, and more scoring points.
        max_error: Sampson distance of an inlier, in the unit of the points.
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
    >>> x1, x2 = 500 * torch.rand(3, 50, 2), 500 * torch.rand(3, 50, 2)
    >>> estimate_fundamental(x1, x2, max_error=1.0, generator=generator).valid
    tensor([False, False, False])
    """
    model = FundamentalModel()
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
    source = SampleSource(problems, model.sample_size, options, samples, generator, sampling_weight)
    if source.empty or problems.weight.shape[1] <= model.sample_size:
        F, gain = problems.data.new_zeros((len(problems.data), 9)), torch.zeros_like(problems.weight)
        determined = torch.zeros_like(problems.max_error, dtype=torch.bool)
    else:
        F, gain = ransac(problems, model, source, options)
        F, gain, determined = _beside_planes(F, gain, problems, model, options)
    T1, T2 = similarity(centre[:, :2], scale), similarity(centre[:, 2:], scale)
    return in_batch(_found(_in_given_unit(F, T1, T2), gain, determined), x1.shape[:-2])


@dataclass(frozen=True)
class FundamentalModel(EpipolarModel):
    """Fundamental matrices as the RANSAC loop's model: candidates and states are F row by row.

    Points must be of the order of 1.
    """

    sample_size: int = 7
    final_width: float = 2.0

    def solve(self, sampled: Float[Tensor, "7 4 T"]) -> tuple[Float[Tensor, "9 3 T"], Bool[Tensor, "3 T"]]:
        """``seven_point``."""
        return seven_point_planes(sampled[:, :2], sampled[:, 2:])

    def lift(
        self, candidates: Float[Tensor, "P 9 C"], tables: MatchMonomials
    ) -> tuple[Float[Tensor, "P C 9"], Float[Tensor, "P C N"]]:
        """The candidates themselves."""
        return candidates.transpose(1, 2), msac_gains(candidates, tables)

    def polish(
        self, states: Float[Tensor, "P L 9"], tables: MatchMonomials, scales: tuple[float, ...]
    ) -> tuple[Float[Tensor, "P L 9"], Float[Tensor, "P L N"]]:
        """Refined on the Sampson distance."""
        F = refine_fundamental(states, tables, scales=scales)
        return F, msac_gains(F.transpose(1, 2), tables)


def _beside_planes(
    F: Tensor, gain: Tensor, problems: Problems, model: FundamentalModel, options: RansacOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """The better of each F and those of its plane's other epipoles, its gains, and whether it is determined.

    Chunk by chunk of problems, to bound the memory.
    """
    parts = []
    for chunk in slices_in_memory(problems, _NUM_MODELS):
        best, gains = F[chunk], gain[chunk]
        for _ in range(_ROUNDS):
            best, gains = _best_epipole(best, gains, problems[chunk], model, options)
        parts.append((best, gains, _determined(best, gains > 0, problems[chunk])))
    F, gain, determined = (torch.cat(part) for part in zip(*parts))
    return F, gain, determined


def _best_epipole(
    F: Tensor, gain: Tensor, problems: Problems, model: FundamentalModel, options: RansacOptions
) -> tuple[Tensor, Tensor]:
    """Each F or, if it gains more, another that has its dominant plane; and the gains."""
    H, on_plane = dominant_plane(F, gain > 0, problems.data, problems.max_error)
    weight = problems.weight * ~on_plane
    candidates = epipoles_beside_plane(H, weight > 0, problems.data, F)
    beside = Problems(problems.data, weight, problems.max_error)  # all of the candidates fit the plane
    few = subset_tables(beside, model, _NUM_SCORING_POINTS)
    index = model.gains(candidates, few).sum(dim=-1).topk(_NUM_REFINED, dim=1).indices
    states = candidates.take_along_dim(index[:, None], dim=2).transpose(1, 2)
    states, gains = model.polish(states, model.tables(problems), _SCALES)
    gains = shaped_gains(gains, problems.weight, options.score)
    states, gains = torch.cat((F[:, None], states), dim=1), torch.cat((gain[:, None], gains), dim=1)
    best = gains.sum(dim=-1).argmax(dim=1)[:, None, None]
    return states.take_along_dim(best, dim=1)[:, 0], gains.take_along_dim(best, dim=1)[:, 0]


def _determined(F: Tensor, inliers: Tensor, problems: Problems) -> Tensor:
    """Whether neither chance nor a plane explains the inliers.

    A wrong match is one by chance if it lies in the band around its epipolar line: no more than ``max_error`` of the
    area of normalised points, whose median distance from the centre is one along each axis.
    """
    _, on_plane = dominant_plane(F, inliers, problems.data, problems.max_error)
    determined = is_determined(inliers, problems.weight > 0, on_plane, problems.max_error)
    return determined & (F != 0).any(dim=1) & torch.isfinite(F).all(dim=1)  # F = 0 fits everything


def _in_given_unit(F: Tensor, T1: Tensor, T2: Tensor) -> Tensor:
    """``T2ᵀ F T1`` (P, 3, 3) at rank 2 and norm 1, in the dtype of F: computed in float64, as pixels ask for it."""
    matrix = F.double().unflatten(-1, (3, 3))
    product = (matrix[..., :, :, None] * T1[..., None, :, :]).sum(dim=-2)
    product = (T2[..., :, :, None] * product[..., :, None, :]).sum(dim=-3)
    return retract(product.flatten(1), torch.zeros_like(product.flatten(1))).unflatten(-1, (3, 3)).to(F.dtype)


def _found(F: Tensor, gain: Tensor, valid: Tensor) -> FundamentalMatrix:
    score = gain.sum(dim=1)
    return FundamentalMatrix(
        F=torch.where(valid[:, None, None], F, torch.zeros_like(F)),
        inliers=(gain > 0) & valid[:, None],
        score=torch.where(valid, score, torch.zeros_like(score)),
        valid=valid,
    )
