"""``rfp data``: folders of posed pairs from what people have."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from rfp.cli.output import check_can_write, write_figures
from rfp.data.from_colmap import pairs_from_colmap
from rfp.data.from_photographs import PhotographOptions, homographies_from_photographs, rendered_from_photographs
from rfp.data.from_trajectory import VideoCamera, pairs_from_trajectory
from rfp.data.homographies import HomographyOptions
from rfp.data.pair_selection import PairChoice
from rfp.data.pair_splitting import split_pairs
from rfp.data.pair_writing import ImageFormat
from rfp.data.synthetic import SceneOptions


@dataclass(frozen=True)
class FromColmap:
    """Posed pairs from a COLMAP model and its images, undistorted and resized.

    Pairs are chosen by the 3-D points that both images observe, by parallax and by rotation. Any version of the model
    format will do, .bin or .txt. Images are read as stored; K belongs to the pixels that are written.

    Example: rfp data from-colmap sparse/0 photographs data/house --image-size 640
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The folder with cameras, images and points3D."""
    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """The folder that the image names of the model are relative to."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """The folder to write, images/ and pairs.json. It must not exist yet."""
    image_size: int | None = 1024
    """Longer side of the written images; None keeps the size of the undistorted ones."""
    min_shared_points: int = 30
    """Least number of 3-D points that both images of a pair observe."""
    choice: PairChoice = field(default_factory=PairChoice)
    """Which of the pairs are taken."""
    depth: bool = False
    """Write the depth of the sparse points of each image, too: sparse_depth/NAME.npz with xy_px, depth, point_id."""
    allow_missing: bool = False
    """Leave out posed images that are not on the disk, instead of refusing."""
    scene: str = ""
    """What records, reports and plots call the place; the name of OUTPUT by default."""
    image_format: ImageFormat = "png"
    """png loses nothing; jpg, of quality 95, takes less space."""
    json: Path | None = None
    """Write the figures to this file."""


@dataclass(frozen=True)
class FromTrajectory:
    """Posed pairs from a posed video: a trajectory, the camera's intrinsics and images with time stamps.

    The trajectory is TUM's format, lines 'timestamp tx ty tz qx qy qz qw', camera to world. Pairs are chosen by what
    two views share, and by parallax, if all they see were at --scene-depth, and by rotation.

    Example: rfp data from-trajectory poses.txt rgb.txt data/desk --intrinsics 525 525 319.5 239.5
    --scene-depth 1.5 --every 10
    """

    trajectory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TRAJECTORY")]
    """The file of poses."""
    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """A list of lines 'timestamp path', paths relative to it, or a folder of images named by their time stamps."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """The folder to write, images/ and pairs.json. It must not exist yet."""
    camera: VideoCamera
    """The one camera of all images."""
    scene_depth: float
    """Usual distance to what the camera sees, in the units of the trajectory."""
    image_size: int | None = 1024
    """Longer side of the written images; None keeps their size."""
    min_overlap: float = 0.3
    """Share of a view that the other one of a pair sees, at least."""
    choice: PairChoice = field(default_factory=PairChoice)
    """Which of the pairs are taken."""
    every: int = 1
    """Take every n-th image only; 10 is usual for 30 images a second."""
    max_time_difference: float = 0.02
    """Between the times of an image and of a pose, in the units of the time stamps."""
    scene: str = ""
    """What records, reports and plots call the place; the name of OUTPUT by default."""
    image_format: ImageFormat = "png"
    """png loses nothing; jpg, of quality 95, takes less space."""
    json: Path | None = None
    """Write the figures to this file."""


@dataclass(frozen=True)
class FromPhotographs:
    """Pairs with exact truth from a folder of plain photographs, which need no poses.

    With --truth poses, the default, the photographs are the surfaces of rendered scenes: posed pairs of planes at
    several depths, or of what --layouts names. With --truth homographies, each photograph is seen from two sides:
    OUTPUT holds images/ and homographies.json.

    Example: rfp data from-photographs photographs data/planes --num-pairs 500
    """

    photographs: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTOGRAPHS")]
    """The folder of photographs; subfolders are looked through."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """The folder to write. It must not exist yet."""
    truth: Literal["poses", "homographies"] = "poses"
    """What relates the two images of a pair."""
    num_pairs: int = 200
    """Pairs to make."""
    shown: PhotographOptions = field(default_factory=PhotographOptions)
    """Which photographs are shown, and how large."""
    layouts: tuple[str, ...] = ("cards",)
    """Kinds of scene, with --truth poses: cards are planes at several depths."""
    difficulty: Literal["easy", "medium", "hard"] = "medium"
    """Range of viewpoints, with --truth poses."""
    tilt_deg: float = HomographyOptions.tilt_deg
    """Largest angle between a view's axis and the photograph's normal, with --truth homographies."""
    scene: str = ""
    """What records, reports and plots call the place; the name of OUTPUT by default."""
    image_format: ImageFormat = "png"
    """png loses nothing; jpg, of quality 95, takes less space."""
    json: Path | None = None
    """Write the figures to this file."""


@dataclass(frozen=True)
class Split:
    """Split a folder of posed pairs into two whose images are disjoint: one to train on, one to judge on.

    The images are dealt out in the order of their names; a pair of one of each is left out.

    Example: rfp data split data/house data/house-train data/house-judge
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder of posed pairs."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TRAIN")]
    """The folder to write for training. It must not exist yet."""
    judge: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="JUDGE")]
    """The folder to write for judging. It must not exist yet."""
    block: int = 1
    """How many images in a row go to the same folder."""
    json: Path | None = None
    """Write the figures to this file."""


_Source = (
    Annotated[FromColmap, tyro.conf.subcommand("from-colmap")]
    | Annotated[FromTrajectory, tyro.conf.subcommand("from-trajectory")]
    | Annotated[FromPhotographs, tyro.conf.subcommand("from-photographs")]
    | Annotated[Split, tyro.conf.subcommand("split")]
)


@dataclass(frozen=True)
class Data:
    """Make a folder of posed pairs (images/ and pairs.json) of your own images, or split one.

    Look at the result with rfp inspect, then train and evaluate on it.
    """

    source: tyro.conf.OmitSubcommandPrefixes[tyro.conf.OmitArgPrefixes[_Source]]


def run(command: Data) -> None:
    """Write the folder, and say what is in it."""
    source = command.source
    check_can_write(source.json)
    if isinstance(source, FromColmap):
        figures = _from_colmap(source)
    elif isinstance(source, FromTrajectory):
        figures = _from_trajectory(source)
    elif isinstance(source, Split):
        figures = _split(source)
    else:
        figures = _from_photographs(source)
    write_figures(source.json, {"output": str(source.output), **figures})


def _from_colmap(source: FromColmap) -> dict[str, Any]:
    written = pairs_from_colmap(
        source.model,
        source.images,
        source.output,
        choice=source.choice,
        min_shared_points=source.min_shared_points,
        image_size=source.image_size,
        sparse_depth=source.depth,
        scene=source.scene,
        allow_missing=source.allow_missing,
        image_format=source.image_format,
        progress=_progress,
    )
    print(f"{source.output}: {written.num_pairs} pairs of {written.num_images} images", end="")
    print(f", chosen among {written.num_candidates} that share points")
    if written.num_missing:
        print(f"left out: {written.num_missing} posed images that are not in {source.images}")
    return asdict(written)


def _from_trajectory(source: FromTrajectory) -> dict[str, Any]:
    written = pairs_from_trajectory(
        source.trajectory,
        source.images,
        source.output,
        camera=source.camera,
        scene_depth=source.scene_depth,
        choice=source.choice,
        min_overlap=source.min_overlap,
        every=source.every,
        max_time_difference=source.max_time_difference,
        image_size=source.image_size,
        scene=source.scene,
        image_format=source.image_format,
        progress=_progress,
    )
    print(f"{source.output}: {written.num_pairs} pairs of {written.num_images} images", end="")
    print(f", chosen among {written.num_candidates} that overlap")
    if written.num_without_pose:
        print(f"left out: {written.num_without_pose} images without a pose near their time")
    return asdict(written)


def _from_photographs(source: FromPhotographs) -> dict[str, Any]:
    shared = {
        "num_pairs": source.num_pairs,
        "options": source.shown,
        "scene": source.scene,
        "image_format": source.image_format,
        "progress": _progress,
    }
    if source.truth == "poses":
        scenes = getattr(SceneOptions, source.difficulty)(layouts=source.layouts, num_textures=1)
        num_photographs = rendered_from_photographs(source.photographs, source.output, scenes=scenes, **shared)
    else:
        views = HomographyOptions(tilt_deg=source.tilt_deg)
        num_photographs = homographies_from_photographs(source.photographs, source.output, views=views, **shared)
    print(f"{source.output}: {source.num_pairs} pairs with exact {source.truth}, made of {num_photographs} photographs")
    return {"num_pairs": source.num_pairs, "num_photographs": num_photographs, "truth": source.truth}


def _split(source: Split) -> dict[str, Any]:
    written = split_pairs(source.folder, source.output, source.judge, block=source.block)
    for place, folder in enumerate((source.output, source.judge)):
        print(f"{folder}: {written.num_pairs[place]} pairs of {written.num_images[place]} images")
    print(f"left out: {written.num_left_out} pairs of an image of each")
    return {"judge": str(source.judge), **asdict(written)}


def _progress(work: Sequence[Any]) -> Iterable[Any]:
    return tqdm(work, disable=None, leave=False)
