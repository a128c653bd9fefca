"""Exported state dicts load into the other tools themselves, and give the same outputs there."""

import kornia.feature
import pytest
import torch
import torch.nn.functional as F

import rfp
from rfp.cli import main
from rfp.export.state_dicts import write_state_dict
from rfp.models import Aliked, Disk, SuperPoint, Tiny, load_network, save_weights
from rfp.records import InputError
from tests.networks import TinyTestNetwork

BUILD = {
    "tiny": Tiny,
    "aliked-t16": Aliked,
    "aliked-n16rot": lambda: Aliked("aliked-n16rot"),
    "disk": Disk,
    "superpoint": SuperPoint,
    "superpoint-open": lambda: SuperPoint(batch_norm=True),
}


def trained(name: str):
    """Random weights that no fresh network has."""
    torch.manual_seed(11)
    network = BUILD[name]().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return network


def image(height=64, width=96):
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(noise, 3, 1, 1)


@pytest.mark.parametrize("name", BUILD)
def test_what_was_written_loads_as_the_same_network(name, tmp_path):
    network = trained(name)
    written = write_state_dict(network, tmp_path / f"{name}.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.pth"]
    assert written.num_tensors > 20
    again = load_network(tmp_path / f"{name}.pth")
    assert again.name == name
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())


def test_kornias_aliked_loads_the_file_and_finds_the_same_maps_and_descriptors(tmp_path):
    network = trained("aliked-t16")
    write_state_dict(network, tmp_path / "aliked-t16.pth")
    reference = kornia.feature.ALIKED("aliked-t16", max_num_keypoints=50, detection_threshold=-1.0).eval()
    state = torch.load(tmp_path / "aliked-t16.pth", weights_only=True)
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert missing == ["dkd.hw_grid"]
    assert unexpected == []
    with torch.no_grad():
        feature_map, score = reference.extract_dense_map(image())
        found = reference(image())[0]
        features = network.extract(image())
        descriptors = network.describe(features, found.keypoints[None])[0]
    torch.testing.assert_close(features.log_heat.exp(), score[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(features.feature_map, feature_map, atol=1e-5, rtol=0)
    assert len(found.keypoints) == 50
    torch.testing.assert_close(descriptors, found.descriptors, atol=1e-4, rtol=0)


def test_kornias_disk_loads_the_file_strictly_and_finds_the_same_keypoints(tmp_path):
    network = trained("disk")
    write_state_dict(network, tmp_path / "disk.pth")
    reference = kornia.feature.DISK().eval()
    reference.load_state_dict(torch.load(tmp_path / "disk.pth", weights_only=True)["extractor"])
    with torch.no_grad():
        logit, dense = reference.heatmap_and_dense_descriptors(image())
        found = reference(image(), n=40, score_threshold=-1e9)[0]
        features = network.extract(image())
        descriptors = network.describe(features, found.keypoints[None])[0]
    assert torch.equal(features.log_heat * network.temperature, logit[:, 0])
    assert torch.equal(features.feature_map, dense)
    torch.testing.assert_close(descriptors, found.descriptors, atol=1e-5, rtol=0)


def test_a_run_is_exported_from_the_command_line(tmp_path, capsys):
    network = trained("disk")
    save_weights(network, tmp_path / "weights.safetensors")
    assert main(["export", "weights", str(tmp_path), str(tmp_path / "out.pth")]) == 0
    said = capsys.readouterr().out
    assert "26 tensors" in said
    assert "Apache-2.0" in said
    state = torch.load(tmp_path / "out.pth", weights_only=True)["extractor"]
    assert all(torch.equal(value, network.network.state_dict()[key]) for key, value in state.items())
    assert len(state) == 26


def test_a_network_of_ones_own_has_no_other_names(tmp_path):
    with pytest.raises(InputError, match=r"TinyTestNetwork.*torch\.save"):
        write_state_dict(TinyTestNetwork(), tmp_path / "own.pth")


def test_another_kind_of_file_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match=r"\.pth or \.pt"):
        write_state_dict(rfp.load_pretrained("tiny"), tmp_path / "tiny.onnx")
    assert main(["export", "weights", "tiny", str(tmp_path / "no" / "where" / "tiny.pth")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "tiny.pth").touch()
    assert main(["export", "weights", "tiny", str(tmp_path / "tiny.pth")]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_an_interrupted_write_leaves_the_last_complete_file(tmp_path, monkeypatch):
    network = trained("tiny")
    write_state_dict(network, tmp_path / "tiny.pth")
    complete = (tmp_path / "tiny.pth").read_bytes()

    def write_half(content, path):
        path.write_bytes(complete[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", write_half)
    with pytest.raises(KeyboardInterrupt):
        write_state_dict(trained("tiny"), tmp_path / "tiny.pth")
    assert (tmp_path / "tiny.pth").read_bytes() == complete
