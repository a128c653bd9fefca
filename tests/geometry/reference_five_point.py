"""A plain NumPy twin of the five-point solver for one sample: another elimination, another way to the roots.

The null space comes from an SVD, the constraints' coefficients from values at random points, and the solutions from the
eigenvectors of multiplication by x in the quotient ring (H. Stewénius et al., Recent developments on direct relative
orientation, 2006).
"""

import numpy as np

_CUBICS = [(3, 0, 0), (2, 1, 0), (1, 2, 0), (0, 3, 0), (2, 0, 1), (1, 1, 1), (0, 2, 1), (1, 0, 2), (0, 1, 2), (0, 0, 3)]
_BASIS = [(2, 0, 0), (1, 1, 0), (0, 2, 0), (1, 0, 1), (0, 1, 1), (0, 0, 2), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)]


def _monomials(points: np.ndarray, exponents: list[tuple[int, int, int]]) -> np.ndarray:
    return np.stack([np.prod(points ** np.array(powers), axis=1) for powers in exponents], axis=1)


def _constraints(E: np.ndarray) -> np.ndarray:
    cubic = E @ E.T @ E - 0.5 * np.trace(E @ E.T) * E
    return np.append(cubic.ravel(), np.linalg.det(E))


def five_point(x1: np.ndarray, x2: np.ndarray) -> list[np.ndarray]:
    """All real essential matrices of norm 1 through the five matches (5, 2)."""
    ray1, ray2 = (np.column_stack((x, np.ones(5))) for x in (x1, x2))
    system = np.stack([np.outer(b, a).ravel() for a, b in zip(ray1, ray2, strict=True)])
    X, Y, Z, W = np.linalg.svd(system)[2][5:].reshape(4, 3, 3)
    points = np.random.default_rng(0).normal(size=(200, 3))
    values = np.stack([_constraints(x * X + y * Y + z * Z + W) for x, y, z in points])
    coefficients = np.linalg.lstsq(_monomials(points, _CUBICS + _BASIS), values, rcond=None)[0].T
    reduced = -np.linalg.solve(coefficients[:, :10], coefficients[:, 10:])  # each cubic in the basis
    action = np.zeros((10, 10))
    for row, (a, b, c) in enumerate(_BASIS):
        product = (a + 1, b, c)
        if product in _CUBICS:
            action[row] = reduced[_CUBICS.index(product)]
        else:
            action[row, _BASIS.index(product)] = 1
    _, vectors = np.linalg.eig(action)
    found = []
    for vector in (vectors / vectors[9]).T:
        x, y, z = vector[6:9]
        if np.abs(vector.imag).max() < 1e-7 * np.abs(vector).max():
            E = x.real * X + y.real * Y + z.real * Z + W
            found.append(E / np.linalg.norm(E))
    return found
