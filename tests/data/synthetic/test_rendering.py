"""What is rendered is exact: depth, colours and poses of the two views agree; and it is a function of its noise."""

from dataclasses import fields, replace

import pytest
import torch

from rfp.data.synthetic.cameras import back_project
from rfp.data.synthetic.layouts import BOX_SLOTS
from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.pairs import RenderedPairs
from rfp.data.synthetic.rendering import draw_rendering_noise, render_on_noise
from rfp.data.synthetic.scenes import FACES
from rfp.data.synthetic.shading import see
from rfp.geometry.pose import essential_from_pose
from rfp.records import map_tensors
from tests.data.synthetic.conftest import SMALL, make_example
from tests.sync_deny_list import no_host_visits


def pixel_grid(example):
    height, width = example.options.image_size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y), dim=-1).reshape(1, -1, 2).double()


def carry(xy, depth, K_from, K_to, R, t):
    """Pixels with depths moved into another camera by the stated pose, in float64: pixels and depths there."""
    ones = torch.ones_like(xy[..., :1])
    x = torch.cat((xy, ones), dim=-1) @ torch.linalg.inv(K_from.double()).mT
    X = x * depth[..., None] @ R.double().mT + t.double()[:, None]
    pixel = X @ K_to.double().mT
    return pixel[..., :2] / pixel[..., 2:], X[..., 2]


def correspondences(example):
    """Pixels of view 1, where view 2 sees them, what it sees there, and which of them are the same place."""
    batch = example.batch
    xy1, depth1 = pixel_grid(example), batch.depth[:, 0].flatten(1).double()
    xy2, expected = carry(xy1, depth1, batch.K[:, 0], batch.K[:, 1], batch.R, batch.t)
    height, width = example.options.image_size
    inside = (xy2 > 0).all(-1) & (xy2[..., 0] < width - 1) & (xy2[..., 1] < height - 1) & (expected > 0)
    xy2 = torch.where(inside[..., None], xy2, 0.0)
    seen = see(example.scenes, example.cameras(1), example.bank, xy2.float())
    # A ray meets the plane of a face once: the same face is the same point, without any tolerance. A curved surface
    # may hide the point behind its own horizon.
    flat = (seen.surface // FACES <= BOX_SLOTS) | (seen.surface % FACES >= 4)
    same = inside & (seen.surface == batch.surface[:, 0].flatten(1)) & (flat | faces_second_camera(example, depth1))
    return xy1, xy2, seen, same & interior(batch.surface[:, 0]).flatten(1), inside


def interior(surface):
    """Pixels whose neighbours are of the same surface: on its border, which of two faces is hit is decided by a bit."""
    padded = torch.nn.functional.pad(surface[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0]
    height, width = surface.shape[1:]
    shifts = ((0, 1), (2, 1), (1, 0), (1, 2))
    return torch.stack([padded[:, y : y + height, x : x + width] == surface for y, x in shifts]).all(dim=0)


def faces_second_camera(example, depth1):
    """Whether the outward normal of the round that each pixel of view 1 shows is turned to camera 2, by 3° or more."""
    batch, solids = example.batch, map_tensors(example.scenes.solids, torch.Tensor.double)
    solid = batch.surface[:, 0].flatten(1).long() // FACES
    at = torch.arange(len(solid))[:, None], solid
    X = back_project(map_tensors(example.cameras(0), torch.Tensor.double), pixel_grid(example), depth1)
    centre, half, axes, closed = solids.centre[at], solids.half[at], solids.axes[at], solids.closed[at]
    weight = torch.stack((torch.ones_like(closed), torch.ones_like(closed), closed), dim=-1)
    gradient = weight * (axes @ (X - centre)[..., None])[..., 0] / half.square()
    normal = torch.nn.functional.normalize((axes.mT @ gradient[..., None])[..., 0], dim=-1)
    to_camera = torch.nn.functional.normalize(batch.centre[:, 1, None].double() - X, dim=-1)
    return (normal * to_camera).sum(-1) > 0.05


def test_depth_carried_through_the_pose_returns_to_its_pixel(example):
    batch = example.batch
    xy1, xy2, seen, same, inside = correspondences(example)
    R, t = batch.R.mT, -(batch.R.mT @ batch.t[..., None])[..., 0]
    back, _ = carry(xy2, seen.depth.double(), batch.K[:, 1], batch.K[:, 0], R, t)
    error = torch.linalg.vector_norm(back - xy1, dim=-1)
    assert same.float().mean() > 0.25
    assert same[inside].float().mean() > 0.5
    assert error[same].max() < 0.05
    assert error[same].mean() < 1e-3


def test_both_views_see_the_same_light_where_they_see_the_same_place(example):
    """Up to texture filtering: the mip level, and so the sharpness, follows each view's own distance and angle."""
    _, _, seen2, same, _ = correspondences(example)
    seen1 = see(example.scenes, example.cameras(0), example.bank, pixel_grid(example).float())
    difference = (seen1.radiance.sqrt() - seen2.radiance.sqrt()).abs().amax(dim=1)[same]
    assert difference.median() < 0.02
    assert difference.quantile(0.9) < 0.08
    spread = seen1.radiance.sqrt().std()
    assert difference.mean() < 0.2 * spread


def test_true_correspondences_obey_the_epipolar_constraint(example):
    batch = example.batch
    xy1, xy2, _, same, _ = correspondences(example)
    E = essential_from_pose(batch.R, batch.t / torch.linalg.vector_norm(batch.t, dim=-1, keepdim=True)).double()
    x1, x2 = (
        torch.cat((xy, torch.ones_like(xy[..., :1])), dim=-1) @ torch.linalg.inv(K.double()).mT
        for xy, K in ((xy1.expand_as(xy2), batch.K[:, 0]), (xy2, batch.K[:, 1]))
    )
    residual = (x2 * (x1 @ E.mT)).sum(-1).abs()
    assert residual[same].max() < 1e-5


def test_the_stated_pose_is_that_of_the_two_cameras(example):
    batch = example.batch
    X = torch.randn(len(batch.R), 50, 3, generator=torch.Generator().manual_seed(0)).double()
    one, two = ((X - batch.centre[:, view, None].double()) @ batch.R_world[:, view].double().mT for view in range(2))
    torch.testing.assert_close(one @ batch.R.double().mT + batch.t[:, None].double(), two, atol=2e-5, rtol=0)
    identity = torch.eye(3).expand_as(batch.R)
    torch.testing.assert_close(batch.R @ batch.R.mT, identity, atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(batch.R), torch.ones(len(batch.R)), atol=2e-6, rtol=0)


def test_images_are_what_is_seen_at_pixel_centres(example):
    for view in range(2):
        seen = see(example.scenes, example.cameras(view), example.bank, pixel_grid(example).float())
        depth = example.batch.depth[:, view].flatten(1)
        surface = example.batch.surface[:, view].flatten(1)
        same = seen.surface == surface
        assert same.float().mean() > 0.9999
        torch.testing.assert_close(seen.depth[same], depth[same], rtol=2e-6, atol=0)


def test_the_same_seed_gives_the_same_pixels():
    one, two, other = (
        RenderedPairs(SMALL).render(3, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    for field in fields(one):
        assert torch.equal(getattr(one, field.name), getattr(two, field.name)), field.name
    assert not torch.equal(one.images, other.images)


def test_a_pair_depends_on_its_own_row_of_noise_only():
    generator = torch.Generator().manual_seed(0)
    noise = draw_rendering_noise(4, SMALL, generator=generator)
    bank = RenderedPairs(SMALL).bank(torch.device("cpu"))
    together = render_on_noise(noise, bank, SMALL)
    alone = render_on_noise(map_tensors(noise, lambda value: value[2:3]), bank, SMALL)
    # Up to rounding: a vectorised exponential rounds differently at the end of a row.
    for name in ("K", "R_world", "centre", "R", "t", "overlap"):
        torch.testing.assert_close(getattr(together, name)[2:3], getattr(alone, name), msg=name)
    assert (together.surface[2:3] == alone.surface).float().mean() > 0.999
    assert (together.images[2:3] - alone.images).abs().quantile(0.99) < 1e-4


@pytest.mark.parametrize("options", [SceneOptions.easy(), SceneOptions.hard(), SceneOptions.held_out()])
def test_everything_is_finite_and_images_are_in_range(options):
    example = make_example(replace(options, image_size=(33, 47), num_textures=3, texture_size=16), 24, seed=9)
    for field in fields(example.batch):
        assert getattr(example.batch, field.name).float().isfinite().all(), field.name
    assert example.batch.depth.min() > 0
    assert example.batch.images.min() >= 0
    assert example.batch.images.max() <= 1
    assert set(example.batch.layout.tolist()) == set(range(len(options.layouts)))


def test_images_are_neither_dark_nor_flat_nor_burnt(example):
    images = example.batch.images
    assert (images.mean(dim=(2, 3, 4)) > 0.15).all()
    assert (images.mean(dim=(2, 3, 4)) < 0.85).all()
    assert (images.std(dim=(3, 4)).mean(dim=2) > 0.04).all()
    assert ((images > 0.999).float().mean(dim=(2, 3, 4)) < 0.35).all()


def test_views_see_several_solids_at_several_depths(example):
    solid = example.batch.surface[:, 0].flatten(1) // FACES
    kinds = torch.tensor([len(row.unique()) for row in solid])
    assert kinds.float().mean() > 5
    ratio = example.batch.depth[:, 0].flatten(1).quantile(0.9, dim=1) / example.batch.depth[:, 0].flatten(1).quantile(
        0.1, dim=1
    )
    assert ratio.median() > 1.3


def test_rendering_visits_the_host_nowhere():
    bank = RenderedPairs(SMALL).bank(torch.device("cpu")).to("meta")
    for options in (SMALL, SceneOptions.held_out(image_size=SMALL.image_size, num_textures=7)):
        noise = draw_rendering_noise(2, options, generator=torch.Generator(), device=torch.device("meta"))
        with no_host_visits():
            batch = render_on_noise(noise, bank, options)
        assert batch.images.device.type == "meta"
        assert batch.images.shape == (2, 2, 3, *SMALL.image_size)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rendering_never_waits_on_a_gpu():
    stream, generator = RenderedPairs(SMALL), torch.Generator(device="cuda").manual_seed(0)
    stream.draw(2, generator=generator)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        stream.draw(2, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_renders_what_the_cpu_renders():
    noise = draw_rendering_noise(4, SMALL, generator=torch.Generator().manual_seed(0))
    bank = RenderedPairs(SMALL).bank(torch.device("cpu"))
    here = render_on_noise(noise, bank, SMALL)
    there = render_on_noise(map_tensors(noise, lambda value: value.cuda()), bank.to("cuda"), SMALL)
    same = here.surface == there.surface.cpu()
    assert same.float().mean() > 0.999
    torch.testing.assert_close(there.depth.cpu()[same], here.depth[same], rtol=1e-4, atol=0)
    assert (there.images.cpu() - here.images).abs().mean() < 2e-3
