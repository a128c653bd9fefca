import math

import numpy as np
import pytest
import torch
from matplotlib.lines import Line2D

from rfp.plotting import DrawnEpipolarLines, draw_epipolar_lines, save_figure
from rfp.plotting.epipolar_lines import far_apart, segment_in_image

IMAGE1, IMAGE2 = torch.rand(3, 60, 80), torch.rand(3, 120, 100)

SIDEWAYS = torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""[t]× for a camera that moves along x: epipolar lines are rows, of the same number in both images."""


def _draw(xy1, xy2, *, title="", **options):
    return draw_epipolar_lines([DrawnEpipolarLines(IMAGE1, IMAGE2, xy1, xy2, SIDEWAYS, title)], **options)


def _artists(figure):
    drawn = [artist for artist in figure.axes[0].get_children() if isinstance(artist, Line2D)]
    points = [np.array(artist.get_xydata())[0] for artist in drawn if len(artist.get_xydata()) == 1]
    lines = [np.array(artist.get_xydata()) for artist in drawn if len(artist.get_xydata()) == 2]
    return points[::2], lines  # a ring is drawn twice: black, then coloured


def test_lines_pass_through_the_points_of_true_matches_in_both_images():
    generator = torch.Generator().manual_seed(0)
    xy1, xy2 = (50 * torch.rand(30, 2, generator=generator) for _ in range(2))
    xy2[:, 1] = xy1[:, 1]
    points, lines = _artists(_draw(xy1, xy2, num_matches=5))
    assert len(points) == len(lines) == 10
    left2 = 80 + 0.02 * (80 + 50)
    for number, (point, line) in enumerate(zip(points, lines)):
        in_second = number % 2 == 0
        assert line[:, 1] == pytest.approx(point[1])
        edges = (left2, left2 + 50) if in_second else (0, 80)  # image 2 is drawn at half its size
        assert sorted(line[:, 0]) == pytest.approx(edges)
    drawn = torch.tensor(np.stack(points[1::2])).float()
    assert (torch.cdist(drawn, xy1 + 0.5).amin(dim=1) < 1e-3).all()


def test_lines_follow_the_fundamental_matrix_of_a_turned_camera():
    """Where F is not its own transpose: image 2 gets the lines of F x1, image 1 those of Fᵀ x2."""
    R = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.1, 0.2], [0.1, 0, -0.3], [-0.2, 0.3, 0]]))
    t = torch.tensor([1.0, 0.3, 0.2])
    K1, K2 = (torch.tensor([[f, 0.0, x], [0, f, y], [0, 0, 1]]) for f, x, y in ((60.0, 39.5, 29.5), (90.0, 49.5, 59.5)))
    F = torch.linalg.inv(K2).T @ torch.linalg.cross(t[:, None].expand(3, 3), R, dim=0) @ torch.linalg.inv(K1)
    X1 = torch.tensor([[0.2, 0.1, 3.0], [-0.4, 0.3, 4.0], [0.5, -0.6, 5.0], [-1.0, 0.2, 4.0]])
    xy1, xy2 = ((p[:, :2] / p[:, 2:]) for p in (X1 @ K1.T, (X1 @ R.T + t) @ K2.T))
    points, lines = _artists(
        draw_epipolar_lines([DrawnEpipolarLines(torch.rand(3, 60, 80), torch.rand(3, 120, 100), xy1, xy2, F)])
    )
    assert len(lines) == 8
    for point, (start, end) in zip(points, lines):
        along = (end - start) / np.linalg.norm(end - start)
        assert abs(along[0] * (point - start)[1] - along[1] * (point - start)[0]) < 1e-3


def test_lines_of_wrong_geometry_miss_the_points():
    xy1, xy2 = torch.tensor([[10.0, 10.0]]), torch.tensor([[10.0, 14.0]])
    points, lines = _artists(_draw(xy1, xy2))
    assert abs(points[0][1] - lines[0][0, 1]) == pytest.approx(4 / 2)
    assert abs(points[1][1] - lines[1][0, 1]) == pytest.approx(4)


def test_segments_end_at_the_edges_of_the_image_and_are_none_outside():
    line = torch.tensor([1.0, -1.0, 0.0])  # the diagonal y = x
    start, end = segment_in_image(line, 10, 20)
    assert start.tolist() == [-0.5, -0.5]
    assert end.tolist() == [9.5, 9.5]
    upright = segment_in_image(torch.tensor([1.0, 0.0, -3.0]), 10, 20)
    assert [point.tolist() for point in upright] == [[3, -0.5], [3, 9.5]]
    assert segment_in_image(torch.tensor([1.0, 0.0, 3.0]), 10, 20) is None
    assert segment_in_image(torch.tensor([1.0, 1.0, 1.0]), 10, 20) is None  # through the corner alone
    assert segment_in_image(torch.zeros(3), 10, 20) is None


def test_chosen_matches_are_far_apart_and_different():
    rows = torch.stack(torch.meshgrid(torch.arange(11.0), torch.arange(11.0), indexing="xy"), dim=-1).flatten(0, 1)
    chosen = far_apart(rows, 5)
    assert rows[chosen[0]].tolist() == [5, 5]
    assert sorted(map(tuple, rows[chosen[1:]].tolist())) == [(0, 0), (0, 10), (10, 0), (10, 10)]
    assert len(far_apart(torch.ones(9, 2), 5)) == 1
    assert len(far_apart(torch.zeros(0, 2), 5)) == 0


def test_pairs_stand_in_rows_of_their_own_heights():
    points = torch.rand(4, 2) * 50
    rows = [
        DrawnEpipolarLines(*images, points, points, SIDEWAYS, title)
        for title, images in (("first", (IMAGE1, IMAGE1)), ("second", (IMAGE2, IMAGE2)))
    ]
    figure = draw_epipolar_lines(rows)
    first, second = (axes.get_position() for axes in figure.axes)
    assert first.y0 > second.y1
    assert second.height == pytest.approx(first.height * (120 / 100) / (60 / 80))
    assert [text.get_text().split(":")[0] for text in figure.texts] == ["first", "second"]
    assert first.y1 < figure.texts[0].get_position()[1] < 1
    assert second.y1 < figure.texts[1].get_position()[1] < first.y0


def test_the_caption_counts_and_no_matches_are_a_picture_too(tmp_path):
    none = torch.zeros(0, 2)
    figure = _draw(none, none, title="mine")
    assert figure.texts[0].get_text() == "mine: epipolar lines of 0 of 0 matches"
    save_figure(figure, tmp_path / "none.png")
    assert math.isclose(figure.get_size_inches()[0], 10)
