"""MSAC scores of candidate essential matrices, with the Sampson distance as two matrix products.

The epipolar residual ``x2ᵀ E x1`` is linear in the nine products of coordinates of a match. The denominator of the
Sampson distance is linear in eleven monomials of a match, with coefficients quadratic in E. Both tables are computed
once for all candidates.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.robust.model import Problems

# MKL sums in another order when a product has few rows, and rounds by the alignment of a row that is left over: with a
# multiple of this it depends neither on the batch nor on the tile.
_ROWS_TOGETHER = 16
_HALF_QUANTILE = 0.5 * 3.8414588206941245  # χ² with one degree of freedom, 95 %


@dataclass(frozen=True)
class MatchMonomials:
    """What the scores need to know about N matches of each of P problems."""

    epipolar: Float[Tensor, "P 9 N"]
    denominator: Float[Tensor, "P 11 N"]
    """In units of the threshold: the squared Sampson distance of an inlier is below 1."""
    weight: Float[Tensor, "P N"]
    max_error: Float[Tensor, "P"]

    @property
    def ray1(self) -> Float[Tensor, "P 3 N"]:
        """``(x1, 1)``, which is among the products of coordinates."""
        return self.epipolar[:, 6:]

    @property
    def ray2(self) -> Float[Tensor, "P 3 N"]:
        """``(x2, 1)``."""
        return self.epipolar[:, 2::3]


def match_monomials(
    x1: Float[Tensor, "P N 2"],
    x2: Float[Tensor, "P N 2"],
    weight: Float[Tensor, "P N"],
    max_error: Float[Tensor, "P"],
) -> MatchMonomials:
    """The tables of monomials. Masked matches come with weight zero and finite points."""
    u1, v1, u2, v2 = x1[..., 0], x1[..., 1], x2[..., 0], x2[..., 1]
    one = torch.ones_like(u1)
    epipolar = torch.stack((u2 * u1, u2 * v1, u2, v2 * u1, v2 * v1, v2, u1, v1, one), dim=1)
    denominator = torch.stack((u1 * u1, u1 * v1, v1 * v1, u1, v1, u2 * u2, u2 * v2, v2 * v2, u2, v2, one), dim=1)
    return MatchMonomials(epipolar, denominator * (max_error * max_error)[:, None, None], weight, max_error)


def denominator_form(A: Float[Tensor, "P 9 *C"], B: Float[Tensor, "P 9 *C"]) -> Float[Tensor, "P 11 *C"]:
    """Coefficients of the Sampson denominator's monomials, as the symmetric bilinear form in two matrices.

    ``form(E, E)`` are the coefficients for E, ``2 form(E, dE)`` their derivative along dE.
    """
    a, b = A.unbind(1), B.unbind(1)

    def dot(i: int, j: int, k: int, m: int) -> Tensor:
        """Twice the symmetrised product of entries i and j, plus that of entries k and m."""
        return a[i] * b[j] + a[j] * b[i] + a[k] * b[m] + a[m] * b[k]

    def square(i: int, k: int) -> Tensor:
        return a[i] * b[i] + a[k] * b[k]

    return torch.stack(
        (
            *(square(0, 3), dot(0, 1, 3, 4), square(1, 4), dot(0, 2, 3, 5), dot(1, 2, 4, 5)),
            *(square(0, 1), dot(0, 3, 1, 4), square(3, 4), dot(0, 6, 1, 7), dot(3, 6, 4, 7)),
            square(2, 5) + square(6, 7),
        ),
        dim=1,
    )


def table_product(coefficients: Float[Tensor, "P k C"], table: Float[Tensor, "P k N"]) -> Float[Tensor, "P C N"]:
    """``coefficientsᵀ table`` for each problem, with the same rounding for every number of rows and problems."""
    rows = coefficients.shape[-1]
    if rows % _ROWS_TOGETHER:
        coefficients = torch.nn.functional.pad(coefficients, (0, -rows % _ROWS_TOGETHER))
    return torch.bmm(coefficients.transpose(1, 2), table)[:, :rows]


def squared_errors(E: Float[Tensor, "P 9 C"], matches: MatchMonomials) -> Float[Tensor, "P C N"]:
    """Squared Sampson distances in units of the threshold, for C candidates of each problem."""
    residual = table_product(E, matches.epipolar)
    denominator = table_product(denominator_form(E, E), matches.denominator)
    return residual.square_().div_(denominator.clamp_min_(torch.finfo(residual.dtype).tiny))


def msac_gains(E: Float[Tensor, "P 9 C"], matches: MatchMonomials, *, weighted: bool = True) -> Float[Tensor, "P C N"]:
    """What each match adds to the MSAC score of a candidate, ``wᵢ max(0, 1 - eᵢ²)``: positive for inliers alone."""
    gain = squared_errors(E, matches).clamp_max_(1).neg_().add_(1)
    return gain.mul_(matches.weight[:, None]) if weighted else gain


def scoring_subset(weight: Float[Tensor, "P N"], size: int) -> Int[Tensor, "P size"]:
    """Indices of ``size`` matches spread evenly over the cumulated weights: each stands for the same weight.

    Systematic sampling with a golden-ratio offset inside each stratum, so that no period in the order of the matches
    can hide from it. Deterministic: all candidates and all tiles are compared on the same matches.
    """
    ends = weight.double().cumsum(dim=-1)
    position = torch.arange(size, device=weight.device, dtype=torch.float64)
    place = (position + (position * 0.6180339887498949).frac()) / size
    index = torch.searchsorted(ends, place * ends[:, -1:], right=True)
    return index.clamp_max_(weight.shape[-1] - 1)


class EpipolarModel:
    """What essential and fundamental matrices share as models of the loop: the Sampson distance of nine numbers."""

    def tables(self, problems: Problems) -> MatchMonomials:
        """Monomials of the matches."""
        return match_monomials(problems.data[..., :2], problems.data[..., 2:], problems.weight, problems.max_error)

    def gains(self, candidates: Float[Tensor, "P 9 C"], tables: MatchMonomials) -> Float[Tensor, "P C N"]:
        """Of the Sampson distance, whatever the cheirality."""
        return msac_gains(candidates, tables, weighted=False)


def shaped_gains(
    gain: Float[Tensor, "P C n"], weight: Float[Tensor, "P n"], score: Literal["msac", "likelihood"]
) -> Float[Tensor, "P C n"]:
    """Weighted MSAC gains ``w (1 - e²)`` as those of another score, zero where they are zero.

    "likelihood": the log-likelihood ratio of an inlier, e normal with e = 1 its 95 % quantile, and an outlier, e
    uniform, that are mixed so as to be equally likely at e = 1: ``log(1 + exp(½ k (1 - e²)))`` with k = 3.84, moved and
    scaled to 1 at e = 0 and 0 at e = 1. (P. Torr and A. Zisserman, MLESAC, 2000, eq. 14.)
    """
    if score == "msac":
        return gain
    counts = torch.where(weight > 0, weight, torch.ones_like(weight))[:, None]
    at_zero, at_threshold = math.log1p(math.exp(_HALF_QUANTILE)), math.log(2)
    ratio = torch.nn.functional.softplus(gain / counts * _HALF_QUANTILE).sub_(at_threshold)
    return ratio.mul_(counts / (at_zero - at_threshold)).mul_(gain > 0)
