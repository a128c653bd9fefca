"""RANSAC for a batch of problems, the same loop for every geometric model, without a visit to the host.

Minimal samples are solved in tiles, their candidates scored on a subset of the matches with a running selection of the
best; a second stage draws samples from the inliers of those; the best are scored on all matches, and the best of them
optimised locally. What a model is (solver, error, refinement) comes as a ``GeometricModel``: relative pose, fundamental
matrix, homography and absolute pose have a file each beside this.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.records import InputError
from rfp.robust.minimal_samples import draw_minimal_samples, samples_usable
from rfp.robust.model import GeometricModel, Problems, slices, slices_in_memory
from rfp.robust.options import RansacOptions
from rfp.robust.search import Search, settle

_DRAWN_TOGETHER = 32
# Hypotheses a problem that are worth a tile of their own: with fewer problems at once tiles are longer.
_LEAST_TILE = 64


class SampleSource:
    """The minimal samples of P problems, given or drawn when they are asked for: all at once they would take memory
    that grows with problems × hypotheses.

    Raises:
        InputError: neither samples nor a generator to draw them with; weights for samples that are not drawn.
    """

    def __init__(
        self,
        problems: Problems,
        sample_size: int,
        options: RansacOptions,
        samples: Int[Tensor, "*B H size"] | None,
        generator: torch.Generator | None,
        sampling_weight: Float[Tensor, "*B N"] | None = None,
    ):
        if sampling_weight is not None and (samples is not None or options.early_stop is not None):
            other = "samples=" if samples is not None else "an early_stop"
            raise InputError(f"expected sampling_weight= without {other}, got both; leave one of them out")
        if samples is None and generator is None:
            raise InputError("expected samples= or a generator= to draw them with, got neither; pass torch.Generator()")
        self.problems, self.sample_size, self.generator = problems, sample_size, generator
        num_problems = problems.weight.shape[0]
        self.sampling_weight = None if sampling_weight is None else sampling_weight.reshape(problems.weight.shape)
        self.given = None if samples is None else samples.reshape(num_problems, samples.shape[-2], sample_size).long()
        self.number = options.num_hypotheses if self.given is None else self.given.shape[1]
        self.empty = num_problems == 0 or self.number == 0 or problems.weight.shape[1] < sample_size
        """Whether there is nothing to solve."""

    def of(self, part: slice) -> tuple[Int[Tensor, "p H size"], Bool[Tensor, "p H"]]:
        """The samples of some problems, and whether each is usable. Drawn ones are new whenever they are asked for."""
        weight = self.problems.weight[part]
        if self.given is not None:
            return self.given[part], samples_usable(self.given[part], weight > 0)
        if self.sampling_weight is not None:
            weight = torch.where(weight > 0, self.sampling_weight[part].to(weight.dtype), 0)
        noise = torch.rand(
            (weight.shape[0], self.number, self.sample_size), generator=self.generator, device=weight.device
        )
        return draw_minimal_samples(noise, weight)


def ransac(
    problems: Problems, model: GeometricModel, source: SampleSource, options: RansacOptions
) -> tuple[Float[Tensor, "P s"], Float[Tensor, "P N"]]:
    """The best state of each problem, and the gains of its inliers: all zero is a failure.

    What a problem gets depends neither on the batch around it nor on the tile, its samples being equal. The source must
    not be empty.
    """
    on_cpu = problems.data.device.type == "cpu"
    tile = options.tile or (4096 if on_cpu else 65536)
    pools = []
    # Samples are drawn for so many problems together that their values do not depend on the tile.
    for drawn in slices(problems.weight.shape[0], _DRAWN_TOGETHER if on_cpu else 16 * _DRAWN_TOGETHER):
        samples, usable = source.of(drawn)
        for part in slices(usable.shape[0], max(1, tile // _LEAST_TILE)):
            search = Search(problems[drawn][part], model, options, samples[part], usable[part], tile)
            pools.append(search.stopped_early() if options.early_stop is not None else search.to_the_end())
    finalists, present = (torch.cat(tensors) for tensors in zip(*pools, strict=True))
    settled = [
        settle(problems[part], model, options, finalists[part], present[part])
        for part in slices_in_memory(problems, options.num_finalists)
    ]
    return torch.cat([state for state, _ in settled]), torch.cat([gain for _, gain in settled])


def spread(points: Float[Tensor, "P N d"], inliers: Bool[Tensor, "P N"]) -> Float[Tensor, "P"]:
    """The longest side of the box around the inliers: where it is of the size of the threshold, any model fits them."""
    largest = torch.where(inliers[..., None], points, -torch.inf).amax(dim=1)
    smallest = torch.where(inliers[..., None], points, torch.inf).amin(dim=1)
    return (largest - smallest).amax(dim=-1)


def num_distinct(points: Float[Tensor, "P N d"], chosen: Bool[Tensor, "P N"]) -> Int[Tensor, "P"]:
    """How many different ones there are among the chosen matches: repetitions are no evidence."""
    # Equal matches have equal sums whatever the factors; different ones differ but for a chance of 1e-10.
    factors = torch.linspace(1, 2, points.shape[-1], dtype=torch.float64, device=points.device).sqrt()
    key = torch.where(chosen, (points.double() * factors).sum(dim=-1), torch.inf).sort(dim=1).values
    different = key[:, 1:] > key[:, :-1]
    return (different & key[:, 1:].isfinite()).sum(dim=1) + chosen.any(dim=1)
