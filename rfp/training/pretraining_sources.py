"""Flat images whose key points are known, and labelled pairs of views of them: pretraining without a scene."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from kornia.geometry.linalg import transform_points
from torch import Tensor, nn

from rfp.data.homographies import HomographyOptions, HomographyPairs, draw_homography_pairs
from rfp.data.photographs import load_photographs
from rfp.data.synthetic.textures import draw_textures
from rfp.models.state import in_eval_mode
from rfp.records import InputError
from rfp.training.pretraining_labels import BORDER, adapted_heat, corner_heat, heat_of_network, key_points_of_heat
from rfp.training.pretraining_losses import LabelledPairs, LabelledView


def load_sources(
    photographs: Path | None,
    *,
    crops: int = 8,
    textures: int = 64,
    size: int = 480,
    seed: int = 0,
    generator: torch.Generator,
) -> UInt8[Tensor, "n 3 size size"]:
    """Crops of photographs, then textures made by code, on the generator's device.

    Args:
        crops: Square crops of each photograph, at scales and places of their own, drawn by ``seed`` on the CPU.
        generator: Draws the textures.

    Raises:
        InputError: nothing to show, or a folder without photographs.
    """
    if textures < 0 or (textures == 0 and photographs is None):
        raise InputError(f"--textures: expected at least 1 or a folder of --photographs, got {textures}")
    sources = []
    if photographs is not None:
        draw = torch.Generator().manual_seed(seed)
        cut = load_photographs(
            photographs, size=size, crops=crops, largest_scale=1.8, dtype=torch.uint8, generator=draw
        )
        sources.append(cut.to(generator.device))
    for start in range(0, textures, 32):
        drawn = draw_textures(min(32, textures - start), size=size, generator=generator)
        sources.append((drawn * 255).round().to(torch.uint8))
    return torch.cat(sources)


class HomographyViews:
    """Labelled pairs of views of flat sources, related by homographies that are drawn anew at every step.

    Args:
        sources: (n, 3, s, s) uint8, on the device to train on.
        key_points: (n, L, 3): x, y and weight of the labels of each source; weight 0 for none.
        descriptors: The teacher's at the labels, to distil from.
        views: How two cameras look at a source.

    Example:
        >>> sources = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
        >>> label = label_sources(None, sources, count=16, adaptations=2, generator=torch.Generator().manual_seed(0))
        >>> views = HomographyViews(sources, *label, views=HomographyOptions(image_size=(32, 32)))
        >>> views.draw(3, step=0, generator=torch.Generator().manual_seed(0))[0].seen.shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        sources: UInt8[Tensor, "n 3 s s"],
        key_points: Float[Tensor, "n L 3"],
        descriptors: Float[Tensor, "n L D"] | None = None,
        *,
        views: HomographyOptions,
    ) -> None:
        self.sources, self.key_points, self.descriptors, self.views = sources, key_points, descriptors, views

    def __repr__(self) -> str:
        """Tells one from another, by their images: labels may differ in their last bits from run to run."""
        few = self.sources.flatten()[:: max(1, self.sources.numel() // 2**20)]
        digest = hashlib.sha256(few.cpu().numpy().tobytes()).hexdigest()[:8]
        distilled = "" if self.descriptors is None else ", with descriptors"
        size = "x".join(map(str, reversed(self.views.image_size)))
        return f"HomographyViews({len(self.sources)} sources {digest}, views of {size} px{distilled})"

    def draw(self, count: int, *, step: int, generator: torch.Generator) -> list[LabelledPairs]:
        """``count`` pairs in one batch; what is drawn depends on the generator alone."""
        return [self.labelled(draw_homography_pairs(self.sources, count, options=self.views, generator=generator))]

    def labelled(self, pairs: HomographyPairs) -> LabelledPairs:
        """The views with their source's key points, where they show them."""
        source = self.key_points[pairs.source]
        sides = []
        for images, H, inside in (
            (pairs.images1, pairs.H_source1, pairs.inside1),
            (pairs.images2, pairs.H_source2, pairs.inside2),
        ):
            xy_px = transform_points(H, source[..., :2])
            visible = (source[..., 2] > 0) & is_inside(xy_px, inside)
            sides.append(LabelledView(images, inside, xy_px, torch.where(visible, source[..., 2], 0.0)))
        seen = (sides[0].weight > 0) & (sides[1].weight > 0)
        teacher = None if self.descriptors is None else self.descriptors[pairs.source].float()
        return LabelledPairs(sides[0], sides[1], seen, teacher)


@torch.no_grad()
def label_sources(
    teacher: nn.Module | None,
    sources: UInt8[Tensor, "n 3 s s"],
    *,
    count: int = 1024,
    adaptations: int = 2,
    with_descriptors: bool = False,
    generator: torch.Generator,
    on_batch: Callable[[int], object] | None = None,
) -> tuple[Float[Tensor, "n L 3"], Float[Tensor, "n L D"] | None]:
    """(x, y, weight) of a teacher's key points in each source and, if asked for, its descriptors there in float16.

    Args:
        teacher: A network on the device of the sources; None for corners (:func:`corner_heat`).
        count: Key points of a source, at most; the rest has weight 0.
        adaptations: Homographies over which the heat is averaged.
        on_batch: Called with the number of sources done since the last call.

    Raises:
        InputError: descriptors asked of corners, or more key points than pixels.
    """
    if with_descriptors and teacher is None:
        raise InputError("corners have no descriptors to distil; expected a network as teacher, or no distillation")
    if count > sources.shape[-1] * sources.shape[-2]:
        raise InputError(f"expected at most {sources[0, 0].numel()} labels, the pixels of a source, got {count}")
    labels, descriptors = [], []
    heat_of = corner_heat if teacher is None else heat_of_network(teacher)
    with in_eval_mode(nn.Identity() if teacher is None else teacher):
        for batch in sources.split(4 if sources.is_cuda else 1):  # a CPU's caches hold one
            heat = adapted_heat(heat_of, batch, adaptations=adaptations, generator=generator)
            labels.append(key_points_of_heat(heat, count))
            if with_descriptors and teacher is not None:
                dense = teacher.extract(batch / 255)  # type: ignore[operator]
                described = teacher.describe(dense, labels[-1][..., :2])  # type: ignore[operator]
                descriptors.append(described.half())  # half the memory, and far finer than the similarities need
            if on_batch is not None:
                on_batch(len(batch))
    return torch.cat(labels), torch.cat(descriptors) if descriptors else None


def is_inside(xy: Float[Tensor, "b N 2"], inside: Bool[Tensor, "b h w"], border: int = BORDER) -> Bool[Tensor, "b N"]:
    """Whether a point lies in the view, away from its border, and the view shows something there."""
    height, width = inside.shape[-2:]
    x, y = xy.unbind(-1)
    within = (x > border) & (x < width - 1 - border) & (y > border) & (y < height - 1 - border)
    index = y.round().clamp(0, height - 1).long() * width + x.round().clamp(0, width - 1).long()
    return within & inside.flatten(1).gather(1, index)
