"""Rendered scenes and their textures: pictures with exact truth, made on the device without any data."""

from rfp.data.synthetic.held_out_layouts import HELD_OUT_LAYOUTS
from rfp.data.synthetic.layouts import TRAINING_LAYOUTS
from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.pairs import ReliefPairs, RenderedPairs, RenderedSet, rendered_set
from rfp.data.synthetic.relief import ReliefBatch, ReliefOptions
from rfp.data.synthetic.rendering import RenderedBatch
from rfp.data.synthetic.textures import FAMILIES, HELD_OUT_FAMILIES, TRAINING_FAMILIES, draw_textures

__all__ = [
    "FAMILIES",
    "HELD_OUT_FAMILIES",
    "HELD_OUT_LAYOUTS",
    "TRAINING_FAMILIES",
    "TRAINING_LAYOUTS",
    "ReliefBatch",
    "ReliefOptions",
    "ReliefPairs",
    "RenderedBatch",
    "RenderedPairs",
    "RenderedSet",
    "SceneOptions",
    "draw_textures",
    "rendered_set",
]
