"""The small solver against torch."""

import torch

from rfp.geometry.linear_systems import solve_symmetric


def test_the_small_solver_agrees_with_torch():
    generator = torch.Generator().manual_seed(6)
    J = torch.randn(10, 5, 9, generator=generator, dtype=torch.float64)
    A, b = J @ J.mT, torch.randn(10, 5, generator=generator, dtype=torch.float64)
    system = torch.cat((A, b[..., None]), dim=-1)
    torch.testing.assert_close(solve_symmetric(system, damping=0.0), torch.linalg.solve(A, b))


def test_a_singular_system_yields_finite_values():
    assert not solve_symmetric(torch.zeros(3, 5, 6)).any()
