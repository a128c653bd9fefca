"""How far an AUC could have come out otherwise: percentile intervals from resampled pairs, images, and groups of pairs.

Pairs share images: one blurred photograph spoils every pair that it is in, so the errors of n pairs tell less than n
independent ones would, and an interval that resamples *pairs* is too narrow. Resampling *images* keeps what the pairs
of an image have in common: each image of a scene is drawn with replacement, and a pair counts as often as its first
image was drawn times as often as its second (the "pigeonhole" bootstrap of Owen 2007; Snijders and Borgatti 1999 for
networks). It errs on the safe side: where pairs have nothing in common it is up to √3 times too wide.

Where the pairs fall into groups that share no image with each other, as HPatches' sequences do, the groups are the
independent ones, and drawing them whole is neither too narrow nor too wide.

The scenes themselves are held fixed: no interval says how another *place* would come out.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.evaluation.auc import Threshold

RESAMPLES = 2000
CONFIDENCE = 0.95

FEWEST_IMAGES = 5
"""Of fewer images (or, resampling pairs, fewer pairs) an interval would say more than is known: there is none."""

FEWEST_GROUPS = 10
"""Of fewer groups, an interval that draws them is too narrow: the truth would lie in it less than nine times in ten."""

Interval = list[float]
"""[low, high]"""


def pair_counts(num_pairs: int, num_resamples: int, generator: torch.Generator) -> Float[Tensor, "R N"]:
    """How often each of N pairs is drawn, when N are drawn with replacement."""
    return _counts(num_pairs, num_resamples, generator)


def image_counts(
    images: Int[Tensor, "N 2"], scenes: Sequence[str], num_resamples: int, generator: torch.Generator
) -> Float[Tensor, "R N"]:
    """How often each of N pairs counts, when the images of each scene are drawn with replacement.

    Args:
        images: The numbers of each pair's two images.
        scenes: Of each pair. An image that occurs in two scenes counts as two.
    """
    counts = torch.zeros(num_resamples, len(scenes), dtype=torch.float64)
    for scene in dict.fromkeys(scenes):
        members = torch.tensor([number for number, other in enumerate(scenes) if other == scene])
        numbers, position = torch.unique(images[members], return_inverse=True)
        drawn = _counts(len(numbers), num_resamples, generator)
        counts[:, members] = drawn[:, position[:, 0]] * drawn[:, position[:, 1]]
    return counts


def sharing_groups(images: Int[Tensor, "N 2"]) -> Int[Tensor, "N"]:
    """The number, from 0, of each pair's group: pairs that share an image, directly or through others, are in one.

    >>> sharing_groups(torch.tensor([[0, 1], [2, 3], [1, 4], [5, 2]]))
    tensor([0, 1, 0, 1])
    """
    label = torch.arange(int(images.max()) + 1)
    while True:  # each image takes the smallest label among its pairs' images, until nothing changes
        smallest = label[images].amin(dim=1)
        spread = label.scatter_reduce(0, images.T.reshape(-1), smallest.repeat(2), "amin")
        if torch.equal(spread, label):
            return torch.unique(smallest, return_inverse=True)[1]
        label = spread


def group_counts(images: Int[Tensor, "N 2"], num_resamples: int, generator: torch.Generator) -> Float[Tensor, "R N"]:
    """How often each of N pairs counts, when groups of pairs that share images are drawn with replacement.

    Of fewer than ``FEWEST_GROUPS`` groups the images of all of them are drawn one by one, as by :func:`image_counts`,
    which errs on the safe side.
    """
    group = sharing_groups(images)
    num_groups = int(group.max()) + 1
    if num_groups < FEWEST_GROUPS:
        return image_counts(images, ["all"] * len(images), num_resamples, generator)
    return _counts(num_groups, num_resamples, generator)[:, group]


def resampled_mean(values: Float[Tensor, "N"], counts: Float[Tensor, "R N"]) -> Float[Tensor, "R"]:
    """The mean of R samples in which value n occurs ``counts[r, n]`` times; NaN where a sample is empty."""
    return counts @ values / counts.sum(dim=1)


def resampled_auc(
    errors_deg: Float[Tensor, "N"], counts: Float[Tensor, "R N"], threshold_deg: Threshold
) -> Float[Tensor, "R"]:
    """:func:`rfp.evaluation.pose_auc` in percent of R samples, in which pair n occurs ``counts[r, n]`` times.

    The trapezoids are the recall steps, ``mean(max(0, 1 - e / t))``, plus half a step up to the largest error below the
    threshold: so the area of every sample is exact without sorting it. NaN where a sample is empty.
    """
    clipped = (1 - errors_deg / threshold_deg).clamp_min(0)
    total = counts.sum(dim=1)
    largest = torch.where((counts > 0) & (errors_deg < threshold_deg), errors_deg, 0.0).amax(dim=1)
    return 100 * (counts @ clipped + largest / (2 * threshold_deg)) / total  # 0 / 0 of an empty sample is NaN


def recall_band(
    errors_deg: Float[Tensor, "N"], counts: Float[Tensor, "R N"], at_deg: Float[Tensor, "G"]
) -> tuple[Float[Tensor, "G"], Float[Tensor, "G"]]:
    """(low, high): the central 95 %, at each of G errors, of the share of pairs below it, in percent."""
    total = counts.sum(dim=1)
    below = (errors_deg[:, None] < at_deg).to(counts.dtype)
    share = (100 * (counts @ below) / total[:, None])[total > 0]
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(share, torch.tensor([tail, 1 - tail], dtype=share.dtype), dim=0)
    return low, high


def interval(samples: Float[Tensor, "R"]) -> Interval | None:
    """The central 95 % of the samples, None where fewer than half of them say anything."""
    known = samples[samples.isfinite()]
    if 2 * len(known) < len(samples):
        return None
    tail = (1 - CONFIDENCE) / 2
    return torch.quantile(known, torch.tensor([tail, 1 - tail], dtype=known.dtype)).tolist()


def enough_images(images: Int[Tensor, "N 2"]) -> bool:
    """Whether resampling these pairs' images says anything."""
    return len(torch.unique(images)) >= FEWEST_IMAGES


def _counts(size: int, num_resamples: int, generator: torch.Generator) -> Float[Tensor, "R N"]:
    drawn = torch.randint(size, (num_resamples, size), generator=generator)
    ones = torch.ones(num_resamples, size, dtype=torch.float64)
    return torch.zeros_like(ones).scatter_add_(1, drawn, ones)
