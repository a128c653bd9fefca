"""What ``rfp pretrain`` learns from: flat images, scenes, reliefs or real pairs, labelled by the teacher."""

from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from rfp.cli.pretraining_command import Pretrain
from rfp.cli.training_sets import made_pairs
from rfp.data.homographies import HomographyOptions
from rfp.data.sets import OpenedPairs, open_posed_pairs
from rfp.training.pretraining import ViewSource
from rfp.training.pretraining_pairs import PosedViews, RenderedViews, verified_matches
from rfp.training.pretraining_sources import HomographyViews, label_sources, load_sources


def labelled_views(command: Pretrain, teacher: nn.Module | None, device: torch.device) -> ViewSource:
    """What the command asks for; the teacher, None for corners, lies on ``device``.

    Raises:
        InputError: data that cannot be read.
    """
    if command.data:
        assert teacher is not None
        return _posed_views(command, teacher, device)
    if command.rendered or command.in_relief:
        seed = command.options.seed
        return RenderedViews(
            made_pairs(command), teacher, count=command.labels, max_error_px=command.max_error_px, seed=seed
        )
    return _homography_views(command, teacher, device)


def open_pairs(folders: tuple[Path, ...], command: Pretrain) -> OpenedPairs:
    """The pairs of folders, every image decoded once.

    Raises:
        InputError: the first that cannot be read.
    """
    pairs = open_posed_pairs(folders, image_size=command.image_size)
    pairs.check_images()
    return pairs


def _homography_views(command: Pretrain, teacher: nn.Module | None, device: torch.device) -> HomographyViews:
    """Views of photographs and textures, whose key points the teacher labels now."""
    generator = torch.Generator(device).manual_seed(command.options.seed)
    sources = load_sources(
        command.photographs,
        crops=command.crops,
        textures=command.textures,
        size=command.source_size,
        seed=command.options.seed,
        generator=generator,
    )
    with tqdm(total=len(sources), unit="source", desc="labels", dynamic_ncols=True) as bar:
        key_points, descriptors = label_sources(
            teacher,
            sources,
            count=command.labels,
            adaptations=command.adaptations,
            with_descriptors=command.options.distillation_weight > 0,
            generator=generator,
            on_batch=bar.update,
        )
    found = (key_points[..., 2] > 0).sum(1).float().mean()
    print(f"{len(sources)} sources, {found:.0f} key points by {command.teacher} in each")
    views = HomographyOptions(image_size=(command.view_size, command.view_size))
    return HomographyViews(sources, key_points, descriptors, views=views)


def _posed_views(command: Pretrain, teacher: nn.Module, device: torch.device) -> PosedViews:
    """Real pairs, matched now by the teacher."""
    pairs = open_pairs(command.data, command)
    with tqdm(total=len(pairs), unit="pair", desc="matches", dynamic_ncols=True) as bar:
        matches = verified_matches(
            teacher, pairs, count=command.labels, max_error_px=command.max_error_px, on_pair=bar.update
        )
    found = matches.valid.sum(1).float().mean()
    print(f"{len(pairs)} pairs, {found:.0f} matches by {command.teacher} in each that the true pose confirms")
    return PosedViews(pairs, matches, seed=command.options.seed, device=device)
