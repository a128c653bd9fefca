"""RANSAC for absolute pose: laws of the batch, and no visit to the host."""

import dataclasses

import pytest
import torch

from rfp.records import map_tensors
from rfp.robust.absolute_pose import estimate_absolute_pose
from rfp.robust.options import RansacOptions
from tests.robust.absolute_poses import (
    MAX_ERROR,
    OPTIONS,
    estimate,
    make_problems,
    make_samples,
    reprojection_error,
)
from tests.robust.laws import assert_same_bits
from tests.sync_deny_list import no_host_visits


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,), (0, 3)])
def test_any_batch_shape_gives_results_of_that_shape(batch):
    generator = torch.Generator().manual_seed(0)
    X, x = torch.rand(*batch, 20, 3, generator=generator), torch.rand(*batch, 20, 2, generator=generator)
    pose = estimate_absolute_pose(X, x, max_error=0.1, options=OPTIONS, generator=generator)
    assert pose.R.shape == (*batch, 3, 3)
    assert pose.t.shape == (*batch, 3)
    assert pose.inliers.shape == (*batch, 20)
    assert pose.valid.shape == pose.score.shape == batch


@pytest.mark.parametrize("count", [33, 100, 301])
def test_problems_together_equal_single_calls_bit_for_bit(count):
    views, x, _ = make_problems(9, count, 14, inlier_ratio=0.6)
    X, x = views.X.float(), x.float()
    weight = torch.randint(0, 3, (9, count), generator=torch.Generator().manual_seed(3)).float()
    max_error = torch.linspace(2 / 500, 4 / 500, 9)
    samples = make_samples(9, count, weight=weight)
    together = estimate(X, x, samples, weight=weight, max_error=max_error)
    assert together.valid.all()
    for i in range(9):
        alone = estimate(X[i], x[i], samples[i], weight=weight[i], max_error=max_error[i])
        assert_same_bits(map_tensors(together, lambda tensor, i=i: tensor[i]), alone)
        neighbour = map_tensors(together, lambda tensor, i=i: tensor[i - 1])
        with pytest.raises(AssertionError):  # the test would notice results rolled by one problem
            assert_same_bits(neighbour, alone)


def test_permuting_problems_permutes_results():
    views, x, _ = make_problems(7, 90, 15)
    X, x = views.X.float(), x.float()
    samples, order = make_samples(7, 90), torch.tensor([3, 6, 0, 2, 5, 1, 4])
    pose = estimate(X, x, samples)
    assert_same_bits(estimate(X[order], x[order], samples[order]), map_tensors(pose, lambda tensor: tensor[order]))


@pytest.mark.parametrize("tile", [1, 7, 64, 100, 5000])
def test_the_tile_changes_no_bit(tile):
    views, x, _ = make_problems(3, 80, 16)
    X, x, samples = views.X.float(), x.float(), make_samples(3, 80)[:, :24]
    options = dataclasses.replace(OPTIONS, resample_rounds=1, num_resampled=2, resamples=4)
    assert_same_bits(
        estimate(X, x, samples, options=options),
        estimate(X, x, samples, options=dataclasses.replace(options, tile=tile)),
    )


def test_padding_with_masked_matches_changes_nothing_but_rounding():
    views, x, _ = make_problems(6, 75, 17)
    X, x, samples = views.X.float(), x.float(), make_samples(6, 75)
    pose = estimate(X, x, samples)
    valid = torch.cat((torch.ones(6, 75), torch.zeros(6, 22)), dim=1).bool()
    padded_X, padded_x = torch.cat((X, X.new_full((6, 22, 3), torch.nan)), 1), torch.cat((x, 1e9 * x[:, :22]), 1)
    padded = estimate(padded_X, padded_x, samples, valid=valid)
    torch.testing.assert_close(padded.R, pose.R, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded.t, pose.t, atol=1e-4, rtol=0)
    assert not padded.inliers[:, 75:].any()
    differ = padded.inliers[:, :75] != pose.inliers
    assert ((reprojection_error(pose, X, x)[differ] - MAX_ERROR).abs() < 1e-5).all()


def test_equal_seeds_give_equal_bits_and_leave_the_global_generator_alone():
    views, x, _ = make_problems(3, 60, 18)
    state = torch.random.get_rng_state()
    poses = [
        estimate_absolute_pose(
            *(views.X.float(), x.float()),
            max_error=MAX_ERROR,
            options=OPTIONS,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (5, 5, 6)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same_bits(poses[0], poses[1])
    with pytest.raises(AssertionError):
        assert_same_bits(poses[0], poses[2])


# --- on the device


@pytest.mark.parametrize("given", [True, False])
def test_the_estimator_runs_on_meta_without_a_denied_operation(given):
    def meta(*shape, **arguments):
        return torch.empty(*shape, device="meta", **arguments)

    with no_host_visits():
        pose = estimate_absolute_pose(
            meta(2, 3, 60, 3),
            meta(2, 3, 60, 2),
            max_error=0.01,
            options=RansacOptions(num_hypotheses=32),
            valid=meta(2, 3, 60, dtype=torch.bool),
            weight=meta(2, 3, 60),
            samples=meta(2, 3, 32, 3, dtype=torch.int64) if given else None,
            generator=torch.Generator(),
        )
    assert pose.R.device.type == "meta"
    assert pose.R.shape == (2, 3, 3, 3)
    assert pose.inliers.shape == (2, 3, 60)
