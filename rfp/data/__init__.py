"""Data: posed pairs from folders, image decoding, photometric augmentation."""

from rfp.data.augmentation import PhotometricAugmentation, photometric_augmentation
from rfp.data.homographies import HomographyOptions, HomographyPairs, draw_homography_pairs
from rfp.data.images import read_image, resize_image
from rfp.data.pairs import PairStream, PosedPairs
from rfp.data.photographs import load_photographs
from rfp.data.synthetic import RenderedBatch, RenderedPairs, RenderedSet, SceneOptions, rendered_set
from rfp.records import InputError

__all__ = [
    "HomographyOptions",
    "HomographyPairs",
    "InputError",
    "PairStream",
    "PhotometricAugmentation",
    "PosedPairs",
    "RenderedBatch",
    "RenderedPairs",
    "RenderedSet",
    "SceneOptions",
    "draw_homography_pairs",
    "load_photographs",
    "photometric_augmentation",
    "read_image",
    "rendered_set",
    "resize_image",
]
