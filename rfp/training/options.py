"""Everything that decides how a network is trained, as frozen dataclasses; the command line is made from them."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from rfp.data.augmentation import PhotometricAugmentation
from rfp.data.geometric_augmentation import GeometricAugmentation
from rfp.data.loading import STEPS_AHEAD
from rfp.records import InputError
from rfp.reinforce.baselines import BASELINES, Baseline, check_baseline
from rfp.rewards import BY_DEPTH, REWARDS, RewardName, RewardPerSlotName, reward_of_terms
from rfp.rollout import RolloutOptions
from rfp.training.curriculum import CurriculumOptions
from rfp.training.schedules import ScheduleOptions
from rfp.training.trust_region import TrustRegionOptions


@dataclass(frozen=True)
class JudgeOptions:
    """How a network is judged during training: under deployment, by an estimator that is not in the loop."""

    estimator: Literal["poselib", "opencv", "opencv-ransac", "rfp"] = "poselib"
    """Outside estimator; "rfp" is the one in the loop and flatters."""
    num_keypoints: int = 512
    """Best local maxima kept in each image."""
    max_error_px: float = 1.0
    """Inlier threshold in pixels of the resized images."""
    select_on: Literal["5", "10", "20"] = "10"
    """The AUC threshold in degrees on which the best weights are chosen."""


@dataclass(frozen=True)
class TrainerOptions:
    """Options of a training run."""

    steps: int = 400
    """Optimiser steps."""
    pairs_per_step: int = 4
    """Pairs rolled out together."""
    accumulate: int = 1
    """Batches of pairs whose gradients are averaged before a step."""
    learning_rate: float = 1e-6
    """Adam's, after the warm-up."""
    warmup_steps: int = 20
    """Steps over which the rate rises linearly from zero."""
    clip_norm: float = 1.0
    """Gradients longer than this are shortened to it. Score-function gradients of hundreds of key points are far longer
    (see ``gradient_norm`` in the metrics), so that at 1 nearly every step has this length and only a direction."""
    averaging: float = 0.0
    """Decay of an exponential average of the weights, which is then what is validated and kept: 0.99 averages about the
    last hundred steps, whose noise is far larger than their progress; 0 keeps the weights as they are."""
    reward: RewardName = "pose_error"
    """What is reinforced; a reward given to the Trainer itself stands in its place. "epipolar" ignores the estimate: it
    pays for each right match, a far less noisy and a different aim."""
    reward_terms: tuple[str, ...] = ()
    """A weighted sum in place of the reward, NAME=WEIGHT for each term: pose_error=1 epipolar=0.3."""
    baseline: Baseline = "leave_one_out"
    """What is subtracted from the rewards; "mean" is the paper's, "all_others" works with one draw of matches,
    "moving_average" is the average of the pair's earlier rewards, "self_critical" that of the deployed detector."""
    normalize_rewards: bool = False
    """Divide each pair's rewards by the spread that they had in earlier steps, so that the pairs count alike, whatever
    the scale of their rewards. It weights the pairs, and biases the gradient of none of them."""
    reward_memory: float = 0.9
    """Decay of the averages behind "moving_average" and the normalised rewards, at each visit of a pair."""
    control_coefficient: float | Literal["estimated"] = "estimated"
    """c of the control variate that the rollout's options choose; "estimated" from the other draws and pairs of the
    batch; 1 where the control is the reward itself."""
    keypoint_credit: Literal["draw", "own_matches_biased"] = "draw"
    """What a key point is reinforced with: the reward of the whole draw, or, as in DISK, what its own matches add to
    the reward of the rollout's control; less noise by orders of magnitude, and a bias."""
    match_utility: Literal["reward", "control", "log_of_keypoints"] = "reward"
    """What the descriptors follow, and with rollout.position_gradient the positions: the reward; the expectation of the
    rollout's control alone, which the key points follow, too, in place of the reward, and for which a geometry that was
    estimated is held fixed; or the mean over key points of the logarithm of what each one's matches are worth under the
    control, see ``rfp.reinforce.keypoint_utility``. The latter two are exact but for the draws of key points (and
    estimates); the logarithm needs matches by reciprocal choice."""
    utility_floor: float = 0.1
    """ε of the logarithm: a key point whose matches are worth less counts as one without a counterpart. The true pose
    calls a match right that lies along the epipolar line by chance, and at 1e-3 such matches are what is learned."""
    keypoint_weight: float = 1.0
    """Factor on the detector's term of the surrogate."""
    match_weight: float = 1.0
    """Factor on the descriptor's term."""
    frozen: tuple[str, ...] = ()
    """Shell patterns of parameters that must not change, for example 'block1.*'."""
    rates: tuple[str, ...] = ()
    """Factors on the learning rate by shell patterns of parameters, 'heat*=0.1' for example; the last that matches
    holds."""
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    trust: TrustRegionOptions = field(default_factory=TrustRegionOptions)
    entropy_weight: float = 0.0
    """Reward for the entropy of the key-point distribution as a share of the largest possible (0 to 1, in the metrics
    "entropy_share_keypoints"): above 0 it spreads the distribution out, below 0 it sharpens it. Ten times too much is
    harmful."""
    augment: bool = False
    """Photometric changes, independent for the two images of a pair."""
    photometric: PhotometricAugmentation = field(default_factory=PhotometricAugmentation)
    """How strong they are."""
    geometric: GeometricAugmentation = field(default_factory=GeometricAugmentation)
    """Rotation about the axis, crop and scale, independent for the two images; off unless given a strength."""
    curriculum: CurriculumOptions = field(default_factory=CurriculumOptions)
    seed: int = 0
    """Decides the order of the pairs and every draw."""
    workers: int = 0
    """Processes that read the coming pairs of folders while the network trains; the result does not depend on it."""
    strict: bool = False
    """Refuse a pair whose image cannot be read; else it is skipped, with a warning and a count, and the next one that
    can be read stands in its place."""
    validate_every: int = 100
    """Steps between validations; the best weights are kept, the start being the first candidate."""
    checkpoint_every: int = 50
    """Steps between checkpoints to resume from."""
    log_every: int = 10
    """Steps between readings of the metrics (each reading waits for the device)."""
    rollout: RolloutOptions = field(default_factory=RolloutOptions)
    judge: JudgeOptions = field(default_factory=JudgeOptions)

    def __post_init__(self):
        for name in ("steps", "pairs_per_step", "accumulate", "validate_every", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"expected {name} of at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise InputError(f"expected {name} above 0, got {getattr(self, name)}")
        if not math.isfinite(self.entropy_weight):
            raise InputError(f"expected a finite entropy_weight, got {self.entropy_weight}; 0 is off")
        if self.workers < 0:
            raise InputError(f"expected workers of at least 0, got {self.workers}")
        if self.curriculum.on and self.workers * STEPS_AHEAD > self.log_every:
            raise InputError(
                f"a curriculum decides log_every steps at a time, and {self.workers} workers read ahead "
                f"{self.workers * STEPS_AHEAD}: expected log_every of at least that many, got {self.log_every}"
            )
        if self.warmup_steps < 0:
            raise InputError(f"expected warmup_steps of at least 0, got {self.warmup_steps}")
        if not 0.0 <= self.averaging < 1.0:
            raise InputError(f"expected averaging of at least 0 and below 1, got {self.averaging}; 0.99 is usual")
        if self.reward not in REWARDS:
            raise InputError(f"expected a reward of {', '.join(REWARDS)}, got {self.reward!r}")
        if self.baseline not in BASELINES:
            raise InputError(f"expected a baseline of {', '.join(BASELINES)}, got {self.baseline!r}")
        if self.keypoint_credit not in ("draw", "own_matches_biased"):
            raise InputError(f"expected a keypoint_credit of draw or own_matches_biased, got {self.keypoint_credit!r}")
        if self.keypoint_credit != "draw" and self.rollout.control.values == "none":
            raise InputError(
                f"keypoint_credit={self.keypoint_credit!r} expected rollout.control.values with a reward that adds "
                "over matches, got none"
            )
        self._check_utility()
        draws = self.rollout.num_keypoint_draws * self.rollout.num_match_draws
        if self.curriculum.on and draws < 2:
            raise InputError(
                f"curriculum.share {self.curriculum.share} expected several draws of each pair, since it looks at how "
                "much their rewards differ, got one; raise rollout.num_keypoint_draws or .num_match_draws"
            )
        taught = self.keypoint_weight, self.match_weight, self.entropy_weight
        if not any(taught) and not self.trust.on:
            raise InputError(
                "expected a keypoint_weight or match_weight other than 0, got none: nothing would be learned"
            )
        check_baseline(self.baseline, self.rollout.num_keypoint_draws, self.rollout.num_match_draws)
        if self.reward_terms:
            reward_of_terms(self.reward_terms)
        if not 0.0 <= self.reward_memory < 1.0:
            raise InputError(f"expected reward_memory of at least 0 and below 1, got {self.reward_memory}")
        coefficient = self.control_coefficient
        if coefficient != "estimated" and not (isinstance(coefficient, float | int) and math.isfinite(coefficient)):
            raise InputError(f"expected a control_coefficient of 'estimated' or a finite number, got {coefficient!r}")

    def _check_utility(self) -> None:
        if self.match_utility not in ("reward", "control", "log_of_keypoints"):
            raise InputError(
                f"expected a match_utility of reward, control or log_of_keypoints, got {self.match_utility!r}"
            )
        if not 0.0 < self.utility_floor < math.inf:
            raise InputError(f"expected utility_floor above 0, got {self.utility_floor}; 0.1 is usual")
        matches, control = self.rollout.matches, self.rollout.control
        if self.match_utility == "control" and control.values == "none":
            raise InputError("match_utility='control' expected rollout.control.values with a reward, got none")
        if self.match_utility == "control" and self.baseline == "self_critical":
            raise InputError(
                "match_utility='control' expected another baseline than self_critical, the deployed detector's reward, "
                "which is not the control's"
            )
        if self.match_utility == "log_of_keypoints" and (
            matches.candidates != "reciprocal" or control.values == "none"
        ):
            raise InputError(
                f"match_utility={self.match_utility!r} expected rollout.matches.candidates='reciprocal' and "
                "rollout.control.values with a reward per slot that adds over matches, got "
                f"{matches.candidates!r} and {control.values!r}"
            )

    @classmethod
    def each_key_point(cls, worth: RewardPerSlotName = "sampson_count", **changes) -> "TrainerOptions":
        """The recipe of the results page: each key point's worth under the true pose, by its logarithm.

        The true pose decides which matches are right and how much each is worth. The gradient is exact but for the draw
        of key points, so that hundreds of steps do, on a CPU (benchmarks/learning.py).

        Args:
            worth: Of a match. With depth "reprojection_count", which knows a match from others along its line: the
                floor may be lower, and the heat map is kept near the start's. Without, positions learn, too.
            changes: Of any option.
        """
        by_depth = worth in BY_DEPTH
        options = cls(
            learning_rate=1e-4,
            averaging=0.99,
            augment=True,
            schedule=ScheduleOptions(rate="cosine"),
            reward=worth,
            match_utility="log_of_keypoints",
            utility_floor=0.01 if by_depth else 0.1,
            keypoint_weight=0.0,
            baseline="none",
            control_coefficient=1.0,
            trust=TrustRegionOptions(keypoints=1.0 if by_depth else 0.0),
            rollout=RolloutOptions.each_key_point(worth),
        )
        return dataclasses.replace(options, **changes)

    @property
    def remembers_rewards(self) -> bool:
        """Whether a step needs the rewards of earlier ones."""
        return self.normalize_rewards or self.baseline == "moving_average"


Options = TypeVar("Options")


def options_from_json(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """The options of a dataclass from what ``dataclasses.asdict`` and JSON made of them.

    Raises:
        InputError: an entry that this version of rfp does not know.
    """
    types = typing.get_type_hints(kind)
    unknown = [name for name in values if name not in types]
    if unknown:
        raise InputError(f"{kind.__name__} has no option {unknown[0]!r}; was it written by another version of rfp?")

    def converted(name: str, value: Any) -> Any:
        if dataclasses.is_dataclass(types[name]):
            return options_from_json(types[name], value)  # type: ignore[arg-type]
        return tuple(value) if isinstance(value, list) else value

    return kind(**{name: converted(name, value) for name, value in values.items()})
