"""A small COLMAP model with images that show its points: spots at exactly known places, seen through a lens."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 320, 240
SPOT_SIGMA_PX = 1.7
NAMES = ("left/größe.png", "left/山.png", "middle.png", "right/4.png", "right/5.png")


@dataclass
class SpotModel:
    model: Path
    images: Path
    reconstruction: object
    names: tuple[str, ...]

    def write(self, *, text: bool = False, legacy: bool = False) -> Path:
        """The model on disk, in another format; legacy: as before rigs and frames."""
        folder = self.model.parent / f"model-{text}-{legacy}"
        folder.mkdir()
        (self.reconstruction.write_text if text else self.reconstruction.write_binary)(str(folder))
        if legacy:
            for path in [*folder.glob("rigs.*"), *folder.glob("frames.*")]:
                path.unlink()
        return folder


def make_spot_model(
    folder: Path, *, camera: str = "SIMPLE_RADIAL", params: tuple[float, ...] | None = (300.0, 165.0, 118.0, -0.15)
) -> SpotModel:
    """Five cameras on an arc, one lens, and 54 points, each a bright spot in every image."""
    import pycolmap

    reconstruction = pycolmap.Reconstruction()
    lens = pycolmap.Camera.create_from_model_name(1, camera, 300.0, WIDTH, HEIGHT)
    if params is not None:
        lens.params = list(params)
    reconstruction.add_camera_with_trivial_rig(lens)
    generator = np.random.default_rng(0)
    across, down = np.meshgrid(np.linspace(-2.1, 2.1, 9), np.linspace(-1.5, 1.5, 6))
    points = np.stack([across.ravel(), down.ravel(), np.zeros(54)], axis=1)
    points += generator.uniform([-0.02, -0.02, 5.2], [0.02, 0.02, 6.0], (54, 3))
    tracks = [[] for _ in points]
    for number, name in enumerate(NAMES, start=1):
        angle = 0.09 * (number - 3)
        centre = np.array([5.5 * np.sin(angle), 0.02 * number, 5.5 * (1 - np.cos(angle))])
        rotation = pycolmap.Rotation3d(np.array([0.01 * number, angle, 0.03 * number]))
        pose = pycolmap.Rigid3d(rotation, -rotation.matrix() @ centre)
        xy = lens.img_from_cam(pose * points)  # COLMAP's pixels
        inside = ((xy > 8) & (xy < np.array([WIDTH, HEIGHT]) - 8)).all(axis=1)
        image = pycolmap.Image(name=name, camera_id=1, image_id=number)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(place) for place in xy[inside]])
        reconstruction.add_image_with_trivial_frame(image, pose)
        for index, point in enumerate(np.flatnonzero(inside)):
            tracks[point].append(pycolmap.TrackElement(number, index))
        _write(folder / "photographs" / name, draw_spots(xy[inside] - 0.5))
    for point, track in zip(points, tracks):
        if track:
            reconstruction.add_point3D(point, pycolmap.Track(track))
    (folder / "model").mkdir()
    reconstruction.write_binary(str(folder / "model"))
    return SpotModel(folder / "model", folder / "photographs", reconstruction, NAMES)


def draw_spots(xy_px: np.ndarray) -> np.ndarray:
    """(h, w) grey: a Gaussian at each place, pixel (0, 0) being the centre of the top-left pixel."""
    across, down = (
        np.exp(-((np.arange(size) - xy_px[:, axis, None]) ** 2) / (2 * SPOT_SIGMA_PX**2))
        for axis, size in ((0, WIDTH), (1, HEIGHT))
    )
    spots = down.T @ across
    return (40 + 200 * spots.clip(0, 1)).round().astype(np.uint8)


def spot_centres(grey: np.ndarray, near: np.ndarray, radius: int) -> np.ndarray:
    """Where the spots are whose centres lie near the given places: the centroid of what is above the ground."""
    found = []
    for place in near:
        column, row = np.round(place).astype(int)
        rows, columns = np.mgrid[row - radius : row + radius + 1, column - radius : column + radius + 1]
        weight = np.maximum(grey[rows, columns] - 44.0, 0)
        found.append([(weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()])
    return np.array(found)


def apart(xy_px: np.ndarray, size: tuple[int, ...], radius: int) -> np.ndarray:
    """Which places have their whole window inside the image (h, w), and no other place near it."""
    distance = np.abs(xy_px[:, None] - xy_px).max(axis=-1) + 1e3 * np.eye(len(xy_px))
    inside = (xy_px > radius + 1).all(axis=1) & (xy_px < np.array(size[::-1]) - radius - 2).all(axis=1)
    return inside & (distance.min(axis=1) > 2 * radius)


def read_grey(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
