"""Cameras are where the options say, see what they should, and touch nothing."""

import math
from dataclasses import replace

import pytest
import torch

from rfp.data.synthetic.cameras import back_project, relative_pose
from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.rendering import draw_rendering_noise, set_up
from rfp.data.synthetic.solids import clearance
from rfp.data.synthetic.viewpoints import CERTAIN_BASELINE, visible

PRESETS = {"easy": SceneOptions.easy, "medium": SceneOptions, "hard": SceneOptions.hard, "held": SceneOptions.held_out}


@pytest.fixture(scope="module", params=PRESETS.keys())
def drawn(request):
    options = PRESETS[request.param](image_size=(48, 64))
    noise = draw_rendering_noise(200, replace(options, image_size=(32, 32)), generator=torch.Generator().manual_seed(4))
    scenes, viewpoints, _ = set_up(noise, 8, options)
    return options, scenes, viewpoints


def test_the_overlap_of_200_pairs_is_in_the_stated_range(drawn):
    options, _, viewpoints = drawn
    usual = ~viewpoints.certain
    assert (viewpoints.overlap[usual] >= options.overlap[0]).all()
    assert (viewpoints.overlap[usual] <= options.overlap[1]).all()
    assert (viewpoints.overlap >= options.overlap[0]).all()
    assert viewpoints.certain.float().mean() <= 0.04


def test_baselines_rolls_and_focal_lengths_are_in_the_stated_ranges(drawn):
    options, _, viewpoints = drawn
    _, t = relative_pose(viewpoints.first, viewpoints.second)
    share = torch.linalg.vector_norm(t, dim=-1) / viewpoints.median_depth
    low, high = options.baseline
    usual = ~viewpoints.certain
    assert (share[usual] >= low - 1e-4).all()
    assert (share[usual] <= high + 1e-4).all()
    assert (share[~usual] <= CERTAIN_BASELINE + 1e-4).all()
    ratio = viewpoints.second.K[:, 0, 0] / viewpoints.first.K[:, 0, 0]
    assert (ratio.log().abs() <= math.log(options.focal_ratio) + 1e-5).all()
    view = 2 * torch.rad2deg(torch.atan(options.image_size[1] / 2 / viewpoints.first.K[:, 0, 0]))
    assert (view >= options.field_of_view_deg[0] - 1e-3).all()
    assert (view <= options.field_of_view_deg[1] + 1e-3).all()
    # Half of the range is used, and the directions of motion are many.
    assert share[usual].max() - share[usual].min() > 0.5 * (high - low)
    direction = torch.nn.functional.normalize(t, dim=-1)
    assert torch.linalg.vector_norm(direction.mean(dim=0)) < 0.5


def test_cameras_keep_clear_of_everything(drawn):
    _, scenes, viewpoints = drawn
    for cameras in (viewpoints.first, viewpoints.second):
        assert (clearance(scenes.solids, cameras.centre) > 0.03 * viewpoints.median_depth).all()


def test_the_overlap_on_the_coarse_grid_is_that_of_all_pixels(example):
    """The grid has 192 rays: a share of ½ is known to 0.04 (one standard deviation), less for regular scenes."""
    size, batch = example.options.image_size, example.batch
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack((x, y), dim=-1).reshape(1, -1, 2).float()
    shares = []
    for view in range(2):
        one, two = example.cameras(view), example.cameras(1 - view)
        X = back_project(one, grid, batch.depth[:, view].flatten(1))
        shares.append(visible(example.scenes.solids, two, X, size).float().mean(dim=-1))
    dense = torch.minimum(*shares)
    assert (dense - batch.overlap).abs().max() < 0.1
    assert (dense - batch.overlap).abs().mean() < 0.03


def test_clearance_is_negative_inside_a_solid_and_outside_the_enclosure(example):
    solids = example.scenes.solids
    assert (clearance(solids, solids.centre[:, 1]) < 0).any()
    assert (clearance(solids, solids.centre[:, 0] + 1e3) < 0).all()
