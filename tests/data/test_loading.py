"""Laws of loading: the same pairs in the same order from any number of workers, none of which outlives its loader."""

import gc
import importlib
import multiprocessing
import os
import pickle
import signal
from dataclasses import fields, replace
from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor

from rfp.data import InputError, PosedPairs, RenderedPairs, SceneOptions
from rfp.data.loading import LoadedPairs, PairLoader, StepReader, _pickled, batch_indices, pack
from rfp.records import PosedPair

BROKEN = b"not an image"


def same(one: PosedPair, two: PosedPair) -> bool:
    values = [(getattr(one, field.name), getattr(two, field.name)) for field in fields(PosedPair)]
    return all(
        a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
        for a, b in values
    )


def load(pairs, workers, *, steps=range(5), batch_size=3, **more) -> list[LoadedPairs]:
    with PairLoader(pairs, batch_size=batch_size, seed=4, steps=steps, workers=workers, **more) as loader:
        return list(loader)


def assert_same_steps(one: list[LoadedPairs], two: list[LoadedPairs]) -> None:
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert (first.skipped, first.unreadable) == (second.skipped, second.unreadable)
        assert all(same(a, b) for a, b in zip(first.pairs, second.pairs, strict=True))


@pytest.fixture
def uneven_folder(pairs_folder) -> Path:
    """Images of three sizes, so that a step holds several."""
    for number, scale in ((1, 0.5), (3, 1.5)):
        path = str(pairs_folder / "images" / f"{number}.png")
        cv2.imwrite(path, cv2.resize(cv2.imread(path), None, fx=scale, fy=0.8 * scale))
    return pairs_folder


@pytest.fixture
def broken_folder(pairs_folder) -> Path:
    (pairs_folder / "images" / "3.png").write_bytes(BROKEN)  # of two of the five pairs
    return pairs_folder


def test_the_pairs_and_their_order_do_not_depend_on_the_number_of_workers(uneven_folder):
    """Bit for bit, though this process computes with two threads and a worker with one."""
    pairs = PosedPairs(uneven_folder, image_size=100)
    torch.set_num_threads(2)
    try:
        alone = load(pairs, 0)
    finally:
        torch.set_num_threads(1)
    assert [len(step.pairs) for step in alone] == [3] * 5
    assert len({step.pairs[0].image1.shape for step in alone}) > 1
    names = [pair.name for step in alone for pair in step.pairs]
    assert names == [pairs.names[k] for step in range(5) for k in batch_indices(step, 3, 5, seed=4)]
    before = torch.get_rng_state()
    for workers in (1, 2):
        assert_same_steps(load(pairs, workers), alone)
        assert multiprocessing.active_children() == []
    assert torch.equal(torch.get_rng_state(), before)


def test_reading_can_begin_at_any_step(broken_folder):
    pairs = PosedPairs(broken_folder)
    whole = load(pairs, 0, on_warning=lambda line: None)
    for workers in (0, 2):
        assert_same_steps(load(pairs, workers, steps=range(2, 5), on_warning=lambda line: None), whole[2:])


def test_every_epoch_holds_each_pair_once():
    positions = [index for step in range(6) for index in batch_indices(step, 2, 4, seed=1)]
    assert [sorted(positions[k : k + 4]) for k in (0, 4, 8)] == [list(range(4))] * 3
    assert len({tuple(positions[k : k + 4]) for k in (0, 4, 8)}) > 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pair_that_cannot_be_read_gives_its_place_to_the_next_that_can(broken_folder, workers):
    pairs = PosedPairs(broken_folder)
    bad = {k for k, record in enumerate(pairs.records) if "3.png" in record.name}
    assert len(bad) == 2
    warnings: list[str] = []
    steps = load(pairs, workers, steps=range(5), batch_size=2, on_warning=warnings.append)
    for number, step in enumerate(steps):
        own = batch_indices(number, 2, 5, seed=4)
        after = iter([k for later in range(number + 1, 20) for k in batch_indices(later, 2, 5, seed=4)])
        expected = [k if k not in bad else next(j for j in after if j not in bad) for k in own]
        assert [pair.name for pair in step.pairs] == [pairs.names[k] for k in expected]
        assert step.skipped == sum(k in bad for k in own)
    assert sum(step.skipped for step in steps) == 4, "two in each of the two epochs"
    (warning,) = warnings
    assert "3.png: not an image" in warning
    assert "skipped" in warning


@pytest.mark.parametrize("workers", [0, 1])
def test_strict_refuses_the_pair_in_the_same_line(broken_folder, workers):
    pairs = PosedPairs(broken_folder)
    gc.disable()  # which would end workers that only a traceback holds
    try:
        with pytest.raises(InputError) as caught:
            load(pairs, workers, strict=True)
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()
    path = broken_folder / "images" / "3.png"
    assert str(caught.value).startswith(f"{path}: not an image that OpenCV can read")
    assert "\n" not in str(caught.value)


def test_where_nothing_can_be_read_it_says_so_and_ends(pairs_folder):
    pairs = PosedPairs(pairs_folder)
    for path in pairs.image_paths:
        path.write_bytes(BROKEN)
    with pytest.raises(InputError, match=r"no pair of 5 can be read; the first problem: .*not an image"):
        load(pairs, 0)


class Odd(PosedPairs):
    """Five pairs of which one does what ``misfortune`` says."""

    def __init__(self, folder: Path, misfortune: str):
        super().__init__(folder)
        self.misfortune, self.process, self.key = misfortune, os.getpid(), None

    def __getitem__(self, index):
        if index == 2 and self.misfortune == "raises":
            raise KeyError("no such thing")
        if index == 2 and self.misfortune == "dies" and os.getpid() != self.process:
            os._exit(3)
        return super().__getitem__(index)


def test_any_other_exception_of_a_worker_is_raised_as_without_workers(session_pairs_folder):
    pairs = Odd(session_pairs_folder, "raises")
    for workers in (0, 1):
        with pytest.raises(KeyError) as caught:
            load(pairs, workers)
        assert caught.value.args == ("no such thing",)


def test_a_worker_that_dies_takes_no_pair_with_it(session_pairs_folder, monkeypatch):
    wait = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(wait, "__defaults__", (0.2,))  # seconds after which torch looks whether its workers live
    warnings: list[str] = []
    steps = load(Odd(session_pairs_folder, "dies"), 1, on_warning=warnings.append)
    assert_same_steps(steps, load(PosedPairs(session_pairs_folder), 0))
    assert len(warnings) == 1
    assert "workers ended" in warnings[0]
    assert multiprocessing.active_children() == []


def test_what_does_not_pickle_is_refused_in_one_line(session_pairs_folder):
    pairs = Odd(session_pairs_folder, "none")
    pairs.key = lambda: None
    with pytest.raises(InputError, match=r"these pairs \(Odd\) cannot be sent to workers: .*use no workers"):
        load(pairs, 1)


def test_a_script_that_its_workers_import_is_told_to_guard_its_work(session_pairs_folder, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(InputError, match='if __name__ == "__main__"'):
        load(PosedPairs(session_pairs_folder), 1)


def test_where_no_worker_starts_the_pairs_are_read_without(session_pairs_folder, monkeypatch):
    def refused(*args, **kwargs):
        raise BrokenPipeError("no more processes")

    monkeypatch.setattr("rfp.data.loading.DataLoader", refused)
    warnings: list[str] = []
    pairs = PosedPairs(session_pairs_folder)
    assert_same_steps(load(pairs, 2, on_warning=warnings.append), load(pairs, 0))
    assert len(warnings) == 1
    assert "no more processes" in warnings[0]


def test_workers_end_with_their_loader_in_the_middle_of_its_steps(session_pairs_folder):
    pairs = PosedPairs(session_pairs_folder)
    with PairLoader(pairs, batch_size=2, seed=0, steps=range(1000), workers=2) as loader:
        next(loader)
        workers = multiprocessing.active_children()
        assert len(workers) == 2
    assert multiprocessing.active_children() == []
    assert not any(worker.is_alive() for worker in workers)


def test_ctrl_c_in_a_terminal_does_not_end_the_workers(session_pairs_folder):
    """It reaches every process; the training process has to finish its step, and needs them for that."""
    warnings: list[str] = []
    pairs = PosedPairs(session_pairs_folder)
    with PairLoader(pairs, batch_size=2, seed=0, steps=range(12), workers=1, on_warning=warnings.append) as loader:
        next(loader)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGINT)
        assert len(list(loader)) == 11
    assert warnings == []


def test_the_memory_for_images_moves_to_the_workers_in_equal_shares(session_pairs_folder):
    pairs = PosedPairs(session_pairs_folder, cache_mb=9.0)
    first = pairs[0]
    assert pairs._cache._bytes > 0
    copy = pickle.loads(_pickled(StepReader(pairs, 2, 0), workers=3)).pairs
    assert pairs._cache._bytes == 0
    assert not pairs._cache._entries
    assert copy._cache.max_bytes == 3_000_000
    assert not copy._cache._entries
    assert same(copy[0], first)
    assert copy.names == pairs.names


def test_the_numbers_of_records_are_sent_as_arrays(session_pairs_folder):
    """Torch writes an archive for each tensor that it pickles: half a minute for ten thousand records."""
    sent = _pickled(StepReader(PosedPairs(session_pairs_folder), 2, 0), workers=2)
    assert b"_rebuild_tensor" not in sent
    assert len(sent) < 8000


def test_packing_changes_no_bit_no_type_and_no_shape(session_pairs_folder):
    pair = PosedPairs(session_pairs_folder)[0]
    double = replace(
        pair, K1=pair.K1.double(), t=torch.tensor([float("nan"), 0.0, -0.0]), image1=pair.image1[:, :7, :5]
    )
    strided = replace(pair, image2=pair.image2.transpose(1, 2), R=torch.eye(3, dtype=torch.float16))
    strided = replace(strided, depth2=torch.rand(strided.image2.shape[1:]))  # one of them, and of one pair
    unpacked = pack(LoadedPairs([double, strided], 1, ("a",), torch.tensor([7, 3]))).unpack("cpu")
    assert (unpacked.skipped, unpacked.unreadable, unpacked.numbers.tolist()) == (1, ("a",), [7, 3])
    assert unpacked.pairs[1].depth1 is None
    torch.testing.assert_close(unpacked.pairs[1].depth2, strided.depth2, atol=0, rtol=0)
    for before, after in zip((double, strided), unpacked.pairs, strict=True):
        assert same(replace(before, t=pair.t), replace(after, t=pair.t))
        assert before.t.view(torch.int32).tolist() == after.t.view(torch.int32).tolist()


def test_the_benchmark_writes_pairs_that_it_can_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    benchmark = importlib.import_module("data_loading")
    folder = benchmark.rendered_folder(tmp_path / "rendered", num_pairs=2)
    pair, small = PosedPairs(folder)[1], PosedPairs(folder, image_size=256)[1]
    rendered = RenderedPairs(SceneOptions(image_size=(192, 256), num_textures=9)).fixed_set(2, seed=0)[1]
    assert pair.image1.shape == (3, 768, 1024)
    torch.testing.assert_close(small.K2, rendered.K2)
    assert (small.image2 - rendered.image2).abs().mean() < 0.03
    figures = benchmark.reading((folder,), benchmark.Options(batches=2), 0)
    assert figures["images a second"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pairs_reach_a_gpu_unchanged_through_pinned_memory(session_pairs_folder):
    pairs = PosedPairs(session_pairs_folder, image_size=100)
    there = load(pairs, 1, device="cuda")
    assert all(pair.image1.is_cuda and pair.t.is_cuda for step in there for pair in step.pairs)
    assert_same_steps([step.to("cpu") for step in there], load(pairs, 0))


def test_unreadable_images_are_listed_and_their_pairs_left_out(broken_folder):
    pairs = PosedPairs(broken_folder)
    problems = pairs.unreadable_images()
    assert [path.name for path in problems] == ["3.png"]
    rest = pairs.without_images(problems)
    assert rest.names == [name for name in pairs.names if "3.png" not in name]
    assert len(pairs) == 5
    assert rest.unreadable_images() == {}
    with pytest.raises(InputError, match="no pair is left"):
        pairs.without_images(pairs.image_paths)
