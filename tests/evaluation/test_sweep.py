"""A sweep of thresholds is the single evaluations, with the features computed once, and says what it chose."""

import statistics

import pytest

from rfp.data import PosedPairs
from rfp.evaluation import evaluate, format_sweep, sweep
from rfp.matching import RatioTest
from rfp.records import InputError
from tests.networks import TinyTestNetwork

THRESHOLDS = (2.0, 0.1, 0.5)


@pytest.fixture(scope="module")
def pairs(session_pairs_folder):
    return PosedPairs(session_pairs_folder)


@pytest.fixture(scope="module")
def swept(pairs):
    return sweep(TinyTestNetwork(), pairs, max_errors_px=THRESHOLDS, num_keypoints=128)


def test_each_threshold_s_report_is_that_of_an_evaluation_at_it(swept, pairs):
    assert list(swept.reports) == sorted(THRESHOLDS)
    for threshold, report in swept.reports.items():
        alone = evaluate(TinyTestNetwork(), pairs, max_error_px=threshold, num_keypoints=128)
        for field in (
            "errors_deg",
            "num_matches",
            "num_inliers",
            "precisions",
            "auc",
            "auc_interval_by_pair",
            "scenes",
        ):
            assert getattr(report, field) == getattr(alone, field)
        assert report.settings == {**alone.settings, "thresholds_tried_px": sorted(THRESHOLDS)}
    assert swept.reports[0.1].num_inliers != swept.reports[2.0].num_inliers


def test_features_and_matches_are_computed_once(pairs):
    calls = {"extract": 0, "match": 0}

    class Counting(TinyTestNetwork):
        def extract(self, images):
            calls["extract"] += images.shape[0]
            return super().extract(images)

    def counting(*arguments):
        calls["match"] += 1
        return RatioTest()(*arguments)

    sweep(Counting(), pairs, max_errors_px=(0.5, 1.0, 2.0), num_keypoints=64, matcher=counting)
    assert calls == {"extract": 4, "match": 5}


def test_the_best_has_the_highest_mean_area_and_is_said_to_be_chosen_on_these_pairs(swept):
    means = {threshold: statistics.fmean(report.auc.values()) for threshold, report in swept.reports.items()}
    assert means[swept.best_px] == max(means.values())
    assert swept.best is swept.reports[swept.best_px]
    for markdown in (False, True):
        table = format_sweep(swept, markdown=markdown)
        marked = [line for line in table.splitlines() if "px *" in line]
        assert len(marked) == 1
        assert f"{swept.best_px:g} px *" in marked[0]
        assert "chosen on these pairs and so optimistic" in table
        assert all(f"{report.auc['5']:.1f}" in table for report in swept.reports.values())


def test_one_threshold_is_no_choice(pairs):
    single = sweep(TinyTestNetwork(), pairs, max_errors_px=(1.0,), num_keypoints=64)
    assert "thresholds_tried_px" not in single.best.settings


@pytest.mark.parametrize("wrong", [(), (1.0, 1.0), (1.0, 0.0)])
def test_thresholds_that_mean_nothing_are_one_line(pairs, wrong):
    with pytest.raises(InputError, match="expected"):
        sweep(TinyTestNetwork(), pairs, max_errors_px=wrong)
