"""Laws of how weights lie in memory."""

import torch
from torch import nn

from rfp.models import Tiny
from rfp.models.state import in_channels_last


def test_weights_are_channels_last_within_and_as_usual_afterwards_and_the_function_stays():
    network, image = Tiny().eval(), torch.rand(1, 3, 48, 64)
    weights = network.level1.first.convolution.weight
    before, kept = network.extract(image), weights.detach().clone()
    with in_channels_last(network):
        assert weights.is_contiguous(memory_format=torch.channels_last)
        assert not weights.is_contiguous()
        within = network.extract(image)
    assert network.level1.first.convolution.weight is weights
    assert weights.is_contiguous()
    assert torch.equal(weights, kept)
    torch.testing.assert_close(within.log_heat, before.log_heat, atol=1e-4, rtol=1e-4)


def test_tensors_of_other_dimensions_stay_as_they_are():
    with in_channels_last(nn.Conv3d(2, 3, 3)) as nothing:
        assert nothing is None
