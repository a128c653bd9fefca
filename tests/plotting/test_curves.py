import math

import numpy as np
import pytest

from rfp.data import read_image
from rfp.plotting import draw_training, reward_curve
from rfp.plotting.curves import running_mean

METRICS = [{"step": step, "reward": -20 + step / 10, "failed": 0.25, "other": 1} for step in range(1, 41)]
VALIDATIONS = [{"step": step, "auc": {"5": 50.0 + step, "10": 60.0, "20": 70.0}} for step in (0, 20, 40)]


def test_rewards_and_failures_are_drawn_by_step():
    figure = draw_training(METRICS)
    reward, failed = figure.axes
    steps, values = reward.lines[0].get_data()
    assert list(steps) == list(range(1, 41))
    assert list(values) == [row["reward"] for row in METRICS]
    assert set(failed.lines[0].get_ydata()) == {25.0}


def test_validation_is_a_panel_of_its_own_with_the_start_as_reference():
    _, _, validation = draw_training(METRICS, VALIDATIONS).axes
    assert [text.get_text() for text in validation.texts] == ["AUC@5", "AUC@10", "AUC@20"]
    assert list(validation.lines[0].get_ydata()) == [50.0, 70.0, 90.0]
    assert set(validation.lines[1].get_ydata()) == {50.0}


@pytest.mark.parametrize("count", [0, 1, 40])
def test_a_run_of_any_length_is_a_picture(tmp_path, count):
    reward_curve(METRICS[:count], path=tmp_path / "reward.png", validations=VALIDATIONS[: min(count, 3)])
    assert read_image(tmp_path / "reward.png").std() > 0


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_the_running_mean_keeps_straight_lines_in_the_middle_and_constants_everywhere(count):
    assert running_mean(np.full(count, 3.0)) == pytest.approx(np.full(count, 3.0))
    line = np.arange(count, dtype=float)
    half = max(1, int(count * 0.05 / 2))
    assert running_mean(line)[half : count - half] == pytest.approx(line[half : count - half])


def test_the_running_mean_steps_over_nan():
    smooth = running_mean(np.array([1.0, math.nan, 3.0]))
    assert smooth == pytest.approx([1.0, 2.0, 3.0])
