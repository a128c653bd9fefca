import pytest
import torch
from kornia.metrics import auc_from_errors

from rfp.evaluation import mean_clipped_accuracy, pose_auc, pose_auc_binned


def _errors(seed, count):
    generator = torch.Generator().manual_seed(seed)
    errors = 40 * torch.rand(count, generator=generator, dtype=torch.float64) ** 2
    return torch.where(torch.rand(count, generator=generator) < 0.1, 180.0, errors)


@pytest.mark.parametrize("count", [1, 2, 7, 500])
@pytest.mark.parametrize("seed", range(5))
def test_it_equals_kornias_area(seed, count):
    errors = _errors(seed, count)
    assert pose_auc(errors, (1, 5, 10, 20, 200)) == pytest.approx(auc_from_errors(errors, (1, 5, 10, 20, 200)))


def test_it_equals_kornias_area_at_ties_and_on_thresholds():
    errors = [0.0, 0.0, 5.0, 5.0, 10.0, 20.0, 20.0]
    assert pose_auc(errors) == pytest.approx(auc_from_errors(torch.tensor(errors), (5, 10, 20)))


def test_perfect_poses_give_100_and_failures_0():
    for figure in (pose_auc, pose_auc_binned, mean_clipped_accuracy):
        assert list(figure([0.0, 0.0]).values()) == [100.0] * 3
        assert list(figure([180.0]).values()) == [0.0] * 3


def test_a_failure_costs_its_share():
    errors = [1.0, 2.0, 3.0]
    assert pose_auc([*errors, 180.0])[20] == pytest.approx(pose_auc(errors)[20] * 3 / 4)


def test_the_order_of_the_pairs_does_not_matter():
    errors = _errors(0, 50)
    assert pose_auc(errors) == pose_auc(errors.flip(0))


def test_the_binned_one_at_5_degrees_is_the_share_below_5():
    errors = _errors(3, 200)
    shares = [100 * (errors < edge).double().mean().item() for edge in (5, 10, 15, 20)]
    binned = pose_auc_binned(errors)
    assert binned[5] == pytest.approx(shares[0])
    assert binned[10] == pytest.approx(sum(shares[:2]) / 2)
    assert binned[20] == pytest.approx(sum(shares) / 4)


def test_the_clipped_mean_is_within_half_a_pair_of_the_area():
    for seed in range(20):
        errors = _errors(seed, 40)
        area, clipped = pose_auc(errors), mean_clipped_accuracy(errors)
        for threshold in area:
            assert abs(area[threshold] - clipped[threshold]) <= 100 / (2 * 40) + 1e-9


@pytest.mark.parametrize("errors", [[], [1.0, float("nan")], [-1.0]])
def test_no_errors_and_nonsense_are_refused(errors):
    for figure in (pose_auc, pose_auc_binned, mean_clipped_accuracy):
        with pytest.raises(ValueError, match="expected"):
            figure(errors)


def test_bins_have_five_degrees():
    with pytest.raises(ValueError, match="multiples of 5"):
        pose_auc_binned([1.0], (3,))
