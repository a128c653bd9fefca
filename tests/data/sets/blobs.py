"""Views of three coloured points, one in each channel: a pair's truth can be checked against its pixels alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

POINTS = np.array([[-0.5, -0.3, 4.0], [0.6, 0.4, 4.6], [-0.1, 0.45, 3.6]])
"""World points; the first is red, the second green, the third blue."""


@dataclass(frozen=True)
class BlobView:
    K: np.ndarray
    R: np.ndarray
    t: np.ndarray
    """X_camera = R X_world + t."""
    width: int
    height: int

    @property
    def matrix(self) -> np.ndarray:
        """World to camera, 4×4."""
        return np.vstack([np.column_stack([self.R, self.t]), [0, 0, 0, 1]])

    def image(self, distortion=(0.0,) * 5) -> np.ndarray:
        """(h, w, 3) uint8 RGB."""
        import cv2

        rotation, _ = cv2.Rodrigues(self.R)
        pixels, _ = cv2.projectPoints(POINTS, rotation, self.t, self.K, np.array(distortion))
        return render_blobs(pixels[:, 0], self.width, self.height)


def render_blobs(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(h, w, 3) uint8: a Gaussian spot at one pixel position for each channel."""
    x, y = np.arange(width), np.arange(height)[:, None]
    spots = [np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 3.0**2)) for u, v in pixels]
    return (np.stack(spots, axis=-1) * 255).round().astype(np.uint8)


def blob_views() -> list[BlobView]:
    """Four views of different cameras and sizes, which all see the points well inside."""
    views = []
    for index, (width, height, focal) in enumerate(
        [(160, 120, 150.0), (140, 150, 160.0), (160, 120, 150.0), (200, 130, 170.0)]
    ):
        K = np.array([[focal, 0, width / 2 - 4.3], [0, focal * 1.02, height / 2 + 3.1], [0, 0, 1]])
        centre = np.array([0.45 * index - 0.5, 0.1 * index**2 - 0.2, 0.15 * index])
        R = _turn(2, 0.07 * index) @ _turn(0, -centre[1] / 4.2) @ _turn(1, -centre[0] / 4.2)  # looks at the points
        views.append(BlobView(K, R, -R @ centre, width, height))
    return views


def relative_matrix(view1: BlobView, view2: BlobView) -> np.ndarray:
    """X2 = T X1, 4×4."""
    return view2.matrix @ np.linalg.inv(view1.matrix)


def write_image(path: Path, pixels: np.ndarray) -> Path:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, pixels[..., ::-1])[1]  # imwrite cannot write every name on every system
    path.write_bytes(encoded.tobytes())
    return path


def centroids(image: Tensor) -> Tensor:
    """(3, 2) where the spot of each channel lies, in pixels."""
    weight = (image.double() - 0.03).clamp(min=0)  # without the noise that JPEG leaves in the dark
    x = torch.arange(image.shape[-1], dtype=torch.float64)
    y = torch.arange(image.shape[-2], dtype=torch.float64)
    total = weight.sum((1, 2))
    return torch.stack([(weight.sum(1) * x).sum(1) / total, (weight.sum(2) * y).sum(1) / total], dim=-1)


def disagreement_px(pair, *, R: Tensor | None = None, t: Tensor | None = None) -> float:
    """How far the spots of the two images are from meeting in front of both cameras, in pixels; large is wrong.

    For each spot the depths that bring λ1 R x1 + t nearest to λ2 x2 are found; what remains, as an angle times the
    focal length, is zero for the true pose. Depths that are not positive count as wrong by the whole image.
    """
    R, t = (pair.R if R is None else R).double(), (pair.t if t is None else t).double()
    rays = []
    for image, K in ((pair.image1, pair.K1), (pair.image2, pair.K2)):
        homogeneous = torch.cat([centroids(image), torch.ones(3, 1, dtype=torch.float64)], dim=1)
        rays.append(homogeneous @ torch.linalg.inv(K.double()).T)
    worst = 0.0
    for x1, x2 in zip(*rays):
        system = torch.stack([R @ x1, -x2], dim=1)
        depths = torch.linalg.lstsq(system, -t[:, None]).solution[:, 0]
        if not bool((depths > 0).all()):
            return float(max(pair.image1.shape))
        gap = (system @ depths + t).norm() / depths[1]
        worst = max(worst, float(gap * pair.K2[0, 0]))
    return worst


def assert_pose_is_true(pair, *, tolerance_px: float = 0.05) -> None:
    """The pair's pose and intrinsics explain its pixels, and the inverse pose, or the other sign of t, does not."""
    assert disagreement_px(pair) < tolerance_px
    assert disagreement_px(pair, R=pair.R.T, t=-pair.R.T @ pair.t) > 1
    assert disagreement_px(pair, t=-pair.t) > 1


def _turn(axis: int, angle: float) -> np.ndarray:
    i, j = [k for k in range(3) if k != axis]
    R = np.eye(3)
    R[i, i] = R[j, j] = np.cos(angle)
    R[i, j], R[j, i] = -np.sin(angle), np.sin(angle)
    return R
