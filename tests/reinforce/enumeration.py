"""A problem small enough to enumerate every joint outcome of the draws, and the gradients that it has exactly."""

import itertools

import torch

from rfp.policy.categorical import (
    distinct_draws,
    log_prob_with_replacement,
    log_prob_without_replacement,
    log_probabilities,
)
from rfp.records import MatchExpectation


class EnumerableProblem:
    """X: two draws of the pixels. M given X: two draws of two candidates, whose logits depend on X. r(X, M): anything.

    Draws with replacement are enumerated as multisets with their multiplicity (the order of independent draws says
    nothing), draws without replacement in their order, which the Plackett-Luce law needs.

    A match has a value that depends on X, and one that depends on the matches of another draw, too.
    """

    def __init__(self, replacement: bool, *, count_draws: bool = True, num_x: int = 3, num_m: int = 3):
        generator = torch.Generator().manual_seed(5)
        num_pixels = 2 if replacement else 3
        self.num_keypoint_draws, self.num_match_draws = num_x, num_m
        self.heat = torch.randn(num_pixels, generator=generator, dtype=torch.float64, requires_grad=True)
        self.replacement, self.count_draws = replacement, count_draws
        self.keypoint_draws = self._outcomes(num_pixels)
        self.match_draws = self._outcomes(2)
        shape = (len(self.keypoint_draws), len(self.match_draws))
        self.similarity = torch.randn(shape[0], 2, generator=generator, dtype=torch.float64, requires_grad=True)
        self.reward = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 - 1
        self.values = torch.randn(shape[0], 2, generator=generator, dtype=torch.float64)
        self.values_by_draw = torch.randn(*shape, 2, generator=generator, dtype=torch.float64)

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

    def exact_gradient(self, reward=None):
        """∇ Σ P(X) Σ P(M|X) r, with its two terms apart: through P(X), and through P(M|X)."""
        reward = self.reward if reward is None else reward
        p_x, p_m = self.probabilities()
        of_keypoints = (p_x * (p_m.detach() * reward).sum(-1)).sum()
        of_matches = (p_x.detach() * (p_m * reward).sum(-1)).sum()
        (g_heat,) = torch.autograd.grad(of_keypoints, self.heat)
        (g_similarity,) = torch.autograd.grad(of_matches, self.similarity)
        return g_heat, g_similarity

    def additive(self):
        """a(X, M) of every outcome: the mean value of the matches drawn."""
        return self.values[:, self.match_draws].mean(-1)

    def joint_outcomes(self):
        """(x (n, S), m (n, S, T), probability (n,)) of all joint outcomes of the draws of a pair."""
        p_x, p_m = (value.detach() for value in self.probabilities())
        num_x, num_m = self.reward.shape
        # One of the S draws: an X and its T matches. All joint outcomes are tuples of these.
        of_m = torch.cartesian_prod(*[torch.arange(num_m)] * self.num_match_draws).reshape(-1, self.num_match_draws)
        x = torch.arange(num_x).repeat_interleave(len(of_m))
        m = of_m.repeat(num_x, 1)
        p = p_x[x] * p_m[x[:, None], m].prod(-1)
        joint = torch.cartesian_prod(*[torch.arange(len(x))] * self.num_keypoint_draws)
        joint = joint.reshape(-1, self.num_keypoint_draws)
        x, m, probability = x[joint], m[joint], p[joint].prod(-1)
        torch.testing.assert_close(probability.sum(), torch.ones_like(probability[0]))
        return x, m, probability

    def control(self, x, m, geometry: str = "true") -> MatchExpectation:
        """The additive reward of joint outcomes: values by X alone, by the next draw of matches, or by the own one."""
        p = torch.softmax(self.similarity, dim=-1)[x]  # (..., S, 2)
        if geometry == "true":
            values = self.values[x].unsqueeze(-2)  # (..., S, 1, 2)
        else:
            other = m.roll(-1, dims=-1) if geometry == "independent_draw" else m
            values = self.values_by_draw[x.unsqueeze(-1), other]  # (..., S, T, 2)
        drawn = self.match_draws[m]  # (..., S, T, 2)
        sampled = torch.stack(
            [
                values[..., v, :].unsqueeze(-2).expand(*drawn.shape[:-1], 2).gather(-1, drawn).mean(-1)
                for v in range(values.shape[-2])
            ],
            dim=-2,
        )
        return MatchExpectation(sampled=sampled, expected=(p.unsqueeze(-2) * values).sum(-1))

    def rolled(self, x, m, *, exact: bool = True):
        """(reward, log P(X), log P(M | X)) of joint outcomes."""
        log_x, log_m = self.log_probs(exact=exact)
        return self.reward[x[..., None], m], log_x[x], log_m[x[..., None], m]

    def expected_gradient(self, surrogate):
        """-E[∇ surrogate] over every joint outcome; ``surrogate(reward, log_x, log_m)`` of each."""
        x, m, probability = self.joint_outcomes()
        return self.gradient(probability, surrogate(*self.rolled(x, m, exact=False)))

    def gradient(self, probability, surrogate):
        """-Σ probability ∇ surrogate, its two terms."""
        parameters = (self.heat, self.similarity)
        return torch.autograd.grad(-(probability * surrogate).sum(), parameters, retain_graph=True)
