"""Laws of schedules and of learning rates by part: where they begin and end, and that a run resumes under them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rfp.data import PosedPairs
from rfp.policy.matches import MatchOptions
from rfp.records import InputError
from rfp.training import Trainer
from rfp.training.parameters import parameter_groups
from rfp.training.schedules import ScheduleOptions, learning_rate_at, temperature_at
from tests.networks import TinyTestNetwork
from tests.training.test_trainer import OPTIONS as WHOLE
from tests.training.test_trainer import MeanRed, equal, weights

OPTIONS = replace(WHOLE, steps=4, pairs_per_step=1, augment=False)


@pytest.fixture
def pairs(session_pairs_folder):
    return PosedPairs(session_pairs_folder, image_size=80)


def trainer(pairs, network, options) -> Trainer:
    """On a task without geometry, which costs no time."""
    return Trainer(network, options, estimator=MeanRed(pairs[0].image1), reward=lambda result, *_: result.value)


def test_a_constant_rate_is_constant_after_the_warm_up():
    rates = [learning_rate_at(step, 2.0, 4, ScheduleOptions(), 10) for step in range(10)]
    assert rates == [0.5, 1.0, 1.5, *[2.0] * 7]


def test_a_cosine_falls_from_the_rate_to_its_share_and_stays_there():
    schedule = ScheduleOptions(rate="cosine", final_rate=0.25)
    rates = [learning_rate_at(step, 2.0, 4, schedule, 104) for step in range(120)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert sorted(rates[4:104], reverse=True) == rates[4:104]
    assert rates[54] == pytest.approx(1.25)
    assert rates[104:] == [0.5] * 16


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.625), ("geometric", 0.5)])
@pytest.mark.parametrize("ends", [(1.0, 0.25), (0.25, 1.0)])
def test_the_temperature_goes_from_the_first_to_the_last_step(shape, middle, ends):
    schedule = ScheduleOptions(final_temperature=ends[1], temperature=shape)
    seen = [temperature_at(step, ends[0], schedule, 11) for step in range(13)]
    assert (seen[0], seen[10], seen[12]) == pytest.approx((ends[0], ends[1], ends[1]))
    assert seen[5] == pytest.approx(middle)


def test_the_optimiser_and_the_policy_get_what_is_scheduled(pairs, monkeypatch):
    seen = []
    draw = MatchOptions.num_slots

    def watched(self, *args):
        seen.append(self.temperature)
        return draw(self, *args)

    schedule = ScheduleOptions(rate="cosine", final_temperature=0.4, temperature="linear")
    monkeypatch.setattr(MatchOptions, "num_slots", watched)
    summary = trainer(pairs, TinyTestNetwork(), replace(OPTIONS, steps=4, warmup_steps=1, schedule=schedule)).fit(pairs)
    assert list(dict.fromkeys(seen)) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [row["temperature"] for row in summary.metrics] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [row["learning_rate"] for row in summary.metrics] == pytest.approx([1e-3, 1e-3, 7.5e-4, 2.5e-4])


def test_a_scheduled_run_resumes_bit_for_bit_if_its_length_is_given(pairs, tmp_path):
    schedule = ScheduleOptions(rate="cosine", final_temperature=0.5, steps=4)
    options = replace(OPTIONS, schedule=schedule, rates=("heat.*=0.1",))
    whole, parted = TinyTestNetwork(), TinyTestNetwork()
    trainer(pairs, whole, options).fit(pairs)
    trainer(pairs, parted, replace(options, steps=2)).fit(pairs, output=tmp_path)
    trainer(pairs, parted, options).fit(pairs, output=tmp_path, resume=True)
    assert equal(weights(parted), weights(whole))


def test_a_run_whose_schedule_ends_with_it_is_not_made_longer(pairs, tmp_path):
    options = replace(OPTIONS, schedule=ScheduleOptions(rate="cosine"))
    trainer(pairs, TinyTestNetwork(), replace(options, steps=2)).fit(pairs, output=tmp_path)
    with pytest.raises(InputError, match=r"schedule.steps 2, now it is 4"):
        trainer(pairs, TinyTestNetwork(), options).fit(pairs, output=tmp_path, resume=True)


def names_by_factor(network, rates, frozen=()):
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, frozen, rates)
    return {group["factor"]: {names[id(parameter)] for parameter in group["params"]} for group in groups}


def test_the_last_pattern_that_matches_decides_and_the_rest_has_the_whole_rate():
    network = TinyTestNetwork()
    assert names_by_factor(network, ()) == {1.0: {name for name, _ in network.named_parameters()}}
    assert names_by_factor(network, ("heat*=0.1", "*.bias=2", "patches*=0.1"), frozen=("desc*",)) == {
        0.1: {"heat.weight", "patches.weight"},
        2.0: {"heat.bias"},
    }


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (("encoder*=0.1",), "'encoder\\*=0.1' decides no parameter"),
        (("heat*=0.1", "*=2"), "'heat\\*=0.1' decides no parameter"),
        (("heat*",), "PATTERN=FACTOR"),
        (("=0.1",), "PATTERN=FACTOR"),
        (("heat*=0",), "above 0"),
        (("heat*=fast",), "PATTERN=FACTOR"),
        (("heat*=inf",), "PATTERN=FACTOR"),
    ],
)
def test_rates_that_mean_nothing_are_refused_in_one_line(rates, message):
    with pytest.raises(InputError, match=message) as caught:
        Trainer(TinyTestNetwork(), replace(OPTIONS, rates=rates))
    assert "\n" not in str(caught.value)


def test_each_part_moves_by_its_share_of_the_rate(pairs):
    """Adam's first step has the length of the rate, whatever the gradient."""
    network = TinyTestNetwork()
    before = weights(network)
    rates = ("heat*=0.1", "descriptors*=3")
    trainer(pairs, network, replace(OPTIONS, steps=1, warmup_steps=0, rates=rates)).fit(pairs)
    moved = {name: (value - before[name]).abs().max().item() for name, value in weights(network).items()}
    assert moved["heat.weight"] == pytest.approx(1e-4, rel=0.05)
    assert moved["patches.weight"] == pytest.approx(1e-3, rel=0.05)
    assert moved["descriptors.weight"] == pytest.approx(3e-3, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [{"final_rate": 2.0}, {"final_temperature": 0.0}, {"steps": 0}],
)
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        ScheduleOptions(**wrong)


def test_a_shared_parameter_is_in_one_group():
    network = nn.ModuleDict({"one": nn.Linear(2, 2), "two": nn.Linear(2, 2)})
    network["two"].weight = network["one"].weight
    groups = parameter_groups(network, (), ("two*=0.5",))
    assert sum(len(group["params"]) for group in groups) == 3
    torch.optim.Adam(groups)
