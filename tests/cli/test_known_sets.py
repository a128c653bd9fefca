"""Files of known sets where folders of posed pairs may stand: evaluated alike, trained on, refused alike."""

import json

import numpy as np

from rfp.cli import main

SMALL = ["--network", "tiny", "--num-keypoints", "128"]


def superglue_list(folder, path):
    """The pairs of a posed-pairs folder as SuperGlue's text file."""
    lines = []
    for record in json.loads((folder / "pairs.json").read_text()):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = record["R"], record["t"]
        numbers = np.concatenate([np.ravel(record["K1"]), np.ravel(record["K2"]), pose.ravel()])
        lines.append(" ".join([record["image1"], record["image2"], "0", "0", *(repr(float(x)) for x in numbers)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_list_is_evaluated_as_the_folder_that_it_lists(session_pairs_folder, tmp_path, capsys):
    listed = superglue_list(session_pairs_folder, tmp_path / "pairs.txt")
    images = ["--images", str(session_pairs_folder)]
    assert main(["evaluate", "--data", str(session_pairs_folder), *SMALL, "--json", str(tmp_path / "a.json")]) == 0
    assert main(["evaluate", "--data", str(listed), *images, *SMALL, "--json", str(tmp_path / "b.json")]) == 0
    folder, known = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    np.testing.assert_allclose(known["errors_deg"], folder["errors_deg"], atol=1e-6)
    capsys.readouterr()
    assert main(["evaluate", "--data", str(listed), *SMALL]) == 2
    assert "images" in capsys.readouterr().err
    assert main(["evaluate", "--data", str(session_pairs_folder), *images, *SMALL]) == 2
    assert "leave images out" in capsys.readouterr().err


def test_a_list_trains_and_resumes_with_its_images(session_pairs_folder, tmp_path, capsys):
    listed = superglue_list(session_pairs_folder, tmp_path / "pairs.txt")
    run = tmp_path / "run"
    small = ["--image-size", "96", "--rollout.keypoints.num-keypoints", "32", "--pairs-per-step", "1"]
    command = ["train", "--data", str(listed), "--report", str(session_pairs_folder), *small, "--steps", "1"]
    assert main([*command, "--output", str(run)]) == 2, "the list alone does not say where its images are"
    assert main([*command, "--images", str(session_pairs_folder), "--output", str(run)]) == 0
    assert main(["train", "--resume", str(run), "--steps", "2"]) == 0
    capsys.readouterr()
    assert main(["train", "--data", str(session_pairs_folder), "--images", str(tmp_path), *small]) == 2
    assert "--images" in capsys.readouterr().err
