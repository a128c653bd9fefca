"""What the draws of matches are worth where every match has a value of its own: in each draw, and expected, exactly.

a(M) = Σ n_i v_i / n for n draws with replacement, so that E[a | X] = Σ p_i v_i, differentiable in the descriptors
through p. No draw is needed for it; REINFORCE is left with what does not add over matches.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.policy.matches import MatchDistribution, MatchOptions
from rfp.records import InputError, Matches, MatchExpectation


def every_candidate(distribution: MatchDistribution) -> Matches:
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
    distribution: MatchDistribution,
    matches: Matches,
    values: Float[Tensor, "*B S V C"],
    num_keypoints2: int,
    options: MatchOptions,
) -> MatchExpectation:
    """a of each draw and E[a | X], for V sets of values of the candidates. Exact for draws with replacement.

    A draw of no matches at all is worth 0, as is its expectation.

    Args:
        values: v_i of each candidate; detached here.
        num_keypoints2: slots of key points in image 2, by which candidates of "all" pairs are numbered.

    Raises:
        InputError: draws without replacement, whose shares of each match have no closed form.
    """
    check_exact(options)
    values = torch.where(distribution.valid.unsqueeze(-2), values.detach(), 0.0)
    drawn = matches.index1 if options.one_each else matches.index1 * num_keypoints2 + matches.index2
    num_draws, num_slots = drawn.shape[-2:]
    index = drawn.flatten(-2).unsqueeze(-2).expand(*values.shape[:-1], num_draws * num_slots)
    of_matches = values.gather(-1, index).unflatten(-1, (num_draws, num_slots))
    count = matches.count.to(values.dtype).unsqueeze(-3)
    sampled = (of_matches * count).sum(dim=-1) / count.sum(dim=-1).clamp_min(1.0)
    p = distribution.log_p.exp().unsqueeze(-2)
    return MatchExpectation(sampled=sampled, expected=(p * values).sum(dim=-1))


def check_exact(options: MatchOptions) -> None:
    """Refuse draws whose expectation is not Σ p_i v_i.

    Raises:
        InputError: draws without replacement.
    """
    if not options.replacement:
        raise InputError(
            "an exact expectation over matches expected draws with replacement, got replacement=False in the matches; "
            "draw with replacement or leave the additive reward out"
        )
