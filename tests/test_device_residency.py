"""The whole training step visits the host nowhere: proven on device="meta" under a deny-list, and on a GPU."""

from dataclasses import replace

import pytest
import torch

from rfp.data import GeometricAugmentation
from rfp.data.synthetic import RenderedPairs, SceneOptions
from rfp.data.synthetic.pairs import posed_pairs
from rfp.data.synthetic.rendering import draw_rendering_noise, render_on_noise
from rfp.models.aliked import Aliked
from rfp.models.disk import Disk
from rfp.models.tiny import Tiny
from rfp.policy.keypoints import KeypointOptions
from rfp.policy.matches import MatchOptions
from rfp.records import PosedPair, map_tensors
from rfp.reinforce import RewardMemory
from rfp.rewards import REWARDS, PoseErrorReward, compose
from rfp.robust.options import RansacOptions
from rfp.rollout import ControlOptions, RolloutOptions, default_estimator, draw_noise, rollout_on_noise
from rfp.training.curriculum import pair_statistics
from rfp.training.objective import clip_gradients, reinforce
from rfp.training.options import TrainerOptions
from rfp.training.parts import gradient_norms, network_parts
from rfp.training.trainer import Trainer
from rfp.training.trust_region import TrustRegion, TrustRegionOptions, mean_entropy
from tests.sync_deny_list import HostVisitError, no_host_visits

SMALL = RolloutOptions(
    keypoints=KeypointOptions(num_keypoints=32, max_candidates=256),
    ransac=RansacOptions(num_hypotheses=16, resample_rounds=1, resamples=4),
)
EVERY_REWARD = compose([(1.0, reward) for reward in REWARDS.values()])


def make_pairs(device) -> list[PosedPair]:
    """Two pairs of unequal image sizes."""

    def pair(height, width):
        K = torch.eye(3, device=device)
        image, depth = torch.rand(3, height, width, device=device), 1 + torch.rand(height, width, device=device)
        return PosedPair(image, image.clone(), K, K, K, K[2], depth1=depth, depth2=depth.clone())

    return [pair(48, 64), pair(64, 48)]


def make_noise(pairs, options, estimator, device):
    """Meta generators do not exist: the shapes are drawn on the CPU and moved."""
    generator = torch.Generator()
    noise = draw_noise(pairs, options=options, estimator=estimator, generator=generator, deployed=True)
    return map_tensors(noise, lambda tensor: tensor.to(device))


def training_step(
    network,
    options: RolloutOptions,
    device="meta",
    reward=EVERY_REWARD,
    make=make_pairs,
    training: TrainerOptions | None = None,
):
    """Pairs → features → surrogate → backward → clipping → Adam, with nothing but tensors on ``device``.

    ``make`` prepares what gives the pairs of a step: pairs as they are, or a function that makes them in the step.
    """
    network = network.to(device)
    trainer_options = replace(training or TrainerOptions(), rollout=options)
    memory = RewardMemory(3, device=device)
    number = torch.arange(2, device=device)
    estimator = default_estimator(options)
    made = make(device)
    pairs_of_step = made if callable(made) else lambda: made
    noise = make_noise(pairs_of_step(), options, estimator, device)
    parameters = list(network.parameters())
    parts = network_parts(network, pairs_of_step()[0].image1)
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    trust_region = TrustRegion(network, TrustRegionOptions(keypoints=1.0, descriptors=1.0))

    def step():
        pairs = pairs_of_step()
        rolled = rollout_on_noise(network, pairs, noise, options=options, estimator=estimator, reward=reward)
        penalty, distances = trust_region.penalty(rolled, pairs, options)
        penalty = penalty - mean_entropy(rolled)
        metrics = reinforce(rolled, trainer_options, penalty=penalty, memory=memory, number=number) | distances
        metrics |= gradient_norms(network.named_parameters(), parts)
        pair_statistics(rolled)
        clip_gradients(parameters, 1.0)
        optimizer.step()
        return metrics

    return step


def assert_never_waits(step):
    """The second call of a step on a GPU synchronises nowhere; in the first, lazy initialisation may."""
    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


OPTIONS = {
    "default": SMALL,
    "with_replacement": replace(SMALL, keypoints=replace(SMALL.keypoints, replacement=True, uniform_mixing=0.1)),
    "all_pixels_without_replacement": replace(SMALL, keypoints=replace(SMALL.keypoints, nms_radius=0)),
    "matches_without_replacement": replace(SMALL, matches=MatchOptions(replacement=False)),
    "ratio_test": replace(SMALL, matches=MatchOptions(candidates="ratio")),
    "all_pairs": replace(SMALL, matches=MatchOptions(candidates="all")),
    "dual_softmax": replace(SMALL, matches=MatchOptions(candidates="dual_softmax", replacement=False)),
    "reciprocal": replace(SMALL, matches=MatchOptions(candidates="reciprocal"), control=ControlOptions("disk_count")),
    "subpixel": replace(SMALL, subpixel=True),
    "positions": replace(SMALL, subpixel=True, position_gradient=True, control=ControlOptions("sampson")),
    "positions_by_depth": replace(SMALL, subpixel=True, position_gradient=True, control=ControlOptions("reprojection")),
    "paper": RolloutOptions.paper(ransac=SMALL.ransac),
    "control": replace(SMALL, control=ControlOptions("disk"), common_random_numbers=True),
    "control_of_a_draw": replace(SMALL, control=ControlOptions("sampson", "independent_draw")),
}
TRAINING = {
    "moving_average": TrainerOptions(baseline="moving_average", normalize_rewards=True),
    "self_critical": TrainerOptions(baseline="self_critical"),
    "all_others": TrainerOptions(baseline="all_others"),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_training_step_runs_without_data_under_the_deny_list(options):
    step = training_step(Tiny(), options)
    with no_host_visits():
        metrics = step()
    assert all(value.device.type == "meta" and value.shape == () for value in metrics.values())


@pytest.mark.parametrize("training", TRAINING.values(), ids=TRAINING.keys())
@pytest.mark.parametrize("control", ["none", "epipolar"])
def test_every_baseline_stays_on_the_device(training, control):
    options = replace(SMALL, control=ControlOptions(control))
    step = training_step(Tiny(), options, training=training)
    with no_host_visits():
        step()


@pytest.mark.parametrize("candidates", ["mutual", "reciprocal"])
def test_the_credit_of_each_key_point_stays_on_the_device(candidates):
    options = replace(SMALL, matches=MatchOptions(candidates=candidates), control=ControlOptions("disk_count"))
    training = TrainerOptions(keypoint_credit="own_matches_biased", rollout=options)
    step = training_step(Tiny(), options, training=training)
    with no_host_visits():
        step()


@pytest.mark.parametrize("worth", ["sampson_count", "reprojection_count"])
def test_the_recipe_of_each_key_point_stays_on_the_device(worth):
    training = TrainerOptions.each_key_point(worth)
    options = replace(training.rollout, keypoints=SMALL.keypoints)
    step = training_step(Tiny(), options, training=training)
    with no_host_visits():
        step()


@pytest.mark.parametrize("build", [lambda: Aliked("aliked-t16"), Disk], ids=["aliked-t16", "disk"])
def test_the_training_step_of_a_pretrained_network_runs_under_the_deny_list(build):
    step = training_step(build().eval(), replace(SMALL, subpixel=True))
    with no_host_visits():
        step()


def make_renderer(device):
    """What renders the two pairs of a step from given noise: the main job's."""
    scenes = SceneOptions(image_size=(48, 64), num_textures=2, texture_size=32)
    bank = RenderedPairs(scenes).bank(torch.device("cpu")).to(torch.device(device))
    noise = draw_rendering_noise(2, scenes, generator=torch.Generator().manual_seed(0))
    noise = map_tensors(noise, lambda tensor: tensor.to(device))
    return lambda: posed_pairs(render_on_noise(noise, bank, scenes))


def test_the_main_job_s_step_with_rendering_runs_under_the_deny_list():
    step = training_step(Tiny().eval(), SMALL, make=make_renderer)
    with no_host_visits():
        metrics = step()
    assert all(value.device.type == "meta" and value.shape == () for value in metrics.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_main_job_s_step_with_rendering_never_waits_on_a_gpu():
    step = training_step(Tiny().eval(), SMALL, device="cuda", make=make_renderer)
    assert_never_waits(step)


PLANTED = {
    "item": lambda x: x.sum().item(),
    "branch": lambda x: bool(x.sum() > 0),
    "boolean index": lambda x: x[x > 0],
    "boolean write": lambda x: x.clone().index_put_((x > 0,), x.new_zeros(())),
    "svd": lambda x: torch.linalg.svd(x.flatten(0, -2)[:3, :3]),
    "solve": lambda x: torch.linalg.solve(x.new_zeros(3, 3), x.new_zeros(3)),
    "multinomial": lambda x: torch.multinomial(x.flatten(), 2),
    "nonzero": lambda x: x.nonzero(),
    "host constant": lambda x: x.sum() + torch.tensor([1.0], device=x.device),
}


@pytest.mark.parametrize("violation", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_host_visit_makes_the_step_fail(violation):
    def planted(result, correspondences, truth):
        violation(correspondences.xy1_px)
        return PoseErrorReward()(result, correspondences, truth)

    step = training_step(Tiny(), SMALL, reward=planted)
    with pytest.raises((HostVisitError, RuntimeError, NotImplementedError)), no_host_visits():
        step()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("build", [Tiny, lambda: Aliked("aliked-t16").eval(), lambda: Disk().eval()])
def test_the_training_step_never_waits_on_a_gpu(build):
    step = training_step(build(), SMALL, device="cuda")
    assert_never_waits(step)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_trainer_steps_on_a_gpu_without_waiting():
    network = Tiny().cuda()
    options = TrainerOptions(
        rollout=SMALL,
        augment=True,
        geometric=GeometricAugmentation(rotation_deg=20.0, zoom=1.2),
        trust=TrustRegionOptions(keypoints=1.0),
        entropy_weight=0.1,
    )
    trainer, trust_region = Trainer(network, options), TrustRegion(network, options.trust)
    more = {"temperature": 0.2, "trust_region": trust_region, "on_rollout": pair_statistics}
    optimizer = torch.optim.Adam(trainer.parameters, lr=1e-4, capturable=True)
    generator = torch.Generator(device="cuda").manual_seed(0)
    pairs = make_pairs("cuda")
    assert_never_waits(lambda: trainer.gradient_step([pairs], optimizer, generator, **more))
