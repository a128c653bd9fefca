"""Which data set a path is, by the files that only it has."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from rfp.data.pair_records import PairRecord
from rfp.data.pairs import PosedPairs
from rfp.data.record_pairs import RecordPairs
from rfp.data.sets.homography_folder import FILE as HOMOGRAPHIES
from rfp.data.sets.homography_folder import HomographyFolder
from rfp.data.sets.homography_records import HomographyRecordPairs
from rfp.data.sets.hpatches import HPatches, is_sequence
from rfp.data.sets.joined_pairs import JoinedPairs, PosedPairSet
from rfp.data.sets.megadepth import MegaDepthPairs
from rfp.data.sets.reinforced_feature_points import LISTS, ReinforcedFeaturePointsPairs
from rfp.data.sets.superglue_pairs import NUM_COLUMNS, SuperGluePairs
from rfp.data.sets.text_files import read_lines
from rfp.data.sets.tum import TUMSequence
from rfp.records import InputError, PosedPair

LISTED = (SuperGluePairs, MegaDepthPairs)
"""Sets whose files name images that lie elsewhere."""

OpenedPairs = RecordPairs[PairRecord, PosedPair] | JoinedPairs


def needs_image_folder(path: str | Path) -> bool:
    """Whether a path is a list of images that lie elsewhere, in the folder ``images``."""
    path = Path(path)
    return path.exists() and _layout(path) in LISTED


def open_set(
    path: str | Path, *, images: str | Path | None = None, image_size: int | None = None, cache_mb: float = 1024.0
) -> PosedPairSet | HomographyRecordPairs:
    """The pairs at a path, whichever of the known layouts it has, with that layout's defaults.

    Folders: ``pairs.json`` (posed pairs), ``homographies.json``, ``rgb.txt`` and ``groundtruth.txt`` (TUM),
    ``images.txt`` with ``calibration.txt`` and ``visibility.txt``, ``i_*`` and ``v_*`` (HPatches), ``*.npz``
    (MegaDepth). Files: ``.npz``, a SuperGlue list, a list of MegaDepth's files.

    Args:
        images: the folder of the images, for SuperGlue's and MegaDepth's lists.

    Raises:
        InputError: no known layout, or what is wrong with it.

    Example:
        >>> open_set("scannet_test_pairs_with_gt.txt", images="scannet_test_images")  # doctest: +SKIP
    """
    path = Path(path)
    build = _layout(path)
    if build in LISTED:
        return build(path, images, image_size=image_size, cache_mb=cache_mb)
    if images is not None:
        raise InputError(f"{path}: a {build.__name__} finds its images itself; leave images out")
    return build(path, image_size=image_size, cache_mb=cache_mb)


def open_posed_pairs(
    paths: str | Path | Sequence[str | Path],
    *,
    images: str | Path | None = None,
    image_size: int | None = None,
    cache_mb: float = 1024.0,
) -> OpenedPairs:
    """The posed pairs at one path or several, in their order: what ``--data`` of a command may be given.

    Args:
        images: the folder of the images, for the lists of SuperGlue and MegaDepth among the paths.

    Raises:
        InputError: as :func:`open_set`; or a path that holds homographies instead of poses.

    Example:
        >>> open_posed_pairs(["castle", "scannet_test_pairs_with_gt.txt"], images="scannet")  # doctest: +SKIP
    """
    paths = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not paths:
        raise InputError("expected at least one folder or list of posed pairs, got none")
    distinct: dict[Path, Path] = {}
    for path in paths:
        distinct.setdefault(path.resolve(), path)
    if len(distinct) < len(paths):
        given, paths = len(paths), list(distinct.values())
        warnings.warn(
            f"{given} paths to pairs were given, {len(paths)} of them different; each counts once", stacklevel=2
        )
    if all((path / "pairs.json").is_file() or not path.exists() for path in paths) and images is None:
        return PosedPairs(paths, image_size=image_size, cache_mb=cache_mb)
    listed = [path for path in paths if needs_image_folder(path)]
    if images is not None and not listed:
        raise InputError(f"{paths[0]}: finds its images itself; leave images out")
    share = cache_mb / len(paths)
    parts = []
    for path in paths:
        part = open_set(path, images=images if path in listed else None, image_size=image_size, cache_mb=share)
        if isinstance(part, HomographyRecordPairs):
            raise InputError(f"{path}: holds homographies; expected pairs with relative poses")
        parts.append(part)
    return parts[0] if len(parts) == 1 else JoinedPairs(parts)


def _layout(path: Path) -> Callable:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    build = _folder_layout(path) if path.is_dir() else _file_layout(path)
    if build is None:
        raise InputError(
            f"{path}: no known data set: expected a folder with pairs.json, homographies.json, rgb.txt and "
            f"groundtruth.txt, {', '.join(LISTS)}, i_*/v_* or *.npz, or a list of pairs (.txt) or .npz file"
        )
    return build


def _folder_layout(path: Path) -> Callable | None:
    if (path / "pairs.json").is_file():
        return PosedPairs
    if (path / HOMOGRAPHIES).is_file():
        return HomographyFolder
    if (path / "rgb.txt").is_file() and (path / "groundtruth.txt").is_file():
        return TUMSequence
    if all((path / name).is_file() for name in LISTS):
        return ReinforcedFeaturePointsPairs
    if is_sequence(path) or any(is_sequence(child) for child in path.glob("[iv]_*")):
        return HPatches
    return MegaDepthPairs if any(path.glob("*.npz")) else None


def _file_layout(path: Path) -> Callable | None:
    if path.suffix == ".npz":
        return MegaDepthPairs
    if path.suffix != ".txt":
        return None
    words = read_lines(path)[0][1]
    if len(words) == 1:
        return MegaDepthPairs
    return SuperGluePairs if len(words) in (2, 4) or len(words) > NUM_COLUMNS // 2 else None
