"""Laws of the intervals: exact areas of samples, weights of shared images, and how often the truth is inside."""

import itertools

import pytest
import torch

from rfp.evaluation import pose_auc
from rfp.evaluation.bootstrap import (
    FEWEST_GROUPS,
    enough_images,
    group_counts,
    image_counts,
    interval,
    pair_counts,
    recall_band,
    resampled_auc,
    resampled_mean,
    sharing_groups,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def errors_of(count, seed=0):
    errors = 30 * torch.rand(count, generator=generator(seed), dtype=torch.float64) ** 2
    errors[0] = 180.0
    return errors


@pytest.mark.parametrize("threshold", [1, 5, 10, 20])
def test_the_area_of_a_sample_is_that_of_its_pairs_repeated(threshold):
    errors = errors_of(25)
    counts = torch.randint(0, 4, (40, 25), generator=generator(1)).double()
    expected = [pose_auc(errors.repeat_interleave(row.long()), (threshold,))[threshold] for row in counts]
    assert resampled_auc(errors, counts, threshold).tolist() == pytest.approx(expected)


def test_each_pair_once_is_the_area_itself_and_an_empty_sample_is_nothing():
    errors = errors_of(25)
    counts = torch.stack([torch.ones(25), torch.zeros(25)]).double()
    samples = resampled_auc(errors, counts, 10)
    assert samples[0].item() == pytest.approx(pose_auc(errors)[10])
    assert samples[1].isnan()


def test_a_pair_counts_as_often_as_its_images_were_drawn_together():
    pairs = torch.tensor(list(itertools.combinations(range(6), 2)))
    counts = image_counts(pairs, ["scene"] * len(pairs), 200, generator())
    number = {frozenset(pair): column for column, pair in enumerate(pairs.tolist())}
    for a, b, c, d in ((0, 1, 2, 3), (1, 4, 0, 5)):  # products of one number an image: ab · cd = ac · bd
        one = counts[:, number[frozenset((a, b))]] * counts[:, number[frozenset((c, d))]]
        two = counts[:, number[frozenset((a, c))]] * counts[:, number[frozenset((b, d))]]
        assert torch.equal(one, two)
    assert counts.mean().item() == pytest.approx(1 - 1 / 6, abs=0.03)  # 6 · 5 of 6² ordered pairs have two images
    assert counts.std() > 0.8


def test_scenes_are_resampled_apart():
    """The same numbers in two scenes are two images; every scene keeps its number of draws."""
    pairs = torch.tensor([[0, 1], [1, 2], [0, 2]]).repeat(2, 1)
    counts = image_counts(pairs, ["one"] * 3 + ["two"] * 3, 300, generator())
    assert not torch.equal(counts[:, :3], counts[:, 3:])
    assert set(counts[:, :3].sum(1).tolist()) <= {0.0, 2.0, 3.0}  # 3 draws of 3 images: 3+0+0, 2+1+0 or 1+1+1


def test_pairs_are_drawn_as_many_times_as_there_are():
    counts = pair_counts(30, 50, generator())
    assert (counts.sum(1) == 30).all()
    assert counts.std() > 0.8


def covered(counts_of, *, trials=40, num_images=16):
    """The share of experiments whose interval holds the truth, where an image makes its pairs hard or easy."""
    every = torch.tensor(list(itertools.combinations(range(num_images), 2)))
    noise = torch.randn(100_000, generator=generator(9), dtype=torch.float64)
    truth = 100 * (1 - (1.2 * noise).exp() * 4 / 10).clamp_min(0).mean().item()
    inside = 0
    for seed in range(trials):
        draws = generator(seed)
        pairs = every[torch.randperm(len(every), generator=draws)[:60]]
        of_image = torch.randn(num_images, generator=draws, dtype=torch.float64)
        own = torch.randn(60, generator=draws, dtype=torch.float64)
        errors = (1.2 * ((0.25**0.5) * of_image[pairs].sum(1) + (0.5**0.5) * own)).exp() * 4
        low, high = interval(resampled_auc(errors, counts_of(pairs, draws), 10)) or (0.0, 0.0)
        inside += low <= truth <= high
    return inside / trials


def test_where_pairs_share_images_only_resampled_images_hold_the_truth_95_times_in_100():
    assert covered(lambda pairs, draws: image_counts(pairs, ["scene"] * 60, 300, draws)) >= 0.9
    assert covered(lambda pairs, draws: pair_counts(60, 300, draws)) < 0.8


def test_intervals_of_equal_pairs_have_no_width_and_of_nothing_there_are_none():
    counts = pair_counts(20, 100, generator())
    low, high = interval(resampled_auc(torch.full((20,), 180.0, dtype=torch.float64), counts, 5)) or (1.0, 1.0)
    assert (low, high) == (0.0, 0.0)
    assert interval(torch.full((10,), torch.nan, dtype=torch.float64)) is None
    assert not enough_images(torch.tensor([[0, 1], [2, 3]]))
    assert enough_images(torch.tensor([[0, 1], [2, 3], [3, 4]]))


def test_the_band_of_the_curve_holds_the_curve():
    errors = errors_of(60)
    at = torch.linspace(0, 20, 21, dtype=torch.float64)
    low, high = recall_band(errors, pair_counts(60, 400, generator()), at)
    share = torch.stack([100 * (errors < x).double().mean() for x in at])
    assert ((low <= share) & (share <= high)).all()
    assert (high - low).max() > 10
    assert (low.diff() >= 0).all()


def test_pairs_are_in_one_group_when_a_chain_of_images_joins_them():
    chain = torch.tensor([[n, n + 1] for n in range(20)])[torch.randperm(20, generator=generator())]
    assert sharing_groups(chain).unique().tolist() == [0]
    broken = chain[(chain != torch.tensor([10, 11])).any(dim=1)]  # images 0 to 10, and 11 to 20
    low, high = sharing_groups(broken)[broken[:, 0] <= 10], sharing_groups(broken)[broken[:, 0] > 10]
    assert len(low.unique()) == len(high.unique()) == 1
    assert low[0] != high[0]
    assert sharing_groups(torch.tensor([[4, 5], [0, 1], [2, 3]])).sort().values.tolist() == [0, 1, 2]


def test_a_group_is_drawn_whole_and_of_few_groups_the_images_are_drawn():
    stars = torch.tensor([[6 * star, 6 * star + other] for star in range(FEWEST_GROUPS) for other in range(1, 6)])
    counts = group_counts(stars, 300, generator())
    by_star = counts.reshape(300, FEWEST_GROUPS, 5)
    assert (by_star == by_star[:, :, :1]).all()
    assert (by_star[:, :, 0].sum(1) == FEWEST_GROUPS).all()
    fewer = stars[:-5]
    assert torch.equal(
        group_counts(fewer, 300, generator()), image_counts(fewer, ["all"] * len(fewer), 300, generator())
    )


def test_the_mean_of_a_sample_is_that_of_its_values_repeated():
    values, counts = torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([[1, 1, 1], [0, 3, 1], [0, 0, 0]]).double()
    means = resampled_mean(values, counts)
    assert means[:2].tolist() == pytest.approx([7 / 3, 10 / 4])
    assert means[2].isnan()


def covered_by_stars(num_stars, *, trials=100):
    """The share of experiments whose interval holds the truth, where sequences of five pairs are hard or easy."""
    stars = torch.tensor([[6 * star, 6 * star + other] for star in range(num_stars) for other in range(1, 6)])
    inside = [0, 0]
    for seed in range(trials):
        draws = generator(seed)
        of_star = torch.randn(num_stars, generator=draws, dtype=torch.float64).repeat_interleave(5)
        values = of_star + torch.randn(5 * num_stars, generator=draws, dtype=torch.float64)  # their mean is 0
        for number, counts in enumerate((group_counts(stars, 300, draws), pair_counts(len(stars), 300, draws))):
            low, high = interval(resampled_mean(values, counts)) or (0.0, 0.0)
            inside[number] += low <= 0 <= high
    return [count / trials for count in inside]


@pytest.mark.parametrize("num_stars", [5, FEWEST_GROUPS, 30])
def test_where_sequences_share_their_first_image_only_resampled_groups_hold_the_truth(num_stars):
    by_group, by_pair = covered_by_stars(num_stars)
    assert by_group >= 0.88
    assert by_pair < 0.82
