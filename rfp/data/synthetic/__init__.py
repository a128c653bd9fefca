"""Rendered scenes and their textures: pictures with exact truth, made on the device without any data."""
