"""Cheirality in the scores: the choice among twins, far points, and planes."""

import pytest
import torch

import rfp.robust.relative_pose
from rfp.geometry.essential import twisted_poses
from rfp.geometry.pose import relative_pose_error
from rfp.geometry.triangulation import in_front_of_both
from rfp.robust.cheirality import choose_twins
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import estimate_relative_pose
from rfp.robust.scoring import match_monomials, msac_gains
from tests.geometry.scenes import (
    contaminate,
    homogeneous,
    make_rotations,
    uniform,
    unit_vectors,
    views_of_a_box,
    views_of_a_plane,
)

MAX_ERROR = 1 / 500


def matches_of(x1, x2, max_error=MAX_ERROR, weight=None):
    weight = torch.ones_like(x1[..., 0]) if weight is None else weight
    return match_monomials(x1, x2, weight, torch.full_like(x1[:, 0, 0], max_error))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_true_pose_is_chosen_from_any_of_its_twins(dtype):
    views = views_of_a_box(50, 20, 1)
    matches = matches_of(views.x1.to(dtype), views.x2.to(dtype))
    R, t, gain = choose_twins(*twisted_poses(views.R.to(dtype), views.t.to(dtype)), matches)
    torch.testing.assert_close(R, views.R[:, None].expand_as(R).to(dtype), atol=1e-5, rtol=0)
    torch.testing.assert_close(t, views.t[:, None].expand_as(t).to(dtype), atol=1e-5, rtol=0)
    assert (gain > 0).all()


def test_matches_without_weight_have_no_vote_and_those_behind_no_gain():
    views = views_of_a_box(10, 20, 2)
    X2 = 4 * homogeneous(views.x1) @ views.R.mT - views.t[:, None]  # seen under -t: behind both cameras under t
    behind = X2[..., :2] / X2[..., 2:]
    x1, x2 = torch.cat((views.x1, views.x1, views.x1), dim=1), torch.cat((views.x2, behind, behind), dim=1)
    weight = torch.ones(10, 60).double()
    _, t, _ = choose_twins(views.R[:, None], views.t[:, None], matches_of(x1, x2, weight=weight))
    torch.testing.assert_close(t[:, 0], -views.t)
    weight[:, 40:] = 0
    weight[:, :20] = 1.5
    R, t, gain = choose_twins(views.R[:, None], -views.t[:, None], matches_of(x1, x2, weight=weight))
    torch.testing.assert_close((R[:, 0], t[:, 0]), (views.R, views.t))
    assert torch.equal(gain[:, 0] > 0, (torch.arange(60) < 20).expand(10, 60))


def test_gains_are_those_of_matches_in_front_by_triangulation():
    generator = torch.Generator().manual_seed(0)
    x1, x2 = uniform(generator, 2, 12, 3000, 2, low=-0.5, high=0.5)
    R, t = make_rotations(0.3 * unit_vectors(12, generator)), unit_vectors(12, generator)
    matches = matches_of(x1, x2)
    everything = msac_gains(_essential(R, t)[:, :, None], matches)[:, 0]
    chosen_R, chosen_t, gain = choose_twins(R[:, None], t[:, None], matches)
    votes = [
        (everything * in_front_of_both(x1, x2, twin_R, twin_t)).sum(dim=1)
        for twin_R, twin_t in zip(*(twins.unbind(1) for twins in twisted_poses(R, t)))
    ]
    in_front = in_front_of_both(x1, x2, chosen_R[:, 0], chosen_t[:, 0])
    torch.testing.assert_close((everything * in_front).sum(dim=1), torch.stack(votes).amax(dim=0))
    kept, counted = gain[:, 0] > 0, everything > 0
    assert (kept | ~(counted & in_front)).all()
    torch.testing.assert_close(torch.where(kept, everything, 0), gain[:, 0])
    forgiven = kept & ~in_front
    assert (counted & ~kept).sum() > 10 * forgiven.sum()
    assert (counted & ~kept).sum() > 50


def _essential(R, t):
    return torch.linalg.cross(t[..., :, None].expand_as(R), R, dim=-2).flatten(1)


def test_far_points_stay_inliers_whatever_side_their_noise_puts_them_on():
    views = views_of_a_box(1, 40, 4)
    generator = torch.Generator().manual_seed(1)
    far = torch.rand(1, 60, 2, generator=generator).double() - 0.5
    turned = torch.cat((far, torch.ones(1, 60, 1).double()), dim=-1) @ views.R.mT
    there = turned[..., :2] / turned[..., 2:] + 0.2 * MAX_ERROR * torch.randn(1, 60, 2, generator=generator)
    strict = in_front_of_both(far, there, views.R, views.t)
    assert 0.2 < strict.double().mean() < 0.8
    matches = matches_of(torch.cat((views.x1, far), 1), torch.cat((views.x2, there), 1))
    _, t, gain = choose_twins(views.R[:, None], -views.t[:, None], matches)
    torch.testing.assert_close(t[:, 0], views.t)
    assert (gain > 0).all()


# --- planes: two essential matrices fit, one of them with a part of the points behind the cameras


def share_of_wrong_poses(slope: float) -> float:
    views = views_of_a_plane(60, 200, 0, slope=slope)
    x1, x2, _ = contaminate(views.x1, views.x2, 0, inlier_ratio=0.7, noise=0.5 / 500, extent=0.5)
    pose = estimate_relative_pose(
        x1.float(),
        x2.float(),
        max_error=MAX_ERROR,
        options=RansacOptions(num_hypotheses=256),
        generator=torch.Generator().manual_seed(0),
    )
    assert pose.valid.all()
    errors = relative_pose_error(pose.R.double(), pose.t.double(), views.R, views.t, fold_translation=False)
    return (torch.maximum(*errors) > torch.pi / 9).double().mean().item()


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_the_pose_of_a_plane_is_the_one_that_sees_it(slope):
    assert share_of_wrong_poses(slope) <= 0.1


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_without_cheirality_in_the_score_half_of_these_poses_are_wrong(slope, monkeypatch):
    def choose_but_count_everything(R, t, matches):
        R, t, _ = choose_twins(R, t, matches)
        return R, t, msac_gains(_essential(R.flatten(0, 1), t.flatten(0, 1)).unflatten(0, R.shape[:2]).mT, matches)

    monkeypatch.setattr(rfp.robust.relative_pose, "choose_twins", choose_but_count_everything)
    assert share_of_wrong_poses(slope) > 0.3
