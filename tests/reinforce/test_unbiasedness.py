"""The expected gradient of the surrogate equals the exact gradient, by enumeration of every joint outcome.

A problem small enough to enumerate: key points are drawn from two or three pixels, then matches among two candidates
whose probabilities depend on the key points. S = T = 3 draws on each level, nested.
"""

import itertools

import pytest
import torch

from rfp.policy.categorical import (
    distinct_draws,
    log_prob_with_replacement,
    log_prob_without_replacement,
    log_probabilities,
)
from rfp.reinforce.surrogate import surrogate_per_pair

S = T = 3


class EnumerableProblem:
    """X: two draws of the pixels. M given X: two draws of two candidates, whose logits depend on X. r(X, M): anything.

    Draws with replacement are enumerated as multisets with their multiplicity (the order of independent draws says
    nothing), draws without replacement in their order, which the Plackett-Luce law needs.
    """

    def __init__(self, replacement: bool, *, count_draws: bool = True):
        generator = torch.Generator().manual_seed(5)
        num_pixels = 2 if replacement else 3
        self.heat = torch.randn(num_pixels, generator=generator, dtype=torch.float64, requires_grad=True)
        self.replacement, self.count_draws = replacement, count_draws
        self.keypoint_draws = self._outcomes(num_pixels)
        self.match_draws = self._outcomes(2)
        shape = (len(self.keypoint_draws), len(self.match_draws))
        self.similarity = torch.randn(shape[0], 2, generator=generator, dtype=torch.float64, requires_grad=True)
        self.reward = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 - 1

    def _outcomes(self, candidates: int) -> torch.Tensor:
        if self.replacement:
            return torch.tensor(list(itertools.combinations_with_replacement(range(candidates), 2)))
        return torch.tensor(list(itertools.permutations(range(candidates), 2)))

    def _log_prob(self, logits, draws, exact: bool):
        valid = torch.ones_like(logits, dtype=torch.bool)
        log_p = log_probabilities(logits, valid)
        drawn = torch.ones_like(draws, dtype=torch.bool)
        if not self.replacement:
            return log_prob_without_replacement(log_p, draws, drawn)
        distinct = distinct_draws(draws, drawn)
        count = distinct.count if exact or self.count_draws else distinct.valid.long()
        return log_prob_with_replacement(log_p, distinct.index, count)

    def multiplicity(self, draws):
        """In how many orders the outcome can be drawn."""
        return 1.0 + (draws[..., 0] != draws[..., 1]).double() if self.replacement else torch.ones(len(draws))

    def log_probs(self, *, exact: bool):
        """(of X (x,), of M given X (x, m)) for every outcome; ``exact=False`` may plant the defect of the original."""
        of_keypoints = self._log_prob(self.heat, self.keypoint_draws, exact)
        draws = self.match_draws.expand(len(self.keypoint_draws), *self.match_draws.shape)
        return of_keypoints, self._log_prob(self.similarity, draws, exact)

    def probabilities(self):
        log_x, log_m = self.log_probs(exact=True)
        p_x = log_x.exp() * self.multiplicity(self.keypoint_draws)
        p_m = log_m.exp() * self.multiplicity(self.match_draws)
        torch.testing.assert_close(p_x.sum(), torch.ones_like(p_x[0]))
        torch.testing.assert_close(p_m.sum(-1), torch.ones_like(p_x))
        return p_x, p_m

    def exact_gradient(self):
        """∇ Σ P(X) Σ P(M|X) r, with its two terms apart: through P(X), and through P(M|X)."""
        p_x, p_m = self.probabilities()
        of_keypoints = (p_x * (p_m.detach() * self.reward).sum(-1)).sum()
        of_matches = (p_x.detach() * (p_m * self.reward).sum(-1)).sum()
        (g_heat,) = torch.autograd.grad(of_keypoints, self.heat)
        (g_similarity,) = torch.autograd.grad(of_matches, self.similarity)
        return g_heat, g_similarity

    def expected_gradient(self, surrogate):
        """-E[∇ surrogate] over every joint outcome of S draws of X and S x T draws of M."""
        p_x, p_m = (value.detach() for value in self.probabilities())
        log_x, log_m = self.log_probs(exact=False)
        num_x, num_m = self.reward.shape
        # One of the S draws: an X and its T matches. All joint outcomes are triples of these.
        of_m = torch.cartesian_prod(*[torch.arange(num_m)] * T)
        x = torch.arange(num_x).repeat_interleave(len(of_m))
        m = of_m.repeat(num_x, 1)
        p = p_x[x] * p_m[x[:, None], m].prod(-1)
        joint = torch.cartesian_prod(*[torch.arange(len(x))] * S)  # (outcomes, S)
        x, m, probability = x[joint], m[joint], p[joint].prod(-1)
        torch.testing.assert_close(probability.sum(), torch.ones_like(probability[0]))
        value = surrogate(self.reward[x[..., None], m], log_x[x], log_m[x[..., None], m])
        return torch.autograd.grad(-(probability * value).sum(), (self.heat, self.similarity))


@pytest.mark.parametrize("replacement", [True, False], ids=["with_replacement", "plackett_luce"])
@pytest.mark.parametrize(
    ("baseline", "factors"), [("leave_one_out", (1.0, 1.0)), ("none", (1.0, 1.0)), ("mean", (2 / 3, 2 / 3))]
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
