import numpy as np
import pytest
import torch
from matplotlib.colors import LogNorm

from rfp.plotting import DrawnHeat, draw_heat, save_figure
from rfp.plotting.heat import relative_probability


def _heat(height=30, width=40, peak=(5, 7), value=4.0):
    log_heat = torch.zeros(height, width)
    log_heat[peak] = value
    return DrawnHeat(torch.rand(3, height, width), log_heat, torch.tensor([[float(peak[1]), float(peak[0])]]))


def test_one_is_uniform_and_constants_do_not_matter():
    flat = relative_probability(torch.full((4, 5), -13.0))
    torch.testing.assert_close(flat, torch.ones(4, 5))
    log_heat = torch.randn(20, 30)
    torch.testing.assert_close(relative_probability(log_heat), relative_probability(log_heat + 7))
    assert relative_probability(log_heat).mean().item() == pytest.approx(1)


def test_pixels_that_cannot_be_drawn_have_probability_0():
    log_heat = torch.zeros(4, 5)
    log_heat[:2] = float("-inf")
    assert relative_probability(log_heat).unique().tolist() == [0, 2]
    assert relative_probability(torch.full((4, 5), float("-inf"))).unique().tolist() == [0]


def test_a_keypoint_is_drawn_in_the_middle_of_the_pixel_of_its_peak():
    figure = draw_heat([_heat(), _heat(60, 50, (20, 10))], title="mine")
    assert figure.texts[0].get_text() == "mine: 1 and 1 key points, and the detector's probability below"
    photograph, heat = figure.axes[:2]
    assert photograph.collections[0].get_offsets().tolist() == [[7.5, 5.5]]
    values = heat.images[0].get_array()
    assert np.unravel_index(values.argmax(), values.shape) == (5, 7)
    assert list(heat.images[0].get_extent()) == [0, 40, 30, 0]


def test_all_images_share_one_logarithmic_scale_and_one_height():
    figure = draw_heat([_heat(value=2.0), _heat(60, 50, (20, 10), value=9.0)])
    norms = {id(axes.images[0].norm) for axes in figure.axes[1:4:2]}
    assert len(norms) == 1
    assert isinstance(figure.axes[1].images[0].norm, LogNorm)
    heights = {round(axes.get_position().height, 6) for axes in figure.axes[:4]}
    assert len(heights) == 1


def test_images_without_content_are_a_picture_too(tmp_path):
    blank = DrawnHeat(torch.zeros(3, 20, 30), torch.full((20, 30), float("-inf")), torch.zeros(0, 2))
    save_figure(draw_heat([blank, blank]), tmp_path / "blank.png")
    assert (tmp_path / "blank.png").stat().st_size > 1000
