"""Each whole estimator on small problems, and as one compiled graph: ``python -m tests.robust.whole_estimators NAME``.

Compiled in a process of its own: the checks of types that the tests put around every function are not part of rfp, and
torch.compile cannot trace them.
"""

import sys

import torch

from rfp.robust.absolute_pose import estimate_absolute_pose
from rfp.robust.fundamental import estimate_fundamental
from rfp.robust.homography import estimate_homography
from rfp.robust.minimal_samples import draw_minimal_samples
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import estimate_relative_pose
from tests.geometry.scenes import contaminate, views_of_a_box, views_of_a_plane

OPTIONS = RansacOptions(num_hypotheses=32, resample_rounds=1)
ESTIMATES = {
    "relative pose": (estimate_relative_pose, 5, ("R", "t", "inliers")),
    "fundamental matrix": (estimate_fundamental, 7, ("F", "inliers")),
    "homography": (estimate_homography, 4, ("H", "inliers")),
    "absolute pose": (estimate_absolute_pose, 3, ("R", "t", "inliers")),
}


def problems(name: str, device: str):
    """Matches with the same answer for the third dimension of absolute poses: points in front of the first camera."""
    views = views_of_a_plane(6, 60, 1, slope=0.3) if name == "homography" else views_of_a_box(6, 60, 1)
    x1, x2, _ = contaminate(views.x1, views.x2, 1, inlier_ratio=0.7, noise=1 / 500, extent=0.6)
    if name == "absolute pose":
        depth = 3 + torch.rand(6, 60, 1, generator=torch.Generator().manual_seed(2), dtype=x1.dtype)
        X = torch.cat((x1 * depth, depth), dim=-1)
        projected = X @ views.R.mT + views.t[:, None]
        x1, x2 = X, projected[..., :2] / projected[..., 2:]
    noise = torch.rand(6, 32, ESTIMATES[name][1], generator=torch.Generator().manual_seed(3))
    samples, _ = draw_minimal_samples(noise, torch.ones(6, 60))
    return x1.float().to(device), x2.float().to(device), samples.to(device)


def estimated(name: str, x1, x2, samples):
    estimate, _, fields = ESTIMATES[name]
    found = estimate(x1, x2, max_error=2 / 500, options=OPTIONS, samples=samples, generator=None)
    return [getattr(found, field) for field in fields]


def check_one_graph(name: str) -> None:
    """Compile without a break in the graph, and compare with the eager result."""
    x1, x2, samples = problems(name, "cpu")
    compiled = torch.compile(lambda *arguments: estimated(name, *arguments), backend="eager", fullgraph=True)
    for ours, eager in zip(compiled(x1, x2, samples), estimated(name, x1, x2, samples), strict=True):
        torch.testing.assert_close(ours, eager, atol=1e-4, rtol=0)


if __name__ == "__main__":
    check_one_graph(sys.argv[1])
