"""Noise to signal of Gaussian vectors, whose mean and covariance are known."""

import math

import pytest
import torch

from rfp.reinforce.gradient_noise import noise_to_signal

P = 30


def gaussian(n: int, seed: int, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mean + deviation * torch.randn(n, P, generator=generator, dtype=torch.float64)


MEAN = torch.linspace(-0.5, 1.0, P, dtype=torch.float64)
DEVIATION = torch.linspace(0.2, 2.0, P, dtype=torch.float64)
SIGNAL, NOISE = float(MEAN.square().sum()), float(DEVIATION.square().sum())


def test_signal_and_noise_are_unbiased_with_few_rows_and_the_square_of_the_mean_is_not():
    found = [noise_to_signal(gaussian(4, seed, MEAN, DEVIATION)) for seed in range(1500)]
    signal = torch.stack([each.signal for each in found])
    noise = torch.stack([each.noise for each in found])
    assert abs(signal.mean() - SIGNAL) < 4 * signal.std() / len(found) ** 0.5
    assert abs(noise.mean() - NOISE) < 4 * noise.std() / len(found) ** 0.5
    naive = torch.stack([gaussian(4, seed, MEAN, DEVIATION).mean(0).square().sum() for seed in range(1500)])
    assert naive.mean() - SIGNAL == pytest.approx(NOISE / 4, rel=0.1)


def test_the_ratio_lies_within_its_jackknife_error_and_the_error_is_as_large_as_the_scatter():
    found = [noise_to_signal(gaussian(200, seed, MEAN, DEVIATION)) for seed in range(200)]
    ratio, error = torch.stack([each.ratio for each in found]), torch.stack([each.error for each in found])
    assert float(ratio.mean()) == pytest.approx(NOISE / SIGNAL, rel=0.05)
    assert 0.8 < float(error.mean() / ratio.std()) < 1.25
    signal, error = torch.stack([each.signal for each in found]), torch.stack([each.signal_error for each in found])
    assert 0.8 < float(error.mean() / signal.std()) < 1.25


def test_a_mean_of_so_many_rows_points_as_much_along_the_gradient_as_beside_it():
    """What the ratio promises, on means of as many Gaussian vectors as it says."""
    ratio = float(noise_to_signal(gaussian(20_000, 0, MEAN, DEVIATION)).ratio)
    means = MEAN + DEVIATION / math.sqrt(ratio) * gaussian(4000, 1, torch.zeros(P), torch.ones(P))
    unit = MEAN / MEAN.norm()
    along = means @ unit
    beside = means - along[:, None] * unit
    squares = beside.square().sum(dim=1).mean() + (along - MEAN.norm()).square().mean()
    assert float(squares / MEAN.square().sum()) == pytest.approx(1.0, rel=0.05)


def test_without_a_signal_the_ratio_is_inf_or_has_no_error_and_the_signal_is_within_its_own():
    zero = torch.zeros(P, dtype=torch.float64)
    found = [noise_to_signal(gaussian(50, seed, zero, DEVIATION)) for seed in range(100)]
    assert all(math.isinf(each.ratio) == (float(each.signal) <= 0) for each in found)
    assert not any(math.isnan(each.error) or math.isnan(each.ratio) for each in found)
    beyond = [abs(float(each.signal)) > 2 * float(each.signal_error) for each in found]
    assert sum(beyond) < 20


def test_gradients_that_are_all_zero_have_no_nan():
    found = noise_to_signal(torch.zeros(5, P))
    assert [math.isnan(float(value)) for value in vars(found).values()] == [False] * 5
    assert math.isinf(found.ratio)


def test_the_noise_of_single_gradients_behind_means_of_many():
    """Eight means of sixteen each: with their squared norms the ratio is that of single ones."""
    single = gaussian(40 * 16, 3, MEAN, DEVIATION).unflatten(0, (40, 16))
    found = noise_to_signal(single.mean(dim=1), squared_norms=single.square().sum(dim=-1).mean(dim=1))
    assert float(found.ratio) == pytest.approx(NOISE / SIGNAL, rel=0.2)
    assert float(noise_to_signal(single.mean(dim=1)).ratio) == pytest.approx(NOISE / SIGNAL / 16, rel=0.2)
