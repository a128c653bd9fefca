"""RANSAC for fundamental matrices: laws of the batch, and that nothing waits for the host."""

import dataclasses

import pytest
import torch

from rfp.geometry.epipolar import sampson_distance
from rfp.records import map_tensors
from rfp.robust.fundamental import estimate_fundamental
from rfp.robust.options import RansacOptions
from tests.robust.fundamental_problems import (
    MAX_ERROR_PX,
    OPTIONS,
    errors_px,
    estimate,
    make_problems,
    make_samples,
)
from tests.robust.laws import assert_same_bits
from tests.sync_deny_list import no_host_visits


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,), (0, 3)])
def test_any_batch_shape_gives_results_of_that_shape(batch):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, *batch, 20, 2, generator=generator)
    found = estimate_fundamental(points[0], points[1], max_error=0.1, options=OPTIONS, generator=generator)
    assert found.F.shape == (*batch, 3, 3)
    assert found.inliers.shape == (*batch, 20)
    assert found.valid.shape == found.score.shape == batch


@pytest.mark.parametrize("count", [45, 100, 301])
def test_problems_together_equal_single_calls_bit_for_bit(count):
    _, x1, x2, _ = make_problems(9, count, 15, inlier_ratio=0.9)
    weight = torch.randint(0, 3, (9, count), generator=torch.Generator().manual_seed(3)).float()
    max_error = torch.linspace(1.5, 3, 9)
    samples = make_samples(9, count, weight=weight)
    together = estimate(x1, x2, samples, weight=weight, max_error=max_error)
    assert together.valid.all()
    for i in range(9):
        alone = estimate(x1[i], x2[i], samples[i], weight=weight[i], max_error=max_error[i])
        assert_same_bits(map_tensors(together, lambda tensor, i=i: tensor[i]), alone)
        with pytest.raises(AssertionError):  # the test would notice results rolled by one problem
            assert_same_bits(map_tensors(together, lambda tensor, i=i: tensor[i - 1]), alone)


def test_permuting_problems_permutes_results():
    _, x1, x2, _ = make_problems(7, 90, 16)
    samples, order = make_samples(7, 90), torch.tensor([3, 6, 0, 2, 5, 1, 4])
    permuted = estimate(x1[order], x2[order], samples[order])
    assert_same_bits(permuted, map_tensors(estimate(x1, x2, samples), lambda tensor: tensor[order]))


@pytest.mark.parametrize("tile", [1, 7, 64, 100, 5000])
def test_the_tile_changes_no_bit(tile):
    _, x1, x2, _ = make_problems(3, 80, 17)
    samples, few = make_samples(3, 80, 32), dataclasses.replace(OPTIONS, num_hypotheses=32, resamples=2)
    found = estimate(x1, x2, samples, options=few)
    assert found.valid.all()
    assert_same_bits(found, estimate(x1, x2, samples, options=dataclasses.replace(few, tile=tile)))


def test_padding_with_masked_matches_changes_nothing_but_rounding():
    exact, x1, x2, _ = make_problems(6, 75, 18)
    samples = make_samples(6, 75)
    found = estimate(x1, x2, samples)
    padding = torch.full((6, 22, 2), torch.nan)
    valid = torch.cat((torch.ones(6, 75), torch.zeros(6, 22)), dim=1).bool()
    padded = estimate(torch.cat((x1, padding), 1), torch.cat((x2, padding), 1), samples, valid=valid)
    torch.testing.assert_close(errors_px(padded, exact), errors_px(found, exact), atol=1e-3, rtol=0)
    assert not padded.inliers[:, 75:].any()
    differ = padded.inliers[:, :75] != found.inliers
    error = sampson_distance(x1, x2, found.F).sqrt()
    assert ((error[differ] - MAX_ERROR_PX).abs() < 1e-3).all()


def test_equal_seeds_give_equal_bits_and_leave_the_global_generator_alone():
    _, x1, x2, _ = make_problems(3, 60, 19)
    state = torch.random.get_rng_state()
    found = [
        estimate(
            x1,
            x2,
            None,
            generator=torch.Generator().manual_seed(seed),
            options=RansacOptions(num_hypotheses=16, resample_rounds=0),
        )
        for seed in (5, 5, 6)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same_bits(found[0], found[1])
    with pytest.raises(AssertionError):
        assert_same_bits(found[0], found[2])


def test_the_estimator_runs_on_meta_without_a_denied_operation():
    points = torch.empty(2, 3, 40, 2, device="meta")
    valid, weight = torch.empty(2, 3, 40, device="meta", dtype=torch.bool), torch.empty(2, 3, 40, device="meta")
    few = RansacOptions(num_hypotheses=16)
    with no_host_visits():
        found = estimate_fundamental(
            points, points, max_error=1.0, valid=valid, weight=weight, options=few, generator=torch.Generator()
        )
    assert found.F.device.type == "meta"
    assert found.F.shape == (2, 3, 3, 3)
    assert found.inliers.shape == (2, 3, 40)
