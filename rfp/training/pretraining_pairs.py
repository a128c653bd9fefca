"""Labelled pairs of views of scenes: low-level matching on the very pairs that train on the pose, to compare the two.

The pairs of each step are those of ``Trainer`` for the same seed and number of pairs. What is true of them is known
exactly where they are rendered; of real pairs only the epipolar geometry is, and a matcher has to propose.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rfp.data.loading import batch_indices
from rfp.data.pairs import PairSequence
from rfp.evaluation.deployed import deployed
from rfp.evaluation.feature_memory import FeatureMemory
from rfp.evaluation.matching import epipolar_error_px
from rfp.geometry.camera import normalize_points
from rfp.geometry.depth import inverse_depth_at, transferred_points
from rfp.geometry.triangulation import in_front_of_both
from rfp.matching import mutual_nearest_neighbours
from rfp.models.state import in_eval_mode
from rfp.rollout import detect
from rfp.training.pretraining_labels import BORDER, corner_heat, key_points_of_heat
from rfp.training.pretraining_losses import LabelledPairs, LabelledView
from rfp.training.pretraining_sources import is_inside
from rfp.training.run_identity import describe_pairs, stream_seed

SAME_SURFACE = 0.01
"""Largest relative difference between the inverse depth of a point and of what the other camera sees there."""


@runtime_checkable
class PairsWithDepth(Protocol):
    """What counterparts are computed from; the second dimension is the camera."""

    @property
    def images(self) -> Float[Tensor, "B 2 3 h w"]: ...
    @property
    def depth(self) -> Float[Tensor, "B 2 h w"]: ...
    @property
    def K(self) -> Float[Tensor, "B 2 3 3"]: ...
    @property
    def R(self) -> Float[Tensor, "B 3 3"]: ...
    @property
    def t(self) -> Float[Tensor, "B 3"]: ...


@runtime_checkable
class StreamWithDepth(Protocol):
    """A stream whose pairs come with depth: ``RenderedPairs`` and ``ReliefPairs``."""

    def render(self, count: int, *, generator: torch.Generator) -> PairsWithDepth:
        """The next pairs, those that ``draw`` would give."""
        ...


class RenderedViews:
    """Rendered pairs with the exact counterparts of a teacher's key points, through the depth of either view.

    Every key point of either view that the other view shows teaches the descriptors; it is a label of the detector
    only if the teacher finds a key point there in the other view, too.

    Args:
        teacher: A network on the device to train on; None for corners.
        count: Key points of an image, at most.
        max_error_px: Farthest that a key point's counterpart may be from one of the other view's.
        seed: As the trainer's, whose pairs these are.
    """

    def __init__(
        self,
        stream: StreamWithDepth,
        teacher: nn.Module | None,
        *,
        count: int = 512,
        max_error_px: float = 1.0,
        seed: int = 0,
    ):
        self.stream, self.teacher, self.count = stream, teacher, count
        self.max_error_px, self.seed = max_error_px, seed

    def __repr__(self) -> str:
        return f"RenderedViews({self.stream!r}, {self.count} key points, {self.max_error_px:g} px, seed {self.seed})"

    def draw(self, count: int, *, step: int, generator: torch.Generator) -> list[LabelledPairs]:
        """The ``count`` pairs of a step in one batch, on the generator's device; nothing is drawn from it."""
        own = torch.Generator(generator.device).manual_seed(stream_seed(self.seed, step))
        batch = self.stream.render(count, generator=own)
        xy_px, valid = find_key_points(self.teacher, batch.images.flatten(0, 1), self.count)
        shape = (len(batch.images), 2)
        return [exact_labels(batch, xy_px.unflatten(0, shape), valid.unflatten(0, shape), self.max_error_px)]


@torch.no_grad()
def find_key_points(
    teacher: nn.Module | None, images: Float[Tensor, "b 3 h w"], count: int
) -> tuple[Float[Tensor, "b N 2"], Bool[Tensor, "b N"]]:
    """A teacher's deployed key points, or corners without one; the mask says which slots hold one."""
    if teacher is None:
        found = key_points_of_heat(corner_heat(images), count)
        return found[..., :2], found[..., 2] > 0
    with in_eval_mode(teacher):
        features = detect(teacher, images, num_keypoints=count)  # type: ignore[arg-type]
    return features.xy_px, features.valid


@torch.no_grad()
def exact_labels(
    batch: PairsWithDepth, xy_px: Float[Tensor, "B 2 N 2"], valid: Bool[Tensor, "B 2 N"], max_error_px: float
) -> LabelledPairs:
    """The key points of either view with their exact counterparts in the other: 2 N points of each pair."""
    there, R = batch.R, batch.R.mT
    back = -(R @ batch.t[..., None])[..., 0]
    moved, seen, again = [], [], []
    for view, (rotation, translation) in enumerate(((there, batch.t), (R, back))):
        other = 1 - view
        xy, visible = counterparts(
            xy_px[:, view],
            (batch.depth[:, view], batch.depth[:, other]),
            (batch.K[:, view], batch.K[:, other]),
            rotation,
            translation,
        )
        visible = visible & valid[:, view]
        distance = torch.cdist(xy, xy_px[:, other]).masked_fill(~valid[:, None, other], torch.inf)
        moved.append(xy)
        seen.append(visible)
        again.append(visible & (distance.amin(dim=-1) < max_error_px))
    weight = torch.cat(again, dim=1).to(xy_px.dtype)
    everywhere = torch.ones_like(batch.depth[:, 0], dtype=torch.bool)
    first = LabelledView(batch.images[:, 0], everywhere, torch.cat([xy_px[:, 0], moved[1]], dim=1), weight)
    second = LabelledView(batch.images[:, 1], everywhere, torch.cat([moved[0], xy_px[:, 1]], dim=1), weight)
    return LabelledPairs(first, second, torch.cat(seen, dim=1))


def counterparts(
    xy_px: Float[Tensor, "B N 2"],
    depths: tuple[Float[Tensor, "B h w"], Float[Tensor, "B h w"]],
    cameras: tuple[Float[Tensor, "B 3 3"], Float[Tensor, "B 3 3"]],
    R: Float[Tensor, "B 3 3"],
    t: Float[Tensor, "B 3"],
) -> tuple[Float[Tensor, "B N 2"], Bool[Tensor, "B N"]]:
    """Where the second camera sees what the first one sees at these points, and whether it does.

    Not seen are points behind the camera, outside of its image, or behind what it sees there; and nobody knows on
    which side of an edge of depth a point lies.
    """
    here, known = inverse_depth_at(depths[0], xy_px)
    moved, expected = transferred_points(normalize_points(xy_px, cameras[0]), here, R, t)
    landed = (torch.nn.functional.pad(moved, (0, 1), value=1.0) @ cameras[1].mT)[..., :2]
    inside = is_inside(landed, torch.ones_like(depths[1], dtype=torch.bool))
    landed = torch.where(inside[..., None], landed, landed.new_full((), BORDER + 1))
    seen, known_there = inverse_depth_at(depths[1], landed)
    same = (seen - expected).abs() < SAME_SURFACE * expected
    return landed, known & (expected > 0) & inside & known_there & same


@dataclass(frozen=True)
class VerifiedMatches:
    """The matches of n posed pairs that agree with their true geometry, in N slots."""

    xy1_px: Float[Tensor, "n N 2"]
    xy2_px: Float[Tensor, "n N 2"]
    valid: Bool[Tensor, "n N"]


def verified_matches(
    teacher: nn.Module,
    pairs: PairSequence,
    *,
    count: int = 1024,
    max_error_px: float = 1.0,
    on_pair: Callable[[int], object] | None = None,
) -> VerifiedMatches:
    """A teacher's matches on real pairs that the true pose confirms: the nearest to truth without depth.

    Mutual nearest neighbours among the ``count`` best deployed key points of either image, within ``max_error_px`` of
    the true epipolar geometry (the Sampson distance) and in front of both cameras. A wrong match that happens to lie
    along the right line stays: of matches that point anywhere, a percent or so at 320 px and 1 px.

    Args:
        on_pair: Called with 1 after each pair.

    Raises:
        InputError: a pair that cannot be read.
    """
    rows = []
    with deployed(teacher, num_keypoints=count, nms_radius=2) as detector:
        memory = FeatureMemory(detector, defaultdict(float))
        for index in range(len(pairs)):
            pair = pairs[index]
            (one, _), (two, _) = memory(pair.image1), memory(pair.image2)
            index2, mutual = mutual_nearest_neighbours(one.descriptor, two.descriptor, one.valid, two.valid)
            xy1 = one.xy_px[0]
            xy2 = two.xy_px[0][index2[0]]
            K1, K2, R, t = (tensor.to(xy1.device) for tensor in (pair.K1, pair.K2, pair.R, pair.t))
            near = epipolar_error_px(xy1, xy2, K1, K2, R, t) < max_error_px
            front = in_front_of_both(normalize_points(xy1, K1), normalize_points(xy2, K2), R, t)
            rows.append((xy1, xy2, mutual[0] & near & front))
            if on_pair is not None:
                on_pair(1)
    xy1_px, xy2_px, valid = (torch.stack(column) for column in zip(*rows))
    return VerifiedMatches(xy1_px, xy2_px, valid)


class PosedViews:
    """Real posed pairs with their verified matches, which teach both the descriptors and the detector.

    Args:
        seed: As the trainer's, whose order of the pairs this is.
        device: To train on.
    """

    def __init__(
        self, pairs: PairSequence, matches: VerifiedMatches, *, seed: int = 0, device: torch.device | str = "cpu"
    ):
        self.pairs, self.matches, self.seed, self.device = pairs, matches, seed, device

    def __repr__(self) -> str:
        return f"PosedViews({describe_pairs(self.pairs)}, {self.matches.valid.shape[1]} key points, seed {self.seed})"

    def draw(self, count: int, *, step: int, generator: torch.Generator) -> list[LabelledPairs]:
        """The ``count`` pairs of a step, in one batch for each combination of sizes; nothing is drawn."""
        groups: dict[tuple[torch.Size, torch.Size], list[int]] = {}
        chosen = batch_indices(step, count, len(self.pairs), self.seed)
        loaded = [self.pairs[index] for index in chosen]
        for place, pair in enumerate(loaded):
            groups.setdefault((pair.image1.shape, pair.image2.shape), []).append(place)
        return [self._labelled([(loaded[k], chosen[k]) for k in places]) for places in groups.values()]

    def _labelled(self, members: list) -> LabelledPairs:
        valid = torch.stack([self.matches.valid[index] for _, index in members]).to(self.device)
        sides = []
        for name, points in (("image1", self.matches.xy1_px), ("image2", self.matches.xy2_px)):
            images = torch.stack([getattr(pair, name) for pair, _ in members]).to(self.device)
            xy_px = torch.stack([points[index] for _, index in members]).to(self.device)
            sides.append(LabelledView(images, torch.ones_like(images[:, 0]).bool(), xy_px, valid.to(xy_px.dtype)))
        return LabelledPairs(sides[0], sides[1], valid)
