"""Data: posed pairs from folders, image decoding, augmentation."""

from rfp.data.augmentation import PhotometricAugmentation, photometric_augmentation
from rfp.data.from_colmap import pairs_from_colmap
from rfp.data.from_photographs import homographies_from_photographs, rendered_from_photographs
from rfp.data.from_trajectory import VideoCamera, pairs_from_trajectory
from rfp.data.geometric_augmentation import GeometricAugmentation
from rfp.data.homographies import HomographyOptions, HomographyPairs, draw_homography_pairs
from rfp.data.images import read_image, resize_image
from rfp.data.pair_selection import PairChoice
from rfp.data.pair_splitting import SplitFolders, split_pairs
from rfp.data.pairs import PairStream, PosedPairs
from rfp.data.photographs import load_photographs
from rfp.data.synthetic import (
    ReliefBatch,
    ReliefOptions,
    ReliefPairs,
    RenderedBatch,
    RenderedPairs,
    RenderedSet,
    SceneOptions,
    rendered_set,
)
from rfp.records import InputError

__all__ = [
    "GeometricAugmentation",
    "HomographyOptions",
    "HomographyPairs",
    "InputError",
    "PairChoice",
    "PairStream",
    "PhotometricAugmentation",
    "PosedPairs",
    "ReliefBatch",
    "ReliefOptions",
    "ReliefPairs",
    "RenderedBatch",
    "RenderedPairs",
    "RenderedSet",
    "SceneOptions",
    "SplitFolders",
    "VideoCamera",
    "draw_homography_pairs",
    "homographies_from_photographs",
    "load_photographs",
    "pairs_from_colmap",
    "pairs_from_trajectory",
    "photometric_augmentation",
    "read_image",
    "rendered_from_photographs",
    "rendered_set",
    "resize_image",
    "split_pairs",
]
