"""Ctrl-C and termination between two steps instead of in the middle of one, so that nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Interruption:
    """Whether somebody asked to stop."""

    requested: bool = False


@contextmanager
def deferred_interruption() -> Iterator[Interruption]:
    """The first SIGINT or SIGTERM only sets ``requested``; a second one acts at once. Handlers are put back at the end.

    Signals can be caught in the main thread only; elsewhere this does nothing.
    """
    state = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return

    def note(number: int, frame) -> None:
        if state.requested:
            raise KeyboardInterrupt
        state.requested = True

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
