"""Laws of the rewards, on poses with known errors."""

import math
from dataclasses import replace

import pytest
import torch

from rfp.records import Correspondences, InputError, RelativePose, TwoViewGeometry
from rfp.rewards import (
    ADDITIVE_REWARDS,
    REWARDS,
    AccuracyReward,
    AdditiveReward,
    EpipolarReward,
    InlierReward,
    PoseErrorReward,
    ReprojectionReward,
    SampsonReward,
    ThresholdReward,
    compose,
    host_reward,
    mean_match_value,
    reward_of_terms,
)


def rotation(angle_deg: float) -> torch.Tensor:
    a = math.radians(angle_deg)
    return torch.tensor([[math.cos(a), 0.0, math.sin(a)], [0.0, 1.0, 0.0], [-math.sin(a), 0.0, math.cos(a)]])


def problem(angles_deg, *, valid=True, flip=False):
    """One problem an angle; truth R = I, t = x. Points are exact for the truth."""
    n = len(angles_deg)
    t = torch.tensor([[1.0, 0.0, 0.0]]).expand(n, 3)
    result = RelativePose(
        R=torch.stack([rotation(a) for a in angles_deg]),
        t=-t if flip else t,
        E=torch.zeros(n, 3, 3),
        inliers=(torch.arange(6) < 4).expand(n, 6),
        score=torch.zeros(n),
        valid=torch.full((n,), valid),
    )
    X = torch.rand(n, 6, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 0.0, 3.0])
    x1, x2 = X[..., :2] / X[..., 2:], (X + t[:, None])[..., :2] / X[..., 2:]
    x2 = x2.clone()
    x2[:, 5, 1] += 0.1  # one wrong match
    K = torch.diag(torch.tensor([100.0, 100.0, 1.0])).expand(n, 3, 3)
    weight = torch.tensor([1.0, 1.0, 1.0, 2.0, 0.0, 1.0]).expand(n, 6)
    correspondences = Correspondences(x1 * 100, x2 * 100, x1, x2, weight, weight > 0, K, K)
    truth = TwoViewGeometry(K, K, torch.eye(3).expand(n, 3, 3), t, torch.ones(n, dtype=torch.bool))
    return result, correspondences, truth


def test_pose_error_is_linear_up_to_the_clip_and_a_root_beyond():
    reward = PoseErrorReward()(*problem([0.0, 5.0, 25.0, 100.0, 180.0]))
    expected = [0.0, -0.2, -1.0, -2.0, -math.sqrt(180 / 25)]
    torch.testing.assert_close(reward, torch.tensor(expected), atol=1e-5, rtol=0)


def test_a_failed_estimate_gets_the_worst_value_whatever_its_pose():
    arguments = problem([0.0, 5.0], valid=False)
    assert PoseErrorReward()(*arguments).tolist() == pytest.approx([-math.sqrt(180 / 25)] * 2, abs=1e-5)
    assert ThresholdReward()(*arguments).tolist() == [0.0, 0.0]
    assert InlierReward()(*arguments).tolist() == [0.0, 0.0]


def test_the_reward_does_not_fold_the_translation():
    assert PoseErrorReward()(*problem([0.0], flip=True)).item() == pytest.approx(-math.sqrt(180 / 25), abs=1e-5)


def test_thresholds_make_a_staircase():
    reward = ThresholdReward((5.0, 10.0, 20.0))(*problem([1.0, 7.0, 15.0, 30.0]))
    torch.testing.assert_close(reward, torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]))


def test_inliers_are_weighted_by_the_number_of_draws():
    assert InlierReward(per=1.0)(*problem([0.0])).item() == 5.0


def test_the_epipolar_reward_is_the_share_of_right_draws_whatever_the_estimate():
    for angle, valid in ((0.0, True), (90.0, False)):
        assert EpipolarReward()(*problem([angle], valid=valid)).item() == pytest.approx(5 / 6)


def test_composed_rewards_add_up():
    arguments = problem([5.0, 50.0])
    total = compose([(2.0, PoseErrorReward()), (0.5, InlierReward())])(*arguments)
    torch.testing.assert_close(total, 2 * PoseErrorReward()(*arguments) + 0.5 * InlierReward()(*arguments))
    with pytest.raises(ValueError, match="at least one"):
        compose([])


def test_the_accuracy_is_the_area_up_to_each_threshold_of_the_share_below():
    reward = AccuracyReward((5.0, 10.0))(*problem([0.0, 4.0, 6.0, 50.0]))
    torch.testing.assert_close(reward, torch.tensor([1.0, (0.2 + 0.6) / 2, 0.4 / 2, 0.0]), atol=1e-5, rtol=0)
    assert AccuracyReward()(*problem([0.0], valid=False)).item() == 0.0
    with pytest.raises(InputError, match="thresholds above 0"):
        AccuracyReward(())


def test_wrong_matches_may_cost_and_those_in_between_be_worth_nothing():
    # One wrong match of six draws, 0.1 · 100 px off its line (Sampson: / √2).
    arguments = problem([0.0])
    assert EpipolarReward(wrong=-0.25)(*arguments).item() == pytest.approx((5 - 0.25) / 6)
    assert EpipolarReward(wrong=-0.25, wrong_beyond_px=7.0)(*arguments).item() == pytest.approx((5 - 0.25) / 6)
    assert EpipolarReward(wrong=-0.25, wrong_beyond_px=7.2)(*arguments).item() == pytest.approx(5 / 6)
    with pytest.raises(InputError, match="not below it"):
        EpipolarReward(wrong_beyond_px=1.0)


def test_per_slot_the_number_of_right_matches_counts_and_not_their_share():
    _, correspondences, truth = problem([0.0])
    few = replace(correspondences, weight=torch.where(torch.arange(6) < 2, correspondences.weight, 0.0))
    for kind in (EpipolarReward, SampsonReward):
        share, number = kind(), kind(per="slot")
        slots = correspondences.weight.shape[-1]
        for some in (correspondences, few):
            total = some.weight.sum(-1)
            torch.testing.assert_close(number(None, some, truth), share(None, some, truth) * total / slots)
        assert number(None, few, truth) < number(None, correspondences, truth)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("kind", [EpipolarReward, SampsonReward])
def test_a_reward_per_something_else_is_refused(kind):
    with pytest.raises(InputError, match="per='slot'"):
        kind(per="match_count")


def test_the_soft_reward_is_one_for_exact_matches_and_a_half_at_its_scale():
    _, correspondences, truth = problem([0.0])
    values = SampsonReward(scale_px=10 / 2**0.5).match_values(correspondences, truth)
    torch.testing.assert_close(values[0, [0, 5]], torch.tensor([1.0, 0.5]), atol=1e-4, rtol=0)


def wall_problem(*, step=0.0):
    """A point on a wall at depth 4, seen by cameras 0.4 apart whose focal length is 50 px, and matches to it.

    In image 2 the wall is nearer by ``step`` from column 40 on, as if something hid it.
    """
    K = torch.tensor([[50.0, 0.0, 31.5], [0.0, 50.0, 23.5], [0.0, 0.0, 1.0]])[None]
    depth1 = torch.full((1, 48, 64), 4.0)
    depth2 = depth1.clone()
    depth2[..., 40:] -= step
    # 50 · 0.4 / 4 = 5 px: the true match, one off along the line, one off across it, one whose depth is not known
    xy1 = torch.tensor([[[45.25, 20.5], [45.25, 20.5], [45.25, 20.5], [2.0, 2.0]]])
    xy2 = torch.tensor([[[50.25, 20.5], [52.25, 20.5], [50.25, 22.5], [7.0, 2.0]]])
    depth1[:, 1:4, 1:4] = 0.0
    x1, x2 = (torch.stack([(xy[..., 0] - 31.5) / 50, (xy[..., 1] - 23.5) / 50], dim=-1) for xy in (xy1, xy2))
    ones = torch.ones(1, 4)
    t = torch.tensor([[0.4, 0.0, 0.0]])
    truth = TwoViewGeometry(K, K, torch.eye(3)[None], t, torch.ones(1, dtype=torch.bool), depth1, depth2)
    return Correspondences(xy1, xy2, x1, x2, ones, ones > 0, K, K), truth


def test_the_reprojection_reward_tells_a_match_from_others_along_its_line_and_pays_nothing_for_unknown_depth():
    correspondences, truth = wall_problem()
    values = ReprojectionReward(cutoff_px=8**0.5).match_values(correspondences, truth)
    torch.testing.assert_close(values, torch.tensor([[1.0, 0.25, 0.25, 0.0]]), atol=1e-4, rtol=0)
    along = SampsonReward(scale_px=2.0).match_values(correspondences, truth)
    assert along[0, 1] > 0.99


def test_a_point_that_something_hides_is_no_reprojection():
    correspondences, truth = wall_problem(step=2.0)
    # The true match goes back by 50 · 0.4 / 2 = 10 px in place of 5: e² = (0 + 5²) / 2.
    value = ReprojectionReward(cutoff_px=5.0).match_values(correspondences, truth)[0, 0]
    assert value.item() == pytest.approx(0.25, abs=1e-4)
    assert ReprojectionReward().match_values(correspondences, truth)[0, 0].item() == 0.0


def test_the_reprojection_reward_is_symmetric_and_its_gradient_moves_points_onto_their_counterparts():
    correspondences, truth = wall_problem()
    back = replace(truth, t=-truth.t, depth1=truth.depth2, depth2=truth.depth1)
    swapped = replace(
        correspondences,
        xy1_px=correspondences.xy2_px, xy2_px=correspondences.xy1_px, x1=correspondences.x2, x2=correspondences.x1,
    )  # fmt: skip
    reward = ReprojectionReward(cutoff_px=4.0)
    torch.testing.assert_close(reward.match_values(swapped, back), reward.match_values(correspondences, truth))
    x2 = correspondences.x2.clone().requires_grad_()
    reward.match_values(replace(correspondences, x2=x2), truth).sum().backward()
    assert x2.grad[0, 0].abs().max() < 1e-3
    assert x2.grad[0, 1, 0] < 0
    assert x2.grad[0, 2, 1] < 0


def test_pairs_without_depth_are_refused_by_the_reprojection_reward():
    _, correspondences, truth = problem([0.0])
    with pytest.raises(InputError, match="pairs with depth"):
        ReprojectionReward()(None, correspondences, truth)
    with pytest.raises(InputError, match="cutoff_px above 0"):
        ReprojectionReward(cutoff_px=0.0)


@pytest.mark.parametrize("name", ADDITIVE_REWARDS)
def test_an_additive_reward_is_the_mean_of_its_match_values(name):
    result, correspondences, truth = problem([0.0, 3.0])
    truth = replace(truth, depth1=torch.full((2, 90, 90), 3.5), depth2=torch.full((2, 90, 90), 3.5))
    reward = ADDITIVE_REWARDS[name]
    assert isinstance(reward, AdditiveReward)
    assert reward == REWARDS[name]
    expected = mean_match_value(reward.match_values(correspondences, truth), correspondences, reward.per)
    torch.testing.assert_close(reward(result, correspondences, truth), expected)
    assert not isinstance(PoseErrorReward(), AdditiveReward)


def test_terms_by_name_add_up_and_wrong_ones_are_refused():
    arguments = problem([5.0, 50.0])
    total = reward_of_terms(("pose_error=2", "inliers=0.5"))
    torch.testing.assert_close(total(*arguments), 2 * PoseErrorReward()(*arguments) + 0.5 * InlierReward()(*arguments))
    for wrong in ("pose_error", "nothing=1", "inliers=nan", "inliers=x"):
        with pytest.raises(InputError, match=f"NAME=WEIGHT.*{wrong}"):
            reward_of_terms((wrong,))


def test_a_reward_on_the_host_gets_cpu_copies_and_may_return_arrays():
    def inliers(result, correspondences, truth):
        assert result.inliers.device.type == "cpu"
        return result.inliers.numpy().sum(-1)

    reward = host_reward(inliers)
    assert reward(*problem([0.0, 5.0])).tolist() == [4.0, 4.0]
    assert reward(*problem([0.0])).dtype == torch.float32
    assert "0x" not in repr(reward)


@pytest.mark.parametrize(
    ("returned", "message"),
    [([1.0], "one number a problem"), ([1.0, float("nan")], "1 of 2"), (None, "numbers"), ("abc", "numbers")],
)
def test_what_a_reward_on_the_host_returns_is_checked(returned, message):
    with pytest.raises(InputError, match=message) as caught:
        host_reward(lambda *arguments: returned)(*problem([0.0, 5.0]))
    assert "\n" not in str(caught.value)
