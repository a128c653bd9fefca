"""hloc's files: features and matches in HDF5, pairs as text.

One group for an image, by its name below the folder of images (a slash in it makes nested groups), with the datasets
``keypoints`` (K, 2), ``scores`` (K,), ``descriptors`` (D, K) and ``image_size`` (2,); one group for a pair, by both
names with their slashes replaced, with ``matches0`` (K1,) and ``matching_scores0`` (K1,). hloc's key points have our
origin, the centre of the top-left pixel; it adds COLMAP's half pixel itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rfp.export.complete_files import check_may_write, complete_files
from rfp.export.detection import (
    DetectedFeatures,
    DetectionOptions,
    FoundMatches,
    detect_file,
    match_pairs,
)
from rfp.export.image_folder import ImageFolder
from rfp.matching.match import MatchingFunction, load_matcher
from rfp.models.pretrained import network_name
from rfp.optional import require
from rfp.records import InputError
from rfp.rollout import FeatureNetwork

UNMATCHED = -1

FEATURES_FILE, MATCHES_FILE, PAIRS_FILE = "features.h5", "matches.h5", "pairs.txt"


@dataclass(frozen=True)
class HlocCounts:
    """What was written."""

    num_images: int = 0
    num_keypoints: int = 0
    num_pairs: int = 0
    num_matches: int = 0


def export_hloc(
    network: FeatureNetwork,
    images: ImageFolder,
    output: str | Path,
    *,
    pairs: Iterable[tuple[str, str]] | None,
    detection: DetectionOptions,
    device: torch.device,
    matcher: str | MatchingFunction = "mutual",
    half: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> HlocCounts:
    """Writes ``features.h5`` and, where there are pairs, ``matches.h5`` and ``pairs.txt`` into the folder ``output``.

    One image is in memory at a time, and the features of those matched last: the files are opened anew for each image
    and pair, because what HDF5 keeps of an open file lies between torch's freed buffers, and the heap grows by
    megabytes an image. The matches are those of the descriptors as the file holds them. The files appear under their
    names when all of them are complete.

    Args:
        pairs: Iterated twice; each pair once, in one order. None writes features only.
        half: See :func:`write_features`.

    Raises:
        InputError: a file exists and may not be overwritten, names that hloc cannot tell apart, an unreadable image.
    """
    h5py = require("h5py", extra="export")
    if isinstance(matcher, str):  # before the work: a matcher may not fit the network
        matcher = load_matcher(matcher, network=network_name(network))  # type: ignore[arg-type]
    output = Path(output)
    check_names(images.names)
    names = (FEATURES_FILE,) if pairs is None else (FEATURES_FILE, MATCHES_FILE, PAIRS_FILE)
    for name in names:
        check_may_write(output / name, overwrite=overwrite)
    output.mkdir(exist_ok=True)
    counts = HlocCounts()
    with complete_files([output / name for name in names]) as paths:
        for name in tqdm(images.names, desc="features", disable=not progress):
            features = detect_file(network, images.path(name), detection, device=device)
            with h5py.File(paths[0], "a") as file:
                write_features(file, name, features, half=half)
            counts = replace(
                counts,
                num_images=counts.num_images + 1,
                num_keypoints=counts.num_keypoints + len(features.xy_px),
            )
        if pairs is None:
            return counts
        write_pair_list(paths[2], pairs)
        found = match_pairs(pairs, reader(paths[0]), matcher=matcher, device=device)
        for matches in tqdm(found, desc="matches", total=length_hint(pairs) or None, disable=not progress):
            with h5py.File(paths[1], "a") as file:
                write_matches(file, matches)
            counts = replace(
                counts,
                num_pairs=counts.num_pairs + 1,
                num_matches=counts.num_matches + len(matches.index),
            )
    return counts


def pair_key(name1: str, name2: str) -> str:
    """The group of a pair in hloc's match file.

    Example:
        >>> pair_key("db/1.jpg", "query/2.jpg")
        'db-1.jpg/query-2.jpg'
    """
    return "/".join(name.replace("/", "-") for name in (name1, name2))


def check_names(names: Sequence[str]) -> None:
    """Find out before the work which names hloc's files cannot tell apart.

    Raises:
        InputError: names with a space, which end a name in hloc's lists, or two that are the same in its match file.
    """
    first: dict[str, str] = {}
    for name in names:
        if name.split() != [name]:
            raise InputError(f"{name}: hloc's lists of pairs end a name at a space; rename the image or its folder")
        other = first.setdefault(name.replace("/", "-"), name)
        if other != name:
            raise InputError(
                f"{name} and {other}: one and the same name in hloc's match file, where / is -; rename one"
            )


def write_features(file: Any, name: str, features: DetectedFeatures, *, half: bool = True) -> None:
    """Add the features of an image to an open ``h5py.File``.

    Args:
        half: scores and descriptors as float16, as hloc does by default. Key points are float32 always: float16 would
            move those beyond 1024 pixels by up to half a pixel.
    """
    rounded = np.float16 if half else np.float32
    group = file.create_group(name)
    keypoints = group.create_dataset("keypoints", data=_array(features.xy_px, np.float32))
    keypoints.attrs["uncertainty"] = features.uncertainty_px
    group.create_dataset("scores", data=_array(features.score, rounded))
    group.create_dataset("descriptors", data=_array(features.descriptor.T, rounded))
    group.create_dataset("image_size", data=np.array(features.size))


def read_features(file: Any, name: str) -> DetectedFeatures:
    """The features of an image in an open ``h5py.File``, as float32.

    Raises:
        InputError: the file has none for this image.
    """
    if name not in file:
        raise InputError(f"{file.filename}: no features of {name}; export them first")
    group = file[name]
    xy_px, score, descriptor = (
        torch.from_numpy(group[key][()].astype(np.float32)) for key in ("keypoints", "scores", "descriptors")
    )
    width, height = group["image_size"][()].tolist()
    uncertainty_px = float(group["keypoints"].attrs["uncertainty"])
    return DetectedFeatures((width, height), xy_px, score, descriptor.T.contiguous(), uncertainty_px)


def reader(path: Path) -> Callable[[str], DetectedFeatures]:
    """A function that reads the features of a name from the file, which is open only meanwhile."""
    h5py = require("h5py", extra="export")

    def read(name: str) -> DetectedFeatures:
        with h5py.File(path, "r") as file:
            return read_features(file, name)

    return read


def write_matches(file: Any, matches: FoundMatches) -> None:
    """Add the matches of a pair to an open ``h5py.File``: for each key point of image 1 its partner in image 2 or -1.

    Indices are int16 as hloc's, or int32 where key points are too many for that; scores are float16.
    """
    index = matches.index.cpu().numpy()
    largest = int(index[:, 1].max(initial=0))
    partner = np.full(matches.num_keypoints1, UNMATCHED, np.int16 if largest <= np.iinfo(np.int16).max else np.int32)
    score = np.zeros(matches.num_keypoints1, np.float16)
    partner[index[:, 0]] = index[:, 1]
    score[index[:, 0]] = _array(matches.score, np.float16)
    group = file.create_group(pair_key(matches.name1, matches.name2))
    group.create_dataset("matches0", data=partner)
    group.create_dataset("matching_scores0", data=score)


def write_pair_list(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """The pairs as text, one a line, as hloc and COLMAP read them."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{name1} {name2}\n" for name1, name2 in pairs)


def _array(values: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy().astype(dtype))
