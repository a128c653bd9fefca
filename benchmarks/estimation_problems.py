"""Two-view problems with the truth, seeded: synthetic ones as estimators are compared on, and matches of real pairs.

Synthetic: two cameras of 640 × 480 pixels and f = 500, one unit apart in any direction, the second one turned by up to
30 degrees about any axis. Points are uniform in the first image at depths of 2 to 10 baselines, and kept where the
second camera sees them in front of it. Both positions have noise of one pixel, and the outliers are uniform in the
second image. Their number is exact, their places in the list random.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import rfp
from rfp.data import PosedPairs
from rfp.evaluation import match_features
from rfp.geometry.camera import normalize_points

FOCAL_PX = 500.0
HALF_IMAGE = (320 / FOCAL_PX, 240 / FOCAL_PX)
NOISE_PX = 1.0
MAX_ERROR_PX = 2.0
LARGEST_TURN_DEG = 30.0
DEPTHS = (2.0, 10.0)
GENERATOR = (
    f"two cameras of 640 × 480 px, f = {FOCAL_PX:g} px, baseline 1, turned by up to {LARGEST_TURN_DEG:g}°; depths "
    f"{DEPTHS[0]:g} to {DEPTHS[1]:g}; noise {NOISE_PX:g} px; outliers uniform in image 2; threshold {MAX_ERROR_PX:g} px"
)
_CHUNK = 32
"""Problems drawn from one seed: the k-th problem is the same however many are drawn."""
_TRIES = 6
"""Points tried for each that is needed; scenes where too few are seen by both cameras are drawn again."""


@dataclass(frozen=True)
class Problems:
    """P problems of up to N matches, in normalised points, with the truth in float64."""

    x1: Tensor  # (P, N, 2)
    x2: Tensor  # (P, N, 2)
    valid: Tensor  # (P, N)
    focal_px: Tensor  # (P, 2): of both cameras, for estimators that want pixels
    R: Tensor  # (P, 3, 3) float64
    t: Tensor  # (P, 3) float64
    max_error_px: float

    @property
    def max_error(self) -> Tensor:
        """The threshold of each problem in normalised units: ½ (1/f1 + 1/f2) · px."""
        return 0.5 * self.max_error_px * (1 / self.focal_px).sum(dim=1)

    def __len__(self) -> int:
        return self.x1.shape[0]

    def __getitem__(self, index: slice) -> "Problems":
        x1, x2, valid, focal_px, R, t = (
            tensor[index] for tensor in (self.x1, self.x2, self.valid, self.focal_px, self.R, self.t)
        )
        return Problems(x1, x2, valid, focal_px, R, t, self.max_error_px)

    def batches(self, size: int) -> Iterator["Problems"]:
        """Slices of ``size`` problems, the last one of what is left."""
        for first in range(0, len(self), size):
            yield self[first : first + size]

    def to(self, device: torch.device | str) -> "Problems":
        """The matches on ``device``; the truth stays where it is judged."""
        x1, x2, valid, focal_px = (tensor.to(device) for tensor in (self.x1, self.x2, self.valid, self.focal_px))
        return Problems(x1, x2, valid, focal_px, self.R, self.t, self.max_error_px)

    def to_copy(self) -> "Problems":
        """The matches in memory of their own."""
        x1, x2, valid, focal_px = (tensor.clone() for tensor in (self.x1, self.x2, self.valid, self.focal_px))
        return Problems(x1, x2, valid, focal_px, self.R, self.t, self.max_error_px)


def synthetic_problems(count: int, num_matches: int, inlier_ratio: float, *, seed: int = 0) -> Problems:
    """``count`` problems of the generator above, in float32. The first of them do not depend on their number."""
    chunks = []
    for chunk in range(-(-count // _CHUNK)):
        generator = torch.Generator().manual_seed(1_000_003 * seed + chunk)
        chunks.append(_chunk(num_matches, inlier_ratio, generator))
    x1, x2, R, t = (torch.cat(parts)[:count] for parts in zip(*chunks, strict=True))
    return Problems(
        x1=x1.float(),
        x2=x2.float(),
        valid=torch.ones(x1.shape[:2], dtype=torch.bool),
        focal_px=torch.full((count, 2), FOCAL_PX),
        R=R,
        t=t,
        max_error_px=MAX_ERROR_PX,
    )


def _chunk(num_matches: int, inlier_ratio: float, generator: torch.Generator) -> tuple[Tensor, ...]:
    """(x1, x2, R, t) of ``_CHUNK`` problems."""
    x1, x2, R, t = _visible_scenes(num_matches, generator)
    half = torch.tensor(HALF_IMAGE, dtype=torch.float64)
    noise = NOISE_PX / FOCAL_PX * torch.randn((2, *x1.shape), generator=generator, dtype=torch.float64)
    wild = (2 * torch.rand(x2.shape, generator=generator, dtype=torch.float64) - 1) * half
    rank = torch.rand(x1.shape[:2], generator=generator).argsort(dim=1)
    inlier = rank < round(inlier_ratio * num_matches)
    return x1 + noise[0], torch.where(inlier[..., None], x2 + noise[1], wild), R, t


def _visible_scenes(num_matches: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Exact (x1, x2, R, t) of ``_CHUNK`` scenes, redrawn until both cameras see enough of each."""
    found: list[tuple[Tensor, ...]] = []
    while sum(len(scenes[0]) for scenes in found) < _CHUNK:
        x1, x2, seen, R, t = _scenes(_CHUNK, _TRIES * num_matches, generator)
        index = seen.int().argsort(dim=1, descending=True, stable=True)[:, :num_matches]
        enough = seen.gather(1, index).all(dim=1)
        index = index[..., None].expand(-1, -1, 2)
        found.append((x1.gather(1, index)[enough], x2.gather(1, index)[enough], R[enough], t[enough]))
    return tuple(torch.cat(parts)[:_CHUNK] for parts in zip(*found, strict=True))


def _scenes(count: int, num_points: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Exact (x1, x2, seen by both, R, t) of ``count`` scenes of ``num_points`` points."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    half = torch.tensor(HALF_IMAGE, dtype=torch.float64)
    axis = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)
    R = rotation(axis * math.radians(LARGEST_TURN_DEG) * uniform(count, 1))
    t = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)
    x1 = (2 * uniform(count, num_points, 2) - 1) * half
    depth = DEPTHS[0] + (DEPTHS[1] - DEPTHS[0]) * uniform(count, num_points, 1)
    X2 = torch.cat((x1 * depth, depth), dim=-1) @ R.mT + t[:, None]
    in_front = X2[..., 2] > 0.1
    x2 = X2[..., :2] / torch.where(in_front, X2[..., 2], torch.ones_like(X2[..., 2]))[..., None]
    return x1, x2, in_front & (x2.abs() < half).all(dim=-1), R, t


def rotation(axis_angle: Tensor) -> Tensor:
    """exp([ω]×) (…, 3, 3)."""
    zero = torch.zeros_like(axis_angle[..., 0])
    x, y, z = axis_angle.unbind(-1)
    return torch.matrix_exp(torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3)))


def real_problems(
    folder: Path,
    *,
    image_size: int = 640,
    num_keypoints: int = 1024,
    max_error_px: float = 1.5,
    most: int | None = None,
) -> Problems:
    """The mutual nearest neighbours of aliked-t16's key points in each posed pair of a folder, padded with masks."""
    network, known = rfp.load_pretrained("aliked-t16"), {}
    pairs = PosedPairs(folder, image_size=image_size)
    rows = []
    for index in range(len(pairs) if most is None else min(most, len(pairs))):
        pair = pairs[index]
        features = []
        for image in (pair.image1, pair.image2):
            key = hashlib.sha1(image.numpy().tobytes()).digest()  # an image belongs to several pairs
            if key not in known:
                known[key] = rfp.detect(network, image[None], num_keypoints=num_keypoints)
            features.append(known[key])
        xy1_px, xy2_px = match_features(*features)
        rows.append((normalize_points(xy1_px, pair.K1), normalize_points(xy2_px, pair.K2), pair))
    slots = max(len(x1) for x1, _, _ in rows)
    x1, x2 = (torch.stack([_padded(row[side], slots) for row in rows]) for side in range(2))
    count = torch.tensor([len(row[0]) for row in rows])
    focal_px = [[float((K[0, 0] + K[1, 1]) / 2) for K in (pair.K1, pair.K2)] for _, _, pair in rows]
    return Problems(
        x1=x1,
        x2=x2,
        valid=torch.arange(slots) < count[:, None],
        focal_px=torch.tensor(focal_px),
        R=torch.stack([pair.R.double() for _, _, pair in rows]),
        t=torch.stack([torch.nn.functional.normalize(pair.t.double(), dim=0) for _, _, pair in rows]),
        max_error_px=max_error_px,
    )


def _padded(points: Tensor, slots: int) -> Tensor:
    return torch.nn.functional.pad(points, (0, 0, 0, slots - len(points)))
