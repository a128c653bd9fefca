"""Pairs of cameras: the first in free space with something to look at, the second by stated ranges and overlap."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.data.synthetic.batches import each_repeated, flattened
from rfp.data.synthetic.cameras import Cameras, back_project, intrinsics, looking_at, normalized, project
from rfp.data.synthetic.layouts import NUM_SOLIDS, Layout
from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.ray_casting import cast, local_rays
from rfp.data.synthetic.scenes import Scenes
from rfp.data.synthetic.solids import Solids, apply, clearance
from rfp.data.synthetic.uniforms import Uniforms

FIRST_CANDIDATES = 8
SECOND_CANDIDATES = 12
GRID = (12, 16)
"""Rays that stand for a view while cameras are chosen."""
NEAREST = 0.2
"""Smallest depth of a ray of the grid, as a share of the view's median."""
CLEARANCE = 0.1
"""Smallest distance from a camera to a surface, as a share of the median depth."""
SAME_DEPTH = 0.02
"""A point counts as seen by the other camera if the depth there is its own up to this share."""
CERTAIN_BASELINE = 0.05
"""Of the second camera that is taken when no drawn one sees enough; the smallest stated baseline if that is less."""
UNIFORMS_PER_VIEWPOINT = 16 * (FIRST_CANDIDATES + SECOND_CANDIDATES)


@dataclass(frozen=True)
class Viewpoints:
    """The cameras of B pairs."""

    first: Cameras
    second: Cameras
    overlap: Float[Tensor, "B"]
    """Share of a view, on a coarse grid, that the other camera sees: the smaller of the two."""
    median_depth: Float[Tensor, "B"]
    """Of the first view."""
    certain: Bool[Tensor, "B"]
    """True where no drawn second camera was within the ranges, and the nearby one stands in."""


def draw_viewpoints(scenes: Scenes, layout: Layout, options: SceneOptions, u: Uniforms) -> Viewpoints:
    """A pair of cameras for each scene, chosen on the device from a fixed number of drawn candidates."""
    first = _choose_first(scenes, layout, options, u)
    seen_first = glance(scenes.solids, first, options.image_size)
    median_depth = _median(seen_first.depth)
    candidates = second_candidates(first, median_depth, options, u)
    seen, free = _judge(scenes.solids, first, seen_first, median_depth, candidates, options.image_size)

    low, high = options.overlap
    suitable = free & (seen >= low) & (seen <= high)
    # The first suitable one in the order of drawing; the last candidate is certain and suitable to all.
    count = seen.shape[1]
    order = torch.arange(count, device=seen.device)
    rank = torch.where(suitable | (order == count - 1), count - order, torch.zeros_like(order))
    index = rank.argmax(dim=1)
    return Viewpoints(
        first=first,
        second=_take(candidates, index),
        overlap=seen.gather(1, index[:, None])[:, 0],
        median_depth=median_depth,
        certain=index == count - 1,
    )


@dataclass(frozen=True)
class Glance:
    """A view on a coarse grid of rays: their depths, the solids they end at, and the points."""

    depth: Float[Tensor, "V N"]
    solid: Int[Tensor, "V N"]
    X: Float[Tensor, "V N 3"]


def glance(solids: Solids, cameras: Cameras, image_size: tuple[int, int]) -> Glance:
    """What one camera of each scene sees, on the coarse grid."""
    grid = grid_pixels(image_size, cameras.centre)
    depth, solid = cast(local_rays(solids, cameras), *normalized(cameras, grid))
    return Glance(depth, solid, back_project(cameras, grid, depth))


def _judge(
    solids: Solids,
    first: Cameras,
    seen_first: Glance,
    median_depth: Float[Tensor, "B"],
    candidates: Cameras,
    image_size: tuple[int, int],
) -> tuple[Float[Tensor, "B J"], Bool[Tensor, "B J"]]:
    """Each second camera's overlap with the first, and whether it stands free."""
    shape = candidates.centre.shape[:2]
    repeated, flat = each_repeated(solids, shape[1]), flattened(candidates)
    seen_second = glance(repeated, flat, image_size)
    points = seen_first.X[:, None].expand(-1, shape[1], -1, -1).flatten(0, 1)
    forth = visible(repeated, flat, points, image_size).float().mean(dim=-1)
    # The points of all candidates in one list of the first camera: (B, J N).
    back = visible(solids, first, seen_second.X.reshape(shape[0], -1, 3), image_size).float()
    overlap = torch.minimum(forth.reshape(shape), back.reshape(*shape, -1).mean(dim=-1))

    nearest = seen_second.depth.amin(dim=-1).reshape(shape)
    room = clearance(repeated, flat.centre).reshape(shape)
    scale = median_depth[:, None]
    return overlap, (room > CLEARANCE * scale) & (nearest > NEAREST / 2 * scale)


def grid_pixels(image_size: tuple[int, int], like: Tensor) -> Float[Tensor, "1 N 2"]:
    """Pixels spread evenly over the image, row by row."""
    height, width = image_size
    rows, columns = GRID
    y = (torch.arange(rows, device=like.device, dtype=like.dtype) + 0.5) * (height / rows) - 0.5
    x = (torch.arange(columns, device=like.device, dtype=like.dtype) + 0.5) * (width / columns) - 0.5
    return torch.stack(torch.broadcast_tensors(x[None], y[:, None]), dim=-1).reshape(1, -1, 2)


def visible(
    solids: Solids, cameras: Cameras, X: Float[Tensor, "V N 3"], image_size: tuple[int, int]
) -> Bool[Tensor, "V N"]:
    """Whether cameras see points on surfaces: inside the image, with nothing in front."""
    height, width = image_size
    xy, expected = project(cameras, X)
    x, y = xy.unbind(dim=-1)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5) & (expected > 0)
    nearby = torch.stack((x.clamp(-0.5, width - 0.5), y.clamp(-0.5, height - 0.5)), dim=-1)
    met = cast(local_rays(solids, cameras), *normalized(cameras, nearby))[0]
    return inside & ((met - expected).abs() < SAME_DEPTH * expected)


def _choose_first(scenes: Scenes, layout: Layout, options: SceneOptions, u: Uniforms) -> Cameras:
    """The candidate that stands free and sees most: foreground, depths, and no side of one thing only."""
    J = FIRST_CANDIDATES

    def inside(low: Float[Tensor, "B 3"], high: Float[Tensor, "B 3"]) -> Float[Tensor, "B J 3"]:
        return torch.lerp(low[:, None].expand(-1, J, -1), high[:, None].expand(-1, J, -1), u.between(0.0, 1.0, J, 3))

    centre = inside(layout.camera_low, layout.camera_high)
    target = inside(layout.target_low, layout.target_high)
    view = u.between(math.radians(options.field_of_view_deg[0]), math.radians(options.field_of_view_deg[1]), J)
    focal = options.image_size[1] / 2 / torch.tan(view / 2)
    roll = math.radians(options.roll_deg) / 2 * u.between(-1.0, 1.0, J)
    candidates = Cameras(intrinsics(focal, options.image_size), looking_at(centre, target, roll), centre)

    solids, flat = each_repeated(scenes.solids, J), flattened(candidates)
    seen = glance(solids, flat, options.image_size)
    room = torch.minimum(clearance(solids, flat.centre) / CLEARANCE, seen.depth.amin(dim=-1) / NEAREST)
    room = room / _median(seen.depth)
    numbers = torch.arange(NUM_SOLIDS, device=room.device)
    shares = (seen.solid[..., None] == numbers).to(room.dtype).mean(dim=1)
    foreground = 1 - shares[:, 0]
    largest = shares[:, 1:].amax(dim=-1)
    several = 1 - (shares * shares).sum(dim=-1)
    score = 10 * room.clamp(max=1) + foreground.clamp(max=0.6) + several - 2 * (largest - 0.4).clamp(min=0)
    return _take(candidates, score.reshape(-1, J).argmax(dim=1))


def second_candidates(first: Cameras, median_depth: Float[Tensor, "B"], options: SceneOptions, u: Uniforms) -> Cameras:
    """Second cameras (B, J): moved mostly sideways, turned to the middle of the first view; the last barely moved."""
    J = SECOND_CANDIDATES
    drawn = (J, 3)
    direction = u.between(-1.0, 1.0, *drawn) * _vector(first.centre, 1.0, 0.45, 0.6)
    direction = torch.nn.functional.normalize(direction + 1e-4, dim=-1)
    scale = median_depth[:, None]
    order = torch.arange(J, device=scale.device, dtype=scale.dtype)
    # The second half is drawn from ever narrower parts of the ranges, so that few pairs need the last candidate.
    mild = (2 - 2 * order / J).clamp(max=1)
    low, high = options.baseline
    share = low + (high - low) * mild * u.between(0.0, 1.0, J)
    certain = (order == J - 1).to(share.dtype)
    share = torch.lerp(share, share.new_full((), min(CERTAIN_BASELINE, options.baseline[0])).expand_as(share), certain)
    drawn_part = 1 - certain
    to_world = first.R.mT[:, None]
    centre = first.centre[:, None] + apply(to_world, direction * (share * scale)[..., None])

    # The point in the middle of the first view, off by the drawn angles as the second camera sees them.
    look = math.tan(math.radians(options.look_deg)) * u.between(-1.0, 1.0, J, 2) * mild[:, None]
    ahead = u.between(0.8, 1.3, J)
    offset = torch.stack((look[..., 0], look[..., 1] / 2, torch.zeros_like(ahead)), dim=-1)
    middle = torch.lerp(ahead, torch.ones_like(ahead), certain)[..., None] * _vector(first.centre, 0.0, 0.0, 1.0)
    target = first.centre[:, None] + apply(to_world, (middle + offset * drawn_part[..., None]) * scale[..., None])

    roll = math.radians(options.roll_deg) * u.between(-1.0, 1.0, J) * drawn_part
    ratio = torch.exp(math.log(options.focal_ratio) * u.between(-1.0, 1.0, J) * drawn_part)
    focal = first.K[:, 0, 0, None] * ratio
    return Cameras(
        intrinsics(focal, options.image_size), looking_at(centre, target, _roll(first)[:, None] + roll), centre
    )


def _roll(cameras: Cameras) -> Float[Tensor, "B"]:
    """The angle by which ``looking_at`` has turned the cameras about their axis."""
    return torch.atan2(-cameras.R[:, 0, 2], -cameras.R[:, 1, 2])


def _vector(like: Tensor, x: float, y: float, z: float) -> Float[Tensor, "3"]:
    return torch.stack([like.new_full((), value) for value in (x, y, z)])


def _median(depth: Float[Tensor, "V N"]) -> Float[Tensor, "V"]:
    return depth.sort(dim=-1).values[:, depth.shape[-1] // 2]


def _take(cameras: Cameras, index: Int[Tensor, "B"]) -> Cameras:
    """Camera ``index[b]`` of row b."""

    def taken(value: Tensor) -> Tensor:
        place = index.reshape(-1, *([1] * (value.ndim - 1))).expand(-1, 1, *value.shape[2:])
        return value.gather(1, place)[:, 0]

    return Cameras(taken(cameras.K), taken(cameras.R), taken(cameras.centre))
