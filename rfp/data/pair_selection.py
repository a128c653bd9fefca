"""Which pairs of posed images are worth having: by what they share, parallax and rotation, then by lot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from rfp.records import InputError


@dataclass(frozen=True)
class PairChoice:
    """Which of the candidate pairs are taken."""

    parallax_deg: tuple[float, float] = (2.0, 60.0)
    """Least and largest parallax: the angle between the two rays to a point, the median over the points that both
    images see. Below about 2° the direction of translation is hardly determined."""
    max_rotation_deg: float = 60.0
    """Largest rotation between the two cameras, about any axis."""
    max_pairs_per_image: int = 20
    """An image occurs in this many pairs at most."""
    max_pairs: int | None = None
    """Pairs in all at most; None takes every pair that the limit for each image allows."""
    seed: int = 0
    """Of the lot that decides where the limits leave a choice."""

    def __post_init__(self) -> None:
        low, high = self.parallax_deg
        if not 0 <= low < high <= 180:
            raise InputError(f"expected parallax_deg as (least, largest) from 0 to 180, got {low:g} {high:g}; try 2 60")
        if not 0 < self.max_rotation_deg <= 180:
            raise InputError(f"expected max_rotation_deg above 0, up to 180, got {self.max_rotation_deg:g}; try 60")
        if self.max_pairs_per_image < 1 or (self.max_pairs is not None and self.max_pairs < 1):
            raise InputError(
                "expected max_pairs_per_image and max_pairs of at least 1, "
                f"got {self.max_pairs_per_image} and {self.max_pairs}"
            )
        if self.seed < 0:
            raise InputError(f"expected a seed of at least 0, got {self.seed}")


@dataclass(frozen=True)
class PairCandidates:
    """Pairs (first < second, places in a list of images) that see something in common. Others are not listed."""

    first: Int[np.ndarray, "P"]
    second: Int[np.ndarray, "P"]
    overlap: Float[np.ndarray, "P"]
    """What the images share: a number of points, or a share of the view."""
    parallax_deg: Float[np.ndarray, "P"]
    rotation_deg: Float[np.ndarray, "P"]

    def take(self, places: Int[np.ndarray, "C"]) -> "PairCandidates":
        """Some of them."""
        return PairCandidates(*(getattr(self, field.name)[places] for field in fields(self)))


@dataclass(frozen=True)
class OverlapLimit:
    """The least overlap, and how a message puts it."""

    least: float
    fail: str
    """What pairs below it do: ``share fewer than 30 points``."""
    option: str


def candidates_of_points(
    R: Float[np.ndarray, "I 3 3"],
    centre: Float[np.ndarray, "I 3"],
    points: Float[np.ndarray, "P 3"],
    observed: Sequence[Int[np.ndarray, "_"]],
) -> PairCandidates:
    """All pairs of images that observe a point in common; the overlap is the number of such points.

    The parallax of a pair is the median, over its shared points, of the angle at the point between the rays to both
    centres. Memory and time grow with the observations times the length of tracks, not with all pairs times points.

    Args:
        R: World to camera.
        observed: For each image the places of its points in ``points``, each once.
    """
    image = np.repeat(np.arange(len(observed)), [len(places) for places in observed])
    place = np.concatenate([np.zeros(0, np.int64), *observed])
    rays = _normalized(points[place] - centre[image])
    order = np.argsort(place, kind="stable")  # images stay ascending within a point
    start = np.searchsorted(place[order], np.arange(len(points) + 1))
    offset = np.concatenate([[0], np.cumsum([len(places) for places in observed])])
    found = []
    for first in range(len(observed)):
        own = np.arange(offset[first], offset[first + 1])
        length = start[place[own] + 1] - start[place[own]]
        ends = np.cumsum(length)
        within = np.arange(length.sum()) - np.repeat(ends - length, length)
        other = order[np.repeat(start[place[own]], length) + within]  # every observation of the points of this image
        mine = np.repeat(own, length)
        later = image[other] > first
        other, mine = other[later], mine[later]
        found.append((first, *_medians(image[other], _angle_deg(rays[mine], rays[other]))))
    first = np.concatenate([np.zeros(0, np.int64), *(np.full(len(second), place) for place, second, _, _ in found)])
    second = np.concatenate([np.zeros(0, np.int64), *(second for _, second, _, _ in found)])
    count = np.concatenate([np.zeros(0), *(count for _, _, count, _ in found)])
    parallax = np.concatenate([np.zeros(0), *(parallax for *_, parallax in found)])
    return PairCandidates(first, second, count, parallax, rotation_deg(R[first], R[second]))


def candidates_of_views(
    R: Float[np.ndarray, "I 3 3"],
    centre: Float[np.ndarray, "I 3"],
    K: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    *,
    depth: float,
    max_rotation_deg: float,
) -> PairCandidates:
    """The pairs of one camera's views that overlap if all they see is at one depth, where no points are known.

    The overlap is the share of a view (the smaller of both) that the other one sees, the parallax the median angle at
    what they share. Pairs that turn by more than ``max_rotation_deg`` are not looked at, and not listed.

    Args:
        R: World to camera.
        size: (width, height) of the image that K belongs to.
        depth: Along the optical axis, in the units of ``centre``.
    """
    across, down = ((np.arange(count) + 0.5) / count * side - 0.5 for count, side in zip((8, 6), size))
    pixels = np.stack([*np.meshgrid(across, down), np.ones((6, 8))], axis=-1).reshape(-1, 3)
    seen = depth * pixels @ np.linalg.inv(K).T
    count = len(R)
    projection = K @ np.concatenate([R, -R @ centre[:, :, None]], axis=2)
    overlap, parallax = np.zeros((count, count)), np.zeros((count, count))
    for first in range(count):
        others = np.flatnonzero(rotation_deg(R[first], R) <= max_rotation_deg)
        points = seen @ R[first] + centre[first]
        projected = projection[others] @ np.concatenate([points.T, np.ones((1, len(points)))])
        xy_px = projected[:, :2] / np.maximum(projected[:, 2:], 1e-9)
        inside = ((xy_px >= -0.5) & (xy_px < np.array(size)[:, None] - 0.5)).all(axis=1) & (projected[:, 2] > 0)
        other, point = np.nonzero(inside)
        rays = _normalized(points - centre[first]), _normalized(points[point] - centre[others[other]])
        places, number, median = _medians(others[other], _angle_deg(rays[0][point], rays[1]))
        overlap[first, places], parallax[first, places] = number / len(pixels), median
    overlap = np.minimum(overlap, overlap.T)
    first, second = np.nonzero(np.triu(overlap, k=1) > 0)
    found = overlap[first, second], parallax[first, second], rotation_deg(R[first], R[second])
    return PairCandidates(first, second, *found)


def choose_pairs(
    candidates: PairCandidates, num_images: int, limit: OverlapLimit, choice: PairChoice
) -> Int[np.ndarray, "C"]:
    """The places of the chosen candidates, in the order of their images.

    Raises:
        InputError: none qualifies; the message counts the pairs that failed each criterion.
    """
    low, high = choice.parallax_deg
    enough = candidates.overlap >= limit.least
    parallax = (candidates.parallax_deg >= low) & (candidates.parallax_deg <= high)
    turned = candidates.rotation_deg > choice.max_rotation_deg
    qualified = np.flatnonzero(enough & parallax & ~turned)
    if len(qualified) == 0:
        num_pairs = num_images * (num_images - 1) // 2
        counts = [
            (num_pairs - int(enough.sum()), limit.fail, limit.option),
            (int((enough & ~parallax).sum()), f"have a parallax outside {low:g} to {high:g}°", "--parallax-deg"),
            (
                int((enough & parallax & turned).sum()),
                f"turn by more than {choice.max_rotation_deg:g}°",
                "--max-rotation-deg",
            ),
        ]
        reasons = ", ".join(f"{count} {reason} ({option})" for count, reason, option in counts if count)
        raise InputError(
            f"none of the {num_pairs} pairs of {num_images} images qualifies: {reasons or 'there is no second image'}; "
            "widen these limits, or give images that see the same places"
        )
    lot = np.random.default_rng(choice.seed).permutation(qualified)
    return np.sort(np.fromiter(_within_limits(candidates, lot, choice), np.int64))


def rotation_deg(R1: Float[np.ndarray, "*#B 3 3"], R2: Float[np.ndarray, "*#B 3 3"]) -> Float[np.ndarray, "*B"]:
    """The angle of ``R2 R1ᵀ`` in degrees, precise near 0 and 180, where the arc cosine of the trace is not."""
    # ‖R2 - R1‖² = 8 sin²(θ/2) and tr(R2 R1ᵀ) + 1 = 4 cos²(θ/2)
    sine = np.linalg.norm(R2 - R1, axis=(-2, -1)) / np.sqrt(8)
    cosine = np.sqrt(np.maximum(np.einsum("...ij,...ij->...", R2, R1) + 1, 0)) / 2
    return np.asarray(np.rad2deg(2 * np.arctan2(sine, cosine)))


def _within_limits(candidates: PairCandidates, lot: Int[np.ndarray, "Q"], choice: PairChoice) -> Iterator[int]:
    pairs_of: dict[int, int] = {}
    taken = 0
    for place in lot.tolist():
        images = int(candidates.first[place]), int(candidates.second[place])
        if choice.max_pairs is not None and taken >= choice.max_pairs:
            return
        if any(pairs_of.get(image, 0) >= choice.max_pairs_per_image for image in images):
            continue
        for image in images:
            pairs_of[image] = pairs_of.get(image, 0) + 1
        taken += 1
        yield place


def _normalized(ray: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    return ray / np.maximum(np.linalg.norm(ray, axis=-1, keepdims=True), 1e-300)


def _angle_deg(ray1: Float[np.ndarray, "*N 3"], ray2: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N"]:
    """Between unit vectors; twice the arc tangent keeps the digits of small angles (Kahan)."""
    return np.rad2deg(2 * np.arctan2(np.linalg.norm(ray1 - ray2, axis=-1), np.linalg.norm(ray1 + ray2, axis=-1)))


def _medians(
    group: Int[np.ndarray, "N"], value: Float[np.ndarray, "N"]
) -> tuple[Int[np.ndarray, "G"], Float[np.ndarray, "G"], Float[np.ndarray, "G"]]:
    """The distinct groups, ascending, with the count and the median of the values of each."""
    order = np.lexsort((value, group))
    value = value[order]
    groups, start, count = np.unique(group[order], return_index=True, return_counts=True)
    median = (value[start + (count - 1) // 2] + value[start + count // 2]) / 2
    return groups, count.astype(float), median
