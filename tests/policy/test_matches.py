"""Laws of the match policy."""

import pytest
import torch

from rfp.matching import RatioTest, match, mutual_nearest_neighbours
from rfp.policy.matches import MatchOptions, draw_matches, match_distribution, match_noise_shape
from rfp.records import Features

S, T, K, D = 2, 3, 11, 4


def descriptors(seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, S, K, D, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


def drawn(options, *, valid1=None, valid2=None, seed=3):
    d1, d2 = descriptors(0).requires_grad_(), descriptors(1)
    everything = torch.ones(1, S, K, dtype=torch.bool)
    valid1 = everything if valid1 is None else valid1
    valid2 = everything if valid2 is None else valid2
    distribution = match_distribution(d1, d2, valid1, valid2, options)
    shape = match_noise_shape(options, T, K)
    uniforms = torch.rand(1, S, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matches = draw_matches(distribution, uniforms, valid1.sum(-1), options.num_slots(K), options)
    return d1, d2, distribution, matches


def test_mutual_nearest_neighbours_agree_with_a_plain_loop():
    d1, d2 = descriptors(0)[0, 0], descriptors(1)[0, 0]
    valid1 = torch.arange(K) != 4
    valid2 = torch.arange(K) != 2
    index2, mutual = mutual_nearest_neighbours(d1, d2, valid1, valid2)
    similarity = (d1 @ d2.T).tolist()
    found = 0
    for i in range(K):
        rivals = [j for j in range(K) if valid2[j]]
        j = max(rivals, key=lambda j: similarity[i][j])
        back = max((k for k in range(K) if valid1[k]), key=lambda k: similarity[k][j])
        expected = bool(valid1[i]) and back == i
        assert bool(mutual[i]) == expected
        assert not expected or int(index2[i]) == j
        found += expected
    assert found >= 3


def test_no_valid_descriptor_gives_no_match():
    nothing = torch.zeros(K, dtype=torch.bool)
    _, mutual = mutual_nearest_neighbours(descriptors(0)[0, 0], descriptors(1)[0, 0], nothing, ~nothing)
    assert not mutual.any()


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("candidates", ["mutual", "all", "dual_softmax"])
def test_log_probability_is_recomputed_from_the_matches(candidates, replacement):
    """By plain loops over the definition: exp(-‖d - d′‖/τ) over the candidates."""
    options = MatchOptions(candidates=candidates, temperature=0.4, replacement=replacement)
    d1, d2, _, matches = drawn(options)
    for s in range(S):
        distance = torch.cdist(d1[0, s].detach(), d2[0, s])
        weight = (-distance / 0.4).exp()
        if candidates == "dual_softmax":
            weight = weight**2 / (weight.sum(0, keepdim=True) * weight.sum(1, keepdim=True))
        if candidates == "mutual":
            everything = torch.ones(K, dtype=torch.bool)
            index2, mutual = mutual_nearest_neighbours(d1[0, s], d2[0, s], everything, everything)
            keep = torch.zeros(K, K)
            keep[torch.arange(K)[mutual], index2[mutual]] = 1
            weight = weight * keep
        p = weight / weight.sum()
        for t in range(T):
            rows = [
                (p[i, j], int(n))
                for i, j, n, valid in zip(
                    matches.index1[0, s, t],
                    matches.index2[0, s, t],
                    matches.count[0, s, t],
                    matches.valid[0, s, t],
                    strict=True,
                )
                if valid
            ]
            assert all(value > 0 for value, _ in rows)
            if replacement:
                expected = sum(n * value.log() for value, n in rows)
                assert matches.log_prob[0, s, t].item() == pytest.approx(float(expected), abs=1e-6)
            else:  # the slots forget the order, so only a bound is checked here; the law is in test_categorical
                assert all(n == 1 for _, n in rows)
                assert matches.log_prob[0, s, t].item() >= float(sum(value.log() for value, _ in rows)) - 1e-9


@pytest.mark.parametrize("replacement", [True, False])
def test_half_of_the_mutual_candidates_are_drawn(replacement):
    options = MatchOptions(replacement=replacement)
    _, _, distribution, matches = drawn(options)
    wanted = (distribution.valid.sum(-1) * 0.5).ceil().long()
    assert (matches.count.sum(-1) == wanted[..., None]).all()
    assert (matches.num_candidates == distribution.valid.sum(-1)).all()


def test_slots_are_ordered_by_the_key_point_of_image_1():
    _, _, _, matches = drawn(MatchOptions(candidates="all"))
    for s in range(S):
        for t in range(T):
            keep = matches.valid[0, s, t]
            number = matches.index1[0, s, t][keep] * K + matches.index2[0, s, t][keep]
            assert (number.diff() > 0).all()


@pytest.mark.parametrize("candidates", ["mutual", "all", "dual_softmax", "reciprocal"])
def test_masked_key_points_are_never_matched_and_get_no_gradient(candidates):
    valid = (torch.arange(K) % 3 != 0).expand(1, S, K)
    d1, _, _, matches = drawn(MatchOptions(candidates=candidates), valid1=valid, valid2=valid)
    index = matches.index1[matches.valid]
    assert (index % 3 != 0).all()
    assert (matches.index2[matches.valid] % 3 != 0).all()
    matches.log_prob.sum().backward()
    assert d1.grad is not None
    assert d1.grad.isfinite().all()
    assert (d1.grad[~valid] == 0).all()
    assert d1.grad.abs().max() > 0


def test_no_candidates_give_an_empty_draw_of_probability_one():
    nothing = torch.zeros(1, S, K, dtype=torch.bool)
    for candidates in ("mutual", "all", "dual_softmax", "reciprocal"):
        for replacement in (True, False):
            options = MatchOptions(candidates=candidates, replacement=replacement)
            d1, _, _, matches = drawn(options, valid1=nothing)
            assert not matches.valid.any()
            assert (matches.log_prob == 0).all()
            matches.log_prob.sum().backward()
            assert d1.grad is None or d1.grad.isfinite().all()


def test_equal_descriptors_have_a_finite_gradient():
    d = descriptors(0).requires_grad_()
    everything = torch.ones(1, S, K, dtype=torch.bool)
    for candidates in ("mutual", "all"):
        distribution = match_distribution(d, d, everything, everything, MatchOptions(candidates=candidates))
        (gradient,) = torch.autograd.grad(distribution.log_p.sum(), d)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("replacement", [True, False])
def test_the_ratio_test_leaves_the_mutual_ones_that_stand_out(replacement):
    options = MatchOptions(candidates="ratio", ratio=0.8, temperature=0.4, fraction=1.0, replacement=replacement)
    d1, _, distribution, matches = drawn(options)
    _, _, mutual, _ = drawn(MatchOptions(temperature=0.4))
    for s in range(S):
        one, two = (
            Features(torch.zeros(1, K, 2), torch.zeros(1, K), d[:, s].detach(), torch.ones(1, K, dtype=torch.bool))
            for d in (d1, descriptors(1))
        )
        expected = match(one, two, RatioTest(ratio=0.8))
        assert torch.equal(distribution.valid[:, s], expected.valid)
        assert torch.equal(distribution.index2[:, s][expected.valid], expected.index2[expected.valid])
    assert 0 < distribution.valid.sum() < mutual.valid.sum()
    assert distribution.log_p.exp().where(distribution.valid, 0).sum(-1).tolist() == [pytest.approx([1.0] * S)]
    assert (matches.count.sum(-1) == distribution.valid.sum(-1)[..., None]).all()
    everyone = drawn(MatchOptions(candidates="ratio", ratio=1.0, temperature=0.4))[2]
    assert torch.equal(everyone.valid, mutual.valid)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "wrong", [{"candidates": "some"}, {"ratio": 0.0}, {"temperature": 0.0}, {"fraction": 0.0}, {"fraction": 1.5}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        MatchOptions(**wrong)
