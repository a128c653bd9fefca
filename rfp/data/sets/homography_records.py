"""Pairs of images of a plane: the record, the pair, and everything that can be wrong with a homography."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.record_pairs import RecordPairs
from rfp.records import InputError

SINGULAR = 1e-6
"""Smallest ratio of singular values of H, pixels in thousands, that passes: real homographies lie above 0.01."""


@dataclass(frozen=True)
class HomographyPair:
    """Two images of one plane, or from one place, RGB in [0, 1], and what takes the pixels of one to the other."""

    image1: Float[Tensor, "3 h1 w1"]
    image2: Float[Tensor, "3 h2 w2"]
    H: Float[Tensor, "3 3"]
    """float64; ``(x2, y2, 1) ~ H (x1, y1, 1)`` in pixels of the images as they are here (resized), pixel (0, 0) being
    the centre of the top-left pixel. The third coordinate is positive in the middle of image 1."""
    scene: str = ""
    name: str = ""
    """What an error message calls this pair."""


@dataclass(frozen=True)
class HomographyRecord:
    """A pair on disk: H belongs to the pixels of the images as stored."""

    image1: Path
    image2: Path
    H: Float[Tensor, "3 3"]
    scene: str
    name: str

    def reversed(self) -> "HomographyRecord":
        """The same pair with image 2 first: H⁻¹."""
        return replace(self, image1=self.image2, image2=self.image1, H=torch.linalg.inv(self.H))

    def same_truth(self, other: "HomographyRecord") -> bool:
        """Whether both take the corners of 1000 by 1000 pixels to the same points within a tenth of a pixel."""
        corners = self.H.new_tensor([[0, 0, 1], [1000, 0, 1], [0, 1000, 1], [1000, 1000, 1]])
        one, two = corners @ self.H.T, corners @ other.H.T
        return torch.allclose(one[:, :2] / one[:, 2:], two[:, :2] / two[:, 2:], rtol=0, atol=0.1)


class HomographyRecordPairs(RecordPairs[HomographyRecord, HomographyPair]):
    """Pairs of images with homographies, from records; H follows the resizing of both images."""

    def _item(self, record: HomographyRecord) -> HomographyPair:
        image1, scales1 = self._cache.image(record.image1)
        image2, scales2 = self._cache.image(record.image2)
        H = resized_homography(record.H, scales1, scales2)
        middle = H.new_tensor([(image1.shape[-1] - 1) / 2, (image1.shape[-2] - 1) / 2, 1.0])
        H = torch.where((H @ middle)[2] < 0, -H, H)
        return HomographyPair(image1.clone(), image2.clone(), H, record.scene, record.name)

    def _check(self, record: HomographyRecord) -> None:
        width, height = self.stored_size(record.image1)
        self.stored_size(record.image2)  # decodes it
        middle = torch.tensor([(width - 1) / 2, (height - 1) / 2, 1.0], dtype=torch.float64)
        if float((record.H @ middle)[2]) == 0:
            raise InputError(f"{record.name}: H takes the middle of image 1 to infinity; remove it")


def resized_homography(
    H: Float[Tensor, "3 3"], scales1: tuple[float, float], scales2: tuple[float, float]
) -> Float[Tensor, "3 3"]:
    """``S2 H S1⁻¹`` with S: ``x → (x + ½) s - ½``, in float64: H of the images resized by (x, y) scales."""
    return _scaling(*scales2) @ H.double() @ _scaling(1 / scales1[0], 1 / scales1[1])


def homography_problem(H: np.ndarray) -> str | None:
    """What keeps H from being an invertible 3×3 matrix of finite numbers."""
    if H.shape != (3, 3):
        return f"H: expected 3×3 numbers, got {H.shape}; is it complete?"
    if not np.isfinite(H).all():
        return "H: expected finite numbers, got NaN or infinity; compute it again"
    pixels = np.diag([1000.0, 1000.0, 1.0])
    singular_values = np.linalg.svd(np.linalg.inv(pixels) @ H @ pixels, compute_uv=False)
    if not singular_values[2] > SINGULAR * singular_values[0]:
        return "H: singular, so it has no inverse and takes the image to a line; correct it or remove the pair"
    return None


def homography_record(image1: Path, image2: Path, H: np.ndarray, scene: str) -> HomographyRecord:
    """A record of float64 numbers with the name that messages use."""
    name = f"{scene}: {image1.name} {image2.name}"
    return HomographyRecord(image1, image2, torch.from_numpy(np.asarray(H, np.float64)), scene, name)


def _scaling(scale_x: float, scale_y: float) -> Float[Tensor, "3 3"]:
    return torch.tensor(
        [[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]], dtype=torch.float64
    )
