"""DISK behind rfp's interface keeps kornia's key points and descriptors."""

import pytest
import torch
import torch.nn.functional as F

from rfp.models import Disk


@pytest.fixture(scope="module")
def network() -> Disk:
    torch.manual_seed(0)
    return Disk().eval()


def image_batch(count: int = 2, height: int = 50, width: int = 70) -> torch.Tensor:
    noise = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(noise, 3, 1, 1)


def test_descriptors_at_kornias_keypoints_are_kornias(network):
    images = image_batch()
    with torch.no_grad():
        expected = network.network(images, n=40, score_threshold=-1e9, pad_if_not_divisible=True)
        features = network.extract(images)
        for i, record in enumerate(expected):
            found = network.describe(
                type(features)(features.log_heat[i : i + 1], features.feature_map[i : i + 1]), record.keypoints[None]
            )[0]
            assert len(record.keypoints) == 40
            torch.testing.assert_close(found, record.descriptors, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(48, 64), (50, 70), (33, 17)])
def test_heat_is_kornias_logit_over_the_temperature(network, size):
    images = image_batch(2, *size)
    height, width = size
    padded = F.pad(images, (0, -width % 16, 0, -height % 16))
    with torch.no_grad():
        logit = network.network.heatmap_and_dense_descriptors(padded)[0][:, 0, :height, :width]
        features = network.extract(images)
    assert torch.equal(features.log_heat, logit / 32)


def test_heat_keeps_the_order_of_logits_that_a_log_sigmoid_would_lose():
    """Trained logits go beyond 100 on photographs: normalised over the image, they must still be distinct."""
    logit = torch.linspace(50, 160, 1000)
    assert F.logsigmoid(logit).log_softmax(0).diff().le(0).any()
    heat = (logit / Disk().temperature).log_softmax(0)
    assert heat.diff().gt(0).all()


def test_a_point_between_pixels_reads_between_them(network):
    with torch.no_grad():
        features = network.extract(image_batch(1))
        found = network.describe(features, torch.tensor([[[10.25, 20.0]]]))[0, 0]
    left, right = features.feature_map[0, :, 20, 10], features.feature_map[0, :, 20, 11]
    torch.testing.assert_close(found, F.normalize(0.75 * left + 0.25 * right, dim=0), atol=1e-5, rtol=0)


def test_gradients_reach_every_parameter(network):
    network.zero_grad()
    features = network.extract(image_batch())
    descriptor = network.describe(features, torch.rand(2, 20, 2) * 49)
    (features.log_heat.square().mean() + (descriptor * torch.randn_like(descriptor)).sum()).backward()
    # a bias before an instance norm has no effect, and so no gradient but rounding
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not (parameter.grad.isfinite().all() and parameter.grad.any())
    ]
    assert without == []


def test_runs_on_the_meta_device_backward_included():
    network = Disk().eval().to("meta")
    features = network.extract(torch.rand(2, 3, 50, 70, device="meta"))
    descriptor = network.describe(features, torch.rand(2, 12, 2, device="meta"))
    (features.log_heat.sum() + descriptor.sum()).backward()
    assert features.log_heat.shape == (2, 50, 70)
    assert descriptor.shape == (2, 12, 128)
    assert all(parameter.grad is not None for parameter in network.parameters())
