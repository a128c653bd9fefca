"""The estimators of the gradient by name, as the coefficients that the library's surrogate gives to the draws."""

from dataclasses import dataclass
from typing import Any

import torch
from projected_draws import Group
from torch import Tensor

from rfp.records import MatchExpectation
from rfp.reinforce import Baseline, RewardMemory, coefficient_of_others, surrogate_per_pair

PAPER = "the paper's: mean"
TOGETHER = 4
"""Pairs of a batch, from which a coefficient is estimated."""


@dataclass(frozen=True)
class Estimator:
    """What is done with the nine rewards of a group."""

    baseline: Baseline
    reward: str = "pose"
    layout: str = "3 x 3"
    coefficient: float | str | None = None
    """Of the control variate, the share of right matches."""
    compared_with: str = PAPER

    @property
    def objective(self) -> str:
        """Common random numbers change no expectation."""
        return self.reward.split(",")[0]


ESTIMATORS = {
    PAPER: Estimator("mean"),
    "none": Estimator("none"),
    "leave one out": Estimator("leave_one_out"),
    "all others": Estimator("all_others"),
    "moving average": Estimator("moving_average"),
    "self-critical": Estimator("self_critical"),
    "leave one out, common random numbers": Estimator("leave_one_out", "pose, common noise"),
    "leave one out, control c = 1": Estimator("leave_one_out", coefficient=1.0),
    "leave one out, control c estimated": Estimator("leave_one_out", coefficient="estimated"),
    "moving average, control c estimated": Estimator("moving_average", coefficient="estimated"),
    "moving average, control c estimated, common random numbers": Estimator(
        "moving_average", "pose, common noise", coefficient="estimated"
    ),
    "all others, 9 draws of key points x 1 of matches": Estimator("all_others", layout="9 x 1"),
    "moving average, 9 x 1": Estimator("moving_average", layout="9 x 1"),
    "all others, 9 x 1, control c estimated": Estimator("all_others", layout="9 x 1", coefficient="estimated"),
    "moving average, 9 x 1, control c estimated": Estimator("moving_average", layout="9 x 1", coefficient="estimated"),
    "right matches, sampled: leave one out": Estimator("leave_one_out", "right matches", compared_with="own"),
    "right matches, exact expectation": Estimator(
        "leave_one_out",
        "right matches",
        coefficient=1.0,
        compared_with="right matches, sampled: leave one out",
    ),
    "right matches, exact expectation, 9 x 1": Estimator(
        "all_others",
        "right matches",
        layout="9 x 1",
        coefficient=1.0,
        compared_with="right matches, sampled: leave one out",
    ),
}


def estimates(name: str, pairs: list[dict[str, Group]], *, warm_up: int) -> dict[str, Tensor]:
    """The gradients of an estimator, projected, (pairs, draws, Q), of the detector's and the descriptor's term."""
    estimator = ESTIMATORS[name]
    groups = [pair[estimator.layout] for pair in pairs]
    reward = torch.stack([group.rewards[estimator.reward] for group in groups])  # (P, G, S, T)
    reference = _reference(estimator.baseline, reward, groups)
    control, coefficient = None, 1.0
    if estimator.coefficient is not None:
        control = MatchExpectation(
            torch.stack([group.control.sampled for group in groups]),
            torch.stack([group.control.expected for group in groups]).clone().requires_grad_(),
        )
        coefficient = _coefficient(estimator.coefficient, reward, control)
    log_x = torch.zeros(reward.shape[:-1], requires_grad=True)
    log_m = torch.zeros(reward.shape, requires_grad=True)
    surrogate = -surrogate_per_pair(
        reward,
        log_x,
        log_m,
        baseline=estimator.baseline,
        reference=reference,
        control=control,
        coefficient=coefficient,
    ).sum()
    of_x, of_m = torch.autograd.grad(surrogate, (log_x, log_m), retain_graph=True)
    detector = (of_x[..., None] * torch.stack([group.keypoints for group in groups])).sum(-2)
    descriptor = (of_m[..., None] * torch.stack([group.matches for group in groups])).sum((-3, -2))
    if control is not None:
        (of_e,) = torch.autograd.grad(surrogate, control.expected)
        descriptor = descriptor + (of_e[..., None] * torch.stack([group.expectation for group in groups])).sum((-3, -2))
    return {"detector": detector[:, warm_up:], "descriptor": descriptor[:, warm_up:]}


def _reference(baseline: str, reward: Tensor, groups: list[Group]) -> Tensor | None:
    if baseline == "self_critical":
        return torch.stack([group.rewards["deployed"][:, 0, 0] for group in groups])
    if baseline != "moving_average":
        return None
    memory, number = RewardMemory(len(reward)), torch.arange(len(reward))
    valid, references = torch.ones(len(reward), dtype=torch.bool), []
    for step in reward.unbind(1):
        references.append(memory.read(number)[0])
        memory.update(number, step, valid)
    return torch.stack(references, dim=1)


def _coefficient(asked: float | str, reward: Tensor, control: MatchExpectation) -> float | Tensor:
    """As it is, or of each draw from the others of a batch of pairs."""
    if not isinstance(asked, str):
        return asked
    coefficients = []
    for start in range(0, len(reward), TOGETHER):
        batch = slice(start, start + TOGETHER)
        of_batch = MatchExpectation(control.sampled[batch].transpose(0, 1), control.expected[batch].transpose(0, 1))
        coefficients.append(coefficient_of_others(reward[batch].transpose(0, 1), of_batch).transpose(0, 1))
    return torch.cat(coefficients)


def noise_rows(gradients: dict[str, dict[str, Tensor]], term: str) -> list[dict[str, Any]]:
    """A row an estimator: noise to signal, and how far its noise is below that of what it is compared with.

    tr Cov(g) and ‖E g‖² are summed over the pairs. Estimators of one objective share its ‖E g‖², taken from the one
    with the least noise; intervals are of 2000 bootstraps over the pairs.
    """
    noise, signal = {}, {}
    for name, of_terms in gradients.items():
        g = of_terms[term]
        if ESTIMATORS[name].baseline == "mean":  # its expectation is (1 - 1/3) of the gradient
            g = g * 1.5
        noise[name], signal[name] = moments(g)
    rows = []
    draw = torch.randint(len(g), (2000, len(g)), generator=torch.Generator().manual_seed(0))
    for name, estimator in ESTIMATORS.items():
        same = [other for other, its in ESTIMATORS.items() if its.objective == estimator.objective]
        best = min(same, key=lambda other: float(noise[other].sum()))
        row: dict[str, Any] = {"estimator": name}
        row["noise / signal"] = ratio(noise[name], signal[best], draw)
        if estimator.compared_with != "own":
            row["times less noise"] = ratio(noise[estimator.compared_with], noise[name], draw)
        rows.append(row)
    return rows


def moments(g: Tensor) -> tuple[Tensor, Tensor]:
    """(tr Cov(g), ‖E g‖²) of each pair from n independent draws (P, n, Q), both without a bias.

    ‖E g‖² is the mean product of different draws: every pair of independent halves.
    """
    n, directions = g.shape[1:]
    g = g.double()
    own = g.square().sum((-2, -1)) / directions
    of_different = (g.sum(1).square().sum(-1) / directions - own) / (n * (n - 1))
    return own / n - of_different, of_different


def ratio(above: Tensor, below: Tensor, draw: Tensor) -> dict[str, float] | str:
    """Σ above / Σ below over the pairs, with its 95 % bootstrap interval; a bound in words where below may be zero."""
    if not float(below.abs().sum()) > 1e-9 * float(above.sum()):
        return "no noise"
    inverse = (below[draw].sum(-1) / above[draw].sum(-1)).sort().values  # of the two, what may be zero lies above
    low, high = (float(inverse[int(share * len(inverse))]) for share in (0.025, 0.975))
    if low <= 0:
        return f"signal not found, above {1 / high:.0f}" if high > 0 else "signal not found"
    return {"mean": float(above.sum() / below.sum()), "low": 1 / high, "high": 1 / low}
