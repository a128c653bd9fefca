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
from rfp.robust.model import FARTHEST, GeometricModel, Problems, make_problems
from rfp.robust.options import RansacOptions
from rfp.robust.search import Search, settle, slices

__all__ = [
    "FARTHEST",
    "GeometricModel",
    "Problems",
    "RansacOptions",
    "given_or_drawn_samples",
    "make_problems",
    "ransac",
    "spread",
]


def given_or_drawn_samples(
    problems: Problems,
    sample_size: int,
    options: RansacOptions,
    samples: Int[Tensor, "*B H size"] | None,
    generator: torch.Generator | None,
) -> tuple[Int[Tensor, "P H size"], Bool[Tensor, "P H"]]:
    """Minimal samples and whether each is usable.

    Raises:
        InputError: neither samples nor a generator to draw them with.
    """
    num_problems = problems.weight.shape[0]
    if samples is not None:
        samples = samples.reshape(num_problems, samples.shape[-2], sample_size)
        return samples, samples_usable(samples, problems.weight > 0)
    if generator is None:
        raise InputError("expected samples= or a generator= to draw them with, got neither; pass torch.Generator()")
    shape = (num_problems, options.num_hypotheses, sample_size)
    noise = torch.rand(shape, generator=generator, device=problems.weight.device)
    return draw_minimal_samples(noise, problems.weight)


def ransac(
    problems: Problems,
    model: GeometricModel,
    samples: Int[Tensor, "P H size"],
    usable: Bool[Tensor, "P H"],
    options: RansacOptions,
) -> tuple[Float[Tensor, "P s"], Float[Tensor, "P N"]]:
    """The best state of each problem, and the gains of its inliers: all zero is a failure.

    What a problem gets depends neither on the batch around it nor on the tile. There must be a problem, as many
    matches as a sample has, and a sample.
    """
    num_problems, num_hypotheses = usable.shape
    on_cpu = problems.data.device.type == "cpu"
    tile = options.tile or (4096 if on_cpu else 65536)
    pools = []
    for part in slices(num_problems, max(1, tile // num_hypotheses)):
        search = Search(problems[part], model, options, samples[part], usable[part], tile)
        pools.append(search.stopped_early() if options.early_stop is not None else search.to_the_end())
    finalists, present = (torch.cat(tensors) for tensors in zip(*pools, strict=True))
    # The tensors over finalists and all matches are the largest beside the tiles.
    most = (2**20 if on_cpu else 2**26) // (problems.weight.shape[1] * options.num_finalists)
    settled = [
        settle(problems[part], model, options, finalists[part], present[part])
        for part in slices(num_problems, max(1, most))
    ]
    return torch.cat([state for state, _ in settled]), torch.cat([gain for _, gain in settled])


def spread(points: Float[Tensor, "P N d"], inliers: Bool[Tensor, "P N"]) -> Float[Tensor, "P"]:
    """The longest side of the box around the inliers: where it is of the size of the threshold, any model fits them."""
    largest = torch.where(inliers[..., None], points, -torch.inf).amax(dim=1)
    smallest = torch.where(inliers[..., None], points, torch.inf).amin(dim=1)
    return (largest - smallest).amax(dim=-1)
