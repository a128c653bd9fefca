"""Noisy matches of planes among outliers, in pixels, and what the tests of homographies measure on them."""

import dataclasses

import torch

from rfp.records import Homography
from rfp.robust.homography import HOMOGRAPHY_OPTIONS, estimate_homography
from rfp.robust.minimal_samples import draw_minimal_samples
from tests.geometry.planes import in_pixels, transfer, views_of_planes
from tests.geometry.scenes import contaminate

OPTIONS = dataclasses.replace(HOMOGRAPHY_OPTIONS, num_hypotheses=64)
MAX_ERROR = 2.0
CENTRE = torch.tensor([400.0, 300.0], dtype=torch.float64)


def make_problems(n, count, seed=0, *, inlier_ratio=0.7, noise=1.0, dtype=torch.float32):
    """Views of planes in pixels of an image of 700 by 700 about (400, 300)."""
    views = in_pixels(views_of_planes(n, count, seed))
    x1, x2, inlier = contaminate(
        views.x1 - CENTRE, views.x2 - CENTRE, seed, inlier_ratio=inlier_ratio, noise=noise, extent=400
    )
    return views, (x1 + CENTRE).to(dtype), (x2 + CENTRE).to(dtype), inlier


def make_samples(n, count, hypotheses=64, seed=0, weight=None):
    noise = torch.rand(n, hypotheses, 4, generator=torch.Generator().manual_seed(seed))
    return draw_minimal_samples(noise, torch.ones(n, count) if weight is None else weight)[0]


def estimate(x1, x2, samples, **arguments) -> Homography:
    arguments = {"max_error": MAX_ERROR, "options": OPTIONS, "generator": None, **arguments}
    return estimate_homography(x1, x2, samples=samples, **arguments)


def corner_errors(H: torch.Tensor, H_true: torch.Tensor) -> torch.Tensor:
    """Mean distance in pixels of the four corners of the first image."""
    corners = torch.tensor([[50.0, -50.0], [750.0, -50.0], [750.0, 650.0], [50.0, 650.0]], dtype=torch.float64)
    return (transfer(H.double(), corners) - transfer(H_true, corners)).norm(dim=-1).mean(dim=-1)


def sampson_errors(H: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """Distances in pixels and float64, with ``G = ∂(H x1)/∂x1``: written another way than the code under test.

    The Jacobian of ``ε = w x2 - (a, b)`` is ``w (-G′, I)``, G′ being G at the observed x2.
    """
    H, x1, x2 = H.double(), x1.double(), x2.double()
    w = (x1 * H[:, None, 2, :2]).sum(dim=-1) + H[:, None, 2, 2]
    G = (H[:, None, :2, :2] - x2[..., :, None] * H[:, None, 2:, :2]) / w[..., None, None]
    residual = (x2 - transfer(H, x1))[..., None]
    covariance = torch.eye(2, dtype=torch.float64) + G @ G.mT
    return (residual.mT @ torch.linalg.solve(covariance, residual))[..., 0, 0].sqrt()
