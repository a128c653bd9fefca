"""Homography pairs are exact: H carries points and colours from view to view, and the masks say where it may."""

import math
from dataclasses import replace

import pytest
import torch
from kornia.geometry.linalg import transform_points

from rfp.data import HomographyOptions, draw_homography_pairs
from rfp.data.homographies import homography_pairs_on_noise
from rfp.records import InputError
from tests.sync_deny_list import no_host_visits

OPTIONS = HomographyOptions(image_size=(60, 80))
STILL = HomographyOptions(image_size=(60, 80), tilt_deg=0.0, roll_deg=0.0, scale=1.0, shift=0.0, supersampling=1)
COUNT = 12


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(seed=0):
    return torch.rand(COUNT, 2, 8, generator=_generator(seed), dtype=torch.float64)


def ramps(height=150, width=130):
    """(1, 3, h, w): a pixel's colour is its own place, (x / w, y / h, 1/2)."""
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return torch.stack([x / width, y / height, torch.full_like(x, 0.5)])[None]


def draw(options=OPTIONS, sources=None, seed=0):
    sources = ramps() if sources is None else sources
    return homography_pairs_on_noise(sources, torch.zeros(COUNT, dtype=torch.long), noise(seed), options)


def pixel_grid(options=OPTIONS):
    height, width = options.image_size
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1).expand(COUNT, -1, -1)


def places_by_colour(images, sources):
    """The source pixel that each pixel's colour names."""
    size = torch.tensor([sources.shape[-1], sources.shape[-2]], dtype=torch.float64)
    return images[:, :2].flatten(2).mT * size


def test_the_homography_between_the_views_goes_through_the_source():
    pairs = draw()
    point = torch.rand(COUNT, 200, 2, generator=_generator(1), dtype=torch.float64) * 60 + 40
    through_source = transform_points(pairs.H_source2, point)
    direct = transform_points(pairs.H, transform_points(pairs.H_source1, point))
    assert through_source.abs().max() > 10
    torch.testing.assert_close(direct, through_source, atol=1e-8, rtol=1e-10)


def test_single_precision_keeps_points_within_a_thousandth_of_a_pixel():
    exact = draw()
    single = homography_pairs_on_noise(ramps().float(), torch.zeros(COUNT).long(), noise().float(), OPTIONS)
    point = pixel_grid()
    in_view = (transform_points(exact.H, point) - 40).abs().amax(-1) < 60
    error = transform_points(single.H.double(), point) - transform_points(exact.H, point)
    assert error[in_view].abs().max() < 1e-3


@pytest.mark.parametrize("side", [1, 2])
def test_the_colour_of_a_pixel_is_that_of_its_place_in_the_source(side):
    pairs, sources = draw(), ramps()
    image, inside, H = [
        (pairs.images1, pairs.inside1, pairs.H_source1),
        (pairs.images2, pairs.inside2, pairs.H_source2),
    ][side - 1]
    expected = transform_points(torch.linalg.inv(H), pixel_grid())
    # the outermost half pixel of the source has the colour of its last pixel centre
    interior = (expected > 2).all(-1) & (expected[..., 0] < 127) & (expected[..., 1] < 147) & inside.flatten(1)
    assert interior.double().mean() > 0.3
    difference = (places_by_colour(image, sources) - expected).abs().amax(-1)
    # a pixel averages over its area, which a strong perspective maps a little to one side
    assert difference[interior].max() < 0.05


def test_corresponding_pixels_have_the_same_colour():
    pairs = draw(sources=ramps())
    point = pixel_grid()
    moved = transform_points(pairs.H, point)
    height, width = OPTIONS.image_size
    grid = moved / torch.tensor([width - 1, height - 1]) * 2 - 1
    sampled = torch.nn.functional.grid_sample(pairs.images2, grid[:, :, None], align_corners=True)[..., 0]
    seen = torch.nn.functional.grid_sample(pairs.inside2[:, None].double(), grid[:, :, None], align_corners=True)
    # 3 px from the edge of the source and of the view: black reaches into the interpolation there
    eroded = -torch.nn.functional.max_pool2d(-pairs.inside1.double(), 7, stride=1, padding=3).flatten(1)
    both = (seen[:, 0, :, 0] > 0.999) & (eroded > 0)
    both &= (moved > 1).all(-1) & (moved[..., 0] < width - 2) & (moved[..., 1] < height - 2)
    place = transform_points(torch.linalg.inv(pairs.H_source1), point)
    both &= (place > 3).all(-1) & (place[..., 0] < 126) & (place[..., 1] < 146)
    assert both.double().mean() > 0.2
    difference = (sampled - pairs.images1.flatten(2)).abs().amax(1)
    assert difference[both].max() < 2e-3


def test_a_pixel_is_inside_exactly_where_all_its_samples_hit_the_source():
    options = replace(OPTIONS, tilt_deg=75.0, focal=0.6, shift=0.6)  # some of these views see the horizon
    pairs = draw(options)
    to_source = torch.linalg.inv(pairs.H_source1)
    distance = torch.full((COUNT, 60 * 80), torch.inf, dtype=torch.float64)
    behind = torch.zeros(COUNT, 60 * 80, dtype=torch.bool)
    for dx in (-0.25, 0.25):
        for dy in (-0.25, 0.25):
            point = pixel_grid() + torch.tensor([dx, dy])
            homogeneous = torch.nn.functional.pad(point, (0, 1), value=1.0) @ to_source.mT
            behind |= homogeneous[..., 2] <= 0
            x, y = (homogeneous[..., :2] / homogeneous[..., 2:]).unbind(-1)
            distance = torch.minimum(distance, torch.stack([x + 0.5, 129.5 - x, y + 0.5, 149.5 - y]).amin(0))
    expected = (distance > 0) & ~behind
    assert behind.any()
    assert 0.1 < expected.double().mean() < 0.9
    undecided = distance.abs() < 1e-6
    assert (undecided | (pairs.inside1.flatten(1) == expected)).all()


@pytest.mark.parametrize("supersampling", [1, 2])
def test_a_white_source_is_white_wherever_a_view_is_inside(supersampling):
    """Up to its very edge: what lies beyond must not darken what the mask calls inside."""
    pairs = draw(replace(OPTIONS, shift=0.6, supersampling=supersampling), torch.ones(1, 3, 150, 130).double())
    for image, inside in ((pairs.images1, pairs.inside1), (pairs.images2, pairs.inside2)):
        assert 0.1 < inside.double().mean() < 0.99
        assert (image.amin(1)[inside] - 1).abs().max() < 1e-12
        assert image.amin(1)[~inside].min() == 0


def test_views_see_nothing_beyond_the_horizon():
    pairs = draw(replace(OPTIONS, tilt_deg=79.0, focal=0.6), sources=torch.ones(1, 3, 150, 130).double())
    last_row = torch.linalg.inv(pairs.H_source2)[:, 2]
    w = torch.nn.functional.pad(pixel_grid(), (0, 1), value=1.0) @ last_row[..., None]
    beyond = (w < -0.05).view(COUNT, 60, 80)
    assert beyond.any()
    assert pairs.images2.mean(1)[beyond].max() == 0
    assert not pairs.inside2[beyond].any()


def test_swapping_the_views_inverts_the_homography():
    uniforms = noise()
    swapped = uniforms.flip(1)
    swapped[:, :, 4:6] = uniforms[:, :, 4:6]  # the place is one for the pair
    source = torch.zeros(COUNT, dtype=torch.long)
    pairs = homography_pairs_on_noise(ramps(), source, uniforms, OPTIONS)
    again = homography_pairs_on_noise(ramps(), source, swapped, OPTIONS)
    product = again.H @ pairs.H
    product = product / product[:, 2:, 2:]
    torch.testing.assert_close(product, torch.eye(3).double().expand_as(product), atol=1e-9, rtol=0)
    assert torch.equal(again.images1, pairs.images2)
    assert torch.equal(again.inside2, pairs.inside1)


def test_a_camera_that_does_not_move_sees_the_source_pixel_for_pixel():
    """Views as large as the source leave no room for a place either."""
    sources = torch.rand(1, 3, 60, 80, generator=_generator(), dtype=torch.float64)
    pairs = draw(STILL, sources)
    eye = torch.eye(3).double().expand(COUNT, 3, 3)
    torch.testing.assert_close(pairs.H, eye, atol=1e-12, rtol=0)
    torch.testing.assert_close(pairs.H_source1, eye, atol=1e-12, rtol=0)
    torch.testing.assert_close(pairs.images1, sources.expand_as(pairs.images1), atol=1e-10, rtol=0)
    assert pairs.inside1.all()


def test_without_tilt_roll_scale_and_shift_the_views_are_moved_to_their_place_and_equal_each_other():
    pairs = draw(STILL)
    eye = torch.eye(3).double().expand(COUNT, 3, 3)
    torch.testing.assert_close(pairs.H, eye, atol=1e-10, rtol=0)
    torch.testing.assert_close(pairs.H_source1[:, :, :2], eye[:, :, :2], atol=1e-12, rtol=0)
    # places lie on all sides of the middle, in 0.8 of the room
    place = pairs.H_source1[:, :2, 2] - torch.tensor([80 - 130, 60 - 150]) / 2
    assert (place.amin(0) < -3).all()
    assert (place.amax(0) > 3).all()
    assert (place.abs().amax(0) <= torch.tensor([0.4 * 50, 0.4 * 90])).all()
    torch.testing.assert_close(pairs.images1, pairs.images2)
    assert pairs.inside1.all()


def test_the_stated_ranges_are_kept_and_used():
    """Without tilt the upper left 2×2 block of H_source is scale · rotation."""
    options = replace(OPTIONS, tilt_deg=0.0, roll_deg=30.0, scale=1.6, shift=0.2)
    uniforms = torch.rand(500, 2, 8, generator=_generator(), dtype=torch.float64)
    pairs = homography_pairs_on_noise(ramps(), torch.zeros(500).long(), uniforms, options)
    block = pairs.H_source1[:, :2, :2]
    scale = torch.linalg.det(block).sqrt()
    roll = torch.atan2(block[:, 1, 0], block[:, 0, 0]).rad2deg()
    assert 1.5 < scale.max() <= 1.6
    assert 1 / 1.6 <= scale.min() < 1 / 1.5
    assert 28 < roll.abs().max() <= 30
    middle = torch.tensor([[39.5, 29.5]]).double().expand(500, 1, 2)
    looked_at = [transform_points(torch.linalg.inv(H), middle)[:, 0] for H in (pairs.H_source1, pairs.H_source2)]
    apart = (looked_at[0] - looked_at[1]).abs().amax(0)
    assert (apart <= torch.tensor([0.2 * 80, 0.2 * 60]) + 1e-9).all()
    assert (apart > torch.tensor([0.15 * 80, 0.15 * 60])).all()


def test_the_same_seed_gives_the_same_pixels_and_another_one_does_not():
    sources = torch.rand(3, 3, 96, 96, generator=_generator())
    first = draw_homography_pairs(sources, 4, options=OPTIONS, generator=_generator())
    again = draw_homography_pairs(sources, 4, options=OPTIONS, generator=_generator())
    other = draw_homography_pairs(sources, 4, options=OPTIONS, generator=_generator(1))
    assert torch.equal(first.images1, again.images1)
    assert torch.equal(first.images2, again.images2)
    assert torch.equal(first.source, again.source)
    assert not torch.equal(first.images1, other.images1)


def test_every_source_is_drawn():
    sources = torch.linspace(0.1, 1, 5)[:, None, None, None].expand(5, 3, 64, 64).contiguous()
    pairs = draw_homography_pairs(sources, 60, options=replace(OPTIONS, image_size=(16, 16)), generator=_generator())
    assert set(pairs.source.tolist()) == set(range(5))
    shown = pairs.images1.amax((1, 2, 3))
    torch.testing.assert_close(shown, sources[pairs.source, 0, 0, 0])


def test_bytes_and_floats_give_the_same_views():
    sources = torch.randint(0, 256, (2, 3, 90, 100), generator=_generator(), dtype=torch.uint8)
    as_bytes = draw_homography_pairs(sources, 4, options=OPTIONS, generator=_generator(1))
    as_floats = draw_homography_pairs(sources / 255, 4, options=OPTIONS, generator=_generator(1))
    assert torch.equal(as_bytes.images1, as_floats.images1)
    assert as_bytes.images1.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_drawing_runs_without_data_under_the_deny_list(dtype):
    sources = torch.empty(3, 3, 64, 70, dtype=dtype, device="meta")
    source = torch.zeros(COUNT, dtype=torch.long, device="meta")
    uniforms = torch.rand(COUNT, 2, 8, device="meta")
    with no_host_visits():
        pairs = homography_pairs_on_noise(sources, source, uniforms, OPTIONS)
    assert pairs.images1.shape == (COUNT, 3, 60, 80)
    assert pairs.inside2.shape == (COUNT, 60, 80)
    assert pairs.H.device.type == "meta"


@pytest.mark.parametrize(
    ("sources", "count"),
    [
        (torch.zeros(0, 3, 64, 64), 2),
        (torch.zeros(3, 64, 64), 2),
        (torch.zeros(2, 1, 64, 64), 2),
        (torch.zeros(2, 3, 64, 64, dtype=torch.long), 2),
        (torch.zeros(2, 3, 64, 64, dtype=torch.float16), 2),
        (torch.zeros(2, 3, 64, 64, dtype=torch.bfloat16), 2),
        (torch.zeros(2, 3, 64, 64, dtype=torch.bool), 2),
        (torch.zeros(2, 3, 64, 64), 0),
    ],
    ids=["no sources", "one image", "grey", "integers", "half", "bfloat16", "bool", "no pairs"],
)
def test_sources_that_are_no_images_are_refused(sources, count):
    with pytest.raises(InputError, match="expected"):
        draw_homography_pairs(sources, count, generator=_generator())


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": (4, 80)},
        {"roll_deg": -1.0},
        {"shift": -0.1},
        {"focal": -1.2},
        *({name: bad} for name in ("tilt_deg", "roll_deg", "scale", "shift", "focal") for bad in (math.nan, math.inf)),
        {"tilt_deg": 80.0},
        {"tilt_deg": -1.0},
        {"scale": 0.9},
        {"focal": 0.0},
        {"supersampling": 0},
    ],
)
def test_options_that_mean_nothing_are_refused(change):
    with pytest.raises(InputError, match="expected"):
        HomographyOptions(**change)


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_size", (80.0, 80)), ("image_size", (80,)), ("image_size", (80, 80, 3)), ("supersampling", 1.5)],
)
def test_values_of_another_type_are_refused_where_types_are_not_checked(name, value):
    options = HomographyOptions()
    object.__setattr__(options, name, value)  # past the type checker of the tests, which users do not have
    with pytest.raises(InputError, match=name):
        options.__post_init__()
