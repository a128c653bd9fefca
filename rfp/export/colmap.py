"""A folder of images into a COLMAP database: features, matches and verified pairs, one image in memory at a time."""

from collections.abc import Iterable, Iterator
from operator import length_hint
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from rfp.export.colmap_database import DatabaseCounts, ImageFeatures, PairMatches, write_database
from rfp.export.complete_files import check_may_write
from rfp.export.detection import DetectionOptions, detect_file, match_pairs
from rfp.export.hloc import reader, write_features
from rfp.export.image_folder import ImageFolder
from rfp.matching.match import MatchingFunction, load_matcher
from rfp.models.pretrained import network_name
from rfp.optional import require
from rfp.rollout import FeatureNetwork


def export_colmap(
    network: FeatureNetwork,
    images: ImageFolder,
    database: str | Path,
    *,
    pairs: Iterable[tuple[str, str]],
    detection: DetectionOptions,
    device: torch.device,
    matcher: str | MatchingFunction = "mutual",
    one_camera: bool = False,
    verify: bool = True,
    max_error_px: float = 4.0,
    min_inliers: int = 15,
    overwrite: bool = False,
    progress: bool = False,
) -> DatabaseCounts:
    """Writes the database of a folder of images; features wait for their matches on the disk beside it.

    Args:
        pairs: Each pair once, in one order.
        one_camera: All images of one size whose intrinsics are unknown were taken by one camera.
        verify: See :func:`rfp.export.colmap_database.write_database`, also for the other two.

    Raises:
        InputError: as ``write_database``, or an image that cannot be read.
    """
    h5py = require("h5py", extra="colmap")
    if isinstance(matcher, str):  # before the work: a matcher may not fit the network
        matcher = load_matcher(matcher, network=network_name(network))  # type: ignore[arg-type]
    require("pycolmap", extra="colmap")
    database = Path(database)
    check_may_write(database, overwrite=overwrite)
    with TemporaryDirectory(prefix=f"{database.name}.", dir=database.absolute().parent) as folder:
        store = Path(folder, "features.h5")

        def detected() -> Iterator[ImageFeatures]:
            for name in tqdm(images.names, desc="features", disable=not progress):
                features = detect_file(network, images.path(name), detection, device=device)
                with h5py.File(store, "a") as file:
                    write_features(file, name, features, half=False)
                yield ImageFeatures(
                    name=name,
                    size=features.size,
                    xy_px=features.xy_px,
                    K=images.K.get(name),
                    path=images.path(name),
                    camera="the only one" if one_camera else "",
                )

        def matched() -> Iterator[PairMatches]:
            found = match_pairs(pairs, reader(store), matcher=matcher, device=device)
            for each in tqdm(found, desc="matches", total=length_hint(pairs) or None, disable=not progress):
                yield PairMatches(each.name1, each.name2, each.index)

        return write_database(
            database,
            detected(),
            matched(),
            verify=verify,
            max_error_px=max_error_px,
            min_inliers=min_inliers,
            overwrite=overwrite,
        )
