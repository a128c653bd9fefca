"""Many draws of a frozen network on one pair, and the gradient of each of their log-probabilities, projected.

Every estimator of the gradient is a sum of the same vectors, ∇log P(X), ∇log P(M | X) and ∇E[a | X] of each draw, with
coefficients of its own: computed once, they serve all estimators. Squared lengths need no more than projections on
random signs u of the parameters, E[(uᵀg)²] = ‖g‖² (Hutchinson 1990), and uᵀg of a draw is a product in the space of the
network's outputs: (J u)ᵀ ∂ log P / ∂ outputs, with J u by forward differentiation, once a direction for all draws.
(Its parameters must end there: a network whose ``describe`` has some of its own, as ALIKED's, cannot be measured so.)
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

import rfp
from rfp.records import DenseFeatures, MatchExpectation, map_tensors
from rfp.rollout import Rollout, RolloutOptions, default_estimator, draw_noise, rollout_on_noise

SQUARE, COLUMN = 3, 9
"""Draws of key points in a group: the first three have three draws of matches each, the others of the nine one."""
TOGETHER = 3
"""Groups at once: few enough for the memory of one batch to serve the next (glibc returns pieces beyond 32 MB)."""


class Frozen(nn.Module):
    """A network whose dense features of a pair's images are given; each draw reads a feature map of its own.

    So that one backward pass gives the gradients of all draws, each in its own copy.
    """

    def __init__(self, network: rfp.FeatureNetwork, features: DenseFeatures, num_draws: int):
        super().__init__()
        self.network, self.num_draws = [network], num_draws
        copies = features.feature_map.repeat_interleave(num_draws, dim=0)
        self.features = DenseFeatures(features.log_heat.clone().requires_grad_(), copies.requires_grad_())

    def extract(self, images: Tensor) -> DenseFeatures:
        """The given features."""
        return self.features

    def describe(self, features: DenseFeatures, xy_px: Tensor) -> Tensor:
        """The network's own; the points of an image are those of its draws one after the other."""
        own = DenseFeatures(features.log_heat.repeat_interleave(self.num_draws, dim=0), features.feature_map)
        points = xy_px.unflatten(1, (self.num_draws, -1)).flatten(0, 1)
        return self.network[0].describe(own, points).unflatten(0, (2, self.num_draws)).flatten(1, 2)


class _Extract(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.network, rfp.FeatureNetwork)
        features = self.network.extract(images)
        return features.log_heat, features.feature_map


@dataclass(frozen=True)
class Group:
    """What G groups of S x T draws give."""

    rewards: dict[str, Tensor]
    """(G, S, T) by name; (G, 1, 1) of the deployed detector."""
    control: MatchExpectation
    keypoints: Tensor
    """uᵀ∇log P(X), (G, S, Q)."""
    matches: Tensor
    """uᵀ∇log P(M | X), (G, S, T, Q)."""
    expectation: Tensor
    """uᵀ∇E[a | X], (G, S, 1, Q)."""


def projections(network: nn.Module, images: Tensor, directions: int, generator: torch.Generator):
    """(features, J u of the heat maps (Q, 2hw), J u of the feature maps (Q, …)) for random signs u."""
    module = _Extract(network)
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    heat, maps = [], []
    for _ in range(directions):
        signs = {
            name: torch.randint(0, 2, value.shape, generator=generator).to(value) * 2 - 1
            for name, value in parameters.items()
        }
        value, tangent, *_ = jvp(lambda p: functional_call(module, p, (images,)), (parameters,), (signs,))
        (log_heat, feature_map), (du, dv) = value, tangent
        heat.append(du.flatten())
        maps.append(dv.flatten())
    return DenseFeatures(log_heat, feature_map), torch.stack(heat), torch.stack(maps)


def draw_groups(
    network: nn.Module,
    pair: rfp.PosedPair,
    options: RolloutOptions,
    *,
    groups: int,
    directions: int,
    generator: torch.Generator,
) -> dict[str, Group]:
    """The draws of a pair in the layouts "3 x 3" and "9 x 1", which share the draws of their first rows and columns."""
    assert isinstance(network, rfp.FeatureNetwork)
    images = torch.stack([pair.image1, pair.image2])
    features, heat, maps = projections(network, images, directions, generator)
    parts = {}
    for T, count in ((SQUARE, SQUARE), (1, COLUMN - SQUARE)):
        rows = []
        for start in range(0, groups, TOGETHER):
            frozen = Frozen(network, features, min(TOGETHER, groups - start) * count)
            rolled = _roll(frozen, pair, options, T, generator)
            rows.append((map_tensors(rolled, torch.Tensor.detach), _project(rolled, frozen.features, heat, maps)))
        joined = _joined([row for row, _ in rows])
        vectors = [torch.cat(values) for values in zip(*[values for _, values in rows], strict=True)]
        parts[T] = _grouped(joined[1], vectors, _rewards(joined, pair, options, groups, generator), groups)
    deployed = {"deployed": _deployed_rewards(network, pair, options, groups, generator)}
    parts = {T: replace(part, rewards={**part.rewards, **deployed}) for T, part in parts.items()}
    return {"3 x 3": parts[SQUARE], "9 x 1": _column(parts[SQUARE], parts[1])}


class _NoEstimate:
    """Stands in for the estimator while key points and matches are drawn: the poses come later, all at once."""

    noise_shape = (1,)

    def __call__(self, correspondences, noise):
        self.asked = correspondences
        shape = correspondences.valid.shape[:-1]
        like = correspondences.x1
        return rfp.RelativePose(
            R=torch.eye(3).expand(*shape, 3, 3),
            t=like.new_zeros(*shape, 3),
            E=like.new_zeros(*shape, 3, 3),
            inliers=torch.zeros_like(correspondences.valid),
            score=like.new_zeros(shape),
            valid=torch.zeros(shape, dtype=torch.bool),
        )


def _roll(frozen: Frozen, pair, options: RolloutOptions, num_matches: int, generator) -> Rollout:
    draws = replace(options, num_keypoint_draws=frozen.num_draws, num_match_draws=num_matches)
    noise = draw_noise([pair], options=draws, estimator=_NoEstimate(), generator=generator)
    return rollout_on_noise(frozen, [pair], noise, options=draws, estimator=_NoEstimate())


def _project(rolled: Rollout, features: DenseFeatures, heat: Tensor, maps: Tensor) -> list[Tensor]:
    """uᵀ∇ of each draw's log-probabilities and expectation: (S, Q), (S, T, Q), (S, 1, Q)."""
    assert rolled.control is not None
    values = rolled.log_prob_keypoints[0]
    every = torch.eye(len(values))
    (of_heat,) = torch.autograd.grad(values, features.log_heat, every, is_grads_batched=True)
    of_matches = []
    for column in (*rolled.log_prob_matches[0].unbind(-1), rolled.control.expected[0, :, 0]):
        (of_maps,) = torch.autograd.grad(column.sum(), features.feature_map, retain_graph=True)
        of_matches.append(of_maps.unflatten(0, (2, -1)).transpose(0, 1).flatten(1) @ maps.T)
    matches = torch.stack(of_matches, dim=1)
    return [of_heat.flatten(1) @ heat.T, matches[:, :-1], matches[:, -1:]]


@torch.no_grad()
def _deployed_rewards(network, pair, options: RolloutOptions, groups: int, generator) -> Tensor:
    """(G, 1, 1): of the deployed detector, whose matches are fixed, on noise of its own for each group."""
    few, asked = replace(options, num_keypoint_draws=1, num_match_draws=1), _NoEstimate()
    noise = draw_noise([pair], options=few, estimator=asked, generator=generator, deployed=True)
    truth = _truth(pair)
    rollout_on_noise(network, [pair], noise, options=few, estimator=asked)  # its last question is the deployed one
    estimator = default_estimator(options)
    correspondences = map_tensors(asked.asked, lambda tensor: tensor.expand(1, groups, *tensor.shape[2:]))
    noise = torch.rand(1, groups, 1, *estimator.noise_shape, generator=generator)
    return rfp.PoseErrorReward()(estimator(correspondences, noise), correspondences, truth)[0, :, :, None]


def _truth(pair: rfp.PosedPair) -> rfp.TwoViewGeometry:
    K1, K2, R, t = (getattr(pair, name)[None, None, None] for name in ("K1", "K2", "R", "t"))
    return rfp.TwoViewGeometry(K1, K2, R, t, torch.ones(1, 1, 1, dtype=torch.bool))


def _joined(rows: list[Rollout]) -> tuple[rfp.Correspondences, MatchExpectation]:
    """The matched points and the additive reward of many rollouts, side by side as draws of key points."""

    def side_by_side(name: str, record: str):
        return torch.cat([getattr(getattr(row, record), name) for row in rows], dim=1)

    points = {name: side_by_side(name, "correspondences") for name in rfp.Correspondences.__dataclass_fields__}
    control = {name: side_by_side(name, "control") for name in ("sampled", "expected")}
    return rfp.Correspondences(**points), MatchExpectation(**control)


@torch.no_grad()
def _rewards(joined, pair, options: RolloutOptions, groups: int, generator) -> dict[str, Tensor]:
    """(S of all groups, T): the pose's reward, that with the same noise in a group, and the additive one."""
    correspondences, control = joined
    estimator = default_estimator(options)
    S, T = correspondences.valid.shape[1:3]
    truth = _truth(pair)
    own = torch.rand(1, S, T, *estimator.noise_shape, generator=generator)
    shared = own[:, :: S // groups, :1].repeat_interleave(S // groups, dim=1).expand_as(own)
    reward = rfp.PoseErrorReward()
    found = {"pose": own, "pose, common noise": shared} if T > 1 else {"pose": own}
    rewards = {
        name: reward(estimator(correspondences, noise), correspondences, truth)[0] for name, noise in found.items()
    }
    return {**rewards, "right matches": control.sampled[0, :, 0]}


def _grouped(control: MatchExpectation, vectors: list[Tensor], rewards: dict[str, Tensor], groups: int) -> Group:
    def grouped(values: Tensor) -> Tensor:
        return values.unflatten(0, (groups, -1))

    return Group(
        rewards={name: grouped(value) for name, value in rewards.items()},
        control=MatchExpectation(grouped(control.sampled[0]), grouped(control.expected[0])),
        keypoints=grouped(vectors[0]),
        matches=grouped(vectors[1]),
        expectation=grouped(vectors[2]),
    )


def _column(square: Group, others: Group) -> Group:
    """Nine draws of key points with one of matches: the first ones of 3 x 3, and the six that have one."""

    def nine(first: Tensor, second: Tensor, draws: int) -> Tensor:
        return torch.cat([first.narrow(draws, 0, 1), second], dim=1)

    return Group(
        rewards={name: nine(square.rewards[name], value, 2) for name, value in others.rewards.items()},
        control=MatchExpectation(
            nine(square.control.sampled, others.control.sampled, 3),
            torch.cat([square.control.expected, others.control.expected], dim=1),
        ),
        keypoints=torch.cat([square.keypoints, others.keypoints], dim=1),
        matches=nine(square.matches, others.matches, 2),
        expectation=torch.cat([square.expectation, others.expectation], dim=1),
    )
