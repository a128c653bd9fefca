"""Laws of the curriculum: it looks where draws disagree, loses no pair, and depends on nothing but the rewards."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from rfp.data import PosedPairs
from rfp.data.loading import PairLoader
from rfp.records import InputError
from rfp.rollout import rollout
from rfp.training import Trainer, TrainerOptions
from rfp.training.curriculum import Curriculum, CurriculumOptions, hardness_of, pair_statistics
from tests.networks import TinyTestNetwork
from tests.training.test_trainer import OPTIONS as WHOLE
from tests.training.test_trainer import MeanRed, NoisyStream, equal, weights

OPTIONS = replace(
    WHOLE, steps=7, pairs_per_step=1, accumulate=2, augment=False, curriculum=CurriculumOptions(share=0.8)
)


@pytest.fixture
def pairs(session_pairs_folder):
    return PosedPairs(session_pairs_folder, image_size=80)


def trainer(pairs, network, options) -> Trainer:
    """On a task without geometry, which costs no time."""
    return Trainer(network, options, estimator=MeanRed(pairs[0].image1), reward=lambda result, *_: result.value)


def curriculum(options=OPTIONS.curriculum, *, num_pairs=20, hardness=None, seed=0):
    return Curriculum(options, num_pairs, pairs_per_step=3, block=5, seed=seed, hardness=hardness)


def through(order: Curriculum, spreads, blocks: int, first: int = 0) -> list[int]:
    """The pairs of whole blocks, the rewards of each having its own spread."""
    seen = []
    for step in range(first * order.block, (first + blocks) * order.block):
        indices = order.indices(step)
        seen += indices
        order.add(torch.tensor(indices), torch.tensor([[0.0] * len(indices), [spreads[k] for k in indices]]))
        if (step + 1) % order.block == 0:
            order.read(step + 1)
    return seen


def test_pairs_whose_draws_disagree_come_more_often_and_none_is_lost():
    spreads = [0.0] * 15 + [1.0] * 5
    seen = Counter(through(curriculum(), spreads, 200))
    assert set(seen) == set(range(20))
    total = sum(seen.values())
    assert sum(seen[k] for k in range(15, 20)) / total == pytest.approx(0.85, abs=0.03)
    assert all(seen[k] / total == pytest.approx(0.2 / 20, abs=0.006) for k in range(15))


def test_a_pair_comes_as_often_as_its_probability_says_rounded():
    order = curriculum(replace(OPTIONS.curriculum, share=0.9))
    through(order, [0.1 * k for k in range(20)], 40)
    expected = order.probabilities(1000) * order.block * order.pairs_per_step
    count = Counter(order._order(7))
    assert expected.sum().item() == pytest.approx(15)
    assert all(abs(count[k] - expected[k]) < 1 for k in range(20))


def test_before_anything_is_seen_all_pairs_are_alike():
    torch.testing.assert_close(curriculum().probabilities(0), torch.full((20,), 0.05, dtype=torch.float64))
    assert max(Counter(curriculum().indices(0) + curriculum().indices(4)).values()) == 1


def test_what_was_seen_is_forgotten_as_its_memory_says():
    order = curriculum(CurriculumOptions(share=0.5, memory=0.75))
    for step, (mean, spread) in enumerate([(1.0, 2.0), (3.0, 0.0)], start=1):
        order.add(torch.tensor([4]), torch.tensor([[mean], [spread]]))
        order.read(step)
    assert (order.mean[4], order.spread[4], order.visits[4]) == (1.5, 1.5, 2)
    assert order.visits.sum() == 2


def test_a_warm_up_goes_from_the_easiest_to_all_and_the_floor_still_finds_the_rest():
    options = CurriculumOptions(share=0.8, warmup_steps=50, easiest=0.2)
    order = curriculum(options, hardness=[float(-k) for k in range(20)])  # the last ones are the easiest
    for step, size in ((0, 4), (25, 12), (49, 20), (50, 20), (500, 20)):
        chosen = order.probabilities(step) > 0.011
        assert chosen.nonzero().flatten().tolist() == list(range(20 - size, 20))
        assert order.probabilities(step).min().item() == pytest.approx(0.2 / 20 if size < 20 else 1 / 20)
        assert order.probabilities(step).sum().item() == pytest.approx(1)
    assert sum(k >= 16 for k in order.orders[0]) >= 11


def test_the_order_of_a_block_is_known_a_whole_block_before_and_stays():
    """Workers read ahead, and what they read is what the step is told."""
    order = curriculum()
    for block in range(6):
        ahead = [order.indices(step) for step in range(5 * block + 5, 5 * block + 10)]
        through(order, [k % 3 for k in range(20)], 1, first=block)
        assert ahead == [order.indices(step) for step in range(5 * block + 5, 5 * block + 10)]


def test_another_seed_gives_another_order_and_the_same_one_the_same():
    spreads = [k % 4 for k in range(20)]
    runs = [through(curriculum(seed=seed), spreads, 6) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_the_statistics_are_those_of_a_pair_s_own_draws(pairs):
    broken = replace(pairs[1], t=torch.full((3,), torch.nan))
    batch = [pairs[0], broken, pairs[2]]
    rolled = rollout(
        TinyTestNetwork(),
        batch,
        options=OPTIONS.rollout,
        generator=torch.Generator().manual_seed(0),
        estimator=MeanRed(pairs[0].image1),
        reward=lambda result, *_: result.value,
    )
    mean, spread = pair_statistics(rolled)
    assert mean[0].item() == pytest.approx(rolled.reward[0].mean().item())
    assert spread[2].item() == pytest.approx(rolled.reward[2].flatten().std().item())
    assert mean[1] == spread[1] == 0
    assert spread[0] > 0


def test_a_run_resumes_in_the_middle_of_a_block_bit_for_bit(pairs, tmp_path):
    """Of two steps, after the third; the easiest pairs are those of the start and not of the network then."""
    options = replace(OPTIONS, curriculum=CurriculumOptions(share=0.8, warmup_steps=4))
    whole, parted = TinyTestNetwork(), TinyTestNetwork()
    trainer(pairs, whole, options).fit(pairs)
    trainer(pairs, parted, replace(options, steps=3)).fit(pairs, output=tmp_path)
    other = TinyTestNetwork(seed=3)
    trainer(pairs, other, options).fit(pairs, output=tmp_path, resume=True)
    assert equal(weights(other), weights(whole))
    plain = TinyTestNetwork()
    trainer(pairs, plain, replace(options, curriculum=CurriculumOptions())).fit(pairs)
    assert not equal(weights(plain), weights(whole))


def test_what_a_run_has_seen_is_of_the_pairs_it_was_given(pairs, monkeypatch):
    """Each pair's rewards are told by the pair's own place in the data, in whatever order it came."""
    kept = []
    read = Curriculum.read
    monkeypatch.setattr(Curriculum, "read", lambda self, step: (kept.append(self), read(self, step)))
    task = MeanRed(pairs[0].image1)

    def names_the_pair(result, correspondences, truth):
        return truth.t.norm(dim=-1).expand_as(result.value)

    Trainer(TinyTestNetwork(), OPTIONS, estimator=task, reward=names_the_pair).fit(pairs)
    seen = kept[-1]
    assert seen.visits.sum() == 14
    for number in range(5):
        if seen.visits[number]:
            assert seen.mean[number].item() == pytest.approx(pairs[number].t.norm().item(), rel=1e-5)


def test_workers_read_the_order_that_is_decided_while_they_read(pairs):
    def order(step):
        decided.append(step)
        return [(step * step) % 5, 4]

    taken = {}
    for workers in (0, 1):
        decided: list[int] = []
        with PairLoader(pairs, batch_size=2, seed=0, steps=range(7), workers=workers, order=order) as loader:
            loaded = [next(loader) for _ in range(3)]
            assert len(decided) <= 3 + 2 * workers
            loaded += list(loader)
        taken[workers] = [tuple(each.numbers.tolist()) for each in loaded]
        assert [pair.name for pair in loaded[2].pairs] == [pairs[4].name, pairs[4].name]
    assert taken[0] == taken[1] == [((step * step) % 5, 4) for step in range(7)]


def test_what_stands_in_for_a_broken_pair_gets_the_credit(pairs_folder):
    (pairs_folder / "images" / "3.png").write_bytes(b"broken")
    pairs = PosedPairs(pairs_folder, image_size=80)
    broken = [k for k, record in enumerate(pairs.records) if "3.png" in (record.image1.name, record.image2.name)]
    with PairLoader(
        pairs, batch_size=2, seed=0, steps=range(1), order=lambda step: broken, on_warning=lambda line: None
    ) as loader:
        (loaded,) = loader
    assert loaded.skipped == len(broken) == 2
    assert not set(loaded.numbers.tolist()) & set(broken)
    assert [pair.name for pair in loaded.pairs] == [pairs[k].name for k in loaded.numbers.tolist()]
    hardness = hardness_of(pairs, lambda chosen: [float(len(chosen))] * len(chosen))
    assert [k for k in range(5) if hardness[k] == float("inf")] == broken
    assert hardness.count(3.0) == 3


def test_a_stream_has_no_curriculum(pairs):
    with pytest.raises(InputError, match="for data sets"):
        trainer(pairs, TinyTestNetwork(), OPTIONS).fit(NoisyStream(pairs))


def test_with_one_draw_of_each_pair_there_is_nothing_to_go_by():
    rollout = replace(OPTIONS.rollout, num_keypoint_draws=1, num_match_draws=1)
    with pytest.raises(InputError, match="several draws of each pair"):
        replace(OPTIONS, rollout=rollout, baseline="none")


def test_workers_must_not_read_further_ahead_than_is_decided():
    with pytest.raises(InputError, match="log_every of at least that many, got 2"):
        replace(OPTIONS, workers=2)
    assert replace(OPTIONS, workers=2, log_every=4).workers == 2
    assert TrainerOptions(workers=9).workers == 9


@pytest.mark.parametrize("wrong", [{"share": 1.0}, {"memory": -0.1}, {"warmup_steps": -1}, {"easiest": 0.0}])
def test_impossible_curricula_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        CurriculumOptions(**wrong)
