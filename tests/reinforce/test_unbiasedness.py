"""The expected gradient of the surrogate equals the exact gradient, by enumeration of every joint outcome.

A problem small enough to enumerate: key points are drawn from two or three pixels, then matches among two candidates
whose probabilities depend on the key points. S = T = 3 draws on each level, nested.
"""

import pytest
import torch

from rfp.records import InputError
from rfp.reinforce.baselines import nested_advantages
from rfp.reinforce.control_variate import coefficient_of_others, controlled_match_advantages
from rfp.reinforce.reward_memory import RewardMemory
from rfp.reinforce.surrogate import surrogate_loss, surrogate_per_pair
from tests.reinforce.enumeration import EnumerableProblem

S = T = 3


@pytest.mark.parametrize("replacement", [True, False], ids=["with_replacement", "plackett_luce"])
@pytest.mark.parametrize(
    ("baseline", "factors"),
    [
        ("leave_one_out", (1.0, 1.0)),
        ("all_others", (1.0, 1.0)),
        ("none", (1.0, 1.0)),
        ("mean", (2 / 3, 2 / 3)),
    ],
)
def test_expected_gradient_is_the_exact_one_times_the_documented_factor(replacement, baseline, factors):
    problem = EnumerableProblem(replacement)
    exact = problem.exact_gradient()
    expected = problem.expected_gradient(lambda *args: surrogate_per_pair(*args, baseline=baseline))
    for factor, a, b in zip(factors, expected, exact, strict=True):
        assert b.abs().max() > 1e-2
        torch.testing.assert_close(a, factor * b, rtol=0, atol=1e-10)


def test_a_presence_mask_in_place_of_counts_is_biased():
    problem = EnumerableProblem(True, count_draws=False)
    exact = problem.exact_gradient()
    expected = problem.expected_gradient(lambda *args: surrogate_per_pair(*args, baseline="leave_one_out"))
    for a, b in zip(expected, exact, strict=True):
        assert (a - b).abs().max() > 1e-3


def test_flat_leave_one_out_shrinks_the_key_point_term_to_three_quarters():
    """One baseline over the eight other rewards: two of them share the key points, so a quarter of the signal goes."""

    def flat(reward, log_x, log_m):
        n = S * T
        total = reward.sum(dim=(-2, -1), keepdim=True)
        advantage = reward - (total - reward) / (n - 1)
        return -(advantage.mean(-1) * log_x).mean(-1) - (advantage * log_m).mean(dim=(-2, -1))

    problem = EnumerableProblem(False)
    exact = problem.exact_gradient()
    expected = problem.expected_gradient(flat)
    torch.testing.assert_close(expected[0], 0.75 * exact[0], rtol=0, atol=1e-10)
    assert (expected[0] - exact[0]).abs().max() > 1e-3


def assert_exact(expected, exact, factors=(1.0, 1.0)):
    for a, b, factor in zip(expected, exact, factors, strict=True):
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, factor * b, rtol=0, atol=1e-10)


def test_all_other_draws_are_a_baseline_for_a_single_draw_of_matches():
    problem = EnumerableProblem(True, num_x=3, num_m=1)
    expected = problem.expected_gradient(lambda *args: surrogate_per_pair(*args, baseline="all_others"))
    assert_exact(expected, problem.exact_gradient())
    with pytest.raises(InputError, match="all_others expected at least 2 draws"):
        nested_advantages(torch.zeros(1, 3), "all_others")


@pytest.mark.parametrize("geometry", ["true", "independent_draw"])
@pytest.mark.parametrize("coefficient", [0.0, 0.5, 1.0, "estimated"])
@pytest.mark.parametrize("baseline", ["none", "leave_one_out", "all_others", "self_critical", "mean"])
def test_a_control_variate_leaves_the_expected_gradient_as_it_is(baseline, coefficient, geometry):
    problem = EnumerableProblem(True, num_x=2, num_m=3)
    x, m, probability = problem.joint_outcomes()
    reward, log_x, log_m = problem.rolled(x, m)
    control = problem.control(x, m, geometry)
    if coefficient == "estimated":
        coefficient = coefficient_of_others(reward[:, None], of_one_pair(control))[:, 0]
        assert coefficient.std() > 0.1
    value = surrogate_per_pair(
        reward,
        log_x,
        log_m,
        baseline=baseline,
        reference=torch.full_like(reward[:, 0, 0], -0.7),
        control=control,
        coefficient=coefficient,
    )
    factors = (1 / 2, 2 / 3) if baseline == "mean" else (1.0, 1.0)
    assert_exact(problem.gradient(probability, value), problem.exact_gradient(), factors)


def of_one_pair(control):
    return type(control)(sampled=control.sampled[:, None], expected=control.expected[:, None])


def test_values_under_the_draw_s_own_estimate_are_biased_as_their_name_says():
    problem = EnumerableProblem(True, num_x=2, num_m=2)
    x, m, probability = problem.joint_outcomes()
    value = surrogate_per_pair(*problem.rolled(x, m), control=problem.control(x, m, "own_estimate_biased"))
    expected = problem.gradient(probability, value)
    assert (expected[1] - problem.exact_gradient()[1]).abs().max() > 1e-2


def test_the_coefficient_may_come_from_other_pairs_but_not_from_the_draw_itself():
    """Two pairs of one draw of key points each; every joint outcome of both."""
    problem = EnumerableProblem(True, num_x=1, num_m=2)
    x, m, p = problem.joint_outcomes()
    one, two = torch.cartesian_prod(torch.arange(len(x)), torch.arange(len(x))).unbind(-1)
    both = torch.stack([one, two], dim=1)
    x, m, probability = x[both], m[both], p[both].prod(-1)  # (outcomes, pairs, S, ...)
    reward, log_x, log_m = problem.rolled(x, m)
    control = problem.control(x, m)

    def expected(coefficient):
        value = surrogate_per_pair(reward, log_x, log_m, baseline="none", control=control, coefficient=coefficient)
        return problem.gradient(probability, value.mean(-1))

    assert_exact(expected(coefficient_of_others(reward, control)), problem.exact_gradient())
    of_itself = coefficient_of_others(reward, control).flip(1)
    assert (expected(of_itself)[1] - problem.exact_gradient()[1]).abs().max() > 1e-3


def test_an_additive_reward_with_its_expectation_leaves_no_noise_of_the_matches():
    problem = EnumerableProblem(True, num_x=2, num_m=2)
    problem.reward = problem.additive()
    x, m, probability = problem.joint_outcomes()
    reward, log_x, log_m = problem.rolled(x, m)
    control = problem.control(x, m)
    torch.testing.assert_close(control.sampled[:, :, 0], reward)
    for baseline in ("none", "leave_one_out"):
        advantages = controlled_match_advantages(reward, control, 1.0, baseline)
        torch.testing.assert_close(advantages, torch.zeros_like(advantages))
    value = surrogate_per_pair(reward, log_x, log_m, control=control, coefficient=1.0)
    assert_exact(problem.gradient(probability, value), problem.exact_gradient())


def remembered(problem, *, updated_before: bool):
    """Two steps on one pair: the rewards of the first are what the second one reads."""
    x, m, p = problem.joint_outcomes()
    first, second = torch.cartesian_prod(torch.arange(len(x)), torch.arange(len(x))).unbind(-1)
    probability = p[first] * p[second]
    reward, log_x, log_m = problem.rolled(x[second], m[second])
    # Each joint outcome is a pair of its own in the memory, which is what it would be in a run of that outcome.
    memory, number = RewardMemory(len(first), decay=0.5), torch.arange(len(first))
    valid = torch.ones(len(first), dtype=torch.bool)
    memory.update(number, problem.rolled(x[first], m[first])[0], valid)
    if updated_before:
        memory.update(number, reward, valid)
    return probability, (reward, log_x, log_m), *memory.read(number)


def test_a_moving_average_read_before_it_is_updated_is_unbiased_and_after_it_is_not():
    problem = EnumerableProblem(True, num_x=2, num_m=1)
    for updated_before in (False, True):
        probability, rolled, reference, _ = remembered(problem, updated_before=updated_before)
        assert reference.std() > 0.1
        value = surrogate_per_pair(*rolled, baseline="moving_average", reference=reference.double())
        for a, b in zip(problem.gradient(probability, value), problem.exact_gradient(), strict=True):
            if updated_before:
                assert (a - b).abs().max() > 1e-2
            else:
                torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_rewards_normalised_by_earlier_ones_keep_the_direction_of_every_pair():
    problem = EnumerableProblem(True, num_x=2, num_m=1)
    for updated_before in (False, True):
        probability, rolled, _, spread = remembered(problem, updated_before=updated_before)
        weight = 1.0 / spread.double()
        value = surrogate_per_pair(*rolled, baseline="all_others") * weight
        factor = (probability * weight).sum()
        for a, b in zip(problem.gradient(probability, value), problem.exact_gradient(), strict=True):
            if updated_before:
                assert (a - factor * b).abs().max() > 1e-2
            else:
                torch.testing.assert_close(a, factor * b, rtol=0, atol=1e-6)


def test_the_weights_of_pairs_multiply_their_surrogates():
    reward, log_x, log_m = torch.rand(3, 2, 2), torch.rand(3, 2), torch.rand(3, 2, 2)
    valid, weight = torch.tensor([True, True, False]), torch.tensor([2.0, 0.5, 9.0])
    each = surrogate_per_pair(reward, log_x, log_m)
    loss = surrogate_loss(reward, log_x, log_m, valid=valid, weight=weight)
    torch.testing.assert_close(loss, (2 * each[0] + each[1] / 2) / 2)


def test_a_reference_that_is_missing_is_asked_for():
    for baseline in ("moving_average", "self_critical"):
        with pytest.raises(InputError, match="expected the reference"):
            nested_advantages(torch.zeros(2, 3, 3), baseline)
