"""Whether a network can learn from some pairs: many draws at fixed weights, their rewards and their gradients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.models.state import in_eval_mode
from rfp.records import InputError, PosedPair
from rfp.reinforce.gradient_noise import NoiseToSignal, noise_to_signal
from rfp.reinforce.reward_memory import RewardMemory
from rfp.rollout import Rollout, default_estimator, rollout
from rfp.training.objective import loss_of_rollout, not_finite, remembered_rewards, reward_by_options
from rfp.training.options import TrainerOptions
from rfp.training.parts import Part, network_parts
from rfp.training.rollout_metrics import rollout_metrics

Term = Literal["key points", "matches", "both"]

FEWEST = 3
"""Pairs and draws: what a jackknife needs."""


@dataclass(frozen=True)
class GradientSignal:
    """How much of a term's gradient is signal, over all parameters of a part."""

    term: Term
    """"both" is what is trained: the two terms with their weights."""
    part: Part | Literal["all"]
    fixed_pairs: NoiseToSignal
    """Of a step on all of the pairs: the noise of the draws alone."""
    new_pairs: NoiseToSignal
    """Of a step on one pair, another one each time: the noise of the draws and of the choice of the pair."""


@dataclass(frozen=True)
class Diagnosis:
    """What ``diagnose`` found about P pairs from N rollouts of each."""

    metrics: list[dict[str, float]]
    """The figures that training logs, for each pair: means over its rollouts."""
    reward: Float[Tensor, "P N S T"]
    signals: list[GradientSignal]

    def mean(self) -> dict[str, float]:
        """The metrics' mean over the pairs."""
        return {name: sum(row[name] for row in self.metrics) / len(self.metrics) for name in self.metrics[0]}

    def of(self, term: Term, part: Part | Literal["all"] = "all") -> GradientSignal:
        """The signal of a term and part; KeyError where the network has no such part."""
        for signal in self.signals:
            if (signal.term, signal.part) == (term, part):
                return signal
        raise KeyError((term, part))


def diagnose(
    network: nn.Module,
    pairs: Sequence[PosedPair],
    options: TrainerOptions,
    *,
    draws: int = 64,
    generator: torch.Generator,
    on_rollout: Callable[[], object] = lambda: None,
) -> Diagnosis:
    """Roll out each pair ``draws`` times at the network's present weights, and measure what the gradient is made of.

    A forward and two backward passes for each; the gradients of two terms × (draws + pairs) steps are held, four bytes
    for each parameter. The network is left as it was.

    Args:
        pairs: On the network's device.
        options: Those that training would have.
        generator: On the network's device.
        on_rollout: Called after each of ``draws`` × pairs rollouts.

    Raises:
        InputError: fewer than three pairs or draws.
    """
    if min(len(pairs), draws) < FEWEST:
        raise InputError(
            f"expected at least {FEWEST} pairs and draws, got {len(pairs)} and {draws}; 8 and 64 are usual"
        )
    parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
    gradients = _Gradients(list(parameters.values()), len(pairs), draws, options)
    estimator, reward, rewards, metrics = default_estimator(options.rollout), reward_by_options(options), [], []
    with in_eval_mode(network):
        for number, pair in enumerate(pairs):
            rows = []
            for draw in range(draws):
                rolled = rollout(
                    network,  # type: ignore[arg-type]
                    [pair],
                    options=options.rollout,
                    generator=generator,
                    estimator=estimator,
                    reward=reward,
                    deployed=options.baseline == "self_critical",
                )
                gradients.add(rolled, number, draw)
                rows.append(rollout_metrics(rolled, options.rollout.keypoints))
                rewards.append(rolled.reward[0])
                on_rollout()
            metrics.append(_means(rows))
        parts = network_parts(network, pairs[0].image1)  # type: ignore[arg-type]
    drawn = torch.stack(rewards).unflatten(0, (len(pairs), draws))
    if not bool(drawn.isfinite().all()):
        raise not_finite(reward, "diagnosis")
    return Diagnosis(metrics, drawn, gradients.signals([parts[name] for name in parameters]))


class _Gradients:
    """The gradients of both terms, kept as means over the pairs for each draw, and over the draws for each pair."""

    def __init__(self, parameters: list[nn.Parameter], num_pairs: int, num_draws: int, options: TrainerOptions):
        self.parameters, self.options = parameters, options
        self.weights: dict[Term, tuple[float, float]] = {
            "key points": (1.0, 0.0),
            "matches": (0.0, 1.0),
            "both": (options.keypoint_weight, options.match_weight),
        }
        self.memory: RewardMemory | None = None
        if options.remembers_rewards:
            self.memory = RewardMemory(num_pairs, decay=options.reward_memory, device=parameters[0].device)
        size = sum(parameter.numel() for parameter in parameters)
        self.of_draw = parameters[0].new_zeros(2, num_draws, size, requires_grad=False)
        self.of_pair = parameters[0].new_zeros(2, num_pairs, size, requires_grad=False)
        # Σ gᵢ·gⱼ of the two terms at each parameter tensor, so that any weighted sum has its squared norm.
        self.products = parameters[0].new_zeros(num_pairs, len(parameters), 2, 2, dtype=torch.float64)

    def add(self, rolled: Rollout, pair: int, draw: int) -> None:
        number = torch.full_like(rolled.valid, pair, dtype=torch.long)
        outside = remembered_rewards(rolled, self.options, self.memory, number)
        rows = [self._gradient(rolled, self.weights[term], *outside) for term in ("key points", "matches")]
        for k, row in enumerate(rows):
            flat = torch.cat([each.flatten() for each in row])
            self.of_draw[k, draw] += flat / self.of_pair.shape[1]
            self.of_pair[k, pair] += flat / self.of_draw.shape[1]
        for k, one in enumerate(rows):
            for j, other in enumerate(rows):
                inner = torch.stack([(a * b).sum(dtype=torch.float64) for a, b in zip(one, other, strict=True)])
                self.products[pair, :, k, j] += inner / self.of_draw.shape[1]

    def _gradient(
        self,
        rolled: Rollout,
        weights: tuple[float, float],
        reference: Float[Tensor, "1"] | None,
        weight: Float[Tensor, "1"] | None,
    ) -> list[Tensor]:
        options = replace(self.options, keypoint_weight=weights[0], match_weight=weights[1])
        loss = loss_of_rollout(rolled, options, reference=reference, weight=weight)
        found = torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(self.parameters, found, strict=True)
        ]

    def signals(self, parts: Sequence[Part]) -> list[GradientSignal]:
        """Of each term over all parameters and over those of each part that has any; ``parts`` names each tensor's."""
        sizes = [parameter.numel() for parameter in self.parameters]
        found = []
        for term, weights in self.weights.items():
            weight = self.of_draw.new_tensor(weights)
            of_draw = torch.einsum("k,knp->np", weight, self.of_draw).split(sizes, dim=1)
            of_pair = torch.einsum("k,knp->np", weight, self.of_pair).split(sizes, dim=1)
            squared = torch.einsum("k,j,npkj->np", weight.double(), weight.double(), self.products)
            for part in ("all", *dict.fromkeys(parts)):
                chosen = [k for k, name in enumerate(parts) if part in ("all", name)]
                new_pairs = noise_to_signal(
                    torch.cat([of_pair[k] for k in chosen], dim=1), squared_norms=squared[:, chosen].sum(dim=1)
                )
                fixed_pairs = noise_to_signal(torch.cat([of_draw[k] for k in chosen], dim=1))
                found.append(GradientSignal(term, part, fixed_pairs, new_pairs))
        return found


def _means(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """The mean of each figure over the rows, brought to the host at once."""
    columns = torch.stack([torch.stack(list(row.values())) for row in rows]).mean(dim=0)
    return dict(zip(rows[0], columns.tolist(), strict=True))
