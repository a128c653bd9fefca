"""The page of a run has a panel for what was logged and none for what was not."""

import math

import numpy as np
import pytest

from rfp.data import read_image
from rfp.plotting import LoggedRun, draw_runs, save_figure
from rfp.plotting.runs import column, histogram_over_time
from rfp.plotting.smoothing import running_mean
from rfp.reinforce.diagnostics import HISTOGRAM_PREFIX, NUM_BINS

BINS = {f"{HISTOGRAM_PREFIX}{bin:02d}": float(bin == 12) for bin in range(NUM_BINS)}
METRICS = [
    {"step": step, "reward": -2 + step / 50, "reward_p10": -2.5, "reward_p90": -0.5, "failed": 0.25, "overlap": 0.5}
    | {"gradient_norm": 10.0 * step, "gradient_norm_shared": 8.0 * step, **BINS}
    for step in range(1, 41)
]
VALIDATIONS = [
    {"step": step, "auc_5": 50.0 + step, "auc_10": 60.0, "auc_20": 70.0, "kl_start": step / 100} for step in (0, 20, 40)
]
OLD = LoggedRun("old", [{"step": step, "reward": -1.0, "failed": 0.0} for step in range(1, 9)])
NEW = LoggedRun("new", METRICS, VALIDATIONS)


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible() and axes.get_title(loc="left")]


def test_a_run_has_a_panel_for_each_kind_of_figure_that_it_logged():
    figure = draw_runs([NEW])
    assert titles(figure) == [
        *("reward of the draws", "validation AUC (%)", "nothing to learn from (%)", "overlap with the deployed (%)"),
        *("gradient norm before clipping", "KL to the start (nats)", "rewards over time"),
    ]
    reward, validation, failed = figure.axes[:3]
    steps, values = reward.lines[0].get_data()
    assert list(steps) == list(range(1, 41))
    assert list(values) == [row["reward"] for row in METRICS]
    assert [list(line.get_ydata()) for line in validation.lines] == [[50.0, 70.0, 90.0], [60.0] * 3, [70.0] * 3]
    assert set(failed.lines[0].get_ydata()) == {25.0}


def test_an_old_run_beside_a_new_one_is_drawn_where_it_has_figures():
    figure = draw_runs([OLD, NEW])
    assert titles(figure)[-1] == "rewards, new"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["old", "new"]
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert len(set(colours)) == 2
    assert {line.get_color() for line in figure.axes[3].lines} == {colours[-1]}
    assert all(axes.get_xlim() == (0, 40) for axes in figure.axes if axes.get_title(loc="left"))


@pytest.mark.parametrize(("count", "suffix"), [(1, "png"), (40, "pdf")])
def test_a_run_of_any_length_is_a_picture(tmp_path, count, suffix):
    run = LoggedRun("run", METRICS[:count], VALIDATIONS[: min(count, 3)])
    path = tmp_path / f"training.{suffix}"
    save_figure(draw_runs([run]), path)
    assert path.stat().st_size > 1000
    assert suffix == "pdf" or read_image(path).std() > 0


def test_steps_in_which_no_pair_was_valid_are_drawn_all_the_same():
    empty = dict.fromkeys(BINS, 0.0)
    assert "rewards over time" in titles(draw_runs([LoggedRun("run", [{"step": 3, "reward": 0.0, **empty}])]))


def test_a_figure_that_some_rows_lack_has_the_steps_of_the_others():
    steps, values = column([{"step": 1}, {"step": 2, "x": 3.0}, {"step": 3, "x": None}], "x")
    assert list(steps) == [2.0]
    assert list(values) == [3.0]


@pytest.mark.parametrize("count", [1, 7, 500])
def test_the_histogram_over_time_keeps_the_mean_shares_and_its_spans_cover_the_run(count):
    rows = [{"step": step, **BINS, HISTOGRAM_PREFIX + "02": float(step % 2)} for step in range(1, count + 1)]
    edges, shares = histogram_over_time(rows)
    assert edges[0] == 0
    assert edges[-1] == count
    assert shares[:, 12] == pytest.approx(1.0)
    if count == 500:
        assert float(np.mean(shares[:, 2])) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_the_running_mean_keeps_straight_lines_in_the_middle_and_constants_everywhere(count):
    assert running_mean(np.full(count, 3.0)) == pytest.approx(np.full(count, 3.0))
    line = np.arange(count, dtype=float)
    half = max(1, int(count * 0.05 / 2))
    assert running_mean(line)[half : count - half] == pytest.approx(line[half : count - half])


def test_the_running_mean_steps_over_nan():
    smooth = running_mean(np.array([1.0, math.nan, 3.0]))
    assert smooth == pytest.approx([1.0, 2.0, 3.0])
