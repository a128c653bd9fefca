"""Time by stage, for ``rfp train --profile``: a label costs nothing until somebody holds a clock."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch


class StageClock:
    """The seconds spent under each label. Labels do not nest: each moment has one.

    On a GPU the work of a stage lies between two events on the stream, which are read at the end: nothing waits for
    the device in between.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time inside to ``name``."""
        if self.device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._events.append((name, begin, end))
        else:
            started = time.perf_counter()
            yield
            self._seconds[name] += time.perf_counter() - started

    def seconds(self) -> dict[str, float]:
        """The seconds of each stage, the longest first. On a GPU this waits for it."""
        if self._events:
            torch.cuda.synchronize(self.device)
            for name, begin, end in self._events:
                self._seconds[name] += begin.elapsed_time(end) / 1000
            self._events.clear()
        return dict(sorted(self._seconds.items(), key=lambda item: -item[1]))


_clock: ContextVar[StageClock | None] = ContextVar("stage_clock", default=None)


@contextmanager
def stage_clock(device: torch.device) -> Iterator[StageClock]:
    """A clock that runs inside the block, for the stages of this thread.

    Example:
        >>> with stage_clock(torch.device("cpu")) as clock:
        ...     with stage("sleep"):
        ...         time.sleep(0.01)
        >>> clock.seconds()["sleep"] > 0.009
        True
    """
    clock = StageClock(device)
    token = _clock.set(clock)
    try:
        yield clock
    finally:
        _clock.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Label what runs inside, for the clock that runs, if any."""
    clock = _clock.get()
    if clock is None:
        yield
    else:
        with clock.measure(name):
            yield
