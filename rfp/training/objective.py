"""What a rollout is turned into: the surrogate that the options ask for, its gradient, and a step along it."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rfp.policy.match_expectation import check_exact
from rfp.records import InputError, MatchExpectation
from rfp.reinforce import RewardMemory, coefficient_of_others, log_utility, own_match_surrogate, surrogate_loss
from rfp.rewards import REWARDS, callable_name, reward_of_terms
from rfp.rollout import Reward, Rollout, additive_reward
from rfp.stages import stage
from rfp.training.options import TrainerOptions
from rfp.training.rollout_metrics import rollout_metrics


def reward_by_options(options: TrainerOptions) -> Reward:
    """The reward by its name, or the weighted sum of several."""
    return reward_of_terms(options.reward_terms) if options.reward_terms else REWARDS[options.reward]


def check_reward(reward: Reward, options: TrainerOptions) -> None:
    """Refuse options that ask of a reward what it does not give, before anything is drawn.

    Raises:
        InputError: an expectation of a reward that does not add over matches, or that is not exact for the options'
            draws; positions that would follow another reward than the descriptors.
    """
    control = options.rollout.control
    if control.values == "none":
        return
    additive = additive_reward(reward, control)
    check_exact(options.rollout.matches, additive.per)
    by_reward = options.match_utility == "reward" and options.match_weight != 0.0
    exact = additive == reward and options.control_coefficient == 1.0 and control.geometry == "true"
    if options.rollout.position_gradient and by_reward and not exact:
        raise InputError(
            "rollout.position_gradient with match_utility='reward' expected rollout.control.values='reward', .geometry="
            f"'true' and control_coefficient=1, got {control.values!r}, {control.geometry!r} and "
            f"{options.control_coefficient!r} beside the reward {callable_name(reward)}: positions would follow "
            "another aim than the descriptors"
        )


def not_finite(reward: Reward, where: str) -> InputError:
    """The error for a reward that returned numbers that are not."""
    return InputError(
        f"{where}: the reward {callable_name(reward)} gave values that are not finite; return the worst value where an "
        "estimate failed"
    )


def reinforce(
    rolled: Rollout,
    options: TrainerOptions,
    *,
    scale: float = 1.0,
    penalty: Float[Tensor, ""] | None = None,
    memory: RewardMemory | None = None,
    number: Int[Tensor, "B"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Add the REINFORCE gradient of a rollout to the parameters' ``grad``, and return the draws' statistics.

    Args:
        penalty: Added to the surrogate.
        memory: Of earlier rewards, where the options need it; read, and only then updated.
        number: Of each pair in it; None for pairs of a stream.
    """
    reference, weight = remembered_rewards(rolled, options, memory, number)
    loss = loss_of_rollout(rolled, options, reference=reference, weight=weight)
    loss = loss if penalty is None else loss + penalty
    with stage("backward"):
        (loss * scale).backward()
    metrics = rollout_metrics(rolled, options.rollout.keypoints)
    if rolled.deployed_reward is not None:
        number = rolled.valid.sum().clamp_min(1)
        metrics["reward_deployed"] = torch.where(rolled.valid, rolled.deployed_reward, 0.0).sum() / number
    return metrics


def remembered_rewards(
    rolled: Rollout, options: TrainerOptions, memory: RewardMemory | None, number: Int[Tensor, "B"] | None
) -> tuple[Float[Tensor, "B"] | None, Float[Tensor, "B"] | None]:
    """(the reference, the weight) of each pair that the options ask for; the memory is read, and only then updated."""
    reference, weight = rolled.deployed_reward, None
    if options.remembers_rewards:
        if memory is None:
            raise InputError(f"baseline {options.baseline!r} or normalised rewards expected a memory, got none")
        number = rolled.valid.new_full(rolled.valid.shape, -1, dtype=torch.long) if number is None else number
        remembered, spread = memory.read(number)
        reference = remembered if options.baseline == "moving_average" else reference
        weight = 1.0 / spread if options.normalize_rewards else None
        memory.update(number, _followed_rewards(rolled, options), rolled.valid)
    return reference, weight


def loss_of_rollout(
    rolled: Rollout,
    options: TrainerOptions,
    *,
    reference: Float[Tensor, "B"] | None = None,
    weight: Float[Tensor, "B"] | None = None,
) -> Float[Tensor, ""]:
    """The surrogate of a rollout as the options want it.

    Args:
        reference: What the options' baseline subtracts, where it comes from outside the draws.
        weight: Of each pair.
    """
    control, coefficient, of_matches = rolled.control, options.control_coefficient, None
    reward = _followed_rewards(rolled, options)
    if options.match_utility == "log_of_keypoints":
        of_matches = -_utility(rolled, options.utility_floor)
    elif options.match_utility == "control":
        # As in the surrogate of a reward with c = 1, whose exact part is shrunk as the drawn one would be.
        shrunk = 1.0 - 1.0 / reward.shape[-1] if options.baseline == "mean" else 1.0
        of_matches = -shrunk * _control(rolled).expected.mean(dim=(-2, -1))
        control = None
    if control is not None and coefficient == "estimated":
        coefficient = coefficient_of_others(reward, control, valid=rolled.valid)
    return surrogate_loss(
        reward,
        rolled.log_prob_keypoints,
        rolled.log_prob_matches,
        baseline=options.baseline,
        reference=reference,
        control=control,
        coefficient=1.0 if isinstance(coefficient, str) else coefficient,
        valid=rolled.valid,
        weight=weight,
        of_keypoints=_own_credit(rolled) if options.keypoint_credit == "own_matches_biased" else None,
        of_matches=of_matches,
        keypoint_weight=options.keypoint_weight,
        match_weight=options.match_weight,
    )


def _followed_rewards(rolled: Rollout, options: TrainerOptions) -> Float[Tensor, "B S T"]:
    """What whole draws are reinforced by: their rewards, or the control's expectation in place of them."""
    if options.match_utility != "control":
        return rolled.reward
    return _control(rolled).expected.detach().mean(dim=-1, keepdim=True).expand_as(rolled.reward)


def _control(rolled: Rollout) -> MatchExpectation:
    if rolled.control is None:
        raise InputError("match_utility='control' expected a reward in rollout.control.values, got none")
    return rolled.control


def _own_credit(rolled: Rollout) -> Float[Tensor, "B"]:
    value = _value_of_keypoints(rolled, "keypoint_credit='own_matches_biased'")
    inclusion = torch.stack([side.log_inclusion for side in (rolled.keypoints1, rolled.keypoints2)], dim=-2)
    return own_match_surrogate(value, inclusion, _valid_keypoints(rolled))


def _utility(rolled: Rollout, floor: float) -> Float[Tensor, "B"]:
    value = _value_of_keypoints(rolled, "match_utility='log_of_keypoints'")
    num_slots = rolled.matches.valid.shape[-1]  # what a reward per slot was divided by
    return log_utility(num_slots * value, _valid_keypoints(rolled), floor=floor)


def _value_of_keypoints(rolled: Rollout, option: str) -> Float[Tensor, "B S 2 K"]:
    if rolled.value_of_keypoints is None:
        raise InputError(f"{option} expected a reward that adds over matches in rollout.control.values, got none")
    return rolled.value_of_keypoints


def _valid_keypoints(rolled: Rollout) -> Bool[Tensor, "B S 2 K"]:
    return torch.stack([rolled.keypoints1.valid, rolled.keypoints2.valid], dim=-2)


def clip_gradients(
    parameters: Sequence[nn.Parameter], clip_norm: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | Tensor]:
    """(norm before clipping, whether there is something to follow: finite and not zero). Without a visit to the host.

    A gradient that is not finite becomes zero.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    finite = norm.isfinite()
    factor = torch.where(finite, (clip_norm / (norm + 1e-12)).clamp_max(1.0), 0.0)
    for gradient in gradients:
        gradient.copy_(torch.where(finite, gradient * factor, 0.0))
    return torch.where(finite, norm, 0.0), finite & (norm > 0)


def step_where(usable: Bool[Tensor, ""], optimizer: torch.optim.Optimizer) -> None:
    """One step of the optimiser, taken back on the device unless ``usable``: its momentum must not move the weights."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    # Adam keeps its step counter on the CPU; there it may count a step too many, the weights are what matters.
    touched = [value for value in (*parameters, *state) if value.device == usable.device]
    before = [value.detach().clone() for value in touched]
    optimizer.step()
    with torch.no_grad():
        for value, old in zip(touched, before, strict=True):
            value.copy_(torch.where(usable, value, old))
