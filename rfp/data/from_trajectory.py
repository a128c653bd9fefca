"""A posed video (trajectory, intrinsics, images with time stamps) → a folder of posed pairs."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from rfp.data.images import read_image
from rfp.data.intrinsics import intrinsics_doubt
from rfp.data.pair_selection import OverlapLimit, PairChoice, candidates_of_views, choose_pairs
from rfp.data.pair_writing import ImageFormat
from rfp.data.photographs import IMAGE_SUFFIXES
from rfp.data.posed_images import ImageWriting, PosedImage, Progress, write_posed_pairs
from rfp.data.sets.text_files import parse_numbers, read_lines
from rfp.data.sets.trajectories import Trajectory, read_trajectory
from rfp.data.source_images import find_sources
from rfp.data.undistortion import PinholeView, check_distortion, opencv_view
from rfp.records import InputError

LARGEST_NUMBER = 3000
"""Frames whose pairs are looked at: every two are, which takes minutes beyond."""


@dataclass(frozen=True)
class VideoCamera:
    """The one camera of a video, in pixels of the stored images; pixel (0, 0) is the centre of the top-left pixel."""

    intrinsics: tuple[float, float, float, float]
    """fx fy cx cy."""
    distortion: tuple[float, ...] = ()
    """OpenCV's k1 k2 p1 p2 (k3); none for a pinhole."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in self.intrinsics) or min(self.intrinsics[:2]) <= 0:
            raise InputError(f"expected intrinsics fx fy cx cy with fx and fy above 0, got {self.intrinsics}")
        if self.distortion:
            check_distortion(self.distortion)

    @property
    def K(self) -> np.ndarray:
        fx, fy, cx, cy = self.intrinsics
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)


@dataclass(frozen=True)
class TrajectoryPairs:
    """What was written."""

    num_pairs: int
    num_images: int
    num_candidates: int
    """Pairs of images that overlap at the given depth."""
    num_without_pose: int
    """Images that were left out because the trajectory has no pose near their time."""


def pairs_from_trajectory(
    trajectory_file: str | Path,
    images: str | Path,
    output: str | Path,
    *,
    camera: VideoCamera,
    scene_depth: float,
    choice: PairChoice | None = None,
    min_overlap: float = 0.3,
    every: int = 1,
    max_time_difference: float = 0.02,
    image_size: int | None = None,
    scene: str = "",
    image_format: ImageFormat = "png",
    progress: Progress = iter,
) -> TrajectoryPairs:
    """Choose pairs of a posed video, undistort and resize their images, and write ``output`` as posed pairs.

    No points are known, so overlap and parallax are those of a scene whose surfaces all lie at ``scene_depth``.

    Args:
        trajectory_file: Lines ``timestamp tx ty tz qx qy qz qw``, the camera in the world (X_world = R(q) X + t), as
            TUM's tools, evo and ORB-SLAM write them.
        images: A list, lines ``timestamp path`` with paths relative to it (TUM's ``rgb.txt``), or a folder of images
            whose names are their time stamps.
        scene_depth: Usual distance to what the camera sees, in the units of the trajectory.
        min_overlap: Share of a view that the other one of a pair sees, at least.
        every: Takes every n-th image only: neighbours in a video are nearly the same.
        max_time_difference: In units of the time stamps; the pose of an image is interpolated between the two poses
            around it if both are so near, else the nearest is taken if it is, and else the image is left out.
        image_size: Longer side of the written images; None keeps their size.
        scene: Of every record; the name of ``output`` by default.

    Raises:
        InputError: what is wrong with which line or image, or why no pair qualifies.

    Example:
        >>> camera = VideoCamera((525.0, 525.0, 319.5, 239.5))
        >>> pairs_from_trajectory("poses.txt", "rgb.txt", "data/desk", camera=camera, scene_depth=1.5) # doctest: +SKIP
    """
    choice = PairChoice() if choice is None else choice
    writing = ImageWriting("the first image", image_size, image_format, scene, "overlap")
    if not (0 < scene_depth < math.inf and 0 < min_overlap <= 1 and every >= 1 and max_time_difference >= 0):
        raise InputError(
            "expected scene_depth above 0, min_overlap in (0, 1], every of at least 1 and max_time_difference of at "
            f"least 0, got {scene_depth:g}, {min_overlap:g}, {every} and {max_time_difference:g}"
        )
    stamped = list(_stamped_images(Path(images)))[::every]
    trajectory = read_trajectory(Path(trajectory_file))
    view = _view(camera, stamped[0][1])
    posed, num_without_pose = _posed_images(stamped, trajectory, view, max_time_difference, Path(images))
    R, centre = np.stack([image.R for image in posed]), np.stack([image.centre for image in posed])
    candidates = candidates_of_views(
        R, centre, view.K, view.size, depth=scene_depth, max_rotation_deg=choice.max_rotation_deg
    )
    fail = f"share less than {min_overlap:g} of a view at depth {scene_depth:g} or turn by more than "
    fail += f"{choice.max_rotation_deg:g}°"
    limit = OverlapLimit(min_overlap, fail, "--min-overlap, --max-rotation-deg, --scene-depth")
    chosen = candidates.take(choose_pairs(candidates, len(posed), limit, choice))
    num_images = write_posed_pairs(output, posed, chosen, writing, progress=progress)
    return TrajectoryPairs(len(chosen.first), num_images, len(candidates.first), num_without_pose)


def _stamped_images(images: Path) -> Iterator[tuple[float, Path, str]]:
    """Time stamp, file and name of each image, in the order of time.

    Raises:
        InputError: a line or a name that is none, an image that is not there or listed twice, no images.
    """
    if images.is_dir():
        stamped = list(_stamped_in_folder(images))
    else:
        stamped = list(_stamped_in_list(images))
    stamped.sort(key=lambda entry: entry[0])
    for before, after in pairwise(stamped):
        if before[0] == after[0]:
            raise InputError(f"{images}: {before[2]} and {after[2]} have the same time stamp; give each image once")
    yield from stamped


def _stamped_in_list(file: Path) -> Iterator[tuple[float, Path, str]]:
    lines: dict[str, float] = {}
    for location, words in read_lines(file):
        if len(words) < 2:
            raise InputError(f"{location}: expected a time stamp and a path, got {' '.join(words)!r:.60}")
        name = " ".join(words[1:])
        if Path(name).is_absolute():
            raise InputError(f"{location}: expected a path relative to {file.parent}, got {name}; write it relative")
        if name in lines:
            raise InputError(f"{location}: {name} is listed twice; give each image once")
        lines[name] = parse_numbers(words[:1], location)[0]
    sources = find_sources(lines, file.parent, leave_out=f"take them out of {file.name}")
    yield from ((time, sources[name], name) for name, time in lines.items())


def _stamped_in_folder(folder: Path) -> Iterator[tuple[float, Path, str]]:
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise InputError(f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}), found none")
    for path in paths:
        try:
            yield float(path.stem), path, path.name
        except ValueError:
            raise InputError(
                f"{path}: expected a time stamp as the name, got {path.stem!r}; give a list of lines 'timestamp path'"
            ) from None


def _view(camera: VideoCamera, first: Path) -> PinholeView:
    """The camera, which has the size of the first image: the others have to agree with it."""
    height, width = read_image(first).shape[-2:]
    x, y = camera.intrinsics[2:]
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"{first}: the principal point ({x:g}, {y:g}) lies outside the image of {width}×{height}; "
            "are the intrinsics those of another size?"
        )
    doubt = intrinsics_doubt(torch.from_numpy(camera.K), (width, height))
    if doubt:
        warnings.warn(f"{first}: {doubt}", stacklevel=3)
    return opencv_view(camera.K, camera.distortion, (width, height))


def _posed_images(
    stamped: list[tuple[float, Path, str]],
    trajectory: Trajectory,
    view: PinholeView,
    max_time_difference: float,
    images: Path,
) -> tuple[list[PosedImage], int]:
    posed = []
    for time, path, name in stamped:
        pose = trajectory.at(time, max_time_difference)
        if pose is not None:
            R, t = pose
            posed.append(PosedImage(name, path, view, R, -R.T @ t))
    if not posed:
        raise InputError(
            f"{images}: none of the {len(stamped)} images has a pose within {max_time_difference:g} of its time: they "
            f"go from {stamped[0][0]:.6f} to {stamped[-1][0]:.6f}, the poses from {trajectory.times[0]:.6f} to "
            f"{trajectory.times[-1]:.6f}; do they belong together, in the same unit?"
        )
    if len(posed) > LARGEST_NUMBER:
        raise InputError(f"{images}: {len(posed)} posed images, more than {LARGEST_NUMBER}; take fewer (--every 10)")
    return posed, len(stamped) - len(posed)
