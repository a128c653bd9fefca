"""Rendered pairs with exact truth, in one batch on the device: noise → scenes → cameras → light → images."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from rfp.data.synthetic.batches import each_repeated, flattened
from rfp.data.synthetic.cameras import Cameras, relative_pose
from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.ray_casting import cast, local_rays
from rfp.data.synthetic.scenes import UNIFORMS_PER_LAYOUT, UNIFORMS_PER_SCENE, Scenes, draw_layouts, draw_scenes
from rfp.data.synthetic.sensor import (
    UNIFORMS_PER_SENSOR,
    Sensors,
    draw_sensors,
    expose,
    soften_edges,
    take_photographs,
)
from rfp.data.synthetic.shading import shade
from rfp.data.synthetic.texture_bank import TextureBank
from rfp.data.synthetic.uniforms import Uniforms
from rfp.data.synthetic.viewpoints import UNIFORMS_PER_VIEWPOINT, Viewpoints, draw_viewpoints
from rfp.records import map_tensors

Record = TypeVar("Record")

CPU_TILE = 1
"""Pairs rendered at once on a CPU: the planes of one pair stay in its caches."""
DEVICE_TILE = 16
"""Pairs rendered at once elsewhere: about 2 GB at 240 × 320."""


@dataclass(frozen=True)
class RenderingNoise:
    """What B pairs are made from; row b belongs to pair b, whatever stands beside it in the batch."""

    layout: Float[Tensor, "B"]
    solids: Float[Tensor, "B Q1"]
    surfaces: Float[Tensor, "B Q2"]
    viewpoints: Float[Tensor, "B Q3"]
    sensors: Float[Tensor, "B Q4"]
    images: Float[Tensor, "B 2 3 h w"]
    """Standard normal."""


@dataclass(frozen=True)
class RenderedBatch:
    """B pairs of images and everything that is true of them; the second dimension is the camera."""

    images: Float[Tensor, "B 2 3 h w"]
    """RGB in [0, 1]."""
    radiance: Float[Tensor, "B 2 3 h w"]
    """Linear light before the sensors, edges softened, the same scale for both images."""
    depth: Float[Tensor, "B 2 h w"]
    """Metres along the optical axis, at pixel centres."""
    surface: UInt8[Tensor, "B 2 h w"]
    """Which surface is seen: solid × 6 + face."""
    K: Float[Tensor, "B 2 3 3"]
    R_world: Float[Tensor, "B 2 3 3"]
    """World to camera: ``X_camera = R_world (X - centre)``."""
    centre: Float[Tensor, "B 2 3"]
    R: Float[Tensor, "B 3 3"]
    """``X2 = R X1 + t``."""
    t: Float[Tensor, "B 3"]
    """In metres."""
    overlap: Float[Tensor, "B"]
    """Share of a view (the smaller of the two) that the other camera sees."""
    baseline: Float[Tensor, "B"]
    """As a share of the median depth of the first view."""
    certain: Bool[Tensor, "B"]
    """True where no second camera within the ranges was found, and a nearby one stands in."""
    layout: Int[Tensor, "B"]
    """Place in ``options.layouts``."""


def draw_rendering_noise(
    count: int, options: SceneOptions, *, generator: torch.Generator, device: torch.device | None = None
) -> RenderingNoise:
    """The uniforms and normals for ``count`` pairs, on the generator's device unless another one is given."""
    device = torch.device(generator.device if device is None else device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    return RenderingNoise(
        layout=uniform(count),
        solids=uniform(count, UNIFORMS_PER_LAYOUT),
        surfaces=uniform(count, UNIFORMS_PER_SCENE),
        viewpoints=uniform(count, UNIFORMS_PER_VIEWPOINT),
        sensors=uniform(count, UNIFORMS_PER_SENSOR),
        images=torch.randn(count, 2, 3, *options.image_size, generator=generator, device=device),
    )


@torch.no_grad()
def render_on_noise(noise: RenderingNoise, bank: TextureBank, options: SceneOptions) -> RenderedBatch:
    """The pairs of given noise: a pure function without visits to the host. Pair b depends on row b and the bank."""
    scenes, viewpoints, sensors = set_up(noise, bank.count, options)
    tile = CPU_TILE if noise.images.device.type == "cpu" else DEVICE_TILE
    count = noise.layout.shape[0]
    images, radiance = torch.empty_like(noise.images), torch.empty_like(noise.images)
    depth = torch.empty_like(noise.images[:, :, 0])
    surface = torch.empty_like(depth, dtype=torch.uint8)
    cameras = _stack(viewpoints.first, viewpoints.second)
    for start in range(0, count, tile):
        part = slice(start, start + tile)
        radiance[part], depth[part], surface[part] = _render_tile(
            _rows(scenes, part), _rows(cameras, part), bank, options.image_size
        )
        images[part] = take_photographs(radiance[part], _rows(sensors, part), noise.images[part])
    R, t = relative_pose(viewpoints.first, viewpoints.second)
    return RenderedBatch(
        images=images,
        radiance=radiance,
        depth=depth,
        surface=surface,
        K=cameras.K,
        R_world=cameras.R,
        centre=cameras.centre,
        R=R,
        t=t,
        overlap=viewpoints.overlap,
        baseline=torch.linalg.vector_norm(t, dim=-1) / viewpoints.median_depth,
        certain=viewpoints.certain,
        layout=scenes.layout,
    )


def set_up(noise: RenderingNoise, num_textures: int, options: SceneOptions) -> tuple[Scenes, Viewpoints, Sensors]:
    """Everything about the pairs but their pixels."""
    names = options.layouts
    choice = (noise.layout * len(names)).long().clamp(max=len(names) - 1)
    layout = draw_layouts(names, choice, noise.solids)
    scenes = draw_scenes(layout, choice, num_textures, Uniforms(noise.surfaces))
    viewpoints = draw_viewpoints(scenes, layout, options, Uniforms(noise.viewpoints))
    return scenes, viewpoints, draw_sensors(options, Uniforms(noise.sensors))


def _render_tile(
    scenes: Scenes, cameras: Cameras, bank: TextureBank, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Light, depth and surfaces of a few pairs, both views at once."""
    height, width = image_size
    scenes, cameras = each_repeated(scenes, 2), flattened(cameras)
    views = cameras.centre.shape[0]
    focal, middle = cameras.K.diagonal(dim1=-2, dim2=-1)[..., None], cameras.K[:, :2, 2, None]
    x = (torch.arange(width, device=focal.device, dtype=focal.dtype) - middle[:, 0]) / focal[:, 0]
    y = (torch.arange(height, device=focal.device, dtype=focal.dtype) - middle[:, 1]) / focal[:, 1]
    x, y = x[:, None, :], y[:, :, None]
    rays = local_rays(scenes.solids, cameras)
    seen = shade(scenes, cameras, rays, bank, x, y, *cast(rays, x, y))
    shape = (views // 2, 2, height, width)
    radiance = soften_edges(seen.radiance, seen.surface)
    radiance = expose(radiance.reshape(views // 2, 2, 3, height, width))
    return radiance, seen.depth.reshape(shape), seen.surface.reshape(shape)


def _stack(first: Cameras, second: Cameras) -> Cameras:
    return Cameras(*(torch.stack(pair, dim=1) for pair in zip(*((c.K, c.R, c.centre) for c in (first, second)))))


def _rows(record: Record, part: slice) -> Record:
    return map_tensors(record, lambda value: value[part])
