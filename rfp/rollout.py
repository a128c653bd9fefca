"""The whole flow on one screen: features → key points → matches → task → reward (being written)."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from rfp.records import Correspondences, DenseFeatures, TwoViewGeometry


class FeatureNetwork(Protocol):
    """What rfp asks of a network: a heat map, and descriptors at given points. Any ``nn.Module`` with these two."""

    def extract(self, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
        """Dense features of b RGB images in [0, 1], all of one size."""
        ...

    def describe(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N D"]:
        """Unit descriptors at N points of each image, differentiable with respect to the network."""
        ...


@runtime_checkable
class SubpixelNetwork(Protocol):
    """A network whose deployed detector moves its key points off the pixel grid. Training never calls it."""

    def refine(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N 2"]:
        """The points moved to the sub-pixel peak of the heat map."""
        ...


class TaskEstimator(Protocol):
    """A robust estimator, a black box: nothing flows back through it."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the U(0, 1) noise that one problem consumes."""
        ...

    def __call__(self, correspondences: Correspondences, noise: Float[Tensor, "..."]) -> Any:
        """The task's result for each problem, with a mask ``valid`` of shape (*B,)."""
        ...


class Reward(Protocol):
    """What a task's result was worth; higher is better, always finite."""

    def __call__(
        self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry
    ) -> Float[Tensor, "*B"]: ...
