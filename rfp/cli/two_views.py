"""The epipolar geometry of two images: the true one of a folder of posed pairs, or one of the matches."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Bool, Float
from torch import Tensor

from rfp.data.pair_records import PairRecord, read_distinct_records
from rfp.geometry.eight_point import eight_point
from rfp.records import InputError


@dataclass(frozen=True)
class TruePose:
    """Cameras of the images as stored and the pose between them: ``X2 = R X1 + t``. float64."""

    K1: Float[Tensor, "3 3"]
    K2: Float[Tensor, "3 3"]
    R: Float[Tensor, "3 3"]
    t: Float[Tensor, "3"]


def find_truth(folder: Path, image1: Path, image2: Path) -> TruePose:
    """The pose of the record that is about these two image files, in either order.

    Raises:
        InputError: no such folder, a record that cannot be used, or none about these images.
    """
    wanted = (image1.resolve(), image2.resolve())
    for record in read_distinct_records(folder):
        found = (record.image1.resolve(), record.image2.resolve())
        if found == wanted:
            return TruePose(record.K1, record.K2, record.R, record.t)
        if found == wanted[::-1]:
            return _turned(record)
    raise InputError(f"{folder / 'pairs.json'}: no record of {image1} and {image2}; give two images of one pair")


def fundamental_of_inliers(
    xy1_px: Float[Tensor, "M 2"], xy2_px: Float[Tensor, "M 2"], inliers: Bool[Tensor, "M"]
) -> Float[Tensor, "3 3"] | None:
    """The fundamental matrix that fits the inliers best, float64; None where they determine none."""
    F, valid = eight_point(xy1_px[inliers].double(), xy2_px[inliers].double())
    return F if bool(valid) else None


def _turned(record: PairRecord) -> TruePose:
    """The same pose from image 2 to image 1: X1 = Rᵀ X2 - Rᵀ t."""
    return TruePose(record.K2, record.K1, record.R.T, -record.R.T @ record.t)
