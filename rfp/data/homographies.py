"""Pairs of views of a flat image, related by a homography that is known exactly: low-level matching without a scene."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from rfp.records import InputError


@dataclass(frozen=True)
class HomographyOptions:
    """How two cameras look at a flat image. Each view draws its own values."""

    image_size: tuple[int, int] = (320, 320)
    """(height, width) of the views in pixels."""
    tilt_deg: float = 50.0
    """Largest angle between the optical axis and the plane's normal, about an axis of any direction."""
    roll_deg: float = 30.0
    """Largest rotation about the optical axis, to each side."""
    scale: float = 1.6
    """Largest factor by which a view is nearer or farther than one pixel of the view for one of the source."""
    shift: float = 0.15
    """Largest difference between the places that the two views look at, as a share of the view's size."""
    focal: float = 1.2
    """Focal length as a multiple of the view's longer side: the shorter, the stronger the perspective."""
    supersampling: int = 2
    """Samples along each side of a pixel, averaged: views that shrink the source would alias otherwise."""

    def __post_init__(self):
        size = self.image_size
        if len(size) != 2 or not all(isinstance(side, int) for side in size) or min(size) < 8:
            raise InputError(
                f"expected an image_size of whole numbers, at least 8×8 pixels, got {size}; try (320, 320)"
            )
        if not 0 <= self.tilt_deg < 80:
            raise InputError(f"expected tilt_deg from 0 to below 80, got {self.tilt_deg}; 50 is usual")
        if not 0 <= self.roll_deg <= 180:
            raise InputError(f"expected roll_deg from 0 to 180, got {self.roll_deg}; 30 is usual")
        if not 1 <= self.scale < math.inf:
            raise InputError(f"expected scale of at least 1, got {self.scale}; 1.6 is usual")
        if not 0 <= self.shift < math.inf:
            raise InputError(f"expected shift of at least 0, got {self.shift}; 0.15 is usual")
        if not 0 < self.focal < math.inf:
            raise InputError(f"expected focal above 0, got {self.focal}; 1.2 is usual")
        if not isinstance(self.supersampling, int) or self.supersampling < 1:
            raise InputError(f"expected supersampling of at least 1, a whole number, got {self.supersampling}; try 2")


@dataclass(frozen=True)
class HomographyPairs:
    """B pairs of views of flat images and the homographies between them."""

    images1: Float[Tensor, "B 3 h w"]
    images2: Float[Tensor, "B 3 h w"]
    H: Float[Tensor, "B 3 3"]
    """Pixels of image 1 to pixels of image 2."""
    H_source1: Float[Tensor, "B 3 3"]
    """Pixels of the source to pixels of image 1."""
    H_source2: Float[Tensor, "B 3 3"]
    inside1: Bool[Tensor, "B h w"]
    """False where image 1 looks past the edge of its source (black there)."""
    inside2: Bool[Tensor, "B h w"]
    source: Int[Tensor, "B"]
    """Which source each pair shows."""


def draw_homography_pairs(
    sources: Tensor, count: int, *, options: HomographyOptions | None = None, generator: torch.Generator
) -> HomographyPairs:
    """``count`` pairs of views of images drawn from ``sources``, on their device, with the exact homographies.

    Args:
        sources: (n, 3, s, s) RGB, uint8 or float32 or float64 in [0, 1]; larger than the views, which then stay inside.
        generator: On the device of the sources.

    Raises:
        InputError: no sources, not images, or no pairs to draw.

    Example:
        >>> sources = torch.rand(2, 3, 96, 96)
        >>> options = HomographyOptions(image_size=(48, 64))
        >>> pairs = draw_homography_pairs(sources, 4, options=options, generator=torch.Generator().manual_seed(0))
        >>> pairs.images1.shape, pairs.H.shape
        (torch.Size([4, 3, 48, 64]), torch.Size([4, 3, 3]))
    """
    options = HomographyOptions() if options is None else options
    if sources.ndim != 4 or sources.shape[0] == 0 or sources.shape[1] != 3:
        raise InputError(f"expected sources of shape (n, 3, s, s) with n of at least 1, got {tuple(sources.shape)}")
    if sources.dtype not in (torch.float32, torch.float64, torch.uint8):
        raise InputError(
            f"expected sources in [0, 1] of float32 or float64, or of uint8, got {sources.dtype}; convert them"
        )
    if count < 1:
        raise InputError(f"expected at least 1 pair to draw, got {count}")
    source = torch.randint(sources.shape[0], (count,), generator=generator, device=generator.device)
    uniforms = torch.rand(count, 2, 8, generator=generator, device=generator.device)
    return homography_pairs_on_noise(sources, source.to(sources.device), uniforms.to(sources.device), options)


def homography_pairs_on_noise(
    sources: Tensor, source: Int[Tensor, "B"], uniforms: Float[Tensor, "B 2 8"], options: HomographyOptions
) -> HomographyPairs:
    """``draw_homography_pairs`` on given noise: a pure function that also runs on ``device="meta"``."""
    height, width = sources.shape[-2:]
    to_view, to_source = _homographies(uniforms, (height, width), options)
    flat = sources[source]
    if not flat.is_floating_point():
        flat = flat.to(uniforms.dtype) / 255
    views = [_view(flat, to_source[:, number], options) for number in (0, 1)]
    return HomographyPairs(
        images1=views[0][0],
        images2=views[1][0],
        H=to_view[:, 1] @ to_source[:, 0],
        H_source1=to_view[:, 0],
        H_source2=to_view[:, 1],
        inside1=views[0][1],
        inside2=views[1][1],
        source=source,
    )


def _homographies(
    uniforms: Float[Tensor, "B 2 8"], source_size: tuple[int, int], options: HomographyOptions
) -> tuple[Float[Tensor, "B 2 3 3"], Float[Tensor, "B 2 3 3"]]:
    """(source → view, view → source) in pixels: H = K_view [r1 r2 (0, 0, f)ᵀ] S, with its inverse.

    The plane z = 0 carries the source at one pixel a unit, S moves its chosen centre to the origin and scales, R tilts
    and rolls it before a camera at the distance f. So a view that is neither tilted nor scaled shows it as it is.
    """
    height, width = options.image_size
    focal = options.focal * max(height, width)
    signed = 2 * uniforms - 1
    tilt = math.radians(options.tilt_deg) * uniforms[..., 0].sqrt()  # equal areas of the disc of tilts
    axis = 2 * math.pi * uniforms[..., 1]
    roll = math.radians(options.roll_deg) * signed[..., 2]
    scale = torch.exp(math.log(options.scale) * signed[..., 3])
    centre = _centres(uniforms, source_size, options)

    zero, one = torch.zeros_like(tilt), torch.ones_like(tilt)

    def turn(angle: Tensor) -> Tensor:
        cos, sin = angle.cos(), angle.sin()
        return _matrix([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])

    cos, sin = tilt.cos(), tilt.sin()
    about_x = _matrix([[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]])
    rotation = turn(roll) @ turn(axis) @ about_x @ turn(-axis)
    place = _matrix([[scale, zero, -scale * centre[..., 0]], [zero, scale, -scale * centre[..., 1]], [zero, zero, one]])
    last = torch.stack([zero, zero, focal * one], dim=-1)
    camera = _matrix(
        [[focal * one, zero, (width - 1) / 2 * one], [zero, focal * one, (height - 1) / 2 * one], [zero, zero, one]]
    )
    to_view = camera @ torch.stack([rotation[..., 0], rotation[..., 1], last], dim=-1) @ place
    to_view = to_view / focal
    return to_view, _inverse(to_view)


def _centres(uniforms: Tensor, source_size: tuple[int, int], options: HomographyOptions) -> Float[Tensor, "B 2 2"]:
    """(B, 2, 2) source pixels (x, y) in the middle of each view: one place for the pair, and a shift of each view."""
    place = uniforms[:, :1, 4:6]
    shift = 2 * uniforms[..., 6:8] - 1
    centres = []
    for axis, (source, view) in enumerate(zip(source_size[::-1], options.image_size[::-1])):
        room = 0.8 * max(source - view, 0) / 2
        middle = (source - 1) / 2 + room * (2 * place[..., axis] - 1)
        centres.append(middle + options.shift / 2 * view * shift[..., axis])
    return torch.stack(centres, dim=-1)


def _view(
    sources: Float[Tensor, "B 3 s s2"], to_source: Float[Tensor, "B 3 3"], options: HomographyOptions
) -> tuple[Float[Tensor, "B 3 h w"], Bool[Tensor, "B h w"]]:
    """What the camera sees of each source, and where that is inside it."""
    (height, width), k = options.image_size, options.supersampling
    # the centres of the parts of each pixel; rows and columns stay apart, their sums are the points
    y, x = ((torch.arange(n * k, device=sources.device, dtype=sources.dtype) + 0.5) / k - 0.5 for n in (height, width))
    along_x, along_y, constant = to_source[:, None, None].unbind(dim=-1)
    moved = [along_x[..., i] * x + (along_y[..., i] * y[:, None] + constant[..., i]) for i in range(3)]
    in_front = moved[2] > 1e-6  # w is 1 in the middle of the view and negative beyond the horizon of the plane
    w = torch.where(in_front, moved[2], 1.0)
    # align_corners=False: -1 and 1 are the outer edges of the outermost pixels
    size = (sources.shape[-1], sources.shape[-2])
    sampling = [torch.where(in_front, (2 * moved[i] / w + 1) / size[i] - 1, -2.0) for i in (0, 1)]
    inside = ((sampling[0].abs() < 1) & (sampling[1].abs() < 1))[:, None].to(sources.dtype)
    # padding with zeros would darken the outermost half pixel of the source, which counts as inside
    image = inside * grid_sample(sources, torch.stack(sampling, dim=-1), padding_mode="border", align_corners=False)
    return avg_pool2d(image, k), (avg_pool2d(inside, k) > 0.999)[:, 0]


def _matrix(rows: list[list[Tensor]]) -> Float[Tensor, "*B 3 3"]:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _inverse(matrix: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """The adjugate over the determinant: torch's inverse waits for the device."""
    first, second, third = matrix.unbind(dim=-1)
    rows = [torch.linalg.cross(a, b) for a, b in ((second, third), (third, first), (first, second))]
    return torch.stack(rows, dim=-2) / (first * rows[0]).sum(dim=-1)[..., None, None]
