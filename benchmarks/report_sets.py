"""The real pairs that select nothing, and how benchmarks judge a network on them: as deployed, with PoseLib."""

import os
import sys
from pathlib import Path
from typing import Any

import rfp
from rfp.data import PosedPairs

REPORT = ("strecha_castle_p30", "strecha_fountain_p11", "strecha_entry_p10", "sacre_coeur10")
SETTINGS = {
    "320 px, 512 key points, 1 px": {"image_size": 320, "num_keypoints": 512, "max_error_px": 1.0},
    "640 px, 1024 key points, 1.5 px": {"image_size": 640, "num_keypoints": 1024, "max_error_px": 1.5},
}


def data_root() -> Path:
    """The folder that RFP_DATA names."""
    root = os.environ.get("RFP_DATA")
    if not root:
        sys.exit("this benchmark needs real photographs: set RFP_DATA to a folder of posed-pairs folders")
    return Path(root)


def judge(network, *, with_pairs: bool = False) -> dict[str, Any]:
    """AUC by setting and set, pooled and one by one; on demand the scene and the images of each pair.

    An interval of changes needs the latter: pairs that share an image are not independent.
    """
    root, figures = data_root(), {}
    for name, setting in SETTINGS.items():
        budget = {key: setting[key] for key in ("num_keypoints", "max_error_px")}
        by_set = {}
        errors: list[float] = []
        scenes: list[str] = []
        images: list[list[int]] = []
        for folder in REPORT:
            pairs = PosedPairs(root / folder, image_size=setting["image_size"])
            report = rfp.evaluate(network, pairs, estimator="poselib", **budget)
            by_set[folder] = {"auc": report.auc, "num_failed": report.num_failed, "num_pairs": report.num_pairs}
            errors += report.errors_deg
            scenes += report.pair_scenes
            images += report.pair_images  # numbered within a scene
        figures[name] = {"pooled": keyed_auc(errors), "sets": by_set, "errors_deg": [round(e, 3) for e in errors]}
        if with_pairs:
            figures[name]["pairs"] = {"scenes": scenes, "images": images}
    return figures


def keyed_auc(errors: list[float]) -> dict[str, float]:
    """AUC@5/10/20 in percent by the threshold as text."""
    return {f"{key:g}": value for key, value in rfp.pose_auc(errors).items()}


def with_interval(value: float, interval: list[float] | None) -> str:
    """A change with its 95 % interval, clustered by image."""
    return f"{value:+.1f}" + (f" ({interval[0]:+.1f} to {interval[1]:+.1f})" if interval else "")
