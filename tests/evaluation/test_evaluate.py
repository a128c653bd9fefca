import dataclasses
import json

import pytest
import torch

from rfp.data import PosedPairs
from rfp.evaluation import (
    evaluate,
    format_scenes,
    format_scenes_markdown,
    format_table,
    pose_auc,
    pose_auc_binned,
)
from rfp.matching import RatioTest
from rfp.records import InputError
from tests.networks import TinyTestNetwork
from tests.scenes import render_views, write_pairs_folder


@pytest.fixture(scope="module")
def pairs(session_pairs_folder):
    return PosedPairs(session_pairs_folder)


@pytest.fixture(scope="module")
def report(pairs):
    return evaluate(TinyTestNetwork(), pairs, num_keypoints=256)


def test_rendered_scenes_are_solved(report):
    assert report.num_failed == 0
    assert report.median_error_deg < 2.0
    assert report.auc["10"] > 80
    assert report.precision > 80


@pytest.mark.parametrize("estimator", ["opencv", "opencv-ransac", "pycolmap", "rfp"])
def test_every_estimator_solves_them(pairs, estimator):
    report = evaluate(TinyTestNetwork(), pairs, estimator=estimator, num_keypoints=256)
    assert report.num_failed == 0
    assert report.median_error_deg < 4.0
    assert report.settings["estimator"] == estimator


def test_figures_are_those_of_the_errors(report):
    assert report.auc == {str(k): v for k, v in pose_auc(report.errors_deg).items()}
    assert report.auc_binned == {str(k): v for k, v in pose_auc_binned(report.errors_deg).items()}
    rotation_and_translation = zip(report.rotation_errors_deg, report.translation_errors_deg)
    assert report.errors_deg == [max(pair) for pair in rotation_and_translation]
    assert max(report.translation_errors_deg) <= 90
    assert len(report.errors_deg) == len(report.names) == report.num_pairs == 5
    assert all(0 < inliers <= matches for inliers, matches in zip(report.num_inliers, report.num_matches))
    shares = [100 * inliers / matches for inliers, matches in zip(report.num_inliers, report.num_matches)]
    assert report.inlier_ratio == pytest.approx(sum(shares) / 5)
    assert report.median_rotation_deg == sorted(report.rotation_errors_deg)[2]
    assert report.median_translation_deg == sorted(report.translation_errors_deg)[2]


def test_pairs_that_share_an_image_share_its_number(report):
    """Pairs 0-1, 0-2, 1-2, 1-3, 2-3 of the fixture, numbered in the order in which the images come."""
    assert report.pair_images == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert report.pair_scenes == ["corner"] * 5
    assert report.auc_interval == {"5": None, "10": None, "20": None}  # four images are too few
    low, high = report.auc_interval_by_pair["5"]
    assert low < report.auc["5"] < high


@pytest.mark.parametrize(
    ("matcher", "words"),
    [("ratio", "ratio test at 0.9"), ("dual-softmax", "dual softmax"), (RatioTest(ratio=0.7), "ratio test at 0.7")],
)
def test_a_matcher_is_taken_by_name_or_as_an_object(pairs, report, matcher, words):
    found = evaluate(TinyTestNetwork(), pairs, matcher=matcher, num_keypoints=256)
    assert words in found.settings["matching"]
    assert words in format_scenes(found)
    assert all(0 < few <= many for few, many in zip(found.num_matches, report.num_matches))
    assert found.num_matches != report.num_matches
    assert found.precision > report.precision


def test_lightglue_without_weights_for_the_network_is_one_line(pairs):
    with pytest.raises(InputError, match="expected a network that LightGlue was trained for"):
        evaluate(TinyTestNetwork(), pairs, matcher="lightglue")


def test_json_holds_every_field_and_repeats(report, pairs):
    loaded = json.loads(report.to_json())
    assert set(loaded) == {field.name for field in dataclasses.fields(report)}
    assert list(loaded["auc"]) == ["5", "10", "20"]
    again = json.loads(evaluate(TinyTestNetwork(), pairs, num_keypoints=256).to_json())
    assert {**again, "seconds": None} == {**loaded, "seconds": None}


def test_settings_tell_how_the_figures_were_made(report):
    expected = {"estimator": "poselib", "max_error_px": 1.0, "image_size": 160, "num_keypoints": 256, "nms_radius": 2}
    assert expected.items() <= report.settings.items()
    assert set(report.seconds) == {"decoding", "features", "matching", "estimation"}
    assert min(report.seconds.values()) > 0


def test_an_image_is_computed_once_however_many_pairs_it_is_in(pairs):
    class Counting(TinyTestNetwork):
        calls = 0

        def extract(self, images):
            Counting.calls += images.shape[0]
            return super().extract(images)

    evaluate(Counting(), pairs, num_keypoints=64)
    assert Counting.calls == 4


def test_pairs_apart_and_pooled_agree(pairs, report):
    """A pair's figures do not depend on the pairs around it."""
    apart = [evaluate(TinyTestNetwork(), [pair], num_keypoints=256).errors_deg[0] for pair in reversed(list(pairs))]
    assert apart[::-1] == report.errors_deg


def test_scenes_are_pooled_and_told_apart(pairs, report, tmp_path):
    other = write_pairs_folder(tmp_path / "other", render_views(count=2, seed=5), scene="other")
    pooled = evaluate(TinyTestNetwork(), [*pairs, *PosedPairs(other)], num_keypoints=256)
    assert {scene: figures.num_pairs for scene, figures in pooled.scenes.items()} == {"corner": 5, "other": 1}
    assert pooled.scenes["corner"].auc == report.auc
    mean = pooled.scene_mean
    assert mean is not None
    assert mean.num_scenes == 2
    assert mean.auc["10"] == pytest.approx((report.auc["10"] + pooled.scenes["other"].auc["10"]) / 2)
    assert pooled.auc_interval["10"] is not None  # six images
    markdown = format_scenes_markdown(pooled)
    assert f"| corner | 5 | {report.auc['5']:.1f} |" in markdown
    assert f"| mean of 2 scenes |  | {mean.auc['5']:.1f} |" in markdown
    table = format_scenes(pooled)
    assert [line.split()[0] for line in table.splitlines()[:4]] == ["scene", "corner", "other", "all"]
    assert table.splitlines()[4].startswith("mean of 2 scenes")
    assert "the images of each scene resampled" in table
    assert "poselib at 1 px, images of 160 px, 256 key points" in table


def test_a_table_has_one_row_a_report(report):
    lines = format_table({"before": report, "after": report}).splitlines()
    assert lines[1].split()[1:] == lines[2].split()[1:]
    assert lines[1].split()[1] == f"{report.auc['5']:.1f}"


def test_the_network_is_left_as_it_was(pairs):
    network = TinyTestNetwork()
    network.train()
    network.heat.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    seen = []
    network.patches.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
    evaluate(network, pairs, num_keypoints=64)
    assert set(seen) == {(False, False)}
    assert [module.training for module in (network, network.patches, network.heat)] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_network_is_left_as_it_was_when_a_pair_breaks(pairs):
    network = TinyTestNetwork().train()
    with pytest.raises(InputError, match="expected an estimator among"):
        evaluate(network, pairs, estimator="magic", num_keypoints=64)
    assert network.training


def test_no_global_generator_moves(pairs):
    state = torch.get_rng_state()
    evaluate(TinyTestNetwork(), [pairs[0]], num_keypoints=64)
    assert torch.equal(state, torch.get_rng_state())


def _broken(pair, kind):
    if kind == "black":
        return dataclasses.replace(pair, image1=torch.zeros_like(pair.image1))
    image = pair.image2.clone()
    image[0, 3, 3] = torch.nan
    return dataclasses.replace(pair, image2=image)


@pytest.mark.parametrize("kind", ["black", "nan"])
@pytest.mark.parametrize("estimator", ["poselib", "opencv", "opencv-ransac", "pycolmap", "rfp"])
def test_a_black_image_or_a_nan_is_a_counted_failure_and_spoils_no_other_pair(pairs, kind, estimator):
    clean = evaluate(TinyTestNetwork(), [pairs[0]], estimator=estimator, num_keypoints=128)
    mixed = evaluate(TinyTestNetwork(), [_broken(pairs[0], kind), pairs[0]], estimator=estimator, num_keypoints=128)
    assert mixed.errors_deg == [180.0, clean.errors_deg[0]]
    assert mixed.num_failed == 1
    assert mixed.num_matches[0] < 5
    assert mixed.auc["20"] == pytest.approx(clean.auc["20"] / 2)


def test_images_of_unequal_sizes_are_fine(pairs):
    pair = pairs[0]
    cropped = dataclasses.replace(pair, image2=pair.image2[:, :101, :131].contiguous())
    report = evaluate(TinyTestNetwork(), [cropped], num_keypoints=256)
    assert report.num_failed == 0
    assert report.errors_deg[0] < 5
    assert report.settings["image_size"] is None


def test_no_pairs_are_one_line():
    with pytest.raises(InputError, match="expected at least one pair"):
        evaluate(TinyTestNetwork(), [])


@pytest.mark.real_data
def test_real_photographs_give_the_known_figures(real_data):
    """ALIKED-T16 at 320 px, 512 key points, PoseLib at 1 px: about 85/93/96 on Strecha's fountain."""
    models = pytest.importorskip("rfp.models")
    network = models.load_network("aliked-t16")
    report = evaluate(network, PosedPairs(real_data / "strecha_fountain_p11", image_size=320), num_keypoints=512)
    assert report.auc["5"] == pytest.approx(85, abs=3)
    assert report.auc["10"] == pytest.approx(93, abs=3)
    assert report.auc["20"] == pytest.approx(96, abs=3)
