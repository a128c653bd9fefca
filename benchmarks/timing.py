"""Calls timed beside each other in one run, by two clocks."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch

WARM_UP = 2


def alternating(
    calls: Mapping[str, Callable[[], Any]], *, repetitions: int, threads: int
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each call by clock and call, the calls taking turns. No gradients.

    By the clock with ``threads`` of torch, and by the processor's time of a single thread: what others run on the
    machine stretches the first and hardly the second.
    """
    clocks = {
        f"by the clock, {threads} threads": (threads, time.perf_counter),
        "processor time, 1 thread": (1, time.process_time),
    }
    rows = {}
    for clock_name, (clock_threads, clock) in clocks.items():
        torch.set_num_threads(clock_threads)
        measured: dict[str, list[float]] = defaultdict(list)
        with torch.no_grad():
            for repetition in range(repetitions + WARM_UP):
                for name, call in calls.items():
                    started = clock()
                    call()
                    if repetition >= WARM_UP:
                        measured[name].append(1e3 * (clock() - started))
        rows[clock_name] = dict(measured)
    torch.set_num_threads(threads)
    return rows


def spread(values: list[float]) -> dict[str, Any]:
    """Median and quartiles."""
    first, median, third = statistics.quantiles(values, n=4)
    return {"median": round(median, 3), "quartiles": [round(first, 3), round(third, 3)]}
