"""Networks behind one interface: images → log heat map, and descriptors at given points."""

from rfp.models.aliked import Aliked
from rfp.models.disk import Disk
from rfp.models.pretrained import load_network, load_pretrained, load_weights, network_names, save_weights
from rfp.models.sampling import sample_descriptors
from rfp.models.superpoint import SuperPoint
from rfp.models.tiny import Tiny

__all__ = [
    "Aliked",
    "Disk",
    "SuperPoint",
    "Tiny",
    "load_network",
    "load_pretrained",
    "load_weights",
    "network_names",
    "sample_descriptors",
    "save_weights",
]
