"""Photographs become square crops of their own content, in order, whatever their sizes; bad folders are refused."""

import cv2
import numpy as np
import pytest
import torch

from rfp.data import load_photographs
from rfp.records import InputError


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def write_ramp(path, height, width, blue=0):
    """Red grows along x, green along y, so that a colour says where in the picture it was taken."""
    red = np.broadcast_to(np.linspace(0, 255, width)[None], (height, width))
    green = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    pixels = np.stack([np.full((height, width), blue), green, red], axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels.round().astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    write_ramp(tmp_path / "b.png", 90, 160, blue=200)
    write_ramp(tmp_path / "nested" / "a.PNG", 200, 120, blue=100)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_crops_come_in_the_order_of_the_paths_each_photograph_with_its_own(folder):
    crops = load_photographs(folder, size=64, crops=3, generator=_generator())
    assert crops.shape == (6, 3, 64, 64)
    assert crops.min() >= 0
    assert crops.max() <= 1
    torch.testing.assert_close(crops[:3, 2], torch.full((3, 64, 64), 200 / 255), atol=1e-3, rtol=0)
    torch.testing.assert_close(crops[3:, 2], torch.full((3, 64, 64), 100 / 255), atol=1e-3, rtol=0)


def test_of_a_large_folder_photographs_are_read_evenly_up_to_the_limit(tmp_path):
    for number in range(7):
        write_ramp(tmp_path / f"{number}.png", 64, 64, blue=30 * number)
    crops = load_photographs(tmp_path, size=64, limit=3, generator=_generator())
    torch.testing.assert_close(crops[:, 2].mean((1, 2)) * 255, torch.tensor([0.0, 60.0, 120.0]), atol=0.5, rtol=0)
    with pytest.raises(InputError, match="limit of at least 1"):
        load_photographs(tmp_path, size=64, limit=0, generator=_generator())


def test_at_scale_one_a_crop_shows_the_whole_shorter_side_and_keeps_the_proportions(folder):
    for crop, longer_by in zip(load_photographs(folder, size=64, generator=_generator()), (160 / 90, 200 / 120)):
        red_range = crop[0].max() - crop[0].min()
        green_range = crop[1].max() - crop[1].min()
        shorter, longer = sorted([red_range.item(), green_range.item()])[::-1]
        assert shorter == pytest.approx(1, abs=0.03)
        assert longer == pytest.approx(1 / longer_by, abs=0.03)


def test_larger_scales_show_details_but_no_more_than_the_photograph_has(folder):
    crops = load_photographs(folder, size=64, crops=40, largest_scale=10.0, generator=_generator())[:40]
    shown = (crops[:, 1].amax((1, 2)) - crops[:, 1].amin((1, 2))).min().item()
    assert shown == pytest.approx(64 / 90, abs=0.03)
    assert crops[:, 1].mean((1, 2)).std() > 0.01  # places differ


def test_a_photograph_smaller_than_the_crop_is_enlarged(tmp_path):
    write_ramp(tmp_path / "small.png", 20, 31)
    crops = load_photographs(tmp_path, size=48, crops=2, largest_scale=2.0, generator=_generator())
    assert crops.shape == (2, 3, 48, 48)
    assert crops.isfinite().all()


def test_the_same_seed_gives_the_same_crops_and_another_one_does_not(folder):
    draw = {"size": 48, "crops": 2, "largest_scale": 1.8}
    first = load_photographs(folder, **draw, generator=_generator())
    assert torch.equal(first, load_photographs(folder, **draw, generator=_generator()))
    assert not torch.equal(first, load_photographs(folder, **draw, generator=_generator(1)))


def test_bytes_are_the_same_crops_rounded(folder):
    as_floats = load_photographs(folder, size=32, generator=_generator())
    as_bytes = load_photographs(folder, size=32, dtype=torch.uint8, generator=_generator())
    assert as_bytes.dtype == torch.uint8
    torch.testing.assert_close(as_bytes / 255, as_floats, atol=0.51 / 255, rtol=0)


@pytest.mark.parametrize("change", [{"size": 0}, {"crops": 0}, {"largest_scale": 0.5}])
def test_crops_that_mean_nothing_are_refused(folder, change):
    with pytest.raises(InputError, match="at least 1"):
        load_photographs(folder, **{"size": 32, **change}, generator=_generator())


def test_a_missing_folder_and_one_without_photographs_are_named(tmp_path):
    with pytest.raises(InputError, match="absent"):
        load_photographs(tmp_path / "absent", size=32, generator=_generator())
    with pytest.raises(InputError, match="found none"):
        load_photographs(tmp_path, size=32, generator=_generator())


def test_a_broken_photograph_is_named(folder):
    (folder / "c.jpg").write_bytes(b"not a JPEG")
    with pytest.raises(InputError, match=r"c\.jpg"):
        load_photographs(folder, size=32, generator=_generator())
