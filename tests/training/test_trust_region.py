"""Laws of what keeps a network near its start: it pulls back, the start never moves, and a resumed run keeps it."""

from dataclasses import replace

import pytest
import torch

from rfp.data import PosedPairs
from rfp.records import InputError
from rfp.rollout import rollout
from rfp.training import Trainer, TrainerOptions
from rfp.training.trust_region import TrustRegion, TrustRegionOptions, mean_entropy
from tests.networks import TinyTestNetwork
from tests.training.test_trainer import OPTIONS as WHOLE
from tests.training.test_trainer import MeanRed, WithBatchNorm, equal, weights

OPTIONS = replace(WHOLE, steps=4, pairs_per_step=1, augment=False)
BOTH = replace(OPTIONS, trust=TrustRegionOptions(keypoints=1.0, descriptors=1.0), entropy_weight=0.1)


@pytest.fixture
def pairs(session_pairs_folder):
    return PosedPairs(session_pairs_folder, image_size=80)


def trainer(pairs, network, options) -> Trainer:
    """On a task without geometry, which costs no time."""
    return Trainer(network, options, estimator=MeanRed(pairs[0].image1), reward=lambda result, *_: result.value)


def rolled(network, pairs):
    return rollout(network, pairs, options=OPTIONS.rollout, generator=torch.Generator().manual_seed(0))


def test_the_start_is_at_no_distance_in_bfloat16_either(pairs):
    options, batch = replace(OPTIONS.rollout, bfloat16=True), [pairs[0]]
    rolled_coarsely = rollout(TinyTestNetwork(), batch, options=options, generator=torch.Generator().manual_seed(0))
    _, parts = TrustRegion(TinyTestNetwork(), TrustRegionOptions(1.0, 1.0)).penalty(rolled_coarsely, batch, options)
    assert all(distance.abs() < 1e-5 for distance in parts.values())


def test_the_start_is_at_no_distance_and_another_network_is(pairs):
    trust = TrustRegion(TinyTestNetwork(), TrustRegionOptions(keypoints=2.0, descriptors=3.0))
    distances = []
    for seed in (0, 1):
        batch = [pairs[0], pairs[1]]
        penalty, parts = trust.penalty(rolled(TinyTestNetwork(seed=seed), batch), batch, OPTIONS.rollout)
        torch.testing.assert_close(penalty, 2.0 * parts["kl_start"] + 3.0 * parts["drift_start"])
        distances.append(parts)
    for name, near in distances[0].items():
        assert near.abs() < 1e-5
        assert distances[1][name] > 0.1


def test_a_pair_with_unusable_input_is_left_out(pairs):
    trust = TrustRegion(TinyTestNetwork(seed=1), TrustRegionOptions(keypoints=1.0))
    broken = replace(pairs[1], image1=pairs[1].image1.clone().index_fill_(1, torch.tensor([3]), torch.nan))
    alone = trust.penalty(rolled(TinyTestNetwork(), [pairs[0]]), [pairs[0]], OPTIONS.rollout)[1]
    beside = [pairs[0], broken]
    together = trust.penalty(rolled(TinyTestNetwork(), beside), beside, OPTIONS.rollout)[1]
    assert alone["kl_start"].item() == pytest.approx(together["kl_start"].item(), rel=1e-5)


@pytest.mark.parametrize(("part", "name"), [("keypoints", "kl_start"), ("descriptors", "drift_start")])
def test_a_trust_region_keeps_the_part_it_is_for_near_the_start(pairs, part, name):
    ends = {}
    for weight in (1e-9, 1e4):
        options = replace(OPTIONS, steps=5, learning_rate=3e-3, trust=TrustRegionOptions(**{part: weight}))
        summary = trainer(pairs, TinyTestNetwork(), options).fit(pairs)
        ends[weight] = summary.metrics[-1][name]
        assert abs(summary.metrics[0][name]) < 1e-5
    assert ends[1e4] < 0.3 * ends[1e-9]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_entropy_goes_where_its_weight_says(pairs, sign):
    network = TinyTestNetwork()
    before = mean_entropy(rolled(network, [pairs[0]]))
    summary = trainer(pairs, network, replace(OPTIONS, entropy_weight=sign * 1e5)).fit(pairs)
    assert 0 < summary.metrics[0]["entropy_share_keypoints"] < 1
    assert sign * (mean_entropy(rolled(network, [pairs[0]])) - before) > 1e-3


def test_nothing_is_compared_or_logged_unless_it_is_asked_for(pairs):
    summary = trainer(pairs, TinyTestNetwork(), replace(OPTIONS, steps=1)).fit(pairs)
    assert not {"kl_start", "drift_start", "temperature", "learning_rate"} & set(summary.metrics[0])


def test_a_resumed_run_is_compared_with_its_own_start_bit_for_bit(pairs, tmp_path):
    whole, parted = TinyTestNetwork(), TinyTestNetwork()
    trainer(pairs, whole, BOTH).fit(pairs)
    trainer(pairs, parted, replace(BOTH, steps=2)).fit(pairs, output=tmp_path)
    other = TinyTestNetwork(seed=7)
    trainer(pairs, other, BOTH).fit(pairs, output=tmp_path, resume=True)
    assert equal(weights(other), weights(whole))
    plain = TinyTestNetwork()
    trainer(pairs, plain, OPTIONS).fit(pairs)
    assert not equal(weights(plain), weights(whole))


def test_the_start_and_the_statistics_of_either_network_stay(pairs, monkeypatch):
    network, seen = WithBatchNorm(), []
    before = weights(network)
    build = TrustRegion.__init__

    def watched(self, *args):
        build(self, *args)
        seen.append(self)

    monkeypatch.setattr(TrustRegion, "__init__", watched)
    trainer(pairs, network, BOTH).fit(pairs)
    assert equal(weights(seen[0].start), before)
    after = weights(network)
    statistics = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert {name for name in before if not (before[name] == after[name]).all()} == set(before) - statistics


def test_impossible_weights_are_refused():
    with pytest.raises(InputError, match=r"trust.keypoints of at least 0, got -1.0"):
        TrustRegionOptions(keypoints=-1.0)
    with pytest.raises(InputError, match="finite entropy_weight"):
        TrainerOptions(entropy_weight=float("nan"))
