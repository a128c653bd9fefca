"""Which part of a network a parameter belongs to is found from the graph, for every network of rfp."""

import pytest
import torch
from torch import nn

from rfp.models.aliked import Aliked
from rfp.models.disk import Disk
from rfp.models.tiny import Tiny
from rfp.training.parts import gradient_norms, network_parts
from tests.networks import TinyTestNetwork


def test_parts_are_what_the_outputs_depend_on():
    parts = network_parts(TinyTestNetwork(), torch.rand(3, 24, 32))
    assert parts == {
        "patches.weight": "shared",
        "descriptors.weight": "descriptor",
        "heat.weight": "detector",
        "heat.bias": "detector",
    }


@pytest.mark.parametrize(
    ("network", "of_detector", "of_descriptor"),
    [(Tiny(), "heat", "descriptors"), (Aliked("aliked-t16"), "score_head", "desc_head"), (Disk(), None, None)],
    ids=["tiny", "aliked-t16", "disk"],
)
def test_heads_of_the_known_networks_are_told_apart(network, of_detector, of_descriptor):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parts = network_parts(network, torch.rand(3, 64, 64))
    assert set(parts) == {name for name, _ in network.named_parameters()}
    assert "shared" in parts.values()
    for head, part in ((of_detector, "detector"), (of_descriptor, "descriptor")):
        assert head is None or {parts[name] for name in parts if head + "." in name} == {part}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_norms_of_the_parts_add_up_in_squares_to_the_whole_and_frozen_parts_have_none():
    network = TinyTestNetwork()
    parts = network_parts(network, torch.rand(3, 24, 32))
    network.heat.requires_grad_(False)
    for parameter in (network.patches.weight, network.descriptors.weight):
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    norms = gradient_norms(network.named_parameters(), parts)
    assert set(norms) == {"gradient_norm_shared", "gradient_norm_descriptor"}
    whole = nn.utils.get_total_norm([network.patches.weight.grad, network.descriptors.weight.grad])
    torch.testing.assert_close(torch.stack(list(norms.values())).square().sum().sqrt(), whole)
    network.patches.weight.grad[0] = float("nan")
    assert gradient_norms(network.named_parameters(), parts)["gradient_norm_shared"] == 0
