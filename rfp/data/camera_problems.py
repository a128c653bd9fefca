"""Everything that can be wrong with the numbers of a camera, in the words of every reader of them."""

import numpy as np
from jaxtyping import Float

Matrix = Float[np.ndarray, "3 3"]
Vector = Float[np.ndarray, "3"]

ROTATION_TOLERANCE = 1e-3
"""Largest entry of RᵀR - I that passes: files round R to 3–9 digits, and a wrong matrix is off by far more."""


def intrinsics_problem(K: Matrix, key: str = "K") -> str | None:
    """What keeps K from being ``[[fx, skew, cx], [0, fy, cy], [0, 0, 1]]`` with positive focal lengths."""
    if not np.isfinite(K).all():
        return finite_problem(key, K)
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        return f"{key}: expected positive focal lengths on the diagonal, got {K[0, 0]:g} and {K[1, 1]:g}; correct it"
    if (K[1, 0], K[2, 0], K[2, 1], K[2, 2]) != (0, 0, 0, 1):
        return f"{key}: expected [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}; is it transposed?"
    return None


def rotation_problem(R: Matrix, key: str = "R") -> str | None:
    """What keeps R from being a rotation."""
    if not np.isfinite(R).all():
        return finite_problem(key, R)
    defect = rotation_defect(R)
    if defect > ROTATION_TOLERANCE:
        return f"{key}: not a rotation: expected RᵀR = I within {ROTATION_TOLERANCE}, it is off by {defect:.3g}; fix it"
    if np.linalg.det(R) < 0:
        return f"{key}: a reflection (determinant -1), not a rotation; flip the sign of one axis of the camera"
    return None


def finite_problem(key: str, values: np.ndarray) -> str | None:
    """A message where values hold NaN or infinity."""
    if np.isfinite(values).all():
        return None
    return f"{key}: expected finite numbers, got NaN or infinity among {values.ravel().tolist()}; compute it again"


def rotation_defect(R: Matrix) -> float:
    """The largest entry of RᵀR - I: 0 for a rotation or a reflection."""
    return float(np.abs(R.T @ R - np.eye(3)).max())
