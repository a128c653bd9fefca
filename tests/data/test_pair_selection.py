"""Parallax, rotation and overlap of pairs against hand-made cameras, and the choice among the pairs."""

import math
from itertools import combinations

import cv2
import numpy as np
import pytest

from rfp.data import InputError
from rfp.data.pair_selection import (
    OverlapLimit,
    PairCandidates,
    PairChoice,
    candidates_of_points,
    candidates_of_views,
    choose_pairs,
    rotation_deg,
)

LIMIT = OverlapLimit(5.0, "share too little", "--least")


def _turn(angle_deg, axis=1):
    return cv2.Rodrigues(np.deg2rad(angle_deg) * np.eye(3)[axis])[0]


def test_shared_points_and_median_parallax_are_those_of_a_plain_double_loop():
    generator = np.random.default_rng(3)
    points = generator.uniform([-1, -1, 4], [1, 1, 8], (60, 3))
    centre = generator.uniform(-2, 2, (6, 3))
    R = np.stack([_turn(9.0 * number) for number in range(6)])
    observed = [np.flatnonzero(generator.random(60) < share) for share in (0.9, 0.5, 0.5, 0.3, 0.02, 0.0)]
    found = candidates_of_points(R, centre, points, observed)
    expected = {}
    for first, second in combinations(range(6), 2):
        shared = np.intersect1d(observed[first], observed[second])
        angles = []
        for point in points[shared]:
            a, b = point - centre[first], point - centre[second]
            angles.append(math.degrees(math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))
        if len(shared):
            expected[first, second] = (len(shared), np.median(angles), 9.0 * (second - first))
    listed = zip(found.first.tolist(), found.second.tolist())
    got = dict(zip(listed, zip(found.overlap, found.parallax_deg, found.rotation_deg)))
    assert got.keys() == expected.keys()
    assert len(expected) > 8
    for pair in expected:
        np.testing.assert_allclose(got[pair], expected[pair], rtol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1.0, 90.0, 179.9999, 180.0])
def test_small_and_large_rotations_keep_their_digits(angle):
    R1 = _turn(37.0, axis=0)
    assert rotation_deg(R1, _turn(angle) @ R1) == pytest.approx(angle, abs=2e-8)


def test_views_of_a_plane_overlap_as_much_as_their_footprints():
    """A shift by a share s of the view's width at the depth leaves 1 - s of it; parallax is the angle of the shift."""
    K = np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]])
    depth, shift = 2.0, 0.25 * 160 / 100 * 2.0
    centre = np.array([[0, 0, 0], [shift, 0, 0], [10 * shift, 0, 0]])
    R = np.stack([np.eye(3)] * 3)
    found = candidates_of_views(R, centre, K, (160, 120), depth=depth, max_rotation_deg=60.0)
    assert (found.first.tolist(), found.second.tolist()) == ([0], [1])
    assert found.overlap[0] == pytest.approx(0.75)
    # 22° on the axis between both, less towards the corners
    assert 0.75 * 22.6 < found.parallax_deg[0] <= math.degrees(2 * math.atan(shift / 2 / depth))


def test_a_view_does_not_see_what_is_behind_it_or_too_far_round():
    K = np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]])
    R = np.stack([np.eye(3), _turn(180.0), _turn(50.0)])
    found = candidates_of_views(R, np.zeros((3, 3)), K, (160, 120), depth=1.0, max_rotation_deg=180.0)
    assert (found.first.tolist(), found.second.tolist()) == ([0], [2])
    limited = candidates_of_views(R, np.zeros((3, 3)), K, (160, 120), depth=1.0, max_rotation_deg=40.0)
    assert len(limited.first) == 0


def _candidates(count=12):
    first, second = (np.array(places) for places in zip(*combinations(range(count), 2)))
    gap = (second - first).astype(float)
    return PairCandidates(first, second, 100.0 / gap, 3.0 * gap, 6.0 * gap)


def test_only_what_is_within_every_limit_is_chosen():
    candidates = _candidates()
    choice = PairChoice(parallax_deg=(4.0, 30.0), max_rotation_deg=42.0, max_pairs_per_image=99)
    chosen = candidates.take(choose_pairs(candidates, 12, OverlapLimit(20.0, "", ""), choice))
    assert set((chosen.second - chosen.first).tolist()) == {2, 3, 4, 5}
    assert len(chosen.first) == 10 + 9 + 8 + 7


def test_the_lot_is_fair_to_the_images_and_repeats_itself():
    candidates = _candidates()
    choice = PairChoice(parallax_deg=(1.0, 90.0), max_rotation_deg=180.0, max_pairs_per_image=3)
    places = choose_pairs(candidates, 12, LIMIT, choice)
    chosen = candidates.take(places)
    occurrences = np.bincount(np.concatenate([chosen.first, chosen.second]), minlength=12)
    assert occurrences.max() == 3
    assert len(places) >= 15  # of 18 that could be
    assert places.tolist() == sorted(places.tolist()) == choose_pairs(candidates, 12, LIMIT, choice).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"parallax_deg": (5.0, 5.0)},
        {"parallax_deg": (-1.0, 5.0)},
        {"max_rotation_deg": 0.0},
        {"max_pairs_per_image": 0},
        {"max_pairs": 0},
        {"seed": -1},
        {"parallax_deg": (math.nan, 5.0)},
    ],
)
def test_choices_that_mean_nothing_are_refused(options):
    with pytest.raises(InputError, match="expected"):
        PairChoice(**options)


def test_one_image_has_no_pair():
    none = np.zeros(0, np.int64)
    with pytest.raises(InputError, match="there is no second image"):
        choose_pairs(PairCandidates(none, none, *[np.zeros(0)] * 3), 1, LIMIT, PairChoice())
