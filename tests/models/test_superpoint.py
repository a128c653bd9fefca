"""SuperPoint behind rfp's interface equals the published networks, whose files it reads and writes bit for bit."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rfp
from rfp.models import SuperPoint, load_network, load_pretrained, save_weights
from rfp.models.state_layouts import LAYOUTS, published_state, recognise
from rfp.policy.keypoints import KeypointOptions
from rfp.records import DenseFeatures, InputError
from rfp.rollout import RolloutOptions
from tests.sync_deny_list import no_host_visits

SIZES = [(64, 96), (70, 101), (1, 1), (3, 50), (17, 16)]
NAMES = ["superpoint", "superpoint-open"]

# Inputs, outputs and kernel of each layer by its name in Magic Leap's file and in rpautrat's.
LAYERS = [
    ("conv1a", "backbone.0.0", 1, 64, 3),
    ("conv1b", "backbone.0.1", 64, 64, 3),
    ("conv2a", "backbone.1.0", 64, 64, 3),
    ("conv2b", "backbone.1.1", 64, 64, 3),
    ("conv3a", "backbone.2.0", 64, 128, 3),
    ("conv3b", "backbone.2.1", 128, 128, 3),
    ("conv4a", "backbone.3.0", 128, 128, 3),
    ("conv4b", "backbone.3.1", 128, 128, 3),
    ("convPa", "detector.0", 128, 256, 3),
    ("convPb", "detector.1", 256, 65, 1),
    ("convDa", "descriptor.0", 128, 256, 3),
    ("convDb", "descriptor.1", 256, 256, 1),
]


def published_file(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict in the layout of the network's project, filled at random."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for magic_leap, rpautrat, inputs, outputs, size in LAYERS:
        layer = magic_leap if name == "superpoint" else f"{rpautrat}.conv"
        scale = (2 / (inputs * size * size)) ** 0.5
        state[f"{layer}.weight"] = scale * torch.randn(outputs, inputs, size, size, generator=generator)
        state[f"{layer}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
        if name == "superpoint-open":
            norm = f"{rpautrat}.bn"
            state[f"{norm}.weight"] = 0.2 + 0.5 * torch.rand(outputs, generator=generator)
            state[f"{norm}.bias"] = 0.2 * torch.randn(outputs, generator=generator)
            state[f"{norm}.running_mean"] = 0.2 * torch.randn(outputs, generator=generator)
            state[f"{norm}.running_var"] = 0.2 + torch.rand(outputs, generator=generator)
            state[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    return state


def plain_forward(name: str, state: dict[str, torch.Tensor], grey: torch.Tensor):
    """Score map (b, h, w) and descriptor map of the published networks, from their state dict alone."""

    def layer(number: int, x, relu: bool = True):
        magic_leap, rpautrat, _, _, size = LAYERS[number]
        key = magic_leap if name == "superpoint" else f"{rpautrat}.conv"
        x = F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=size // 2)
        x = x.clamp_min(0) if relu else x
        if name == "superpoint":
            return x
        mean, variance, weight, bias = (
            state[f"{rpautrat}.bn.{part}"][None, :, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 0.001).sqrt() * weight + bias

    x = grey
    for number in range(8):
        x = layer(number, x)
        if number in (1, 3, 5):
            x = F.max_pool2d(x, 2, 2)
    logits = layer(9, layer(8, x), relu=False)
    descriptors = F.normalize(layer(11, layer(10, x), relu=False), dim=1)
    probability = logits.exp() / logits.exp().sum(1, keepdim=True)
    b, _, rows, columns = probability.shape
    score = torch.zeros(b, rows * 8, columns * 8)
    for y in range(8):
        for x_in_cell in range(8):
            score[:, y::8, x_in_cell::8] = probability[:, 8 * y + x_in_cell]
    return score, descriptors


def published_descriptors(dense: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    """As rpautrat's network reads its map: coordinates from -1 to 1 over the image's area, zeros outside."""
    size = 8 * torch.tensor([dense.shape[-1], dense.shape[-2]])
    grid = (xy + 0.5) / size * 2 - 1
    return F.normalize(F.grid_sample(dense, grid[:, None], align_corners=False)[:, :, 0], dim=1).transpose(1, 2)


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def file(name, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(published_file(name), path)
    return path


def points(count, height, width):
    return torch.rand(2, count, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([width - 1, height - 1.0])


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_of_its_project_is_recognised_and_round_trips_bit_for_bit(name, tmp_path, old_format):
    state = published_file(name)
    torch.save(state, tmp_path / "any.pth", _use_new_zipfile_serialization=not old_format)
    network = load_network(tmp_path / "any.pth")
    assert network.name == name
    assert not network.training
    found = published_state(network)
    assert list(found) == list(state)
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in state.items())


def test_heat_and_descriptors_are_those_of_the_published_network(name, file):
    network, state = load_network(file), published_file(name)
    images = torch.rand(2, 3, 48, 72, generator=torch.Generator().manual_seed(2))
    grey = (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    score, dense = plain_forward(name, state, grey)
    xy = points(40, 48, 72)
    with torch.no_grad():
        features = network.extract(images)
        descriptors = network.describe(features, xy)
    torch.testing.assert_close(features.log_heat.exp(), score, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(features.feature_map, dense, atol=1e-5, rtol=0)
    torch.testing.assert_close(descriptors, published_descriptors(dense, xy), atol=1e-5, rtol=0)


def test_a_cell_and_its_dustbin_hold_a_probability_of_one(file):
    with torch.no_grad():
        heat = load_network(file).extract(torch.rand(1, 3, 32, 40)).log_heat.exp()
    cells = F.avg_pool2d(heat, 8) * 64
    assert (cells < 0.9999).all()
    assert (cells > 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_any_size_gives_heat_for_each_pixel_and_unit_descriptors(name, size):
    network = SuperPoint(batch_norm=name == "superpoint-open")
    with torch.no_grad():
        features = network.extract(torch.rand(2, 3, *size))
        descriptors = network.describe(features, points(9, *size))
    assert features.log_heat.shape == (2, *size)
    assert features.log_heat.isfinite().all()
    torch.testing.assert_close(descriptors.norm(dim=-1), torch.ones(2, 9))


def test_the_padding_of_an_odd_size_repeats_the_edge(file):
    network = load_network(file)
    image = torch.rand(1, 3, 30, 45, generator=torch.Generator().manual_seed(3))
    padded = image[:, :, torch.arange(32).clamp(max=29)][:, :, :, torch.arange(48).clamp(max=44)]
    with torch.no_grad():
        odd, even = network.extract(image), network.extract(padded)
    assert torch.equal(odd.log_heat, even.log_heat[:, :30, :45])
    assert torch.equal(odd.feature_map, even.feature_map)


def test_gradients_reach_every_parameter(name, file):
    network = load_network(file)
    images, xy = torch.rand(2, 3, 30, 45, generator=torch.Generator().manual_seed(2)), points(60, 30, 45)
    features = network.extract(images)
    descriptors = network.describe(features, xy)
    weight = torch.randn(descriptors.shape, generator=torch.Generator().manual_seed(4))
    (features.log_heat[:, 3, 5].sum() + (descriptors * weight).sum()).backward()
    without = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_training_mode_changes_neither_the_outputs_nor_the_statistics():
    network = SuperPoint(batch_norm=True)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.rand(2, 3, 32, 40)
    with torch.no_grad():
        judged, training = network.eval().extract(images), network.train().extract(images)
    assert torch.equal(judged.log_heat, training.log_heat)
    assert torch.equal(judged.feature_map, training.feature_map)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert sum("running" in key for key in before) == 24


@pytest.mark.parametrize("size", SIZES)
def test_runs_on_the_meta_device_under_the_deny_list_backward_included(name, size):
    network = SuperPoint(batch_norm=name == "superpoint-open").to("meta")
    images, xy = torch.rand(2, 3, *size, device="meta"), torch.rand(2, 12, 2, device="meta")
    with no_host_visits():
        features = network.extract(images)
        descriptors = network.describe(features, xy)
        (features.log_heat.sum() + descriptors.sum()).backward()
    assert features.log_heat.shape == (2, *size)
    assert descriptors.shape == (2, 12, 256)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_rollout_reinforces_it(file, corner_views):
    """Rewards are finite and the log-probabilities carry a gradient, on two rendered views."""
    network = load_network(file)
    first, second = corner_views[0], corner_views[1]
    K = torch.eye(3)
    pair = rfp.PosedPair(first.image, second.image, K, K, K, K[2])
    options = RolloutOptions(keypoints=KeypointOptions(num_keypoints=32))
    rolled = rfp.rollout(network, [pair], options=options, generator=torch.Generator().manual_seed(0))
    rolled.log_prob_keypoints.sum().backward()
    assert rolled.reward.isfinite().all()
    assert network.detector[1].convolution.weight.grad.any()


def test_it_moves_with_the_image_by_one_cell(file):
    network = load_network(file)
    image = torch.rand(1, 3, 168, 168, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        here, moved = network.extract(image[:, :, :160, :160]), network.extract(image[:, :, 8:, 8:])
    torch.testing.assert_close(here.log_heat[:, 80:96, 80:96], moved.log_heat[:, 72:88, 72:88], atol=1e-4, rtol=1e-4)


def test_runs_are_saved_and_loaded_by_name(name, file, tmp_path):
    network = load_network(file)
    save_weights(network, tmp_path / "weights.safetensors")
    again = load_network(tmp_path)
    assert again.name == name
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("load", [load_pretrained, load_network])
def test_asking_for_weights_says_where_they_are_and_under_which_terms(load):
    with pytest.raises(InputError, match=r"superpoint_v1\.pth.*non-commercial.*MIT.*--network FILE\.pth") as error:
        load("superpoint")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"superpoint_v6_from_tf\.pth.*MIT"):
        load("superpoint-open")


@pytest.mark.parametrize("other", ["aliked-t16", "aliked-n16rot", "disk"])
def test_other_projects_files_are_recognised(other, tmp_path):
    network = LAYOUTS[other].build()
    torch.save(published_state(network), tmp_path / f"{other}.pth")
    found = load_network(tmp_path / f"{other}.pth")
    assert found.name == other
    assert all(torch.equal(value, found.state_dict()[key]) for key, value in network.state_dict().items())


def test_a_dictionary_around_the_weights_is_looked_into(name):
    state = published_file(name)
    assert recognise({"epoch": 3, "state_dict": state}) == name
    assert recognise({key: value for key, value in state.items() if "tracked" not in key}) == name
    assert recognise({"epoch": 3, "optimizer": {}}) is None


BROKEN = {
    "a layer is missing": (lambda state: state.pop("conv3b.weight"), "superpoint .*misses conv3b.weight"),
    "one is too many": (lambda state: state.update({"extra": torch.zeros(1)}), "holds extra besides"),
    "another shape": (
        lambda state: state.update({"convDb.bias": torch.zeros(128)}),
        r"convDb.bias has shape \(128,\) instead of \(256,\)",
    ),
    "another network": (
        lambda state: [state.update({f"own.{key}": state.pop(key)}) for key in list(state)],
        r"none of their tensors' names.*network\.load_state_dict",
    ),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_with_a_file_is_said(change, message, tmp_path):
    state = published_file("superpoint")
    change(state)
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(InputError, match=message) as error:
        load_network(tmp_path / "broken.pth")
    assert str(error.value).startswith(str(tmp_path / "broken.pth"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [20, 3000])
def test_a_truncated_file_is_named(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"weights\.pth: expected a file of weights.*fetch it again") as error:
        load_network(file)
    assert "\n" not in str(error.value)


def test_a_single_tensor_is_no_network(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(InputError, match="none of their tensors"):
        load_network(tmp_path / "tensor.pth")


def test_features_of_nothing_but_points_are_empty():
    network = SuperPoint()
    features = DenseFeatures(log_heat=torch.zeros(1, 16, 16), feature_map=torch.rand(1, 256, 2, 2))
    assert network.describe(features, torch.zeros(1, 0, 2)).shape == (1, 0, 256)
