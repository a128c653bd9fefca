"""Images of cameras with radial and tangential distortion → images of pinhole cameras."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rfp.records import InputError


class Lens:
    """The distortion of a lens: OpenCV's (k1, k2, p1, p2, k3), in normalised coordinates, so the same at every size."""

    def __init__(self, coefficients: Sequence[float]) -> None:
        if len(coefficients) not in (4, 5) or not np.isfinite(coefficients).all():
            raise InputError(f"expected 4 or 5 finite distortion coefficients (k1 k2 p1 p2 k3), got {coefficients}")
        self.coefficients = np.array(coefficients, dtype=np.float64)
        self._maps: dict[tuple, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def undistort(
        self, image: Float[Tensor, "3 h w"], K: Float[Tensor, "3 3"]
    ) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 3"]]:
        """The image, of the same size, as a pinhole camera would have seen it, and that camera's K.

        K is chosen so that the whole of the new image was seen: no black borders, whose edges would attract key points.
        """
        if not self.coefficients.any():
            return image, K
        import cv2

        map_x, map_y, new_K = self._map(K.double().numpy(), (image.shape[-1], image.shape[-2]))
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        pixels = cv2.remap(pixels, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), torch.from_numpy(new_K).to(K.dtype)

    def _map(self, K: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        key = (size, K.tobytes())
        if key not in self._maps:
            import cv2

            new_K, _ = cv2.getOptimalNewCameraMatrix(K, self.coefficients, size, alpha=0)
            maps = cv2.initUndistortRectifyMap(K, self.coefficients, np.eye(3), new_K, size, cv2.CV_32FC1)
            self._maps[key] = (maps[0], maps[1], new_K)
        return self._maps[key]
