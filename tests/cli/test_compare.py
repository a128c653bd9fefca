import json

import pytest

from rfp.cli import main
from rfp.data import read_image
from tests.networks import TinyTestNetwork


@pytest.fixture(autouse=True)
def other_network(monkeypatch):
    """A second network by the name ``other``, beside ``test``."""
    from rfp.cli import networks

    load_network = networks.load_network
    monkeypatch.setattr(
        networks,
        "load_network",
        lambda name: TinyTestNetwork(seed=1).eval() if name == "other" else load_network(name),
    )


@pytest.fixture
def evaluated(session_pairs_folder, tmp_path, monkeypatch):
    """Runs rfp evaluate on the small folder and returns the figures it wrote. Two pairs are pictures enough."""
    monkeypatch.setattr("rfp.cli.evaluation_pictures.PAIRS_DRAWN", 2)

    def evaluate(name, *options):
        file = tmp_path / f"{name}.json"
        quick = ("--image-size", "120", "--num-keypoints", "64", "--device", "cpu", "--json", str(file))
        assert main(["evaluate", "--data", str(session_pairs_folder), "--network", name, *quick, *options]) == 0
        return json.loads(file.read_text())

    return evaluate


def _error(arguments, capsys):
    assert main([str(argument) for argument in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("device: ")]
    assert len(lines) == 1
    return lines[0]


def test_several_thresholds_are_a_table_and_the_best_is_marked(evaluated, capsys):
    figures = evaluated("test", "--max-error-px", "0.2", "1", "3")
    shown = capsys.readouterr().out
    assert list(figures["sweep"]) == ["0.2", "1", "3"]
    best = figures["sweep"][f"{figures['best_max_error_px']:g}"]
    assert figures["auc"] == best["auc"]
    assert figures["settings"]["thresholds_tried_px"] == [0.2, 1.0, 3.0]
    assert sum(best["auc"].values()) == max(sum(each["auc"].values()) for each in figures["sweep"].values())
    assert f"{figures['best_max_error_px']:g} px *" in shown
    assert "chosen from 3 on these pairs" in shown


def test_one_threshold_writes_what_it_always_wrote(evaluated, capsys):
    figures = evaluated("test", "--max-error-px", "1")
    assert not {"sweep", "best_max_error_px", "compared", "comparison"} & set(figures)
    assert "px *" not in capsys.readouterr().out


def test_two_networks_are_compared_like_their_two_files(evaluated, tmp_path, capsys):
    first, second = evaluated("test"), evaluated("other")
    both = evaluated("test", "--compare", "other")
    timeless = [{**each, "seconds": None} for each in (first, second, both["compared"])]
    assert both["auc"] == first["auc"]
    assert timeless[1] == timeless[2]
    capsys.readouterr()
    files = [str(tmp_path / "first.json"), str(tmp_path / "other.json")]
    (tmp_path / "first.json").write_text(json.dumps(first))
    assert main(["compare", *files, "--json", str(tmp_path / "comparison.json")]) == 0
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    assert comparison == both["comparison"]
    assert comparison["difference"]["5"] == pytest.approx(second["auc"]["5"] - first["auc"]["5"])
    shown = capsys.readouterr().out
    assert "other is better on" in shown
    assert "poselib at 1 px, images of 120 px, 64 key points" in shown


def test_one_network_under_two_settings_is_told_apart_by_its_files(evaluated, tmp_path, capsys):
    evaluated("test")
    (tmp_path / "test.json").rename(tmp_path / "mutual.json")
    evaluated("test", "--matcher", "ratio")
    (tmp_path / "test.json").rename(tmp_path / "ratio.json")
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "mutual.json"), str(tmp_path / "ratio.json")]) == 0
    shown = capsys.readouterr().out
    assert "ratio is better on" in shown
    assert "the runs differ in matching too: mutual nearest neighbours and mutual nearest neighbours, ratio" in shown


def test_markdown_and_pictures_of_one_network(evaluated, tmp_path):
    pictures = tmp_path / "pictures"
    figures = evaluated("test", "--markdown", str(tmp_path / "table.md"), "--pictures", str(pictures))
    table = (tmp_path / "table.md").read_text()
    assert table.startswith("## test\n\n| scene | pairs | AUC@5 |")
    assert f"| corner | 5 | {figures['auc']['5']:.1f} | {figures['auc']['10']:.1f} |" in table
    assert "poselib at 1 px, images of 120 px, 64 key points" in table
    assert {path.name for path in pictures.iterdir()} == {"error_curves.png", *(f"worst_{n}.png" for n in (1, 2))}
    assert all(read_image(path).std() > 0.05 for path in pictures.iterdir())


def test_markdown_and_pictures_of_two_networks(evaluated, tmp_path):
    pictures = tmp_path / "pictures"
    evaluated("test", "--compare", "other", "--markdown", str(tmp_path / "table.md"), "--pictures", str(pictures))
    table = (tmp_path / "table.md").read_text()
    assert all(head in table for head in ("## test", "## other", "## other beside test", "| difference |"))
    names = {"error_curves.png", "paired_errors.png", "keypoints.png", *(f"changed_{n}.png" for n in (1, 2))}
    assert {path.name for path in pictures.iterdir()} == names
    assert main(["compare", str(tmp_path / "test.json"), str(tmp_path / "test.json"), "--pictures", str(pictures)]) == 0


def test_options_that_mean_nothing_are_one_line(session_pairs_folder, tmp_path, capsys):
    evaluate = ["evaluate", "--network", "test", "--data", session_pairs_folder]
    (tmp_path / "file").write_text("")
    assert "expected another network" in _error([*evaluate, "--compare", "test"], capsys)
    assert "expected different thresholds" in _error([*evaluate, "--max-error-px", "1", "1.0"], capsys)
    assert "above 0 pixels, got -2" in _error([*evaluate, "--max-error-px", "1", "-2"], capsys)
    assert "LightGlue was trained for" in _error([*evaluate, "--matcher", "lightglue"], capsys)
    assert "got a file" in _error([*evaluate, "--pictures", tmp_path / "file"], capsys)
    assert "there is no folder" in _error([*evaluate, "--pictures", tmp_path / "no" / "folder"], capsys)
    assert "there is no folder" in _error([*evaluate, "--markdown", tmp_path / "no" / "table.md"], capsys)
    assert "cannot be read" in _error(["compare", tmp_path / "a.json", tmp_path / "b.json"], capsys)


def test_runs_on_different_pairs_are_one_line(evaluated, tmp_path, capsys):
    figures = evaluated("test")
    for key in ("errors_deg", "names", "pair_scenes", "pair_images"):
        figures[key] = figures[key][:-1]
    (tmp_path / "short.json").write_text(json.dumps({**figures, "network": "short"}))
    message = _error(["compare", tmp_path / "test.json", tmp_path / "short.json"], capsys)
    assert "expected two runs on the same pairs, got 5 (test) and 4 (short)" in message
