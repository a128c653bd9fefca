"""Data: posed pairs from folders, image decoding, photometric augmentation."""

from rfp.data.augmentation import PhotometricAugmentation, photometric_augmentation
from rfp.data.images import read_image, resize_image
from rfp.data.pairs import PosedPairs
from rfp.records import InputError

__all__ = [
    "InputError",
    "PhotometricAugmentation",
    "PosedPairs",
    "photometric_augmentation",
    "read_image",
    "resize_image",
]
