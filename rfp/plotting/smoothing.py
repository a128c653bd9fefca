"""Series of metrics made readable: running means that step over what is missing."""

import numpy as np


def running_mean(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Each value's mean with its neighbours in a window of ``share`` of the run, shorter at the ends; NaN left out."""
    half = max(1, int(len(values) * share / 2))
    finite = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    first = np.maximum(np.arange(len(values)) - half, 0)
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    count = counts[last] - counts[first]
    return np.where(count > 0, (totals[last] - totals[first]) / np.maximum(count, 1), np.nan)
