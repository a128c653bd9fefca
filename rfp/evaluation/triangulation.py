"""A scene for localisation: the points that a network's own features make from images whose poses are known."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.evaluation.matching import epipolar_error_px
from rfp.evaluation.true_poses import TruePose, relative_pose
from rfp.export.colmap_database import ImageFeatures, PairMatches, write_database
from rfp.export.colmap_logging import quiet_colmap
from rfp.export.detection import FoundMatches
from rfp.optional import require


@dataclass(frozen=True)
class PosedFeatures:
    """The key points of an image whose pose is known."""

    name: str
    size: tuple[int, int]
    """(width, height) of the image as stored."""
    xy_px: Float[Tensor, "K 2"]
    """As a pinhole camera sees them: without distortion."""
    K: Float[Tensor, "3 3"]
    pose: TruePose


@dataclass(frozen=True)
class Scene:
    """Points of the world, and which key point of which image shows which."""

    X: Float[Tensor, "P 3"]
    point: dict[str, Int[Tensor, "K"]]
    """By image: the row in X of each key point, -1 for one without a point."""


def triangulate(
    images: Sequence[PosedFeatures], matches: Iterable[FoundMatches], *, max_error_px: float = 4.0
) -> Scene:
    """The points that pycolmap triangulates from matches which agree with the poses, as in hloc.

    A match agrees whose Sampson distance from the epipolar geometry of the poses is below ``max_error_px``; points with
    a larger reprojection error than that are left out. Poses and intrinsics stay as they are.
    """
    pycolmap = require("pycolmap", extra="colmap")
    by_name = {image.name: image for image in images}
    agreeing = [_agreeing(each, by_name, max_error_px) for each in matches]
    with TemporaryDirectory() as folder, quiet_colmap(pycolmap):
        database = Path(folder, "database.db")
        write_database(
            database,
            [ImageFeatures(name=image.name, size=image.size, xy_px=image.xy_px, K=image.K) for image in images],
            [each for each in agreeing if len(each.index)],
            verify=False,
        )
        model = _posed_model(pycolmap, database, by_name)
        options = pycolmap.IncrementalPipelineOptions()
        options.num_threads = 1
        options.random_seed = options.triangulation.random_seed = 0
        options.extract_colors = False
        options.mapper.filter_max_reproj_error = max_error_px
        # Poses are known to the end: a pair of views with little parallax still makes points for its neighbours.
        options.triangulation.ignore_two_view_tracks = False
        model = pycolmap.triangulate_points(model, database, folder, folder, options=options)
    return _scene(model)


def _agreeing(matches: FoundMatches, images: Mapping[str, PosedFeatures], max_error_px: float) -> PairMatches:
    one, two = images[matches.name1], images[matches.name2]
    R, t = relative_pose(one.pose, two.pose)
    xy1_px, xy2_px = one.xy_px[matches.index[:, 0]], two.xy_px[matches.index[:, 1]]
    errors_px = epipolar_error_px(xy1_px, xy2_px, one.K, two.K, R, t)
    return PairMatches(matches.name1, matches.name2, matches.index[errors_px < max_error_px])


def _posed_model(pycolmap, database: Path, images: Mapping[str, PosedFeatures]):
    """A model of the database's cameras and images, at their poses, without points."""
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as opened:
        for camera in opened.read_all_cameras():
            model.add_camera_with_trivial_rig(camera)
        for image in opened.read_all_images():
            pose = images[image.name].pose
            matrix = torch.cat((pose.R, pose.t[:, None]), dim=1).numpy()
            posed = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
            model.add_image_with_trivial_frame(posed, pycolmap.Rigid3d(matrix))
    return model


def _scene(model) -> Scene:
    rows = {point_id: row for row, point_id in enumerate(model.points3D)}
    X = [torch.from_numpy(point.xyz) for point in model.points3D.values()]
    point = {
        image.name: torch.tensor([rows.get(each.point3D_id, -1) for each in image.points2D], dtype=torch.int64)
        for image in model.images.values()
    }
    return Scene(torch.stack(X) if X else torch.zeros(0, 3, dtype=torch.float64), point)
