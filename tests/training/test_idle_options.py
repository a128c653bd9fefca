"""An option that would have no effect is refused where it was set, and no other one is."""

from dataclasses import asdict, replace

import pytest

from rfp.data import PhotometricAugmentation
from rfp.records import InputError
from rfp.rollout import ControlOptions, RolloutOptions
from rfp.training import TrainerOptions
from rfp.training.checkpoint import flat_names
from rfp.training.curriculum import CurriculumOptions
from rfp.training.idle_options import check_effect, idle_options
from rfp.training.schedules import ScheduleOptions

USUAL, RECIPE = TrainerOptions(), TrainerOptions.each_key_point()


@pytest.mark.parametrize(
    ("usual", "changes", "flag", "needed"),
    [
        (USUAL, {"schedule": ScheduleOptions(final_rate=0.1)}, "--schedule.final-rate", "schedule.rate='cosine'"),
        (USUAL, {"schedule": ScheduleOptions(steps=9)}, "--schedule.steps", "final_temperature"),
        (USUAL, {"schedule": ScheduleOptions(temperature="linear")}, "--schedule.temperature", "final_temperature"),
        (USUAL, {"curriculum": CurriculumOptions(warmup_steps=9)}, "--curriculum.warmup-steps", "curriculum.share"),
        (USUAL, {"curriculum": CurriculumOptions(memory=0.1)}, "--curriculum.memory", "curriculum.share"),
        (USUAL, {"curriculum": CurriculumOptions(share=0.5, easiest=0.1)}, "--curriculum.easiest", "warmup_steps"),
        (USUAL, {"photometric": PhotometricAugmentation(blur=2.0)}, "--photometric.blur", "augment"),
        (USUAL, {"utility_floor": 0.2}, "--utility-floor", "match_utility"),
        (USUAL, {"reward_memory": 0.5}, "--reward-memory", "moving_average"),
        (USUAL, {"control_coefficient": 0.5}, "--control-coefficient", "rollout.control.values"),
        (USUAL, {"reward": "disk", "reward_terms": ("epipolar=1",)}, "--reward", "no reward_terms"),
        (
            USUAL,
            {"rollout": RolloutOptions(control=ControlOptions(geometry="independent_draw"))},
            "--rollout.control.geometry",
            "rollout.control.values",
        ),
        (RECIPE, {"reward": "pose_error"}, "--reward", "whole draws"),
        (RECIPE, {"reward_terms": ("pose_error=1",)}, "--reward-terms", "whole draws"),
        (RECIPE, {"baseline": "mean"}, "--baseline", "whole draws"),
        (RECIPE, {"control_coefficient": 0.5}, "--control-coefficient", "whole draws"),
        (RECIPE, {"keypoint_credit": "own_matches_biased"}, "--keypoint-credit", "a keypoint_weight"),
        (
            USUAL,
            {"match_weight": 0.0, "match_utility": "log_of_keypoints", "rollout": RECIPE.rollout, "baseline": "none"},
            "--match-utility",
            "a match_weight",
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


def test_with_a_curriculum_the_reward_decides_what_comes_next():
    check_effect(replace(RECIPE, reward="pose_error", curriculum=CurriculumOptions(share=0.5)), RECIPE)


def test_every_name_is_that_of_an_option():
    names = flat_names(asdict(USUAL))
    for options in (USUAL, RECIPE):
        for idle in idle_options(options):
            assert any(name == idle or name.startswith(f"{idle}.") for name in names)
