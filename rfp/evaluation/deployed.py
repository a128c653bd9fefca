"""A network as it is deployed, for the tasks that take single images: its features, one image at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.models.state import device_of, in_eval_mode
from rfp.records import Features
from rfp.rollout import detect

Detector = Callable[[Float[Tensor, "3 h w"]], Features]
"""An image → its key points, B = 1."""


@contextmanager
def deployed(
    network: nn.Module, device: torch.device | str | None = None, *, num_keypoints: int, nms_radius: int
) -> Iterator[Detector]:
    """The deployed detector of a network in eval mode on ``device``; afterwards it is where and how it was before.

    A network may answer a strange image with NaN: such key points are no key points.

    Args:
        device: by default where the network's parameters are.
    """
    device = device_of(network) if device is None else torch.device(device)

    def features_of(image: Float[Tensor, "3 h w"]) -> Features:
        found = detect(
            network,  # type: ignore[arg-type]
            image[None].to(device),
            num_keypoints=num_keypoints,
            nms_radius=nms_radius,
        )
        finite = found.descriptor.isfinite().all(-1) & found.xy_px.isfinite().all(-1)
        return Features(
            xy_px=torch.where(finite[..., None], found.xy_px, 0.0),
            score=found.score,
            descriptor=torch.where(finite[..., None], found.descriptor, 0.0),
            valid=found.valid & finite,
        )

    with in_deployment(network, device):
        yield features_of


@contextmanager
def in_deployment(network: nn.Module, device: torch.device) -> Iterator[None]:
    """The network on ``device`` in eval mode, without gradients; afterwards it is where and how it was before."""
    home = device_of(network)
    network.to(device)
    try:
        with in_eval_mode(network), torch.no_grad():
            yield
    finally:
        network.to(home)
