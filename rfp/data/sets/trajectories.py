"""Trajectories in TUM's format: lines of ``timestamp tx ty tz qx qy qz qw``, camera to world."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rfp.data.sets.text_files import parse_numbers, read_lines
from rfp.records import InputError

UNIT_TOLERANCE = 1e-2
"""Largest deviation of ‖q‖ from 1 that passes: files round q to 4 digits, and other numbers are off by far more."""


@dataclass(frozen=True)
class Trajectory:
    """Places and orientations of a camera in the world, by time."""

    times: Float[np.ndarray, "n"]
    """Seconds, ascending."""
    centres: Float[np.ndarray, "n 3"]
    quaternions: Float[np.ndarray, "n 4"]
    """(x, y, z, w), unit: X_world = R(q) X_camera + centre."""

    def at(self, time: float, max_difference: float) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]] | None:
        """(R, t), ``X_camera = R @ X_world + t``, at a time; None where the nearest pose is too far.

        Between two poses that are both near enough: the place is interpolated linearly, the orientation at constant
        speed about one axis. Else the nearest pose is taken as it is.
        """
        after = int(np.searchsorted(self.times, time))
        near = [
            k for k in (after - 1, after) if 0 <= k < len(self.times) and abs(self.times[k] - time) <= max_difference
        ]
        if not near:
            return None
        if len(near) == 2:
            share = (time - self.times[near[0]]) / (self.times[near[1]] - self.times[near[0]])
            centre = (1 - share) * self.centres[near[0]] + share * self.centres[near[1]]
            quaternion = _interpolate(self.quaternions[near[0]], self.quaternions[near[1]], share)
        else:
            centre, quaternion = self.centres[near[0]], self.quaternions[near[0]]
        R = rotation_matrix(quaternion).T
        return R, -R @ centre


def read_trajectory(path: Path) -> Trajectory:
    """The trajectory of a file.

    Raises:
        InputError: the first line with other than 8 finite numbers, a quaternion that is not normalised, or a time
            stamp that is not later than the one before.
    """
    rows: list[list[float]] = []
    for location, words in read_lines(path):
        if len(words) != 8:
            raise InputError(
                f"{location}: expected 8 columns (timestamp tx ty tz qx qy qz qw), got {len(words)}; "
                "is the line complete?"
            )
        row = parse_numbers(words, location)
        norm = float(np.linalg.norm(row[4:]))
        if abs(norm - 1) > UNIT_TOLERANCE:
            raise InputError(
                f"{location}: expected a unit quaternion (qx qy qz qw), got one of length {norm:.4g}; normalise it, or "
                "are the columns in another order?"
            )
        if rows and row[0] <= rows[-1][0]:
            raise InputError(
                f"{location}: expected a time stamp later than {rows[-1][0]:.6f}, got {row[0]:.6f}; sort the file"
            )
        rows.append(row)
    table = np.array(rows)
    quaternions = table[:, 4:] / np.linalg.norm(table[:, 4:], axis=1, keepdims=True)
    return Trajectory(table[:, 0], table[:, 1:4], quaternions)


def rotation_matrix(quaternion: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3 3"]:
    """The rotation of a unit quaternion (x, y, z, w): ``R v = q v q*``.

    >>> rotation_matrix(np.array([0.0, 0.0, 0.5**0.5, 0.5**0.5])).round(9) @ [1.0, 0.0, 0.0]
    array([0., 1., 0.])
    """
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _interpolate(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """The quaternion ``share`` of the way on the shorter arc (Shoemake 1985)."""
    cosine = float(first @ second)
    if cosine < 0:  # q and -q are one rotation
        second, cosine = -second, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:
        mixed = (1 - share) * first + share * second
    else:
        mixed = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)
    return mixed / np.linalg.norm(mixed)
