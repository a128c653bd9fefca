"""Minimal samples: distinct, valid, in proportion to the weights."""

import itertools
import math

import pytest
import torch

from rfp.robust.minimal_samples import draw_minimal_samples, samples_usable, weights_of_order


def uniforms(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def successive_sampling(weight: list[float], size: int) -> dict[tuple[int, ...], float]:
    """The probability of every ordered sample, by enumeration: the twin of the code under test."""
    result = {}
    for order in itertools.permutations([i for i, w in enumerate(weight) if w > 0], size):
        probability, remaining = 1.0, sum(weight)
        for index in order:
            probability *= weight[index] / remaining
            remaining -= weight[index]
        result[order] = probability
    return result


@pytest.mark.parametrize("weight", [[1, 1, 1, 1, 1], [0, 1, 3, 0, 2, 1], [5, 0, 0.5, 1, 1]])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_ordered_samples_have_the_probabilities_of_successive_sampling(weight, size):
    count = 40_000
    samples, usable = draw_minimal_samples(uniforms(count, size), torch.tensor(weight, dtype=torch.float32))
    assert usable.all()
    expected = successive_sampling(weight, size)
    keys, counts = torch.unique(samples, dim=0, return_counts=True)
    observed = {tuple(key.tolist()): n.item() / count for key, n in zip(keys, counts)}
    assert set(observed) <= set(expected)
    for order, probability in expected.items():
        deviation = (probability * (1 - probability) / count) ** 0.5
        assert abs(observed.get(order, 0) - probability) < 5 * deviation + 1e-4


def test_samples_are_distinct_and_hold_valid_matches_only():
    weight = torch.randint(0, 4, (3, 2, 40), generator=torch.Generator().manual_seed(1)).float()
    samples, usable = draw_minimal_samples(uniforms(3, 2, 500, 5), weight)
    assert usable.all()
    assert (samples.sort(dim=-1).values.diff(dim=-1) > 0).all()
    assert (weight.gather(-1, samples.flatten(-2)) > 0).all()


def test_exactly_five_valid_matches_are_always_all_drawn():
    weight = torch.zeros(20)
    weight[[2, 3, 7, 11, 19]] = torch.tensor([1.0, 1000.0, 1.0, 2.0, 3.0])
    samples, usable = draw_minimal_samples(uniforms(300, 5), weight)
    assert usable.all()
    assert (samples.sort(dim=-1).values == torch.tensor([2, 3, 7, 11, 19])).all()


@pytest.mark.parametrize("valid", [0, 1, 4])
@pytest.mark.parametrize("slots", [4, 9])
def test_fewer_than_five_valid_matches_make_no_usable_sample(valid, slots):
    weight = torch.zeros(slots)
    weight[:valid] = 1
    samples, usable = draw_minimal_samples(uniforms(50, 5), weight)
    assert not usable.any()
    assert ((samples >= 0) & (samples < slots)).all()


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,)])
@pytest.mark.parametrize("slots", [0, 8])
def test_any_batch_and_no_slots_at_all(batch, slots):
    samples, usable = draw_minimal_samples(torch.rand(*batch, 7, 5), torch.ones(*batch, slots))
    assert samples.shape == (*batch, 7, 5)
    assert usable.shape == (*batch, 7)
    assert usable.all() == (slots > 0 or usable.numel() == 0)


def test_samples_do_not_depend_on_masked_slots_behind_or_between():
    weight = torch.tensor([1.0, 2, 1, 3, 1, 1, 2])
    spread = torch.zeros(14)
    spread[::2] = weight
    samples, _ = draw_minimal_samples(uniforms(200, 5), weight)
    spread_samples, _ = draw_minimal_samples(uniforms(200, 5), spread)
    assert torch.equal(2 * samples, spread_samples)


def test_weights_that_are_not_positive_numbers_are_never_drawn():
    weight = torch.tensor([1.0, torch.nan, 1, -3, 1, torch.inf, 1, 1])
    samples, usable = draw_minimal_samples(uniforms(200, 5), weight)
    assert usable.all()
    assert not torch.isin(samples, torch.tensor([1, 3, 5])).any()


def test_given_samples_with_repetitions_strangers_or_masked_matches_are_not_usable():
    valid = torch.tensor([True, True, True, True, True, True, False])
    samples = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 3, 3], [0, 1, 2, 3, 6], [0, 1, 2, 3, 7], [-1, 1, 2, 3, 4]])
    assert samples_usable(samples, valid).tolist() == [True, False, False, False, False]


def test_weights_of_order_are_those_of_the_best_of_a_uniform_number():
    quality = torch.tensor([[0.3, 0.9, torch.nan, -1.0, 0.5], [0.1, 0.2, -torch.inf, 0.4, 0.0]])
    valid = torch.tensor([[True] * 5, [True, False, True, True, False]])
    weight = weights_of_order(quality, valid)
    expected = [[2, 0, 4, 3, 1], [1, None, 2, 0, None]]
    for row, ranks in zip(weight, expected, strict=True):
        number = sum(rank is not None for rank in ranks)
        by_hand = [0.0 if rank is None else math.log(number / (rank + 0.5)) for rank in ranks]
        torch.testing.assert_close(row, torch.tensor(by_hand))
    many = weights_of_order(torch.arange(1000.0))
    assert (many[1:] > many[:-1]).all()
    assert many[500:].sum() / many.sum() == pytest.approx(0.5 * (1 - math.log(0.5)), abs=2e-3)
