"""ALIKED behind rfp's interface equals kornia's ALIKED, without its loops and its visits to the host."""

import pytest
import torch
import torch.nn.functional as F

from rfp.models import Aliked
from rfp.records import DenseFeatures


@pytest.fixture(scope="module")
def network() -> Aliked:
    """Random layers whose heat is spread and whose offsets reach several pixels, as the trained ones' do."""
    torch.manual_seed(0)
    network = Aliked("aliked-t16").eval()
    with torch.no_grad():
        network.network.score_head[-1].weight.mul_(20)
        network.network.desc_head.offset_conv[-1].weight.mul_(10)
        network.network.desc_head.offset_conv[-1].bias.mul_(10)
    return network


def image_batch(count: int = 2, height: int = 70, width: int = 101, seed: int = 0) -> torch.Tensor:
    noise = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(noise, 5, 1, 2) * 2 - 0.5


def kornia_descriptors(network: Aliked, feature_map: torch.Tensor, xy_px: torch.Tensor) -> torch.Tensor:
    height, width = feature_map.shape[-2:]
    normalised = xy_px / torch.tensor([width - 1.0, height - 1.0]) * 2 - 1
    return torch.stack(network.network.desc_head(feature_map, list(normalised))[0])


@pytest.mark.parametrize("size", [(70, 101), (64, 96), (33, 40)])
def test_dense_maps_equal_kornias(network, size):
    images = image_batch(height=size[0], width=size[1])
    with torch.no_grad():
        features = network.extract(images)
        feature_map, score = network.network.extract_dense_map(images)
    torch.testing.assert_close(features.log_heat.exp(), score[:, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(features.feature_map, feature_map, atol=1e-5, rtol=0)
    assert features.log_heat.shape == (2, *size)


def test_log_heat_is_finite_and_ordered_where_the_score_map_saturates(network):
    scaled = Aliked("aliked-t16").eval()
    scaled.load_state_dict(network.state_dict())
    with torch.no_grad():
        scaled.network.score_head[-1].weight.mul_(2000)
        features = scaled.extract(image_batch())
        score = scaled.network.extract_dense_map(image_batch())[1]
    assert (score == 0).any()
    assert features.log_heat.isfinite().all()
    assert features.log_heat.min() < -100


@pytest.mark.parametrize("name", ["aliked-t16", "aliked-n32"])
@pytest.mark.parametrize("where", ["sub-pixel", "border", "pixel"])
def test_descriptors_equal_kornias(network, name, where):
    if name != network.name:
        torch.manual_seed(1)
        network = Aliked(name).eval()
    generator = torch.Generator().manual_seed(3)
    height, width = 70, 101
    feature_map = F.normalize(
        torch.randn(2, network.network.desc_head.sf_conv.in_channels, 12, 16, generator=generator)
    )
    feature_map = F.normalize(F.interpolate(feature_map, (height, width), mode="bilinear"))
    limit = torch.tensor([width - 1.0, height - 1.0])
    xy = torch.rand(2, 200, 2, generator=generator) * limit
    if where == "border":
        side = torch.randint(0, 2, (2, 200, 2), generator=generator)
        xy = torch.where(side.bool(), limit - xy * 0.04, xy * 0.04)
    elif where == "pixel":
        # a thousandth beyond the pixel: kornia goes through normalised coordinates and truncates 4.9999995 to 4
        xy = xy.floor() + 1e-3
    with torch.no_grad():
        found = network.describe(DenseFeatures(torch.zeros(2, height, width), feature_map), xy)
        expected = kornia_descriptors(network, feature_map, xy)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_images_of_a_batch_do_not_see_each_other(network):
    images, xy = image_batch(), torch.rand(2, 30, 2) * 69
    with torch.no_grad():
        together = network.describe(network.extract(images), xy)
        alone = torch.cat([network.describe(network.extract(images[i : i + 1]), xy[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_refined_positions_are_kornias_keypoints(network):
    images = image_batch(1, 70, 101)
    detector = network.network.dkd
    with torch.no_grad():
        score = network.network.extract_dense_map(images)[1]
        pixel = detector(score, sub_pixel=False)[0][0]
        expected = detector(score, sub_pixel=True)[0][0]
        scale = torch.tensor([100.0, 69.0]) / 2
        found = network.refine(network.extract(images), ((pixel + 1) * scale)[None])[0]
    assert len(pixel) > 20
    assert (found - (pixel + 1) * scale).abs().max() > 0.1
    torch.testing.assert_close(found, (expected + 1) * scale, atol=1e-4, rtol=0)


def test_refine_moves_a_point_at_the_border_by_the_zero_padded_window(network):
    """Compared with the window cut out by hand, corners of the image included."""
    log_heat = image_batch(1, 9, 11).mean(1).sigmoid().log()
    corners = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [0.0, 8.0], [10.0, 8.0], [5.0, 1.0]]])
    found = network.refine(DenseFeatures(log_heat, log_heat[:, None]), corners)[0]
    padded = F.pad(log_heat[0].exp(), (2, 2, 2, 2))
    for (x, y), position in zip(corners[0].int().tolist(), found):
        weight = torch.softmax(padded[y : y + 5, x : x + 5].flatten() / 0.1, 0).view(5, 5)
        step = torch.arange(-2.0, 3.0)
        expected = torch.stack([x + weight.sum(0) @ step, y + weight.sum(1) @ step])
        torch.testing.assert_close(position, expected, atol=1e-5, rtol=0)


def test_gradients_reach_every_parameter(network):
    network.zero_grad()
    features = network.extract(image_batch())
    descriptor = network.describe(features, torch.rand(2, 40, 2) * 69)
    (features.log_heat.mean() + (descriptor * torch.randn_like(descriptor)).sum()).backward()
    without = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    network.zero_grad()


def test_gradients_equal_kornias(network):
    """Of descriptors at sub-pixel points, with respect to the images: through the backbone and both heads."""
    generator = torch.Generator().manual_seed(7)
    xy = torch.rand(2, 50, 2, generator=generator) * 60 + 0.01
    weight = torch.randn(2, 50, 64, generator=generator)
    gradients = []
    for ours in (True, False):
        images = image_batch().requires_grad_()
        if ours:
            found = network.describe(network.extract(images), xy)
        else:
            found = kornia_descriptors(network, network.network.extract_dense_map(images)[0], xy)
        gradients.append(torch.autograd.grad((found * weight).sum(), images)[0])
    scale = gradients[1].abs().max()
    torch.testing.assert_close(gradients[0] / scale, gradients[1] / scale, atol=1e-4, rtol=0)


def test_training_in_eval_mode_leaves_the_running_statistics_untouched(network):
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert any("running_mean" in name for name in before)
    features = network.extract(image_batch(seed=5))
    (features.log_heat.sum() + network.describe(features, torch.rand(2, 9, 2) * 60).sum()).backward()
    torch.optim.Adam(network.parameters(), lr=0).step()
    network.zero_grad()
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


@pytest.mark.parametrize("size", [(64, 96), (70, 101), (1, 1), (3, 50)])
def test_runs_on_the_meta_device_backward_included(size):
    """Nothing on the way asks for a value: a meta tensor has none."""
    network = Aliked("aliked-t16").eval().to("meta")
    features = network.extract(torch.rand(2, 3, *size, device="meta"))
    xy = torch.rand(2, 12, 2, device="meta")
    descriptor = network.describe(features, xy)
    (features.log_heat.sum() + descriptor.sum()).backward()
    assert features.log_heat.shape == (2, *size)
    assert descriptor.shape == (2, 12, 64)
    assert network.refine(features, xy).shape == (2, 12, 2)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (31, 2)])
def test_images_smaller_than_a_patch_give_finite_features(network, size):
    with torch.no_grad():
        features = network.extract(image_batch(1, *size))
        descriptor = network.describe(features, torch.zeros(1, 2, 2))
        refined = network.refine(features, torch.zeros(1, 2, 2))
    assert features.log_heat.isfinite().all()
    assert descriptor.isfinite().all()
    assert refined.isfinite().all()


def test_no_points_give_no_descriptors(network):
    with torch.no_grad():
        features = network.extract(image_batch())
        assert network.describe(features, torch.zeros(2, 0, 2)).shape == (2, 0, 64)
        assert network.refine(features, torch.zeros(2, 0, 2)).shape == (2, 0, 2)
