"""A folder in which the commands that the documentation prints find what they name: folders, models, files, runs."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch

from rfp.cli import main
from rfp.export.state_dicts import write_state_dict
from rfp.models import SuperPoint
from tests.scenes import View, write_pairs_folder

SMALL_TRAINING = [
    *("--steps", "1", "--pairs-per-step", "1", "--rollout.ransac.num-hypotheses", "16", "--judge.num-keypoints", "64"),
    *("--rollout.keypoints.num-keypoints", "64", "--device", "cpu"),
]
POSED = ("data/castle", "data/door", "data/square", "data/fountain", "lund_door", "strecha_fountain_p11", "FOLDER")
SETS = ("sceaux_castle", "ngp_fox", "lund_door", "strecha_fountain_p11")
"""Folders of posed pairs, from where the reader stands and below RFP_DATA."""


def make_places(folder: Path, views: list[View]) -> Path:
    """Everything but a run and a COLMAP model, which only commands can make."""
    posed = _with_photographs(write_pairs_folder(folder / "posed", views))
    for name in (*POSED, *(f"sets/{name}" for name in SETS)):
        shutil.copytree(posed, folder / name)
    for name in ("photographs", "photos"):
        shutil.copytree(posed / "images", folder / name)
    for name, number in (("a.jpg", 1), ("b.jpg", 2)):
        shutil.copy(posed / "images" / f"{number}.jpg", folder / name)
    (folder / "pairs-netvlad.txt").write_text("1.jpg 2.jpg\n2.jpg 3.jpg\n")
    write_state_dict(SuperPoint(batch_norm=True), folder / "superpoint_v6_from_tf.pth")
    _write_hpatches(folder / "hpatches-sequences-release", posed / "images" / "1.jpg")
    _write_video(folder, views)
    few = ["--num-pairs", "2", "--image-size", "96", "128", "--texture-size", "128"]
    drawn = ["data", "from-photographs", str(folder / "photos"), str(folder / "homography_pairs"), *few]
    assert main([*drawn, "--truth", "homographies"]) == 0
    shutil.rmtree(posed)
    return folder


def make_run(folder: Path, data: Path, network: str) -> Path:
    """What one step of training leaves."""
    arguments = ["train", "--network", network, "--data", str(data), "--image-size", "96", "--output", str(folder)]
    assert main([*arguments, *SMALL_TRAINING]) == 0
    return folder


def make_model(folder: Path, images: Path, truth: Path) -> Path:
    """The COLMAP model of the images, as their mapping leaves it."""
    options = ["--network", "tiny", "--num-keypoints", "400", "--image-size", "None", "--device", "cpu"]
    assert main(["reconstruct", str(images), "--truth", str(truth), *options, "--output", str(folder)]) == 0
    return folder / "sparse" / "0"


def _with_photographs(folder: Path) -> Path:
    """The folder with its images as JPEG, numbered from 1."""
    for path in sorted((folder / "images").iterdir()):
        cv2.imwrite(
            str(path.with_name(f"{int(path.stem) + 1}.jpg")), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 98]
        )
        path.unlink()
    records = (folder / "pairs.json").read_text()
    (folder / "pairs.json").write_text(re.sub(r"(\d+)\.png", lambda match: f"{int(match[1]) + 1}.jpg", records))
    return folder


def _write_hpatches(folder: Path, photograph: Path) -> None:
    """One sequence: an image, and five copies of it that are shifted."""
    image = cv2.imread(str(photograph))
    (folder / "v_shifted").mkdir(parents=True)
    cv2.imwrite(str(folder / "v_shifted" / "1.ppm"), image)
    for number in range(2, 7):
        cv2.imwrite(str(folder / "v_shifted" / f"{number}.ppm"), np.roll(image, number, axis=1))
        np.savetxt(folder / "v_shifted" / f"H_1_{number}", [[1, 0, number], [0, 1, 0], [0, 0, 1]])


def _write_video(folder: Path, views: list[View]) -> None:
    """``rgb.txt`` and ``poses.txt``: 640 × 480, ten images from one view to the next, all of them that view's."""
    images, poses = [], []
    (folder / "rgb").mkdir()
    for number in range(10 * len(views)):
        view = views[number // 10]
        pixels = (view.image.permute(1, 2, 0).flip(-1) * 255).round().byte().numpy()
        path = folder / "rgb" / f"{number}.jpg"
        if number % 10:
            shutil.copy(folder / "rgb" / f"{number - number % 10}.jpg", path)
        else:
            cv2.imwrite(str(path), cv2.resize(pixels, (640, 480)))
        centre = -view.R.T @ view.t / 2.5  # the wall stands 4 away, the page's scene 1.5
        poses.append(" ".join(map(str, [float(number), *centre.tolist(), *_quaternion(view.R.T)])))
        images.append(f"{float(number)} rgb/{number}.jpg")
    (folder / "poses.txt").write_text("\n".join(poses) + "\n")
    (folder / "rgb.txt").write_text("\n".join(images) + "\n")


def _quaternion(R: torch.Tensor) -> list[float]:
    """(x, y, z, w) of a rotation by less than 180 degrees."""
    w = 0.5 * (1 + R.trace()).sqrt().item()
    return [*((R - R.T)[(2, 0, 1), (1, 2, 0)] / (4 * w)).tolist(), w]
