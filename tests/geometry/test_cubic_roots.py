"""Real roots of cubics against NumPy's eigenvalues."""

import numpy as np
import pytest
import torch

from rfp.geometry.cubic_roots import cubic_roots


def random_cubics(n: int, seed: int = 0) -> torch.Tensor:
    """Leading coefficients of the order of the others."""
    coefficients = torch.randn(4, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    coefficients[3] = torch.copysign(coefficients[3].abs() + 0.5, coefficients[3])
    return coefficients


def test_the_real_roots_are_those_of_numpy():
    coefficients = random_cubics(2000)
    roots, valid = cubic_roots(coefficients)
    for column, found, there in zip(coefficients.T.numpy(), roots.T.numpy(), valid.T.numpy()):
        expected = np.roots(column[::-1])
        expected = np.sort(expected[np.abs(expected.imag) < 1e-10].real)
        assert there.sum() == len(expected)
        np.testing.assert_allclose(np.sort(found[there]), expected, rtol=1e-7, atol=1e-9)
    assert set(valid.sum(dim=0).tolist()) == {1, 3}


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("other", [-2.0, 0.3, 1.5])
def test_close_pairs_of_roots_are_separated(gap, other):
    place = torch.linspace(-1, 1, 101, dtype=torch.float64)
    expected = torch.stack((place, place + gap, torch.full_like(place, other)))
    clear = ((place - other).abs() > 0.1)[None]
    sums = expected.sum(dim=0), expected.roll(1, dims=0).mul(expected).sum(dim=0), expected.prod(dim=0)
    roots, valid = cubic_roots(torch.stack((-sums[2], sums[1], -sums[0], torch.ones_like(place))))
    assert valid[:, clear[0]].all()
    difference = (roots.sort(dim=0).values - expected.sort(dim=0).values)[:, clear[0]]
    assert difference.abs().max() < 1e-3 * gap


@pytest.mark.parametrize(
    "special", [(0, 0, 0, 2), (0, 0, -1, 1), (0, -1, 0, 1), (1, 0, 0, 1), (-1, 3, -3, 1), (0, 1, 0, 1)]
)
def test_special_cubics_are_solved(special):
    roots, valid = cubic_roots(torch.tensor(special, dtype=torch.float64)[:, None])
    expected = np.roots(special[::-1])
    expected = expected[np.abs(expected.imag) < 1e-3].real
    assert valid.any()
    for root in roots[valid].tolist():
        assert np.abs(expected - root).min() < 1e-4
    for root in expected:
        assert np.abs(roots[valid].numpy() - root).min() < 1e-4


def test_what_is_no_cubic_has_no_root_and_finite_values():
    coefficients = random_cubics(5)
    coefficients[:, 0] = 0
    coefficients[3, 1] = 0
    coefficients[1, 2] = torch.nan
    coefficients[0, 3] = torch.inf
    roots, valid = cubic_roots(coefficients)
    assert valid.any(dim=0).tolist() == [False, False, False, False, True]
    assert torch.isfinite(roots).all()
    assert not roots[~valid].any()


@pytest.mark.parametrize("count", [1, 3, 17, 100])
def test_roots_do_not_depend_on_the_cubics_beside(count):
    coefficients = random_cubics(200)
    roots, valid = cubic_roots(coefficients)
    part, part_valid = cubic_roots(coefficients[:, 50 : 50 + count].contiguous())
    assert torch.equal(part, roots[:, 50 : 50 + count])
    assert torch.equal(part_valid, valid[:, 50 : 50 + count])
