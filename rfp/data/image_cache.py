"""Decoded images, kept for the pairs that show them again."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.images import read_image, resize_image
from rfp.geometry.camera import scale_intrinsics

SizedImage = tuple[Float[Tensor, "3 h w"], tuple[float, float]]
"""A resized image and its scales (x, y): resized size over stored size."""

ReadImage = Callable[[Path, int | None], SizedImage]


def read_resized(path: Path, image_size: int | None) -> SizedImage:
    """The image as it is stored, its longer side resized."""
    return resize_image(read_image(path), image_size)


class ImageCache:
    """Decoded, resized images by path, the least recently used ones dropped beyond ``max_bytes``.

    Args:
        read: decodes and resizes an image (path, longer side); one that straightens the lens too, for example.
    """

    def __init__(
        self,
        image_size: int | None,
        *,
        max_bytes: int,
        read: ReadImage = read_resized,
    ) -> None:
        self.read = read
        self.image_size = image_size
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Path, SizedImage] = OrderedDict()
        self._bytes = 0

    def clear(self) -> None:
        """Drop every image."""
        self._entries.clear()
        self._bytes = 0

    def image(self, path: Path) -> SizedImage:
        """The resized image (the cache's own tensor: not to be written to) and its scales (x, y)."""
        entry = self._entries.get(path)
        if entry is not None:
            self._entries.move_to_end(path)
            return entry
        entry = self.read(path, self.image_size)
        size = entry[0].nbytes
        while self._entries and self._bytes + size > self.max_bytes:
            self._bytes -= self._entries.popitem(last=False)[1][0].nbytes
        if size <= self.max_bytes:
            self._entries[path] = entry
            self._bytes += size
        return entry

    def load(self, path: Path, K: Float[Tensor, "3 3"]) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 3"]]:
        """A copy of the resized image, and the intrinsics of the stored image brought to it; float32."""
        image, (scale_x, scale_y) = self.image(path)
        return image.clone(), scale_intrinsics(K, scale_x, scale_y).to(torch.float32)
