"""Essential matrices from five points, batched, on the device.

D. Nistér, An efficient solution to the five-point relative pose problem, PAMI 2004; the section and equation numbers
below are his. Two things differ: eliminations are Householder reflections (no pivoting, hence no data-dependent order),
and the roots of his degree-10 polynomial are bracketed by those of its derivatives instead of Sturm sequences.

Inside, arrays are structures of arrays with the T samples **last**: a few thousand samples make every operation one
pass over long contiguous rows. Small matrix products and factorisations of torch would be slower.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.householder import DEGENERATE, null_space, reflector
from rfp.geometry.polynomial_roots import real_roots
from rfp.geometry.samples import samples_last

# Monomials of x, y, z of degree ≤ 3 as exponents. The first ten are eliminated; the last six of them are those of
# Nistér's table after his Gauss-Jordan elimination, rows e to j.
_DISCARDED = ((3, 0, 0), (0, 3, 0), (2, 1, 0), (1, 2, 0))
_ROWS_E_TO_J = ((2, 0, 1), (2, 0, 0), (0, 2, 1), (0, 2, 0), (1, 1, 1), (1, 1, 0))
_IN_X_AND_Y = ((1, 0, 2), (1, 0, 1), (1, 0, 0), (0, 1, 2), (0, 1, 1), (0, 1, 0))
_IN_Z_ALONE = ((0, 0, 3), (0, 0, 2), (0, 0, 1), (0, 0, 0))
_CUBIC = _DISCARDED + _ROWS_E_TO_J + _IN_X_AND_Y + _IN_Z_ALONE
_LINEAR = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0))
_QUADRATIC_PAIRS = tuple((a, b) for a in range(4) for b in range(a, 4))


def five_point(
    x1: Float[Tensor, "*B 5 2"], x2: Float[Tensor, "*B 5 2"], *, solver_dtype: torch.dtype = torch.float64
) -> tuple[Float[Tensor, "*B 10 3 3"], Bool[Tensor, "*B 10"]]:
    """Up to ten essential matrices through five matches, and a mask of those that are solutions.

    Each satisfies ``x2ᵀ E x1 = 0`` for the five matches of normalised points, ``det E = 0`` and
    ``E Eᵀ E - ½ trace(E Eᵀ) E = 0``, with ``‖E‖ = 1``. A sample without a real solution, or a degenerate one (repeated
    points, points on a line, no translation), has no valid slot; values under a false mask are zero. Degenerate to the
    rounding of float64, that is: points that were rounded to float32, or a ``solver_dtype`` of float32, leave solutions
    of the rounding, which only other matches refute. Not differentiable.

    Of two real roots that nearly coincide both are missed now and then (see ``real_roots``).

    Args:
        solver_dtype: of the algebra inside; the result has the dtype of ``x1``. In float32 the elimination loses the
            true matrix in some of the samples.

    D. Nistér, An efficient solution to the five-point relative pose problem, PAMI 2004.

    >>> x1 = torch.rand(4, 5, 2)
    >>> E, valid = five_point(x1, torch.rand(4, 5, 2))
    >>> E.shape, valid.shape
    (torch.Size([4, 10, 3, 3]), torch.Size([4, 10]))
    """
    batch = x1.shape[:-2]
    first = samples_last(x1, solver_dtype)
    second = samples_last(x2, solver_dtype)
    E, valid = five_point_planes(first, second)
    E = E.permute(2, 1, 0).to(x1.dtype)
    return E.reshape(*batch, 10, 3, 3), valid.permute(1, 0).reshape(*batch, 10)


@torch.no_grad()
def five_point_planes(
    x1: Float[Tensor, "5 2 T"], x2: Float[Tensor, "5 2 T"]
) -> tuple[Float[Tensor, "9 10 T"], Bool[Tensor, "10 T"]]:
    """``five_point`` in the layout that it computes in: row-major entries of E first, then slots, samples last."""
    finite = (torch.isfinite(x1) & torch.isfinite(x2)).all(dim=0).all(dim=0)
    x1 = torch.where(finite, x1, torch.zeros_like(x1))
    x2 = torch.where(finite, x2, torch.zeros_like(x2))
    basis, independent = null_space(epipolar_rows(x1, x2))  # X, Y, Z, W of eq. 8
    table, eliminated = _eliminate(_constraints(basis))
    rows = _rows_in_z(table)
    z, is_root = real_roots(_determinant(rows))
    return _essential_from_roots(rows, z, is_root & (independent & eliminated & finite), basis)


def epipolar_rows(x1: Float[Tensor, "m 2 T"], x2: Float[Tensor, "m 2 T"]) -> Float[Tensor, "9 m T"]:
    """The transposed system: column p holds the coefficients of E in ``x2ᵀ E x1 = 0`` for match p (eq. 7)."""
    u1, v1, u2, v2 = x1[:, 0], x1[:, 1], x2[:, 0], x2[:, 1]
    return torch.stack((u2 * u1, u2 * v1, u2, v2 * u1, v2 * v1, v2, u1, v1, torch.ones_like(u1)))


def _constraints(basis: Tensor) -> Tensor:
    """The ten cubic constraints on ``E = x X + y Y + z Z + W`` as (20 monomials, 10 constraints, T) (eqs. 5 and 6)."""
    samples = basis.shape[-1]
    E = basis.reshape(4, 3, 3, samples)
    table = basis.new_empty((20, 10, samples))
    _trace_constraint(E, table[:, :9].unflatten(1, (3, 3)))
    _determinant_constraint(E, table[:, 9])
    return table


def _cubic_terms() -> list[tuple[int, int, int, bool]]:
    """For each product of a quadratic and a linear monomial: both indices, that of the cubic, and whether it is new."""
    terms, seen = [], set()
    for quadratic, (a, b) in enumerate(_QUADRATIC_PAIRS):
        for linear in range(4):
            exponents = tuple(i + j + k for i, j, k in zip(_LINEAR[a], _LINEAR[b], _LINEAR[linear]))
            cubic = _CUBIC.index(exponents)  # type: ignore[arg-type]
            terms.append((quadratic, linear, cubic, cubic not in seen))
            seen.add(cubic)
    return terms


_CUBIC_TERMS = _cubic_terms()


def _trace_constraint(E: Tensor, table: Tensor) -> None:
    """Nine rows of ``E Eᵀ E - ½ trace(E Eᵀ) E = (E Eᵀ - ½ trace(E Eᵀ) I) E`` into ``table`` (20, 3, 3, T)."""
    gram = E.new_empty((10, *E.shape[1:]))
    for quadratic, (a, b) in enumerate(_QUADRATIC_PAIRS):
        product = E[a][:, None, 0] * E[b][None, :, 0]
        product.addcmul_(E[a][:, None, 1], E[b][None, :, 1]).addcmul_(E[a][:, None, 2], E[b][None, :, 2])
        if a == b:
            gram[quadratic] = product
        else:
            torch.add(product, product.transpose(0, 1), out=gram[quadratic])
    half_trace = ((gram[:, 0, 0] + gram[:, 1, 1]) + gram[:, 2, 2]) * 0.5
    for index in range(3):
        gram[:, index, index] -= half_trace
    for quadratic, linear, cubic, is_new in _CUBIC_TERMS:
        for inner in range(3):
            left, right = gram[quadratic][:, inner, None], E[linear][None, inner]
            if is_new and inner == 0:
                torch.mul(left, right, out=table[cubic])
            else:
                table[cubic].addcmul_(left, right)


def _determinant_constraint(E: Tensor, table: Tensor) -> None:
    """The row of ``det E = 0`` into ``table`` (20, T): the first row of E times the cross product of the others."""
    second, third = E[:, 1], E[:, 2]
    second_rolled = torch.stack((second.roll(-1, dims=1), second.roll(-2, dims=1)))
    third_rolled = torch.stack((third.roll(-1, dims=1), third.roll(-2, dims=1)))
    cross = second_rolled[0][:, None] * third_rolled[1][None]
    cross.addcmul_(second_rolled[1][:, None], third_rolled[0][None], value=-1)
    minors = torch.stack([cross[a, a] if a == b else cross[a, b] + cross[b, a] for a, b in _QUADRATIC_PAIRS])
    products = []
    for linear in range(4):
        product = minors[:, 0] * E[linear, 0, 0]
        products.append(product.addcmul_(minors[:, 1], E[linear, 0, 1]).addcmul_(minors[:, 2], E[linear, 0, 2]))
    for quadratic, linear, cubic, is_new in _CUBIC_TERMS:
        if is_new:
            table[cubic] = products[linear][quadratic]
        else:
            table[cubic] += products[linear][quadratic]


def _eliminate(table: Tensor) -> tuple[Tensor, Tensor]:
    """Rows e to j of the reduced table as (6, 10, T): the last ten columns, after the first ten became the identity.

    Householder reflections make the table triangular; only its last six rows are then substituted back.
    """
    diagonal = []
    for step in range(9):
        remaining = table[step:, step:].transpose(0, 1)
        vector, beta, alpha, products = reflector(remaining, remaining[:, 0])
        remaining[:, 1:].addcmul_(vector[:, None], (products[1:] * beta)[None], value=-1)
        table[step, step] = alpha
        diagonal.append(alpha.abs())
    diagonal.append(table[9, 9].abs())
    pivots = torch.stack(diagonal)
    regular = pivots.amin(dim=0) > DEGENERATE * pivots.amax(dim=0)

    rows: list[Tensor] = []
    for row in range(9, 3, -1):
        right = table[10:, row].clone()
        for offset, solved in enumerate(reversed(rows)):
            right.addcmul_(table[row + 1 + offset, row], solved, value=-1)
        pivot = table[row, row]
        rows.append(right / torch.where(pivot == 0, torch.ones_like(pivot), pivot))
    return torch.stack(rows[::-1]), regular


def _rows_in_z(table: Tensor) -> Tensor:
    """The 3×3 matrix B(z) as (3 rows, 13, T): ``k = e - z f, l = g - z h, m = i - z j`` (eqs. 11 to 13).

    Coefficients ascending in z: four of x, four of y, five of the constant.
    """
    even, odd = table[0::2], table[1::2]
    zero = torch.zeros_like(even[:, :1])
    columns = []
    for first, last in ((0, 3), (3, 6), (6, 10)):
        ascending = torch.cat((even[:, first:last].flip(1), zero), dim=1)
        shifted = torch.cat((zero, odd[:, first:last].flip(1)), dim=1)
        columns.append(ascending - shifted)
    return torch.cat(columns, dim=1)


def _determinant(rows: Tensor) -> Tensor:
    """Coefficients (11, T), ascending, of ``n(z) = det B(z)`` (eqs. 22 to 28), expanded along the column of x."""
    x, y, constant = rows[:, :4], rows[:, 4:8], rows[:, 8:]
    following, preceding = (1, 2, 0), (2, 0, 1)
    y_next, y_previous = torch.stack([y[i] for i in following]), torch.stack([y[i] for i in preceding])
    one_next, one_previous = (
        torch.stack([constant[i] for i in following]),
        torch.stack([constant[i] for i in preceding]),
    )
    minors = rows.new_zeros((3, 8, rows.shape[-1]))
    for power in range(4):
        minors[:, power : power + 5].addcmul_(y_next[:, power, None], one_previous)
        minors[:, power : power + 5].addcmul_(y_previous[:, power, None], one_next, value=-1)
    products = rows.new_zeros((3, 11, rows.shape[-1]))
    for power in range(4):
        products[:, power : power + 8].addcmul_(x[:, power, None], minors)
    return (products[0] + products[1]) + products[2]


def _essential_from_roots(rows: Tensor, z: Tensor, valid: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """``E = x X + y Y + z Z + W`` at norm 1 as (9, 10, T), zero where not valid, and what is valid and defined.

    (x, y, 1) spans the null space of B(z): the longest of the three cross products of two rows of B(z).
    """
    values = []
    for first, last in ((0, 4), (4, 8), (8, 13)):
        value = rows[:, last - 1, None].expand(3, *z.shape)
        for power in range(last - 2, first - 1, -1):
            value = torch.addcmul(rows[:, power, None], value, z)
        values.append(value)
    a, b, c = values  # each (3 rows, 10, T)
    best, best_norm = _cross(a, b, c, 0, 1)
    for i, j in ((1, 2), (2, 0)):
        cross, norm = _cross(a, b, c, i, j)
        # A selection, exact at both ends: ``torch.where`` takes three times as long on the CPU.
        best = torch.lerp(best, cross, (norm > best_norm).to(norm.dtype))
        best_norm = torch.maximum(best_norm, norm)
    x, y, one = best
    # The basis is orthonormal, so this is ‖E‖². Where it is no positive number, the scale becomes 0.
    squared = (x * x).addcmul_(y, y).addcmul_(one * one, z * z + 1)
    scale = squared.rsqrt_().nan_to_num_(nan=0.0, posinf=0.0).mul_(valid)
    x, y, one = best.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    weights = (x * scale, y * scale, one * z * scale, one * scale)
    E = weights[0] * basis[0][:, None]
    for weight, matrix in zip(weights[1:], basis[1:]):
        E.addcmul_(weight, matrix[:, None])
    return E, scale > 0


def _cross(a: Tensor, b: Tensor, c: Tensor, i: int, j: int) -> tuple[Tensor, Tensor]:
    """The cross product of rows i and j of the matrices with columns a, b, c, and its squared length."""
    cross = torch.stack((b[i] * c[j], c[i] * a[j], a[i] * b[j]))
    cross -= torch.stack((c[i] * b[j], a[i] * c[j], b[i] * a[j]))
    return cross, (cross[0] * cross[0]).addcmul_(cross[1], cross[1]).addcmul_(cross[2], cross[2])
