"""MSAC scores against the plain formula."""

import pytest
import torch

from rfp.geometry.epipolar import sampson_distance
from rfp.robust.scoring import (
    denominator_form,
    match_monomials,
    msac_gains,
    scoring_subset,
    squared_errors,
)
from tests.geometry.scenes import contaminate, views_of_a_box

THRESHOLD = 0.004


def make_matches(n=3, count=40):
    views = views_of_a_box(n, count, 0)
    x1, x2, _ = contaminate(views.x1, views.x2, 0, inlier_ratio=0.6, noise=0.002, extent=0.5)
    weight = torch.randint(0, 4, (n, count), generator=torch.Generator().manual_seed(0)).double()
    matches = match_monomials(x1, x2, weight, torch.full((n,), THRESHOLD).double())
    others = torch.randn(n, 3, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    E = torch.cat((views.E[..., None], others), dim=-1)
    return x1, x2, weight, matches, E


def test_squared_errors_are_kornias_sampson_distances():
    x1, x2, _, matches, E = make_matches()
    expected = torch.stack([sampson_distance(x1, x2, E[..., c]) for c in range(7)], dim=1) / THRESHOLD**2
    torch.testing.assert_close(squared_errors(E.flatten(1, 2), matches), expected)


def test_scores_are_the_weighted_truncated_sums():
    x1, x2, weight, matches, E = make_matches()
    for candidate in range(7):
        error = sampson_distance(x1, x2, E[..., candidate]) / THRESHOLD**2
        expected = (weight * (1 - error).clamp_min(0)).sum(dim=1)
        torch.testing.assert_close(msac_gains(E.flatten(1, 2), matches).sum(dim=-1)[:, candidate], expected)
        gain = msac_gains(E[..., candidate].flatten(1)[..., None], matches)[:, 0]
        assert torch.equal(gain > 0, (error < 1) & (weight > 0))


def test_the_true_matrix_scores_best():
    *_, matches, E = make_matches()
    assert (msac_gains(E.flatten(1, 2), matches).sum(dim=-1).argmax(dim=1) == 0).all()


def test_the_denominator_form_is_the_derivative_of_the_denominator():
    generator = torch.Generator().manual_seed(2)
    E, step = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    difference = denominator_form(E + 1e-5 * step, E + 1e-5 * step) - denominator_form(E - 1e-5 * step, E - 1e-5 * step)
    torch.testing.assert_close(2 * denominator_form(E, step), difference / 2e-5, atol=1e-8, rtol=1e-8)


def test_a_candidate_scores_the_same_bits_wherever_it_stands():
    generator = torch.Generator().manual_seed(3)
    for slots in (5, 17, 64, 300, 301):
        matches = match_monomials(
            torch.randn(4, slots, 2, generator=generator),
            torch.randn(4, slots, 2, generator=generator),
            torch.ones(4, slots),
            torch.full((4,), 1.0),
        )
        E = torch.randn(4, 9, 96, generator=generator)
        together = msac_gains(E, matches).sum(dim=-1)
        for size in (1, 2, 3, 4, 7, 16, 33):
            assert torch.equal(together[..., 20 : 20 + size], msac_gains(E[..., 20 : 20 + size], matches).sum(dim=-1))


def test_the_subset_follows_the_weights_and_skips_masked_matches():
    weight = torch.zeros(2, 100)
    weight[0, 10:90:2] = 1
    weight[1, 5], weight[1, 50:60] = 10, 1
    subset = scoring_subset(weight, 80)
    counts = torch.stack([torch.bincount(row, minlength=100) for row in subset])
    assert torch.equal(counts > 0, weight > 0)
    assert (counts[0, 10:90:2] - 2).abs().max() <= 1
    assert counts[1, 5].item() == pytest.approx(40, abs=1)


def test_a_subset_of_nothing_is_still_inside():
    assert (scoring_subset(torch.zeros(2, 7), 5) == 6).all()
