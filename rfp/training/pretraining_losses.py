"""Low-level losses on pairs of views whose true correspondences are known: what pretraining minimises.

Not the aim of rfp, whose training knows the pose alone, but its start, and what that training is compared with.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.rollout import FeatureNetwork, extract
from rfp.training.pretraining_options import PretrainingOptions

INDISTINCT_PX = 4
"""Points nearer than this are no negatives of each other: nobody could tell them apart."""


@dataclass(frozen=True)
class LabelledView:
    """One side of B pairs: images, and N points of each that have a counterpart in the other side's."""

    images: Float[Tensor, "B 3 h w"]
    inside: Bool[Tensor, "B h w"]
    """False where the image shows nothing: black there, and no place for key points."""
    xy_px: Float[Tensor, "B N 2"]
    weight: Float[Tensor, "B N"]
    """Of each point as a label of the detector; 0 where it is none."""


@dataclass(frozen=True)
class LabelledPairs:
    """B pairs of views of one size a side; point n of the first view is the same as point n of the second."""

    first: LabelledView
    second: LabelledView
    seen: Bool[Tensor, "B N"]
    """True for the points that both views show: they teach the descriptors."""
    teacher: Float[Tensor, "B N D"] | None = None
    """The teacher's descriptors of the points, of unit norm."""


def low_level_loss(
    network: FeatureNetwork,
    pairs: LabelledPairs,
    options: PretrainingOptions,
    generator: torch.Generator,
    *,
    bfloat16: bool = False,
) -> dict[str, Float[Tensor, ""]]:
    """The loss and its parts: descriptors that find their counterpart, and heat where the labels are.

    ``matching_loss + heat_weight · heat_loss + distillation_weight · distillation_loss``: the three functions below, of
    which the ones of weight 0 are not computed. Nothing here visits the host.
    """
    sides = _sides(pairs)
    images = [_changed(side, options, generator) for side in sides]
    features = [extract(network, image, bfloat16=bfloat16) for image in images]
    number = min(options.points, pairs.seen.shape[1])
    priority = torch.rand(pairs.seen.shape, generator=generator, device=pairs.seen.device)
    chosen = (priority + pairs.seen.to(priority.dtype)).topk(number, dim=1).indices
    both = pairs.seen.gather(1, chosen)
    points = torch.cat([_at(view.xy_px, chosen) for view in (pairs.first, pairs.second)])
    noise = torch.randn(points.shape, generator=generator, device=points.device)
    read = (points + options.jitter_px * noise).split([len(side.images) for side in sides])
    described = [network.describe(dense, at) for dense, at in zip(features, read, strict=True)]
    descriptors1, descriptors2 = torch.cat(described).chunk(2)
    (points1, points2), temperature = points.chunk(2), options.temperature
    loss, correct = descriptor_loss(descriptors1, descriptors2, points1, points2, both, temperature)
    parts = {"matching_loss": loss.detach(), "nearest_is_right": correct}
    if options.heat_weight:
        heat = [detector_loss(f.log_heat, s.inside, s.xy_px, s.weight) for f, s in zip(features, sides, strict=True)]
        heat_loss = torch.stack(heat).mean()
        loss, parts = loss + options.heat_weight * heat_loss, parts | {"heat_loss": heat_loss.detach()}
    if options.distillation_weight and pairs.teacher is not None:
        distilled = distillation_loss(descriptors1, descriptors2, _at(pairs.teacher, chosen), both, temperature)
        loss = loss + options.distillation_weight * distilled
        parts["distillation_loss"] = distilled.detach()
    return {"loss": loss, **parts}


def detector_loss(
    log_heat: Float[Tensor, "b h w"],
    inside: Bool[Tensor, "b h w"],
    xy_px: Float[Tensor, "b N 2"],
    weight: Float[Tensor, "b N"],
) -> Float[Tensor, ""]:
    """Cross-entropy of P = softmax(log f) with the key points, each spread over its four pixels by bilinear weights.

    P is the policy's distribution over the pixels of the image that show something. An image without labels costs
    nothing. Points of weight 0 may lie anywhere, the others inside the image by a pixel.
    """
    width = log_heat.shape[-1]
    log_p = torch.log_softmax(torch.where(inside, log_heat, -1e4).flatten(1), dim=1)
    xy = torch.where((weight > 0)[..., None], xy_px, 1.0)
    corner = xy.floor()
    fraction = xy - corner
    share = weight / weight.sum(1, keepdim=True).clamp_min(1e-9)
    total = log_heat.new_zeros(())
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        index = ((corner[..., 1] + dy) * width + corner[..., 0] + dx).long()
        along_x = fraction[..., 0] if dx else 1 - fraction[..., 0]
        along_y = fraction[..., 1] if dy else 1 - fraction[..., 1]
        total = total - (share * along_x * along_y * log_p.gather(1, index).clamp_min(-100)).sum(1).mean()
    return total


def descriptor_loss(
    descriptors1: Float[Tensor, "b N D"],
    descriptors2: Float[Tensor, "b N D"],
    xy1_px: Float[Tensor, "b N 2"],
    xy2_px: Float[Tensor, "b N 2"],
    both: Bool[Tensor, "b N"],
    temperature: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """InfoNCE in both directions over the points seen in both views, and the share of right nearest neighbours.

    -log softmax_j(d_i · d'_j / τ) at j = i, averaged over the points (van den Oord et al., 2018). Points nearer than
    4 px to the right one in either view are no negatives: nobody could tell them apart.
    """
    similarity = descriptors1 @ descriptors2.mT
    near = (torch.cdist(xy1_px, xy1_px) < INDISTINCT_PX) | (torch.cdist(xy2_px, xy2_px) < INDISTINCT_PX)
    itself = torch.eye(near.shape[-1], dtype=torch.bool, device=near.device)
    logits = torch.where(near & ~itself, -1e4, similarity / temperature)
    total, correct = similarity.new_zeros(()), similarity.new_zeros(())
    number = both.sum().clamp_min(1)
    target = torch.arange(near.shape[-1], device=near.device)
    for one_way in (logits, logits.mT):
        one_way = torch.where(both[:, None, :], one_way, -1e4)
        log_p = torch.log_softmax(one_way, dim=-1).diagonal(dim1=-2, dim2=-1)
        total = total - torch.where(both, log_p, 0.0).sum() / number / 2
        correct = correct + ((one_way.argmax(-1) == target) & both).sum() / number / 2
    return total, correct.detach()


def distillation_loss(
    descriptors1: Float[Tensor, "b N D"],
    descriptors2: Float[Tensor, "b N D"],
    teacher: Float[Tensor, "b N T"],
    both: Bool[Tensor, "b N"],
    temperature: float,
) -> Float[Tensor, ""]:
    """How far the similarities across the views are from those of the teacher's descriptors of the same points.

    Σ_j q_ij log(q_ij / p_ij) averaged over the points i and both directions, q_i = softmax_j(t_i · t_j / τ) of the
    teacher and p_i = softmax_j(d_i · d'_j / τ): only relations are compared, so that dimensions may differ (Fang et
    al., SEED, 2021, eq. 3 to 5).
    """
    outside = ~both[:, None, :]
    log_q = torch.log_softmax((teacher @ teacher.mT / temperature).masked_fill(outside, -1e4), dim=-1)
    similarity = descriptors1 @ descriptors2.mT / temperature
    total, number = similarity.new_zeros(()), both.sum().clamp_min(1)
    for one_way in (similarity, similarity.mT):
        log_p = torch.log_softmax(one_way.masked_fill(outside, -1e4), dim=-1)
        divergence = (log_q.exp() * (log_q - log_p)).sum(-1)
        total = total + torch.where(both, divergence, 0.0).sum() / number / 2
    return total


def _sides(pairs: LabelledPairs) -> list[LabelledView]:
    """Both sides as one batch where their sizes agree, as batch norm should see them, or else one after the other."""
    first, second = pairs.first, pairs.second
    if first.images.shape != second.images.shape:
        return [first, second]
    fields = ("images", "inside", "xy_px", "weight")
    return [LabelledView(*(torch.cat([getattr(first, name), getattr(second, name)]) for name in fields))]


def _changed(side: LabelledView, options: PretrainingOptions, generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """The images in another light, each by its own draw; black outside."""
    images = options.augmentation(side.images, generator=generator) if options.augment else side.images
    return images * side.inside[:, None]


def _at(values: Float[Tensor, "B N D"], index: Tensor) -> Float[Tensor, "B n D"]:
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
