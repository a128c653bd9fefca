"""The deployed detector with a memory: an image seen before is not computed again."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.evaluation.deployed import Detector
from rfp.records import Features

FEATURES_KEPT = 1024
"""Images whose features are remembered: 0.6 GB at 1024 key points of 128 dimensions."""


class FeatureMemory:
    """Features and a number for each image.

    Images are told apart by their content, so that any sequence of pairs profits, whatever its images come from, and
    the numbers tell which pairs share an image.
    """

    def __init__(self, detector: Detector, seconds: dict[str, float]) -> None:
        self.detector, self.seconds = detector, seconds
        self._known: OrderedDict[bytes, Features] = OrderedDict()
        self._numbers: dict[bytes, int] = {}

    def __call__(self, image: Float[Tensor, "3 h w"]) -> tuple[Features, int]:
        """(features, number): numbers count the distinct images in the order in which they came."""
        digest = hashlib.sha1(str(tuple(image.shape)).encode())
        digest.update(image.cpu().contiguous().numpy().data)
        key = digest.digest()
        features = self._known.pop(key, None)
        if features is None:
            with timed(self.seconds, "features"):
                features = self.detector(image)
        self._known[key] = features
        if len(self._known) > FEATURES_KEPT:
            self._known.popitem(last=False)
        return features, self._numbers.setdefault(key, len(self._numbers))


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time spent inside to the stage's seconds."""
    start = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # else the stage that first waits is charged with the ones before it
    seconds[stage] += time.perf_counter() - start
