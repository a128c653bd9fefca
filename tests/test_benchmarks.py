"""What the benchmarks of estimators rest on: their problems have the truth that they claim, their figures add up."""

import dataclasses
import importlib
import json
import math
import mmap
import shutil
import sys
from pathlib import Path

import pytest
import torch

import rfp
from rfp.data import ReliefOptions, ReliefPairs
from rfp.evaluation import epipolar_error_px
from rfp.geometry.epipolar import sampson_distance
from rfp.geometry.pose import essential_from_pose
from tests.networks import TinyTestNetwork
from tests.test_documentation import hooks

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a file of benchmarks/ by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_the_named_share_of_matches_fits_the_true_pose(benchmark):
    problems = benchmark("estimation_problems").synthetic_problems(40, 200, 0.4)
    E = essential_from_pose(problems.R, problems.t)
    distance_px = 500 * sampson_distance(problems.x1.double(), problems.x2.double(), E).sqrt()
    # 1 px in both coordinates of both images is a Sampson distance of 1 px; a few outliers lie near their lines.
    share = (distance_px < 3).double().mean().item()
    assert 0.4 < share < 0.46
    assert distance_px[distance_px < 3].square().mean().sqrt().item() == pytest.approx(1, abs=0.1)
    half = torch.tensor([320, 240]) / 500 + 6 / 500
    assert (problems.x2.abs() < half).all()
    assert torch.allclose(problems.max_error, torch.tensor(2 / 500))


def test_a_problem_does_not_depend_on_how_many_are_drawn(benchmark):
    draw = benchmark("estimation_problems").synthetic_problems
    few, many = draw(5, 50, 0.7), draw(70, 50, 0.7)
    for name in ("x1", "x2", "R", "t"):
        assert torch.equal(getattr(few, name), getattr(many, name)[:5])
    assert not torch.equal(many.x1[:32], many.x1[32:64])
    assert not torch.equal(draw(5, 50, 0.7, seed=1).x1, few.x1)


@pytest.mark.parametrize(
    ("draw", "solve"),
    [
        (lambda problems: problems.two_views(30, 5), "five points, essential matrices"),
        (lambda problems: problems.two_views(30, 7), "seven points, fundamental matrices"),
        (lambda problems: problems.planes(30), "four points, homographies"),
        (lambda problems: problems.absolute_poses(30), "three points, absolute poses"),
    ],
)
def test_minimal_problems_are_solved_by_their_truth_alone(benchmark, draw, solve):
    problems = draw(benchmark("minimal_problems"))
    residual = problems.residual(problems.truth[:, None], problems.first, problems.second)
    assert residual.max() < 1e-12
    moved = torch.nn.functional.normalize(problems.truth + 0.01 * torch.randn(problems.truth.shape), dim=-1)
    assert problems.residual(moved[:, None], problems.first, problems.second).min() > 1e-5
    solvers = benchmark("minimal_solvers").KINDS[solve][1]
    rows = benchmark("minimal_solvers").accuracy(solvers, problems, "cpu")
    assert all(row["solutions found, %"] >= 50 for name, row in rows.items() if "rfp" in name)
    assert rows["rfp, float64"]["true model found, %"] > 95


def test_errors_of_single_poses_and_of_batches_are_the_same(benchmark):
    errors_deg = benchmark("robust_estimation").errors_deg
    problems = benchmark("estimation_problems").synthetic_problems(3, 20, 1.0)
    turned = benchmark("estimation_problems").rotation(torch.tensor([math.radians(4), 0, 0], dtype=torch.float64))
    poses = [
        (problems.R[0].numpy(), problems.t[0].numpy()),
        ((turned @ problems.R[1]).numpy(), -problems.t[1].numpy()),
        None,
    ]
    errors = errors_deg(poses, problems)
    assert errors[0] == pytest.approx(0, abs=1e-6)
    assert errors[1] == pytest.approx(4, abs=1e-6), "the sign of the translation does not count"
    assert errors[2] == 180


def test_every_estimator_that_is_here_finds_the_poses_of_easy_problems(benchmark):
    problems = benchmark("estimation_problems").synthetic_problems(3, 100, 0.9)
    estimators = benchmark("robust_estimation").Estimators("cpu")
    for name, estimator in estimators.all.items():
        if not estimator.missing and not estimators.in_pool(name) and "all cores" not in name:
            run = estimators.run(name, problems)
            assert max(benchmark("robust_estimation").errors_deg(run(), problems)) < 20, name
            run.close()


def figures(errors: list[int], ms: float, **more) -> dict:
    row = {"workload": "300 matches, 40 % inliers", "options": "some", "commit": "abc", "ms": ms, "timed": 4}
    judged = {"auc": {"5": 50.0, "10": 60.0, "20": 70.0}, "failed": 0.0, "judged": len(errors)}
    return {**row, **judged, "errors_centideg": " ".join(map(str, errors)), **more}


def test_what_training_changed_is_the_mean_over_seeds_with_an_interval_over_images(benchmark):
    images = [[one, two] for one in range(8) for two in range(one)]

    def run(arm: str, errors: list[float], seed: int = 0) -> dict:
        judged = {"figures": {"a setting": {"errors_deg": errors}}}
        return {"arm": arm, "seed": seed, "trained on": "a set", "steps": 10, **judged}

    half = [0.0 if one % 2 else 180.0 for one, _ in images]
    runs = [
        {**run("start", half), "pairs": {"images": images, "scenes": ["a place"] * len(images)}},
        run("better", [0.0] * len(images), 0),
        run("better", half, 1),
        run("same", half),
    ]
    better, same = benchmark("learning_figures").changes(runs)
    share = 100 * half.count(180.0) / len(half)
    assert better["seeds"] == 2
    assert better["AUC@10 more by"]["mean"] == pytest.approx(share / 2, abs=0.1)
    assert better["AUC@10 more by"]["low"] == 0.0, "one of the seeds may be drawn twice"
    assert better["AUC@10 more by"]["high"] > share / 2
    assert same["AUC@10 more by"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_beyond_the_control_is_the_difference_of_the_pooled_places(benchmark):
    images = [[one, two] for one in range(8) for two in range(one)]
    good, bad = [0.0] * len(images), [180.0] * len(images)

    def run(arm: str, place: str, errors: list[float], seed: int = 0) -> dict:
        judged = {"figures": {"a setting": {"errors_deg": errors}}}
        return {"arm": arm, "seed": seed, "trained on": place, "steps": 10, **judged}

    known = {"pairs": {"images": images, "scenes": ["a place"] * len(images)}}
    places, seeds = ("one", "two"), (0, 1)
    runs = [{**run("start", place, bad), **known} for place in places]
    runs += [run("ours", place, good if place == "one" else bad, seed) for place in places for seed in seeds]
    runs += [
        run("control", place, good if (place, seed) == ("one", 0) else bad, seed) for place in places for seed in seeds
    ]
    figures = benchmark("learning_figures")
    (row,) = figures.beyond_control(runs)
    assert row["arm"] == "ours"
    assert row["AUC@10 more by"]["mean"] == pytest.approx(25, abs=0.1), "half of the pairs, in one of two seeds"
    assert row["AUC@10 more by"]["low"] == pytest.approx(0, abs=0.1)
    assert row["AUC@10 more by"]["high"] > 40
    assert figures.beyond_control(runs[:-1]) == [], "a seed of the control is missing"


def test_places_that_are_trained_for_in_turn_are_pooled_unless_a_pair_would_count_twice(benchmark):
    images = [[one, two] for one in range(8) for two in range(one)]
    good, bad = [0.0] * len(images), [180.0] * len(images)

    def run(arm: str, place: str, errors: list[float]) -> dict:
        known = {"pairs": {"images": images, "scenes": [place] * len(images)}} if arm == "start" else {}
        judged = {"figures": {"a setting": {"errors_deg": errors}}, "judged on": [place]}
        return {"arm": arm, "seed": 0, "trained on": f"all but {place}", "steps": 10, **judged, **known}

    figures, places = benchmark("learning_figures"), ("one", "two")
    runs = [run("start", place, bad) for place in places] + [run("ours", "one", good)]
    assert [row["trained on"] for row in figures.changes(runs)] == ["all but one"], "of the other there is no run"
    runs.append(run("ours", "two", bad))
    *_, row = figures.changes(runs)
    assert row["trained on"] == figures.EACH_IN_TURN
    assert row["AUC@10 before"] == 0.0
    assert row["AUC@10 more by"]["mean"] == pytest.approx(50, abs=0.1)
    assert 0 < row["AUC@10 more by"]["low"] < 50 < row["AUC@10 more by"]["high"] < 100
    runs[1]["judged on"] = ["one"]
    assert figures.EACH_IN_TURN not in [row["trained on"] for row in figures.changes(runs)]


def test_the_figures_of_each_place_are_means_over_the_seeds():
    def run(arm: str, seed: int, errors: list[float]) -> dict:
        return {"arm": arm, "seed": seed, "trained on": "reliefs", "steps": 3, "figures": {"a": {"errors_deg": errors}}}

    start = {**run("start", 0, [0.0, 180.0, 180.0]), "pairs": {"scenes": ["yard", "gate", "yard"]}}
    runs = [start, run("ours", 0, [0.0, 0.0, 0.0]), run("ours", 1, [180.0, 0.0, 180.0])]
    before, after = hooks()._auc_by_place(runs)
    assert (before["arm"], after["arm"], after["steps"], after["judged at"]) == ("start", "ours", 3, "a")
    assert [before[name]["10"] for name in ("yard", "gate")] == pytest.approx([50, 0], abs=0.1)
    assert [after[name]["10"] for name in ("yard", "gate")] == pytest.approx([50, 100], abs=0.1)
    runs[0]["pairs"]["scenes"] = ["yard"] * 3
    assert hooks()._auc_by_place(runs) == [], "one place is what the first table has"


@pytest.mark.filterwarnings("ignore:.*pairs occur more than once")
def test_the_place_that_is_left_out_is_not_trained_on(benchmark, pairs_folder, tmp_path, monkeypatch):
    for name in ("yard", "gate", "door"):
        (tmp_path / name).symlink_to(pairs_folder)
    monkeypatch.setenv("RFP_DATA", str(tmp_path))
    learning = benchmark("learning")
    monkeypatch.setattr(learning, "PLACES", {"the court": ("yard", "gate"), "the door": ("door",)})
    options = learning.Options(source="others")
    read = {place: learning.source_of(learning.all_but(place), options) for place in learning.PLACES}
    assert [folder.name for folder in read["the court"].folders] == ["door"]
    assert [folder.name for folder in read["the door"].folders] == ["yard", "gate"]


def test_exchanged_parts_take_key_points_from_the_one_and_descriptors_from_the_other(benchmark):
    parts = benchmark("exchanged_parts")
    first, second = (rfp.models.Tiny().eval() for _ in range(2))
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    whole = [rfp.detect(network, images, num_keypoints=20) for network in (first, second)]
    found = rfp.detect(parts.Exchanged(first, second).eval(), images, num_keypoints=20)
    assert found.xy_px.equal(whole[0].xy_px)
    assert not found.xy_px.equal(whole[1].xy_px)
    with torch.no_grad():
        described = second.describe(second.extract(images), found.xy_px)
    assert found.descriptor.allclose(described, atol=1e-6)
    assert parts.combinations(["a"]) == [("the start", "a"), ("a", "the start"), ("a", "a")]


def test_the_halves_of_a_place_share_no_image(benchmark, pairs_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RFP_DATA", str(pairs_folder.parent))
    learning = benchmark("learning")
    options = learning.Options(runs=tmp_path / "runs", source="own")
    records = json.loads((pairs_folder / "pairs.json").read_text())
    halves = []
    for which in (0, 1):
        folder = learning.half_of(pairs_folder.name, which, options)
        inside = json.loads((folder / "pairs.json").read_text())
        assert all(record in records and (folder / record["image1"]).is_file() for record in inside)
        halves.append({record[key] for record in inside for key in ("image1", "image2")})
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1]


def test_the_learning_benchmark_trains_and_judges_each_arm_and_keeps_what_it_has(
    benchmark, pairs_folder, photographs, tmp_path, monkeypatch
):
    monkeypatch.setenv("RFP_DATA", str(pairs_folder.parent))
    learning = benchmark("learning")
    monkeypatch.setattr(learning, "TRAIN", (pairs_folder.name,))
    monkeypatch.setattr(learning, "SELECT", ())
    monkeypatch.setattr(learning, "SETTINGS", {"small": {"image_size": 96, "num_keypoints": 64, "max_error_px": 1.0}})
    file, runs = tmp_path / "learning.json", tmp_path / "runs"
    relief = {"source": "relief", "photographs": photographs, "relief": ReliefOptions(image_size=(72, 96))}
    arms = ["matches", "many matches, key points too", "control"]
    options = learning.Options(arms=tuple(arms), steps=1, screen=True, threads=1, runs=runs, json=file, **relief)
    options = dataclasses.replace(options, mean_of_seeds=True)
    learning.main(options)
    written = json.loads(file.read_text())
    arms += [f"{arm}, mean of the seeds' weights" for arm in arms]
    means = {run["arm"]: run["figures"] for run in written["runs"]}
    assert means["matches, mean of the seeds' weights"] == means["matches"], "of one seed it is that seed's"
    assert [run["arm"] for run in written["runs"]] == ["start", *arms]
    assert [row["arm"] for row in written["changes"]] == arms
    assert all(len(run["figures"]["small, poselib"]["errors_deg"]) == 5 for run in written["runs"])
    rendered = hooks().render(written)
    assert "| matches | photographs in relief | 1 | 1 | its own | small, poselib |" in rendered
    assert "pooled over corner:" in rendered
    assert "that these pairs resolve, half an interval: " in rendered
    changed = file.stat().st_mtime_ns
    learning.main(options)
    assert file.stat().st_mtime_ns == changed, "nothing is trained twice"
    assert written["settings"]["start"] == benchmark("learning_identity").weights_digest(rfp.load_network("tiny"))
    assert written["settings"]["photographs"].startswith("2 photographs, ")
    moved = rfp.load_network("tiny")
    torch.nn.init.zeros_(next(moved.parameters()))
    rfp.models.save_weights(moved, runs / "tiny.safetensors")
    for other, name in (
        ({"bfloat16": False}, "bfloat16"),
        ({"screen": False}, "judged"),
        ({"relief": ReliefOptions(image_size=(96, 96))}, "relief"),
        ({"source": "places", "photographs": None}, "photographs"),
        ({"network": str(runs / "tiny.safetensors")}, "start"),
    ):
        with pytest.raises(SystemExit, match=f"its runs have {name} .*; give another file"):
            learning.main(dataclasses.replace(options, **other))
    file.write_text(json.dumps({name: value for name, value in written.items() if name != "settings"}))
    with pytest.raises(SystemExit, match="does not say of which start"):
        learning.main(options)


def test_the_mean_of_weights_is_taken_tensor_by_tensor(benchmark):
    networks = [TinyTestNetwork(seed=seed) for seed in range(3)]
    before = [network.descriptors.weight.clone() for network in networks]
    mean = benchmark("learning").mean_of_weights(networks)
    torch.testing.assert_close(mean.descriptors.weight, torch.stack(before).mean(0))
    assert not torch.equal(before[0], before[1])


def test_a_start_is_told_by_its_weights_and_photographs_by_their_contents(benchmark, photographs, tmp_path):
    identity = benchmark("learning_identity")
    network = TinyTestNetwork()
    assert identity.weights_digest(network) == identity.weights_digest(TinyTestNetwork())
    with torch.no_grad():
        network.heat.bias += 1e-6
    assert identity.weights_digest(network) != identity.weights_digest(TinyTestNetwork())
    copied = shutil.copytree(photographs, tmp_path / "copy")
    before = identity.photographs_digest(photographs)
    assert identity.photographs_digest(copied) == before
    (copied / "notes.txt").write_text("no photograph")
    assert identity.photographs_digest(copied) == before
    next(copied.rglob("a.png")).rename(copied / "c.png")
    assert identity.photographs_digest(copied) != before


def test_a_curve_looks_on_the_way_and_selects_nothing(benchmark, pairs_folder, photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("RFP_DATA", str(pairs_folder.parent))
    learning = benchmark("learning")
    monkeypatch.setattr(learning, "TRAIN", (pairs_folder.name,))
    monkeypatch.setattr(learning, "SELECT", ())
    relief = {"source": "relief", "photographs": photographs, "relief": ReliefOptions(image_size=(72, 96))}
    plain = learning.Options(steps=2, threads=1, runs=tmp_path / "plain", **relief)
    looking = dataclasses.replace(plain, runs=tmp_path / "looking", curve_every=1)
    for arm in ("each key point", "control"):
        (alone, _), (seen, how) = (learning.train(arm, 0, learning.RELIEF, each) for each in (plain, looking))
        assert [each["step"] for each in how["curve"]] == [0, 1, 2]
        assert all(a.equal(b) for a, b in zip(alone.parameters(), seen.parameters(), strict=True))


def test_arms_that_would_change_nothing_and_arms_of_other_names_are_refused(benchmark):
    learning = benchmark("learning")
    with pytest.raises(SystemExit, match="lack depth"):
        learning.main(learning.Options(arms=("each key point, no depth",), source="own"))
    with pytest.raises(SystemExit, match="pairs have depth"):
        learning.main(learning.Options(arms=("each key point, trust region",), source="relief"))
    with pytest.raises(SystemExit, match="expected some of"):
        learning.main(learning.Options(arms=("each keypoint",)))


@pytest.mark.parametrize(
    ("arm", "source"),
    [
        ("no logarithm", "relief"),
        ("no trust region", "relief"),
        ("no depth", "relief"),
        ("positions the other way", "relief"),
        ("its own credit", "relief"),
        ("trust region", "places"),
    ],
)
def test_each_variant_changes_the_recipe_and_keeps_seed_steps_and_rate(benchmark, arm, source):
    learning = benchmark("learning")
    options = learning.Options(source=source, steps=7)
    recipe, variant = (learning.REINFORCED[name](3, options) for name in ("each key point", f"each key point, {arm}"))
    assert variant != recipe
    shared = [(each.seed, each.steps, each.learning_rate, each.schedule) for each in (recipe, variant)]
    assert shared[0] == shared[1]


def test_the_commands_of_the_tutorial_are_those_on_its_place_in_their_order(benchmark):
    tutorial = benchmark("own_pairs_tutorial")
    commands = tutorial.commands(tutorial.PAGE.read_text(encoding="utf-8"))
    assert [command[1] for command in commands] == ["inspect", "data", "evaluate", "train", "evaluate", "compare"]
    assert "--each-key-point" in commands[3]


def test_low_precision_is_compared_on_the_same_pairs_and_draws(benchmark, tmp_path):
    file = tmp_path / "precision.json"
    precision = benchmark("low_precision")
    precision.main(precision.Options(repeats=1, json=file))
    written = json.loads(file.read_text())
    cosine = written["cosine with the gradient of float32"]
    assert cosine["float32, channels last"] > 0.999
    assert cosine["bfloat16, channels last"] > cosine["float32, other pairs"]
    assert "channels last" in hooks().render(written)


def test_the_credit_of_key_points_is_compared_on_the_same_draws(benchmark, tmp_path, monkeypatch):
    monkeypatch.delenv("RFP_DATA", raising=False)
    file = tmp_path / "credit.json"
    credit = benchmark("keypoint_credit")
    credit.main(credit.Options(image_size=160, quick=True, json=file))
    written = json.loads(file.read_text())
    for spread in credit.SPREADS:
        whole, own = written[spread]
        assert own["noise / signal"] < 10
        assert isinstance(whole["noise / signal"], str) or whole["noise / signal"] > own["noise / signal"]
    rendered = hooks().render(written)
    assert "own matches (biased)" in rendered


def test_products_of_different_draws_have_no_noise_in_them(benchmark):
    credit = benchmark("keypoint_credit")
    generator = torch.Generator().manual_seed(0)
    one, two = (1 + torch.randn(20_000, 4, generator=generator).double() * 3 for _ in range(2))
    assert float(credit.product(one, one)) == pytest.approx(4.0, abs=0.2)
    assert float(credit.product(one, 2 * two)) == pytest.approx(8.0, abs=0.4)
    assert float((one * one).sum(-1).mean()) > 35


def test_a_ratio_to_a_signal_that_may_be_zero_is_a_bound(benchmark):
    ratio = benchmark("gradient_estimators").ratio
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(20, (2000, 20), generator=generator)
    noise = torch.full((20,), 100.0)
    spread = torch.randn(20, generator=generator)
    found = ratio(noise, 1 + 0.1 * spread, draw)
    assert found["low"] < found["mean"] < found["high"]
    assert found["mean"] == pytest.approx(100, rel=0.1)
    assert found["high"] / found["low"] < 1.2
    bound = ratio(noise, 0.1 + spread - spread.mean(), draw)
    assert 100 < float(bound.removeprefix("signal not found, above ")) < 1000
    assert ratio(noise, -1 + 0.1 * spread, draw) == "signal not found"
    assert ratio(noise, torch.zeros(20), draw) == "no noise"


def test_wins_and_losses_are_told_in_the_same_words(benchmark):
    comparison = benchmark("estimation_comparison")
    row = {"workload": "300 matches, 40 % inliers", "options": "", "commit": "abc"}
    rows = [
        figures([100, 100, 100, 100], 2.0, estimator="rfp"),
        figures([350, 350], 5.0, estimator="PoseLib"),
        {**row, "estimator": "PoseLib, pool", "ms": 1.0, "timed": 4},
        {**row, "estimator": "fastpose", "missing": "not installed"},
    ]
    compared = {pair["other"]: pair for pair in comparison.comparisons(rows)}
    assert compared["PoseLib"]["times faster"] == 2.5
    assert compared["PoseLib"]["AUC@5, ours more by"] == {"mean": 50.0, "low": 50.0, "high": 50.0}
    assert compared["PoseLib"]["on problems"] == 2
    assert compared["PoseLib, pool"]["times faster"] == 0.5
    assert compared["PoseLib, pool"]["AUC@5, ours more by"]["mean"] == 50, "a pool computes the same"
    (fast, pool) = comparison.goals(rows, "cuda")
    assert (fast["time"], fast["accuracy"], pool["time"]) == ("missed", "met", "missed")

    content = {"estimation_rows": rows, "comparisons": [*compared.values()], "goals": [fast], "measured with": {}}
    rendered = hooks().render(json.loads(json.dumps(content)))
    assert "| PoseLib | 5 |  | 2.5 × slower | 50.0/60.0/70.0 | +50.0 (+50.0 to +50.0) |" in rendered
    assert "| PoseLib, pool | 1 |  | **2 × faster** |" in rendered
    assert "| fastpose | not installed |" in rendered
    assert "missed" in rendered


def test_rows_of_a_file_are_kept_and_other_conditions_refused(benchmark, tmp_path):
    module = benchmark("robust_estimation")
    options = module.Options(json=tmp_path / "rows.json", timed=2, judged=2, seconds=9, against=("MAGSAC",))
    problems = module.synthetic_problems(2, 60, 0.9)
    first = module.Benchmark(options)
    first.measure("easy", problems)
    first.finish()
    rows = json.loads(options.json.read_text())["estimation_rows"]
    assert {row["estimator"] for row in rows} == {"OpenCV USAC_MAGSAC", "OpenCV USAC_MAGSAC, longer"}
    assert all(len(row["ms_each"]) == 3 and row["judged"] == 2 for row in rows)
    assert module.Benchmark(options).wanted("easy") == []
    assert len(module.Benchmark(options).wanted("another")) == 2
    with pytest.raises(SystemExit, match="seconds a row"):
        module.Benchmark(module.replace(options, seconds=1.0))
    assert len(module.Benchmark(module.replace(options, seconds=1.0, anew=True)).wanted("easy")) == 2
    longer = module.replace(options, anew=True, against=("longer",))
    assert [row["estimator"] for row in module.Benchmark(longer).rows] == ["OpenCV USAC_MAGSAC"]


def test_peak_memory_sees_what_a_call_holds(benchmark, monkeypatch):
    memory = benchmark("memory")

    def hold(problems, num_hypotheses):
        # Pages of its own: what earlier tests left free in the heap would serve a tensor without any growth.
        with mmap.mmap(-1, num_hypotheses * 2**20) as pages:
            for page in range(0, len(pages), mmap.PAGESIZE):
                pages[page] = 1
        return real(problems, 8)

    real = memory.estimate
    monkeypatch.setattr(memory, "estimate", hold)
    assert 90 < memory.peak_mib(2, 100, 30, 1) < 130


@pytest.mark.parametrize("model", ["F", "H", "P3P"])
def test_other_models_are_judged_by_the_exact_points(benchmark, model):
    """The estimators get noisy points; one that is transposed, inverted, another's or missing is wrong."""
    module = benchmark("other_models")
    scenes = module.draw_scenes(6, 80, 0.7, plane=model == "H")
    found = module.ours(model)(scenes)
    assert module.errors_px(model, found, scenes).max() < 1.5
    wrong = found.mT if model == "F" else torch.linalg.inv(found) if model == "H" else found.roll(1, 0)
    assert module.errors_px(model, wrong, scenes).min() > 3
    assert (module.errors_px(model, torch.zeros_like(found), scenes) == module.FAILED_PX).all()
    for name, call in module.estimators(model).items():
        assert module.errors_px(model, call(scenes), scenes).median() < 4, name


def test_the_oracle_moves_matches_onto_the_true_geometry_and_no_farther_than_it_has_to(benchmark):
    limits = benchmark("limits")
    pair = ReliefPairs(torch.rand(1, 3, 80, 80), ReliefOptions(image_size=(48, 64))).draw(
        1, generator=torch.Generator().manual_seed(0)
    )[0]
    xy1, xy2 = (torch.rand(50, 2, generator=torch.Generator().manual_seed(seed)) * 40 for seed in (1, 2))
    # Matches within a few pixels of their lines, as the right ones are.
    near = limits.onto_geometry(xy1, xy2, pair)
    noise = 0.3 * torch.randn(2, 50, 2, generator=torch.Generator().manual_seed(3))
    xy1, xy2 = (xy + off for xy, off in zip(near, noise, strict=True))
    cameras = (pair.K1, pair.K2, pair.R, pair.t)
    before = epipolar_error_px(xy1, xy2, *cameras)
    moved1, moved2 = limits.onto_geometry(xy1, xy2, pair)
    assert before.median() > 0.1
    assert (epipolar_error_px(moved1, moved2, *cameras) < 0.05 * before + 1e-3).all()
    way = torch.cat([moved1 - xy1, moved2 - xy2], dim=-1).norm(dim=-1)
    torch.testing.assert_close(way, before.to(way.dtype), rtol=0.05, atol=1e-3)
