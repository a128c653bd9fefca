"""Options that have no effect beside the others: who sets one of them expects something that would not happen."""

from dataclasses import asdict

from rfp.records import InputError
from rfp.training.checkpoint import flat_names
from rfp.training.options import TrainerOptions


def follows_draws(options: TrainerOptions) -> tuple[bool, bool]:
    """(whether the descriptors, whether the key points) are reinforced by what whole draws earned."""
    matches = options.match_weight != 0.0 and options.match_utility == "reward"
    keypoints = options.keypoint_weight != 0.0 and options.keypoint_credit == "draw"
    return matches, keypoints


def reward_is_only_logged(options: TrainerOptions) -> bool:
    """Whether nothing that is learned depends on the reward: the rollout's control stands in its place."""
    matches, keypoints = follows_draws(options)
    in_place = options.match_utility == "control"
    read = matches or ((keypoints or options.normalize_rewards) and not in_place)
    return not (read or options.curriculum.on)


def idle_options(options: TrainerOptions) -> dict[str, str]:
    """Options without an effect, or groups of them, by their dotted names; and what would give them one, as flags.

    The reward is never among them, since it is logged; see ``reward_is_only_logged``.

    >>> idle_options(TrainerOptions())["utility_floor"]
    '--match-utility log_of_keypoints'
    """
    control, curriculum, schedule = options.rollout.control, options.curriculum, options.schedule
    matches, keypoints = follows_draws(options)
    by_reward = matches or (keypoints and options.match_utility != "control")
    of_draws = "--match-utility reward, or a --keypoint-weight other than 0 with --keypoint-credit draw"
    descriptors = options.match_weight != 0.0
    conditions = [
        ("reward", not options.reward_terms, "no --reward-terms"),
        ("baseline", matches or keypoints or options.match_utility == "control", of_draws),
        ("reward_memory", options.remembers_rewards, "--baseline moving_average or --normalize-rewards"),
        ("control_coefficient", by_reward, of_draws),
        ("control_coefficient", control.values != "none", "--rollout.control.values"),
        ("utility_floor", descriptors, "a --match-weight other than 0"),
        ("utility_floor", options.match_utility == "log_of_keypoints", "--match-utility log_of_keypoints"),
        ("keypoint_credit", options.keypoint_weight != 0.0, "a --keypoint-weight other than 0"),
        ("match_utility", descriptors or options.match_utility == "control", "a --match-weight other than 0"),
        ("photometric", options.augment, "--augment"),
        ("schedule.final_rate", schedule.rate == "cosine", "--schedule.rate cosine"),
        ("schedule.temperature", schedule.final_temperature is not None, "--schedule.final-temperature"),
        ("schedule.steps", schedule.on, "--schedule.rate cosine or --schedule.final-temperature"),
        ("curriculum.memory", curriculum.on, "--curriculum.share"),
        ("curriculum.warmup_steps", curriculum.on, "--curriculum.share"),
        ("curriculum.easiest", curriculum.on and curriculum.warmup_steps > 0, "--curriculum.warmup-steps and .share"),
        ("rollout.control.geometry", control.values != "none", "--rollout.control.values"),
    ]
    return {name: needed for name, has_effect, needed in conditions if not has_effect}


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
