"""Uncalibrated two-view problems in pixels, with the truth, and what an estimate of one must be."""

import torch

from rfp.geometry.epipolar import sampson_distance
from rfp.records import FundamentalMatrix
from rfp.robust.fundamental import estimate_fundamental
from rfp.robust.minimal_samples import draw_minimal_samples
from rfp.robust.options import RansacOptions
from tests.geometry.scenes import TwoViews, contaminate, make_rotations, uniform, unit_vectors, views_of_a_box

OPTIONS = RansacOptions(num_hypotheses=128)
FOCAL_PX, CENTRE_PX, MAX_ERROR_PX = 500.0, (320.0, 240.0), 2.0


def in_pixels(x):
    return x * FOCAL_PX + torch.tensor(CENTRE_PX, dtype=x.dtype)


def make_problems(n, count, seed=0, *, inlier_ratio=0.7, noise_px=1.0, dtype=torch.float32, views=None):
    """Scenes, exact points in pixels, noisy ones with outliers, and which are not."""
    views = views_of_a_box(n, count, seed) if views is None else views
    noise = noise_px / FOCAL_PX
    x1, x2, inlier = contaminate(views.x1, views.x2, seed, inlier_ratio=inlier_ratio, noise=noise, extent=0.6)
    return (in_pixels(views.x1), in_pixels(views.x2)), in_pixels(x1).to(dtype), in_pixels(x2).to(dtype), inlier


def scenes_with_a_plane(n, count, seed, *, share_beside: float) -> TwoViews:
    """A slanted plane at a depth of five; a share of the points at depths of 3 to 8 instead."""
    generator = torch.Generator().manual_seed(seed)
    R, t = make_rotations(uniform(generator, n, 3, low=-0.2, high=0.2)), unit_vectors(n, generator)
    x1 = uniform(generator, n, count, 2, low=-0.5, high=0.5)
    depth = 5 / (1 + 0.3 * x1[..., :1] - 0.2 * x1[..., 1:])
    beside = torch.rand(n, count, 1, generator=generator) < share_beside
    depth = torch.where(beside, uniform(generator, n, count, 1, low=3, high=8), depth)
    X2 = torch.cat((x1 * depth, depth), dim=-1) @ R.mT + t[:, None]
    return TwoViews(x1, X2[..., :2] / X2[..., 2:], R, t)


def make_samples(n, count, hypotheses=128, seed=0, weight=None):
    noise = torch.rand(n, hypotheses, 7, generator=torch.Generator().manual_seed(seed))
    return draw_minimal_samples(noise, torch.ones(n, count) if weight is None else weight)[0]


def estimate(x1, x2, samples, **arguments) -> FundamentalMatrix:
    arguments = {"max_error": MAX_ERROR_PX, "options": OPTIONS, "generator": None, **arguments}
    return estimate_fundamental(x1, x2, samples=samples, **arguments)


def assert_failed(found: FundamentalMatrix):
    assert not found.valid.any()
    assert not found.F.any()
    assert not found.inliers.any()
    assert not found.score.any()


def errors_px(found: FundamentalMatrix, exact) -> torch.Tensor:
    """Root mean square Sampson distance of the exact points; a thousand without an estimate."""
    error = sampson_distance(*exact, found.F.double()).mean(dim=1).sqrt()
    return torch.where(found.valid, error, 1000.0)
