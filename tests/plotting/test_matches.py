import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from rfp.data import read_image
from rfp.plotting import DrawnMatches, draw_matches, draw_matches_of_networks, save_figure
from rfp.plotting.matches import RIGHT, UNKNOWN, WRONG
from rfp.plotting.side_by_side import grey_pixels
from rfp.records import InputError

RED = torch.tensor([0.9, 0.1, 0.1])[:, None, None].expand(3, 60, 80)
BLUE = torch.tensor([0.1, 0.1, 0.9])[:, None, None].expand(3, 120, 100)


def _matches(count=3, **known):
    generator = torch.Generator().manual_seed(0)
    xy1, xy2 = (largest * torch.rand(count, 2, generator=generator) for largest in (50, 90))
    return DrawnMatches(xy1, xy2, **known)


def _lines(figure, row=0):
    return next(artist for artist in figure.axes[row].get_children() if isinstance(artist, LineCollection))


def test_the_first_image_is_left_and_the_second_right_and_both_are_as_high_and_grey(tmp_path):
    save_figure(draw_matches(RED, BLUE, _matches(0)), tmp_path / "picture.png")
    picture = read_image(tmp_path / "picture.png")
    rows = picture[:, picture.shape[1] // 2 :]
    for part, image in ((rows[:, :, 50:700], RED), (rows[:, :, -500:-20], BLUE)):
        grey = float(grey_pixels(image)[0, 0])
        assert part.amin().item() == pytest.approx(grey, abs=0.01)
        assert part.amax().item() == pytest.approx(grey, abs=0.01)
    assert grey_pixels(RED)[0, 0] > grey_pixels(BLUE)[0, 0] + 0.1  # green counts most, blue least


def test_each_match_is_a_line_between_its_pixels():
    matches = _matches(7)
    segments = torch.from_numpy(np.stack(_lines(draw_matches(RED, BLUE, matches)).get_segments()))
    assert segments.shape == (7, 2, 2)
    torch.testing.assert_close(segments[:, 0].float(), matches.xy1_px + 0.5)  # a pixel's centre is half a pixel in
    second = (matches.xy2_px + 0.5) * 60 / 120
    torch.testing.assert_close(segments[:, 1, 1].float(), second[:, 1])
    left = 80 + 0.02 * (80 + 100 * 60 / 120)
    torch.testing.assert_close(segments[:, 1, 0].float(), second[:, 0] + left)


def test_colours_tell_right_from_wrong_and_right_ones_lie_on_top():
    by_error = _lines(draw_matches(RED, BLUE, _matches(3, error_px=torch.tensor([0.5, 40.0, 0.9]))))
    inliers = torch.tensor([True, False, True])
    by_inlier = _lines(draw_matches(RED, BLUE, _matches(3, inliers=inliers)))
    for lines in (by_error, by_inlier):
        assert [tuple(colour[:3].round(2)) for colour in lines.get_colors()] == [
            pytest.approx(to_rgb(name), abs=0.01) for name in (WRONG, RIGHT, RIGHT)
        ]
    unknown = _lines(draw_matches(RED, BLUE, _matches(2)))
    assert all(tuple(colour[:3]) == pytest.approx(to_rgb(UNKNOWN)) for colour in unknown.get_colors())


def test_the_caption_counts():
    texts = [text.get_text() for text in draw_matches(RED, BLUE, _matches(4), title="mine").texts]
    assert texts == ["mine: 4 matches"]
    known = _matches(4, error_px=torch.tensor([0.1, 0.2, 0.3, 9.0]))
    assert "4 matches, 3 (75%) within 1 px of the true" in draw_matches(RED, BLUE, known).texts[0].get_text()
    estimated = [
        text.get_text() for text in draw_matches(RED, BLUE, replace(known, geometry="estimated homography")).texts
    ]
    assert "within 1 px of the estimated homography" in estimated[0]
    assert estimated[1] == "distance to the estimated homography (px)"


def test_a_long_caption_is_set_smaller_and_a_short_one_is_not():
    sizes = [
        draw_matches(RED, BLUE, _matches(1), title=title).texts[0].get_fontsize() for title in ("short", "x" * 200)
    ]
    assert sizes[0] == 10
    assert 4 < sizes[1] < 6


def test_no_matches_are_a_picture_too(tmp_path):
    for known in ({}, {"error_px": torch.zeros(0)}, {"inliers": torch.zeros(0, dtype=torch.bool)}):
        save_figure(draw_matches(RED, BLUE, _matches(0, **known)), tmp_path / "none.png")
        assert "0 matches" in draw_matches(RED, BLUE, _matches(0, **known)).texts[0].get_text()


def test_rows_stand_in_the_order_of_their_names():
    figure = draw_matches_of_networks(RED, BLUE, {"before": _matches(2), "after": _matches(5)})
    positions = {text.get_text(): text.get_position()[1] for text in figure.texts}
    assert positions["before: 2 matches"] > positions["after: 5 matches"]
    assert len(_lines(figure, row=1).get_segments()) == 5


def test_a_file_name_that_says_no_format_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"expected a file name that ends in \.png"):
        save_figure(draw_matches(RED, BLUE, _matches(1)), tmp_path / "picture.xyz")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_figure(draw_matches(RED, BLUE, _matches(1)), tmp_path / "file" / "picture.png")


def test_no_global_state_of_pyplot_is_made():
    code = "import sys, rfp.plotting; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
