"""The clock of the stages: it counts what it is told to, on the CPU and on a GPU, and nothing when nobody holds one."""

import time

import pytest
import torch

from rfp.stages import stage, stage_clock


def test_stages_add_up_and_the_longest_comes_first():
    with stage_clock(torch.device("cpu")) as clock:
        for _ in range(3):
            with stage("short"):
                time.sleep(0.002)
        with stage("long"):
            time.sleep(0.05)
    seconds = clock.seconds()
    assert list(seconds) == ["long", "short"]
    assert 0.006 <= seconds["short"] < seconds["long"]


def test_labels_without_a_clock_and_after_one_count_nothing():
    with stage("before"):
        pass
    with stage_clock(torch.device("cpu")) as clock:
        pass
    with stage("after"):
        pass
    assert clock.seconds() == {}


def test_a_label_inside_a_failing_stage_lets_the_error_through():
    with pytest.raises(ValueError, match="planted"), stage_clock(torch.device("cpu")), stage("failing"):
        raise ValueError("planted")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_timed_without_waiting_for_it():
    matrix = torch.rand(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    with stage_clock(torch.device("cuda")) as clock:
        torch.cuda.set_sync_debug_mode("error")
        try:
            with stage("product"):
                for _ in range(20):
                    matrix = matrix @ matrix
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert clock.seconds()["product"] > 1e-3
