"""Householder reflections and null spaces of many small systems at once, on their device.

Arrays are structures of arrays: rows and columns first, systems **last**, so that every operation runs over long
contiguous rows of independent systems. Reflections need no pivoting, hence no data-dependent order.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DEGENERATE = 1e-11
"""A system is degenerate when elimination meets a pivot this small beside the largest one: well above the rounding that
exact degeneracies leave in float64, and far below the pivots of general samples."""


def reflector(matrix: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The Householder reflection ``I - β v vᵀ`` that turns ``column`` into ``(α, 0, …, 0)``, and ``vᵀ matrix``.

    ``matrix`` is (rows, columns, T) and holds ``column`` as its column 0, so that one pass finds the norm as well.
    """
    products = column[0] * matrix[0]
    for row in range(1, column.shape[0]):
        products.addcmul_(column[row], matrix[row])
    norm_squared = products[0]
    alpha = -torch.copysign(norm_squared.sqrt(), column[0])
    vector = column.clone()
    vector[0] -= alpha
    scale = torch.addcmul(norm_squared, alpha, column[0], value=-1)  # ½ vᵀv > 0 unless the column is zero
    beta = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
    return vector, beta, alpha, products.addcmul_(alpha, matrix[0], value=-1)


def null_space(
    system: Float[Tensor, "n m T"],
) -> tuple[Float[Tensor, "n_minus_m n T"], Bool[Tensor, "T"]]:
    """Orthonormal bases of the vectors that are orthogonal to the m columns of each system, m < n.

    The last n - m columns of Q in a QR decomposition. The mask is false where the columns are dependent. The system is
    overwritten.
    """
    rows, columns = system.shape[:2]
    reflectors, diagonal = [], []
    for step in range(columns):
        remaining = system[step:, step:]
        vector, beta, alpha, products = reflector(remaining, remaining[:, 0])
        remaining[:, 1:].addcmul_(vector[:, None], (products[1:] * beta)[None], value=-1)
        reflectors.append((vector, beta))
        diagonal.append(alpha.abs())

    basis = system.new_zeros((rows, rows - columns, system.shape[-1]))
    for column in range(rows - columns):
        basis[columns + column, column] = 1
    for step in range(columns - 1, -1, -1):
        vector, beta = reflectors[step]
        products = vector[0] * basis[step]
        for row in range(1, rows - step):
            products.addcmul_(vector[row], basis[step + row])
        basis[step:].addcmul_(vector[:, None], (products * beta)[None], value=-1)
    pivots = torch.stack(diagonal)
    return basis.transpose(0, 1).contiguous(), pivots.amin(dim=0) > DEGENERATE * pivots.amax(dim=0)
