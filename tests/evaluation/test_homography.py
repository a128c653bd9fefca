import dataclasses
import json
import math
from dataclasses import asdict, dataclass

import pytest
import torch
from torch import Tensor

from rfp.data import HomographyOptions, draw_homography_pairs
from rfp.evaluation import pose_auc
from rfp.evaluation.homography import (
    corner_error_px,
    matching_accuracy,
    matching_score,
    repeatability,
    transfer,
    transfer_error_px,
    visible,
)
from rfp.evaluation.homography_estimators import HOMOGRAPHY_ESTIMATORS, find_homography
from rfp.evaluation.homography_evaluation import evaluate_homographies
from rfp.evaluation.homography_report import (
    PlanarPairFigures,
    format_homographies,
    group_names,
    summarise_homographies,
)
from rfp.records import InputError
from tests.networks import TinyTestNetwork

SHIFT = torch.tensor([[1.0, 0.0, 10.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
SIZE = (48, 64)


def _points(*points):
    return torch.tensor(points, dtype=torch.float64).reshape(-1, 2)


def _homography(seed):
    """A homography whose horizon is far from the points of a 64 × 48 image."""
    generator = torch.Generator().manual_seed(seed)
    H = torch.eye(3, dtype=torch.float64) + 0.2 * (torch.rand(3, 3, generator=generator, dtype=torch.float64) - 0.5)
    return (
        torch.diag(torch.tensor([1.0, 1.0, 0.01])).double() @ H @ torch.diag(torch.tensor([1.0, 1.0, 100.0])).double()
    )


@dataclass(frozen=True)
class Planar:
    image1: Tensor
    image2: Tensor
    H: Tensor
    scene: str = "drawn"
    name: str = "drawn"


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(0)
    octaves = [torch.rand(3, 3, size, size, generator=generator) for size in (16, 48, 128)]
    sources = sum(torch.nn.functional.interpolate(octave, (200, 200), mode="bicubic") for octave in octaves) / 3
    options = HomographyOptions(image_size=(96, 128), tilt_deg=20.0, roll_deg=10.0, scale=1.2)
    drawn = draw_homography_pairs(sources.clamp(0, 1), 3, options=options, generator=generator)
    return [
        Planar(drawn.images1[b], drawn.images2[b], drawn.H[b].double(), scene=f"source {b % 2}", name=f"{b}")
        for b in range(3)
    ]


@pytest.fixture(scope="module")
def report(pairs):
    return evaluate_homographies(TinyTestNetwork(), pairs, num_keypoints=256)


# Measures, against other implementations


@pytest.mark.parametrize("seed", range(3))
def test_transfer_is_opencv_s(seed):
    import cv2

    H, xy_px = _homography(seed), 48 * torch.rand(20, 2, generator=torch.Generator().manual_seed(seed))
    expected = cv2.perspectiveTransform(xy_px.double()[None].numpy(), H.numpy())[0]
    torch.testing.assert_close(transfer(xy_px, H), torch.from_numpy(expected))


@pytest.mark.parametrize("seed", range(3))
def test_transfer_error_is_kornia_s(seed):
    from kornia.geometry.homography import oneway_transfer_error

    generator = torch.Generator().manual_seed(seed)
    H, xy1, xy2 = _homography(seed), *(48 * torch.rand(2, 20, 2, generator=generator, dtype=torch.float64))
    expected = oneway_transfer_error(xy1[None], xy2[None], H[None], squared=False)[0]
    torch.testing.assert_close(transfer_error_px(xy1, xy2, H), expected)


def test_the_scale_and_sign_of_a_homography_change_nothing():
    H, xy_px = _homography(0), _points((3, 4), (40, 30))
    torch.testing.assert_close(transfer(xy_px, H), transfer(xy_px, -7 * H))


def test_a_point_at_infinity_is_infinitely_far_and_not_visible():
    H = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert transfer_error_px(_points((0, 5)), _points((0, 5)), H).item() == math.inf
    assert not visible(_points((0, 5)), H, SIZE)[1].item()


# Measures, on cases made by hand


def test_accuracy_counts_errors_up_to_the_threshold():
    errors = transfer_error_px(
        _points((0, 0), (0, 0), (5, 5), (5, 5)), _points((11, 0), (10, 2), (15, 8), (0, 0)), SHIFT
    )
    assert errors.tolist() == [1.0, 2.0, 3.0, math.hypot(15, 5)]
    accuracy = matching_accuracy(errors)
    assert list(accuracy) == list(range(1, 11))
    assert [accuracy[px] for px in (1, 2, 3, 10)] == [25.0, 50.0, 75.0, 75.0]


def test_no_match_is_no_accuracy():
    assert set(matching_accuracy(torch.zeros(0)).values()) == {0.0}


def test_the_view_ends_half_a_pixel_around_the_centres_of_the_outermost_pixels():
    edge = _points((-0.5, -0.5), (63.49, 47.49), (-0.51, 0), (0, -0.51), (63.5, 0), (0, 47.5))
    assert visible(edge, torch.eye(3), SIZE)[1].tolist() == [True, True, False, False, False, False]


def test_repeatability_counts_key_points_of_the_shared_view_from_both_sides():
    # Image 2 is image 1 moved by 10 px: of image 1, (60, 20) is outside image 2; of image 2, (5, 20) outside image 1.
    xy1_px = _points((20, 20), (30, 20), (50, 40), (60, 20))
    xy2_px = _points((32, 20), (43, 20), (5, 20))
    # (20, 20) → (30, 20), 2 px from (32, 20): both repeated. (30, 20) → (40, 20), 3 px from (43, 20): both repeated.
    assert repeatability(xy1_px, xy2_px, SHIFT, SIZE, SIZE) == pytest.approx(100 * 4 / 5)
    assert repeatability(xy1_px, xy2_px, SHIFT, SIZE, SIZE, max_error_px=2.5) == pytest.approx(100 * 2 / 5)


def test_repeatability_counts_each_image_s_key_points_once():
    xy1_px = _points((20, 20), (21, 20))  # both near the first of image 2
    xy2_px = _points((30, 20), (50, 40))
    assert repeatability(xy1_px, xy2_px, SHIFT, SIZE, SIZE) == pytest.approx(100 * 3 / 4)


def test_repeatability_takes_distances_in_image_2():
    double = torch.diag(torch.tensor([2.0, 2.0, 1.0]))
    xy1_px, xy2_px = _points((10, 10)), _points((24, 20))
    assert repeatability(xy1_px, xy2_px, double, SIZE, SIZE, max_error_px=3.9) == 0.0
    assert repeatability(xy1_px, xy2_px, double, SIZE, SIZE, max_error_px=4.1) == 100.0


def test_repeatability_of_nothing_shared_is_0():
    far = torch.tensor([[1.0, 0.0, 500.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert repeatability(_points((5, 5)), _points((5, 5)), far, SIZE, SIZE) == 0.0
    assert repeatability(_points(), _points((5, 5)), SHIFT, SIZE, SIZE) == 0.0


def test_matching_score_is_the_share_of_shared_key_points_correctly_matched_averaged_over_both_images():
    xy1_px = _points((20, 20), (30, 20), (40, 40), (60, 20))  # the last is outside image 2
    xy2_px = _points((30, 21), (45, 20), (1, 1))  # the last is outside image 1
    matches = (_points((20, 20), (30, 20)), _points((30, 21), (45, 20)))  # off by 1 and by 5 px
    score = matching_score(xy1_px, xy2_px, *matches, SHIFT, SIZE, SIZE)
    assert score == pytest.approx(100 * (1 / 3 + 1 / 2) / 2)


def test_a_correct_match_of_a_key_point_outside_the_shared_view_counts_on_the_other_side_only():
    xy1_px = _points((54, 20), (20, 20))  # the first lands at (64, 20), half a pixel outside image 2
    xy2_px = _points((63, 20))
    assert matching_score(xy1_px, xy2_px, xy1_px[:1], xy2_px, SHIFT, SIZE, SIZE) == 50.0


def test_matching_score_judges_each_direction_in_its_own_pixels():
    double = torch.diag(torch.tensor([2.0, 2.0, 1.0]))
    xy1_px, xy2_px = _points((10, 10)), _points((24, 20))  # off by 4 px in image 2, by 2 px in image 1
    assert matching_score(xy1_px, xy2_px, xy1_px, xy2_px, double, SIZE, SIZE) == 50.0


def test_corner_error_is_the_mean_over_four_corners():
    # A shear of y by x / 10 moves the right corners down by 6.3 px and leaves the left ones.
    shear = torch.tensor([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert corner_error_px(shear, torch.eye(3), SIZE) == pytest.approx(6.3 / 2)
    assert corner_error_px(5 * shear, shear, SIZE) == pytest.approx(0, abs=1e-6)


def test_a_corner_at_infinity_is_an_infinite_error():
    H = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert corner_error_px(H, torch.eye(3), SIZE) == corner_error_px(torch.eye(3), H, SIZE) == math.inf


# Estimators


@pytest.mark.parametrize("estimator", HOMOGRAPHY_ESTIMATORS)
def test_every_estimator_finds_the_homography_among_outliers(estimator):
    generator = torch.Generator().manual_seed(1)
    H, xy1_px = _homography(3), torch.rand(120, 2, generator=generator, dtype=torch.float64) * torch.tensor([64, 48])
    xy2_px = transfer(xy1_px, H) + 0.2 * torch.randn(120, 2, generator=generator, dtype=torch.float64)
    xy2_px[:50] = 64 * torch.rand(50, 2, generator=generator, dtype=torch.float64)
    found = find_homography(estimator, xy1_px, xy2_px, max_error_px=1.5)
    assert found.valid
    assert torch.linalg.vector_norm(found.H) == pytest.approx(1)
    assert corner_error_px(found.H, H, SIZE) < 0.5
    assert found.inliers[50:].double().mean() > 0.9
    assert found.inliers[:50].double().mean() < 0.1
    again = find_homography(estimator, xy1_px, xy2_px, max_error_px=1.5)
    assert torch.equal(found.H, again.H)


@pytest.mark.parametrize("estimator", HOMOGRAPHY_ESTIMATORS)
@pytest.mark.parametrize("count", [0, 3, 8])
def test_without_a_homography_the_estimate_is_invalid(estimator, count):
    """Too few matches, and eight that all lie at one place."""
    found = find_homography(estimator, torch.ones(count, 2), torch.ones(count, 2), max_error_px=1.0)
    assert not found.valid
    assert found.inliers.tolist() == [False] * count
    assert found.H.isfinite().all()


def test_an_unknown_estimator_is_one_line():
    with pytest.raises(InputError, match="expected an estimator among opencv, "):
        find_homography("magic", torch.ones(8, 2), torch.ones(8, 2), max_error_px=1.0)


# The evaluation


def test_drawn_pairs_are_solved(report):
    assert report.num_failed == 0
    assert report.matching_accuracy["3"] > 60
    assert report.homography_accuracy["5"] == 100
    assert report.repeatability > 40
    assert report.matching_score > 20


def test_figures_are_means_over_the_pairs_and_the_area_under_the_corner_errors(report):
    errors = [pair.corner_error_px for pair in report.pairs]
    assert report.homography_auc == {str(k): v for k, v in pose_auc(errors, (1, 3, 5)).items()}
    for name in ("repeatability", "matching_score"):
        assert getattr(report, name) == pytest.approx(sum(getattr(pair, name) for pair in report.pairs) / 3)
    assert report.matching_accuracy["3"] == pytest.approx(sum(p.matching_accuracy["3"] for p in report.pairs) / 3)
    accuracy = list(report.matching_accuracy.values())
    assert accuracy == sorted(accuracy)
    assert len(accuracy) == 10


def test_a_pair_without_a_homography_counts_and_the_figures_are_json(pairs):
    black = dataclasses.replace(pairs[0], image2=torch.zeros_like(pairs[0].image2))
    report = evaluate_homographies(TinyTestNetwork(), [black, pairs[1]], num_keypoints=128)
    alone = evaluate_homographies(TinyTestNetwork(), [pairs[1]], num_keypoints=128)
    assert report.num_failed == 1
    assert report.pairs[0].corner_error_px is None
    assert report.pairs[0].repeatability == report.pairs[0].matching_score == 0
    assert report.pairs[1] == dataclasses.replace(alone.pairs[0], images=(2, 3))
    assert report.homography_auc["5"] == pytest.approx(alone.homography_auc["5"] / 2)
    assert report.homography_accuracy["5"] == alone.homography_accuracy["5"] / 2
    json.dumps(asdict(report), allow_nan=False)


def test_groups_are_the_scenes_or_the_halves_of_hpatches(report):
    assert group_names(["i_dome", "v_wall", "v_bird"]) == ["illumination", "viewpoint", "viewpoint"]
    assert group_names(["i_dome", "wall"]) == ["i_dome", "wall"]
    assert {name: group.num_pairs for name, group in report.groups.items()} == {"source 0": 2, "source 1": 1}
    assert report.groups["source 1"].repeatability == report.pairs[1].repeatability


def test_the_table_carries_figures_and_settings(report):
    table = format_homographies({"before": report, "after": report})
    lines = table.splitlines()
    assert lines[1].split()[1] == "3"
    assert f"{report.matching_accuracy['1']:.1f}" in lines[1]
    low, high = report.homography_auc_interval["5"]
    assert lines[2].startswith("  95% ")
    assert lines[2].endswith(f" {low:.1f}–{high:.1f}")
    starts = ["before", "95%", "source", "source", "after", "95%", "source", "source"]  # two images have no interval
    assert [line.split()[0] for line in lines[1:9]] == starts
    assert "95% intervals: pairs that share images resampled together" in lines[-1]
    assert "opencv at 3 px" in table
    assert "images of 128 px, 256 key points" in table


def test_the_markdown_table_has_the_same_figures_with_their_intervals_beside_them(report):
    lines = format_homographies({"tiny": report}, markdown=True).splitlines()
    assert lines[0].startswith("|  | pairs | MMA@1 | MMA@3 |")
    low, high = report.matching_accuracy_interval["1"]
    assert lines[2].startswith(f"| tiny | 3 | {report.matching_accuracy['1']:.1f} ({low:.1f}–{high:.1f}) | ")
    assert f" | {report.repeatability:.1f} | {report.matching_score:.1f} | " in lines[2]
    assert lines[3].startswith("| tiny: source 0 | 2 | ")
    assert "opencv at 3 px." in "".join(lines)
    assert "images of 128 px, 256 key points" in "".join(lines)


def _figures(number, images, *, accuracy, corner_error):
    by_px = {f"{px}": accuracy for px in range(1, 11)}
    return PlanarPairFigures("drawn", f"{number}", images, (9, 9), 9, by_px, 50.0, 50.0, corner_error, 9)


def test_pairs_of_one_sequence_stand_for_one_and_the_interval_says_so():
    """Twelve sequences of five pairs, right or wrong as a whole, tell what twelve pairs tell and not what sixty do."""
    errors = [0.0 if number % 3 else None for number in range(12)]
    apart, together, alone = [], [], []
    for number, error in enumerate(errors):
        accuracy = 0.0 if error is None else 100.0
        alone.append(_figures(number, (2 * number, 2 * number + 1), accuracy=accuracy, corner_error=error))
        for other in range(5):
            images = (6 * number, 6 * number + other + 1)
            together.append(_figures(number, images, accuracy=accuracy, corner_error=error))
            place = 10 * number + 2 * other
            apart.append(_figures(number, (place, place + 1), accuracy=accuracy, corner_error=error))
    widths = []
    for pairs in (apart, together, alone):
        report = summarise_homographies(pairs, {})
        assert report.homography_auc["5"] == pytest.approx(report.matching_accuracy["3"])
        for bounds in (report.homography_auc_interval["5"], report.matching_accuracy_interval["3"]):
            low, high = bounds
            assert low < 100 * 8 / 12 < high
            widths.append(high - low)
    assert widths[2:4] == pytest.approx(widths[4:6])
    assert widths[2] > 1.7 * widths[0]
    assert summarise_homographies(alone[:2], {}).homography_auc_interval == {"1": None, "3": None, "5": None}
    assert summarise_homographies(alone[:2], {}).matching_accuracy_interval["3"] is None


def test_an_image_is_computed_once_however_many_pairs_it_is_in(pairs):
    class Counting(TinyTestNetwork):
        calls = 0

        def extract(self, images):
            Counting.calls += images.shape[0]
            return super().extract(images)

    evaluate_homographies(
        Counting(), [pairs[0], dataclasses.replace(pairs[1], image1=pairs[0].image1)], num_keypoints=32
    )
    assert Counting.calls == 3


def test_the_network_is_left_as_it_was(pairs):
    network = TinyTestNetwork().train()
    with pytest.raises(InputError, match="expected an estimator among"):
        evaluate_homographies(network, pairs, estimator="magic", num_keypoints=64)
    assert network.training


@pytest.mark.parametrize("change", [{"correct_px": 0.0}, {"max_error_px": -1.0}, {"num_keypoints": 0}])
def test_settings_that_mean_nothing_are_one_line(pairs, change):
    with pytest.raises(InputError, match="expected"):
        evaluate_homographies(TinyTestNetwork(), pairs, **change)


def test_no_pairs_are_one_line():
    with pytest.raises(InputError, match="expected at least one pair"):
        evaluate_homographies(TinyTestNetwork(), [])
