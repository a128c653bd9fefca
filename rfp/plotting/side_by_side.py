"""Two images side by side in one system of drawn pixels, at the height of the first."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

GAP = 0.02
"""Between the two images, as a share of their widths."""

LUMA = (0.299, 0.587, 0.114)
PALE = 0.12
"""How far a grey image is lightened, so that dark lines on it can be seen too."""


@dataclass(frozen=True)
class SideBySide:
    """Image 1 with its top-left corner at (0, 0), image 2 to its right and as high: portrait and landscape fit."""

    image1: Float[Tensor, "3 h1 w1"]
    image2: Float[Tensor, "3 h2 w2"]

    @property
    def height(self) -> int:
        return self.image1.shape[-2]

    @property
    def scale2(self) -> float:
        """Drawn pixels a pixel of image 2."""
        return self.image1.shape[-2] / self.image2.shape[-2]

    @property
    def left2(self) -> float:
        width1, width2 = self._widths
        return width1 + GAP * (width1 + width2)

    @property
    def width(self) -> float:
        return self.left2 + self._widths[1]

    @property
    def _widths(self) -> tuple[float, float]:
        return float(self.image1.shape[-1]), self.image2.shape[-1] * self.scale2

    def place(self, xy_px: Float[Tensor, "N 2"], image: int) -> Float[Tensor, "N 2"]:
        """Where points of image 1 or 2 are drawn: a pixel's centre is half a pixel from its edges."""
        drawn = xy_px.detach().cpu() + 0.5
        if image == 1:
            return drawn
        return drawn * self.scale2 + drawn.new_tensor([self.left2, 0.0])

    def show(self, axes: Axes) -> None:
        """Draw both images, grey: the colours are those of what is drawn on them."""
        for image, left, scale in ((self.image1, 0.0, 1.0), (self.image2, self.left2, self.scale2)):
            height, width = scale * image.shape[-2], scale * image.shape[-1]
            extent = (left, left + width, height, 0.0)
            axes.imshow(
                grey_pixels(image).numpy(), extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="antialiased"
            )
        axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        axes.set_axis_off()


def grey_pixels(image: Float[Tensor, "3 h w"]) -> Float[Tensor, "h w"]:
    """The luma of an RGB image, lightened, on the CPU."""
    luma = torch.einsum("chw,c->hw", image.detach().cpu().float().clamp(0, 1), torch.tensor(LUMA))
    return PALE + (1 - PALE) * luma
