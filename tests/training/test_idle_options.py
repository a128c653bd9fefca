"""An option that would have no effect is refused where it was set, and no other one is."""

from dataclasses import asdict, replace

import pytest
import torch

from rfp.data import PhotometricAugmentation, PosedPairs
from rfp.records import InputError
from rfp.rollout import ControlOptions, RolloutOptions
from rfp.training import TrainerOptions
from rfp.training.checkpoint import flat_names
from rfp.training.curriculum import CurriculumOptions
from rfp.training.idle_options import check_effect, idle_options, reward_is_only_logged
from rfp.training.schedules import ScheduleOptions
from tests.networks import TinyTestNetwork
from tests.training.test_trainer import OPTIONS, logarithm_of_key_points, of_gradients


@pytest.fixture
def pairs(session_pairs_folder):
    return PosedPairs(session_pairs_folder)


USUAL, RECIPE = TrainerOptions(), TrainerOptions.each_key_point()


@pytest.mark.parametrize(
    ("usual", "changes", "flag", "needed"),
    [
        (USUAL, {"schedule": ScheduleOptions(final_rate=0.1)}, "--schedule.final-rate", "--schedule.rate cosine"),
        (USUAL, {"schedule": ScheduleOptions(steps=9)}, "--schedule.steps", "final-temperature"),
        (USUAL, {"schedule": ScheduleOptions(temperature="linear")}, "--schedule.temperature", "final-temperature"),
        (USUAL, {"curriculum": CurriculumOptions(warmup_steps=9)}, "--curriculum.warmup-steps", "curriculum.share"),
        (USUAL, {"curriculum": CurriculumOptions(memory=0.1)}, "--curriculum.memory", "curriculum.share"),
        (USUAL, {"curriculum": CurriculumOptions(share=0.5, easiest=0.1)}, "--curriculum.easiest", "warmup-steps"),
        (USUAL, {"photometric": PhotometricAugmentation(blur=2.0)}, "--photometric.blur", "--augment"),
        (USUAL, {"utility_floor": 0.2}, "--utility-floor", "--match-utility log_of_keypoints"),
        (USUAL, {"reward_memory": 0.5}, "--reward-memory", "moving_average"),
        (USUAL, {"control_coefficient": 0.5}, "--control-coefficient", "rollout.control.values"),
        (USUAL, {"reward": "disk", "reward_terms": ("epipolar=1",)}, "--reward", "no --reward-terms"),
        (
            USUAL,
            {"rollout": RolloutOptions(control=ControlOptions(geometry="independent_draw"))},
            "--rollout.control.geometry",
            "rollout.control.values",
        ),
        (RECIPE, {"baseline": "mean"}, "--baseline", "--match-utility reward, or"),
        (RECIPE, {"control_coefficient": 0.5}, "--control-coefficient", "--match-utility reward, or"),
        (RECIPE, {"keypoint_credit": "own_matches_biased"}, "--keypoint-credit", "a --keypoint-weight other"),
        (
            USUAL,
            {"match_weight": 0.0, "match_utility": "log_of_keypoints", "rollout": RECIPE.rollout, "baseline": "none"},
            "--match-utility",
            "a --match-weight other",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(usual, changes, flag, needed):
    options = replace(usual, **changes)
    assert flag.removeprefix("--").replace("-", "_") in {
        name for idle in idle_options(options) for name in flat_names(asdict(options)) if name.startswith(idle)
    }
    with pytest.raises(InputError, match=f"^{flag}: has no effect, it needs .*{needed}"):
        check_effect(options, usual)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": ScheduleOptions(rate="cosine", final_rate=0.1, steps=9)},
        {"curriculum": CurriculumOptions(share=0.5, memory=0.1, warmup_steps=9, easiest=0.1)},
        {"augment": True, "photometric": PhotometricAugmentation(blur=2.0)},
        {"baseline": "moving_average", "reward_memory": 0.5},
        {"reward_terms": ("disk=1",), "rollout": RolloutOptions(control=ControlOptions("disk"))},
        {"control_coefficient": 0.5, "rollout": RolloutOptions(control=ControlOptions("disk", "independent_draw"))},
        {"match_utility": "control", "match_weight": 0.0, "rollout": RolloutOptions(control=ControlOptions("disk"))},
    ],
)
def test_what_has_one_is_not(changes):
    check_effect(replace(USUAL, **changes), USUAL)


def test_a_recipe_may_be_left_with_options_that_nobody_set():
    check_effect(replace(RECIPE, match_utility="reward"), RECIPE)
    assert "utility_floor" in idle_options(replace(RECIPE, match_utility="reward"))


PER_DRAW = replace(OPTIONS, steps=1, clip_norm=1e9, augment=False)
BY_CONTROL = replace(
    PER_DRAW, match_utility="control", rollout=replace(PER_DRAW.rollout, control=ControlOptions("sampson", "true"))
)
LOGARITHM = logarithm_of_key_points()
BY_LOGARITHM = replace(
    LOGARITHM,
    steps=1,
    clip_norm=1e9,
    augment=False,
    keypoint_credit="draw",
    keypoint_weight=0.0,
    rollout=replace(LOGARITHM.rollout, num_keypoint_draws=2, num_match_draws=2),
)
OTHERS = {
    "reward": {"reward": "inliers"},
    "baseline": {"baseline": "mean"},
    "control_coefficient": {"control_coefficient": 0.3},
    "utility_floor": {"utility_floor": 0.5},
    "keypoint_credit": {"keypoint_credit": "own_matches_biased"},
}
"""Options that decide the gradient of a step, each with another value."""
IN_ANY = ("reward", "baseline", "control_coefficient", "utility_floor")
"""Those that no other option has to allow."""


@pytest.mark.parametrize(
    "options",
    [
        PER_DRAW,
        replace(PER_DRAW, rollout=replace(PER_DRAW.rollout, control=ControlOptions("sampson"))),
        replace(PER_DRAW, keypoint_weight=0.0),
        replace(PER_DRAW, match_weight=0.0),
        replace(PER_DRAW, normalize_rewards=True),
        BY_CONTROL,
        replace(BY_CONTROL, keypoint_weight=0.0),
        replace(BY_CONTROL, match_weight=0.0),
        replace(BY_CONTROL, normalize_rewards=True),
        replace(BY_CONTROL, baseline="moving_average"),
        BY_LOGARITHM,
        replace(BY_LOGARITHM, normalize_rewards=True),
        replace(BY_LOGARITHM, keypoint_weight=0.5),
        replace(BY_LOGARITHM, keypoint_weight=0.5, keypoint_credit="own_matches_biased"),
    ],
)
def test_what_is_said_to_have_no_effect_has_none_and_the_rest_has_one(pairs, options):
    gradient = of_gradients(TinyTestNetwork(), pairs[0], options)
    idle = {*idle_options(options), *(["reward"] if reward_is_only_logged(options) else [])}
    for name, changes in OTHERS.items():
        changed = replace(options, **changes) if options.rollout.control.values != "none" or name in IN_ANY else options
        if changed == options:
            continue
        other = of_gradients(TinyTestNetwork(), pairs[0], changed)
        same = all(torch.equal(other[key], value) for key, value in gradient.items())
        assert same == (name in idle), name


def test_a_reward_that_is_only_logged_may_be_chosen_and_with_a_curriculum_it_decides_what_comes_next():
    logged = replace(RECIPE, reward="pose_error")
    check_effect(logged, RECIPE)
    assert reward_is_only_logged(logged)
    draws = replace(RECIPE.rollout, num_keypoint_draws=2)
    assert not reward_is_only_logged(replace(logged, rollout=draws, curriculum=CurriculumOptions(share=0.5)))


def test_every_name_is_that_of_an_option():
    names = flat_names(asdict(USUAL))
    for options in (USUAL, RECIPE):
        for idle in idle_options(options):
            assert any(name == idle or name.startswith(f"{idle}.") for name in names)
