"""Laws of the divergence from the start: that of the two policies as they are, over the candidates of both."""

from dataclasses import replace

import pytest
import torch

from rfp.policy.divergence import divergence_from_start, normalised_entropy
from rfp.policy.keypoints import KeypointDistribution, KeypointOptions, keypoint_distribution

OPTIONS = KeypointOptions(nms_radius=2, border=2, max_candidates=64)
SIZE = (20, 24)


def heat(seed, count=2, dtype=torch.float64):
    return torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def divergence(start, now, options=OPTIONS, sizes=None):
    sizes = [SIZE] * len(now) if sizes is None else sizes
    distributions = [keypoint_distribution(each, sizes, options) for each in (start, now)]
    return divergence_from_start(*distributions, now, options)


def by_hand(start, now, options):
    """Over sets of pixels, for one image."""
    sets = []
    for each in (start, now):
        distribution = keypoint_distribution(each[None], [SIZE], options)
        points = distribution.xy_px[0][distribution.valid[0]].long().tolist()
        sets.append([(y, x) for x, y in points])
    union = list(dict.fromkeys([*sets[0], *sets[1]]))
    mixing = options.uniform_mixing
    p = (1 - mixing) * torch.softmax(torch.stack([now[place] for place in union]), 0) + mixing / len(union)
    q = (1 - mixing) * torch.softmax(torch.stack([start[place] for place in sets[0]]), 0) + mixing / len(sets[0])
    return sum(q[k] * (q[k].log() - p[union.index(place)].log()) for k, place in enumerate(sets[0]))


@pytest.mark.parametrize("options", [OPTIONS, replace(OPTIONS, uniform_mixing=0.2), replace(OPTIONS, max_candidates=5)])
def test_it_is_the_divergence_over_the_candidates_of_either(options):
    start, now = heat(0), heat(1)
    expected = torch.stack([by_hand(one, two, options) for one, two in zip(start, now, strict=True)])
    torch.testing.assert_close(divergence(start, now, options), expected)
    assert (expected > 0.1).all()


def test_over_every_pixel_it_is_that_of_two_softmaxes():
    options = KeypointOptions(nms_radius=0, border=0)
    start, now = heat(2), heat(3)
    one, two = (torch.distributions.Categorical(logits=each.flatten(1)) for each in (start, now))
    torch.testing.assert_close(divergence(start, now, options), torch.distributions.kl_divergence(one, two))


def test_the_start_itself_is_at_zero_and_its_lowest_point():
    start = heat(4)
    now = start.clone().requires_grad_()
    value = divergence(start, now)
    value.sum().backward()
    torch.testing.assert_close(value, torch.zeros(2, dtype=torch.float64))
    assert now.grad is not None
    torch.testing.assert_close(now.grad, torch.zeros_like(now))


def test_its_gradient_is_that_of_its_value():
    start, now = heat(5), heat(6)
    torch.autograd.gradcheck(lambda each: divergence(start, each), now.clone().requires_grad_())


def test_a_new_key_point_costs_although_those_of_the_start_keep_their_shares():
    start = heat(7)
    now = start.clone()
    now[:, 3, 3] = 20.0
    candidates = keypoint_distribution(start, [SIZE] * 2, OPTIONS).xy_px
    assert not (candidates == 3).all(-1).any(), "the place must be new"
    assert (divergence(start, now) > 1).all()


def test_an_image_does_not_depend_on_what_stands_beside_it():
    start, now = heat(8), heat(9)
    for each in (start, now):
        each[0, 15:], each[0, :, 18:] = 0.0, 0.0
    alone = divergence(start[:1, :15, :18].clone(), now[:1, :15, :18].clone(), sizes=[(15, 18)])
    torch.testing.assert_close(divergence(start, now, sizes=[(15, 18), SIZE])[0], alone[0])


def test_an_image_without_candidates_is_at_zero_and_teaches_nothing():
    start, now = heat(10), heat(11)
    start[0], now[0] = float("-inf"), float("-inf")
    now.requires_grad_()
    value = divergence(start, now)
    value.sum().backward()
    assert value[0] == 0
    assert value[1] > 0
    assert now.grad is not None
    assert now.grad.isfinite().all()


def test_entropy_is_one_for_equal_candidates_and_zero_for_none_or_one():
    log_p = torch.full((4, 6), -1e30)
    valid = torch.zeros(4, 6, dtype=torch.bool)
    for row, count in enumerate((0, 1, 3, 6)):
        log_p[row, :count], valid[row, :count] = -torch.tensor(max(1, count)).log(), True
    distribution = KeypointDistribution(log_p, valid, torch.zeros(4, 6, 2))
    torch.testing.assert_close(normalised_entropy(distribution), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    skewed = replace(distribution, log_p=torch.tensor([0.9, 0.05, 0.05, 1e-9, 1e-9, 1e-9]).log().expand(4, 6))
    assert 0 < normalised_entropy(skewed)[2] < 0.5
