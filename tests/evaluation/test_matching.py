"""Laws of deployed matching, on a rendered scene with a known pose."""

import dataclasses

import torch

from rfp.data import PosedPairs
from rfp.evaluation import epipolar_error_px, match_images
from tests.networks import TinyTestNetwork


def test_deployed_matches_repeat_and_mostly_agree_with_the_true_geometry(session_pairs_folder):
    pair = PosedPairs(session_pairs_folder)[0]
    one, two = (match_images(TinyTestNetwork(), pair.image1, pair.image2, num_keypoints=200) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert len(one[0]) > 50
    errors = epipolar_error_px(*one, pair.K1, pair.K2, pair.R, pair.t)
    assert (errors < 1.5).double().mean() > 0.8
    rolled = epipolar_error_px(one[0], one[1].roll(1, 0), pair.K1, pair.K2, pair.R, pair.t)
    assert (rolled < 1.5).double().mean() < 0.3


def test_a_black_image_has_no_matches(session_pairs_folder):
    pair = PosedPairs(session_pairs_folder)[0]
    black = dataclasses.replace(pair, image1=torch.zeros_like(pair.image1))
    xy1_px, xy2_px = match_images(TinyTestNetwork(), black.image1, black.image2)
    assert xy1_px.shape == xy2_px.shape == (0, 2)
