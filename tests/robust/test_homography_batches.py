"""RANSAC for homographies: laws of the batch."""

import dataclasses

import pytest
import torch

from rfp.records import map_tensors
from rfp.robust.homography import estimate_homography
from tests.robust.homography_problems import (
    MAX_ERROR,
    OPTIONS,
    corner_errors,
    estimate,
    make_problems,
    make_samples,
    sampson_errors,
)
from tests.robust.laws import assert_same_bits
from tests.sync_deny_list import no_host_visits

WITH_SECOND_STAGE = dataclasses.replace(OPTIONS, resample_rounds=1, num_resampled=2, resamples=4)


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,), (0, 3)])
def test_any_batch_shape_gives_results_of_that_shape(batch):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, *batch, 20, 2, generator=generator)
    found = estimate_homography(points[0], points[1], max_error=0.1, options=OPTIONS, generator=generator)
    assert found.H.shape == (*batch, 3, 3)
    assert found.inliers.shape == (*batch, 20)
    assert found.valid.shape == found.score.shape == batch


@pytest.mark.parametrize("count", [33, 100, 301])
def test_problems_together_equal_single_calls_bit_for_bit(count):
    _, x1, x2, _ = make_problems(9, count, 12, inlier_ratio=0.6)
    weight = torch.randint(0, 3, (9, count), generator=torch.Generator().manual_seed(3)).float()
    max_error = torch.linspace(1.0, 3.0, 9)
    samples = make_samples(9, count, weight=weight)
    together = estimate(x1, x2, samples, weight=weight, max_error=max_error, options=WITH_SECOND_STAGE)
    assert together.valid.sum() >= 8
    for i in range(9):
        alone = estimate(x1[i], x2[i], samples[i], weight=weight[i], max_error=max_error[i], options=WITH_SECOND_STAGE)
        assert_same_bits(map_tensors(together, lambda tensor, i=i: tensor[i]), alone)
        neighbour = map_tensors(together, lambda tensor, i=i: tensor[i - 1])
        with pytest.raises(AssertionError):  # the test would notice results rolled by one problem
            assert_same_bits(neighbour, alone)


def test_permuting_problems_permutes_results():
    _, x1, x2, _ = make_problems(7, 90, 13)
    samples, order = make_samples(7, 90), torch.tensor([3, 6, 0, 2, 5, 1, 4])
    found = estimate(x1, x2, samples)
    permuted = estimate(x1[order], x2[order], samples[order])
    assert_same_bits(permuted, map_tensors(found, lambda tensor: tensor[order]))


@pytest.mark.parametrize("tile", [1, 7, 30, 5000])
def test_the_tile_changes_no_bit(tile):
    _, x1, x2, _ = make_problems(3, 80, 14)
    samples = make_samples(3, 80, 24)
    expected = estimate(x1, x2, samples, options=WITH_SECOND_STAGE)
    tiled = estimate(x1, x2, samples, options=dataclasses.replace(WITH_SECOND_STAGE, tile=tile))
    assert_same_bits(expected, tiled)


def test_padding_with_masked_matches_changes_nothing_but_rounding():
    _, x1, x2, _ = make_problems(6, 75, 15)
    samples = make_samples(6, 75)
    found = estimate(x1, x2, samples)
    padding = torch.full((6, 22, 2), torch.nan)
    valid = torch.cat((torch.ones(6, 75), torch.zeros(6, 22)), dim=1).bool()
    padded = estimate(torch.cat((x1, padding), 1), torch.cat((x2, padding), 1), samples, valid=valid)
    torch.testing.assert_close(padded.H, found.H, atol=1e-5, rtol=0)
    assert corner_errors(padded.H, found.H.double()).max() < 0.01
    assert not padded.inliers[:, 75:].any()
    differ = padded.inliers[:, :75] != found.inliers
    error = sampson_errors(found.H, x1, x2)
    assert ((error[differ] - MAX_ERROR).abs() < 1e-3).all()


def test_equal_seeds_give_equal_bits_and_leave_the_global_generator_alone():
    _, x1, x2, _ = make_problems(3, 60, 16)
    state = torch.random.get_rng_state()
    found = [
        estimate_homography(x1, x2, max_error=MAX_ERROR, options=OPTIONS, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same_bits(found[0], found[1])
    with pytest.raises(AssertionError):
        assert_same_bits(found[0], found[2])


def test_the_estimator_runs_on_meta_without_a_denied_operation():
    points = torch.empty(2, 2, 3, 60, 2, device="meta")
    valid, weight = torch.empty(2, 3, 60, device="meta", dtype=torch.bool), torch.empty(2, 3, 60, device="meta")
    with no_host_visits():
        found = estimate_homography(
            points[0],
            points[1],
            max_error=torch.empty(2, 3, device="meta"),
            options=WITH_SECOND_STAGE,
            valid=valid,
            weight=weight,
            generator=torch.Generator(),
        )
    assert found.H.device.type == "meta"
    assert found.H.shape == (2, 3, 3, 3)
    assert found.inliers.shape == (2, 3, 60)
