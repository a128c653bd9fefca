"""Real roots against NumPy's eigenvalues."""

import math

import numpy as np
import pytest
import torch

from rfp.geometry.polynomial_roots import real_roots


def numpy_real_roots(coefficients: np.ndarray) -> np.ndarray:
    roots = np.roots(coefficients[::-1])
    return np.sort(roots[np.abs(roots.imag) < 1e-9 * np.maximum(1, np.abs(roots))].real)


def count_missed(coefficients: torch.Tensor) -> tuple[int, int, int]:
    """Real roots by NumPy, those of them that are not found within 1e-8, and roots found that do not exist."""
    roots, valid = real_roots(coefficients)
    total = missed = invented = 0
    for column in range(coefficients.shape[1]):
        truth = numpy_real_roots(coefficients[:, column].numpy())
        found = roots[:, column][valid[:, column]].numpy()
        total += len(truth)
        invented += max(0, len(found) - len(truth))
        if len(truth):
            gaps = np.abs(truth[:, None] - found[None]) / (1 + truth[:, None] ** 2)
            missed += int((gaps.min(axis=1, initial=np.inf) > 1e-8).sum())
    return total, missed, invented


@pytest.mark.parametrize("kind", ["equal coefficients", "invariant to rotation"])
def test_fewer_than_one_real_root_in_a_thousand_is_missed(kind):
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(11, 2000, generator=generator, dtype=torch.float64)
    if kind == "invariant to rotation":  # 2.9 real roots on average, at angles arctan z that are uniform
        coefficients *= torch.tensor([math.sqrt(math.comb(10, power)) for power in range(11)])[:, None]
    total, missed, invented = count_missed(coefficients)
    assert total > 4000
    assert missed <= total / 1000
    assert invented == 0


@pytest.mark.parametrize(("gap", "share"), [(1e-1, 1), (1e-2, 1), (1e-3, 0.99), (1e-4, 0.97)])
def test_close_pairs_of_roots_are_separated(gap, share):
    generator = torch.Generator().manual_seed(1)
    single = torch.tan((torch.rand(3, 200, generator=generator, dtype=torch.float64) - 0.5) * 2.8)
    pair = torch.tan((torch.rand(1, 200, generator=generator, dtype=torch.float64) - 0.5) * 2.8)
    roots = torch.cat((single, pair, pair + gap * (1 + pair**2))).sort(dim=0).values
    nearest = (roots.diff(dim=0) / (1 + roots[1:] ** 2)).amin(dim=0)
    coefficients = [np.poly(column)[::-1] for column in roots.T.numpy()]
    coefficients = [np.convolve(np.convolve(c, [2.0, 1.0, 1.0]), [1.0, 0.5, 0.3]) for c in coefficients]
    _, valid = real_roots(torch.from_numpy(np.stack(coefficients, axis=1)))
    clear = nearest > 0.5 * gap
    assert clear.sum() > 100
    assert (valid.sum(dim=0)[clear] == 5).double().mean() >= share


def test_roots_come_in_ascending_order_and_gaps_are_zero():
    coefficients = torch.randn(11, 300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    roots, valid = real_roots(coefficients)
    assert not roots[~valid].any()
    for column in range(300):
        found = roots[:, column][valid[:, column]]
        assert torch.equal(found, found.sort().values)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 7])
def test_any_degree_is_solved(degree):
    roots = torch.linspace(-1.3, 2, degree, dtype=torch.float64)
    coefficients = torch.from_numpy(np.poly(roots.numpy())[::-1].copy())[:, None]
    found, valid = real_roots(coefficients)
    assert valid.all()
    torch.testing.assert_close(found[:, 0], roots, atol=1e-9, rtol=0)


def test_degenerate_polynomials_have_no_root_and_finite_values():
    coefficients = torch.zeros(11, 4, dtype=torch.float64)
    coefficients[0, 1] = 1  # a constant
    coefficients[3, 2] = torch.nan
    coefficients[3, 3] = torch.inf
    roots, valid = real_roots(coefficients)
    assert not valid.any()
    assert torch.isfinite(roots).all()


def test_the_scale_of_a_polynomial_does_not_matter():
    coefficients = torch.randn(11, 50, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    roots, valid = real_roots(coefficients)
    scaled_roots, scaled_valid = real_roots(coefficients * 2.0**40)
    assert torch.equal(roots, scaled_roots)
    assert torch.equal(valid, scaled_valid)
