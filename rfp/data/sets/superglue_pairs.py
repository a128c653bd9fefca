"""Lists of pairs in SuperGlue's text format: ScanNet-1500, YFCC and every list written like them.

Relied on, from the format's description in SuperGlue's README and its assets: a line holds
``path1 path2 rotation1 rotation2 K1 (9) K2 (9) T_1to2 (16)``, row by row, paths relative to a folder of images;
``X2 = T_1to2 X1``; K belongs to the image as stored; a rotation of k asks for the image to be turned by k quarter
turns, and its camera with it, before anything is detected.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.camera_problems import finite_problem, intrinsics_problem, rotation_problem
from rfp.data.pair_records import PairRecord
from rfp.data.record_pairs import PosedRecordPairs
from rfp.data.sets.cameras import check_baseline, check_image, pair_record
from rfp.data.sets.text_files import parse_numbers, read_lines
from rfp.records import InputError, PosedPair

NUM_COLUMNS = 38
"""Two paths, two rotations, two K of 9 and T of 16 numbers."""

QUARTER_TURN = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
"""X′ = R_z X of a camera whose image is turned counter-clockwise by 90°: x′ = y, y′ = -x."""


@dataclass(frozen=True)
class TurnedPairRecord(PairRecord):
    """A record of images as stored, and how they are to be turned."""

    turns1: int = 0
    """Quarter turns of image 1, counter-clockwise."""
    turns2: int = 0

    def reversed(self) -> PairRecord:
        """The same pair with image 2 first."""
        return replace(super().reversed(), **{"turns1": self.turns2, "turns2": self.turns1})

    def same_truth(self, other: PairRecord) -> bool:
        """Whether both tell the same pose, and turn their images alike."""
        alike = isinstance(other, TurnedPairRecord) and (self.turns1, self.turns2) == (other.turns1, other.turns2)
        return alike and super().same_truth(other)


class SuperGluePairs(PosedRecordPairs):
    """The posed pairs of a SuperGlue list.

    Images are turned as the list's rotation columns say, with K, R and t: a quarter counter-clockwise makes K
    ``[[fy, 0, cy], [0, fx, w - 1 - cx], [0, 0, 1]]``, and ``R ← R_z2 R R_z1ᵀ``, ``t ← R_z2 t``. An orientation in an
    image's own EXIF data plays no part.

    Args:
        file: the list.
        images: the folder that its paths are relative to; the list's own folder by default.
        upright: ``False`` leaves every image as it is stored.

    Raises:
        InputError: what is wrong with which line, in one line.

    Example:
        >>> SuperGluePairs("scannet_test_pairs_with_gt.txt", "scannet_test_images", image_size=640)  # doctest: +SKIP
    """

    def __init__(
        self,
        file: str | Path,
        images: str | Path | None = None,
        *,
        upright: bool = True,
        image_size: int | None = None,
        cache_mb: float = 1024.0,
    ) -> None:
        self.upright = upright
        file = Path(file)
        folder = file.parent if images is None else Path(images)
        located = ((location, _record(words, location, file, folder)) for location, words in read_lines(file))
        super().__init__(located, image_size=image_size, cache_mb=cache_mb, source=file)

    def _item(self, record: PairRecord) -> PosedPair:
        pair = super()._item(record)
        if not (self.upright and isinstance(record, TurnedPairRecord) and (record.turns1 or record.turns2)):
            return pair
        image1, K1, turn1 = turn_view(pair.image1, pair.K1, record.turns1)
        image2, K2, turn2 = turn_view(pair.image2, pair.K2, record.turns2)
        return PosedPair(
            image1, image2, K1, K2, turn2 @ pair.R @ turn1.T, turn2 @ pair.t, scene=pair.scene, name=pair.name
        )


def turn_view(
    image: Float[Tensor, "3 h w"], K: Float[Tensor, "3 3"], turns: int
) -> tuple[Float[Tensor, "3 h2 w2"], Float[Tensor, "3 3"], Float[Tensor, "3 3"]]:
    """(image, K, R_z) after ``turns`` counter-clockwise quarter turns: ``X′ = R_z X``. K must have no skew."""
    R_z = torch.eye(3, dtype=K.dtype)
    quarter = torch.tensor(QUARTER_TURN, dtype=K.dtype)
    for _ in range(turns):
        fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        width = image.shape[-1]
        K = K.new_tensor([[fy, 0, cy], [0, fx, width - 1 - cx], [0, 0, 1]])
        image, R_z = torch.rot90(image, 1, (-2, -1)), quarter @ R_z
    return image.contiguous(), K, R_z


def _record(words: list[str], location: str, file: Path, folder: Path) -> TurnedPairRecord:
    if len(words) < NUM_COLUMNS and len(words) in (2, 4):
        raise InputError(
            f"{location}: a pair without truth; expected {NUM_COLUMNS} columns (paths, rotations, K, K, T)"
        )
    if len(words) != NUM_COLUMNS:
        raise InputError(
            f"{location}: expected {NUM_COLUMNS} columns (2 paths without spaces, 2 rotations, K1, K2, 4×4 T), "
            f"got {len(words)}; is the line complete?"
        )
    paths = [folder / word for word in words[:2]]
    for path in paths:
        check_image(path, location, folder)
    if paths[0] == paths[1]:
        raise InputError(f"{location}: both images are {words[0]}; remove the line")
    numbers = np.array(parse_numbers(words[4:], location, first_column=5))
    K1, K2, T = numbers[:9].reshape(3, 3), numbers[9:18].reshape(3, 3), numbers[18:].reshape(4, 4)
    turns = [_turns(word, location, K) for word, K in zip(words[2:4], (K1, K2))]
    for problem in (
        intrinsics_problem(K1, "K1"),
        intrinsics_problem(K2, "K2"),
        rotation_problem(T[:3, :3], "T"),
        finite_problem("T", T),
    ):
        if problem:
            raise InputError(f"{location}: {problem}")
    if T[3].tolist() != [0, 0, 0, 1]:
        raise InputError(f"{location}: T: expected the last row 0 0 0 1, got {T[3].tolist()}; is it transposed?")
    record = pair_record(paths[0], paths[1], K1, K2, T[:3, :3], T[:3, 3], _scene(words[0], file))
    check_baseline(record, location)
    fields = {key: getattr(record, key) for key in record.__dataclass_fields__}
    return TurnedPairRecord(**fields, turns1=turns[0], turns2=turns[1])


def _turns(word: str, location: str, K: np.ndarray) -> int:
    if word not in ("0", "1", "2", "3"):
        raise InputError(
            f"{location}, columns 3 and 4: expected quarter turns 0, 1, 2 or 3, got {word[:40]!r}; 0 turns nothing"
        )
    if word != "0" and K[0, 1] != 0:
        raise InputError(f"{location}: an image of skewed pixels (skew {K[0, 1]:g}) cannot be turned; write rotation 0")
    return int(word)


def _scene(path: str, file: Path) -> str:
    """The scene of ``scene0711_00_frame-001680.jpg`` and of ``reichstag/1.jpg``; otherwise the list's own name."""
    folders = [part for part in Path(path).parts[:-1] if part not in (".", "..", "/", "images")]
    if folders:
        return folders[0]
    parts = Path(path).name.split("_")
    return "_".join(parts[:2]) if parts[0].startswith("scene") and len(parts) > 2 else file.stem
