"""One small batch of rendered pairs, shared by the tests that look at it from different sides."""

from dataclasses import dataclass, replace

import pytest
import torch

from rfp.data.synthetic.cameras import Cameras
from rfp.data.synthetic.held_out_layouts import HELD_OUT_LAYOUTS
from rfp.data.synthetic.layouts import TRAINING_LAYOUTS
from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.rendering import RenderedBatch, draw_rendering_noise, render_on_noise, set_up
from rfp.data.synthetic.scenes import Scenes
from rfp.data.synthetic.texture_bank import TextureBank, make_bank
from rfp.data.synthetic.textures import HELD_OUT_FAMILIES, TRAINING_FAMILIES, draw_textures
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


LAYOUTS = {**dict.fromkeys(TRAINING_LAYOUTS, TRAINING_FAMILIES), **dict.fromkeys(HELD_OUT_LAYOUTS, HELD_OUT_FAMILIES)}
"""Every layout with the textures that it is drawn with."""


@pytest.fixture(scope="session", params=LAYOUTS)
def example(request) -> Example:
    """Three pairs of one layout; each layout of training, and each of those held out."""
    options = replace(SMALL, layouts=(request.param,), textures=LAYOUTS[request.param])
    return make_example(options, 3, seed=3)
