"""What tells one run from another: the options that last, the data, and the seeds of a stream."""

import hashlib
from dataclasses import asdict
from typing import Any

from rfp.data.pairs import PairSequence, PairStream
from rfp.training.options import TrainerOptions

FREE_TO_CHANGE = ("steps", "workers", "strict")
"""Options that a resumed run need not share with its beginning."""


def lasting_options(options: TrainerOptions) -> dict[str, Any]:
    """The options that a resumed run must share with its beginning; with the length of a schedule, if there is one."""
    lasting = {name: value for name, value in asdict(options).items() if name not in FREE_TO_CHANGE}
    if options.schedule.on and options.schedule.steps is None:
        lasting["schedule"]["steps"] = options.steps
    return lasting


def describe_pairs(pairs: PairSequence | PairStream) -> str:
    """Tells one data set from another, in one line."""
    if isinstance(pairs, PairStream):
        return repr(pairs)
    names = getattr(pairs, "names", None) or [str(len(pairs))]
    size = getattr(pairs, "image_size", None)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    return f"{len(pairs)} pairs at {size} px, {digest}" if size else f"{len(pairs)} pairs, {digest}"


def stream_seed(seed: int, step: int) -> int:
    """What a stream's generator begins with at one step of a run; far from the small numbers that people choose.

    A sum of both would meet the seeds of fixed sets, and a set that judges must not be what trains.
    """
    return int.from_bytes(hashlib.sha256(f"pairs of step {step}, seed {seed}".encode()).digest()[:8]) >> 1
