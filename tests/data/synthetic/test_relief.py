import dataclasses
import math

import pytest
import torch
from torch.nn.functional import grid_sample

from rfp.data import ReliefOptions, ReliefPairs
from rfp.data.synthetic.relief import ReliefNoise, draw_relief_noise, relief_on_noise
from rfp.geometry.camera import normalize_points
from rfp.records import InputError
from rfp.training.pretraining_pairs import RenderedViews

SMALL = ReliefOptions(image_size=(72, 96))


def _photographs(count=3, side=144):
    """Smooth blobs of colour: linear interpolation shows them as they are."""
    noise = torch.rand(count, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.interpolate(noise, side, mode="bicubic", align_corners=False).clamp(0, 1)


def _render(count=12, options=SMALL, seed=0):
    return ReliefPairs(_photographs(), options).render(count, generator=torch.Generator().manual_seed(seed))


def _pixels(height, width):
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return torch.stack([x, y], dim=-1)


def _counterparts(batch, first, second):
    """Where camera ``second`` sees each pixel of ``first``, the depth there by the pose, and whether it is inside."""
    height, width = batch.images.shape[-2:]
    R, t = batch.R, batch.t
    if first == 1:
        R, t = R.mT, -(R.mT @ t[..., None])[..., 0]
    xy = _pixels(height, width).flatten(0, 1).expand(len(R), -1, -1)
    rays = torch.cat([normalize_points(xy, batch.K[:, first]), torch.ones_like(xy[..., :1])], dim=-1)
    moved = rays * batch.depth[:, first].flatten(1)[..., None] @ R.mT + t[:, None]
    landed = (moved / moved[..., 2:]) @ batch.K[:, second].mT
    places = (landed[..., :2] + 0.5) / torch.tensor([width, height]) * 2 - 1
    inside = (places.abs() < 0.97).all(dim=-1) & (moved[..., 2] > 0)
    return places[:, None], moved[..., 2], inside


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
def test_depth_and_pose_take_each_pixel_to_its_place_in_the_other_image(first, second):
    batch = _render()
    places, depth, inside = _counterparts(batch, first, second)
    seen = grid_sample(batch.depth[:, second, None], places, align_corners=False)[:, 0, 0]
    assert inside.float().mean() > 0.4
    assert ((seen - depth).abs() / depth)[inside].max() < 2e-3  # between pixels the depth is not quite linear
    colours = grid_sample(batch.images[:, second], places, align_corners=False)[:, :, 0].movedim(1, -1)
    difference = (colours - batch.images[:, first].flatten(2).mT).abs()[inside]
    assert difference.mean() < 0.01
    assert batch.images.flatten(2).std(dim=-1).min() > 0.05


def test_no_part_of_the_surface_hides_another():
    """Seen from the other camera, neighbours stay neighbours on the same side: the map's determinant is positive."""
    batch = _render(24)
    height, width = batch.images.shape[-2:]
    places, _, inside = _counterparts(batch, 0, 1)
    grid = places[:, 0].unflatten(1, (height, width))
    across, down = grid[:, :-1, 1:] - grid[:, :-1, :-1], grid[:, 1:, :-1] - grid[:, :-1, :-1]
    determinant = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    assert (determinant > 0)[inside.unflatten(1, (height, width))[:, :-1, :-1]].all()


def test_pairs_are_within_the_ranges_and_no_planes():
    options = dataclasses.replace(SMALL, angle_deg=(10.0, 20.0), roll_deg=0.0, shift=0.0, slant=0.0)
    batch = _render(40, options)
    directions = torch.stack([torch.eye(3)[2].expand(40, 3), batch.R[:, 2]])  # of both axes, in camera 1
    angle = torch.rad2deg(torch.acos((directions[0] * directions[1]).sum(dim=-1)))
    assert 9.9 < angle.min() < 12
    assert 18 < angle.max() < 20.1
    # Both cameras look at one point, about as far away as the scale allows.
    for camera in (0, 1):
        middle = batch.depth[:, camera, 35:37, 47:49].mean(dim=(1, 2))
        assert middle.min() > 0.4
        assert middle.max() < 2.5
    assert (batch.R @ batch.R.mT - torch.eye(3)).abs().max() < 1e-5
    assert torch.linalg.det(batch.R).min() > 0.99
    # A plane's inverse depth is linear in the pixel: what is left over is relief.
    inverse = 1 / batch.depth[:, 0].flatten(1)
    plane = torch.cat([_pixels(72, 96).flatten(0, 1), torch.ones(72 * 96, 1)], dim=1)
    rest = inverse.mT - plane @ torch.linalg.lstsq(plane, inverse.mT).solution
    assert (rest.std(dim=0) / inverse.mean(dim=1)).min() > 0.002


def test_the_same_seed_gives_the_same_pairs_and_sets_of_any_length():
    stream = ReliefPairs(_photographs(), SMALL)
    one, two = (stream.draw(2, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one[1].image2, two[1].image2)
    assert not torch.equal(one[0].image1, one[1].image1)
    short, long = stream.fixed_set(2, seed=1), stream.fixed_set(9, seed=1)
    assert (len(short), len(long), len(set(long.names))) == (2, 9, 9)
    assert torch.equal(short[1].image1, long[1].image1)
    assert long[0].image1.shape == (3, 72, 96)
    other = ReliefPairs(_photographs() * 0.5, SMALL)
    assert repr(other) != repr(stream) == repr(ReliefPairs(_photographs(), SMALL))


def test_bytes_are_the_same_photographs():
    photographs = (_photographs() * 255).round()
    pairs = [
        ReliefPairs(values, SMALL).draw(1, generator=torch.Generator().manual_seed(0))[0]
        for values in (photographs.to(torch.uint8), photographs / 255)
    ]
    torch.testing.assert_close(pairs[0].image1, pairs[1].image1)


def test_it_is_a_pure_function_of_its_noise_that_never_visits_the_host():
    noise = draw_relief_noise(3, SMALL, generator=torch.Generator().manual_seed(0))
    on_meta = ReliefNoise(*(getattr(noise, field.name).to("meta") for field in dataclasses.fields(noise)))
    made = relief_on_noise(_photographs().to("meta"), on_meta, SMALL)
    assert made.images.shape == (3, 2, 3, 72, 96)
    alone = relief_on_noise(
        _photographs(), ReliefNoise(noise.photograph[1:2], noise.cameras[1:2], noise.waves[1:2]), SMALL
    )
    torch.testing.assert_close(alone.images[0], relief_on_noise(_photographs(), noise, SMALL).images[1])


def test_labels_through_the_depth_are_counterparts():
    """Corners of one view and where the other view shows them: the same colour in both."""
    views = RenderedViews(ReliefPairs(_photographs(), SMALL), None, count=64)
    (labels,) = views.draw(3, step=0, generator=torch.Generator().manual_seed(0))
    assert labels.seen.float().mean() > 0.3
    colours = []
    for view in (labels.first, labels.second):
        places = (view.xy_px + 0.5) / torch.tensor([96, 72]) * 2 - 1
        colours.append(grid_sample(view.images, places[:, None], align_corners=False)[:, :, 0].movedim(1, -1))
    assert (colours[0] - colours[1]).abs()[labels.seen].mean() < 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": (4, 96)},
        {"waves": 0},
        {"supersampling": 0},
        {"angle_deg": (0.0, 10.0)},
        {"angle_deg": (20.0, 10.0)},
        {"tilt_deg": 40.0},
        {"focal": (0.0, 1.0)},
        {"scale": 0.9},
        {"slant": 1.0},
        {"roll_deg": math.inf},
    ],
)
def test_ranges_that_mean_nothing_are_refused(change):
    with pytest.raises(InputError, match=f"expected .*{next(iter(change))}"):
        dataclasses.replace(SMALL, **change)


def test_what_are_no_photographs_is_refused():
    with pytest.raises(InputError, match="expected photographs of shape"):
        ReliefPairs(torch.rand(2, 3, 10, 12))
    with pytest.raises(InputError, match="expected photographs in"):
        ReliefPairs(torch.rand(2, 3, 10, 10) * 255)
    with pytest.raises(InputError, match="at least 1 pair"):
        _render(0)
