import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from rfp.plotting import draw_keypoints_of_networks, save_figure
from rfp.plotting.keypoints import OWN, SHARED, near_another

IMAGE = torch.full((3, 60, 80), 0.5)
BEFORE = torch.tensor([[10.0, 20.0], [30.0, 40.0], [70.0, 5.0]])
AFTER = torch.tensor([[11.0, 20.0], [50.0, 50.0]])


def test_points_are_shared_where_the_other_network_has_one_near():
    assert near_another(BEFORE, AFTER, 1.5).tolist() == [True, False, False]
    assert near_another(AFTER, BEFORE, 1.5).tolist() == [True, False]
    assert near_another(BEFORE, AFTER, 0.5).tolist() == [False, False, False]
    assert near_another(BEFORE, torch.zeros(0, 2), 1.5).tolist() == [False, False, False]


def test_both_networks_stand_side_by_side_with_their_own_points_bright():
    figure = draw_keypoints_of_networks(IMAGE, {"before": BEFORE, "after": AFTER})
    assert [text.get_text() for text in figure.texts] == [
        "before: 3 key points, 2 of them its own (orange)",
        "after: 2 key points, 1 of them its own (orange)",
    ]
    for axes, points, shared in zip(figure.axes, (BEFORE, AFTER), ([True, False, False], [True, False])):
        drawn = [np.asarray(dots.get_offsets()) for dots in axes.collections]
        np.testing.assert_allclose(drawn[0], points[torch.tensor(shared)] + 0.5)
        np.testing.assert_allclose(drawn[1], points[~torch.tensor(shared)] + 0.5)
        assert [to_hex(dots.get_facecolors()[0][:3]) for dots in axes.collections] == [SHARED, OWN]


@pytest.mark.parametrize("count", [0, 2])
def test_no_points_are_a_picture_too(tmp_path, count):
    save_figure(
        draw_keypoints_of_networks(IMAGE, {"a": AFTER[:count], "b": torch.zeros(0, 2)}), tmp_path / "points.png"
    )
    assert (tmp_path / "points.png").stat().st_size > 0
