"""Which pairs of a data set come next, by the rewards seen: those whose draws disagree, from easy pairs to hard ones.

A pair on which all draws succeed, or all fail, teaches nothing. The order is decided for a block of steps at a time,
those between two readings of the metrics, when rewards come to the host anyway, and one block ahead of the one in
progress: workers may read ahead, and the order depends neither on them nor on when a run was interrupted.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.pairs import PairSequence
from rfp.records import InputError, PosedPair
from rfp.rollout import Rollout


@dataclass(frozen=True)
class CurriculumOptions:
    """How the pairs of a data set are chosen; by default each epoch is a permutation of all of them."""

    share: float = 0.0
    """Of the pairs of each step, those chosen by how much their draws disagree; 0 is off. The others are drawn evenly
    from all, so that no pair is lost."""
    memory: float = 0.5
    """Weight of what was known of a pair when its draws are seen again."""
    warmup_steps: int = 0
    """Steps over which the pairs to choose from grow from the easiest to all, by the start's deployed pose error; 0
    begins with all of them and spares the judging of the start on every pair."""
    easiest: float = 0.25
    """Share of the pairs, the easiest, that a warm-up begins with."""

    def __post_init__(self):
        if not 0.0 <= self.share < 1.0:
            raise InputError(f"expected a curriculum.share in [0, 1), got {self.share}; 0.8 is usual")
        if not 0.0 <= self.memory < 1.0:
            raise InputError(f"expected a curriculum.memory in [0, 1), got {self.memory}; 0.5 is usual")
        if self.warmup_steps < 0:
            raise InputError(f"expected curriculum.warmup_steps of at least 0, got {self.warmup_steps}")
        if not 0.0 < self.easiest <= 1.0:
            raise InputError(f"expected curriculum.easiest in (0, 1], got {self.easiest}; 0.25 is usual")

    @property
    def on(self) -> bool:
        """Whether rewards have a say in what comes next."""
        return self.share > 0.0


def pair_statistics(rolled: Rollout) -> Float[Tensor, "2 B"]:
    """The mean and the standard deviation of the rewards of each pair's draws; 0 where its input is unusable."""
    rewards = rolled.reward.flatten(1)
    spread = rewards.std(dim=1, correction=min(1, rewards.shape[1] - 1))
    return torch.where(rolled.valid, torch.stack([rewards.mean(dim=1), spread]), 0.0)


def hardness_of(pairs: PairSequence, judge: Callable[[Sequence[PosedPair]], Sequence[float]]) -> list[float]:
    """The error that ``judge`` finds for each pair, infinite for one that cannot be read."""
    readable = []
    for number in range(len(pairs)):
        with suppress(InputError):
            pairs[number]
            readable.append(number)
    hardness = [math.inf] * len(pairs)
    for number, error in zip(readable, judge(_Chosen(pairs, readable)) if readable else (), strict=True):
        hardness[number] = error
    return hardness


@dataclass(frozen=True)
class _Chosen(Sequence[PosedPair]):
    """Some of the pairs, read when they are asked for."""

    pairs: PairSequence
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index):
        return self.pairs[self.numbers[index]]


class Curriculum:
    """The order of the pairs, and what is known of each.

    Args:
        num_pairs: of the data set.
        pairs_per_step: of all batches of a step.
        block: steps for which an order is decided at once.
        hardness: of each pair for the start; only their order counts. None: there is no warm-up.
    """

    def __init__(
        self,
        options: CurriculumOptions,
        num_pairs: int,
        *,
        pairs_per_step: int,
        block: int,
        seed: int,
        hardness: Sequence[float] | None = None,
    ):
        self.options, self.num_pairs, self.seed = options, num_pairs, seed
        self.pairs_per_step, self.block = pairs_per_step, block
        self.mean = torch.zeros(num_pairs, dtype=torch.float64)
        self.spread = torch.zeros(num_pairs, dtype=torch.float64)
        self.visits = torch.zeros(num_pairs, dtype=torch.int64)
        easy_first = range(num_pairs) if hardness is None else sorted(range(num_pairs), key=hardness.__getitem__)
        self.rank = torch.empty(num_pairs, dtype=torch.int64)
        self.rank[torch.tensor(list(easy_first))] = torch.arange(num_pairs)
        self.warmup_steps = 0 if hardness is None else options.warmup_steps
        self.orders: dict[int, list[int]] = {}
        self._pending: list[tuple[Int[Tensor, "P"], Float[Tensor, "2 P"]]] = []
        for number in (0, 1):
            self.orders[number] = self._order(number)

    def indices(self, step: int) -> list[int]:
        """The pairs of a step, counted from 0, in the block in progress or the next one."""
        begin = step % self.block * self.pairs_per_step
        return self.orders[step // self.block][begin : begin + self.pairs_per_step]

    def add(self, numbers: Int[Tensor, "P"], statistics: Float[Tensor, "2 P"]) -> None:
        """Keep ``pair_statistics`` of the pairs of a step, by their numbers, on the device until they are read."""
        self._pending.append((numbers, statistics))

    def read(self, step: int) -> None:
        """Bring what was kept to the host after ``step`` steps; at the end of a block decide the one after the next."""
        if self._pending:
            numbers = torch.cat([each for each, _ in self._pending]).tolist()
            statistics = torch.cat([values for _, values in self._pending], dim=1).tolist()
            for number, mean, spread in zip(numbers, *statistics, strict=True):
                self._see(number, mean, spread)
            self._pending = []
        number = step // self.block
        if step % self.block == 0 and number + 1 not in self.orders:
            self.orders = {number: self.orders[number], number + 1: self._order(number + 1)}

    def probabilities(self, step: int) -> Float[Tensor, "N"]:
        """With which each pair is chosen from ``step`` on, by what is known now.

        ``share`` goes to the pairs of the warm-up's pool (all after it) in proportion to the spread of their rewards,
        a pair never seen counting as the mean of those that were; the rest goes evenly to all.
        """
        seen = self.visits > 0
        usual = self.spread[seen].mean() if bool(seen.any()) else torch.ones((), dtype=torch.float64)
        interest = torch.where(seen, self.spread, usual)
        pool = self.options.easiest + (1.0 - self.options.easiest) * step / max(1, self.warmup_steps)
        size = self.num_pairs if step >= self.warmup_steps else max(1, round(pool * self.num_pairs))
        chosen = self.rank < size
        interest = torch.where(chosen, interest, 0.0)
        if float(interest.sum()) <= 0.0:
            interest = chosen.double()
        return self.options.share * interest / interest.sum() + (1.0 - self.options.share) / self.num_pairs

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; everything must have been read."""
        known = {name: getattr(self, name) for name in ("mean", "spread", "visits", "rank")}
        return {**known, "orders": self.orders, "warmup_steps": self.warmup_steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state()``."""
        for name, value in state.items():
            setattr(self, name, value)

    def _see(self, number: int, mean: float, spread: float) -> None:
        old = self.options.memory if self.visits[number] > 0 else 0.0
        self.mean[number] = old * self.mean[number] + (1.0 - old) * mean
        self.spread[number] = old * self.spread[number] + (1.0 - old) * spread
        self.visits[number] += 1

    def _order(self, number: int) -> list[int]:
        """The pairs of a block, as often as they are expected: p n times, rounded up or down by systematic sampling.

        So a pair comes twice in a block only if that is more than its due, and the evenly drawn rest finds all pairs
        soon. (Madow 1949: equidistant points, with one random start, on the cumulative sum in random order.)
        """
        text = f"curriculum block {number}, seed {self.seed}"
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1)
        count = self.block * self.pairs_per_step
        shuffled = torch.randperm(self.num_pairs, generator=generator)
        cumulative = (self.probabilities(number * self.block)[shuffled] * count).cumsum(0)
        points = torch.arange(count) + torch.rand((), generator=generator, dtype=torch.float64)
        place = torch.searchsorted(cumulative, points, right=True).clamp_max(self.num_pairs - 1)
        return shuffled[place][torch.randperm(count, generator=generator)].tolist()
