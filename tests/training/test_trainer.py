"""Laws of the training loop: repeatable, resumable, it keeps the best and touches nothing that it must not."""

import json
import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rfp.cli.training_sets import VALIDATION_SEED
from rfp.data import GeometricAugmentation, PhotometricAugmentation, PosedPairs
from rfp.data.loading import batch_indices
from rfp.models.pretrained import load_weights
from rfp.policy.keypoints import KeypointOptions
from rfp.policy.matches import MatchOptions
from rfp.records import InputError
from rfp.reinforce import RewardMemory
from rfp.rewards import EpipolarReward, SampsonReward, callable_name, compose, host_reward
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import RelativePoseEstimator
from rfp.rollout import ControlOptions, RolloutOptions, rollout
from rfp.training import JudgeOptions, Trainer, TrainerOptions
from rfp.training import trainer as trainer_module
from rfp.training.curriculum import CurriculumOptions
from rfp.training.metrics_log import read_metrics
from rfp.training.options import options_from_json
from rfp.training.run_identity import stream_seed
from rfp.training.schedules import ScheduleOptions
from rfp.training.trust_region import TrustRegionOptions
from tests.networks import TinyTestNetwork

OPTIONS = TrainerOptions(
    steps=6,
    pairs_per_step=2,
    learning_rate=1e-3,
    warmup_steps=2,
    validate_every=3,
    checkpoint_every=3,
    log_every=2,
    augment=True,
    rollout=RolloutOptions(
        keypoints=KeypointOptions(num_keypoints=48, max_candidates=512),
        matches=MatchOptions(temperature=0.1),
        num_keypoint_draws=2,
        num_match_draws=2,
        ransac=RansacOptions(num_hypotheses=32, resample_rounds=1, resamples=4),
    ),
    judge=JudgeOptions(num_keypoints=64),
)


@pytest.fixture
def pairs(session_pairs_folder):
    return PosedPairs(session_pairs_folder)


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one, two):
    return one.keys() == two.keys() and all(bool((one[name] == two[name]).all()) for name in one)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(pairs):
    results = []
    for seed in (0, 0, 1):
        network = TinyTestNetwork()
        before = torch.get_rng_state()
        summary = Trainer(network, replace(OPTIONS, seed=seed)).fit(pairs)
        assert (torch.get_rng_state() == before).all()
        results.append((weights(network), [row["reward"] for row in summary.metrics]))
    assert equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not equal(results[0][0], results[2][0])


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends_bit_for_bit(pairs, tmp_path):
    whole, parted = TinyTestNetwork(), TinyTestNetwork()
    one = Trainer(whole, OPTIONS).fit(pairs, validation=pairs, output=tmp_path / "whole")
    Trainer(parted, replace(OPTIONS, steps=3)).fit(pairs, validation=pairs, output=tmp_path / "parted")
    fresh = TinyTestNetwork(seed=7)  # the weights come from the checkpoint
    two = Trainer(fresh, OPTIONS).fit(pairs, validation=pairs, output=tmp_path / "parted", resume=True)
    last = [
        load_weights(TinyTestNetwork(), tmp_path / name / "last.safetensors").state_dict()
        for name in ("whole", "parted")
    ]
    assert equal(*last)
    assert equal(weights(whole), weights(fresh))
    assert one.validations == two.validations
    rows = [
        [{**row, "seconds": 0} for row in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "parted")
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [1, 2, 3, 4, 5, 6]


def test_a_run_of_an_earlier_version_goes_on_where_an_option_is_new_and_as_it_was(pairs, tmp_path):
    Trainer(TinyTestNetwork(), replace(OPTIONS, steps=1)).fit(pairs, output=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["run"]["rollout"]["bfloat16"]
    torch.save(state, tmp_path / "checkpoint.pt")
    Trainer(TinyTestNetwork(), replace(OPTIONS, steps=2)).fit(pairs, output=tmp_path, resume=True)
    changed = replace(OPTIONS, steps=3, rollout=replace(OPTIONS.rollout, bfloat16=True))
    with pytest.raises(InputError, match="bfloat16 False, now it is True"):
        Trainer(TinyTestNetwork(), changed).fit(pairs, output=tmp_path, resume=True)


@dataclass(frozen=True)
class NoisyStream:
    """Pairs of a folder with noise of their own at each draw: an endless stream."""

    pairs: PosedPairs
    strength: float = 0.05

    def __repr__(self):
        return f"NoisyStream({self.strength})"

    def draw(self, count, *, generator):
        chosen = [self.pairs[k % len(self.pairs)] for k in range(count)]
        noise = [self.strength * torch.rand(pair.image1.shape, generator=generator) for pair in chosen]
        return [replace(pair, image1=pair.image1 + each) for pair, each in zip(chosen, noise, strict=True)]


def test_a_stream_gives_new_pairs_at_every_step_and_the_same_in_every_run_of_the_seed(pairs, monkeypatch):
    seen = []
    draw = NoisyStream.draw

    def watched(self, count, *, generator):
        drawn = draw(self, count, generator=generator)
        seen.append(drawn[0].image1.clone())
        return drawn

    monkeypatch.setattr(NoisyStream, "draw", watched)
    for seed in (0, 0, 1):
        Trainer(TinyTestNetwork(), replace(OPTIONS, steps=2, seed=seed)).fit(NoisyStream(pairs))
    # The first of each run are the pairs on which its drift is measured.
    watched, first, second, watched_again, first_again, second_again, _, other, _ = seen
    assert torch.equal(watched, watched_again)
    assert not torch.equal(watched, first)
    assert not torch.equal(first, second)
    assert torch.equal(first, first_again)
    assert torch.equal(second, second_again)
    assert not torch.equal(first, other)


def test_the_seeds_of_a_stream_never_meet_those_of_fixed_sets_or_of_the_policy():
    seeds = {stream_seed(seed, step) for seed in range(10) for step in range(500)}
    assert len(seeds) == 5000
    assert min(seeds) > 2**32 > VALIDATION_SEED + 1


def test_a_run_on_a_stream_resumes_bit_for_bit_and_only_on_the_same_stream(pairs, tmp_path):
    whole, parted = TinyTestNetwork(), TinyTestNetwork()
    Trainer(whole, OPTIONS).fit(NoisyStream(pairs))
    Trainer(parted, replace(OPTIONS, steps=3)).fit(NoisyStream(pairs), output=tmp_path)
    with pytest.raises(InputError, match=r"NoisyStream\(0.1\)"):
        Trainer(TinyTestNetwork(), OPTIONS).fit(NoisyStream(pairs, 0.1), output=tmp_path, resume=True)
    Trainer(parted, OPTIONS).fit(NoisyStream(pairs), output=tmp_path, resume=True)
    assert equal(weights(whole), weights(parted))


def test_the_average_of_the_weights_is_what_is_validated_kept_and_left(pairs, tmp_path, monkeypatch):
    averaged, plain = TinyTestNetwork(), TinyTestNetwork()
    start = weights(plain)
    iterates, judged_weights = [], []
    step_where = trainer_module.step_where

    def watched(usable, optimizer):
        step_where(usable, optimizer)
        iterates.append([value.detach().clone() for group in optimizer.param_groups for value in group["params"]])

    def judge(network, *args, **kwargs):
        judged_weights.append(weights(network))
        return SimpleNamespace(auc={"5": 0.0, "10": float(len(judged_weights)), "20": 0.0})

    monkeypatch.setattr(trainer_module, "step_where", watched)
    monkeypatch.setattr(trainer_module, "judged", judge)
    options = replace(OPTIONS, steps=3, averaging=0.9)
    Trainer(averaged, options).fit(pairs, validation=pairs, output=tmp_path)
    expected = [value.clone() for value in start.values()]
    for step, row in enumerate(iterates, start=1):
        decay = min(0.9, (step + 1) / (step + 10))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, row, strict=True)]
    names = [name for name, _ in averaged.named_parameters()]
    for name, value in zip(names, expected, strict=True):
        torch.testing.assert_close(weights(averaged)[name], value)
    assert equal(judged_weights[-1], weights(averaged))
    assert equal(load_weights(TinyTestNetwork(), tmp_path / "last.safetensors").state_dict(), weights(averaged))
    Trainer(plain, replace(options, averaging=0.0)).fit(pairs)
    assert not equal(weights(plain), weights(averaged))


def test_a_run_with_an_average_resumes_bit_for_bit(pairs, tmp_path):
    whole, parted = TinyTestNetwork(), TinyTestNetwork()
    options = replace(OPTIONS, averaging=0.9)
    Trainer(whole, options).fit(pairs)
    Trainer(parted, replace(options, steps=3)).fit(pairs, output=tmp_path)
    Trainer(parted, options).fit(pairs, output=tmp_path, resume=True)
    assert equal(weights(whole), weights(parted))


def of_gradients(network, pair, options):
    """The gradients of one step on given draws, nothing of it clipped."""
    trainer = Trainer(network, replace(options, augment=False, clip_norm=1e9))
    optimizer, generator = torch.optim.SGD(trainer.parameters, lr=0.0), torch.Generator().manual_seed(0)
    memory = RewardMemory(1) if options.remembers_rewards else None
    for _ in range(1 if memory is None else 2):  # at first there is nothing to remember
        trainer.gradient_step([[pair]], optimizer, generator, memory=memory, numbers=[torch.zeros(1, dtype=torch.long)])
    return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("baseline", ["none", "leave_one_out", "all_others", "mean"])
def test_the_control_alone_is_the_reward_itself_where_both_are_the_same(pairs, baseline):
    """The exact expectation of right matches, followed as such or as a reward that it is the control of."""
    network = TinyTestNetwork()
    rollout_options = replace(OPTIONS.rollout, control=ControlOptions("epipolar"))
    shared = {"rollout": rollout_options, "baseline": baseline}
    followed = {"reward": "epipolar", "control_coefficient": 1.0, **shared}
    as_reward = of_gradients(network, pairs[0], replace(OPTIONS, **followed))
    alone = of_gradients(network, pairs[0], replace(OPTIONS, match_utility="control", **shared))
    assert alone.keys() == as_reward.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(gradient, as_reward[name], rtol=1e-3, atol=1e-6)
    assert alone["descriptors.weight"].abs().max() > 1e-4
    assert alone["heat.weight"].abs().max() > 1e-4


def test_the_control_alone_takes_the_geometry_of_an_independent_draw_and_no_truth(pairs):
    network = TinyTestNetwork()
    control = ControlOptions("sampson", "independent_draw")
    options = replace(OPTIONS, match_utility="control", rollout=replace(OPTIONS.rollout, control=control))
    gradients = of_gradients(network, pairs[0], options)
    turned = replace(pairs[0], R=pairs[0].R.mT, t=-pairs[0].t)  # another truth, which only the logged reward sees
    for name, gradient in of_gradients(network, turned, options).items():
        torch.testing.assert_close(gradient, gradients[name], rtol=0, atol=0)
    assert gradients["descriptors.weight"].abs().max() > 1e-5
    generator = torch.Generator().manual_seed(0)
    rolled = rollout(network.eval(), [pairs[0]], options=options.rollout, generator=generator)
    expected = torch.autograd.grad(-rolled.control.expected.mean(), network.descriptors.weight)[0]
    torch.testing.assert_close(gradients["descriptors.weight"], expected, rtol=1e-3, atol=1e-6)


def test_what_is_remembered_of_the_control_alone_is_the_control_and_not_the_reward(pairs):
    control = ControlOptions("sampson")
    options = replace(
        OPTIONS, match_utility="control", baseline="moving_average", rollout=replace(OPTIONS.rollout, control=control)
    )
    trainer, memory = Trainer(TinyTestNetwork(), options), RewardMemory(1)
    optimizer, generator = torch.optim.SGD(trainer.parameters, lr=0.0), torch.Generator().manual_seed(0)
    number = torch.zeros(1, dtype=torch.long)
    row = trainer.gradient_step([[pairs[0]]], optimizer, generator, memory=memory, numbers=[number])
    remembered, _ = memory.read(number)
    assert 0.0 < float(remembered) < 1.0  # a mean of Sampson values
    assert float(row["reward"]) < 0.0  # minus the pose error
    with pytest.raises(InputError, match="another baseline than self_critical"):
        replace(options, baseline="self_critical")


MOVING = replace(
    OPTIONS,
    reward="sampson_count",
    control_coefficient=1.0,
    rollout=replace(
        OPTIONS.rollout,
        matches=MatchOptions(candidates="reciprocal", temperature=0.1),
        control=ControlOptions("reward"),
        subpixel=True,
        position_gradient=True,
    ),
)


def test_positions_follow_no_other_aim_than_the_descriptors(pairs):
    Trainer(TinyTestNetwork(), MOVING)
    by_name = replace(MOVING.rollout, control=ControlOptions("sampson_count"))
    Trainer(TinyTestNetwork(), replace(MOVING, rollout=by_name))
    for wrong in (
        {"reward": "pose_error", "rollout": by_name},
        {"control_coefficient": "estimated"},
        {"control_coefficient": 0.5},
        {"rollout": replace(MOVING.rollout, control=ControlOptions("reward", "independent_draw"))},
    ):
        with pytest.raises(InputError, match="positions would follow another aim"):
            Trainer(TinyTestNetwork(), replace(MOVING, **wrong))
    alone = {"reward": "pose_error", "rollout": by_name, "match_utility": "control"}
    Trainer(TinyTestNetwork(), replace(MOVING, **alone))


def test_the_expectation_of_a_reward_that_does_not_add_is_refused_at_once_and_a_sum_of_some_adds():
    with pytest.raises(InputError, match="adds over matches, got PoseErrorReward"):
        Trainer(TinyTestNetwork(), replace(MOVING, reward="pose_error"))
    with pytest.raises(InputError, match="a reward per slot"):
        Trainer(TinyTestNetwork(), replace(MOVING, reward="sampson"))
    Trainer(TinyTestNetwork(), replace(MOVING, reward_terms=("sampson_count=1", "disk_count=0.5")))
    mixed = compose([(1.0, SampsonReward()), (0.5, SampsonReward(per="slot"))])
    with pytest.raises(InputError, match="adds over matches"):
        Trainer(TinyTestNetwork(), MOVING, reward=mixed)


REMEMBERING = replace(OPTIONS, baseline="moving_average", normalize_rewards=True)


@pytest.mark.parametrize("source", [lambda pairs: pairs, NoisyStream], ids=["folder", "stream"])
def test_a_run_that_remembers_rewards_resumes_bit_for_bit(pairs, tmp_path, source):
    whole, parted, forgetful = TinyTestNetwork(), TinyTestNetwork(), TinyTestNetwork()
    Trainer(whole, REMEMBERING).fit(source(pairs))
    Trainer(parted, replace(REMEMBERING, steps=3)).fit(source(pairs), output=tmp_path)
    Trainer(parted, REMEMBERING).fit(source(pairs), output=tmp_path, resume=True)
    assert equal(weights(whole), weights(parted))
    Trainer(forgetful, replace(REMEMBERING, baseline="none")).fit(source(pairs))
    assert not equal(weights(whole), weights(forgetful))


def test_the_memory_knows_each_pair_by_its_number_and_is_read_before_it_is_updated(pairs, monkeypatch):
    calls = []

    class Watched(RewardMemory):
        def read(self, index):
            calls.append(("read", index.tolist()))
            return super().read(index)

        def update(self, index, reward, valid):
            calls.append(("update", index.tolist()))
            super().update(index, reward, valid)

    monkeypatch.setattr(trainer_module, "RewardMemory", Watched)
    options = replace(REMEMBERING, accumulate=2, steps=2)
    Trainer(TinyTestNetwork(), options).fit(pairs)
    numbers = [batch_indices(step, 4, len(pairs), options.seed) for step in range(2)]
    expected = [row[k : k + 2] for row in numbers for k in (0, 2)]
    assert calls == [(what, row) for row in expected for what in ("read", "update")]


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline": "self_critical"},
        {"baseline": "all_others"},
        {"reward_terms": ("pose_error=1", "inliers=0.1")},
        {"rollout": replace(OPTIONS.rollout, control=ControlOptions("disk"), common_random_numbers=True)},
        {
            "reward": "epipolar",
            "control_coefficient": 1.0,
            "rollout": replace(OPTIONS.rollout, control=ControlOptions("reward", "independent_draw")),
        },
    ],
)
def test_every_way_of_reducing_the_variance_trains_and_changes_what_is_learnt(pairs, changes):
    plain, other = TinyTestNetwork(), TinyTestNetwork()
    Trainer(plain, replace(OPTIONS, steps=2)).fit(pairs)
    summary = Trainer(other, replace(OPTIONS, steps=2, **changes)).fit(pairs)
    assert summary.skipped_steps == 0
    assert not equal(weights(plain), weights(other))


def test_metrics_after_the_checkpoint_are_dropped_when_a_killed_run_resumes(pairs, tmp_path):
    Trainer(TinyTestNetwork(), replace(OPTIONS, steps=3)).fit(pairs, output=tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "reward": 99.0}) + '\n{"step": 5, "rew')
    Trainer(TinyTestNetwork(), OPTIONS).fit(pairs, output=tmp_path, resume=True)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["reward"] < 0 for row in rows)


def test_resuming_with_other_options_data_or_network_is_refused_in_one_line(pairs, tmp_path):
    Trainer(TinyTestNetwork(), replace(OPTIONS, steps=3)).fit(pairs, output=tmp_path)
    judged = replace(OPTIONS, rollout=replace(OPTIONS.rollout, num_match_draws=3))
    others = {
        "seed 0, now it is 3": (TinyTestNetwork(), replace(OPTIONS, seed=3), pairs),
        "rollout.num_match_draws 2, now it is 3": (TinyTestNetwork(), judged, pairs),
        "data": (TinyTestNetwork(), OPTIONS, [pairs[0]]),
        "pairs at 80 px": (TinyTestNetwork(), OPTIONS, PosedPairs(pairs.folders[0], image_size=80)),
        "another network": (TinyTestNetwork(dim=8), OPTIONS, pairs),
        "3 steps are done already": (TinyTestNetwork(), replace(OPTIONS, steps=2), pairs),
    }
    for message, (network, options, data) in others.items():
        with pytest.raises(InputError, match=message) as caught:
            Trainer(network, options).fit(data, output=tmp_path, resume=True)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="validation None, now it is 5 pairs"):
        Trainer(TinyTestNetwork(), OPTIONS).fit(pairs, validation=pairs, output=tmp_path, resume=True)
    with pytest.raises(InputError, match="reward"):
        Trainer(TinyTestNetwork(), OPTIONS, reward=EpipolarReward()).fit(pairs, output=tmp_path, resume=True)


def test_a_run_is_not_overwritten_and_a_folder_that_cannot_be_made_is_one_line(pairs, tmp_path):
    Trainer(TinyTestNetwork(), replace(OPTIONS, steps=1)).fit(pairs, output=tmp_path / "run")
    with pytest.raises(InputError, match="a run is there already"):
        Trainer(TinyTestNetwork(), OPTIONS).fit(pairs, output=tmp_path / "run")
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be a run folder"):
            Trainer(TinyTestNetwork(), OPTIONS).fit(pairs, output=place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_loses_no_step_and_goes_on_bit_for_bit(pairs, tmp_path, number):
    whole, parted = TinyTestNetwork(), TinyTestNetwork()
    Trainer(whole, OPTIONS).fit(pairs)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def interrupt(row):
        if row["step"] == 4:
            os.kill(os.getpid(), number)

    often = replace(OPTIONS, checkpoint_every=100, log_every=1)
    with pytest.raises(KeyboardInterrupt, match="after step 4 of 6"):
        Trainer(parted, often).fit(pairs, output=tmp_path, on_step=interrupt)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = TinyTestNetwork(seed=9)
    Trainer(resumed, often).fit(pairs, output=tmp_path, resume=True)
    assert equal(weights(resumed), weights(whole))


def test_a_damaged_or_missing_checkpoint_is_refused_in_one_line(pairs, tmp_path):
    with pytest.raises(InputError, match="no checkpoint"):
        Trainer(TinyTestNetwork(), OPTIONS).fit(pairs, output=tmp_path, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        Trainer(TinyTestNetwork(), OPTIONS).fit(pairs, output=tmp_path, resume=True)


@pytest.mark.parametrize(("scores", "kept"), [((60, 50, 40), 0), ((60, 60, 60), 0), ((60, 70, 65), 3), ((1, 2, 3), 6)])
def test_the_best_weights_on_validation_are_kept_the_start_among_them(pairs, tmp_path, monkeypatch, scores, kept):
    network = TinyTestNetwork()
    at_step = {}

    def scripted(judged, *args, **kwargs):
        at_step[3 * len(at_step)] = weights(judged)
        return SimpleNamespace(auc={"5": 0.0, "10": float(scores[len(at_step) - 1]), "20": 100.0})

    monkeypatch.setattr("rfp.training.trainer.judged", scripted)
    summary = Trainer(network, OPTIONS).fit(pairs, validation=pairs, output=tmp_path)
    assert summary.best_step == kept
    assert equal(weights(network), at_step[kept])
    assert equal(weights(load_weights(TinyTestNetwork(), tmp_path / "weights.safetensors")), at_step[kept])
    assert equal(weights(load_weights(TinyTestNetwork(), tmp_path / "last.safetensors")), at_step[6])
    assert not equal(at_step[0], at_step[6])


class WithBatchNorm(TinyTestNetwork):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.train()

    def extract(self, images):
        return super().extract(self.norm(images))


def test_batch_norm_statistics_and_frozen_parameters_stay_and_the_mode_returns(pairs):
    network = WithBatchNorm()
    before = weights(network)
    Trainer(network, replace(OPTIONS, frozen=("heat.*",))).fit(pairs)
    after = weights(network)
    changed = {name for name in before if not (before[name] == after[name]).all()}
    assert changed == {"patches.weight", "descriptors.weight", "norm.weight", "norm.bias"}
    assert network.norm.training


def test_a_frozen_pattern_that_matches_nothing_is_refused():
    with pytest.raises(InputError, match="matches no parameter"):
        Trainer(TinyTestNetwork(), replace(OPTIONS, frozen=("encoder.*",)))
    with pytest.raises(InputError, match="at least one parameter"):
        Trainer(TinyTestNetwork(), replace(OPTIONS, frozen=("*",)))


def test_a_gradient_that_is_not_finite_is_skipped_and_counted(pairs):
    network = TinyTestNetwork()
    before = weights(network)
    network.heat.weight.register_hook(lambda gradient: gradient * float("inf"))
    summary = Trainer(network, OPTIONS).fit(pairs)
    assert summary.skipped_steps == OPTIONS.steps
    assert equal(weights(network), before)


@pytest.mark.parametrize("spoilt", [float("inf"), 0.0])
def test_a_skipped_step_moves_nothing_by_momentum(pairs, spoilt):
    """After one good step Adam has a momentum; a gradient that is not finite, or zero, must not set it free."""
    network = TinyTestNetwork()
    seen = []
    for parameter in network.parameters():
        parameter.register_hook(lambda gradient: gradient * spoilt if seen else gradient)
    options = replace(OPTIONS, steps=4, log_every=1, warmup_steps=0)
    Trainer(network, options).fit(pairs, on_step=lambda row: seen.append(weights(network)))
    assert not equal(seen[0], weights(TinyTestNetwork()))
    assert equal(seen[0], seen[-1])


def returning(value):
    return lambda result, correspondences, truth: value(result.valid)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (returning(lambda valid: None), "got NoneType"),
        (returning(lambda valid: valid), "of torch.bool"),
        (returning(lambda valid: valid.float().numpy()), "got ndarray; what runs on the host goes through"),
        (returning(lambda valid: valid.long()), r"a float for each problem, .* of torch.int64"),
        (returning(lambda valid: valid.float().mean()), r"\(2, 2, 2\), got \(\) of torch.float32"),
        (returning(lambda valid: torch.full(valid.shape, float("nan"))), "step 1: .* not finite"),
    ],
)
def test_what_a_black_box_returns_is_checked(pairs, reward, words):
    network = TinyTestNetwork()
    before = weights(network)
    with pytest.raises(InputError, match=words) as caught:
        Trainer(network, OPTIONS, reward=reward).fit(pairs)
    assert "the reward tests.training.test_trainer.returning.<locals>.<lambda>" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert equal(weights(network), before)


def test_a_run_goes_on_only_with_the_black_box_that_it_began_with(pairs, tmp_path):
    def failures(result, correspondences, truth):
        return result.valid.float()

    def share(result, correspondences, truth):
        return result.valid.float() * 0.5

    for wrap in (host_reward, lambda function: function):
        folder = tmp_path / wrap.__name__.strip("<>")
        begin = replace(OPTIONS, steps=3)
        Trainer(TinyTestNetwork(), begin, reward=wrap(failures)).fit(pairs, output=folder)
        with pytest.raises(InputError, match=r"the run began with reward .*failures.*, now it is .*share"):
            Trainer(TinyTestNetwork(), OPTIONS, reward=wrap(share)).fit(pairs, output=folder, resume=True)
        resumed = Trainer(TinyTestNetwork(), OPTIONS, reward=wrap(failures)).fit(pairs, output=folder, resume=True)
        assert resumed.steps == OPTIONS.steps


@pytest.mark.parametrize("wrong", ["drawn", "deployed"])
def test_a_reward_of_the_deployed_detector_is_checked_too(pairs, wrong):
    def spoilt(result, correspondences, truth):
        value = result.valid.float()
        of_deployed = value.shape[1:] == (1, 1)
        return value * float("nan") if of_deployed == (wrong == "deployed") else value

    with pytest.raises(InputError, match=r"step 1: .* not finite"):
        Trainer(TinyTestNetwork(), replace(OPTIONS, baseline="self_critical"), reward=spoilt).fit(pairs)


def test_the_name_of_a_black_box_tells_it_from_others_and_is_the_same_tomorrow():
    def one(result, correspondences, truth, factor=1.0):
        return factor * result.valid.float()

    def two(result, correspondences, truth):
        return result.valid.float()

    boxes = [
        one,
        two,
        partial(one, factor=2.0),
        partial(one, factor=3.0),
        compose([(1.0, one)]),
        compose([(2.0, one)]),
        compose([(1.0, one), (1.0, SampsonReward())]),
        compose([(1.0, SampsonReward())]),
        host_reward(one),
        host_reward(partial(one, factor=2.0)),
        RelativePoseEstimator(1.0),
        RelativePoseEstimator(2.0),
    ]
    names = [callable_name(box) for box in boxes]
    assert len(set(names)) == len(boxes)
    assert not any(" at 0x" in name for name in names)
    # As the checkpoints of earlier versions have it.
    earlier = "WeightedSum(terms=((1.0, SampsonReward(scale_px=1.0, per='match')),))"
    assert callable_name(compose([(1.0, SampsonReward())])) == earlier


def test_accumulated_batches_give_the_mean_gradient(pairs, monkeypatch):
    """On one and the same noise, two equal batches give the gradient of one."""

    def on_equal_noise(*args, generator, **kwargs):
        return rollout(*args, generator=torch.Generator().manual_seed(0), **kwargs)

    monkeypatch.setattr("rfp.training.trainer.rollout", on_equal_noise)
    gradients = []
    for batches in ([[pairs[0]]], [[pairs[0]], [pairs[0]]]):
        trainer = Trainer(TinyTestNetwork(), replace(OPTIONS, augment=False, clip_norm=1e9))
        trainer.gradient_step(batches, torch.optim.SGD(trainer.parameters, lr=0.0), torch.Generator())
        gradients.append([parameter.grad for parameter in trainer.parameters])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
        assert one.abs().max() > 0 or one.numel() == 1


def test_pairs_are_augmented_as_far_as_the_options_say(pairs, monkeypatch):
    seen = []

    def recorded(network, pairs, **kwargs):
        seen.append(pairs[0])
        return rollout(network, pairs, **kwargs)

    monkeypatch.setattr("rfp.training.trainer.rollout", recorded)
    turning = {"geometric": GeometricAugmentation(rotation_deg=20.0)}
    nothing = PhotometricAugmentation(brightness=0.0, contrast=0.0, gamma=0.0, saturation=0.0, blur=0.0, noise=0.0)
    weak = {"augment": True, "photometric": nothing}
    for more in ({}, turning, {**turning, "augment": True}, {"augment": True}, weak):
        trainer = Trainer(TinyTestNetwork(), replace(OPTIONS, **{"augment": False, **more}))
        optimizer = torch.optim.SGD(trainer.parameters, lr=0.0)
        trainer.gradient_step([[pairs[0]]], optimizer, torch.Generator().manual_seed(0))
    plain, turned, both, lit, unlit = seen
    assert torch.equal(plain.image1, pairs[0].image1)
    assert not torch.equal(turned.R, plain.R)
    assert torch.equal(both.R, turned.R)
    assert not torch.equal(both.image1, turned.image1)
    assert torch.equal(lit.R, plain.R)
    assert (lit.image1 - plain.image1).abs().mean() > 0.01
    torch.testing.assert_close(unlit.image1, plain.image1, atol=2e-6, rtol=0)


def test_no_pairs_are_refused():
    with pytest.raises(InputError, match="at least one pair"):
        Trainer(TinyTestNetwork(), OPTIONS).fit([])


def test_every_epoch_is_a_permutation_and_depends_on_the_seed_alone():
    seen = [index for step in range(5) for index in batch_indices(step, 2, 5, seed=3)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5))
    assert seen[:5] != seen[5:]
    assert batch_indices(3, 2, 5, seed=3) == seen[6:8]


def test_options_survive_json():
    from dataclasses import asdict

    options = replace(
        OPTIONS,
        frozen=("a.*", "b"),
        rates=("c=0.1",),
        rollout=RolloutOptions.paper(),
        baseline="mean",
        schedule=ScheduleOptions(rate="cosine", final_temperature=0.5),
        trust=TrustRegionOptions(keypoints=0.5),
        curriculum=CurriculumOptions(share=0.5),
        geometric=GeometricAugmentation(zoom=1.5),
    )
    assert options_from_json(TrainerOptions, json.loads(json.dumps(asdict(options)))) == options
    with pytest.raises(InputError, match="no option 'speed'"):
        options_from_json(TrainerOptions, {"speed": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup_steps": -1},
        {"rollout": RolloutOptions(num_match_draws=1)},
    ],
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        TrainerOptions(**wrong)


@dataclass(frozen=True)
class Brightness:
    value: torch.Tensor
    valid: torch.Tensor


class MeanRed:
    """A task without geometry: how red image 1 is at the matched key points."""

    noise_shape = (1,)

    def __init__(self, image: torch.Tensor):
        self.red = image[0]

    def __call__(self, correspondences, noise):
        x, y = correspondences.xy1_px.long().unbind(-1)
        weight = correspondences.weight
        value = (self.red[y, x] * weight).sum(-1) / weight.sum(-1).clamp_min(1)
        return Brightness(value, torch.ones_like(value, dtype=torch.bool))


def rise_of_the_reward(pair, options, reward) -> float:
    summary = Trainer(TinyTestNetwork(), options, estimator=MeanRed(pair.image1), reward=reward).fit([pair])
    rewards = [row["reward"] for row in summary.metrics]
    return sum(rewards[-5:]) / 5 - sum(rewards[:5]) / 5


LEARNING = replace(OPTIONS, steps=30, learning_rate=1e-3, augment=False)


def test_the_key_point_term_goes_uphill_on_a_black_box_reward(pairs):
    """Red is nothing the network was told to look for; only the reward says so."""
    assert rise_of_the_reward(pairs[0], LEARNING, lambda result, *_: result.value) > 0.08


def test_the_match_term_goes_uphill_on_a_black_box_reward(pairs):
    """Right matches under the true geometry, drawn from all pairs: only the descriptors may change."""
    matches = MatchOptions(candidates="all", temperature=0.1, fraction=1.0)
    options = replace(
        LEARNING,
        learning_rate=1e-2,
        frozen=("heat.*", "patches.*"),
        rollout=replace(LEARNING.rollout, matches=matches),
    )
    assert rise_of_the_reward(pairs[0], options, EpipolarReward(max_error_px=2.0)) > 0.1


def credit_of_own_matches() -> TrainerOptions:
    """Key points get the reward of their own matches alone, which asks for the reciprocal policy and one draw."""
    return replace(
        OPTIONS,
        rollout=replace(
            OPTIONS.rollout,
            matches=MatchOptions(candidates="reciprocal", temperature=0.1),
            num_keypoint_draws=1,
            num_match_draws=1,
            control=ControlOptions("reward"),
        ),
        reward="disk_count",
        baseline="none",
        control_coefficient=1.0,
        keypoint_credit="own_matches_biased",
    )


def test_key_points_may_get_the_credit_of_their_own_matches(pairs):
    """Its gradient reaches the heat map with one draw, where that of whole draws has nothing to compare with."""
    for weight in (0.0, 1.0):
        network = TinyTestNetwork()
        before = weights(network)
        Trainer(network, replace(credit_of_own_matches(), keypoint_weight=weight)).fit(pairs)
        after = weights(network)
        assert bool((before["heat.weight"] == after["heat.weight"]).all()) == (weight == 0.0)
        assert not (before["descriptors.weight"] == after["descriptors.weight"]).all()


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("wrong", [{"rollout": OPTIONS.rollout}, {"keypoint_credit": "own"}])
def test_a_credit_without_its_policy_or_of_another_name_is_refused(wrong):
    with pytest.raises(InputError, match="keypoint_credit"):
        replace(credit_of_own_matches(), **wrong)


def logarithm_of_key_points() -> TrainerOptions:
    """The logarithm of each key point's worth, and positions that follow it."""
    plain = credit_of_own_matches()
    control = ControlOptions("sampson_count")
    return replace(plain, rollout=replace(plain.rollout, control=control), match_utility="log_of_keypoints")


def test_the_logarithm_raises_what_the_matches_of_a_pair_are_worth(pairs):
    reward = SampsonReward(scale_px=2.0, per="slot")
    plain = logarithm_of_key_points()
    options = replace(
        plain,
        keypoint_weight=0.0,
        learning_rate=3e-3,
        steps=40,
        frozen=("heat.*", "patches.*"),
        rollout=replace(plain.rollout, control=ControlOptions("reward"), num_keypoint_draws=2),
    )
    assert rise_of_the_reward(pairs[0], options, reward) > 0.02


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    "wrong",
    [
        {"rollout": OPTIONS.rollout},
        {"match_utility": "log"},
        {"utility_floor": 0.0},
        {"match_utility": "control", "rollout": OPTIONS.rollout},
    ],
)
def test_a_utility_without_its_policy_or_of_another_name_is_refused(wrong):
    with pytest.raises(InputError, match="utility"):
        replace(logarithm_of_key_points(), **{"keypoint_credit": "draw"} | wrong)
