"""What a step logs of its draws: overlap with the deployed detector, whichever policy drew."""

from dataclasses import replace

import pytest
import torch

from rfp.data import PosedPairs
from rfp.policy.keypoints import KeypointOptions
from rfp.rollout import RolloutOptions, detect, rollout
from rfp.training.rollout_metrics import deployed_keypoints, rollout_metrics
from tests.networks import TinyTestNetwork
from tests.training.test_trainer import OPTIONS

POLICIES = {
    "local_maxima": KeypointOptions(num_keypoints=48),
    "with_replacement": KeypointOptions(num_keypoints=48, replacement=True),
    "all_pixels": KeypointOptions(num_keypoints=48, nms_radius=0, border=0, replacement=True),
}


def rolled_out(pair, keypoints: KeypointOptions):
    options: RolloutOptions = replace(OPTIONS.rollout, keypoints=keypoints)
    return rollout(TinyTestNetwork(), [pair], options=options, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pair(session_pairs_folder):
    return PosedPairs(session_pairs_folder)[0]


@pytest.mark.parametrize("keypoints", POLICIES.values(), ids=POLICIES.keys())
def test_the_deployed_key_points_are_those_of_detect_and_overlap_is_counted_against_them(pair, keypoints):
    rolled = rolled_out(pair, keypoints)
    xy_px, valid = deployed_keypoints(rolled, keypoints)
    shares = []
    for image, drawn, ours, usable in zip(
        (pair.image1, pair.image2), (rolled.keypoints1, rolled.keypoints2), xy_px, valid, strict=True
    ):
        features = detect(TinyTestNetwork(), image[None], num_keypoints=48)
        taken = {tuple(xy) for xy in features.xy_px[0][features.valid[0]].tolist()}
        assert {tuple(xy) for xy in ours[usable].tolist()} == taken
        kept = torch.tensor([[tuple(xy) in taken for xy in row] for row in drawn.xy_px[0].tolist()])
        shares.append(float((kept * drawn.count[0]).sum() / drawn.count.sum()))
    metrics = rollout_metrics(rolled, keypoints)
    assert float(metrics["overlap"]) == pytest.approx(sum(shares) / 2)
    assert 0 < metrics["expected_overlap"] < 1
    assert 0 < metrics["entropy_share_keypoints"] <= 1


def test_a_detector_that_is_sure_draws_what_is_deployed(pair):
    keypoints = POLICIES["local_maxima"]
    network = TinyTestNetwork()
    with torch.no_grad():
        network.heat.weight *= 50.0
    options = replace(OPTIONS.rollout, keypoints=keypoints)
    rolled = rollout(network, [pair], options=options, generator=torch.Generator().manual_seed(0))
    sure, even = rollout_metrics(rolled, keypoints), rollout_metrics(rolled_out(pair, keypoints), keypoints)
    assert sure["overlap"] > 0.9 > even["overlap"]
    assert sure["effective_keypoints"] < even["effective_keypoints"]
