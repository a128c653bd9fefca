"""The whole estimator as one graph: traced by torch.compile without a break, captured by CUDA, replayed."""

import subprocess
import sys

import pytest
import torch

from tests.robust.whole_estimators import ESTIMATES, estimated, problems


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ESTIMATES)
def test_torch_compile_sees_one_graph(name):
    subprocess.run([sys.executable, "-m", "tests.robust.whole_estimators", name], check=True)


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
