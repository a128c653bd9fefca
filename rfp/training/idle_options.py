"""Options that have no effect beside the others: who sets one of them expects something that would not happen."""

from dataclasses import asdict

from rfp.records import InputError
from rfp.training.checkpoint import flat_names
from rfp.training.options import TrainerOptions


def idle_options(options: TrainerOptions) -> dict[str, str]:
    """Options without an effect, or groups of them, by their dotted names; and what would give them one, in words.

    >>> idle_options(TrainerOptions())["utility_floor"]
    "match_utility='log_of_keypoints'"
    """
    control, curriculum, schedule = options.rollout.control, options.curriculum, options.schedule
    matches_by_draws = options.match_weight != 0.0 and options.match_utility == "reward"
    keypoints_by_draws = options.keypoint_weight != 0.0 and options.keypoint_credit == "draw"
    by_draws = matches_by_draws or keypoints_by_draws
    by_rewards = matches_by_draws or (keypoints_by_draws and options.match_utility != "control")
    of_draws = (
        "a term that follows whole draws (match_utility='reward', or a keypoint_weight with keypoint_credit='draw')"
    )
    conditions = [
        ("reward", not options.reward_terms, "no reward_terms"),
        ("reward", by_rewards or curriculum.on, of_draws),
        ("reward_terms", by_rewards or curriculum.on, of_draws),
        ("baseline", by_draws, of_draws),
        ("reward_memory", options.remembers_rewards, "baseline='moving_average' or normalize_rewards"),
        ("control_coefficient", control.values != "none", "rollout.control.values"),
        ("control_coefficient", by_rewards, of_draws),
        ("utility_floor", options.match_utility == "log_of_keypoints", "match_utility='log_of_keypoints'"),
        ("keypoint_credit", options.keypoint_weight != 0.0, "a keypoint_weight"),
        (
            "match_utility",
            options.match_weight != 0.0 or options.match_utility == "control",
            "a match_weight other than 0",
        ),
        ("photometric", options.augment, "augment"),
        ("schedule.final_rate", schedule.rate == "cosine", "schedule.rate='cosine'"),
        ("schedule.temperature", schedule.final_temperature is not None, "schedule.final_temperature"),
        ("schedule.steps", schedule.on, "schedule.rate='cosine' or schedule.final_temperature"),
        ("curriculum.memory", curriculum.on, "curriculum.share"),
        ("curriculum.warmup_steps", curriculum.on, "curriculum.share"),
        ("curriculum.easiest", curriculum.on and curriculum.warmup_steps > 0, "curriculum.warmup_steps and .share"),
        ("rollout.control.geometry", control.values != "none", "rollout.control.values"),
    ]
    return {name: needed for name, has_effect, needed in reversed(conditions) if not has_effect}


def check_effect(options: TrainerOptions, usual: TrainerOptions) -> None:
    """Refuse options that were set to something else than usual and would have no effect.

    Raises:
        InputError: there is one.
    """
    now, before = flat_names(asdict(options)), flat_names(asdict(usual))
    for idle, needed in idle_options(options).items():
        for name, value in now.items():
            if (name == idle or name.startswith(f"{idle}.")) and value != before[name]:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag}: has no effect, it needs {needed}; say that, too, or leave it out")
