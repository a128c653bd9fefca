"""``rfp train`` from end to end on a small rendered scene, and what it says to bad input."""

import json
import shutil

import pytest
import torch

from rfp.cli import _parse, main
from rfp.cli.training_command import Train
from rfp.cli.training_sets import HELD_OUT, training_sets
from rfp.data.synthetic import HELD_OUT_FAMILIES, HELD_OUT_LAYOUTS, RenderedPairs

FAST = [
    *("--image-size", "160", "--pairs-per-step", "1", "--log-every", "1", "--learning-rate", "1e-5"),
    *("--rollout.keypoints.num-keypoints", "64", "--rollout.ransac.num-hypotheses", "32"),
    *("--rollout.num-keypoint-draws", "2", "--rollout.num-match-draws", "2"),
]


def train(folder, output, *more) -> int:
    sets = ["--data", str(folder), "--validation", str(folder), "--report", str(folder)]
    return main(["train", *sets, "--device", "cpu", "--output", str(output), *FAST, *more])


def test_a_run_leaves_its_folder_and_prints_the_table(session_pairs_folder, tmp_path, capsys):
    output = tmp_path / "run"
    assert train(session_pairs_folder, output, "--steps", "2", "--json", str(tmp_path / "figures.json")) == 0
    printed = capsys.readouterr().out
    assert "AUC@5" in printed
    assert "before" in printed
    assert "after" in printed
    names = {path.name for path in output.iterdir()}
    assert names == {
        *(
            "options.json",
            "metrics.jsonl",
            "validations.jsonl",
            "weights.safetensors",
            "last.safetensors",
            "checkpoint.pt",
        ),
        *("summary.json", "training.png", "matches_before_after.png"),
    }
    figures = json.loads((output / "summary.json").read_text())
    assert figures == json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["auc"]["corner"]) == {"before", "after"}
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_run_can_be_judged_and_goes_on_with_nothing_but_its_folder(session_pairs_folder, tmp_path, capsys):
    output = tmp_path / "run"
    assert train(session_pairs_folder, output, "--steps", "2") == 0
    assert main(["train", "--resume", str(output), "--steps", "3"]) == 0
    figures = json.loads((output / "summary.json").read_text())
    assert figures["steps"] == 3
    assert figures["image_size"] == 160
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 3
    assert main(["evaluate", "--network", str(output), "--data", str(session_pairs_folder), "--device", "cpu"]) == 0
    assert "AUC@5" in capsys.readouterr().out


def test_paper_mode_trains(session_pairs_folder, tmp_path):
    output = tmp_path / "run"
    assert train(session_pairs_folder, output, "--steps", "1", "--paper") == 0
    options = json.loads((output / "options.json").read_text())["trainer"]
    assert options["baseline"] == "mean"
    assert options["rollout"]["keypoints"]["nms_radius"] == 0
    assert options["rollout"]["keypoints"]["replacement"] is True
    assert options["rollout"]["matches"]["temperature"] == 1.0


def test_flags_beside_paper_hold(session_pairs_folder, tmp_path):
    output = tmp_path / "run"
    more = ["--paper", "--baseline", "leave_one_out", "--rollout.matches.temperature", "0.5"]
    assert train(session_pairs_folder, output, "--steps", "1", *more) == 0
    options = json.loads((output / "options.json").read_text())["trainer"]
    assert options["baseline"] == "leave_one_out"
    assert options["rollout"]["num_keypoint_draws"] == 2
    assert options["rollout"]["matches"]["temperature"] == 0.5
    assert options["rollout"]["keypoints"]["nms_radius"] == 0


RENDERED = ["--device", "cpu", "--scenes.image-size", "96", "128", "--scenes.num-textures", "4"]
SMALL_RECIPE = ["--each-key-point", "--rollout.keypoints.num-keypoints", "64"]


def test_the_recipe_of_each_key_point_trains_by_lines_on_data_and_flags_beside_it_hold(session_pairs_folder, tmp_path):
    output = tmp_path / "run"
    flags = ["--data", str(session_pairs_folder), "--device", "cpu", "--output", str(output), "--steps", "1"]
    assert main(["train", *flags, *SMALL_RECIPE, "--learning-rate", "2e-4"]) == 0
    options = json.loads((output / "options.json").read_text())["trainer"]
    assert options["match_utility"] == "log_of_keypoints"
    assert options["rollout"]["control"]["values"] == options["reward"] == "sampson_count"
    assert options["rollout"]["keypoints"]["num_keypoints"] == 64
    assert options["learning_rate"] == 2e-4


@pytest.mark.parametrize("spelling", ["--each-key-point", "--each_key_point"])
def test_the_recipe_is_chosen_however_its_flags_are_spelled(spelling):
    command, _ = _parse(["train", spelling, "--data=somewhere"])
    assert command.trainer.reward == "sampson_count"
    assert command.trainer.steps == 300


def test_where_there_is_depth_the_recipe_is_paid_by_it(tmp_path, capsys):
    output = tmp_path / "run"
    sets = [*RENDERED, "--rendered-validation", "0", "--rendered-report", "0"]
    assert main(["train", *sets, "--output", str(output), *SMALL_RECIPE, "--steps", "1"]) == 0
    assert json.loads((output / "options.json").read_text())["trainer"]["reward"] == "reprojection_count"
    capsys.readouterr()
    assert main(["train", *RENDERED, "--each-key-point", "--paper"]) == 2
    says(capsys, "two recipes")


def test_folders_have_no_depth_to_be_paid_by(session_pairs_folder, tmp_path, capsys):
    output = tmp_path / "run"
    for reward in (["--reward", "reprojection"], ["--reward-terms", "pose_error=1", "reprojection=1"]):
        assert train(session_pairs_folder, output, "--steps", "1", *reward) == 2
        says(capsys, "pairs with depth")


def test_two_report_sets_of_one_name_both_stand_in_the_table(session_pairs_folder, tmp_path):
    twin = tmp_path / "twin" / session_pairs_folder.name
    shutil.copytree(session_pairs_folder, twin)
    sets = ["--data", str(twin), "--report", str(session_pairs_folder), str(twin)]
    assert main(["train", *sets, "--device", "cpu", "--output", str(tmp_path / "run"), *FAST, "--steps", "1"]) == 0
    figures = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(figures["auc"]) == {str(session_pairs_folder), str(twin)}


def says(capsys, *words):
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("rfp: ")]
    assert len(lines) == 1
    assert "Traceback" not in error
    for word in words:
        assert word in lines[0]


def test_without_data_it_renders_its_own_and_judges_on_what_it_does_not_train_on(tmp_path, capsys):
    output = tmp_path / "run"
    sets = [*RENDERED, "--rendered-validation", "2", "--rendered-report", "3", "--profile"]
    assert main(["train", *sets, "--output", str(output), *FAST[2:], "--steps", "2"]) == 0
    figures = json.loads((output / "summary.json").read_text())
    assert figures["network"] == "tiny"
    assert figures["image_size"] == 128
    assert figures["before"]["rendered, held out"]["num_pairs"] == 3
    assert [row["step"] for row in figures["validations"]] == [0, 2]
    assert {"pairs", "network", "estimator and reward", "backward", "optimiser"} <= set(figures["profile"]["seconds"])
    assert figures["profile"]["peak_memory_mib"] > 0
    printed = capsys.readouterr().out
    assert "rendered, held out after" in printed
    assert "peak memory" in printed
    assert main(["train", "--resume", str(output), "--steps", "3"]) == 0
    resumed = json.loads((output / "summary.json").read_text())
    assert resumed["steps"] == 3
    assert resumed["before"] == figures["before"], "the resumed run is judged on the same pairs"


def test_photographs_in_relief_teach_and_a_run_on_them_goes_on(tmp_path, photographs, capsys):
    output = tmp_path / "run"
    relief = ["--in-relief", "--photographs", str(photographs), "--relief.image-size", "96", "128"]
    sets = ["--device", "cpu", "--rendered-validation", "2", "--rendered-report", "0"]
    assert main(["train", *relief, *sets, "--output", str(output), *FAST[2:], "--steps", "2"]) == 0
    assert [row["step"] for row in json.loads((output / "summary.json").read_text())["validations"]] == [0, 2]
    assert "ReliefPairs(128x96 px" in capsys.readouterr().out
    assert main(["train", "--resume", str(output), "--steps", "3"]) == 0
    assert main(["train", "--resume", str(output), "--relief.waves", "3"]) == 2
    says(capsys, "resume with the same")


@pytest.mark.parametrize("strict", [[], ["--strict"]])
def test_intrinsics_of_images_of_another_size_are_refused_before_training(pairs_folder, capsys, strict):
    records = json.loads((pairs_folder / "pairs.json").read_text())
    records[-1]["K2"][0][2] *= 4
    (pairs_folder / "pairs.json").write_text(json.dumps(records))
    assert main(["train", "--data", str(pairs_folder), "--device", "cpu", *strict]) == 2
    says(capsys, "principal point", "outside this image of 160×120")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--in-relief"], ["--in-relief", "--photographs FOLDER"]),
        (["--in-relief", "--photographs", "here", "--data", "there"], ["--in-relief", "no --data"]),
        (["--relief.waves", "3"], ["--relief.", "--in-relief"]),
    ],
)
def test_relief_without_photographs_is_refused(arguments, words, capsys):
    assert main(["train", *arguments]) == 2
    says(capsys, *words)


def test_the_pairs_in_the_table_share_no_layout_and_no_texture_with_those_of_training(tmp_path):
    sets = training_sets(Train(rendered_report=1, rendered_validation=1), torch.device("cpu"))
    assert sets.reports[HELD_OUT][0].scene in HELD_OUT_LAYOUTS
    assert isinstance(sets.train, RenderedPairs)
    assert not set(sets.train.options.layouts) & set(HELD_OUT_LAYOUTS)
    assert not set(sets.train.options.textures) & set(HELD_OUT_FAMILIES)


def test_rendered_options_beside_folders_and_folders_options_beside_scenes_are_refused(session_pairs_folder, capsys):
    assert main(["train", "--data", str(session_pairs_folder), "--rendered-report", "3"]) == 2
    says(capsys, "--rendered-", "--data")
    assert main(["train", "--data", str(session_pairs_folder), "--scenes.roll-deg", "3"]) == 2
    says(capsys, "--scenes", "--data")
    assert main(["train", *RENDERED, "--image-size", "640"]) == 2
    says(capsys, "--image-size", "--scenes.image-size")


def test_what_must_fail_fails_before_anything_is_rendered(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(RenderedPairs, "fixed_set", lambda *args, **kwargs: pytest.fail("rendered too early"))
    (tmp_path / "checkpoint.pt").touch()
    assert main(["train", *RENDERED, "--output", str(tmp_path)]) == 2
    says(capsys, "--resume")
    for wrong, *words in (
        (["--frozen", "nothing.*"], "nothing.*"),
        (["--curriculum.share", "0.5"], "--curriculum.share is for --data"),
        (["--rollout.control.values", "reward"], "adds over matches, got PoseErrorReward"),
        (["--each-key-point", "--baseline", "mean"], "--baseline: has no effect"),
        (["--schedule.final-rate", "0.1"], "--schedule.final-rate: has no effect"),
    ):
        assert main(["train", *RENDERED, *wrong]) == 2
        says(capsys, *words)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_main_job_runs_on_a_gpu(tmp_path):
    sets = ["--scenes.image-size", "96", "128", "--rendered-validation", "2", "--rendered-report", "3", "--profile"]
    assert main(["train", *sets, "--device", "cuda", "--output", str(tmp_path), *FAST[2:], "--steps", "2"]) == 0
    figures = json.loads((tmp_path / "summary.json").read_text())
    assert figures["profile"]["peak_gpu_memory_mib"] > 0
    assert (tmp_path / "matches_before_after.png").stat().st_size > 1000


def test_impossible_rendered_sets_are_one_line(tmp_path, capsys):
    assert main(["train", *RENDERED, "--rendered-report", "-1"]) == 2
    says(capsys, "--rendered-report", "at least 0")
    (tmp_path / "none").mkdir()
    assert main(["train", *RENDERED, "--photographs", str(tmp_path / "none")]) == 2
    says(capsys, "photographs")


def test_a_run_is_never_overwritten(session_pairs_folder, tmp_path, capsys):
    output = tmp_path / "run"
    assert train(session_pairs_folder, output, "--steps", "1") == 0
    before = (output / "summary.json").read_text()
    assert train(session_pairs_folder, output, "--steps", "1") == 2
    says(capsys, "--resume")
    assert (output / "summary.json").read_text() == before


def test_an_unreadable_image_is_found_before_the_first_step(pairs_folder, tmp_path, capsys):
    (pairs_folder / "images" / "2.png").write_bytes(b"not an image")
    assert train(pairs_folder, tmp_path / "run", "--steps", "1") == 2
    says(capsys, "2.png")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", ["nothing", "empty"])
def test_resuming_what_is_no_run_is_one_line(tmp_path, capsys, missing):
    (tmp_path / "empty").mkdir()
    assert main(["train", "--resume", str(tmp_path / missing)]) == 2
    says(capsys, "options.json")


def test_a_resumed_run_keeps_its_images_and_its_folder(session_pairs_folder, tmp_path, capsys):
    output = tmp_path / "run"
    assert train(session_pairs_folder, output, "--steps", "1") == 0
    capsys.readouterr()
    assert main(["train", "--resume", str(output), "--steps", "2", "--image-size", "128"]) == 2
    says(capsys, "image_size 160", "128")
    assert main(["train", "--resume", str(output), "--steps", "2", "--learning-rate", "1e-3"]) == 2
    says(capsys, "learning_rate", "0.001")
    assert main(["train", "--resume", str(output), "--output", str(tmp_path / "other")]) == 2
    says(capsys, "--output")
    assert main(["train", "--resume", str(output), "--each-key-point"]) == 2
    says(capsys, "its options hold")


STABLE = [
    *("--trust.keypoints", "0.1", "--trust.descriptors", "0.1", "--entropy-weight", "0.01"),
    *("--schedule.rate", "cosine", "--schedule.final-temperature", "0.1", "--rates", "heat*=0.1", "descriptors*=2"),
    *("--curriculum.share", "0.8", "--geometric.rotation-deg", "10", "--augment", "--photometric.blur", "2"),
]


def test_every_way_to_steady_a_run_is_a_flag_and_a_schedule_keeps_its_length(session_pairs_folder, tmp_path, capsys):
    output = tmp_path / "run"
    assert train(session_pairs_folder, tmp_path / "no", "--steps", "1", "--rates", "encoder*=0.1") == 2
    says(capsys, "encoder*=0.1", "decides no parameter")
    assert train(session_pairs_folder, output, "--steps", "2", *STABLE) == 0
    capsys.readouterr()
    options = json.loads((output / "options.json").read_text())["trainer"]
    assert (options["rates"], options["photometric"]["blur"]) == (["heat*=0.1", "descriptors*=2"], 2.0)
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert {"kl_start", "drift_start", "entropy_share_keypoints", "learning_rate", "temperature"} <= set(rows[1])
    assert rows[1]["temperature"] == 0.1
    assert main(["train", "--resume", str(output), "--steps", "3"]) == 2
    says(capsys, "ends with step 2", "--schedule.steps")


def test_an_output_that_cannot_be_a_folder_is_one_line(session_pairs_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert train(session_pairs_folder, tmp_path / "file", "--steps", "1") == 2
    says(capsys, "cannot be a run folder")


def test_an_unknown_network_is_one_line(session_pairs_folder, tmp_path, capsys):
    assert train(session_pairs_folder, tmp_path / "run", "--network", "superduper") == 2
    says(capsys, "superduper", "aliked-t16")


def test_impossible_options_are_one_line(session_pairs_folder, tmp_path, capsys):
    assert train(session_pairs_folder, tmp_path / "run", "--rollout.num-match-draws", "1") == 2
    says(capsys, "leave_one_out", "at least 2 draws")
    assert train(session_pairs_folder, tmp_path / "run", "--rollout.num-match-draws", "0") == 2
    assert capsys.readouterr().err.startswith("rfp: error: expected num_keypoint_draws")
