"""Does the pose of a record agree with its images: matches that agree with each other, beside its epipolar lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from rfp.data.images import read_image, resize_image
from rfp.data.pair_records import PairRecord
from rfp.evaluation import fundamental_inliers, match_images
from rfp.geometry.camera import scale_intrinsics
from rfp.geometry.epipolar import sampson_distance
from rfp.geometry.pose import fundamental_from_pose
from rfp.plotting import DrawnEpipolarLines
from rfp.rollout import FeatureNetwork

IMAGE_SIZE = 640

LARGEST_MEDIAN_PX = 2.0
"""Right poses leave a few tenths of a pixel of a resized image, those of another convention three or more."""

FEWEST_MATCHES = 50
"""A couple of dozen out of a thousand agree with some fundamental matrix by chance."""


@dataclass(frozen=True)
class PoseCheck:
    """How far verified matches are from the epipolar geometry that a record gives."""

    pair: str
    num_matches: int
    """That agree with one fundamental matrix, whatever the record says."""
    median_px: float | None
    """Median Sampson distance to the record's geometry, in pixels of the longer side of 640; None without matches."""

    def __str__(self) -> str:
        if self.median_px is None or self.num_matches < FEWEST_MATCHES:
            return f"{self.pair}: {self.num_matches} verified matches, too few to judge the pose"
        told = f"{self.pair}: {self.num_matches} verified matches, median {self.median_px:.2g} px off the given pose"
        if self.median_px <= LARGEST_MEDIAN_PX:
            return told
        return f"warning: {told}; expected below {LARGEST_MEDIAN_PX:g}: is it X2 = R X1 + t, and K of the stored image?"


@dataclass(frozen=True)
class DrawnPoseCheck:
    """A check and what its picture shows."""

    pose: PoseCheck
    drawn: DrawnEpipolarLines


def check_pose(network: FeatureNetwork, record: PairRecord) -> DrawnPoseCheck:
    """The matches of a record's images, verified without its pose, beside the epipolar lines of its pose."""
    image1, scale1 = resize_image(read_image(record.image1), IMAGE_SIZE)
    image2, scale2 = resize_image(read_image(record.image2), IMAGE_SIZE)
    xy1_px, xy2_px = match_images(network, image1, image2)
    inliers = fundamental_inliers(xy1_px, xy2_px, max_error_px=1.0)
    xy1_px, xy2_px = xy1_px[inliers], xy2_px[inliers]
    F = fundamental_from_pose(
        scale_intrinsics(record.K1, *scale1), scale_intrinsics(record.K2, *scale2), record.R, record.t
    )
    errors = sampson_distance(xy1_px.double(), xy2_px.double(), F).sqrt()
    check = PoseCheck(record.name, len(errors), errors.median().item() if len(errors) else None)
    return DrawnPoseCheck(check, DrawnEpipolarLines(image1, image2, xy1_px, xy2_px, F, title=record.name))


def evenly_spaced(records: Sequence[PairRecord], count: int) -> list[PairRecord]:
    """At most ``count`` of them, from the first to near the last."""
    if len(records) <= count:
        return list(records)
    return [records[len(records) * number // count] for number in range(count)]
