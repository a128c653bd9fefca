"""ONNX files and torch.export programs, run by onnxruntime and torch alone, give what the network gives."""

import io
import json
import shutil
from contextlib import redirect_stdout

import jaxtyping
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import rfp
from rfp.cli import main
from rfp.export import onnx as onnx_files
from rfp.export import programs
from rfp.export.onnx import write_onnx
from rfp.export.programs import largest_differences, trace_network, write_programs
from rfp.models import SuperPoint
from rfp.records import DenseFeatures, InputError
from rfp.rollout import SubpixelNetwork
from tests.export.exif import write_jpeg
from tests.networks import TinyTestNetwork
from tests.printed_commands import ROOT, blocks

SIZES = [(1, 40, 120), (3, 97, 33)]  # batch, height, width; neither traced nor looked at by the exporter
PARTS = ["net{}", "net.describe{}", "net.refine{}"]


class Exported:
    """A network, its traces, its files in a folder, and what the commands said."""

    def __init__(self, network, folder, *, by_command: bool):
        self.network, self.folder = network, folder
        jaxtyping.config.update("jaxtyping_disable", True)  # a traced size is a symbol and no int
        try:
            self.traced = trace_network(network)
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)
        self.said = io.StringIO()
        if by_command:
            with pytest.MonkeyPatch.context() as patch, redirect_stdout(self.said):
                for module in (onnx_files, programs):  # one trace for both: it takes seconds
                    patch.setattr(module, "trace_network", lambda network: self.traced)
                assert main(["export", "onnx", str(folder / "net.onnx")]) == 0
                assert main(["export", "pt2", str(folder / "net.pt2"), "--network", network.name]) == 0
        else:
            write_onnx(network, folder / "net.onnx", self.traced)
            write_programs(network, folder / "net.pt2", self.traced)

    def run_onnx(self, file: str, **inputs) -> dict[str, torch.Tensor]:
        session = onnxruntime.InferenceSession(str(self.folder / file), providers=["CPUExecutionProvider"])
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return {each.name: torch.from_numpy(value) for each, value in zip(session.get_outputs(), found)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Exported:
    return Exported(rfp.load_pretrained("tiny"), tmp_path_factory.mktemp("tiny"), by_command=True)


def images_and_points(batch, height, width):
    generator = torch.Generator().manual_seed(7)
    points = torch.rand(batch, 25, 2, generator=generator) * torch.tensor([width - 1.0, height - 1.0])
    return torch.rand(batch, 3, height, width, generator=generator), points


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-4, of the largest value where that is beyond one."""
    assert found.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=1e-4 * scale, rtol=0)


def assert_onnxruntime_agrees(exported: Exported, batch: int, height: int, width: int) -> None:
    images, xy_px = images_and_points(batch, height, width)
    found = exported.run_onnx("net.onnx", images=images)
    with torch.no_grad():
        features = exported.network.extract(images)
        assert_near(found["log_heat"], features.log_heat)
        assert_near(found["feature_map"], features.feature_map)
        descriptors = exported.run_onnx("net.describe.onnx", xy_px=xy_px, **found)["descriptors"]
        torch.testing.assert_close(descriptors, exported.network.describe(features, xy_px), atol=1e-4, rtol=0)
        if isinstance(exported.network, SubpixelNetwork):
            refined = exported.run_onnx("net.refine.onnx", xy_px=xy_px, **found)["refined_xy_px"]
            torch.testing.assert_close(refined, exported.network.refine(features, xy_px), atol=1e-4, rtol=0)


@pytest.fixture
def printed(tiny, tmp_path, monkeypatch, corner_views) -> dict[str, str]:
    """The page's blocks by the package that they use, where they find the files and the image that they name."""
    for path in tiny.folder.iterdir():
        shutil.copy(path, tmp_path / path.name.replace("net", "tiny"))
    write_jpeg(tmp_path / "a.jpg", (corner_views[0].image * 255).round().byte().permute(1, 2, 0).flip(-1).numpy())
    monkeypatch.chdir(tmp_path)
    found = [block.code for block in blocks(ROOT / "docs" / "weights-and-onnx.md", "py")]
    return {name: code for name in ("onnxruntime", "torch.export") for code in found if name in code}


def test_the_detector_that_the_page_prints_finds_what_rfp_finds(printed):
    """In an image with fewer local maxima than points are asked for."""
    names = {}
    exec(compile(printed["onnxruntime"], "weights-and-onnx.md", "exec"), names)
    found = rfp.detect(rfp.load_pretrained("tiny"), torch.from_numpy(names["images"]), num_keypoints=1024)
    places, descriptors = (torch.from_numpy(names[name][0]) for name in ("xy_px", "descriptors"))
    assert 300 < len(places) == found.valid.sum() < 1024
    exactly = "donot_use_mm_for_euclid_dist"
    distance, same = torch.cdist(found.xy_px[found.valid], places, compute_mode=exactly).min(dim=1)
    assert distance.max() < 0.01
    torch.testing.assert_close(descriptors[same], found.descriptor[found.valid], atol=1e-2, rtol=0)


def test_the_program_that_the_page_prints_runs(printed):
    names = {}
    exec(compile(printed["torch.export"], "weights-and-onnx.md", "exec"), names)
    assert names["log_heat"].shape == (1, 480, 640)


def assert_torch_programs_agree(exported: Exported) -> None:
    parts = PARTS if isinstance(exported.network, SubpixelNetwork) else PARTS[:2]
    extract, *others = (torch.export.load(exported.folder / part.format(".pt2")).module() for part in parts)
    for size in SIZES:
        images, xy_px = images_and_points(*size)
        with torch.no_grad():
            features = exported.network.extract(images)
            found = extract(images)
            assert_near(found[0], features.log_heat)
            assert_near(found[1], features.feature_map)
            for program, of_network in zip(others, ("describe", "refine")):
                assert_near(program(*found, xy_px), getattr(exported.network, of_network)(features, xy_px))


@pytest.mark.parametrize("size", SIZES)
def test_onnxruntime_finds_what_the_network_finds_at_other_sizes(tiny, size):
    assert_onnxruntime_agrees(tiny, *size)


def test_torch_programs_find_what_the_network_finds_at_other_sizes(tiny):
    assert_torch_programs_agree(tiny)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["superpoint", "superpoint-open", "aliked-t16", "aliked-n32", "disk"])
def test_the_other_networks_are_exported_too(name, tmp_path):
    torch.manual_seed(0)
    if name.startswith("superpoint"):
        network = SuperPoint(batch_norm=name == "superpoint-open").eval()
    else:
        network = rfp.load_pretrained(name)
    exported = Exported(network, tmp_path, by_command=False)
    for size in SIZES:
        assert_onnxruntime_agrees(exported, *size)
    assert_torch_programs_agree(exported)


def test_the_deployed_detector_can_be_rebuilt_from_the_files(tiny, corner_views):
    """Local maxima of the exported heat, described and refined by the exported parts, are those of rfp.detect."""
    image = corner_views[0].image[None]
    expected = rfp.detect(tiny.network, image, num_keypoints=60)
    found = tiny.run_onnx("net.onnx", images=image)
    heat = found["log_heat"]
    peak = heat == nn.functional.max_pool2d(heat, 5, stride=1, padding=2)
    inner = torch.zeros_like(peak)
    inner[:, 4:-4, 4:-4] = True
    best = torch.where(peak & inner, heat, float("-inf")).flatten().topk(60).indices
    xy = torch.stack([best % heat.shape[-1], best // heat.shape[-1]], dim=-1)[None].float()
    xy = tiny.run_onnx("net.refine.onnx", xy_px=xy, **found)["refined_xy_px"]
    descriptors = tiny.run_onnx("net.describe.onnx", xy_px=xy, **found)["descriptors"]
    torch.testing.assert_close(xy, expected.xy_px, atol=1e-3, rtol=0)
    torch.testing.assert_close(descriptors, expected.descriptor, atol=1e-4, rtol=0)


def test_each_file_says_what_it_is(tiny):
    for part in PARTS:
        model = onnx.load(tiny.folder / part.format(".onnx"))
        onnx.checker.check_model(model, full_check=True)
        about = {each.key: each.value for each in model.metadata_props}
        assert about["network"] == "tiny"
        assert about["licence_of_weights"] == "Apache-2.0"
        assert about["rfp_version"].startswith("0.")
        for value in (*model.graph.input, *model.graph.output):
            assert about[value.name] == value.doc_string != ""
    shape = onnx.load(tiny.folder / "net.onnx").graph.input[0].type.tensor_type.shape
    assert [each.dim_param or each.dim_value for each in shape.dim] == ["batch", 3, "height", "width"]
    extra = {"rfp.json": ""}
    torch.export.load(tiny.folder / "net.refine.pt2", extra_files=extra)
    assert json.loads(extra["rfp.json"])["part"] == "refine"


def test_no_file_names_a_folder_of_this_machine(tiny):
    source = str(programs.__file__).removesuffix("/rfp/export/programs.py").encode()
    for path in tiny.folder.iterdir():
        assert source not in path.read_bytes(), path.name


def test_a_part_holds_no_weights_that_it_does_not_read(tiny):
    for suffix in (".onnx", ".pt2"):
        for part in PARTS[1:]:
            assert (tiny.folder / part.format(suffix)).stat().st_size < 60_000


def test_the_commands_say_how_far_each_output_is_from_the_network(tiny):
    said = tiny.said.getvalue()
    for runner in ("onnxruntime", "torch.export"):
        assert f"largest difference between {runner} and the network, at two image sizes: " in said
    for output in ("log_heat", "feature_map", "descriptors", "refined_xy_px"):
        assert said.count(f"{output} ") == 2
    files = {part.format(suffix) for part in PARTS for suffix in (".onnx", ".pt2")}
    assert {path.name for path in tiny.folder.iterdir()} == files
    assert all(file in said for file in files)


@pytest.mark.parametrize("wrong", [1e-2, float("nan")])
def test_a_difference_of_any_output_is_found(tiny, wrong):
    def run(part, values):
        found = run_network(tiny.network, part, values)
        return {name: value + wrong if name == "refined_xy_px" else value for name, value in found.items()}

    differences = largest_differences(tiny.network, run)
    assert differences.pop("refined_xy_px") > 5e-5
    assert all(value < 1e-6 for value in differences.values())


def run_network(network, part, values):
    """The network itself in the place of its files."""
    with torch.no_grad():
        if part == "extract":
            features = network.extract(values["images"])
            return {"log_heat": features.log_heat, "feature_map": features.feature_map}
        features = DenseFeatures(values["log_heat"], values["feature_map"])
        if part == "describe":
            return {"descriptors": network.describe(features, values["xy_px"])}
        return {"refined_xy_px": network.refine(features, values["xy_px"])}


@pytest.mark.parametrize(("write", "difference"), [(write_onnx, float("inf")), (write_programs, 2e-4)])
def test_files_that_compute_something_else_are_not_kept(tiny, tmp_path, monkeypatch, write, difference):
    for module in (onnx_files, programs):
        monkeypatch.setattr(module, "largest_differences", lambda network, run: {"log_heat": difference})
    path = tmp_path / ("tiny.onnx" if write is write_onnx else "tiny.pt2")
    with pytest.raises(RuntimeError, match="log_heat differs"):
        write(tiny.network, path, tiny.traced[2:])  # the smallest part will do
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_looks_at_values_is_refused_in_one_line(tmp_path):
    class Looking(TinyTestNetwork):
        def extract(self, images):
            return super().extract(images if float(images.mean()) > 0.5 else 1 - images)

    with pytest.raises(InputError, match=r"Looking: torch\.export cannot trace extract") as error:
        write_onnx(Looking(), tmp_path / "looking.onnx")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["onnx", "pt2"])
def test_names_are_checked_before_the_work(command, tmp_path, capsys):
    (tmp_path / f"tiny.describe.{command}").touch()
    assert main(["export", command, str(tmp_path / f"tiny.{command}")]) == 2
    assert f"tiny.describe.{command}: exists already" in capsys.readouterr().err
    assert main(["export", command, str(tmp_path / "tiny.weights")]) == 2
    assert f"expected a name that ends in .{command}" in capsys.readouterr().err
    assert main(["export", command, str(tmp_path / f"other.{command}"), "--network", "superpoint"]) == 2
    assert "non-commercial" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1
