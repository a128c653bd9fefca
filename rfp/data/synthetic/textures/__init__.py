"""Procedural textures in batches on the device: families for training, and others held out from it."""

from rfp.data.synthetic.textures.families import FAMILIES, HELD_OUT_FAMILIES, TRAINING_FAMILIES, draw_textures

__all__ = ["FAMILIES", "HELD_OUT_FAMILIES", "TRAINING_FAMILIES", "draw_textures"]
