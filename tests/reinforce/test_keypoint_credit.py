"""Laws of the credit of single key points."""

import itertools

import pytest
import torch

from rfp.policy.categorical import draw_without_replacement, log_inclusion
from rfp.reinforce.keypoint_credit import own_match_surrogate

LOGITS = torch.tensor([2.0, 1.0, 0.3, 0.0, -0.5, -1.0], dtype=torch.float64)
VALUES = torch.tensor([0.1, 1.0, 0.2, 0.9, 0.5, 0.0], dtype=torch.float64)
K = 3


def inclusion_probabilities(logits):
    """P that each of the candidates is among K draws without replacement, over every ordered outcome."""
    total = [torch.zeros((), dtype=logits.dtype)] * len(logits)
    for outcome in itertools.permutations(range(len(logits)), K):
        log_prob, left = torch.zeros((), dtype=logits.dtype), list(range(len(logits)))
        for drawn in outcome:
            log_prob = log_prob + logits[drawn] - torch.logsumexp(logits[left], 0)
            left.remove(drawn)
        for drawn in outcome:
            total[drawn] = total[drawn] + log_prob.exp()
    return torch.stack(total)


def many_draws(log_p, number=100_000):
    uniforms = torch.rand(number, len(log_p), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    index, drawn, threshold = draw_without_replacement(log_p, torch.ones(len(log_p), dtype=torch.bool), uniforms, K)
    return index, log_inclusion(log_p, index, drawn, threshold)


def surrogate_of(values, inclusion):
    """Of draws in image 1, nothing in image 2."""
    nothing = torch.zeros_like(values)
    sides = torch.stack([values, nothing], dim=-2)[None]
    both = torch.stack([inclusion, nothing], dim=-2)[None]
    return own_match_surrogate(sides, both, torch.stack([values == values, nothing > 0], dim=-2)[None]).sum()


def test_the_probability_of_inclusion_has_the_slope_that_it_has_over_all_outcomes():
    log_p = LOGITS.log_softmax(0).requires_grad_()
    exact = torch.autograd.functional.jacobian(inclusion_probabilities, LOGITS)
    index, inclusion = many_draws(log_p)
    assert (inclusion <= 0).all()
    (slope,) = torch.autograd.grad(inclusion.sum() / len(index), log_p)
    torch.testing.assert_close(slope, exact.diagonal(), atol=3e-3, rtol=0)


def test_the_gradient_points_where_that_of_the_expected_sum_over_drawn_key_points_does():
    log_p = LOGITS.log_softmax(0).requires_grad_()
    exact = VALUES @ torch.autograd.functional.jacobian(inclusion_probabilities, LOGITS)
    index, inclusion = many_draws(log_p)
    (gradient,) = torch.autograd.grad(-surrogate_of(VALUES[index], inclusion), log_p)
    assert torch.cosine_similarity(gradient, exact, dim=0) > 0.95
    assert gradient.sum().abs() < 1e-9, "all log heat may move together"


def test_alike_key_points_and_certain_ones_have_no_part():
    log_p = LOGITS.log_softmax(0).requires_grad_()
    index, inclusion = many_draws(log_p, 50)
    (gradient,) = torch.autograd.grad(surrogate_of(torch.full(index.shape, 0.7).double(), inclusion), log_p)
    assert gradient.abs().max() < 1e-9
    certain = torch.tensor([40.0, 0.0, 0.1, 0.2], dtype=torch.float64).log_softmax(0).requires_grad_()
    uniforms = torch.rand(50, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    everyone = torch.ones(4, dtype=torch.bool)
    index, drawn, threshold = draw_without_replacement(certain, everyone, uniforms, 2)
    inclusion = log_inclusion(certain, index, drawn, threshold)
    worth = torch.tensor([9.0, 1.0, 2.0, 3.0], dtype=torch.float64)[index]
    (gradient,) = torch.autograd.grad(surrogate_of(worth, inclusion), certain)
    assert gradient.isfinite().all()
    assert gradient[0].abs() < 1e-6


def test_all_candidates_drawn_leave_nothing_to_learn():
    log_p = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    uniforms = torch.full((1, 2), 0.5, dtype=torch.float64)
    index, drawn, threshold = draw_without_replacement(log_p, torch.ones(2, dtype=torch.bool), uniforms, K)
    assert drawn.tolist() == [[True, True, False]]
    inclusion = log_inclusion(log_p, index, drawn, threshold)
    (gradient,) = torch.autograd.grad(surrogate_of(torch.tensor([[1.0, 2.0, 0.0]]).double(), inclusion), log_p)
    assert gradient.tolist() == [0.0, 0.0]


def test_masked_slots_have_no_part():
    generator = torch.Generator().manual_seed(0)
    value = torch.rand(1, 2, 2, 5, generator=generator)
    inclusion = (-torch.rand(1, 2, 2, 5, generator=generator)).requires_grad_()
    valid = torch.zeros(1, 2, 2, 5, dtype=torch.bool)
    valid[0, 0, 0, :3] = True
    (gradient,) = torch.autograd.grad(own_match_surrogate(value, inclusion, valid).sum(), inclusion)
    assert (gradient[~valid] == 0).all()
    pi = inclusion[0, 0, 0, :3].detach().exp()
    slope = -torch.log1p(-pi) * (1 - pi) / pi
    three = value[0, 0, 0, :3]
    expected = -(three - (slope * three).sum() / slope.sum()) / 2  # the mean over two draws
    torch.testing.assert_close(gradient[0, 0, 0, :3], expected)
    assert expected.abs().min().item() != pytest.approx(0.0)
