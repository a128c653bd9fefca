"""Figures of merit of pose errors, in percent. A failed pair counts with an error of 180 degrees, never as missing."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

FAILED_DEG = 180.0
"""The error of a pair without an estimate."""

THRESHOLDS_DEG = (5, 10, 20)

Errors = Float[Tensor, " N"] | Sequence[float]
Threshold = int | float


def pose_auc(errors_deg: Errors, thresholds_deg: Sequence[Threshold] = THRESHOLDS_DEG) -> dict[Threshold, float]:
    """The area under the recall curve up to each threshold, in percent of the threshold, keyed by threshold.

    The curve joins (0, 0) and the points (i-th smallest error, i / N) by straight lines and stays flat from the last
    error below the threshold: the trapezoid of SuperGlue and LoFTR, equal to ``kornia.metrics.auc_from_errors``.

    Example:
        >>> pose_auc([0.0, 180.0])
        {5: 50.0, 10: 50.0, 20: 50.0}
    """
    errors = _sorted_errors(errors_deg)
    return {threshold: 100 * _area(errors, threshold) / threshold for threshold in thresholds_deg}


def pose_auc_binned(errors_deg: Errors, thresholds_deg: Sequence[Threshold] = THRESHOLDS_DEG) -> dict[Threshold, float]:
    """The mean of the shares of errors below 5, 10, … degrees up to each threshold, in percent.

    Yi et al. (CVPR 2018) and Reinforced Feature Points report this one. It is *not* the area that everyone since
    reports: at 5 degrees it is just the share of errors below 5. For comparison with those papers only.
    """
    errors = _sorted_errors(errors_deg)
    if any(threshold % 5 or threshold <= 0 for threshold in thresholds_deg):
        raise ValueError(f"expected multiples of 5 degrees, the width of a bin, got {tuple(thresholds_deg)}")
    return {
        threshold: 100 * _mean([_share_below(errors, edge) for edge in range(5, int(threshold) + 1, 5)])
        for threshold in thresholds_deg
    }


def mean_clipped_accuracy(
    errors_deg: Errors, thresholds_deg: Sequence[Threshold] = THRESHOLDS_DEG
) -> dict[Threshold, float]:
    """``mean(max(0, 1 - error / threshold))`` in percent: the area under the recall *steps*.

    A mean over pairs, so it can be bootstrapped pair by pair; it differs from :func:`pose_auc` by up to 1 / (2 N).
    """
    errors = _sorted_errors(errors_deg)
    return {threshold: 100 * (1 - errors / threshold).clamp_min(0).mean().item() for threshold in thresholds_deg}


def _sorted_errors(errors_deg: Errors) -> Float[Tensor, " N"]:
    errors = torch.as_tensor(errors_deg, dtype=torch.float64).cpu()
    if errors.numel() == 0:
        raise ValueError("expected at least one error, got none")
    if not (errors >= 0).all():  # false for NaN too
        raise ValueError("expected errors of at least 0, got a negative one or NaN; a failed pair counts as 180")
    return errors.sort().values


def _area(errors: Float[Tensor, " N"], threshold: Threshold) -> float:
    """∫ of the piecewise linear recall from 0 to the threshold."""
    below = errors[errors < threshold]
    recall = torch.arange(len(below) + 1, dtype=errors.dtype) / len(errors)
    recall = torch.cat([recall, recall[-1:]])
    x = torch.cat([errors.new_zeros(1), below, errors.new_full((1,), threshold)])
    return torch.trapezoid(recall, x).item()


def _share_below(errors: Float[Tensor, " N"], threshold: Threshold) -> float:
    return (errors < threshold).double().mean().item()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
