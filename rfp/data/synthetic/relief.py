"""Posed pairs of photographs that stand out in relief: the statistics of real images, and an exact pose and depth.

A photograph is the view of a camera at the origin, and each of its rays is given a depth: a smooth landscape of waves.
Two other cameras look at this surface. Unlike a flat photograph it leaves one pose only to choose from, and unlike a
rendered scene it shows the photograph once, sharp, and not tiled.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from rfp.data.synthetic.cameras import Cameras, intrinsics, relative_pose
from rfp.data.synthetic.solids import compose, turn
from rfp.records import InputError

LANDSCAPE = 128
"""Samples of the inverse depth along each side of a photograph; bilinear between them, for both cameras alike."""
SLOPE = 0.7
"""Largest product of the slope of the inverse depth and the cameras' offset: below 1 no part of the surface hides
another, and each step towards the point that a pixel sees leaves this share of the error."""
STEPS = 24
COARSE, LAST_STEPS = 4, 7
"""All steps are taken for one of 4 × 4 pixels, the last ones for each."""
PLANE_SHARE = 0.3
"""Largest share of the slope that a plane may have: the waves have the rest, and they are what makes a pose certain."""


@dataclass(frozen=True)
class ReliefOptions:
    """The landscape, and how two cameras look at it."""

    image_size: tuple[int, int] = (240, 320)
    """Height and width of the images in pixels."""
    waves: int = 6
    """Waves of the landscape."""
    cycles: float = 2.5
    """Of the shortest wave, over the photograph."""
    slant: float = 0.6
    """Largest change of the inverse depth over the photograph by its mean slope, as a share of it in the middle."""
    tilt_deg: float = 15.0
    """Largest angle between the photograph's axis and the middle of the directions from which the cameras look."""
    angle_deg: tuple[float, float] = (6.0, 40.0)
    """Between the directions from which the two cameras see the point that they look at."""
    roll_deg: float = 15.0
    """Largest rotation of either camera about its axis."""
    scale: float = 1.4
    """Largest factor by which a pixel shows more or less than a pixel of the photograph."""
    shift: float = 0.15
    """Largest distance of what a camera looks at from the middle, as a share of the view."""
    focal: tuple[float, float] = (0.8, 1.6)
    """Focal length of a pair's cameras as a multiple of the longer side."""
    supersampling: int = 2
    """Samples along each side of a pixel, averaged."""

    def __post_init__(self):
        if min(self.image_size) < 8 or self.waves < 1 or self.supersampling < 1:
            raise InputError(
                "expected an image_size of at least 8×8 pixels, waves and supersampling of at least 1, got "
                f"{self.image_size}, {self.waves} and {self.supersampling}"
            )
        low, high = self.angle_deg
        if not (0 < low <= high and self.tilt_deg >= 0 and self.tilt_deg + high / 2 <= 45):
            raise InputError(
                "expected angle_deg from above 0, and tilt_deg with half the largest angle at most 45 degrees, got "
                f"{self.angle_deg} and {self.tilt_deg}"
            )
        if not (0 < self.focal[0] <= self.focal[1] and self.scale >= 1 and self.shift >= 0):
            raise InputError(
                f"expected focal above 0, scale of at least 1 and shift of at least 0, got {self.focal}, "
                f"{self.scale} and {self.shift}"
            )
        if not (0 <= self.slant < 1 and self.cycles > 0 and 0 <= self.roll_deg <= 180):
            raise InputError(
                "expected slant from 0 to below 1, cycles above 0 and roll_deg from 0 to 180, got "
                f"{self.slant}, {self.cycles} and {self.roll_deg}"
            )


@dataclass(frozen=True)
class ReliefBatch:
    """B pairs of images and what is true of them; the second dimension is the camera."""

    images: Float[Tensor, "B 2 3 h w"]
    """RGB in [0, 1]."""
    depth: Float[Tensor, "B 2 h w"]
    """Along the optical axis, at pixel centres; the middle of the photograph is about 1 away from its own camera."""
    K: Float[Tensor, "B 2 3 3"]
    R: Float[Tensor, "B 3 3"]
    """``X2 = R X1 + t``."""
    t: Float[Tensor, "B 3"]


@dataclass(frozen=True)
class ReliefNoise:
    """The uniforms that B pairs consume."""

    photograph: Float[Tensor, "B"]
    cameras: Float[Tensor, "B 20"]
    waves: Float[Tensor, "B waves 4"]


def draw_relief_noise(count: int, options: ReliefOptions, *, generator: torch.Generator) -> ReliefNoise:
    """The noise of ``count`` pairs, on the generator's device."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    return ReliefNoise(uniform(count), uniform(count, 20), uniform(count, options.waves, 4))


@torch.no_grad()
def relief_on_noise(photographs: Tensor, noise: ReliefNoise, options: ReliefOptions) -> ReliefBatch:
    """The pairs of given noise: a pure function without visits to the host.

    Args:
        photographs: (n, 3, s, s) RGB in [0, 1] of float32, or uint8, to choose from.
    """
    chosen = (noise.photograph * len(photographs)).long().clamp(max=len(photographs) - 1)
    flat = photographs[chosen].float() / (1 if photographs.is_floating_point() else 255)
    height, width = options.image_size
    longer, side = max(height, width), photographs.shape[-1]
    low, high = options.focal
    focal = (low * (high / low) ** noise.cameras[:, 0]) * longer
    # Half the photograph's side as its camera sees it: as many pixels of the view as the photograph has, at scale 1.
    extent = side / 2 / focal
    R, centre = _cameras(noise.cameras, options.shift * longer / focal, options)
    landscape = _landscape(noise.cameras, noise.waves, extent, centre, options)
    x = torch.arange(width, device=flat.device) - (width - 1) / 2
    y = torch.arange(height, device=flat.device) - (height - 1) / 2
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    images, depths = [], []
    for camera in (0, 1):
        seen, depth = _seen(pixels, focal, R[:, camera], centre[:, camera], landscape, extent)
        images.append(_sampled(flat, seen, options.supersampling))
        depths.append(depth)
    K = intrinsics(focal, options.image_size)
    between, t = relative_pose(*(Cameras(K, R[:, camera], centre[:, camera]) for camera in (0, 1)))
    return ReliefBatch(torch.stack(images, dim=1), torch.stack(depths, dim=1), torch.stack([K, K], dim=1), between, t)


def _cameras(
    u: Float[Tensor, "B 20"], shift: Float[Tensor, "B"], options: ReliefOptions
) -> tuple[Float[Tensor, "B 2 3 3"], Float[Tensor, "B 2 3"]]:
    """World to camera and the centres, in the frame of the photograph's camera; both look at points near (0, 0, 1)."""
    signed = 2 * u - 1
    tilt = math.radians(options.tilt_deg) * u[:, 1].sqrt()  # equal areas of the disc of tilts
    middle = _frame(-_towards(tilt, 2 * math.pi * u[:, 2]))
    least, most = (math.radians(angle) for angle in options.angle_deg)
    half, azimuth = (least + (most - least) * u[:, 3]) / 2, 2 * math.pi * u[:, 4]
    # To either side of the middle direction: the photograph's own camera stays between the two, and near to both.
    first, second = ((middle @ _towards(side * half, azimuth)[..., None])[..., 0] for side in (1, -1))
    rotations, centres = [], []
    for camera, direction in enumerate((first, second)):
        columns = slice(5 + 6 * camera, 11 + 6 * camera)
        own, own_signed = u[:, columns], signed[:, columns]
        target = torch.cat([own_signed[:, :2] * shift[:, None], torch.ones_like(own[:, :1])], dim=1)
        distance = torch.exp(math.log(options.scale) * own_signed[:, 2])
        centres.append(target + distance[:, None] * direction)
        roll = math.radians(options.roll_deg) * own_signed[:, 3]
        rotations.append(compose(turn(-roll, 2), _frame(-direction).mT))
    return torch.stack(rotations, dim=1), torch.stack(centres, dim=1)


def _towards(angle: Float[Tensor, "B"], azimuth: Float[Tensor, "B"]) -> Float[Tensor, "B 3"]:
    """Unit vectors at an angle from -z: from the surface to a camera in front of it."""
    across = angle.sin()
    return torch.stack([across * azimuth.cos(), across * azimuth.sin(), -angle.cos()], dim=-1)


def _frame(axis: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    """Columns x, y, z of a camera that looks along ``axis``, never far from (0, 0, 1), its x level."""
    down = axis.new_tensor([0.0, 1.0, 0.0]).expand_as(axis)
    x = torch.nn.functional.normalize(torch.linalg.cross(down, axis), dim=-1)
    return torch.stack([x, torch.linalg.cross(axis, x), axis], dim=-1)


def _landscape(
    u: Float[Tensor, "B 20"],
    waves: Float[Tensor, "B waves 4"],
    extent: Float[Tensor, "B"],
    centre: Float[Tensor, "B 2 3"],
    options: ReliefOptions,
) -> Float[Tensor, "B n n"]:
    """Inverse depth over the photograph: 1 + a slope + waves, none of it so steep that a part would hide another.

    What a camera at C sees at p = (x, y) / z comes from u with ``p (1 - w C_z) = u - w C_xy``, whose derivative keeps
    its sign while ``|∇w| |C_xy - p C_z| < 1``.
    """
    offset = (centre[..., :2].norm(dim=-1) + centre[..., 2].abs() * extent[:, None]).amax(dim=1)
    steepest = SLOPE / offset.clamp_min(SLOPE)
    slope = torch.minimum(options.slant * u[:, 17] / extent, PLANE_SHARE * steepest * u[:, 17])
    azimuth = 2 * math.pi * u[:, 18]
    least = min(1.0, options.cycles)
    cycles = least + (options.cycles - least) * waves[..., 0]
    number = math.pi * cycles / extent[:, None]  # of radians for a unit of u
    share = waves[..., 1] / waves[..., 1].sum(dim=1, keepdim=True).clamp_min(1e-6)
    height = ((steepest - slope) * (0.5 + 0.5 * u[:, 19]))[:, None] * share / number
    direction, phase = 2 * math.pi * waves[..., 2], 2 * math.pi * waves[..., 3]
    along = torch.linspace(-1, 1, LANDSCAPE, device=u.device)
    y, x = (axis[None] * extent[:, None, None] for axis in torch.meshgrid(along, along, indexing="ij"))
    w = 1 + slope[:, None, None] * (x * azimuth.cos()[:, None, None] + y * azimuth.sin()[:, None, None])
    for k in range(options.waves):
        kx, ky, ph, up = (
            value[:, k, None, None] for value in (number * direction.cos(), number * direction.sin(), phase, height)
        )
        w = w + up * torch.sin(kx * x + ky * y + ph)
    return w.clamp_min(0.2)


def _seen(
    pixels: Float[Tensor, "h w 2"],
    focal: Float[Tensor, "B"],
    R: Float[Tensor, "B 3 3"],
    centre: Float[Tensor, "B 3"],
    landscape: Float[Tensor, "B n n"],
    extent: Float[Tensor, "B"],
) -> tuple[Float[Tensor, "B h w 2"], Float[Tensor, "B h w"]]:
    """Which place of the photograph, -1 to 1 along its sides, each pixel of a camera sees, and at which depth.

    Beyond its edges the photograph and its landscape go on mirrored.
    """
    rays = torch.nn.functional.pad(pixels[None] / focal[:, None, None, None], (0, 1), value=1.0)
    rays = rays @ R[:, None]  # the transpose of R from the left: camera to world
    C = centre[:, None, None]

    def place_and_depth(w: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        """Of the points of rays that have this inverse depth."""
        depth = (1 / w - C[..., 2]) / rays[..., 2].clamp_min(0.05)
        return (C[..., :2] + depth[..., None] * rays[..., :2]) * w[..., None] / extent[:, None, None, None], depth

    def nearer(w: Tensor, rays: Tensor) -> Tensor:
        """For a guess of the inverse depth the one that the landscape has there."""
        place, _ = place_and_depth(w, rays)
        return grid_sample(landscape[:, None], place, padding_mode="reflection", align_corners=True)[:, 0]

    # Most of the way for the pixels of a coarse grid: those between them begin where it ends.
    coarse = interpolate(rays.permute(0, 3, 1, 2), scale_factor=1 / COARSE, mode="area").permute(0, 2, 3, 1)
    w = torch.ones_like(coarse[..., 0])
    for _ in range(STEPS):
        w = nearer(w, coarse)
    w = interpolate(w[:, None], rays.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    for _ in range(LAST_STEPS):
        w = nearer(w, rays)
    return place_and_depth(w, rays)


def _sampled(
    photographs: Float[Tensor, "B 3 s s"], place: Float[Tensor, "B h w 2"], supersampling: int
) -> Float[Tensor, "B 3 h w"]:
    """The photograph at these places, averaged over the samples of each pixel."""
    height, width = place.shape[1:3]
    size = (height * supersampling, width * supersampling)
    finer = interpolate(place.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    colours = grid_sample(photographs, finer, mode="bilinear", padding_mode="reflection", align_corners=False)
    return avg_pool2d(colours, supersampling).clamp(0, 1)
