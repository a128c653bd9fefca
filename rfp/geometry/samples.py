"""The layout that minimal solvers compute in: numbers of a sample first, the samples of a whole batch last."""

import torch
from jaxtyping import Shaped
from torch import Tensor


def samples_last(points: Shaped[Tensor, "*B m d"], dtype: torch.dtype) -> Shaped[Tensor, "m d T"]:
    """The points of T samples with the samples last, contiguous."""
    return points.reshape(-1, *points.shape[-2:]).permute(1, 2, 0).to(dtype).contiguous()
