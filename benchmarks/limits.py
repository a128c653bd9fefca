"""What keeps a network's poses from being better: wrong matches, positions that are not exact, or the choice of points?

    RFP_DATA=... python benchmarks/limits.py --json docs/results/limits.json

On pairs that train and select (nothing reported is looked at), at 320 px, 512 key points, PoseLib at 1 px: the network
as deployed, and with one thing mended by an oracle that knows the true pose. These are bounds, and none of them a
promise: nothing that a network can do finds out what the oracle knows. About six minutes of one core.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from jaxtyping import Bool, Float, Int
from machine import machine
from report_sets import data_root
from torch import Tensor

import rfp
from rfp.data import PosedPairs
from rfp.evaluation import epipolar_error_px, estimate_pose, match_features
from rfp.evaluation.deployed import deployed
from rfp.evaluation.feature_memory import FeatureMemory
from rfp.geometry.pose import fundamental_from_pose, relative_pose_error
from rfp.records import Features, PosedPair, RelativePose, map_tensors
from rfp.training.checkpoint import write_json

SETS = {"ngp_fox": ("ngp_fox",), "sceaux_castle, lund_door": ("sceaux_castle", "lund_door")}
KEYPOINTS, MANY, MAX_ERROR_PX, RIGHT_PX = 512, 2048, 1.0, 2.0


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    networks: tuple[str, ...] = ("tiny", "aliked-t16")
    """What to judge: names, run folders or weights files."""
    step: int = 2
    """Every so many pairs."""
    threads: int = 1
    """Of torch."""
    json: Path | None = None
    """Where to write the figures."""


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    for name in options.networks:
        network = rfp.load_network(name).eval()
        for label, folders in SETS.items():
            pairs = PosedPairs([data_root() / folder for folder in folders], image_size=320)
            rows += [{"network": name, "sets": label, **row} for row in limits(network, pairs, options.step)]
            print(*rows[-5:], sep="\n", flush=True)
    if options.json is not None:
        settings = {"key points": KEYPOINTS, "threshold, px": MAX_ERROR_PX, "right within, px": RIGHT_PX}
        write_json(
            options.json,
            {"limits": rows, "measured with": {**machine(), **settings, "every so many pairs": options.step}},
        )


@torch.no_grad()
def limits(network, pairs: PosedPairs, step: int) -> list[dict[str, Any]]:
    """AUC of each way, and what its matches are: their number, how many are right, and by how much those are off."""
    errors: dict[str, list[float]] = {}
    matches: dict[str, list[tuple[float, float, float]]] = {}
    with deployed(network, num_keypoints=MANY, nms_radius=2) as detector:
        memory = FeatureMemory(detector, defaultdict(float))
        for index in range(0, len(pairs), step):
            pair = pairs[index]
            many = memory(pair.image1)[0], memory(pair.image2)[0]
            for way, (xy1, xy2) in mended(many, pair).items():
                found = estimate_pose("poselib", xy1, xy2, pair.K1, pair.K2, max_error_px=MAX_ERROR_PX, seed=0)
                errors.setdefault(way, []).append(pose_error_deg(found, pair))
                off = epipolar_error_px(xy1, xy2, pair.K1, pair.K2, pair.R, pair.t)
                right = off[off < RIGHT_PX]
                matches.setdefault(way, []).append((len(off), len(right), right.median().item() if len(right) else 0.0))
    rows = []
    for way, of_pairs in errors.items():
        number, right, error = torch.tensor(matches[way]).mean(dim=0).tolist()
        auc = {f"{key:g}": value for key, value in rfp.pose_auc(of_pairs).items()}
        rows.append(
            {"way": way, "AUC@5/10/20": auc, "matches": number, "right": right, "median error of right ones, px": error}
        )
    return rows


Points = tuple[Float[Tensor, "M 2"], Float[Tensor, "M 2"]]


def mended(many: tuple[Features, Features], pair: PosedPair) -> dict[str, Points]:
    """The matches as deployed, and as they would be if one thing were known."""
    xy1, xy2 = matches_of_best(many, KEYPOINTS)
    right = epipolar_error_px(xy1, xy2, pair.K1, pair.K2, pair.R, pair.t) < RIGHT_PX
    exact1, exact2 = onto_geometry(xy1, xy2, pair)
    return {
        "as deployed": (xy1, xy2),
        "without its wrong matches": (xy1[right], xy2[right]),
        "right matches exact, wrong ones kept": (
            torch.where(right[:, None], exact1, xy1),
            torch.where(right[:, None], exact2, xy2),
        ),
        "key points that match rightly first": well_chosen(many, pair),
        "twice as many key points": matches_of_best(many, 2 * KEYPOINTS),
    }


def pose_error_deg(found: RelativePose, pair: PosedPair) -> float:
    """The larger of the angles of rotation and translation; 180 where nothing was found."""
    angles = relative_pose_error(*(pose.double() for pose in (found.R, found.t, pair.R, pair.t)), fold_translation=True)
    return torch.rad2deg(torch.maximum(*angles)).item() if bool(found.valid) else 180.0


def matches_of_best(many: tuple[Features, Features], number: int) -> Points:
    """The matches between the best so many key points of either image."""
    index = torch.arange(number)
    return match_features(only(many[0], index), only(many[1], index))


def only(features: Features, index: Int[Tensor, "K"]) -> Features:
    """Some of the key points of one image."""
    return map_tensors(features, lambda tensor: tensor[:, index])


def well_chosen(many: tuple[Features, Features], pair: PosedPair) -> Points:
    """The matches of the 512 key points of which as many as possible are right, the best scores first."""
    xy1, xy2 = match_features(*many)
    right = epipolar_error_px(xy1, xy2, pair.K1, pair.K2, pair.R, pair.t) < RIGHT_PX

    def chosen(features: Features, xy: Float[Tensor, "M 2"]) -> Features:
        matched: Bool[Tensor, "K"] = (features.xy_px[0][:, None] == xy[right][None]).all(dim=-1).any(dim=-1)
        order = torch.argsort((~matched).long(), stable=True)
        return only(features, order[:KEYPOINTS])

    return match_features(chosen(many[0], xy1), chosen(many[1], xy2))


def onto_geometry(xy1_px: Float[Tensor, "M 2"], xy2_px: Float[Tensor, "M 2"], pair: PosedPair) -> Points:
    """Both points of each match moved onto the true epipolar geometry, by the least they have to, to first order.

    The Sampson correction (Hartley and Zisserman, 2nd edition, eq. 12.2).
    """
    F = fundamental_from_pose(pair.K1, pair.K2, pair.R, pair.t)
    ones = torch.ones(len(xy1_px), 1, dtype=F.dtype)
    x1, x2 = (torch.cat([xy.double(), ones], dim=-1) for xy in (xy1_px, xy2_px))
    line1, line2 = x2 @ F, x1 @ F.T
    length = line1[:, :2].square().sum(-1) + line2[:, :2].square().sum(-1)
    share = ((x2 * line2).sum(-1) / length)[:, None]
    moved = (x1[:, :2] - share * line1[:, :2], x2[:, :2] - share * line2[:, :2])
    return moved[0].to(xy1_px.dtype), moved[1].to(xy2_px.dtype)


if __name__ == "__main__":
    main(tyro.cli(Options))
