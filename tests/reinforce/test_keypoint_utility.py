"""Laws of the logarithm of what each key point's matches are worth."""

import math

import pytest
import torch

from rfp.reinforce import log_utility

VALID = torch.tensor([[[[True, True, False], [True, False, False]]]])


def of(*values, floor=0.1):
    value = torch.tensor(values, dtype=torch.float64).reshape(1, 1, 2, 3).requires_grad_()
    return value, log_utility(value, VALID, floor=floor)


def test_it_is_the_mean_logarithm_over_the_key_points_of_both_images():
    _, got = of(1.0, 0.4, 9.0, 0.0, 9.0, 9.0)
    expected = (0.0 + math.log(0.5 / 1.1) + math.log(0.1 / 1.1)) / 3
    assert got.item() == pytest.approx(expected)


def test_each_key_point_has_the_same_say_and_one_without_any_worth_has_none_beyond_the_floor():
    value, got = of(0.5, 0.05, 0.0, 1e-9, 0.0, 0.0, floor=1e-3)
    got.sum().backward()
    part = (value.detach() * value.grad)[0, 0]
    torch.testing.assert_close(part[0, :2], torch.full((2,), 1 / 3, dtype=torch.float64), atol=0.01, rtol=0)
    assert part[1, 0] < 1e-5
    assert (value.grad[~VALID] == 0).all()


def test_values_that_mean_nothing_do_not_reach_it():
    value, got = of(0.5, -0.3, float("nan"), 0.2, float("inf"), float("nan"))
    got.sum().backward()
    assert got.isfinite().all()
    assert value.grad.isfinite().all()
    assert value.grad[0, 0, 0, 1] == 0, "below zero there is nothing to follow"


def test_without_key_points_it_is_zero():
    nothing = torch.zeros(2, 1, 2, 3, dtype=torch.bool)
    assert log_utility(torch.full((2, 1, 2, 3), torch.nan), nothing, floor=0.1).tolist() == [0, 0]
