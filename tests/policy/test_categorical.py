"""Laws of the draws and of their log-probabilities."""

import itertools
import math

import pytest
import torch

from rfp.policy.categorical import (
    MASKED_LOG_PROBABILITY,
    distinct_draws,
    draw_with_replacement,
    draw_without_replacement,
    log_prob_with_replacement,
    log_prob_without_replacement,
    log_probabilities,
)

LOGITS = torch.tensor([0.3, -1.2, 0.9, 5.0, 0.1], dtype=torch.float64)
VALID = torch.tensor([True, True, True, False, True])


def uniforms(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chi_square(observed: torch.Tensor, expected: torch.Tensor) -> float:
    keep = expected > 0
    assert observed[~keep].sum() == 0
    return float(((observed - expected)[keep] ** 2 / expected[keep]).sum())


def test_probabilities_sum_to_one_over_the_valid_candidates():
    for mixing in (0.0, 0.3):
        log_p = log_probabilities(LOGITS, VALID, uniform_mixing=mixing)
        assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
        assert log_p[3] == MASKED_LOG_PROBABILITY
    assert log_probabilities(LOGITS, VALID, uniform_mixing=0.3).exp().min() >= 0  # masked
    assert log_probabilities(LOGITS, VALID, uniform_mixing=0.3)[VALID].exp().min() > 0.3 / 4


def test_a_masked_candidate_gets_no_gradient_even_from_nan():
    logits = LOGITS.clone()
    logits[3] = float("nan")
    logits.requires_grad_()
    log_probabilities(logits, VALID)[VALID].square().sum().backward()
    assert logits.grad is not None
    assert logits.grad[3] == 0
    assert logits.grad.isfinite().all()


def test_draws_with_replacement_follow_the_distribution():
    log_p = log_probabilities(LOGITS, VALID)
    index = draw_with_replacement(log_p, VALID, uniforms(1, 40_000))
    observed = index.flatten().bincount(minlength=5).double()
    # 3 degrees of freedom: above 16.3 in one of a thousand runs
    assert chi_square(observed, torch.where(VALID, log_p.exp(), 0) * 40_000) < 16.3


def test_the_ends_of_the_uniforms_never_draw_a_candidate_of_mass_zero():
    valid = torch.tensor([False, True, True, False])
    log_p = log_probabilities(torch.zeros(4, dtype=torch.float64), valid)
    ends = torch.tensor([[0.0, 0.5, 1.0 - 2.0**-24]], dtype=torch.float64)
    assert draw_with_replacement(log_p, valid, ends).tolist() == [[1, 2, 2]]


def test_ordered_draws_without_replacement_follow_plackett_luce():
    log_p = log_probabilities(LOGITS, VALID)
    n = 40_000
    index, drawn, _ = draw_without_replacement(log_p, VALID, uniforms(n, 5), 2)
    assert drawn.all()
    outcomes = list(itertools.permutations([0, 1, 2, 4], 2))
    observed = torch.tensor([((index == torch.tensor(o)).all(-1)).sum() for o in outcomes]).double()
    draws = torch.tensor(outcomes)
    log_prob = log_prob_without_replacement(log_p, draws, torch.ones_like(draws, dtype=torch.bool))
    assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert chi_square(observed, log_prob.exp() * n) < 31.3  # 11 degrees of freedom, one in a thousand


def test_log_probability_without_replacement_equals_the_product_of_conditionals():
    log_p = log_probabilities(LOGITS, VALID)
    p = log_p.exp()
    index = torch.tensor([[2, 0, 4, 1]])
    expected, remaining = 0.0, 1.0
    for i in index[0].tolist():
        expected += math.log(p[i] / remaining)
        remaining -= p[i].item()
    got = log_prob_without_replacement(log_p, index, torch.ones_like(index, dtype=torch.bool))
    assert got.item() == pytest.approx(expected, abs=1e-12)


def test_log_probability_without_replacement_keeps_its_digits_when_little_mass_remains():
    """log(1 - cumulative) in float32 would be log(0)."""
    logits = torch.tensor([40.0, 0.0, 0.0])
    log_p = log_probabilities(logits, torch.ones(3, dtype=torch.bool))
    got = log_prob_without_replacement(log_p, torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool))
    assert got.item() == pytest.approx(math.log(0.5), abs=1e-5)  # float32 at -40 has steps of 4e-6


def test_a_draw_ends_where_candidates_run_out():
    log_p = log_probabilities(LOGITS, VALID)
    index, drawn, _ = draw_without_replacement(log_p, VALID, uniforms(3, 5), 7)
    assert drawn.sum(-1).tolist() == [4, 4, 4]
    assert index.shape == (3, 7)
    full = log_prob_without_replacement(log_p, index[:, :4], drawn[:, :4])
    torch.testing.assert_close(log_prob_without_replacement(log_p, index, drawn), full)


def test_an_ended_draw_leaves_the_undrawn_candidates_in_the_normaliser():
    log_p = log_probabilities(LOGITS, VALID)
    index, drawn = torch.tensor([[2, 0, 1]]), torch.tensor([[True, True, False]])
    expected = log_prob_without_replacement(log_p, index[:, :2], drawn[:, :2])
    torch.testing.assert_close(log_prob_without_replacement(log_p, index, drawn), expected)


def test_a_row_without_candidates_gives_log_one_and_zero_gradient():
    logits = torch.zeros(4, requires_grad=True)
    nothing = torch.zeros(4, dtype=torch.bool)
    log_p = log_probabilities(logits, nothing)
    index, drawn, _ = draw_without_replacement(log_p, nothing, torch.rand(2, 4), 3)
    with_replacement = distinct_draws(draw_with_replacement(log_p, nothing, torch.rand(2, 3)), drawn)
    total = log_prob_without_replacement(log_p, index, drawn).sum()
    total = total + log_prob_with_replacement(log_p, with_replacement.index, with_replacement.count).sum()
    total.backward()
    assert total == 0
    assert not drawn.any()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_distinct_draws_count_each_candidate_once():
    index = torch.tensor([[4, 1, 4, 4, 0, 1], [2, 2, 2, 2, 2, 2]])
    drawn = torch.tensor([[True] * 5 + [False], [True] * 6])
    draws = distinct_draws(index, drawn)
    for row, expected in zip(range(2), ({0: 1, 1: 1, 4: 3}, {2: 6}), strict=True):
        keep = draws.valid[row]
        assert dict(zip(draws.index[row][keep].tolist(), draws.count[row][keep].tolist(), strict=True)) == expected
    assert (draws.count * ~draws.valid).sum() == 0


def test_log_probability_with_replacement_counts_repetitions():
    log_p = log_probabilities(LOGITS, VALID)
    index = torch.tensor([[2, 2, 0, 2]])
    draws = distinct_draws(index, torch.ones_like(index, dtype=torch.bool))
    got = log_prob_with_replacement(log_p, draws.index, draws.count)
    torch.testing.assert_close(got, log_p[index].sum(-1))
    presence = log_prob_with_replacement(log_p, draws.index, draws.valid.long())
    assert (presence - got).abs() > 0.5  # the original's defect


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,)])
def test_batch_dimensions_are_free(batch):
    log_p = log_probabilities(LOGITS.expand(*batch, 5), VALID.expand(*batch, 5))
    valid = VALID.expand(*batch, 5)
    index, drawn, _ = draw_without_replacement(log_p, valid, uniforms(*batch, 3, 5), 2)
    assert log_prob_without_replacement(log_p, index, drawn).shape == (*batch, 3)
    with_replacement = draw_with_replacement(log_p, valid, uniforms(*batch, 3, 2))
    draws = distinct_draws(with_replacement, torch.ones_like(with_replacement, dtype=torch.bool))
    assert log_prob_with_replacement(log_p, draws.index, draws.count).shape == (*batch, 3)
