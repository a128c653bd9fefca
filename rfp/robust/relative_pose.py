"""Relative pose as the task of a training step: matches and noise in, poses out."""

import math

from jaxtyping import Float
from torch import Tensor

from rfp.geometry.camera import normalized_threshold
from rfp.records import Correspondences, InputError, RelativePose
from rfp.robust.minimal_samples import draw_minimal_samples
from rfp.robust.ransac import RansacOptions, estimate_relative_pose


class RelativePoseEstimator:
    """RANSAC on the five-point solver as a ``TaskEstimator``: a black box, nothing flows back through it.

    Raises:
        InputError: the threshold is not a positive number.
    """

    def __init__(self, max_error_px: float = 1.0, options: RansacOptions = RansacOptions()):  # noqa: B008 (frozen)
        if not (math.isfinite(max_error_px) and max_error_px > 0):
            raise InputError(f"expected max_error_px above 0 pixels and finite, got {max_error_px}; try 1")
        self.max_error_px = max_error_px
        """Threshold of the inliers in pixels, made a normalised one from the cameras of each problem."""
        self.options = options

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape of the U(0, 1) noise that one problem consumes: one number a match of a minimal sample."""
        return self.options.num_hypotheses, 5

    def __call__(self, correspondences: Correspondences, noise: Float[Tensor, "*B num_hypotheses 5"]) -> RelativePose:
        """Relative poses of a batch of problems; each depends on its own matches and noise alone."""
        weight = correspondences.weight.where(correspondences.valid, 0)
        samples, _ = draw_minimal_samples(noise, weight)
        return estimate_relative_pose(
            correspondences.x1,
            correspondences.x2,
            max_error=normalized_threshold(self.max_error_px, correspondences.K1, correspondences.K2),
            options=self.options,
            valid=correspondences.valid,
            weight=weight,
            samples=samples,
            generator=None,
        )
