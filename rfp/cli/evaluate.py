"""``rfp evaluate``: the pose accuracy of a network on posed pairs, as it is deployed."""

from dataclasses import asdict, dataclass
from pathlib import Path

from rfp.cli.device import choose_device
from rfp.cli.output import check_can_write, write_figures
from rfp.data.pairs import PosedPairs
from rfp.evaluation import EstimatorName, evaluate, format_scenes
from rfp.models import load_network


@dataclass(frozen=True)
class Evaluate:
    """Judge a network by the relative poses that an outside estimator finds from its matches.

    Deployment, not sampling: non-maximum suppression, the best key points, mutual nearest neighbours. Prints
    AUC@5/10/20 of the pose error in percent, one row a scene; pairs without a pose count as errors of 180 degrees.

    Example: rfp evaluate --network aliked-t16 --data lund_door strecha_fountain_p11 --json figures.json
    """

    data: tuple[Path, ...]
    """Folders of posed pairs (images/ and pairs.json); several are pooled."""
    network: str = "aliked-t16"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    estimator: EstimatorName = "poselib"
    """Who estimates the pose. Judge with one that training did not use."""
    image_size: int | None = 640
    """Longer side of the images in pixels, intrinsics scaled in step; None keeps the stored size."""
    num_keypoints: int = 1024
    """Key points an image."""
    nms_radius: int = 2
    """Radius of the non-maximum suppression in pixels."""
    max_error_px: float = 1.0
    """The estimator's inlier threshold, in pixels of the resized images."""
    seed: int = 0
    """Of the estimator's samples (OpenCV's two use one of their own)."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, cuda:0 or mps."""
    json: Path | None = None
    """Write the figures, pair by pair, to this file."""


def run(command: Evaluate) -> None:
    """Evaluate, print the table, write the figures."""
    check_can_write(command.json)
    pairs = PosedPairs(command.data, image_size=command.image_size)
    pairs.check_images()  # a broken one is found before the work, not in the middle
    network = load_network(command.network)
    report = evaluate(
        network,
        pairs,
        estimator=command.estimator,
        num_keypoints=command.num_keypoints,
        nms_radius=command.nms_radius,
        max_error_px=command.max_error_px,
        device=choose_device(command.device),
        seed=command.seed,
        progress=True,
    )
    print(format_scenes(report))
    figures = {**asdict(report), "network": command.network, "data": [str(folder) for folder in command.data]}
    write_figures(command.json, figures)
