"""Common points of two conics that were drawn through known ones."""

import torch

from rfp.geometry.conics import common_points, inner_product, orthogonal_pair


def line_pair(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Entries (6, T) of the conic that two lines (3, T) make."""
    (a, b, c), (d, e, f) = first, second
    return torch.stack((a * d, b * e, c * f, (a * e + b * d) / 2, (a * f + c * d) / 2, (b * f + c * e) / 2))


def mixed(first: torch.Tensor, second: torch.Tensor, seed: int) -> torch.Tensor:
    """Two random combinations (6, 2, T) of two conics: none of them is degenerate."""
    weight = torch.randn(2, 2, first.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return first[:, None] * weight[0] + second[:, None] * weight[1]


def nearest(points: torch.Tensor, valid: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Sine of the angle between each true point (3, n, T) and the nearest valid one."""
    points, truth = torch.nn.functional.normalize(points, dim=0), torch.nn.functional.normalize(truth, dim=0)
    sine = torch.linalg.cross(points[:, None], truth[:, :, None].expand(-1, -1, 4, -1), dim=0).norm(dim=0)
    return torch.where(valid, sine, torch.inf).amin(dim=1)


def test_four_points_are_found():
    truth = torch.randn(3, 4, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, c, d = truth.unbind(1)

    def line(first, second):
        return torch.linalg.cross(first, second, dim=0)

    conics = mixed(line_pair(line(a, b), line(c, d)), line_pair(line(a, c), line(b, d)), 1)
    points, valid = common_points(conics)
    assert valid.all()
    assert nearest(points, valid, truth).quantile(0.99) < 1e-9


def test_the_outermost_of_one_real_root_finds_two_points():
    """Circles of radius 1 whose centres are less than 2 apart, and of which the other two points are at infinity."""
    distance = torch.linspace(0.1, 1.9, 200, dtype=torch.float64)
    one, zero = torch.ones_like(distance), torch.zeros_like(distance)
    unit_circle = torch.stack((one, one, -one, zero, zero, zero))
    shifted = torch.stack((one, one, distance.square() - 1, zero, -distance, zero))
    points, valid = common_points(mixed(unit_circle, shifted, 2))
    assert (valid.sum(dim=0) == 2).all()
    height = (1 - distance.square() / 4).sqrt()
    truth = torch.stack((torch.stack((distance / 2, height, one)), torch.stack((distance / 2, -height, one))), dim=1)
    assert nearest(points, valid, truth).max() < 1e-7
    assert nearest(points, valid, truth).quantile(0.9) < 1e-12


def test_disjoint_circles_have_no_common_point():
    distance = torch.linspace(2.1, 9, 200, dtype=torch.float64)
    one, zero = torch.ones_like(distance), torch.zeros_like(distance)
    unit_circle = torch.stack((one, one, -one, zero, zero, zero))
    shifted = torch.stack((one, one, distance.square() - 1, zero, -distance, zero))
    points, valid = common_points(mixed(unit_circle, shifted, 3))
    assert not valid.any()
    assert torch.isfinite(points).all()


def test_conics_that_vanish_yield_finite_values():
    assert torch.isfinite(common_points(torch.zeros(6, 2, 5))[0]).all()


def test_the_pair_is_orthonormal_even_at_the_poles():
    poles = torch.tensor([[0.0, 0, 1], [0, 0, -1], [1, 0, 0], [0, 1, -0.0]], dtype=torch.float64).T
    vector = torch.randn(3, 100, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    vector = torch.cat((torch.nn.functional.normalize(vector, dim=0), poles), dim=1)
    basis = torch.cat((orthogonal_pair(vector), vector[:, None]), dim=1)
    gram = inner_product(basis[:, :, None], basis[:, None])
    torch.testing.assert_close(gram, torch.eye(3).double()[..., None].expand_as(gram), atol=1e-14, rtol=0)
