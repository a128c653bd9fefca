"""``rfp evaluate-homographies``: key points and matches of a network on pairs of views of planes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from rfp.cli.device import choose_device
from rfp.cli.evaluation_pictures import Deployment, check_picture_folder
from rfp.cli.homography_pictures import draw_homography_curves, draw_worst_planes
from rfp.cli.networks import load_networks
from rfp.cli.output import check_can_write, write_figures, write_table
from rfp.data.homographies import HomographyOptions, draw_homography_pairs
from rfp.data.photographs import load_photographs
from rfp.data.sets import HomographyFolder, HomographyPair, HPatches
from rfp.data.synthetic.textures import HELD_OUT_FAMILIES, draw_textures
from rfp.evaluation.homography_estimators import HomographyEstimatorName
from rfp.evaluation.homography_evaluation import PlanarPair, evaluate_homographies
from rfp.evaluation.homography_report import format_homographies
from rfp.matching.match import MatcherName
from rfp.records import InputError


@dataclass(frozen=True)
class EvaluateHomographies:
    """Judge a network on pairs of views of a plane: mean matching accuracy, repeatability, matching score, homography.

    Data are HPatches (its folder of sequences, or one sequence), or a folder with homographies.json and its images.
    Without --data, pairs are drawn: two views of each of several textures (of kinds that training never sees), or of
    your own --photographs, with exact homographies.

    Figures: MMA@1–10, the share of matches within so many pixels of the true homography; repeatability and matching
    score at --correct-px; AUC@1/3/5, the area under the curve of the error of the image's corners under the estimated
    homography. A pair without a homography counts as an infinite error.

    In use:
      HPatches:              rfp evaluate-homographies --data hpatches-sequences-release --image-size None
      a drawn set:           rfp evaluate-homographies --network tiny
      before and after:      rfp evaluate-homographies --network aliked-t16 --compare runs/2026-05-01
    """

    data: tuple[Path, ...] = ()
    """Folders of HPatches' sequences or with homographies.json; several are pooled."""
    network: str = "aliked-t16"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    compare: str | None = None
    """A second network, judged on the same pairs: the trained one beside the one that it began with."""
    matcher: MatcherName = "mutual"
    """Mutual nearest neighbours, ratio test, dual softmax or LightGlue."""
    estimator: HomographyEstimatorName = "opencv"
    """Who estimates the homography: opencv (USAC MAGSAC++), opencv-ransac, poselib or rfp."""
    image_size: int | None = 640
    """Longer side of the images in pixels, homographies in step, and of drawn ones; None keeps the stored size."""
    num_keypoints: int = 1024
    """Key points an image. Repeatability compares at equal numbers only."""
    nms_radius: int = 2
    """Radius of the non-maximum suppression in pixels."""
    max_error_px: float = 3.0
    """The estimator's inlier threshold, in pixels of the resized images."""
    correct_px: float = 3.0
    """How far the same point may be in repeatability and matching score."""
    photographs: Path | None = None
    """Without --data: a folder of photographs to draw pairs from, in place of textures."""
    num_pairs: int = 40
    """Without --data: how many pairs to draw."""
    seed: int = 0
    """Of drawn pairs and of the estimator's samples (OpenCV's two use one of their own)."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, cuda:0 or mps."""
    json: Path | None = None
    """Write the figures, pair by pair, to this file."""
    markdown: Path | None = None
    """Write the table as Markdown to this file."""
    pictures: Path | None = None
    """Draw curves of matching accuracy and of the corner error, and the worst pairs of --network, into this folder."""


def run(command: EvaluateHomographies) -> None:
    """Evaluate one or two networks, print the table, write the figures."""
    check_can_write(command.json)
    check_can_write(command.markdown)
    check_picture_folder(command.pictures)
    loaded = load_networks(command.network, command.compare, command.matcher)
    pairs = _stored_pairs(command) if command.data else _drawn_pairs(command)
    device = choose_device(command.device)
    reports = {
        name: evaluate_homographies(
            network,
            pairs,
            matcher=matcher,
            estimator=command.estimator,
            num_keypoints=command.num_keypoints,
            nms_radius=command.nms_radius,
            max_error_px=command.max_error_px,
            correct_px=command.correct_px,
            device=device,
            seed=command.seed,
            progress=True,
        )
        for name, (network, matcher) in loaded.items()
    }
    print(format_homographies(reports))
    write_table(command.markdown, format_homographies(reports, markdown=True))
    figures = {"data": [str(folder) for folder in command.data] or "drawn"}
    write_figures(command.json, {**figures, "networks": {name: asdict(report) for name, report in reports.items()}})
    if command.pictures is not None:
        networks = {name: network for name, (network, _) in loaded.items()}
        deployment = Deployment(
            networks, command.matcher, command.num_keypoints, command.nms_radius, command.correct_px, device
        )
        draw_homography_curves(reports, command.pictures)
        draw_worst_planes(reports, pairs, deployment, command.pictures)
        print(f"pictures: {command.pictures}")


def _stored_pairs(command: EvaluateHomographies) -> Sequence[PlanarPair]:
    if command.photographs is not None:
        raise InputError("expected --data or --photographs, got both; pairs are drawn from photographs, or read")
    sets = []
    for folder in command.data:
        kind = HomographyFolder if (folder / "homographies.json").is_file() else HPatches
        sets.append(kind(folder, image_size=command.image_size))
        sets[-1].check_images()  # a broken one is found before the work, not in the middle
    return sets[0] if len(sets) == 1 else _Pooled(sets)


class _Pooled(Sequence[PlanarPair]):
    """Several sets, one after another; pairs are decoded when they are asked for."""

    def __init__(self, sets: Sequence[Sequence[PlanarPair]]) -> None:
        self.places = [(each, index) for each in sets for index in range(len(each))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> PlanarPair:  # type: ignore[override]
        pairs, place = self.places[index]
        return pairs[place]


def _drawn_pairs(command: EvaluateHomographies) -> list[HomographyPair]:
    """Views, 4:3, of textures or photographs that are half as large again, so that most views stay inside."""
    if command.num_pairs < 1:
        raise InputError(f"--num-pairs: expected at least 1 pair to draw, got {command.num_pairs}")
    width = 640 if command.image_size is None else command.image_size
    options = HomographyOptions(image_size=(width * 3 // 4, width))
    generator = torch.Generator().manual_seed(command.seed)
    size = width * 3 // 2
    if command.photographs is not None:
        sources = load_photographs(command.photographs, size=size, limit=command.num_pairs, generator=generator)
    else:
        size, count = max(size // 4 * 4, 4), min(command.num_pairs, 2 * len(HELD_OUT_FAMILIES))
        sources = draw_textures(count, size=size, families=HELD_OUT_FAMILIES, generator=generator)
    pairs = []
    for number in range(command.num_pairs):
        place = number % len(sources)
        drawn = draw_homography_pairs(sources[place : place + 1], 1, options=options, generator=generator)
        scene = "photographs" if command.photographs is not None else HELD_OUT_FAMILIES[place % len(HELD_OUT_FAMILIES)]
        pairs.append(
            HomographyPair(drawn.images1[0], drawn.images2[0], drawn.H[0].double(), scene, f"drawn pair {number}")
        )
    return pairs
