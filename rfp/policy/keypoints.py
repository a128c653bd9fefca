"""The key-point policy: one categorical distribution over an image, drawn from in training, its top at deployment.

P(x; w) = f(x) / Σ f over the support: all pixels (``nms_radius=0``, the paper's) or the local maxima, which is what the
deployed detector chooses from. The support is a function of the network, yet held fixed when the gradient is taken:
"unbiased" is meant for the policy with its support.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from kornia.geometry.subpix import nms2d
from torch import Tensor

from rfp.policy.categorical import (
    distinct_draws,
    draw_with_replacement,
    draw_without_replacement,
    log_inclusion,
    log_prob_with_replacement,
    log_prob_without_replacement,
    log_probabilities,
)
from rfp.records import InputError, Keypoints


@dataclass(frozen=True)
class KeypointOptions:
    """How key points are drawn from a heat map."""

    num_keypoints: int = 512
    """Key points drawn in each image."""
    nms_radius: int = 2
    """Only strict local maxima of the (2r + 1)² window are candidates; 0: every pixel is."""
    border: int = 4
    """Pixels along the image's edge where there are no candidates."""
    replacement: bool = False
    """Draw with replacement (a pixel may be drawn several times and is counted), or without (Plackett–Luce)."""
    uniform_mixing: float = 0.0
    """Share ε of the uniform distribution over the candidates that is mixed in, to explore."""
    max_candidates: int = 4096
    """The local maxima beyond this many best ones are left out, so that shapes are static."""
    spread: float | None = None
    """Scale log f of each image to this standard deviation over its candidates; None leaves it as the network has it.
    A detector that is sure of its best key points draws better ones without having learned which are better: left
    alone, most of the gradient goes there. At a fixed spread only the differences between key points count."""

    def __post_init__(self):
        if self.num_keypoints < 1 or self.max_candidates < 1:
            raise InputError(
                f"expected num_keypoints and max_candidates of at least 1, got {self.num_keypoints} and "
                f"{self.max_candidates}; raise them"
            )
        if self.nms_radius < 0 or self.border < 0:
            raise InputError(f"expected nms_radius and border of at least 0, got {self.nms_radius} and {self.border}")
        if not 0.0 <= self.uniform_mixing < 1.0:
            raise InputError(f"expected uniform_mixing in [0, 1), got {self.uniform_mixing}")
        if self.spread is not None and not 0.0 < self.spread < math.inf:
            raise InputError(f"expected a spread above 0 or None, got {self.spread}; 2 is usual")


@dataclass(frozen=True)
class KeypointDistribution:
    """log p over C candidate pixels of each image."""

    log_p: Float[Tensor, "*B C"]
    valid: Bool[Tensor, "*B C"]
    xy_px: Float[Tensor, "*B C 2"]


def image_interior(
    sizes: Sequence[tuple[int, int]], margin: int, like: Float[Tensor, "b h w"]
) -> Bool[Tensor, "b h w"]:
    """True at the pixels of each image of (height, width) ``sizes`` that lie at least ``margin`` off its edges."""
    rows = torch.arange(like.shape[-2], device=like.device)[:, None]
    columns = torch.arange(like.shape[-1], device=like.device)[None, :]
    inside = [
        (rows >= margin) & (rows < height - margin) & (columns >= margin) & (columns < width - margin)
        for height, width in sizes
    ]
    return torch.stack(inside)


def keypoint_distribution(
    log_heat: Float[Tensor, "b h w"], sizes: Sequence[tuple[int, int]], options: KeypointOptions
) -> KeypointDistribution:
    """The distribution over the candidates of each image, its whole-image normaliser included.

    Args:
        sizes: (height, width) of each image inside the padded ``log_heat``.
    """
    # At least float32: in bfloat16 columns beyond 256 would come in steps of two, and draws could not be told apart.
    log_heat = log_heat.to(torch.promote_types(log_heat.dtype, torch.float32))
    # A window that reaches over the edge sees padding, whose content depends on the batch: such pixels are left out.
    support = image_interior(sizes, max(options.border, options.nms_radius), log_heat) & log_heat.isfinite()
    heat = torch.where(support, log_heat, 0.0)
    if options.nms_radius > 0:
        window = 2 * options.nms_radius + 1
        finite_heat = torch.where(log_heat.isfinite(), log_heat, 0.0).detach()
        support = support & nms2d(finite_heat[:, None], (window, window), mask_only=True)[:, 0]
    b, _, width = log_heat.shape
    heat, support = heat.reshape(b, -1), support.reshape(b, -1)
    if options.nms_radius > 0:
        best = torch.where(support, heat.detach(), float("-inf"))
        pixel = best.topk(min(options.max_candidates, best.shape[-1]), dim=-1).indices
    else:
        pixel = _own_pixels_first(sizes, log_heat)
    heat, support = heat.gather(-1, pixel), support.gather(-1, pixel)
    xy_px = torch.stack([pixel % width, pixel.div(width, rounding_mode="floor")], dim=-1).to(heat.dtype)
    if options.spread is not None:
        heat = _scaled(heat, support, options.spread)
    log_p = log_probabilities(heat, support, uniform_mixing=options.uniform_mixing)
    return KeypointDistribution(log_p=log_p, valid=support, xy_px=xy_px)


def _scaled(heat: Float[Tensor, "b C"], support: Bool[Tensor, "b C"], spread: float) -> Float[Tensor, "b C"]:
    """Differences from the mean of the support, at a standard deviation of ``spread``; 0 where all are alike."""
    number = support.sum(dim=-1, keepdim=True).clamp_min(1)
    mean = torch.where(support, heat, 0.0).sum(dim=-1, keepdim=True) / number
    deviation = torch.where(support, heat - mean, 0.0)
    variance = deviation.square().sum(dim=-1, keepdim=True) / number
    return deviation * (spread * (variance + 1e-12).rsqrt())


def _own_pixels_first(sizes: Sequence[tuple[int, int]], like: Float[Tensor, "b h w"]) -> Int[Tensor, "b C"]:
    """Every pixel of the padded map, those of each image first, in its own raster order.

    So a candidate's slot, and with it the noise that it meets, does not depend on what stands beside it in the batch.
    """
    rows = torch.arange(like.shape[-2], device=like.device)[:, None]
    columns = torch.arange(like.shape[-1], device=like.device)[None, :]
    number = rows * like.shape[-1] + columns
    return torch.stack(
        [
            torch.cat([number[:height, :width].flatten(), number[:height, width:].flatten(), number[height:].flatten()])
            for height, width in sizes
        ]
    )


def keypoint_noise_shape(options: KeypointOptions, num_draws: int, image_area: int) -> tuple[int, int]:
    """(S, length) of the uniforms that ``draw_keypoints`` needs for one image of the batch.

    Args:
        image_area: height times width of the (padded) heat map.
    """
    if options.replacement:
        return num_draws, options.num_keypoints
    return num_draws, image_area if options.nms_radius == 0 else min(options.max_candidates, image_area)


def draw_keypoints(
    distribution: KeypointDistribution, uniforms: Float[Tensor, "*B S L"], options: KeypointOptions
) -> Keypoints:
    """S draws of K key points, and the log-probability of each draw.

    Args:
        uniforms: Of ``keypoint_noise_shape``. Without replacement one for each candidate: best candidate first, or
            in raster order where every pixel is one.
    """
    log_p, valid = distribution.log_p, distribution.valid
    if options.replacement:
        any_candidate = valid.any(dim=-1)[..., None, None].expand(uniforms.shape)
        draws = distinct_draws(draw_with_replacement(log_p, valid, uniforms), any_candidate)
        index, count, drawn = draws.index, draws.count, draws.valid
        log_prob = log_prob_with_replacement(log_p, index, count)
        threshold = torch.full_like(log_prob, -math.log(options.num_keypoints))
    else:
        noise = uniforms[..., : log_p.shape[-1]]
        index, drawn, threshold = draw_without_replacement(log_p, valid, noise, options.num_keypoints)
        count = drawn.long()
        log_prob = log_prob_without_replacement(log_p, index, drawn)
    return Keypoints(
        xy_px=_at(distribution.xy_px.unsqueeze(-3), index),
        count=count,
        valid=drawn,
        log_prob=log_prob,
        log_inclusion=log_inclusion(log_p, index, drawn, threshold),
    )


def top_keypoints(
    distribution: KeypointDistribution, num_keypoints: int
) -> tuple[Float[Tensor, "*B K 2"], Float[Tensor, "*B K"], Bool[Tensor, "*B K"]]:
    """(xy_px, log p, valid) of the K most probable candidates: the deployed detector. Short images are masked."""
    short = num_keypoints - distribution.log_p.shape[-1]
    top = distribution.log_p.topk(min(num_keypoints, distribution.log_p.shape[-1]), dim=-1)
    xy_px = _at(distribution.xy_px, top.indices)
    valid = distribution.valid.gather(-1, top.indices)
    if short > 0:
        pad = torch.nn.functional.pad
        return pad(xy_px, (0, 0, 0, short)), pad(top.values, (0, short)), pad(valid, (0, short))
    return xy_px, top.values, valid


def _at(points: Float[Tensor, "..."], index) -> Float[Tensor, "..."]:
    """``points[..., index, :]`` for each leading dimension of ``index``."""
    points = points.expand(*index.shape[:-1], *points.shape[-2:])
    return points.gather(-2, index[..., None].expand(*index.shape, points.shape[-1]))
