import numpy as np
import pytest
from matplotlib.colors import to_hex

from rfp.data import read_image
from rfp.plotting import (
    AccuracyCurve,
    ErrorCurve,
    draw_accuracy_curves,
    draw_error_curves,
    draw_paired_errors,
    save_figure,
)
from rfp.plotting.errors import BETTER, NEUTRAL, WORSE, recall_steps

ERRORS = [0.5, 3.0, 3.0, 12.0, 180.0]
AUC = {"5": 30.0, "10": 40.0, "20": 50.5}


def test_the_curve_rises_by_a_pair_s_share_at_each_error():
    x, share = recall_steps(ERRORS, 20.0)
    assert x.tolist() == [0, 0.5, 3, 3, 12, 20]
    assert share.tolist() == [0, 20, 40, 60, 80, 80]
    x, share = recall_steps([180.0], 20.0)
    assert (x.tolist(), share.tolist()) == ([0, 20], [0, 0])


def test_every_run_is_a_line_with_its_areas_and_a_style_of_its_own(tmp_path):
    at = np.linspace(0, 20, 11)
    curves = {"before": ErrorCurve(ERRORS, AUC, (at, at, at + 10)), "after": ErrorCurve(ERRORS[:3], AUC)}
    figure = draw_error_curves(curves, note="poselib at 1 px, images of 640 px, " + "a long line " * 20)
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"{name}: 30.0 / 40.0 / 50.5" for name in curves]
    assert axes.lines[0].get_ydata()[-1] == 80.0
    assert axes.lines[1].get_ydata()[-1] == 100.0
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines[:2]}) == 2
    assert len(axes.collections) == 1  # one band
    save_figure(figure, tmp_path / "curves.png")
    picture = read_image(tmp_path / "curves.png")
    for edge in (picture[:, :, :3], picture[:, :, -3:]):  # nothing is cut off, the note included
        assert edge.min() > 0.95


def test_errors_may_be_others_than_those_of_poses():
    (axes,) = draw_error_curves({"a": ErrorCurve([1.0], {"3": 60.0})}, largest=4.0, quantity="corners (pixels)").axes
    assert axes.get_xlabel() == "corners (pixels)"
    assert axes.get_xlim() == (0, 4)
    assert axes.lines[1].get_xdata()[0] == 3.0


def test_the_accuracy_of_each_run_is_a_line_over_the_thresholds_with_its_band(tmp_path):
    accuracy = {"1": 20.0, "2": 40.0, "10": 80.0}
    known = {"1": [10.0, 30.0], "2": [30.0, 50.0], "10": [70.0, 90.0]}
    curves = {"before": AccuracyCurve(accuracy, known), "after": AccuracyCurve(accuracy, {**known, "2": None})}
    figure = draw_accuracy_curves(curves, note="images of 640 px")
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 20], [2, 40], [10, 80]]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 2
    (band,) = axes.collections  # the second run's is not known everywhere
    assert band.get_paths()[0].get_extents().bounds == (1, 10, 9, 80)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["before", "after"]
    save_figure(figure, tmp_path / "accuracy.png")
    assert read_image(tmp_path / "accuracy.png").std() > 0


def test_pairs_are_coloured_by_who_is_better_and_counted(tmp_path):
    first, second = [1.0, 5.0, 2.00, 30.0, 180.0], [5.0, 1.0, 2.05, 90.0, 10.0]
    figure = draw_paired_errors(first, second, ("before", "after"), note="poselib")
    (axes,) = figure.axes
    colours = [to_hex(colour[:3]) for colour in axes.collections[0].get_facecolors()]
    assert colours == [WORSE, BETTER, NEUTRAL, NEUTRAL, BETTER]
    assert [text.get_text() for text in axes.texts] == ["after better: 2", "worse: 1"]
    points = np.asarray(axes.collections[0].get_offsets())
    assert points[0].tolist() == [1.0, 5.0]
    assert points[4][0] > 180
    save_figure(figure, tmp_path / "paired.png")
    assert read_image(tmp_path / "paired.png").std() > 0


@pytest.mark.parametrize("errors", [[0.0], [180.0] * 3])
def test_perfect_and_failed_pairs_are_a_picture_too(tmp_path, errors):
    save_figure(draw_paired_errors(errors, errors, ("a", "b")), tmp_path / "paired.png")
    save_figure(draw_error_curves({"a": ErrorCurve(errors, AUC)}), tmp_path / "curves.png")
