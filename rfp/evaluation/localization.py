"""Localisation: the pose of a query image against a scene that other images of known pose make.

As in hloc (P.-E. Sarlin et al., From coarse to fine: robust hierarchical localization at large scale, CVPR 2019), but
without its search for similar images: the query is matched with every image of the scene. Figures as in T. Sattler et
al., Benchmarking 6DOF outdoor visual localization in changing conditions (CVPR 2018).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from rfp.data.undistortion import pinhole_intrinsics
from rfp.evaluation.absolute_pose_estimators import ABSOLUTE_POSE_ESTIMATORS, find_absolute_pose
from rfp.evaluation.deployed import in_deployment
from rfp.evaluation.localization_report import LocalizationReport, QueryFigures, summarise_localization
from rfp.evaluation.triangulation import PosedFeatures, Scene, triangulate
from rfp.evaluation.true_poses import TruePoses, without_distortion
from rfp.export.detection import DetectedFeatures, DetectionOptions, FoundMatches, detect_file, match_pairs
from rfp.export.image_folder import ImageFolder
from rfp.geometry.pose import relative_pose_error
from rfp.matching.match import MatchingFunction, load_matcher
from rfp.models.pretrained import network_name
from rfp.models.state import device_of
from rfp.records import AbsolutePose, InputError

THRESHOLDS = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))
"""(distance in units of the scene, degrees): metres in the benchmark that these come from."""


@dataclass(frozen=True)
class LocalizationOptions:
    """How queries are localised."""

    detection: DetectionOptions = field(default_factory=DetectionOptions)
    matcher: str | MatchingFunction = "mutual"
    """A name of ``rfp.matching.MATCHERS``, or any object of that kind."""
    estimator: str = "poselib"
    """See :func:`rfp.evaluation.absolute_pose_estimators.find_absolute_pose`."""
    max_error_px: float = 4.0
    """Inlier threshold in pixels of the stored images: of the scene's points, and of the query's pose."""
    folds: int = 4
    """Parts into which the images are dealt; the images of each are queries against the scene of the others."""
    thresholds: tuple[tuple[float, float], ...] = THRESHOLDS
    seed: int = 0

    def __post_init__(self):
        if self.estimator not in ABSOLUTE_POSE_ESTIMATORS:
            known = ", ".join(ABSOLUTE_POSE_ESTIMATORS)
            raise InputError(f"expected an estimator among {known}, got {self.estimator!r}")
        if not 0 < self.max_error_px < math.inf:
            raise InputError(f"expected an inlier threshold above 0 pixels, got {self.max_error_px}; 4 is usual")
        if self.folds < 2:
            raise InputError(f"expected at least 2 folds, got {self.folds}; 4 takes a quarter of the images as queries")
        if self.seed < 0:
            raise InputError(f"expected a seed of at least 0, got {self.seed}")
        if not self.thresholds or not all(0 < value < math.inf for pair in self.thresholds for value in pair):
            raise InputError(f"expected thresholds (distance, degrees) above 0, got {self.thresholds}")


def evaluate_localization(
    network: nn.Module,
    images: ImageFolder,
    truth: TruePoses,
    *,
    options: LocalizationOptions | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> LocalizationReport:
    """Every image localised once, against the points that the network's features make from images of the other folds.

    Raises:
        InputError: no true poses, fewer images than folds or than three, or an image that cannot be read.
    """
    options = LocalizationOptions() if options is None else options
    names = posed_names(images, truth, options.folds)
    device = device_of(network) if device is None else torch.device(device)
    matcher = options.matcher
    if isinstance(matcher, str):
        matcher = load_matcher(matcher, network=network_name(network))
    with in_deployment(network, device):
        detected = {
            name: detect_file(network, images.path(name), options.detection, device=device)  # type: ignore[arg-type]
            for name in tqdm(names, "features", disable=None if progress else True, leave=False)
        }
    posed = {name: _posed(name, found, truth) for name, found in detected.items()}
    pairs = [(one, two) for number, one in enumerate(names) for two in names[number + 1 :]]
    progressing = tqdm(pairs, "matches", disable=None if progress else True, leave=False)
    found = match_pairs(progressing, detected.__getitem__, device=device, matcher=matcher)
    matches = list(found)
    queries = []
    for fold in range(options.folds):
        held_out = names[fold :: options.folds]
        kept = [name for name in names if name not in held_out]
        within = [each for each in matches if each.name1 not in held_out and each.name2 not in held_out]
        scene = triangulate([posed[name] for name in kept], within, max_error_px=options.max_error_px)
        for name in held_out:
            across = [each for each in matches if name in (each.name1, each.name2)]
            queries.append(_judge(posed[name], scene, across, options))
    settings = {
        **asdict(options.detection),
        "matching": str(matcher),
        **{name: getattr(options, name) for name in ("estimator", "max_error_px", "folds", "seed")},
        "device": str(device),
        "torch": torch.__version__,
    }
    return summarise_localization(sorted(queries, key=lambda query: query.name), options.thresholds, settings)


def posed_names(images: ImageFolder, truth: TruePoses, folds: int) -> list[str]:
    """The folder's images whose pose and camera are known.

    Raises:
        InputError: too few of them to localise one against the others.
    """
    if not truth.poses:
        raise InputError(
            f"{images.root}: the pairs do not put the images into one scene of one scale, so there are no poses to "
            "localise against; give a COLMAP model as truth"
        )
    names = [name for name in images.names if name in truth.poses]
    if len(names) < max(3, folds):
        raise InputError(
            f"{images.root}: expected at least {max(3, folds)} images with a true pose for {folds} folds, "
            f"got {len(names)}; names are paths below the folder of images"
        )
    return names


def _posed(name: str, found: DetectedFeatures, truth: TruePoses) -> PosedFeatures:
    camera = truth.cameras.get(name)
    if camera is None:
        return PosedFeatures(name, found.size, found.xy_px.double(), truth.intrinsics[name], truth.poses[name])
    if (camera.width, camera.height) != found.size:
        raise InputError(
            f"{name}: the model's camera has images of {camera.width}×{camera.height}, the file has "
            f"{found.size[0]}×{found.size[1]} pixels; give the images that the model was made from"
        )
    K = torch.from_numpy(pinhole_intrinsics(camera))
    return PosedFeatures(name, found.size, without_distortion(camera, found.xy_px), K, truth.poses[name])


def _judge(
    query: PosedFeatures, scene: Scene, matches: Sequence[FoundMatches], options: LocalizationOptions
) -> QueryFigures:
    X, xy_px = _lift(query, scene, matches)
    pose = find_absolute_pose(
        options.estimator, X, xy_px, query.K, max_error_px=options.max_error_px, seed=options.seed
    )
    failed = not pose.valid.item()
    position, rotation = pose_errors(pose, query)
    return QueryFigures(
        name=query.name,
        position_error=None if failed else position,
        rotation_error_deg=None if failed else rotation,
        num_points=len(scene.X),
        num_matches=len(X),
        num_inliers=int(pose.inliers.sum()),
    )


def pose_errors(pose: AbsolutePose, query: PosedFeatures) -> tuple[float, float]:
    """``‖Rᵀ t - R*ᵀ t*‖`` in units of the scene, and the angle of ``R R*ᵀ`` in degrees."""
    centre = -pose.R.T @ pose.t
    angle, _ = relative_pose_error(pose.R, centre, query.pose.R, centre, fold_translation=False)
    return torch.linalg.vector_norm(centre - query.pose.centre).item(), math.degrees(angle.item())


def _lift(
    query: PosedFeatures, scene: Scene, matches: Sequence[FoundMatches]
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, "M 2"]]:
    """The points of the scene that the query's key points were matched with, each combination once."""
    found = []
    for each in matches:
        own, other = (0, 1) if each.name1 == query.name else (1, 0)
        name = each.name2 if own == 0 else each.name1
        if name in scene.point:
            point = scene.point[name][each.index[:, other]]
            found.append(torch.stack((each.index[:, own], point), dim=1)[point >= 0])
    keypoint, point = torch.cat([query.xy_px.new_zeros((0, 2)).long(), *found]).unique(dim=0).unbind(dim=1)
    return scene.X[point], query.xy_px[keypoint]
