"""Laws of matches by reciprocal choice: every outcome of a small problem is enumerated, with its probability."""

import itertools

import pytest
import torch

from rfp.policy.match_expectation import every_candidate, expected_value_of_keypoints, match_expectation
from rfp.policy.matches import MatchOptions, draw_matches, match_distribution, match_noise_shape
from rfp.records import InputError

OPTIONS = MatchOptions(candidates="reciprocal", temperature=0.5)
VALID1 = torch.tensor([True, True])
VALID2 = torch.tensor([True, False, True, True])  # so that a masked one lies between the others


def problem():
    generator = torch.Generator().manual_seed(2)
    d1, d2 = (torch.randn(1, 1, k, 3, generator=generator, dtype=torch.float64) for k in (2, 4))
    d1, d2 = (torch.nn.functional.normalize(d, dim=-1).requires_grad_() for d in (d1, d2))
    return d1, d2, match_distribution(d1, d2, VALID1[None, None], VALID2[None, None], OPTIONS)


def choice_probabilities(d1, d2):
    """By plain loops: of each valid key point, the probabilities of its partners, image 1 before image 2."""
    similarity = (d1[0, 0] @ d2[0, 0].T).detach() / 0.5
    rows = [torch.where(VALID2, row, float("-inf")).softmax(0).tolist() for row in similarity]
    columns = [torch.where(VALID1, column, float("-inf")).softmax(0).tolist() for column in similarity.T]
    return rows, columns


def every_outcome(d1, d2):
    """(uniforms that lead to it, its probability, its matches) of all joint choices."""
    rows, columns = choice_probabilities(d1, d2)
    all_choices = [[j for j in range(4) if VALID2[j]]] * 2 + [[0, 1] if VALID2[j] else [0] for j in range(4)]
    for choice in itertools.product(*all_choices):
        uniforms, probability = [], 1.0
        for key_point, partner in enumerate(choice):
            p = rows[key_point] if key_point < 2 else columns[key_point - 2]
            uniforms.append(sum(p[:partner]) + p[partner] / 2)
            if key_point < 2 or VALID2[key_point - 2]:
                probability *= p[partner]
        agreed = [(i, choice[i]) for i in range(2) if choice[2 + choice[i]] == i]
        yield uniforms, probability, agreed


def all_drawn():
    d1, d2, distribution = problem()
    uniforms, probability, agreed = zip(*every_outcome(d1, d2))
    noise = torch.tensor(uniforms, dtype=torch.float64)[None, None]
    matches = draw_matches(distribution, noise, VALID1.sum()[None, None], OPTIONS.num_slots(2), OPTIONS)
    return d1, d2, distribution, matches, torch.tensor(probability, dtype=torch.float64), agreed


def test_matches_are_where_two_choose_each_other_and_every_choice_is_in_the_log_probability():
    *_, matches, probability, agreed = all_drawn()
    assert probability.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert len({tuple(pairs) for pairs in agreed}) > 5
    for t, expected in enumerate(agreed):
        keep = matches.valid[0, 0, t]
        got = list(zip(matches.index1[0, 0, t][keep].tolist(), matches.index2[0, 0, t][keep].tolist(), strict=True))
        assert got == expected
    assert torch.equal(matches.count, matches.valid.long())
    torch.testing.assert_close(matches.log_prob[0, 0].exp(), probability)
    assert matches.num_candidates.tolist() == [[2 * 3]]


def test_the_score_of_the_draws_gives_the_gradient_of_any_black_box_reward():
    """Σ P(outcome) r(matches) by autograd of plain softmaxes, against Σ P r ∇ log P of the records."""
    d1, d2, _, matches, probability, agreed = all_drawn()
    values = (3.0, -1.0, 0.5, 2.0, -2.0, 1.0, 4.0, 0.1)
    table = dict(zip(sorted({tuple(pairs) for pairs in agreed}), values))
    reward = torch.tensor([table.get(tuple(pairs), 0.7) for pairs in agreed], dtype=torch.float64)

    logits = (d1[0, 0] @ d2[0, 0].T / 0.5)[:, VALID2]
    rows, columns = logits.softmax(1), logits.softmax(0)
    exact = torch.zeros((), dtype=torch.float64)
    for forward in itertools.product(range(3), repeat=2):
        for backward in itertools.product(range(2), repeat=3):
            p = rows[0, forward[0]] * rows[1, forward[1]]
            for j, i in enumerate(backward):
                p = p * columns[i, j]
            original = (0, 2, 3)
            pairs = tuple((i, original[forward[i]]) for i in range(2) if backward[forward[i]] == i)
            exact = exact + p * table.get(pairs, 0.7)
    expected = torch.autograd.grad(exact, (d1, d2), retain_graph=True)
    got = torch.autograd.grad((probability * reward * matches.log_prob[0, 0]).sum(), (d1, d2))
    for a, b in zip(got, expected, strict=True):
        assert b.abs().max() > 1e-2
        torch.testing.assert_close(a, b)


def test_the_expected_sum_over_slots_is_exact_and_its_gradient_that_of_the_draws():
    d1, _, distribution, matches, probability, _ = all_drawn()
    values = torch.arange(8, dtype=torch.float64).reshape(1, 1, 1, 8) - 2.5
    control = match_expectation(distribution, matches, values, 4, OPTIONS, "slot")
    torch.testing.assert_close((control.sampled[0, 0, 0] * probability).sum(), control.expected[0, 0, 0].detach())
    expected = torch.autograd.grad((probability * control.sampled * matches.log_prob).sum(), d1, retain_graph=True)
    (got,) = torch.autograd.grad(control.expected.sum(), d1, retain_graph=True)
    assert got.abs().max() > 1e-2
    torch.testing.assert_close(got, expected[0])
    with pytest.raises(InputError, match="a reward per slot"):
        match_expectation(distribution, matches, values, 4, OPTIONS)


def test_the_probabilities_of_the_candidates_sum_to_the_expected_number_of_matches():
    *_, distribution, _, probability, agreed = all_drawn()
    number = sum(p * len(pairs) for p, pairs in zip(probability.tolist(), agreed, strict=True))
    assert distribution.log_p.exp().sum().item() == pytest.approx(number, abs=1e-12)
    assert torch.equal(distribution.valid[0, 0].reshape(2, 4), VALID2.expand(2, 4))
    everyone = every_candidate(distribution)
    assert everyone.index1[0, 0, 0].tolist() == [0, 0, 0, 0, 1, 0, 1, 1]
    assert everyone.index2[0, 0, 0].tolist() == [0, 0, 2, 3, 0, 0, 2, 3]


def test_the_choices_of_all_key_points_stand_in_one_table():
    *_, distribution, _, _, _ = all_drawn()
    log_p, there = distribution.choices()
    assert log_p.shape == there.shape == (1, 6, 4)
    total = torch.where(there, log_p.exp(), 0).sum(-1)[0]
    torch.testing.assert_close(total, torch.tensor([1.0, 1, 1, 0, 1, 1], dtype=torch.float64))


def test_one_uniform_a_choice():
    assert match_noise_shape(OPTIONS, 3, 20) == (3, 40)
    assert OPTIONS.num_slots(20) == 20


def test_values_that_depend_on_the_network_have_their_own_part_in_the_gradient():
    """d/dθ of Σ P(outcome) a(outcome; θ): the probabilities do not depend on θ, and the values of its matches do."""
    _, _, distribution, matches, probability, agreed = all_drawn()
    theta = torch.linspace(0.1, 0.8, 8, dtype=torch.float64).requires_grad_()
    control = match_expectation(distribution, matches, theta.sin()[None, None, None], 4, OPTIONS, "slot")
    assert not control.sampled.requires_grad
    (got,) = torch.autograd.grad(control.expected.sum(), theta)
    slope = torch.zeros(8, dtype=torch.float64)
    for p, pairs in zip(probability, agreed, strict=True):
        for i, j in pairs:
            slope[4 * i + j] += p * theta.detach().cos()[4 * i + j] / 2
    assert slope.max() > 0.05
    torch.testing.assert_close(got, slope)


def test_what_the_matches_of_each_key_point_are_worth_is_its_mean_over_all_outcomes():
    d1, _, distribution, matches, probability, agreed = all_drawn()
    values = torch.linspace(0.1, 0.8, 8, dtype=torch.float64)
    got = expected_value_of_keypoints(distribution, matches, values[None, None, None], 4, "slot")[0, 0, 0, :2]
    expected = torch.zeros(2, dtype=torch.float64)
    for p, pairs in zip(probability, agreed, strict=True):
        for i, j in pairs:
            expected[i] += p * values[4 * i + j] / 2
    torch.testing.assert_close(got.detach(), expected)
    assert torch.autograd.grad(got[0], d1)[0].abs().max() > 1e-3
