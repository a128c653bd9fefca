"""The whole flow on one screen: features → key points → matches → task → reward, and the deployed detector beside it.

Everything between the images and the surrogate stays where the tensors are. The images of a batch may differ in size:
the network sees groups of equal size (padding an image changes what a network computes inside it), and padding with
masks begins after it.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.geometry.camera import normalize_points
from rfp.matching.nearest_neighbours import ImageSize
from rfp.matching.scored_matches import ScoredMatches
from rfp.policy.keypoints import (
    KeypointDistribution,
    KeypointOptions,
    draw_keypoints,
    keypoint_distribution,
    keypoint_noise_shape,
    top_keypoints,
)
from rfp.policy.match_expectation import (
    check_exact,
    every_candidate,
    expected_value_of_keypoints,
    match_expectation,
)
from rfp.policy.matches import MatchDistribution, MatchOptions, draw_matches, match_distribution, match_noise_shape
from rfp.policy.reciprocal import ReciprocalDistribution
from rfp.records import (
    Correspondences,
    DenseFeatures,
    Features,
    InputError,
    Keypoints,
    Matches,
    MatchExpectation,
    PosedPair,
    RelativePose,
    TwoViewGeometry,
    map_tensors,
)
from rfp.rewards import (
    ADDITIVE_REWARDS,
    BY_DEPTH,
    AdditiveReward,
    AdditiveRewardName,
    PoseErrorReward,
    RewardPerSlotName,
    callable_name,
)
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import RelativePoseEstimator
from rfp.stages import stage


@runtime_checkable
class FeatureNetwork(Protocol):
    """What rfp asks of a network: a heat map, and descriptors at given points. Any ``nn.Module`` with these two."""

    def extract(self, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
        """Dense features of b RGB images in [0, 1], all of one size."""
        ...

    def describe(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N D"]:
        """Unit descriptors at N points of each image, differentiable with respect to the network."""
        ...


@runtime_checkable
class SubpixelNetwork(Protocol):
    """A network whose detector moves its key points off the pixel grid: at deployment, and in training on demand."""

    def refine(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N 2"]:
        """The points moved to the sub-pixel peak of the heat map."""
        ...


@runtime_checkable
class Matcher(Protocol):
    """Matches between the deployed key points of two images: those of :mod:`rfp.matching`, or any such function."""

    def __call__(
        self, features1: Features, features2: Features, size1: ImageSize | None, size2: ImageSize | None, /
    ) -> ScoredMatches:
        """The matches of B pairs. The sizes are (height, width) of all images 1 and 2, None where nobody knows."""
        ...


@runtime_checkable
class TaskEstimator(Protocol):
    """A robust estimator, a black box: nothing flows back through it."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the U(0, 1) noise that one problem consumes."""
        ...

    def __call__(self, correspondences: Correspondences, noise: Float[Tensor, "..."]) -> Any:
        """The task's result for each problem: a record of tensors with a mask ``valid`` of shape (*B,)."""
        ...


@runtime_checkable
class Reward(Protocol):
    """What a task's result was worth: higher is better, always finite, the worst value where the estimate failed."""

    def __call__(self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        """The reward of each problem. ``truth`` broadcasts against it."""
        ...


@dataclass(frozen=True)
class ControlOptions:
    """A reward that adds over matches and whose expectation is known: a control variate, or the reward itself."""

    values: Literal["none", "reward", AdditiveRewardName] = "none"
    """What a match is worth: nothing is computed; what the reward itself pays for it (it has to add over matches, and
    with a coefficient of 1 its matches' term is then exact); or one of the rewards that do."""
    geometry: Literal["true", "independent_draw", "own_estimate_biased"] = "true"
    """Under which geometry: the true pose; the estimate from the next draw of matches of the same key points, which
    needs no truth; or the draw's own estimate, which depends on the matches that it judges and biases the gradient."""

    def __post_init__(self):
        if self.values not in ("none", "reward", *ADDITIVE_REWARDS):
            raise InputError(
                f"expected values of none, reward, {', '.join(ADDITIVE_REWARDS)}, got {self.values!r}; others do not "
                "add over matches"
            )
        if self.values in BY_DEPTH and self.geometry != "true":
            raise InputError(
                f"control.values={self.values!r} expected control.geometry='true', whose depth it needs, got "
                f"{self.geometry!r}"
            )
        if self.geometry not in ("true", "independent_draw", "own_estimate_biased"):
            raise InputError(
                f"expected a geometry of true, independent_draw or own_estimate_biased, got {self.geometry!r}"
            )


@dataclass(frozen=True)
class RolloutOptions:
    """How a batch of pairs becomes rewards."""

    keypoints: KeypointOptions = field(default_factory=KeypointOptions)
    matches: MatchOptions = field(default_factory=MatchOptions)
    num_keypoint_draws: int = 3
    """S, n_X of the paper: draws of key points for each pair."""
    num_match_draws: int = 3
    """T, n_M of the paper: draws of matches for each draw of key points."""
    subpixel: bool = False
    """Hand the estimator the positions that the network's own sub-pixel step gives."""
    position_gradient: bool = False
    """Let the expected value of the control's matches move those positions: the network learns where a key point lies,
    and not only which one to choose. Key points are then described where they land, as they are at deployment."""
    max_error_px: float = 1.0
    """Inlier threshold of the estimator in the loop, in pixels of the images as they are given."""
    ransac: RansacOptions = field(default_factory=lambda: RansacOptions(num_hypotheses=64, resample_rounds=2))
    common_random_numbers: bool = False
    """The estimator in the loop uses the same noise for all draws of a pair, so that their rewards differ by what was
    drawn rather than by its luck. Each draw's own distribution stays what it is, and the gradient unbiased."""
    control: ControlOptions = field(default_factory=ControlOptions)
    bfloat16: bool = False
    """Compute the network's maps in bfloat16 (torch's autocast, on a CPU or GPU): faster where the hardware knows it.
    What that changes of the gradient is on the results page (benchmarks/low_precision.py)."""

    def __post_init__(self):
        if self.num_keypoint_draws < 1 or self.num_match_draws < 1:
            raise InputError(
                "expected num_keypoint_draws and num_match_draws of at least 1, got "
                f"{self.num_keypoint_draws} and {self.num_match_draws}"
            )
        if not 0.0 < self.max_error_px < math.inf:
            raise InputError(f"expected max_error_px above 0, got {self.max_error_px}; 1 is usual")
        if self.position_gradient and not (self.subpixel and self.control.values != "none"):
            raise InputError(
                "position_gradient expected subpixel=True, whose positions it moves, and control.values with a reward "
                f"that adds over matches, got subpixel={self.subpixel} and control.values={self.control.values!r}"
            )
        if self.control.values != "none":
            # What the reward itself divides by is known when it is there.
            per = "slot" if self.control.values == "reward" else ADDITIVE_REWARDS[self.control.values].per
            check_exact(self.matches, per)
        if self.control.geometry == "independent_draw" and self.num_match_draws < 2:
            raise InputError(
                "the geometry of an independent draw expected num_match_draws of at least 2, got 1; raise it"
            )

    @classmethod
    def paper(cls, **changes) -> "RolloutOptions":
        """The paper's policy: 600 pixels with replacement, no NMS, τ = 1, half of the mutual matches.

        Together with ``baseline="mean"``. Three defects of the original code are not repeated: draws are counted, the
        heat map is normalised over the image, and a failed estimate keeps the worst reward.
        """
        keypoints = KeypointOptions(num_keypoints=600, nms_radius=0, border=0, replacement=True)
        matches = MatchOptions(candidates="mutual", temperature=1.0, fraction=0.5, replacement=True)
        return replace(cls(keypoints=keypoints, matches=matches), **changes)

    @classmethod
    def each_key_point(cls, worth: RewardPerSlotName = "sampson_count", **changes) -> "RolloutOptions":
        """What ``TrainerOptions.each_key_point`` needs: key points that choose each other, and what each is worth.

        All of it is expected exactly under the true pose, so that one draw of key points is enough and the estimator,
        whose result is only logged, may be cheap. Positions learn from the epipolar geometry; by depth they did not
        get better (benchmarks/learning.py).

        Args:
            worth: Of a match; with depth "reprojection_count".
        """
        options = cls(
            keypoints=KeypointOptions(num_keypoints=384),
            matches=MatchOptions(candidates="reciprocal", temperature=0.06),
            num_keypoint_draws=1,
            num_match_draws=1,
            subpixel=True,
            position_gradient=worth not in BY_DEPTH,
            control=ControlOptions(values=worth),
            ransac=RansacOptions(num_hypotheses=16, resample_rounds=0),
        )
        return replace(options, **changes)


@dataclass(frozen=True)
class RolloutNoise:
    """The uniforms that one rollout consumes; row b belongs to pair b, whatever stands beside it in the batch."""

    keypoints1: Float[Tensor, "B S L"]
    keypoints2: Float[Tensor, "B S L"]
    matches: Float[Tensor, "B S T Q"]
    estimator: Float[Tensor, "B S T ..."]
    deployed: Float[Tensor, "B 1 1 ..."] | None = None
    """Of the estimator on the deployed detector's matches, where its reward is asked for."""


@dataclass(frozen=True)
class Rollout:
    """Rewards of B × S × T draws and the log-probabilities that they reinforce.

    Only the latter carry a gradient, and what they were made of: features, distribution, descriptors.
    """

    reward: Float[Tensor, "B S T"]
    log_prob_keypoints: Float[Tensor, "B S"]
    log_prob_matches: Float[Tensor, "B S T"]
    valid: Bool[Tensor, "B"]
    """False: the pair's input was unusable (NaN), it is left out with all its draws."""
    failed: Bool[Tensor, "B S T"]
    """True: the estimator found nothing. Such a draw keeps the worst reward and takes part in the baselines."""
    result: Any
    """What the task's estimator returned, (B, S, T)."""
    keypoints1: Keypoints
    keypoints2: Keypoints
    matches: Matches
    correspondences: Correspondences
    features: "GroupedFeatures"
    """Of images 1, then images 2: b = 2 B."""
    distribution: KeypointDistribution
    """The key points of each image were drawn from it, (b, C)."""
    descriptors: Float[Tensor, "b S K D"]
    """At the drawn key points."""
    match_policy: MatchDistribution | ReciprocalDistribution
    """The matches of each draw of key points were drawn from it, (B, S, C)."""
    control: MatchExpectation | None = None
    """The additive reward of ``options.control``, drawn and expected. The expectation carries a gradient, too."""
    value_of_keypoints: Float[Tensor, "B S 2 K"] | None = None
    """What the matches of each key point add to that reward, expected, in image 1 and 2. It carries a gradient, too."""
    deployed_reward: Float[Tensor, "B"] | None = None
    """Of the deployed detector on each pair, where asked for: the baseline of self-critical training."""


def rollout(
    network: FeatureNetwork,
    pairs: Sequence[PosedPair],
    *,
    options: RolloutOptions | None = None,
    generator: torch.Generator,
    estimator: TaskEstimator | None = None,
    reward: Reward | None = None,
    deployed: bool = False,
) -> Rollout:
    """Draws of key points and matches for each pair, the poses estimated from them, and what those were worth.

    One forward pass, then S × T draws of every pair in one batch. The gradient reaches the network through
    ``log_prob_keypoints`` and ``log_prob_matches``; give both to ``surrogate_loss``.

    Args:
        network: In eval mode; ``Trainer`` sees to that, and here it is the caller's affair.
        pairs: On the network's device; their images may differ in size.
        generator: On that device too.
        estimator: Default: batched RANSAC for the relative pose, by ``options``.
        reward: Default: the paper's soft-clipped pose error.
        deployed: Also compute the reward of the deployed detector, with noise of its own.

    Raises:
        InputError: no pairs; ``options.control`` asks for what the reward or the estimator does not give; a reward that
            does not return a float for each problem.
    """
    options = RolloutOptions() if options is None else options
    estimator = default_estimator(options) if estimator is None else estimator
    noise = draw_noise(pairs, options=options, estimator=estimator, generator=generator, deployed=deployed)
    return rollout_on_noise(network, pairs, noise, options=options, estimator=estimator, reward=reward)


def rollout_on_noise(
    network: FeatureNetwork,
    pairs: Sequence[PosedPair],
    noise: RolloutNoise,
    *,
    options: RolloutOptions,
    estimator: TaskEstimator,
    reward: Reward | None = None,
) -> Rollout:
    """``rollout`` on given noise: a pure function, which can be compiled, captured and run on ``device="meta"``."""
    reward = PoseErrorReward() if reward is None else reward
    positions_learn = options.position_gradient and torch.is_grad_enabled()
    num_pairs, num_keypoints = len(pairs), options.keypoints.num_keypoints

    images = [pair.image1 for pair in pairs] + [pair.image2 for pair in pairs]
    with stage("network"):
        features = extract_features(network, images, bfloat16=options.bfloat16)
    with stage("key points"):
        distribution = keypoint_distribution(features.log_heat, features.sizes, options.keypoints)
        uniforms = torch.cat([noise.keypoints1, noise.keypoints2])
        keypoints = draw_keypoints(distribution, uniforms, options.keypoints)
    with stage("descriptors"):
        pixels = positions = keypoints.xy_px.detach()
        if options.subpixel and isinstance(network, SubpixelNetwork):
            with torch.set_grad_enabled(positions_learn):
                positions = features.refine(network, pixels)
        descriptors = features.describe(network, positions.detach() if options.position_gradient else pixels)

    one, two = slice(0, num_pairs), slice(num_pairs, 2 * num_pairs)
    with stage("matches"):
        candidates = match_distribution(
            descriptors[one], descriptors[two], keypoints.valid[one], keypoints.valid[two], options.matches
        )
        matches = draw_matches(
            candidates,
            noise.matches,
            keypoints.valid[one].sum(dim=-1),
            options.matches.num_slots(num_keypoints),
            options.matches,
        )

    truth = _truth(pairs, features.valid[one] & features.valid[two], positions.dtype)
    with torch.no_grad(), stage("estimator and reward"):
        correspondences = _correspondences(positions[one], positions[two], matches, truth)
        result = estimator(correspondences, noise.estimator)
        value = _checked(reward(result, correspondences, truth), reward, correspondences)
        deployed_reward = None
        if noise.deployed is not None:
            deployed = _deployed_correspondences(network, features, distribution, truth, options)
            of_deployed = reward(estimator(deployed, noise.deployed), deployed, truth)
            deployed_reward = _checked(of_deployed, reward, deployed)[:, 0, 0]
    control = value_of_keypoints = None
    if options.control.values != "none":
        with stage("matches"):
            additive = additive_reward(reward, options.control)
            with torch.set_grad_enabled(positions_learn):
                values = _candidate_values(candidates, positions[one], positions[two], result, truth, additive, options)
            control = match_expectation(candidates, matches, values, num_keypoints, options.matches, additive.per)
            value_of_keypoints = expected_value_of_keypoints(candidates, matches, values, num_keypoints, additive.per)

    return Rollout(
        reward=value,
        log_prob_keypoints=keypoints.log_prob[one] + keypoints.log_prob[two],
        log_prob_matches=matches.log_prob,
        valid=truth.valid[:, 0, 0],
        failed=~result.valid,
        result=result,
        keypoints1=map_tensors(keypoints, lambda tensor: tensor[one]),
        keypoints2=map_tensors(keypoints, lambda tensor: tensor[two]),
        matches=matches,
        correspondences=correspondences,
        features=features,
        distribution=distribution,
        descriptors=descriptors,
        match_policy=candidates,
        control=control,
        value_of_keypoints=value_of_keypoints,
        deployed_reward=deployed_reward,
    )


def default_estimator(options: RolloutOptions) -> RelativePoseEstimator:
    """The batched RANSAC for the relative pose that ``options`` describe."""
    return RelativePoseEstimator(
        max_error_px=options.max_error_px,
        options=options.ransac,
        common_random_numbers=options.common_random_numbers,
    )


def draw_noise(
    pairs: Sequence[PosedPair],
    *,
    options: RolloutOptions,
    estimator: TaskEstimator,
    generator: torch.Generator,
    deployed: bool = False,
) -> RolloutNoise:
    """The uniforms for one rollout, drawn on the generator's device."""
    if not pairs:
        raise InputError("expected at least one pair, got none; check the data set")
    images = [image for pair in pairs for image in (pair.image1, pair.image2)]
    area = max(image.shape[-2] for image in images) * max(image.shape[-1] for image in images)
    keypoint_shape = keypoint_noise_shape(options.keypoints, options.num_keypoint_draws, area)
    match_shape = match_noise_shape(options.matches, options.num_match_draws, options.keypoints.num_keypoints)
    draws = (len(pairs), options.num_keypoint_draws, options.num_match_draws)

    def uniforms(*shape: int, fine: bool = False) -> Tensor:
        # The cumulative distribution over 10^5 pixels has steps far below 2^-24, float32's: without float64 the
        # pixels between them could never be drawn. (MPS has no float64.)
        dtype = torch.float64 if fine and generator.device.type != "mps" else torch.float32
        return torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)

    return RolloutNoise(
        keypoints1=uniforms(len(pairs), *keypoint_shape, fine=options.keypoints.replacement),
        keypoints2=uniforms(len(pairs), *keypoint_shape, fine=options.keypoints.replacement),
        matches=uniforms(len(pairs), options.num_keypoint_draws, *match_shape, fine=options.matches.replacement),
        estimator=uniforms(*draws, *estimator.noise_shape),
        deployed=uniforms(len(pairs), 1, 1, *estimator.noise_shape) if deployed else None,
    )


@torch.no_grad()
def detect(
    network: FeatureNetwork,
    images: Float[Tensor, "B 3 h w"],
    *,
    num_keypoints: int,
    nms_radius: int = 2,
    border: int = 4,
) -> Features:
    """The deployed detector: the most probable local maxima, sub-pixel where the network has it, and their descriptors.

    The distribution is the training policy's; the draw is replaced by its top. The network should be in eval mode.

    >>> import rfp, torch
    >>> network = rfp.load_pretrained("aliked-t16")  # doctest: +SKIP
    >>> features = rfp.detect(network, torch.rand(1, 3, 240, 320), num_keypoints=512)  # doctest: +SKIP
    """
    options = KeypointOptions(num_keypoints=num_keypoints, nms_radius=nms_radius, border=border)
    options = replace(options, max_candidates=max(num_keypoints, options.max_candidates))
    finite = images.isfinite()
    clean = torch.where(finite, images, 0.0)
    dense = network.extract(clean)
    sizes = [(images.shape[-2], images.shape[-1])] * images.shape[0]
    log_heat = without_blank(dense.log_heat, clean)
    distribution = keypoint_distribution(log_heat, sizes, options)
    xy_px, score, valid = top_keypoints(distribution, num_keypoints)
    if isinstance(network, SubpixelNetwork):
        xy_px = network.refine(dense, xy_px)
    descriptor = network.describe(dense, xy_px)
    usable = valid & finite.flatten(1).all(dim=-1, keepdim=True)
    return Features(xy_px=xy_px, score=torch.where(usable, score, 0.0), descriptor=descriptor, valid=usable)


@dataclass(frozen=True)
class GroupedFeatures:
    """Dense features of a list of images, kept by size as the network saw them; heat maps padded to one size."""

    groups: list[tuple[list[int], DenseFeatures]]
    log_heat: Float[Tensor, "b h w"]
    sizes: list[tuple[int, int]]
    valid: Bool[Tensor, "b"]

    def describe(self, network: FeatureNetwork, xy_px: Float[Tensor, "b S K 2"]) -> Float[Tensor, "b S K D"]:
        return self._each(network.describe, xy_px)

    def refine(self, network: SubpixelNetwork, xy_px: Float[Tensor, "b S K 2"]) -> Float[Tensor, "b S K 2"]:
        return self._each(network.refine, xy_px)

    def _each(self, function, xy_px: Float[Tensor, "b S K 2"]) -> Float[Tensor, "b S K _"]:
        """``function(features, points)`` group by group, put back in the order of the images."""
        rows: list[Tensor] = [xy_px[0]] * len(self.sizes)
        for members, dense in self.groups:
            # Views by Python integers: an index list would be a host constant, copied to the device at each step.
            points = torch.stack([xy_px[member].flatten(0, 1) for member in members])
            for member, values in zip(members, function(dense, points), strict=True):
                rows[member] = values.unflatten(0, xy_px.shape[1:3])
        return torch.stack(rows)


def extract(network: FeatureNetwork, images: Float[Tensor, "b 3 h w"], *, bfloat16: bool = False) -> DenseFeatures:
    """The network's maps in at least float32, computed in bfloat16 where that was asked for."""
    device = images.device.type
    with torch.autocast(device, torch.bfloat16) if bfloat16 and device in ("cpu", "cuda") else nullcontext():
        features = network.extract(images)
    return map_tensors(features, lambda values: values.to(torch.promote_types(values.dtype, torch.float32)))


def extract_features(
    network: FeatureNetwork, images: Sequence[Float[Tensor, "3 _ _"]], *, bfloat16: bool = False
) -> GroupedFeatures:
    """Features of each image, computed in groups of equal size. NaN is replaced before the network and flagged."""
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    finite = [image.isfinite() for image in images]
    clean = [torch.where(mask, image, 0.0) for mask, image in zip(finite, images, strict=True)]
    groups: list[tuple[list[int], DenseFeatures]] = []
    log_heat: list[Tensor] = [clean[0]] * len(images)
    for size in dict.fromkeys(sizes):
        members = [number for number, other in enumerate(sizes) if other == size]
        batch = torch.stack([clean[member] for member in members])
        dense = extract(network, batch, bfloat16=bfloat16)
        groups.append((members, dense))
        for member, heat in zip(members, without_blank(dense.log_heat, batch), strict=True):
            log_heat[member] = torch.nn.functional.pad(heat, (0, width - size[1], 0, height - size[0]))
    valid = torch.stack([mask.all() for mask in finite])
    return GroupedFeatures(groups=groups, log_heat=torch.stack(log_heat), sizes=sizes, valid=valid)


def without_blank(log_heat: Float[Tensor, "b h w"], images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """The heat maps, -inf everywhere (no candidates) for an image of one colour, within a step of 8 bits.

    A network finds key points in a black photograph all the same, at the edges, where its padding begins.
    """
    values = images.flatten(2)
    contrast = (values.amax(dim=2) - values.amin(dim=2)).amax(dim=1)
    return torch.where((contrast > 1.5 / 255)[:, None, None], log_heat, float("-inf"))


def _truth(pairs: Sequence[PosedPair], images_valid: Bool[Tensor, "B"], dtype: torch.dtype) -> TwoViewGeometry:
    """Cameras and poses as (B, 1, 1, …), to broadcast against the draws. Unusable ones are replaced and flagged."""
    K1, K2, R, t = (torch.stack([getattr(pair, name) for pair in pairs]).to(dtype) for name in ("K1", "K2", "R", "t"))
    finite = torch.cat([K1.flatten(1), K2.flatten(1), R.flatten(1), t], dim=1).isfinite().all(dim=1)
    identity = torch.eye(3, dtype=K1.dtype, device=K1.device)
    keep = finite[:, None, None]
    truth = TwoViewGeometry(
        K1=torch.where(keep, K1, identity),
        K2=torch.where(keep, K2, identity),
        R=torch.where(keep, R, identity),
        t=torch.where(finite[:, None], t, identity[2]),
        valid=finite & images_valid,
        depth1=_depths([(pair.depth1, pair.image1) for pair in pairs], dtype),
        depth2=_depths([(pair.depth2, pair.image2) for pair in pairs], dtype),
    )
    return map_tensors(truth, lambda tensor: tensor[:, None, None])


def _depths(
    maps: Sequence[tuple[Float[Tensor, "_ _"] | None, Float[Tensor, "3 _ _"]]], dtype: torch.dtype
) -> Float[Tensor, "B h w"] | None:
    """The depth of each image, padded to one size; None unless all have one.

    Raises:
        InputError: a map of another size than its image.
    """
    known = [(depth, image) for depth, image in maps if depth is not None]
    if len(known) < len(maps):
        return None
    for depth, image in known:
        if depth.shape != image.shape[1:]:
            raise InputError(
                f"expected depth at the pixels of its image, {tuple(image.shape[1:])}, got {tuple(depth.shape)}; "
                "resize the image, and K with it, or the depth"
            )
    height, width = (max(depth.shape[side] for depth, _ in known) for side in (0, 1))
    padded = (torch.nn.functional.pad(d, (0, width - d.shape[1], 0, height - d.shape[0])) for d, _ in known)
    return torch.stack(tuple(padded)).to(dtype)


def _correspondences(
    xy1_px: Float[Tensor, "B S K 2"], xy2_px: Float[Tensor, "B S K 2"], matches: Matches, truth: TwoViewGeometry
) -> Correspondences:
    """The drawn matches as points. Problems are (B, S, T)."""
    problems = matches.valid.shape[:-1]

    def at(points: Float[Tensor, "B S K 2"], index: Int[Tensor, "B S T M"]) -> Float[Tensor, "B S T M 2"]:
        points = points[:, :, None].expand(*problems, *points.shape[-2:])
        return points.gather(-2, index[..., None].expand(*index.shape, 2))

    points1, points2 = at(xy1_px, matches.index1), at(xy2_px, matches.index2)
    K1, K2 = (K.expand(*problems, 3, 3) for K in (truth.K1, truth.K2))
    return Correspondences(
        xy1_px=points1,
        xy2_px=points2,
        x1=normalize_points(points1, K1),
        x2=normalize_points(points2, K2),
        weight=matches.count.to(points1.dtype),
        valid=matches.valid,
        K1=K1,
        K2=K2,
    )


@torch.no_grad()
def _deployed_correspondences(
    network: FeatureNetwork,
    features: GroupedFeatures,
    distribution: KeypointDistribution,
    truth: TwoViewGeometry,
    options: RolloutOptions,
) -> Correspondences:
    """All mutual matches between the best key points, as deployed, from the features of the rollout: (B, 1, 1)."""
    if options.keypoints.nms_radius == 0:  # every pixel is a candidate in training, and none of them deploys so
        local_maxima = KeypointOptions(num_keypoints=options.keypoints.num_keypoints)
        distribution = keypoint_distribution(features.log_heat, features.sizes, local_maxima)
    xy_px, _, valid = top_keypoints(distribution, options.keypoints.num_keypoints)
    xy_px, valid = xy_px[:, None], valid[:, None]
    if isinstance(network, SubpixelNetwork):
        xy_px = features.refine(network, xy_px)
    descriptors = features.describe(network, xy_px)
    num_pairs = len(features.sizes) // 2
    one, two = slice(0, num_pairs), slice(num_pairs, None)
    policy = options.matches if options.matches.one_each else replace(options.matches, candidates="mutual")
    candidates = match_distribution(descriptors[one], descriptors[two], valid[one], valid[two], policy)
    return _correspondences(xy_px[one], xy_px[two], every_candidate(candidates), truth)


def _checked(value: Any, reward: Reward, correspondences: Correspondences) -> Float[Tensor, "*B"]:
    """What a reward returned, if it is one number a problem; whether they are finite only the device knows."""
    points = correspondences.x1
    expected = tuple(points.shape[:-2])
    name = callable_name(reward)
    if not isinstance(value, Tensor):
        raise InputError(
            f"the reward {name} expected to return a tensor, got {type(value).__name__}; what runs on the host goes "
            "through rfp.rewards.host_reward"
        )
    if not value.is_floating_point() or tuple(value.shape) != expected:
        raise InputError(
            f"the reward {name} expected to return a float for each problem, {expected}, got {tuple(value.shape)} of "
            f"{value.dtype}"
        )
    if value.device != points.device:
        raise InputError(
            f"the reward {name} expected to return a tensor on {points.device}, got one on "
            f"{value.device}; what runs on the host goes through rfp.rewards.host_reward"
        )
    return value


def additive_reward(reward: Reward, control: ControlOptions) -> AdditiveReward:
    """The reward whose expectation ``control`` asks for.

    Raises:
        InputError: it asks for that of ``reward``, which does not add over matches.
    """
    if control.values in ADDITIVE_REWARDS:
        return ADDITIVE_REWARDS[control.values]
    if not isinstance(reward, AdditiveReward):
        raise InputError(
            f"control.values='reward' expected a reward that adds over matches, got {callable_name(reward)}; choose "
            f"one of {', '.join(ADDITIVE_REWARDS)} beside it"
        )
    return reward


def _candidate_values(
    candidates: MatchDistribution | ReciprocalDistribution,
    xy1_px: Float[Tensor, "B S K 2"],
    xy2_px: Float[Tensor, "B S K 2"],
    result: Any,
    truth: TwoViewGeometry,
    additive: AdditiveReward,
    options: RolloutOptions,
) -> Float[Tensor, "B S V C"]:
    """What each candidate match is worth under the geometry of ``options.control``: V is 1 for the truth, else T."""
    correspondences = _correspondences(xy1_px, xy2_px, every_candidate(candidates), truth)
    if options.control.geometry == "true":
        return additive.match_values(correspondences, truth)
    if not isinstance(result, RelativePose):
        raise InputError(
            f"control.geometry={options.control.geometry!r} expected an estimator of relative poses, got results of "
            f"{type(result).__name__}; choose 'true'"
        )
    shift = -1 if options.control.geometry == "independent_draw" else 0
    R, t, valid = (value.roll(shift, dims=2) for value in (result.R, result.t, result.valid))
    problems = valid.shape
    cameras = {name: getattr(correspondences, name).expand(*problems, 3, 3) for name in ("K1", "K2")}
    estimated = TwoViewGeometry(R=R, t=t, valid=valid, **cameras)
    spread = map_tensors(correspondences, lambda tensor: tensor.expand(*problems, *tensor.shape[3:]))
    return torch.where(valid[..., None], additive.match_values(spread, estimated), 0.0)
