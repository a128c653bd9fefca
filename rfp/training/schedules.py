"""What changes with the step in a run: the learning rate, and the temperature at which matches are drawn."""

import math
from dataclasses import dataclass
from typing import Literal

from rfp.records import InputError


@dataclass(frozen=True)
class ScheduleOptions:
    """How the rate and the temperature go over the run; by default both stay where they are after the warm-up."""

    rate: Literal["constant", "cosine"] = "constant"
    """Of the learning rate after its warm-up; "cosine" falls to ``final_rate`` along half a cosine."""
    final_rate: float = 0.0
    """Share of the learning rate that "cosine" ends with."""
    final_temperature: float | None = None
    """τ of the match policy in the last step, rollout.matches.temperature being that of the first; None keeps it."""
    temperature: Literal["geometric", "linear"] = "geometric"
    """Whether equal steps multiply τ or add to it."""
    steps: int | None = None
    """Steps after which both are at their end; None: the steps of the run, which then cannot be raised on resuming."""

    def __post_init__(self):
        if self.rate not in ("constant", "cosine"):
            raise InputError(f"expected a schedule.rate of constant, cosine, got {self.rate!r}")
        if self.temperature not in ("geometric", "linear"):
            raise InputError(f"expected a schedule.temperature of geometric, linear, got {self.temperature!r}")
        if not 0.0 <= self.final_rate <= 1.0:
            raise InputError(f"expected a schedule.final_rate in [0, 1], a share, got {self.final_rate}; 0.1 is usual")
        if self.final_temperature is not None and not 0.0 < self.final_temperature < math.inf:
            raise InputError(f"expected a schedule.final_temperature above 0, got {self.final_temperature}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"expected schedule.steps of at least 1, got {self.steps}")

    @property
    def on(self) -> bool:
        """Whether anything depends on how long the run is."""
        return self.rate != "constant" or self.final_temperature is not None


def learning_rate_at(step: int, rate: float, warmup_steps: int, schedule: ScheduleOptions, steps: int) -> float:
    """The rate of ``step``, counted from 0, in a run of ``steps``.

    >>> schedule = ScheduleOptions(rate="cosine", final_rate=0.1)
    >>> [round(learning_rate_at(step, 1.0, 2, schedule, 10), 2) for step in (0, 1, 6, 10)]
    [0.5, 1.0, 0.55, 0.1]
    """
    risen = rate * min(1.0, (step + 1) / max(1, warmup_steps))
    if schedule.rate == "constant":
        return risen
    length = schedule.steps or steps
    progress = min(1.0, max(0.0, (step - warmup_steps) / max(1, length - warmup_steps)))
    return risen * (schedule.final_rate + (1.0 - schedule.final_rate) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def temperature_at(step: int, temperature: float, schedule: ScheduleOptions, steps: int) -> float:
    """τ of ``step``, counted from 0, in a run of ``steps`` that begins with ``temperature``.

    >>> [temperature_at(step, 1.0, ScheduleOptions(final_temperature=0.25), 5) for step in (0, 2, 4)]
    [1.0, 0.5, 0.25]
    """
    final = schedule.final_temperature
    if final is None:
        return temperature
    progress = min(1.0, step / max(1, (schedule.steps or steps) - 1))
    if schedule.temperature == "linear":
        return temperature + progress * (final - temperature)
    return temperature * (final / temperature) ** progress
