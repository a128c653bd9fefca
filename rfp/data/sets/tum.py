"""TUM RGB-D sequences: a folder with ``rgb.txt``, the images it names, and ``groundtruth.txt``.

Relied on, from the benchmark's description of its files: ``rgb.txt`` lists ``timestamp path``, ``groundtruth.txt``
lists ``timestamp tx ty tz qx qy qz qw``, the place and orientation of the colour camera in the world; lines with ``#``
are comments; frames and poses are associated by time, up to 0.02 s apart.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.camera_problems import intrinsics_problem
from rfp.data.image_cache import SizedImage
from rfp.data.images import read_image
from rfp.data.pair_records import PairRecord
from rfp.data.record_pairs import PosedRecordPairs, evenly_spaced
from rfp.data.sets.cameras import Camera, check_image, posed_record
from rfp.data.sets.text_files import parse_numbers, read_names
from rfp.data.sets.trajectories import Trajectory, read_trajectory
from rfp.data.undistortion import PinholeView, check_distortion, opencv_view, to_pinhole
from rfp.records import InputError

PUBLISHED_CAMERAS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "freiburg1": (
        (517.306408, 516.469215, 318.643040, 255.313989),
        (0.262383, -0.953104, -0.005358, 0.002628, 1.163314),
    ),
    "freiburg2": (
        (520.908620, 521.007327, 325.141443, 249.701764),
        (0.231222, -0.784899, -0.003257, -0.000105, 0.917205),
    ),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), (0.0, 0.0, 0.0, 0.0, 0.0)),
}
"""(fx, fy, cx, cy) and OpenCV's (k1, k2, p1, p2, k3) of the colour cameras, by what the sequence's name holds."""


class TUMSequence(PosedRecordPairs):
    """Pairs of frames of one TUM RGB-D sequence, with the poses of its motion capture.

    The pose of a frame is interpolated between its two neighbours in time where both lie within
    ``max_time_difference``, else it is the nearest; a frame without one is left out. Pairs are frames
    ``frame_distances`` apart whose cameras moved far enough and turned little enough to share a view. Images are
    undistorted, so that a pinhole camera describes them.

    Args:
        K: intrinsics of the stored images; by default the published ones of freiburg1, 2 or 3, by the folder's name.
        distortion: OpenCV's k1, k2, p1, p2, k3 that belong to K; none by default where K is given.
        frame_distances: how many frames of ``rgb.txt`` lie between the two of a pair.
        stride: every ``stride``-th frame is the first of pairs.
        min_baseline: metres between the cameras, at least.
        max_rotation_deg: degrees between the cameras, at most.
        max_time_difference: seconds between a frame and a pose.
        max_pairs: at most so many, evenly spaced over the sequence.

    Raises:
        InputError: what is wrong with which line of which file; no published camera; no pair that fits.

    Example:
        >>> TUMSequence("rgbd_dataset_freiburg1_desk", max_pairs=200)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        K: Float[Tensor, "3 3"] | None = None,
        distortion: Sequence[float] | None = None,
        frame_distances: Sequence[int] = (10, 20),
        stride: int = 5,
        min_baseline: float = 0.1,
        max_rotation_deg: float = 40.0,
        max_time_difference: float = 0.02,
        max_pairs: int | None = None,
        image_size: int | None = None,
        cache_mb: float = 1024.0,
    ) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected a TUM sequence with rgb.txt and groundtruth.txt")
        if stride < 1 or not frame_distances or min(frame_distances) < 1:
            raise InputError(f"expected stride and frame_distances of at least 1, got {stride} and {frame_distances}")
        intrinsics, coefficients = _camera(folder, K, distortion)
        check_distortion(coefficients)
        cameras = _cameras(folder, intrinsics, max_time_difference)
        fitting = _fitting_pairs(folder, cameras, frame_distances, stride, min_baseline, max_rotation_deg)
        located = ((str(folder), record) for record in evenly_spaced(fitting, max_pairs))
        super().__init__(located, image_size=image_size, cache_mb=cache_mb, source=folder, read=self._read)
        self._camera = intrinsics, tuple(coefficients)

    def _read(self, path: Path, image_size: int | None) -> SizedImage:
        """The image of a pinhole camera, resized; its scales are those of the stored image, whose size it keeps."""
        image = read_image(path)
        height, width = image.shape[-2:]
        resized, _ = to_pinhole(image, self._pinhole((width, height)), image_size)
        return resized, (resized.shape[-1] / width, resized.shape[-2] / height)

    def _view(self, path: Path, K: Float[Tensor, "3 3"]) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 3"]]:
        return self._cache.load(path, torch.from_numpy(self._pinhole(self.stored_size(path)).K))

    def _pinhole(self, size: tuple[int, int]) -> PinholeView:
        return opencv_view(*self._camera, size)


def _camera(
    folder: Path, K: Float[Tensor, "3 3"] | None, distortion: Sequence[float] | None
) -> tuple[np.ndarray, Sequence[float]]:
    if K is not None:
        intrinsics = K.double().numpy()
        problem = intrinsics_problem(intrinsics)
        if problem:
            raise InputError(problem)
        return intrinsics, (0.0,) * 5 if distortion is None else distortion
    for name, ((fx, fy, cx, cy), coefficients) in PUBLISHED_CAMERAS.items():
        if name in folder.resolve().name:
            return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), coefficients if distortion is None else distortion
    raise InputError(
        f"{folder}: no intrinsics: its name holds none of {', '.join(PUBLISHED_CAMERAS)}; give K= (and distortion=)"
    )


def _cameras(folder: Path, K: np.ndarray, max_time_difference: float) -> list[Camera | None]:
    """The camera of each frame of ``rgb.txt``, or None where no pose is near enough in time."""
    frames = list(_frames(folder))
    trajectory = read_trajectory(folder / "groundtruth.txt")
    cameras = [_at(trajectory, time, path, K, max_time_difference) for time, path in frames]
    if not any(cameras):
        times = [time for time, _ in frames]
        raise InputError(
            f"{folder}: no frame has a pose within {max_time_difference:g} s: rgb.txt goes from {min(times):.3f} to "
            f"{max(times):.3f}, groundtruth.txt from {trajectory.times[0]:.3f} to {trajectory.times[-1]:.3f}; "
            "do they belong together?"
        )
    return cameras


def _frames(folder: Path) -> Iterator[tuple[float, Path]]:
    file = folder / "rgb.txt"
    lines = [(location, line) for location, line in read_names(file) if not line.startswith("#")]
    if not lines:
        raise InputError(f"{file}: expected lines of a time stamp and a path, got none; is the file complete?")
    previous = -np.inf
    for location, line in lines:
        words = line.split(maxsplit=1)
        if len(words) != 2:
            raise InputError(f"{location}: expected a time stamp and a path, got {line[:60]!r}; is the line complete?")
        time = parse_numbers(words[:1], location)[0]
        if time <= previous:
            raise InputError(
                f"{location}: expected a later time stamp than {previous:.6f}, got {time:.6f}; sort the file"
            )
        previous = time
        path = folder / words[1]
        check_image(path, location, folder)
        yield time, path


def _at(trajectory: Trajectory, time: float, path: Path, K: np.ndarray, max_difference: float) -> Camera | None:
    pose = trajectory.at(time, max_difference)
    return None if pose is None else Camera(path, K, pose[0], pose[1])


def _fitting_pairs(
    folder: Path,
    cameras: Sequence[Camera | None],
    frame_distances: Sequence[int],
    stride: int,
    min_baseline: float,
    max_rotation_deg: float,
) -> list[PairRecord]:
    fitting, tried, near, turned = [], 0, 0, 0
    for first in range(0, len(cameras), stride):
        for distance in frame_distances:
            second = first + distance
            camera1, camera2 = cameras[first], cameras[second] if second < len(cameras) else None
            if camera1 is None or camera2 is None:
                continue
            tried += 1
            record = posed_record(camera1, camera2, folder.resolve().name)
            if float(record.t.norm()) < max(min_baseline, 1e-9):
                near += 1
            elif _rotation_deg(record.R) > max_rotation_deg:
                turned += 1
            else:
                fitting.append(record)
    if not tried:
        raise InputError(
            f"{folder}: no two of its {len(cameras)} frames with poses lie {' or '.join(map(str, frame_distances))} "
            "frames apart; give smaller frame_distances, or a longer sequence"
        )
    if not fitting:
        raise InputError(
            f"{folder}: none of {tried} pairs of frames with poses fits: {near} moved less than {min_baseline:g} m, "
            f"{turned} turned more than {max_rotation_deg:g} degrees; change frame_distances, min_baseline or "
            "max_rotation_deg"
        )
    return fitting


def _rotation_deg(R: Float[Tensor, "3 3"]) -> float:
    return float(torch.rad2deg(torch.arccos(((R.trace() - 1) / 2).clamp(-1, 1))))
