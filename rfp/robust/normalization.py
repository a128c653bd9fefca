"""Points in any unit and anywhere, brought to the size of one about the origin: float32 loses digits elsewhere.

R. Hartley, In defense of the eight-point algorithm, PAMI 1997, with two changes for data with outliers: medians instead
of means, and one scale for both images, so that a distance over both stays isotropic and a threshold one number.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.robust.model import FARTHEST, Problems


def normalize_problems(problems: Problems) -> tuple[Problems, Float[Tensor, "P d"], Float[Tensor, "P"]]:
    """The problems with ``data ← (data - centre) scale`` and ``max_error ← max_error scale``; centres and scales.

    The centre is the median of the matches, coordinate by coordinate, and 1 / scale their median distance from it,
    averaged over the coordinates. A problem whose matches are all at one place keeps its scale. Matches a
    million times farther from the centre than that are masked: no unit is too large, but such a match is an error.
    """
    data, usable = problems.data, (problems.weight > 0)[..., None]
    if data.shape[1] == 0:
        return problems, torch.zeros_like(data.sum(dim=1)), torch.ones_like(problems.max_error)
    centre = _median(data, usable)
    centred = torch.where(usable, data - centre[:, None], torch.zeros_like(data))
    # Where most matches are at one place, the others still have a distance.
    median, widest = _median(centred.abs(), usable).mean(dim=-1), centred.abs().amax(dim=1).amax(dim=-1)
    least = torch.finfo(data.dtype).tiny
    distance = torch.where(median > least, median, widest)
    scale = 1 / torch.where(distance > least, distance, torch.ones_like(distance))
    scaled = centred * scale[:, None, None]
    near = (scaled.abs() < FARTHEST).all(dim=-1)
    scaled = torch.where(near[..., None], scaled, torch.zeros_like(scaled))
    weight = torch.where(near, problems.weight, torch.zeros_like(problems.weight))
    return Problems(scaled, weight, problems.max_error * scale), centre, scale


def _median(values: Tensor, usable: Tensor) -> Tensor:
    """Along dimension 1 over what is usable; 0 where nothing is."""
    return torch.where(usable, values, torch.nan).nanmedian(dim=1).values.nan_to_num(nan=0.0)
