"""Structure from motion from a network's features: what pycolmap builds from a folder of images."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rfp.evaluation.deployed import in_deployment
from rfp.evaluation.true_poses import TruePose
from rfp.export.colmap import export_colmap
from rfp.export.colmap_database import DatabaseCounts
from rfp.export.colmap_logging import quiet_colmap
from rfp.export.detection import DetectionOptions
from rfp.export.image_folder import ImageFolder
from rfp.matching.match import MatchingFunction
from rfp.models.state import device_of
from rfp.optional import require
from rfp.records import InputError


@dataclass(frozen=True)
class MappingOptions:
    """How a folder of images is reconstructed."""

    detection: DetectionOptions = field(default_factory=DetectionOptions)
    matcher: str | MatchingFunction = "mutual"
    """A name of ``rfp.matching.MATCHERS``, or any object of that kind."""
    max_gap: int | None = None
    """Match an image with this many that follow it in the order of names (a video); None matches every two."""
    max_error_px: float = 4.0
    """Of the pairs' two-view geometries, in pixels of the stored images; 4 is COLMAP's own."""
    min_inliers: int = 15
    """Pairs with fewer inliers are left out."""
    num_threads: int = 1
    """Of the mapping. With more than one, COLMAP's results differ a little from run to run."""
    seed: int = 0
    """Of COLMAP's samples."""

    def __post_init__(self):
        for name in ("min_inliers", "num_threads"):
            if getattr(self, name) < 1:
                raise InputError(f"expected {name} of at least 1, got {getattr(self, name)}")
        if self.max_gap is not None and self.max_gap < 1:
            raise InputError(f"expected max_gap of at least 1, got {self.max_gap}; None matches every two images")
        if not 0 < self.max_error_px < math.inf:
            raise InputError(f"expected an inlier threshold above 0 pixels, got {self.max_error_px}; 4 is usual")


def reconstruct(
    network: nn.Module,
    images: ImageFolder,
    workspace: str | Path,
    *,
    options: MappingOptions | None = None,
    device: torch.device | str | None = None,
    seconds: dict[str, float] | None = None,
    progress: bool = False,
) -> tuple[list[Any], DatabaseCounts]:
    """The models that pycolmap maps from a network's features, largest first, and what its database held.

    Writes ``database.db`` and the folder ``sparse`` to ``workspace``. Cameras whose K is in ``images`` keep it; others
    are guessed from EXIF or the image's size, and refined.

    Args:
        workspace: an existing folder without a reconstruction.
        seconds: takes the time of each stage.

    Raises:
        InputError: fewer than two images, an image that cannot be read, or a reconstruction in the workspace.
    """
    pycolmap = require("pycolmap", extra="colmap")
    options = MappingOptions() if options is None else options
    workspace = Path(workspace)
    if len(images.names) < 2:
        raise InputError(f"{images.root}: expected at least 2 images to reconstruct from, got {len(images.names)}")
    if (workspace / "sparse").exists():
        raise InputError(f"{workspace}: holds a reconstruction already; choose another folder")
    device = device_of(network) if device is None else torch.device(device)
    seconds = {} if seconds is None else seconds
    start = time.perf_counter()
    with quiet_colmap(pycolmap), in_deployment(network, device):
        counts = export_colmap(
            network,  # type: ignore[arg-type]
            images,
            workspace / "database.db",
            pairs=list(neighbours(images.names, options.max_gap)),
            detection=options.detection,
            matcher=options.matcher,
            device=device,
            max_error_px=options.max_error_px,
            min_inliers=options.min_inliers,
            progress=progress,
        )
        seconds["features and matches"] = time.perf_counter() - start
        start = time.perf_counter()
        (workspace / "sparse").mkdir()
        mapping = _mapping_options(pycolmap, options, known=set(images.names) <= set(images.K))
        models = pycolmap.incremental_mapping(workspace / "database.db", images.root, workspace / "sparse", mapping)
        seconds["mapping"] = time.perf_counter() - start
    return sorted(models.values(), key=lambda model: (-model.num_reg_images(), -model.num_points3D())), counts


def registered_poses(model: Any) -> dict[str, TruePose]:
    """The poses of the registered images of a ``pycolmap.Reconstruction``, by name."""
    poses = {}
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        matrix = torch.from_numpy(image.cam_from_world().matrix()).double()
        poses[image.name] = TruePose(matrix[:, :3], matrix[:, 3])
    return poses


def neighbours(names: tuple[str, ...], max_gap: int | None) -> Iterator[tuple[str, str]]:
    """The pairs of names at most ``max_gap`` apart in their order, all of them for None."""
    if max_gap is None:
        yield from combinations(names, 2)
        return
    for number, name in enumerate(names):
        for other in names[number + 1 : number + 1 + max_gap]:
            yield name, other


def _mapping_options(pycolmap: Any, options: MappingOptions, *, known: bool) -> Any:
    mapping = pycolmap.IncrementalPipelineOptions()
    mapping.min_num_matches = options.min_inliers
    mapping.min_model_size = 3  # 10 by default, more than some folders hold
    mapping.extract_colors = False
    mapping.num_threads = mapping.mapper.num_threads = options.num_threads
    mapping.random_seed = mapping.mapper.random_seed = mapping.triangulation.random_seed = options.seed
    if known:  # intrinsics that are known stay as they are
        mapping.ba_refine_focal_length = mapping.ba_refine_extra_params = False
        mapping.mapper.abs_pose_refine_focal_length = mapping.mapper.abs_pose_refine_extra_params = False
    return mapping
