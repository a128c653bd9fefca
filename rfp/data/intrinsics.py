"""Whether intrinsics can belong to an image."""

from jaxtyping import Float
from torch import Tensor

MIDDLE = (0.3, 0.7)
"""Of either side of an image, where principal points lie."""
FOCAL_LENGTHS = (0.2, 20.0)
"""In longer sides of the image: from beyond any fisheye lens to a telescope."""


def intrinsics_doubt(K: Float[Tensor, "3 3"], size: tuple[int, int]) -> str | None:
    """Why K belongs to another size of the image, most likely: what is far from usual.

    A principal point outside the middle of 0.3 to 0.7 of both sides: that of an image half or twice as large lies at
    a quarter, or at the far corner. Cameras and their undistorted images have it between 0.4 and 0.6.

    Args:
        K: Of the stored image, pixel (0, 0) being the centre of the top-left pixel.
        size: (width, height) of the stored image.

    Example:
        >>> import torch
        >>> intrinsics_doubt(torch.tensor([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]), (320, 240))
        'principal point at (320, 240) in an image of 320×240; are the intrinsics those of another size?'
    """
    width, height = size
    x, y, focal = K[0, 2].item(), K[1, 2].item(), K[0, 0].item()
    shortest, longest = FOCAL_LENGTHS
    across, down = (x + 0.5) / width, (y + 0.5) / height
    nearest, farthest = MIDDLE
    if not (nearest <= across <= farthest and nearest <= down <= farthest):
        oddity = f"principal point at ({x:.0f}, {y:.0f}) in an image of {width}×{height}"
    elif not shortest <= focal / max(width, height) <= longest:
        oddity = f"focal length of {focal:.0f} px in an image of {width}×{height}"
    else:
        return None
    return f"{oddity}; are the intrinsics those of another size?"
