"""What the draws of matches are worth where every match has a value of its own: in each draw, and expected, exactly.

a(M) = Σ n_i v_i / n for n draws with replacement, so that E[a | X] = Σ p_i v_i, differentiable in the descriptors
through p, and through v in what the values depend on. No draw is needed for it; REINFORCE is left with what does not
add over matches. Of matches whose number is left to chance only the sum adds: a(M) = Σ n_i v_i / M with M slots, and
E[a | X] = Σ P_i v_i / M.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.policy.matches import MatchDistribution, MatchOptions
from rfp.policy.reciprocal import ReciprocalDistribution
from rfp.records import InputError, Matches, MatchExpectation


def every_candidate(distribution: MatchDistribution | ReciprocalDistribution) -> Matches:
    """All candidates as the matches of one draw, each counted once: what deployment hands the estimator."""
    count = distribution.valid.long()

    def as_one_draw(values: Int[Tensor, "*B S C"]) -> Int[Tensor, "*B S 1 C"]:
        return torch.where(distribution.valid, values, 0).unsqueeze(-2)

    return Matches(
        index1=as_one_draw(distribution.index1),
        index2=as_one_draw(distribution.index2),
        count=count.unsqueeze(-2),
        valid=distribution.valid.unsqueeze(-2),
        log_prob=distribution.log_p.new_zeros((*count.shape[:-1], 1)),
        num_candidates=count.sum(dim=-1),
    )


def match_expectation(
    distribution: MatchDistribution | ReciprocalDistribution,
    matches: Matches,
    values: Float[Tensor, "*B S V C"],
    num_keypoints2: int,
    options: MatchOptions,
    per: Literal["match", "slot"] = "match",
) -> MatchExpectation:
    """a of each draw and E[a | X], for V sets of values of the candidates. Exact, or refused.

    A draw of no matches at all is worth 0, as is its expectation.

    Args:
        values: v_i of each candidate. Where they depend on the network themselves, ∇E[a | X] has its Σ p_i ∇v_i, too.
        num_keypoints2: slots of key points in image 2, by which candidates of "all" pairs are numbered.
        per: Whether a divides the sum by the number of matches drawn, or by that of the slots for them.

    Raises:
        InputError: as ``check_exact``.
    """
    check_exact(options, per)
    values = torch.where(distribution.valid.unsqueeze(-2), values, 0.0)
    drawn = matches.index1 if options.one_each else matches.index1 * num_keypoints2 + matches.index2
    num_draws, num_slots = drawn.shape[-2:]
    index = drawn.flatten(-2).unsqueeze(-2).expand(*values.shape[:-1], num_draws * num_slots)
    of_matches = values.detach().gather(-1, index).unflatten(-1, (num_draws, num_slots))
    count = matches.count.to(values.dtype).unsqueeze(-3)
    divisor = count.sum(dim=-1).clamp_min(1.0) if per == "match" else num_slots
    sampled = (of_matches * count).sum(dim=-1) / divisor
    p = distribution.log_p.exp().unsqueeze(-2)
    expected = (p * values).sum(dim=-1) * _expected_number(distribution, matches, per).unsqueeze(-1)
    return MatchExpectation(sampled=sampled, expected=expected)


def expected_value_of_keypoints(
    distribution: MatchDistribution | ReciprocalDistribution,
    matches: Matches,
    values: Float[Tensor, "*B S V C"],
    num_keypoints: int,
    per: Literal["match", "slot"] = "match",
) -> Float[Tensor, "*B S 2 K"]:
    """What the matches of each key point add to E[a | X], in image 1 and in image 2; the mean over V.

    A match is counted for both of its key points, so that the sums over either image are E[a | X]. Differentiable as
    that is.

    Args:
        num_keypoints: Slots of either image.
    """
    p = torch.where(distribution.valid, distribution.log_p.exp(), 0.0)
    worth = p * values.mean(dim=-2) * _expected_number(distribution, matches, per).unsqueeze(-1)
    nothing = worth.new_zeros((*worth.shape[:-1], num_keypoints))
    sides = (nothing.scatter_add(-1, index, worth) for index in (distribution.index1, distribution.index2))
    return torch.stack(tuple(sides), dim=-2)


def _expected_number(
    distribution: MatchDistribution | ReciprocalDistribution, matches: Matches, per: Literal["match", "slot"]
) -> Float[Tensor, "*B S"]:
    """What Σ p_i v_i is multiplied by to give E[a | X]: draws over divisor, both known from the key points alone."""
    p, num_slots = distribution.log_p, matches.index1.shape[-1]
    if isinstance(distribution, ReciprocalDistribution):  # its probabilities sum to the number of matches already
        return p.new_full(p.shape[:-1], 1.0 / num_slots)
    if per == "match":
        return p.new_ones(p.shape[:-1])
    return matches.count[..., 0, :].sum(dim=-1).to(p.dtype) / num_slots


def check_exact(options: MatchOptions, per: Literal["match", "slot"]) -> None:
    """Refuse draws and values whose expectation is not Σ p_i v_i times what the key points alone decide.

    Raises:
        InputError: draws without replacement, whose shares of each match have no closed form; a mean over matches
            whose number is left to chance.
    """
    if options.candidates == "reciprocal":
        if per != "slot":
            raise InputError(
                "an exact expectation over reciprocal matches expected a reward per slot (their number is left to "
                'chance), got one per match; choose "disk_count" or give the reward per="slot"'
            )
    elif not options.replacement:
        raise InputError(
            "an exact expectation over matches expected draws with replacement, got replacement=False in the matches; "
            "draw with replacement or leave the additive reward out"
        )
