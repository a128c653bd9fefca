"""Problems of absolute pose with noise and outliers, and what the tests of the estimator ask of its results."""

import torch

from rfp.records import AbsolutePose
from rfp.robust.absolute_pose import estimate_absolute_pose
from rfp.robust.minimal_samples import draw_minimal_samples
from rfp.robust.options import RansacOptions
from tests.geometry.scenes import uniform
from tests.geometry.single_views import SingleViews, views_of_depths

OPTIONS = RansacOptions(num_hypotheses=64)
MAX_ERROR = 2 / 500


def make_problems(n, count, seed=0, *, inlier_ratio=0.7, noise=1 / 500):
    """Views of points at depths of 3 to 7, in float64; noisy images, and which of the matches are no outliers."""
    views = views_of_depths(n, count, seed, field_of_view_deg=62, depths=(3, 7))
    generator = torch.Generator().manual_seed(seed)
    x = views.x + noise * torch.randn(views.x.shape, generator=generator, dtype=torch.float64)
    inlier = torch.rand(n, count, generator=generator).argsort(dim=1) < round(inlier_ratio * count)
    return views, torch.where(inlier[..., None], x, uniform(generator, *x.shape, low=-0.6, high=0.6)), inlier


def make_samples(n, count, hypotheses=64, seed=0, weight=None):
    noise = torch.rand(n, hypotheses, 3, generator=torch.Generator().manual_seed(seed))
    return draw_minimal_samples(noise, torch.ones(n, count) if weight is None else weight)[0]


def estimate(X, x, samples, **arguments) -> AbsolutePose:
    arguments = {"max_error": MAX_ERROR, "options": OPTIONS, "generator": None, **arguments}
    return estimate_absolute_pose(X, x, samples=samples, **arguments)


def assert_failed(pose: AbsolutePose):
    assert not pose.valid.any()
    assert torch.equal(pose.R, torch.eye(3, dtype=pose.R.dtype).expand_as(pose.R))
    assert not pose.t.any()
    assert not pose.inliers.any()
    assert not pose.score.any()


def camera_centre(R, t):
    return -(R.double().mT @ t.double()[..., None])[..., 0]


def pose_errors(pose: AbsolutePose, views: SingleViews):
    """Rotation in degrees, and the distance of the camera centres."""
    difference = pose.R.double() @ views.R.mT
    sine = torch.linalg.matrix_norm(difference - difference.mT) / 8**0.5
    cosine = (difference.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1) / 2
    centre = (camera_centre(pose.R, pose.t) - camera_centre(views.R, views.t)).norm(dim=-1)
    return torch.rad2deg(torch.atan2(sine, cosine)), centre


def reprojection_error(pose: AbsolutePose, X, x):
    Y = X.double() @ pose.R.double().mT + pose.t.double()[:, None]
    error = (Y[..., :2] / Y[..., 2:] - x.double()).norm(dim=-1)
    return torch.where(Y[..., 2] > 0, error, torch.inf)
