"""One small batch of rendered pairs, shared by the tests that look at it from different sides."""

from dataclasses import dataclass

import pytest
import torch

from rfp.data.synthetic.cameras import Cameras
from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.rendering import RenderedBatch, draw_rendering_noise, render_on_noise, set_up
from rfp.data.synthetic.scenes import Scenes
from rfp.data.synthetic.texture_bank import TextureBank, make_bank
from rfp.data.synthetic.textures import draw_textures
from rfp.data.synthetic.viewpoints import Viewpoints

SMALL = SceneOptions(image_size=(96, 128), num_textures=7, texture_size=64)


@dataclass(frozen=True)
class Example:
    options: SceneOptions
    bank: TextureBank
    scenes: Scenes
    viewpoints: Viewpoints
    batch: RenderedBatch

    def cameras(self, view: int) -> Cameras:
        return (self.viewpoints.first, self.viewpoints.second)[view]


def make_example(options: SceneOptions, count: int, seed: int) -> Example:
    generator = torch.Generator().manual_seed(seed)
    bank = make_bank(
        draw_textures(options.num_textures, size=options.texture_size, families=options.textures, generator=generator)
    )
    noise = draw_rendering_noise(count, options, generator=generator)
    scenes, viewpoints, _ = set_up(noise, bank.count, options)
    return Example(options, bank, scenes, viewpoints, render_on_noise(noise, bank, options))


@pytest.fixture(scope="session", params=["training", "held_out"])
def example(request) -> Example:
    """Eight pairs: of the layouts of training, and of those held out."""
    held_out = SceneOptions.held_out(image_size=SMALL.image_size, num_textures=7, texture_size=64)
    return make_example(SMALL if request.param == "training" else held_out, 8, seed=3)
