"""The whole estimator as one graph: traced by torch.compile without a break, captured by CUDA, replayed."""

import pytest
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


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ESTIMATES)
def test_torch_compile_sees_one_graph(name):
    x1, x2, samples = problems(name, "cpu")
    compiled = torch.compile(lambda *arguments: estimated(name, *arguments), backend="eager", fullgraph=True)
    for ours, eager in zip(compiled(x1, x2, samples), estimated(name, x1, x2, samples), strict=True):
        torch.testing.assert_close(ours, eager, atol=1e-4, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ESTIMATES)
def test_a_cuda_graph_replays_the_estimator_on_new_matches(name):
    x1, x2, samples = problems(name, "cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # warm up, as captures want
        estimated(name, x1, x2, samples)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = estimated(name, x1, x2, samples)
    order = torch.arange(6, device="cuda").flip(0)
    x1.copy_(x1[order].clone()), x2.copy_(x2[order].clone()), samples.copy_(samples[order].clone())
    graph.replay()
    for replayed, eager in zip(captured, estimated(name, x1, x2, samples), strict=True):
        torch.testing.assert_close(replayed, eager, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ESTIMATES)
def test_a_gpu_estimates_what_the_cpu_estimates(name):
    on_cpu = estimated(name, *problems(name, "cpu"))
    on_gpu = estimated(name, *problems(name, "cuda"))
    for here, there in zip(on_cpu, on_gpu, strict=True):
        if here.dtype == torch.bool:
            assert (here == there.cpu()).double().mean() > 0.99
        else:
            torch.testing.assert_close(here, there.cpu(), atol=2e-3, rtol=0)
