"""The small solver and the inverse iteration against torch."""

import pytest
import torch

from rfp.geometry.linear_systems import smallest_eigenvector, solve_symmetric


def test_the_small_solver_agrees_with_torch():
    generator = torch.Generator().manual_seed(6)
    J = torch.randn(10, 5, 9, generator=generator, dtype=torch.float64)
    A, b = J @ J.mT, torch.randn(10, 5, generator=generator, dtype=torch.float64)
    system = torch.cat((A, b[..., None]), dim=-1)
    torch.testing.assert_close(solve_symmetric(system, damping=0.0), torch.linalg.solve(A, b))


def test_a_singular_system_yields_finite_values():
    assert not solve_symmetric(torch.zeros(3, 5, 6)).any()


def positive_matrices(n: int, ratio: float, seed: int = 0) -> torch.Tensor:
    """9×9 with eigenvalues of four decades, of which the smallest is ``ratio`` times the next."""
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(n, 9, 9, generator=generator, dtype=torch.float64))
    values = (10 ** (-4 * torch.rand(n, 9, generator=generator, dtype=torch.float64))).sort(dim=1).values
    values[:, 0] = ratio * values[:, 1]
    M = (Q * values[:, None]) @ Q.mT
    return 10 * (M + M.mT)


@pytest.mark.parametrize("ratio", [0.0, 1e-6, 0.3, 0.8])
def test_the_smallest_eigenvector_is_that_of_torch(ratio):
    matrix = positive_matrices(200, ratio)
    vector = smallest_eigenvector(matrix)
    expected = torch.linalg.eigh(matrix).eigenvectors[..., 0]
    largest = expected.abs().argmax(dim=1, keepdim=True)
    torch.testing.assert_close(vector, expected * expected.gather(1, largest).sign(), atol=1e-11, rtol=0)
    second = torch.linalg.eigh(matrix).eigenvectors[..., 1]
    assert (vector * second).sum(dim=1).abs().max() < 1e-11


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,)])
def test_eigenvectors_do_not_depend_on_the_batch(batch):
    matrix = positive_matrices(6, 0.1)
    together = smallest_eigenvector(matrix.expand(*batch, 6, 9, 9))
    assert together.shape == (*batch, 6, 9)
    for i in range(6):
        alone = smallest_eigenvector(matrix[i])
        assert torch.equal(together[..., i, :], alone.expand(*batch, 9))


def test_the_gradient_of_an_eigenvector_is_numeric():
    matrix = positive_matrices(3, 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda matrix: smallest_eigenvector((matrix + matrix.mT) / 2), matrix)


def test_singular_matrices_have_finite_unit_eigenvectors_and_gradients():
    ones = torch.ones(4, 4)
    matrix = torch.stack((torch.zeros(4, 4), torch.eye(4), ones, 1e-30 * ones, 1e30 * torch.eye(4))).requires_grad_()
    vector = smallest_eigenvector(matrix)
    assert torch.equal(vector, smallest_eigenvector(matrix.detach()))
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(5))
    assert ((ones @ vector.detach()[2:4, :, None]).abs() < 1e-5).all()
    vector.sum().backward()
    assert torch.isfinite(matrix.grad).all()
