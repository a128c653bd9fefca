"""Laws of the figures that a training step logs: limits, invariances, and what a mask leaves out."""

import math

import pytest
import torch

from rfp.policy.categorical import log_probabilities
from rfp.reinforce.diagnostics import (
    HISTOGRAM_PREFIX,
    are_among,
    choice_statistics,
    draw_statistics,
    keypoint_statistics,
    masked_quantiles,
)

VALID = torch.tensor([True, True])


def generator():
    return torch.Generator().manual_seed(3)


def test_a_uniform_choice_has_full_entropy_and_as_many_effective_candidates_as_there_are():
    candidate = torch.tensor([[[True] * 5 + [False] * 3]]).expand(2, 1, 8)
    figures = choice_statistics(log_probabilities(torch.zeros(2, 1, 8), candidate), candidate, VALID, name="x")
    assert figures["entropy_x"] == pytest.approx(math.log(5))
    assert figures["entropy_share_x"] == pytest.approx(1.0)
    assert figures["effective_x"] == pytest.approx(5.0)


def test_a_certain_choice_has_no_entropy_and_one_effective_candidate_and_none_has_zero():
    certain = torch.tensor([[[100.0, 0.0, 0.0]]])
    candidate = torch.ones(1, 1, 3, dtype=torch.bool)
    figures = choice_statistics(log_probabilities(certain, candidate), candidate, VALID[:1], name="x")
    assert [round(float(value), 5) for value in figures.values()] == [0.0, 0.0, 1.0]
    figures = choice_statistics(log_probabilities(certain, ~candidate), ~candidate, VALID[:1], name="x")
    assert [float(value) for value in figures.values()] == [0.0, 0.0, 0.0]


def test_entropy_is_the_textbook_one():
    logits = torch.randn(2, 3, 7, generator=generator())
    candidate = torch.ones_like(logits, dtype=torch.bool)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    figures = choice_statistics(log_probabilities(logits, candidate), candidate, VALID, name="x")
    torch.testing.assert_close(figures["entropy_x"], expected.mean())
    torch.testing.assert_close(figures["effective_x"], expected.exp().mean())
    torch.testing.assert_close(figures["entropy_share_x"], expected.mean() / math.log(7))


def test_overlap_counts_repetitions_and_its_expectation_is_the_mass_of_the_deployed():
    p = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]])
    deployed = torch.tensor([[[True, True, False], [False, True, True]]])
    drawn_deployed = torch.tensor([[[[True, False]], [[True, True]]]])
    count = torch.tensor([[[[3, 1]], [[2, 0]]]])
    figures = keypoint_statistics(
        p.log(), torch.ones_like(deployed), deployed, drawn_deployed, count, torch.tensor([True])
    )
    assert figures["overlap"] == pytest.approx((3 / 4 + 1) / 2)
    assert figures["expected_overlap"] == pytest.approx((0.8 + 0.9) / 2)


def test_an_invalid_pair_changes_no_figure():
    """Whatever its rewards and candidates are: infinite, none at all."""
    reward = torch.randn(2, 3, 4, generator=generator())
    failed = torch.rand(2, 3, 4, generator=generator()) < 0.5
    spoilt = torch.cat([reward, torch.full((1, 3, 4), float("inf"))])
    more_failed = torch.cat([failed, torch.ones(1, 3, 4, dtype=torch.bool)])
    valid = torch.tensor([True, True, False])
    alone, beside = draw_statistics(reward, failed, VALID), draw_statistics(spoilt, more_failed, valid)
    assert beside.pop("invalid_pairs") == 1
    alone.pop("invalid_pairs")
    for name, value in alone.items():
        torch.testing.assert_close(beside[name], value)


def test_without_a_valid_pair_every_figure_is_finite():
    reward, none = torch.full((1, 2, 2), float("nan")), torch.zeros(1, dtype=torch.bool)
    figures = draw_statistics(reward, torch.ones(1, 2, 2, dtype=torch.bool), none)
    assert all(bool(value.isfinite()) for value in figures.values())


def test_the_histogram_holds_every_draw_once_and_its_ends_are_open():
    reward = torch.tensor([[[-99.0, -3.0], [-2.68, -0.01], [0.0, 7.0]]])
    figures = draw_statistics(reward, torch.zeros(1, 3, 2, dtype=torch.bool), torch.tensor([True]))
    shares = [float(value) for name, value in figures.items() if name.startswith(HISTOGRAM_PREFIX)]
    assert sum(shares) == pytest.approx(1.0)
    filled = {bin: round(6 * share) for bin, share in enumerate(shares) if share > 0}
    assert filled == {0: 1, 1: 1, 2: 1, 12: 1, 13: 1, 17: 1}


def test_pairs_whose_draws_all_agree_are_counted():
    reward = torch.zeros(3, 2, 2)
    reward[1, 0, 1] = 0.1
    figures = draw_statistics(reward, torch.zeros(3, 2, 2, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    assert figures["agreeing"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [1, 2, 5, 36])
def test_quantiles_are_those_of_torch_over_the_valid_values(count):
    value = torch.randn(40, generator=generator())
    valid = torch.arange(40) < count
    levels = (0.0, 0.1, 0.5, 0.9, 1.0)
    expected = torch.quantile(value[:count], torch.tensor(levels))
    torch.testing.assert_close(torch.stack(masked_quantiles(value, valid, levels)), expected)


def test_membership_is_that_of_sets_of_pixels():
    points = torch.randint(0, 6, (2, 40, 2), generator=generator()).float()
    others = torch.randint(0, 6, (2, 9, 2), generator=generator()).float()
    usable = torch.rand(2, 9, generator=generator()) < 0.7
    found = are_among(points, others, usable)
    for b in range(2):
        known = {tuple(xy) for xy in others[b][usable[b]].tolist()}
        assert found[b].tolist() == [tuple(xy) in known for xy in points[b].tolist()]
    assert not are_among(points, others, torch.zeros_like(usable)).any()
