"""Small posed scenes, rendered: two textured walls that meet in a corner, seen by cameras on an arc."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

WALL_DISTANCE = 4.0
WALL_ANGLE = 0.6
"""Radians by which the walls lean away from the image plane: enough that the scene is not nearly planar."""


@dataclass(frozen=True)
class View:
    image: Tensor  # (3, h, w) in [0, 1]
    K: Tensor  # (3, 3) float64
    R: Tensor  # (3, 3): X_camera = R @ X_world + t
    t: Tensor  # (3,)


def render_views(*, count: int = 4, height: int = 120, width: int = 160, seed: int = 0) -> list[View]:
    """``count`` views of one corner, from left to right, each looking at the corner."""
    generator = torch.Generator().manual_seed(seed)
    textures = [_texture(generator) for _ in range(2)]
    K = torch.tensor(
        [[0.9 * width, 0.0, (width - 1) / 2], [0.0, 0.9 * width, (height - 1) / 2], [0.0, 0.0, 1.0]],
        dtype=torch.float64,
    )
    views = []
    for step in torch.linspace(-0.7, 0.7, count, dtype=torch.float64):
        centre = torch.stack([step, 0.3 * step**2, 0.2 * step])
        R = _look_at(centre, torch.tensor([0.0, 0.0, WALL_DISTANCE], dtype=torch.float64))
        views.append(View(_render(textures, K, R, centre, height, width), K, R, -R @ centre))
    return views


def relative_pose(view1: View, view2: View) -> tuple[Tensor, Tensor]:
    """(R, t) with X2 = R @ X1 + t."""
    R = view2.R @ view1.R.T
    return R, view2.t - R @ view1.t


def write_pairs_folder(folder: Path, views: list[View], *, scene: str = "corner", max_gap: int = 2) -> Path:
    """A folder of posed pairs (``images/`` and ``pairs.json``) of views at most ``max_gap`` apart."""
    import cv2

    (folder / "images").mkdir(parents=True)
    for index, view in enumerate(views):
        pixels = (view.image * 255).round().to(torch.uint8).permute(1, 2, 0).flip(-1).contiguous().numpy()
        cv2.imwrite(str(folder / "images" / f"{index}.png"), pixels)
    records = []
    for first in range(len(views)):
        for second in range(first + 1, min(first + max_gap + 1, len(views))):
            R, t = relative_pose(views[first], views[second])
            records.append(
                {
                    "image1": f"images/{first}.png",
                    "image2": f"images/{second}.png",
                    "K1": views[first].K.tolist(),
                    "K2": views[second].K.tolist(),
                    "R": R.tolist(),
                    "t": t.tolist(),
                    "scene": scene,
                }
            )
    (folder / "pairs.json").write_text(json.dumps(records))
    return folder


def _texture(generator: torch.Generator) -> Tensor:
    """Coloured noise of several octaves, (1, 3, 256, 256)."""
    octaves = [
        interpolate(torch.rand(1, 3, size, size, generator=generator), size=(256, 256), mode="bicubic")
        for size in (16, 48, 128)
    ]
    return (sum(octaves) / len(octaves) - 0.5).mul(1.8).add(0.5).clamp(0, 1)


def _look_at(centre: Tensor, target: Tensor) -> Tensor:
    forward = torch.nn.functional.normalize(target - centre, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]).to(forward), forward), dim=0)
    return torch.stack([right, torch.linalg.cross(forward, right), forward])


def _render(textures: list[Tensor], K: Tensor, R: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).to(K)
    rays = pixels @ torch.linalg.inv(K).T @ R  # Rᵀ K⁻¹ (u, v, 1) as rows
    colours, distances = [], []
    for texture, side in zip(textures, (-1.0, 1.0)):
        angle = torch.tensor(side * WALL_ANGLE, dtype=torch.float64)
        normal = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()])
        along = torch.stack([angle.cos(), torch.zeros_like(angle), -angle.sin()])
        distance = (WALL_DISTANCE * angle.cos() - centre @ normal) / (rays @ normal)
        points = centre + distance[..., None] * rays
        grid = torch.stack([points @ along, points[..., 1]], dim=-1) / 4
        sampled = grid_sample(
            texture.double(), grid[None], mode="bilinear", padding_mode="reflection", align_corners=True
        )
        colours.append(sampled[0])
        distances.append(torch.where(distance > 0, distance, float("inf")))
    return torch.where(distances[0] < distances[1], colours[0], colours[1]).clamp(0, 1).float()
