"""The estimator waits for the host nowhere, and the list that proves it catches what it is meant to catch."""

import pytest
import torch

from rfp.geometry.epipolar import sampson_distance, symmetric_epipolar_distance
from rfp.geometry.essential import decompose_essential
from rfp.geometry.pose import relative_pose_error
from rfp.records import Correspondences
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import RelativePoseEstimator, estimate_relative_pose
from tests.sync_deny_list import HostVisitError, no_host_visits


def meta(*shape):
    return torch.empty(*shape, device="meta")


def test_the_estimator_runs_on_meta_without_a_denied_operation():
    batch, slots = (2, 3), 60
    K = meta(*batch, 3, 3)
    points = [meta(*batch, slots, 2) for _ in range(4)]
    valid = torch.empty(*batch, slots, device="meta", dtype=torch.bool)
    correspondences = Correspondences(*points, weight=meta(*batch, slots), valid=valid, K1=K, K2=K)
    estimator = RelativePoseEstimator(1.0, RansacOptions(num_hypotheses=32, resample_rounds=1))
    with no_host_visits():
        pose = estimator(correspondences, meta(*batch, *estimator.noise_shape))
    assert pose.R.device.type == "meta"
    assert pose.R.shape == (2, 3, 3, 3)
    assert pose.inliers.shape == (2, 3, slots)


def test_drawing_samples_with_a_generator_stays_on_meta():
    with no_host_visits():
        pose = estimate_relative_pose(
            meta(2, 30, 2),
            meta(2, 30, 2),
            max_error=0.01,
            options=RansacOptions(num_hypotheses=8, resample_rounds=1),
            generator=torch.Generator(),
        )
    assert pose.t.shape == (2, 3)


@pytest.mark.parametrize(
    "function",
    [
        lambda: sampson_distance(meta(2, 9, 2), meta(2, 9, 2), meta(2, 3, 3)),
        lambda: symmetric_epipolar_distance(meta(2, 9, 2), meta(2, 9, 2), meta(2, 3, 3)),
        lambda: decompose_essential(meta(2, 3, 3)),
        lambda: relative_pose_error(meta(2, 3, 3), meta(2, 3), meta(2, 3, 3), meta(2, 3), fold_translation=True),
    ],
)
def test_geometry_that_uses_kornia_stays_on_meta(function):
    with no_host_visits():
        function()


@pytest.mark.parametrize(
    "visit",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0, 0]),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: (x > 0).nonzero(),
        lambda x: x.index_put((x > 0,), x.sum()),
        lambda x: torch.linalg.svd(x),
        lambda x: torch.linalg.eigh(x),
        lambda x: torch.linalg.eig(x),
        lambda x: torch.linalg.pinv(x),
        lambda x: torch.linalg.solve(x, x),
        lambda x: torch.linalg.inv(x),
        lambda x: torch.linalg.cholesky(x),
        lambda x: torch.multinomial(x, 1),
        lambda x: torch.unique(x),
        lambda x: torch.tensor([1.0, 2.0, 3.0], device=x.device) * x,
        lambda x: torch.as_tensor([1.0, 2.0, 3.0], device=x.device) * x,
        lambda x: x.new_tensor([1.0, 2.0, 3.0]) * x,
        lambda x: torch.ones(3).to(x.device) * x,
    ],
)
def test_the_deny_list_catches_a_planted_visit(visit):
    with pytest.raises(HostVisitError), no_host_visits():
        visit(meta(3, 3))


def test_the_deny_list_lets_the_cpu_alone():
    with no_host_visits():
        x = torch.rand(3, 3)
        x[x > 0].sum().item()
        torch.linalg.svd(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
