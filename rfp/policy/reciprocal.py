"""Reciprocal draws of matches: each key point of either image chooses a partner, and who choose each other match.

Key point i of image 1 chooses j with the softmax of its row of similarities, and j chooses i with that of its column
(DISK, Tyszkiewicz et al. 2020, section 3): i and j are matched with the product of the two, P_ij, whatever the others
choose. How many matches there are is left to chance, which is what a reward for their *number* needs; a categorical
distribution over all pairs always draws as many, and is paid for being sure of few.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.policy.categorical import draw_with_replacement, log_probabilities
from rfp.records import Matches


@dataclass(frozen=True)
class ReciprocalDistribution:
    """The choices of K1 and K2 key points, and what they say of each of the C = K1 · K2 candidate matches."""

    log_forward: Float[Tensor, "*B S K1 K2"]
    """log p that i of image 1 chooses j: a row sums to 1."""
    log_backward: Float[Tensor, "*B S K2 K1"]
    """log p that j of image 2 chooses i: here, too, a row sums to 1."""
    pairs: Bool[Tensor, "*B S K1 K2"]
    """False: one of the two is no key point."""

    @property
    def log_p(self) -> Float[Tensor, "*B S C"]:
        """log P_ij that a candidate is matched. The probabilities sum to the expected number of matches."""
        return (self.log_forward + self.log_backward.transpose(-1, -2)).flatten(-2)

    @property
    def valid(self) -> Bool[Tensor, "*B S C"]:
        """Candidates of two key points."""
        return self.pairs.flatten(-2)

    @property
    def index1(self) -> Int[Tensor, "*B S C"]:
        """Slot in image 1 of each candidate."""
        return self._number().div(self.pairs.shape[-1], rounding_mode="floor")

    @property
    def index2(self) -> Int[Tensor, "*B S C"]:
        """Slot in image 2."""
        return self._number() % self.pairs.shape[-1]

    def _number(self) -> Int[Tensor, "*B S C"]:
        k1, k2 = self.pairs.shape[-2:]
        return torch.arange(k1 * k2, device=self.pairs.device).expand(*self.pairs.shape[:-2], k1 * k2)

    def choices(self) -> tuple[Float[Tensor, "*B N K"], Bool[Tensor, "*B N K"]]:
        """log p over the partners of each key point of both images, N = S (K1 + K2), and which of them there are."""
        most = max(self.pairs.shape[-2:])

        def together(forward: Tensor, backward: Tensor) -> Tensor:
            padded = (torch.nn.functional.pad(side, (0, most - side.shape[-1])) for side in (forward, backward))
            return torch.cat(tuple(padded), dim=-2).flatten(-3, -2)

        return together(self.log_forward, self.log_backward), together(self.pairs, self.pairs.transpose(-1, -2))


def reciprocal_distribution(
    logits: Float[Tensor, "*B S K1 K2"], pairs: Bool[Tensor, "*B S K1 K2"]
) -> ReciprocalDistribution:
    """Both softmaxes of the similarities over τ. A key point without any partner chooses none."""
    return ReciprocalDistribution(
        log_forward=log_probabilities(logits, pairs),
        log_backward=log_probabilities(logits.transpose(-1, -2), pairs.transpose(-1, -2)),
        pairs=pairs,
    )


def draw_reciprocal(distribution: ReciprocalDistribution, uniforms: Float[Tensor, "*B S T L"]) -> Matches:
    """T draws of all L = K1 + K2 choices: matches where two agree, slot i for key point i of image 1.

    The log-probability is of *all* choices: which matches there are depends on those that nobody returned, too.
    """
    log_forward, log_backward, pairs = distribution.log_forward, distribution.log_backward, distribution.pairs
    k1, k2 = pairs.shape[-2:]
    forward, log_prob_forward = _choose(log_forward, pairs, uniforms[..., :k1])
    backward, log_prob_backward = _choose(log_backward, pairs.transpose(-1, -2), uniforms[..., k1:])
    returned = backward.gather(-1, forward) == torch.arange(k1, device=forward.device)
    # The first slot of a row without partners would be chosen by numbers that mean nothing.
    drawn = pairs.unsqueeze(-3).expand(*forward.shape, k2).gather(-1, forward.unsqueeze(-1)).squeeze(-1)
    valid = returned & drawn
    slots = torch.arange(k1, device=forward.device).expand(forward.shape)
    return Matches(
        index1=torch.where(valid, slots, 0),
        index2=torch.where(valid, forward, 0),
        count=valid.long(),
        valid=valid,
        log_prob=log_prob_forward + log_prob_backward,
        num_candidates=pairs.flatten(-2).sum(dim=-1),
    )


def _choose(
    log_p: Float[Tensor, "*B S K L"], valid: Bool[Tensor, "*B S K L"], uniforms: Float[Tensor, "*B S T K"]
) -> tuple[Int[Tensor, "*B S T K"], Float[Tensor, "*B S T"]]:
    """One partner for each of K key points in each of T draws, and log P of the choices of a draw."""
    index = draw_with_replacement(log_p, valid, uniforms.transpose(-1, -2).unsqueeze(-2).contiguous()).squeeze(-2)
    chosen = torch.where(valid.any(dim=-1, keepdim=True), log_p.gather(-1, index), 0.0)
    return index.transpose(-1, -2), chosen.sum(dim=-2)
