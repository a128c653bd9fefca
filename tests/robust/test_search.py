"""The RANSAC loop's second stage, its early stop and its scores, on relative poses."""

import dataclasses
import math

import pytest
import torch

from rfp.records import InputError
from rfp.robust.model import make_problems as batch
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import EssentialModel
from rfp.robust.scoring import shaped_gains
from rfp.robust.search import Search
from tests.robust.laws import assert_same_bits
from tests.robust.test_ransac import estimate, make_problems, make_samples, pose_errors

HARD = {"inlier_ratio": 0.25, "noise": 1 / 500}


def test_samples_from_the_inliers_of_wrong_models_lead_to_right_ones():
    views, x1, x2, _ = make_problems(40, 300, 3, **HARD)
    samples = make_samples(40, 300, 512, 3)
    alone = RansacOptions(num_hypotheses=512, resample_rounds=0)
    with_rounds = RansacOptions(num_hypotheses=128)  # and 3 · 8 · 16 more: as many in all
    share = [
        (pose_errors(estimate(x1, x2, samples[:, : options.num_hypotheses], options=options), views) < 10)
        .double()
        .mean()
        for options in (alone, with_rounds)
    ]
    assert share[0] < 0.6
    assert share[1] > 0.9


def test_the_second_stage_draws_inliers_of_the_best_models_only():
    drawn = []

    class Watched(EssentialModel):
        def solve(self, sampled):
            drawn.append(sampled)
            return super().solve(sampled)

    _, x1, x2, _ = make_problems(1, 200, 4)
    problems = batch(torch.cat((x1, x2), dim=-1), 2 / 500, None, None)
    samples = make_samples(1, 200, 64, 4)
    options = RansacOptions(num_hypotheses=64, num_resampled=1, resample_rounds=1)
    search = Search(problems, Watched(), options, samples, torch.ones(1, 64, dtype=torch.bool), 4096)
    search.extend(search.samples, search.usable)
    best, _ = search.best_of_pool(1)
    inlier = search.model.gains(best, search.tables())[0, 0] > 0
    resampled, usable = search.resampled(0)
    assert usable.all()
    assert inlier[resampled[0]].all()
    assert not inlier.all()
    other, _ = search.resampled(1)
    assert not torch.equal(resampled, other), "each round draws anew"
    assert (resampled[0].sort(dim=-1).values.diff(dim=-1) > 0).all(), "distinct matches"


def test_resampled_places_are_uniform():
    _, x1, x2, _ = make_problems(2, 50, 5)
    problems = batch(torch.cat((x1, x2), dim=-1), 2 / 500, None, None)
    options = RansacOptions(num_hypotheses=500)
    search = Search(
        problems, EssentialModel(), options, make_samples(2, 50, 500, 5), torch.ones(2, 500, dtype=torch.bool), 4096
    )
    noise = search._noise(0, 2000)
    assert noise.shape == (2, 2000, 5)
    assert ((noise >= 0) & (noise < 1)).all()
    shares = torch.histc(noise.flatten().float(), 10, 0, 1) / noise.numel()
    assert (shares - 0.1).abs().max() < 0.01


@pytest.mark.parametrize("inlier_ratio", [0.8, 0.7])
def test_an_early_stop_saves_work_and_keeps_the_accuracy(inlier_ratio, monkeypatch):
    views, x1, x2, _ = make_problems(30, 150, 6, inlier_ratio=inlier_ratio)
    samples = make_samples(30, 150, 512, 6)
    solved = []
    solve = EssentialModel.solve

    def counted(self, sampled):
        solved.append(sampled.shape[-1])
        return solve(self, sampled)

    monkeypatch.setattr(EssentialModel, "solve", counted)
    costs, errors = [], []
    for early_stop in (None, 0.999):
        solved.clear()
        pose = estimate(x1, x2, samples, options=RansacOptions(num_hypotheses=512, early_stop=early_stop))
        costs.append(sum(solved))
        errors.append(pose_errors(pose, views))
    assert costs[1] < 0.3 * costs[0]
    assert errors[1].median() < 1.1 * errors[0].median() + 0.1
    assert (errors[1] < 10).sum() >= (errors[0] < 10).sum() - 1


def test_a_heavy_match_does_not_make_a_model_certain():
    views, x1, x2, inlier = make_problems(30, 200, 10, inlier_ratio=0.3)
    heavy = torch.where(torch.arange(200) == inlier.int().argmax(dim=1, keepdim=True), 400.0, 1.0)
    samples = make_samples(30, 200, 256, 10, weight=heavy)
    options = RansacOptions(num_hypotheses=256)
    stopping = dataclasses.replace(options, early_stop=0.999)
    right = [
        (pose_errors(estimate(x1, x2, samples, weight=heavy, options=chosen), views) < 10).sum()
        for chosen in (options, stopping)
    ]
    assert right[0] >= 27
    assert right[1] >= right[0] - 1


def test_without_certainty_nothing_stops_and_no_bit_changes():
    _, x1, x2, _ = make_problems(8, 150, 7)
    samples = make_samples(8, 150, 100, 7)
    static = RansacOptions(num_hypotheses=100)
    never = dataclasses.replace(static, early_stop=1 - 1e-16)
    assert_same_bits(estimate(x1, x2, samples, options=static), estimate(x1, x2, samples, options=never))


def test_an_early_stop_gives_each_problem_what_it_gets_alone():
    _, x1, x2, _ = make_problems(9, 150, 8, inlier_ratio=0.5)
    samples = make_samples(9, 150, 256, 8)
    options = RansacOptions(num_hypotheses=256, early_stop=0.99)
    together = estimate(x1, x2, samples, options=options)
    for k in range(9):
        one = estimate(x1[k : k + 1], x2[k : k + 1], samples[k : k + 1], options=options)
        assert torch.equal(one.R[0], together.R[k])
        assert torch.equal(one.inliers[0], together.inliers[k])


def test_the_number_of_hypotheses_follows_from_the_confidence():
    options = RansacOptions.for_inlier_ratio(0.5, confidence=0.95, num_refined=4)
    assert (1 - 0.5**5) ** options.num_hypotheses < 0.05 < (1 - 0.5**5) ** (options.num_hypotheses - 1)
    assert options.num_refined == 4
    assert options.resample_rounds == 0
    for ratio in (1.0, 1e-80):
        with pytest.raises(InputError, match=r"between 0\.01 and 1"):
            RansacOptions.for_inlier_ratio(ratio)


def test_more_finalists_than_preselected_are_refused():
    with pytest.raises(InputError, match="num_preselected"):
        RansacOptions(num_preselected=16, num_finalists=32)


def test_the_likelihood_is_the_log_ratio_of_a_gaussian_and_a_uniform_density():
    e = torch.linspace(0, 1.2, 25, dtype=torch.float64)
    weight = torch.full((1, 25), 2.0, dtype=torch.float64)
    gain = shaped_gains(((1 - e * e).clamp_min(0) * 2)[None, None], weight, "likelihood")[0, 0]
    sigma = 1 / 1.959963984540054  # a normal error is below 1 with probability 95 %
    normal = torch.exp(-0.5 * (e / sigma) ** 2)
    uniform = math.exp(-0.5 / sigma**2)
    ratio = torch.log1p(normal / uniform)
    expected = (ratio - math.log(2)) / (ratio[0] - math.log(2))
    torch.testing.assert_close(gain, torch.where(e < 1, 2 * expected, 0), atol=1e-9, rtol=0)


def test_poses_by_the_likelihood_are_as_accurate():
    views, x1, x2, _ = make_problems(40, 150, 9, inlier_ratio=0.6)
    samples = make_samples(40, 150, 128, 9)
    medians = [
        pose_errors(estimate(x1, x2, samples, options=RansacOptions(num_hypotheses=128, score=score)), views).median()
        for score in ("msac", "likelihood")
    ]
    assert medians[1] < 1.2 * medians[0] < 2
