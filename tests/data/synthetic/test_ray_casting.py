"""The ray caster against a plain one in float64 that asks one solid after the other."""

import pytest
import torch

from rfp.data.synthetic import ray_casting
from rfp.data.synthetic.cameras import normalized
from rfp.data.synthetic.layouts import BOX_SLOTS
from rfp.data.synthetic.ray_casting import cast, local_rays
from rfp.data.synthetic.shading import see


def plain_depths(solids, cameras, xy_px):
    """(V, N, n) depths at which rays meet each solid, inf where they do not; solid 0 is left, the others entered."""
    solids = {name: getattr(solids, name).double() for name in ("centre", "half", "axes", "closed")}
    ray = torch.cat((xy_px.double(), torch.ones_like(xy_px[..., :1]).double()), dim=-1)
    world = (torch.linalg.inv(cameras.K.double())[:, None] @ ray[..., None])[..., 0]
    world = (cameras.R.double().mT[:, None] @ world[..., None])[..., 0]
    o = torch.einsum("vnij,vnj->vni", solids["axes"], cameras.centre.double()[:, None] - solids["centre"])
    d = torch.einsum("vnij,vrj->vrni", solids["axes"], world)
    o, half = o[:, None], solids["half"][:, None]
    one, two = (-half - o) / d, (half - o) / d
    entry, leave = torch.minimum(one, two), torch.maximum(one, two)

    radii = half[..., :2]
    closed = solids["closed"][:, None]
    a = (d[..., :2] / radii).square().sum(-1) + closed * (d[..., 2] / half[..., 2]).square()
    b = (d[..., :2] * o[..., :2] / radii.square()).sum(-1) + closed * d[..., 2] * o[..., 2] / half[..., 2].square()
    c = (o[..., :2] / radii).square().sum(-1) + closed * (o[..., 2] / half[..., 2]).square() - 1
    root = (b * b - a * c).sqrt()  # NaN: missed
    rounds_in = torch.maximum((-b - root) / a, entry[..., 2])
    rounds_out = torch.minimum((-b + root) / a, leave[..., 2])

    near, far = entry.amax(-1), leave.amin(-1)
    near = torch.cat((near[..., : BOX_SLOTS + 1], rounds_in[..., BOX_SLOTS + 1 :]), dim=-1)
    far = torch.cat((far[..., : BOX_SLOTS + 1], rounds_out[..., BOX_SLOTS + 1 :]), dim=-1)
    met = torch.where((near <= far) & (near > 0), near, torch.inf)
    met[..., 0] = leave[:, :, 0].amin(-1)
    return met


def pixels_of(example, count=400):
    height, width = example.options.image_size
    generator = torch.Generator().manual_seed(1)
    size = torch.tensor([width - 1.0, height - 1.0])
    return torch.rand(len(example.batch.images), count, 2, generator=generator) * size


@pytest.mark.parametrize("view", [0, 1])
def test_depth_and_solid_are_those_of_the_plain_caster(example, view):
    xy, cameras = pixels_of(example), example.cameras(view)
    depth, solid = cast(local_rays(example.scenes.solids, cameras), *normalized(cameras, xy))
    plain = plain_depths(example.scenes.solids, cameras, xy)
    expected, first = plain.min(dim=-1)
    same = solid == first
    # A ray that grazes an edge may fall to either side of it.
    assert same.float().mean() > 0.999
    error, is_box = (depth - expected).abs() / expected, solid <= BOX_SLOTS
    assert error[same & is_box].max() < 6e-6
    assert error[same & ~is_box].max() < 2e-4
    assert len(solid.unique()) > 10
    exact = see(example.scenes, cameras, example.bank, xy).depth
    error = (exact - expected).abs() / expected
    assert error[same & is_box].max() < 2e-5  # on an edge, the neighbouring face may be taken
    assert error[same & is_box].quantile(0.995) < 1e-6
    assert error[same & ~is_box].max() < 2e-5


def test_solids_met_at_once_or_one_by_one_are_the_same(example, monkeypatch):
    xy, cameras = pixels_of(example), example.cameras(0)
    rays = local_rays(example.scenes.solids, cameras)
    results = []
    for rays_at_once in (0, 10**9):
        monkeypatch.setattr(ray_casting, "RAYS_AT_ONCE", rays_at_once)
        results.append(cast(rays, *normalized(cameras, xy)))
    for one, other in zip(*results):
        assert torch.equal(one, other)


def test_a_camera_above_a_cylinder_sees_its_cap():
    """Inside of the mantle, where the quadric bounds the interval from the other side."""
    from rfp.data.synthetic.cameras import Cameras, intrinsics, looking_at
    from rfp.data.synthetic.layouts import assemble, enclosure
    from rfp.data.synthetic.solids import upright

    zero = torch.zeros(1, 1)
    drum = upright(zero, zero, zero, torch.tensor([[[1.0, 1.0, 0.5]]]), zero)
    crate = upright(zero + 3, zero, zero, torch.tensor([[[0.2, 0.2, 0.2]]]), zero)
    solids = assemble(enclosure(torch.full((1, 3), 5.0)), [crate], [drum])
    centre = torch.tensor([[0.1, 0.2, 3.0]])
    R = looking_at(centre, torch.tensor([[0.1, 0.21, 0.0]]), torch.zeros(1))
    cameras = Cameras(intrinsics(torch.full((1,), 100.0), (101, 101)), R, centre)
    depth, solid = cast(local_rays(solids, cameras), *normalized(cameras, torch.tensor([[[50.0, 50.0]]])))
    assert solid.item() == BOX_SLOTS + 1
    torch.testing.assert_close(depth.item(), 2.0, atol=1e-4, rtol=0)
