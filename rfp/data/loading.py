"""The pairs of each training step, read ahead by worker processes: the same pairs in the same order for any number.

The order is fixed by the seed and the step alone, also where images cannot be read, so that a run resumes bit for bit
and a worker needs to know nothing of what the others do.
"""

import io
import multiprocessing
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import count
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.utils.data import DataLoader

from rfp.data.image_cache import ImageCache
from rfp.data.pairs import PairSequence
from rfp.records import InputError, PosedPair, map_tensors

STEPS_AHEAD = 2
"""Of each worker: while one waits to be taken, the next is read."""
ALIGNMENT = 64
"""Bytes to which the tensors of a packed step are aligned, as those of torch's own allocator are."""
TENSORS = ("image1", "image2", "K1", "K2", "R", "t", "depth1", "depth2")
"""Of a pair; the last ones may be missing."""


@dataclass(frozen=True)
class LoadedPairs:
    """The pairs of one step."""

    pairs: list[PosedPair]
    skipped: int = 0
    """Of the step's own pairs, those that could not be read; others stand in their places."""
    unreadable: tuple[str, ...] = ()
    """What was wrong, one line for each pair that was tried in vain."""
    numbers: Int[Tensor, "B"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Of the pairs in the sequence that they were read from."""

    def to(self, device: torch.device | str) -> "LoadedPairs":
        pairs = [map_tensors(pair, lambda tensor: _to(tensor, device)) for pair in self.pairs]
        return replace(self, pairs=pairs, numbers=_to(self.numbers, device))


def batch_indices(step: int, batch_size: int, num_pairs: int, seed: int) -> list[int]:
    """The pairs of one step: each epoch is a permutation of its own, by the seed alone, so that a run resumes."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    return [_pair_at(position, num_pairs, seed) for position in positions]


def _pair_at(position: int, num_pairs: int, seed: int) -> int:
    return _epoch_order(position // num_pairs, num_pairs, seed)[position % num_pairs]


@lru_cache(maxsize=4)
def _epoch_order(epoch: int, num_pairs: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(num_pairs, generator=generator).tolist()


@dataclass(frozen=True)
class StepReader:
    """Reads the pairs of any step. A pair that cannot be read gives its place to the next one after the step that can.

    What stands in depends on the seed, the step and the files alone, not on what was skipped before: it comes once
    more in its own place.
    """

    pairs: PairSequence
    batch_size: int
    seed: int
    strict: bool = False
    """Refuse what cannot be read."""

    def read(self, step: int, wanted: Sequence[int] | None = None) -> LoadedPairs:
        """The pairs of ``step``, counted from 0: those of the epoch's order, or the ``wanted`` ones.

        Raises:
            InputError: a pair cannot be read and ``strict``, or no pair at all can.
        """
        total = len(self.pairs)
        pairs, numbers, unreadable, skipped = [], [], [], 0
        spare = count((step + 1) * self.batch_size)
        for index in batch_indices(step, self.batch_size, total, self.seed) if wanted is None else wanted:
            tried = 0
            while True:
                try:
                    pairs.append(self.pairs[index])
                    numbers.append(index)
                    break
                except InputError as error:
                    if self.strict:
                        raise
                    unreadable.append(str(error))
                    skipped += tried == 0
                    # Two epochs hold every pair, whatever the others of the step have taken.
                    if tried == 2 * total:
                        raise InputError(f"no pair of {total} can be read; the first problem: {error}") from error
                    tried += 1
                    index = _pair_at(next(spare), total, self.seed)
        return LoadedPairs(pairs, skipped, tuple(dict.fromkeys(unreadable)), torch.tensor(numbers))


class PairLoader(Iterator[LoadedPairs]):
    """The pairs of one step after the other on a device, read ahead by ``workers`` processes; with 0 when asked for.

    A context manager: the workers live inside it. They start from a clean process and not as copies of this one, whose
    threads a copy would lack, so that a script which uses them keeps its work under ``if __name__ == "__main__":``.
    Each holds a copy of ``pairs`` with its share of the memory for decoded images, and reads whole steps. A worker that
    dies takes nothing with it: the rest is read here, with a warning.

    Args:
        pairs: what to read; anything that pickles where there are workers.
        batch_size: pairs of a step.
        seed: decides the order.
        steps: the steps to come, counted from 0.
        strict: refuse pairs that cannot be read in place of skipping them.
        device: where the pairs go; from workers to a GPU through pinned memory, without waiting.
        on_warning: called with one line for each image that cannot be read, once, and for a lost worker.
        order: the pairs of a step, in place of the epoch's order; asked for at most ``workers * STEPS_AHEAD`` steps
            before the step is taken, in this process.

    Raises:
        InputError: pairs that do not pickle, on entering; while reading, what :class:`StepReader` says.

    Example:
        >>> with PairLoader(pairs, batch_size=4, seed=0, steps=range(100), workers=2) as loader:  # doctest: +SKIP
        ...     for loaded in loader:
        ...         train(loaded.pairs)
    """

    def __init__(
        self,
        pairs: PairSequence,
        *,
        batch_size: int,
        seed: int,
        steps: range,
        workers: int = 0,
        strict: bool = False,
        device: torch.device | str = "cpu",
        on_warning: Callable[[str], None] | None = None,
        order: Callable[[int], Sequence[int]] | None = None,
    ):
        self.reader = StepReader(pairs, batch_size, seed, strict)
        self.workers, self.device = workers, torch.device(device)
        self.steps, self.order = steps, order
        self._steps = iter(steps)
        self._ahead: Iterator[PackedPairs] | None = None
        self._warn = partial(warnings.warn, stacklevel=3) if on_warning is None else on_warning
        self._warned: set[str] = set()

    def __enter__(self) -> "PairLoader":
        if self.workers and len(self.steps):
            try:
                wanted = _StepsInOrder(self.steps, self.order)
                self._ahead = _read_ahead(self.reader, wanted, self.workers, pin=self.device.type == "cuda")
            except (OSError, EOFError, RuntimeError) as error:  # no processes left, or a script that came by stdin
                self._warn(f"no loading worker could be started ({error}); the pairs are read without them")
        return self

    def __exit__(self, *error: object) -> None:
        self._end_workers()

    def __next__(self) -> LoadedPairs:
        step = next(self._steps)
        loaded, lost = None, None
        if self._ahead is not None:
            try:
                loaded = next(self._ahead).unpack(self.device)
            except Exception as error:
                # What a worker met, this process meets as well and says it plainly. What only a worker meets (killed,
                # out of shared memory) need not end the run.
                self._end_workers()
                lost = str(error).splitlines()[0] if str(error) else type(error).__name__
        if loaded is None:
            loaded = self.reader.read(step, None if self.order is None else self.order(step)).to(self.device)
        if lost is not None:
            self._warn(f"the loading workers ended ({lost}); the rest is read without them")
        for problem in loaded.unreadable:
            if problem not in self._warned:
                self._warned.add(problem)
                self._warn(f"{problem}; pairs that need it are skipped")
        return loaded

    def _end_workers(self) -> None:
        """Wait for their end. Torch has no public name for it: they end with the iterator, which tracebacks hold."""
        if self._ahead is not None:
            self._ahead._shutdown_workers()  # type: ignore[attr-defined]
        self._ahead = None


@dataclass(frozen=True)
class PackedPairs:
    """The pairs of a step with all their tensors in one, whatever the sizes of the images.

    That takes one piece of shared memory, one of pinned memory and one transfer.
    """

    data: Shaped[Tensor, "n"]
    places: list[tuple[int, torch.dtype, torch.Size]]
    """Where each tensor begins, and what it is: those of the first pair, of the second, …, the numbers of the pairs."""
    texts: list[tuple[str, str]]
    """The scene and the name of each pair."""
    names: list[list[str]]
    """Which tensors each pair has."""
    skipped: int
    unreadable: tuple[str, ...]

    def pin_memory(self) -> "PackedPairs":
        """In memory that a GPU reads without the host waiting."""
        return replace(self, data=self.data.pin_memory())

    def unpack(self, device: torch.device | str) -> LoadedPairs:
        """The pairs as views of one tensor on the device."""
        there = _to(self.data, device)
        *tensors, numbers = [
            there[start : start + shape.numel() * dtype.itemsize].view(dtype).view(shape)
            for start, dtype, shape in self.places
        ]
        remaining = iter(tensors)
        pairs = [
            PosedPair(**{each: next(remaining) for each in names}, scene=scene, name=name)
            for names, (scene, name) in zip(self.names, self.texts, strict=True)
        ]
        return LoadedPairs(pairs, self.skipped, self.unreadable, numbers)


def _to(tensor: Tensor, device: torch.device | str) -> Tensor:
    """On the device; without waiting where that is a GPU, whose stream keeps the order."""
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


def pack(loaded: LoadedPairs) -> PackedPairs:
    """The same pairs in one tensor, bit for bit."""
    names = [[name for name in TENSORS if getattr(pair, name) is not None] for pair in loaded.pairs]
    tensors = [getattr(pair, name).contiguous() for pair, own in zip(loaded.pairs, names, strict=True) for name in own]
    tensors.append(loaded.numbers)
    places, end = [], 0
    for tensor in tensors:
        places.append((end, tensor.dtype, tensor.shape))
        end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    packed = torch.zeros(end, dtype=torch.uint8)
    for (start, _, _), tensor in zip(places, tensors, strict=True):
        packed[start : start + tensor.nbytes] = tensor.flatten().view(torch.uint8)
    texts = [(pair.scene, pair.name) for pair in loaded.pairs]
    return PackedPairs(packed, places, texts, names, loaded.skipped, loaded.unreadable)


@dataclass(frozen=True)
class _StepsInOrder:
    """The steps to come, each with the pairs wanted; asked for one by one as workers become free."""

    steps: range
    order: Callable[[int], Sequence[int]] | None

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[int, Sequence[int] | None]]:
        return ((step, None if self.order is None else self.order(step)) for step in self.steps)


def _read_ahead(reader: StepReader, steps: _StepsInOrder, workers: int, *, pin: bool) -> Iterator[PackedPairs]:
    """The packed pairs of the steps in order, each read as a whole by one of the workers, which start now."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise InputError(
            "a script that loads with workers is imported by each of them: keep its work under "
            'if __name__ == "__main__": (or use no workers)'
        )
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])  # imports torch once, for all workers of this process
    loader = DataLoader(
        _StepsOfWorker(_pickled(reader, workers)),  # type: ignore[arg-type]
        batch_size=None,
        sampler=steps,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        worker_init_fn=_begin_worker,
        multiprocessing_context=context,
        pin_memory=pin,
        prefetch_factor=STEPS_AHEAD,
        generator=torch.Generator(),  # or it would draw from the global one
    )
    return iter(loader)


class _StepsOfWorker:
    """What a worker indexes by the step and the pairs wanted of it."""

    def __init__(self, pickled: bytes):
        self.pickled = pickled
        self.reader: StepReader | None = None

    def __getitem__(self, wanted: tuple[int, Sequence[int] | None]) -> PackedPairs:
        if self.reader is None:
            self.reader = pickle.loads(self.pickled)
            self.pickled = b""
        assert self.reader is not None
        return pack(self.reader.read(*wanted))


def _begin_worker(number: int) -> None:
    """Ctrl-C reaches every process of a terminal: the training process decides, after the step in progress."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _as_it_is(packed: PackedPairs) -> PackedPairs:
    return packed


def _pickled(reader: StepReader, workers: int) -> bytes:
    """The reader for each of the workers; the memory for decoded images moves to them in equal shares.

    Raises:
        InputError: its pairs do not pickle.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, workers)
    try:
        pickler.dump(reader)
    except Exception as error:  # PicklingError, TypeError, AttributeError, or what __getstate__ raises
        kind = type(reader.pairs).__name__
        raise InputError(f"these pairs ({kind}) cannot be sent to workers: {error}; use no workers") from error
    for cache in pickler.caches:
        cache.clear()
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Small tensors as arrays (torch writes an archive for each: minutes for 10⁵ records), caches empty."""

    def __init__(self, file: io.BytesIO, workers: int):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.workers = workers
        self.caches: list[ImageCache] = []

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, ImageCache):
            self.caches.append(value)
            return partial(ImageCache, value.image_size, max_bytes=value.max_bytes // self.workers), ()
        if type(value) is Tensor and value.device.type == "cpu" and not value.requires_grad:
            try:
                return torch.from_numpy, (value.numpy(),)
            except (TypeError, RuntimeError):  # bfloat16, sparse
                return NotImplemented
        return NotImplemented
