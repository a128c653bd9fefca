"""The search for the models of a few problems: hypotheses in tiles, a pool of the best, samples from their inliers."""

import copy
import itertools
import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.records import map_tensors
from rfp.robust.minimal_samples import draw_minimal_samples
from rfp.robust.model import GeometricModel, Problems, slices
from rfp.robust.options import RansacOptions
from rfp.robust.scoring import scoring_subset, shaped_gains

_GOLDEN = 0.6180339887498949
# The first look at an early stop comes when enough samples are drawn for its confidence at this ratio of inliers. Below
# the two thirds that agree where seven tenths of the matches are right: a few stragglers cost as much as all others.
_FIRST_LOOK_RATIO = 0.615
_LOOK_ITERATIONS = 2  # of the model whose inliers are counted then
_HOPE = 2.0  # times as many inliers may come from that


class Search:
    """One state of the search for P problems. What a problem gets does not depend on the others."""

    def __init__(
        self,
        problems: Problems,
        model: GeometricModel,
        options: RansacOptions,
        samples: Int[Tensor, "P H size"],
        usable: Bool[Tensor, "P H"],
        tile: int,
    ):
        self.problems, self.model, self.options, self.tile = problems, model, options, tile
        self.samples, self.usable = samples, usable
        self.subset = subset_tables(problems, model, options.num_scoring_points)
        self.larger_subset = subset_tables(problems, model, 4 * options.num_scoring_points)
        self._tables: Any = None
        self.pool: Tensor | None = None  # (P, k, preselected); zeros fill what is missing
        self.score = problems.data.new_full((samples.shape[0], options.num_preselected), -1)
        self._larger_score: Tensor | None = None

    def to_the_end(self) -> tuple[Float[Tensor, "P k F"], Bool[Tensor, "P F"]]:
        """The finalists of each problem after the whole budget, and which of them are there."""
        self.extend(self.samples, self.usable)
        for number in range(self._rounds()):
            self.extend(*self.resampled(number))
        return self.finalists()

    def stopped_early(self) -> tuple[Float[Tensor, "P k F"], Bool[Tensor, "P F"]]:
        """The same, each problem only until its model is as good as certain; the unfinished ones are compacted.

        Waits for the device after each tile.
        """
        search, index, parts = self, torch.arange(self.samples.shape[0], device=self.samples.device), []
        phases = [*_doubling(self.samples.shape[1], self._first_look()), *range(self._rounds())]
        drawn = 0
        for number, phase in enumerate(phases):
            if isinstance(phase, slice):
                search.extend(search.samples[:, phase], search.usable[:, phase])
                drawn = phase.stop
            else:
                search.extend(*search.resampled(phase))
            done = search.certain(drawn) if number < len(phases) - 1 else torch.ones_like(index, dtype=torch.bool)
            if done.any():
                parts.append((index[done], *search.of(done).finalists()))
                search, index = search.of(~done), index[~done]
            if index.numel() == 0:
                break
        order, finalists, present = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        order = order.argsort()
        return finalists[order], present[order]

    def certain(self, drawn: int) -> Bool[Tensor, "P"]:
        """Whether, at the inlier ratio of the best model, ``drawn`` samples hold one of inliers alone: with the
        confidence of ``early_stop``, ``(1 - εˢ)ⁿ < 1 - confidence``.

        The best model is optimised before its inliers are counted: that of a minimal sample, bent by the noise of its
        few matches, has half of them, and would ask for ten times as many samples. Only where that could suffice.
        """
        assert self.options.early_stop is not None
        limit = math.log1p(-self.options.early_stop)
        best, score = self.best_of_pool(1)
        tables, weight = self.tables(), self.problems.weight
        inlier = (self.model.gains(best, tables)[:, 0] > 0) & (score >= 0)
        hopeful = drawn * torch.log1p(-self._share(inlier * weight * _HOPE, weight)) < limit
        if not hopeful.any():
            return hopeful
        best, weight = best[hopeful], weight[hopeful]
        tables = map_tensors(tables, lambda tensor: tensor[hopeful])
        states, gains = self.model.lift(best, tables)
        _, polished = self.model.polish(states, tables, _scales(_LOOK_ITERATIONS, self.model.final_width))
        right = (torch.cat((gains, polished), dim=1) > 0) * weight[:, None]
        right = right.take_along_dim(right.sum(dim=2, keepdim=True).argmax(dim=1, keepdim=True), dim=1)[:, 0]
        certain = torch.zeros_like(hopeful)
        certain[hopeful] = drawn * torch.log1p(-self._share(right, weight)) < limit
        return certain

    def _first_look(self) -> int:
        """Hypotheses before the first look."""
        assert self.options.early_stop is not None
        missed = math.log1p(-(_FIRST_LOOK_RATIO**self.model.sample_size))
        return math.ceil(math.log1p(-self.options.early_stop) / missed)

    def _share(self, right: Float[Tensor, "P N"], weight: Float[Tensor, "P N"]) -> Float[Tensor, "P"]:
        """Of the samples that hold inliers alone, at least, where these have the weights ``right``."""
        right, weight = right.double(), weight.double()
        # Without replacement, and at worst the heaviest inliers come first: each leaves less of both sums.
        heaviest = right.topk(self.model.sample_size, dim=1).values
        gone = heaviest.cumsum(dim=1) - heaviest
        left, of = right.sum(dim=1, keepdim=True) - gone, weight.sum(dim=1, keepdim=True) - gone
        return (left.clamp_min(0) / of.clamp_min(torch.finfo(of.dtype).tiny)).clamp_max(1).prod(dim=1)

    def of(self, index: Any) -> "Search":
        """The search for some of the problems, as far as it has come."""
        other = copy.copy(self)
        for name in ("samples", "usable", "pool", "score"):
            setattr(other, name, getattr(self, name)[index])
        for name in ("problems", "subset", "larger_subset"):
            setattr(other, name, map_tensors(getattr(self, name), lambda tensor: tensor[index]))
        other._tables = None
        other._larger_score = None if self._larger_score is None else self._larger_score[index]
        return other

    def _rounds(self) -> int:
        options = self.options
        return options.resample_rounds if options.num_resampled and options.resamples else 0

    def extend(self, samples: Int[Tensor, "P h size"], usable: Bool[Tensor, "P h"]) -> None:
        """Solve the samples and keep the candidates with the best scores on a subset of the matches.

        Hypotheses come in tiles with a running selection, so that memory grows with the tile only.
        """
        for part in slices(usable.shape[1], max(1, self.tile // usable.shape[0])):
            candidates, valid = self._candidates(samples[:, part], usable[:, part])
            if self.pool is None:
                self.pool = candidates.new_zeros((*candidates.shape[:2], self.score.shape[1]))
            score = torch.where(valid, self._scores(candidates, self.subset), -1)
            self.score, index = torch.cat((self.score, score), dim=1).topk(self.score.shape[1], dim=1)
            self.pool = _columns(torch.cat((self.pool, candidates), dim=2), index)
        self._larger_score = None

    def _candidates(self, samples: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """All solutions of the samples of each problem, as (P, k, slots h) and (P, slots h)."""
        data = self.problems.data
        (num_problems, num_hypotheses, size), width = samples.shape, data.shape[-1]
        index = samples.clamp(0, data.shape[1] - 1).transpose(1, 2).reshape(num_problems, -1)
        columns = torch.stack([data[..., axis].gather(1, index) for axis in range(width)])
        columns = columns.reshape(width, num_problems, size, num_hypotheses).permute(2, 0, 1, 3)
        sampled = columns.reshape(size, width, -1).to(getattr(torch, self.options.solver_dtype))
        candidates, valid = self.model.solve(sampled)
        numbers, slots = candidates.shape[:2]
        candidates = candidates.to(data.dtype).reshape(numbers, slots, num_problems, num_hypotheses)
        valid = valid.reshape(slots, num_problems, num_hypotheses).transpose(0, 1) & usable[:, None]
        return candidates.permute(2, 0, 1, 3).reshape(num_problems, numbers, -1), valid.reshape(num_problems, -1)

    def _scores(self, candidates: Tensor, subset: Any) -> Tensor:
        """Scores (P, C) on a subset of the matches, of which each stands for the same weight."""
        return shaped_gains(self.model.gains(candidates, subset), subset.weight, self.options.score).sum(dim=-1)

    def best_of_pool(self, count: int) -> tuple[Float[Tensor, "P k count"], Float[Tensor, "P count"]]:
        """The candidates of the pool that score best on the larger subset, and these scores, -1 for none."""
        assert self.pool is not None, "there is at least one sample"
        if self._larger_score is None:
            score = self._scores(self.pool, self.larger_subset)
            self._larger_score = torch.where(self.score >= 0, score, -1)
        score, index = self._larger_score.topk(count, dim=1)
        return _columns(self.pool, index), score

    def resampled(self, number: int) -> tuple[Int[Tensor, "P h size"], Bool[Tensor, "P h"]]:
        """Minimal samples of round ``number`` from the inliers of the best models so far, and whether each is usable.

        Their noise is that of the first samples, turned by another angle for each: nothing new need be drawn, and the
        result is a function of the samples that were given.
        """
        options = self.options
        best, score = self.best_of_pool(options.num_resampled)
        inlier = (self.model.gains(best, self.tables()) > 0) & (score >= 0)[..., None]
        weight = inlier * self.problems.weight[:, None]  # finite, and much faster than where
        shape = (options.num_resampled, options.resamples)
        noise = self._noise(number * math.prod(shape), math.prod(shape)).unflatten(1, shape)
        samples, usable = draw_minimal_samples(noise, weight)
        return samples.flatten(1, 2), usable.flatten(1, 2)

    def _noise(self, first: int, count: int) -> Float[Tensor, "P count size"]:
        """U(0, 1) numbers from the places of the first samples on the axis of cumulated weights."""
        weight = self.problems.weight.double()
        ends = weight.cumsum(dim=-1)
        places = (ends - 0.5 * weight) / ends[:, -1:].clamp_min(torch.finfo(ends.dtype).tiny)
        row = torch.arange(first, first + count, device=weight.device)
        chosen = self.samples[:, row % self.samples.shape[1]].clamp(0, weight.shape[1] - 1)
        place = places.gather(1, chosen.flatten(1)).unflatten(1, chosen.shape[1:])
        return (place + (_GOLDEN * (row + 1).double()).frac()[:, None]).frac()

    def tables(self) -> Any:
        """What the model needs to know of all matches, made when it is first asked for."""
        if self._tables is None:
            self._tables = self.model.tables(self.problems)
        return self._tables

    def finalists(self) -> tuple[Float[Tensor, "P k F"], Bool[Tensor, "P F"]]:
        """The candidates that are to be scored on all matches, and which of them are there."""
        finalists, score = self.best_of_pool(self.options.num_finalists)
        return finalists, score >= 0


def settle(
    problems: Problems,
    model: GeometricModel,
    options: RansacOptions,
    finalists: Float[Tensor, "P k F"],
    present: Bool[Tensor, "P F"],
) -> tuple[Float[Tensor, "P s"], Float[Tensor, "P N"]]:
    """The best state of each problem after local optimisation of the best finalists, and the gains of its inliers."""
    tables = model.tables(problems)
    states, gains = model.lift(finalists, tables)
    gains = shaped_gains(torch.where(present[..., None], gains, 0), tables.weight, options.score)
    index = gains.sum(dim=-1).topk(min(options.num_refined, options.num_finalists), dim=1).indices
    states, gains = _taken(states, index), _taken(gains, index)
    polished, polished_gains = model.polish(states, tables, _scales(options.refinement_iterations, model.final_width))
    polished_gains = torch.where((gains > 0).any(dim=-1, keepdim=True), polished_gains, 0)
    polished_gains = shaped_gains(polished_gains, tables.weight, options.score)
    states, gains = torch.cat((states, polished), 1), torch.cat((gains, polished_gains), 1)
    best = gains.sum(dim=-1).argmax(dim=1, keepdim=True)
    return _taken(states, best)[:, 0], _taken(gains, best)[:, 0]


def _doubling(total: int, first: int) -> list[slice]:
    """Consecutive slices, each as long as all before it together."""
    ends = [0, min(first, total)]
    while ends[-1] < total:
        ends.append(min(2 * ends[-1], total))
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def subset_tables(problems: Problems, model: GeometricModel, size: int) -> Any:
    """The model's tables for some of the matches, each standing for the same weight."""
    index = scoring_subset(problems.weight, size)[..., None]
    data = problems.data.gather(1, index.expand(-1, -1, problems.data.shape[-1]))
    return model.tables(Problems(data, torch.ones_like(data[..., 0]), problems.max_error))


def _columns(candidates: Float[Tensor, "P k C"], index: Int[Tensor, "P L"]) -> Float[Tensor, "P k L"]:
    return candidates.gather(2, index[:, None].expand(-1, candidates.shape[1], -1))


def _taken(values: Float[Tensor, "P C n"], index: Int[Tensor, "P L"]) -> Float[Tensor, "P L n"]:
    return values.gather(1, index[..., None].expand(*index.shape, values.shape[-1]))


def _scales(iterations: int, final_width: float) -> tuple[float, ...]:
    """Widths of the truncated weight, in units of the threshold: at first not too narrow, to let matches in."""
    return tuple(max(3.0, final_width) if iteration < 2 else final_width for iteration in range(iterations))
