"""Laws of the whole flow: batches, seeds, masks, gradients."""

from dataclasses import replace

import pytest
import torch

import rfp
from rfp.models import Tiny
from rfp.policy.keypoints import KeypointOptions
from rfp.policy.matches import MatchOptions
from rfp.records import InputError, PosedPair, RelativePose, TwoViewGeometry, map_tensors
from rfp.reinforce.surrogate import surrogate_loss
from rfp.rewards import EpipolarReward, SampsonReward
from rfp.robust.options import RansacOptions
from rfp.rollout import (
    ControlOptions,
    RolloutOptions,
    default_estimator,
    draw_noise,
    extract_features,
    rollout,
    rollout_on_noise,
)
from tests.networks import TinyTestNetwork
from tests.scenes import relative_pose, render_views

OPTIONS = RolloutOptions(
    keypoints=KeypointOptions(num_keypoints=100, max_candidates=1024),
    matches=MatchOptions(temperature=0.1),
    num_keypoint_draws=2,
    num_match_draws=2,
    ransac=RansacOptions(num_hypotheses=64, resample_rounds=1, resamples=4),
)


def posed_pair(views, first=0, second=1) -> PosedPair:
    one, two = views[first], views[second]
    R, t = relative_pose(one, two)
    return PosedPair(one.image, two.image, one.K.float(), two.K.float(), R.float(), t.float(), name=f"{first}-{second}")


@pytest.fixture(scope="module")
def pairs(corner_views) -> list[PosedPair]:
    small = render_views(count=2, height=96, width=144, seed=3)
    mixed = replace(posed_pair(corner_views), image2=small[1].image, K2=small[1].K.float())
    return [posed_pair(corner_views, 0, 1), posed_pair(small), mixed, posed_pair(corner_views, 1, 2)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def double(record):
    return map_tensors(record, lambda value: value.double() if value.is_floating_point() else value)


@pytest.mark.parametrize("nms_radius", [0, 2])
@pytest.mark.parametrize("replacement", [True, False])
def test_pairs_together_give_what_single_calls_give_on_equal_noise(pairs, replacement, nms_radius):
    """Images of three sizes in one batch, within and across the pairs. float64: convolutions differ by the batch."""
    options = replace(OPTIONS, keypoints=replace(OPTIONS.keypoints, replacement=replacement, nms_radius=nms_radius))
    network, pairs = TinyTestNetwork().double(), [double(pair) for pair in pairs]
    estimator = default_estimator(options)
    noise = draw_noise(pairs, options=options, estimator=estimator, generator=generator())
    together = rollout_on_noise(network, pairs, noise, options=options, estimator=estimator)
    for b, pair in enumerate(pairs):
        own = map_tensors(noise, lambda tensor, b=b: tensor[b : b + 1])
        alone = rollout_on_noise(network, [pair], own, options=options, estimator=estimator)
        torch.testing.assert_close(together.log_prob_keypoints[b], alone.log_prob_keypoints[0])
        torch.testing.assert_close(together.log_prob_matches[b], alone.log_prob_matches[0])
        torch.testing.assert_close(together.reward[b], alone.reward[0], rtol=1e-5, atol=1e-5)
        assert (together.failed[b] == alone.failed[0]).all()
    assert together.reward.std() > 0.05  # rolled results would not pass


def test_the_same_seed_gives_the_same_numbers_and_no_global_generator_moves(pairs):
    network = TinyTestNetwork()
    before = torch.get_rng_state()
    one = rollout(network, pairs, options=OPTIONS, generator=generator())
    two = rollout(network, pairs, options=OPTIONS, generator=generator())
    other = rollout(network, pairs, options=OPTIONS, generator=generator(1))
    assert (one.reward == two.reward).all()
    assert (one.log_prob_keypoints == two.log_prob_keypoints).all()
    assert not (one.reward == other.reward).all()
    assert (torch.get_rng_state() == before).all()


def test_only_the_log_probabilities_carry_a_gradient_and_it_reaches_every_parameter(pairs):
    network = TinyTestNetwork()
    rolled = rollout(network, pairs, options=OPTIONS, generator=generator())
    assert not rolled.reward.requires_grad
    assert not rolled.correspondences.x1.requires_grad
    surrogate_loss(rolled.reward, rolled.log_prob_keypoints, rolled.log_prob_matches, valid=rolled.valid).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        if name != "heat.bias":  # a constant on log f changes no probability
            assert parameter.grad.abs().max() > 0


def test_a_good_network_gets_a_better_reward_than_one_that_matches_at_random(pairs):
    class Forgetful(TinyTestNetwork):
        def describe(self, features, xy_px):
            noise = torch.rand(*xy_px.shape[:2], 8, generator=generator(), dtype=xy_px.dtype) + 0 * xy_px[..., :1]
            return torch.nn.functional.normalize(noise - 0.5, dim=-1)

    good = rollout(TinyTestNetwork(), pairs, options=OPTIONS, generator=generator())
    bad = rollout(Forgetful(), pairs, options=OPTIONS, generator=generator())
    assert good.reward.mean() > bad.reward.mean() + 0.5


def test_nan_in_an_image_leaves_that_pair_out_and_the_others_untouched(pairs):
    network = TinyTestNetwork()
    broken_image = pairs[0].image1.clone()
    broken_image[0, 5, 5] = float("nan")
    broken = [replace(pairs[0], image1=broken_image), *pairs[1:]]
    noise_generator = generator()
    estimator = default_estimator(OPTIONS)
    noise = draw_noise(pairs, options=OPTIONS, estimator=estimator, generator=noise_generator)
    plain = rollout_on_noise(network, pairs, noise, options=OPTIONS, estimator=estimator)
    rolled = rollout_on_noise(network, broken, noise, options=OPTIONS, estimator=estimator)
    assert rolled.valid.tolist() == [False, True, True, True]
    torch.testing.assert_close(rolled.reward[1:], plain.reward[1:])
    loss = surrogate_loss(rolled.reward, rolled.log_prob_keypoints, rolled.log_prob_matches, valid=rolled.valid)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("broken", ["K1", "R", "t"])
def test_nan_in_a_camera_leaves_the_pair_out(pairs, broken):
    value = getattr(pairs[0], broken).clone()
    value.view(-1)[0] = float("nan")
    rolled = rollout(
        TinyTestNetwork(), [replace(pairs[0], **{broken: value}), pairs[3]], options=OPTIONS, generator=generator()
    )
    assert rolled.valid.tolist() == [False, True]
    assert rolled.reward.isfinite().all()


def test_a_black_image_is_a_counted_failure_with_the_worst_reward(pairs):
    black = replace(pairs[0], image2=torch.zeros_like(pairs[0].image2))
    rolled = rollout(TinyTestNetwork(), [black, pairs[3]], options=OPTIONS, generator=generator())
    assert rolled.valid.all()
    assert rolled.failed[0].all()
    torch.testing.assert_close(rolled.reward[0], torch.full_like(rolled.reward[0], -((180 / 25) ** 0.5)))
    assert not rolled.failed[1].all()
    loss = surrogate_loss(rolled.reward, rolled.log_prob_keypoints, rolled.log_prob_matches, valid=rolled.valid)
    assert loss.isfinite()


def test_a_network_that_sees_something_in_black_has_no_key_points_there_all_the_same(pairs):
    """A real network responds at the edges of a black photograph, where its padding begins."""

    class SeesThings(TinyTestNetwork):
        def extract(self, images):
            dense = super().extract(images)
            dots = torch.rand(dense.log_heat.shape, generator=generator(), dtype=images.dtype)
            return replace(dense, log_heat=dense.log_heat + dots)

    for colour in (0.0, 0.7):
        blank = torch.full_like(pairs[0].image2, colour)
        assert not rfp.detect(SeesThings(), blank[None], num_keypoints=16).valid.any()
        rolled = rollout(SeesThings(), [replace(pairs[0], image2=blank)], options=OPTIONS, generator=generator())
        assert rolled.failed.all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_heat_maps_do_not_coarsen_positions(dtype):
    class Narrow(TinyTestNetwork):
        def extract(self, images):
            dense = super().extract(images)
            return replace(dense, log_heat=dense.log_heat.to(dtype))

    image = torch.rand(1, 3, 32, 700, generator=generator())
    columns = rfp.detect(Narrow(), image, num_keypoints=400).xy_px[..., 0]
    beyond = columns[columns > 512]
    assert len(beyond) > 20
    assert 0.2 < (beyond % 2).mean() < 0.8


def test_a_float64_network_trains_on_float32_pairs(pairs):
    class Wide(TinyTestNetwork):
        def extract(self, images):
            return super().extract(images.double())

    rolled = rollout(Wide().double(), pairs[:1], options=OPTIONS, generator=generator())
    assert rolled.reward.isfinite().all()


@pytest.mark.parametrize(
    "wrong", [{"num_keypoint_draws": 0}, {"num_match_draws": 0}, {"max_error_px": -1.0}, {"max_error_px": float("nan")}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(rfp.InputError, match="expected"):
        RolloutOptions(**wrong)


def test_paper_mode_draws_600_pixels_with_replacement_and_half_of_the_mutual_matches(pairs):
    options = RolloutOptions.paper(ransac=RansacOptions(num_hypotheses=64, resample_rounds=1, resamples=4))
    rolled = rollout(TinyTestNetwork(), pairs[:1], options=options, generator=generator())
    assert (rolled.keypoints1.count.sum(-1) == 600).all()
    assert (rolled.matches.count.sum(-1) == (rolled.matches.num_candidates / 2).ceil()[..., None]).all()
    assert rolled.reward.shape == (1, 3, 3)


def test_any_task_and_any_reward_can_stand_in_the_loop(pairs):
    """A black box that counts the matches of odd column; the reward reads its result."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Count:
        odd: torch.Tensor
        valid: torch.Tensor

    class OddColumns:
        noise_shape = (2,)

        def __call__(self, correspondences, noise):
            assert noise.shape == (1, 2, 2, 2)
            odd = ((correspondences.xy1_px[..., 0] % 2) * correspondences.weight).sum(-1)
            return Count(odd=odd, valid=odd >= 0)

    rolled = rollout(
        TinyTestNetwork(),
        pairs[:1],
        options=OPTIONS,
        generator=generator(),
        estimator=OddColumns(),
        reward=lambda result, correspondences, truth: result.odd,
    )
    assert (rolled.reward == rolled.result.odd).all()
    assert rolled.reward.max() > 0


def test_matched_points_are_key_points_of_their_draw(pairs):
    rolled = rollout(TinyTestNetwork(), pairs, options=OPTIONS, generator=generator())
    for b, s, t in [(0, 0, 0), (1, 1, 0), (3, 1, 1)]:
        keep = rolled.matches.valid[b, s, t]
        for side, keypoints in (("1", rolled.keypoints1), ("2", rolled.keypoints2)):
            index = getattr(rolled.matches, f"index{side}")[b, s, t][keep]
            expected = keypoints.xy_px[b, s][index]
            assert (getattr(rolled.correspondences, f"xy{side}_px")[b, s, t][keep] == expected).all()
            assert keypoints.valid[b, s][index].all()


def test_the_log_probability_of_key_points_is_that_of_both_images(pairs):
    rolled = rollout(TinyTestNetwork(), pairs, options=OPTIONS, generator=generator())
    total = rolled.keypoints1.log_prob + rolled.keypoints2.log_prob
    torch.testing.assert_close(rolled.log_prob_keypoints, total)
    assert rolled.keypoints1.log_prob.abs().min() > 1
    assert rolled.keypoints2.log_prob.abs().min() > 1


def test_every_draw_consumes_noise_of_its_own(pairs):
    # The same image on both sides and in both pairs: only the noise can tell the draws apart.
    one = replace(pairs[0], image2=pairs[0].image1, K2=pairs[0].K1)
    twice = [one, one]
    rolled = rollout(TinyTestNetwork(), twice, options=OPTIONS, generator=generator())
    keypoint_draws = torch.cat([rolled.keypoints1.xy_px, rolled.keypoints2.xy_px]).flatten(0, 1).flatten(1)
    match_draws = torch.cat([rolled.matches.index1, rolled.matches.count], dim=-1).flatten(0, 2)
    for draws in (keypoint_draws, match_draws):
        assert len(draws.unique(dim=0)) == len(draws)


def test_the_estimator_sees_each_match_weighted_by_its_draws(pairs):
    rolled = rollout(TinyTestNetwork(), pairs, options=OPTIONS, generator=generator())
    assert (rolled.correspondences.weight == rolled.matches.count).all()
    assert (rolled.correspondences.valid == rolled.matches.valid).all()
    assert rolled.matches.count.max() > 1


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        rollout(TinyTestNetwork(), [], options=OPTIONS, generator=generator())


def test_detection_is_the_same_alone_and_in_a_batch_and_masks_nan(corner_views):
    images = torch.stack([view.image for view in corner_views[:3]]).double()
    network = TinyTestNetwork().double()
    features = rfp.detect(network, images, num_keypoints=64)
    alone = rfp.detect(network, images[1:2], num_keypoints=64)
    assert (features.xy_px[1] == alone.xy_px[0]).all()
    torch.testing.assert_close(features.descriptor[1], alone.descriptor[0])
    images[0, 0, 3, 3] = float("nan")
    broken = rfp.detect(network, images, num_keypoints=64)
    assert not broken.valid[0].any()
    assert broken.descriptor.isfinite().all()
    assert (broken.xy_px[1] == features.xy_px[1]).all()


CONTROLLED = replace(OPTIONS, control=ControlOptions("epipolar"))


@pytest.mark.parametrize("candidates", ["mutual", "all"])
def test_the_additive_reward_of_each_draw_is_the_reward_itself_and_its_expectation_their_mean(pairs, candidates):
    matches = MatchOptions(temperature=0.1, candidates=candidates)
    keypoints = KeypointOptions(num_keypoints=24, max_candidates=512)
    options = replace(CONTROLLED, matches=matches, keypoints=keypoints, num_match_draws=300)
    rolled = rollout(
        TinyTestNetwork(),
        pairs[:1],
        options=options,
        generator=generator(),
        estimator=NoEstimate(),
        reward=EpipolarReward(),
    )
    drawn = rolled.control.sampled[:, :, 0]
    torch.testing.assert_close(drawn, rolled.reward)
    error = drawn.std(-1) / 300**0.5
    assert (error > 1e-3).all()
    assert ((drawn.mean(-1) - rolled.control.expected[..., 0]).abs() < 4 * error).all()


@pytest.mark.parametrize("candidates", ["mutual", "all", "reciprocal"])
def test_a_reward_per_slot_is_expected_exactly_for_every_policy_with_a_closed_form(pairs, candidates):
    options = replace(
        OPTIONS,
        matches=MatchOptions(temperature=0.3, candidates=candidates),
        keypoints=KeypointOptions(num_keypoints=24, max_candidates=512),
        num_match_draws=300,
        control=ControlOptions("reward"),
    )
    reward = EpipolarReward(max_error_px=8.0, wrong=-0.25, per="slot")
    rolled = rollout(
        TinyTestNetwork(), pairs[:1], options=options, generator=generator(), estimator=NoEstimate(), reward=reward
    )
    drawn = rolled.control.sampled[:, :, 0]
    torch.testing.assert_close(drawn, rolled.reward)
    for side in range(2):
        of_side = rolled.value_of_keypoints[:, :, side]
        torch.testing.assert_close(of_side.sum(-1), rolled.control.expected[..., 0].detach())
        keypoints = (rolled.keypoints1, rolled.keypoints2)[side]
        assert (of_side[~keypoints.valid] == 0).all()
    error = drawn.std(-1) / 300**0.5
    assert (error > 1e-4).any()
    assert ((drawn.mean(-1) - rolled.control.expected[..., 0]).abs() < 4 * error + 1e-6).all()


class NoEstimate:
    """An estimator that finds nothing, at once."""

    noise_shape = (1,)

    def __call__(self, correspondences, noise):
        shape, like = correspondences.valid.shape[:-1], correspondences.x1
        return RelativePose(
            R=torch.eye(3).expand(*shape, 3, 3),
            t=like.new_zeros(*shape, 3),
            E=like.new_zeros(*shape, 3, 3),
            inliers=torch.zeros_like(correspondences.valid),
            score=like.new_zeros(shape),
            valid=torch.zeros(shape, dtype=torch.bool),
        )


def test_the_expectation_over_matches_is_differentiable_in_the_descriptors_alone(pairs):
    network = TinyTestNetwork()
    rolled = rollout(network, pairs[:1], options=CONTROLLED, generator=generator())
    assert not rolled.control.sampled.requires_grad
    rolled.control.expected.sum().backward()
    assert network.descriptors.weight.grad.abs().max() > 0
    assert network.heat.weight.grad is None


class Leaning(TinyTestNetwork):
    """A sub-pixel step with one parameter, and descriptors of the pixels, which do not change with it."""

    def __init__(self):
        super().__init__()
        self.lean = torch.nn.Parameter(torch.tensor([0.2, -0.1]))

    def describe(self, features, xy_px):
        return super().describe(features, xy_px.round())

    def refine(self, features, xy_px):
        return xy_px + 0.45 * torch.tanh(self.lean * torch.cos(xy_px))


MOVING = replace(
    OPTIONS,
    matches=MatchOptions(candidates="reciprocal", temperature=0.1),
    control=ControlOptions("sampson_count"),
    subpixel=True,
    position_gradient=True,
)


def test_the_expected_value_moves_the_positions_as_finite_differences_say(pairs):
    network = Leaning().double()
    options, moved = MOVING, [double(pair) for pair in pairs[:2]]
    estimator = NoEstimate()
    noise = draw_noise(moved, options=options, estimator=estimator, generator=generator())

    def expected():
        rolled = rollout_on_noise(network, moved, noise, options=options, estimator=estimator)
        torch.testing.assert_close(
            (rolled.value_of_keypoints[:, :, 0].sum(-1), rolled.value_of_keypoints[:, :, 1].sum(-1)),
            (rolled.control.expected[..., 0],) * 2,
        )
        assert not rolled.reward.requires_grad
        assert not rolled.correspondences.xy1_px.requires_grad
        return rolled.control.expected.sum()

    expected().backward()
    for axis in range(2):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                network.lean[axis] += step
                ends.append(expected().item())
                network.lean[axis] -= step
        slope = (ends[0] - ends[1]) / 2e-5
        assert abs(slope) > 1e-4
        assert network.lean.grad[axis].item() == pytest.approx(slope, rel=1e-4)


def test_positions_stay_where_they_are_unless_they_are_asked_to_move(pairs):
    network = Leaning()
    rolled = rollout(network, pairs[:1], options=replace(MOVING, position_gradient=False), generator=generator())
    rolled.control.expected.sum().backward()
    assert network.lean.grad is None
    assert network.descriptors.weight.grad.abs().max() > 0


def test_moving_positions_are_described_where_they_land(pairs):
    seen = []

    class Watched(Leaning):
        def describe(self, features, xy_px):
            seen.append(xy_px)
            return super().describe(features, xy_px)

    for moving in (True, False):
        rollout(Watched(), pairs[:1], options=replace(MOVING, position_gradient=moving), generator=generator())
    # One call for each image size; the images of the first pair share theirs.
    described, pixels = seen
    assert not described.requires_grad
    torch.testing.assert_close(described, Leaning().refine(None, pixels).detach())


def test_black_and_broken_images_leave_a_finite_gradient_of_the_positions(pairs):
    network = rfp.load_pretrained("tiny")
    black = replace(pairs[0], image1=torch.zeros_like(pairs[0].image1))
    broken = replace(pairs[0], image2=torch.full_like(pairs[0].image2, torch.nan))
    rolled = rollout(network, [pairs[0], black, broken], options=MOVING, generator=generator(), estimator=NoEstimate())
    assert rolled.valid.tolist() == [True, True, False]
    rolled.value_of_keypoints.sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert max(gradient.abs().max() for gradient in gradients) > 0


@pytest.mark.parametrize("wrong", [{"subpixel": False}, {"control": ControlOptions()}])
def test_positions_cannot_move_without_a_step_or_a_value(wrong):
    with pytest.raises(InputError, match="position_gradient expected subpixel"):
        replace(MOVING, **wrong)


@pytest.mark.parametrize(("geometry", "shift"), [("independent_draw", -1), ("own_estimate_biased", 0)])
def test_values_under_an_estimate_are_those_of_its_pose(pairs, geometry, shift):
    options = replace(OPTIONS, control=ControlOptions("sampson", geometry))
    rolled = rollout(TinyTestNetwork(), pairs[:1], options=options, generator=generator())
    assert not rolled.failed.any()
    for t in range(2):
        other = (t - shift) % 2
        draws = map_tensors(geometry_of(pairs[0]), lambda value: value.expand(1, 2, 1, *value.shape[3:]))
        pose = {name: getattr(rolled.result, name)[:, :, other, None] for name in ("R", "t")}
        truth = replace(draws, **pose)
        expected = SampsonReward()(None, rolled.correspondences, truth)
        torch.testing.assert_close(rolled.control.sampled[:, :, t], expected)


def geometry_of(pair):
    K1, K2, R, t = (value[None, None, None] for value in (pair.K1, pair.K2, pair.R, pair.t))
    return TwoViewGeometry(K1, K2, R, t, torch.ones(1, 1, 1, dtype=torch.bool))


def test_an_estimate_that_failed_makes_every_match_worthless(pairs):
    options = replace(OPTIONS, control=ControlOptions("sampson", "independent_draw"))
    rolled = rollout(TinyTestNetwork(), pairs[:1], options=options, generator=generator(), estimator=NoEstimate())
    assert (rolled.control.sampled == 0).all()


def test_the_deployed_detector_s_matches_are_judged_beside_the_draws_which_stay_as_they_are(pairs):
    seen = []

    class Watched(NoEstimate):
        def __call__(self, correspondences, noise):
            seen.append(correspondences)
            return super().__call__(correspondences, noise)

    def count(result, correspondences, truth):
        return correspondences.weight.sum(-1)

    both = {"options": OPTIONS, "estimator": Watched(), "reward": count}
    network = TinyTestNetwork()
    plain = rollout(network, pairs[:2], generator=generator(), **both)
    rolled = rollout(network, pairs[:2], generator=generator(), deployed=True, **both)
    assert plain.deployed_reward is None
    assert (plain.log_prob_matches == rolled.log_prob_matches).all()
    assert rolled.deployed_reward.shape == (2,)
    for b, pair in enumerate(pairs[:2]):
        one, two = (rfp.detect(network, image[None], num_keypoints=100) for image in (pair.image1, pair.image2))
        mutual = rfp.mutual_nearest_neighbours(one.descriptor, two.descriptor, one.valid, two.valid)
        keep = seen[-1].valid[b, 0, 0]
        assert keep.sum() == rolled.deployed_reward[b] == mutual[1].sum()
        points = {tuple(xy) for xy in one.xy_px[0][mutual[1][0]].tolist()}
        assert {tuple(xy) for xy in seen[-1].xy1_px[b, 0, 0][keep].tolist()} == points


def test_common_random_numbers_are_an_option(pairs):
    assert default_estimator(replace(OPTIONS, common_random_numbers=True)).common_random_numbers
    assert not default_estimator(OPTIONS).common_random_numbers


def test_controls_that_cannot_be_are_refused(pairs):
    with pytest.raises(rfp.InputError, match="with replacement"):
        replace(CONTROLLED, matches=MatchOptions(replacement=False))
    with pytest.raises(rfp.InputError, match="num_match_draws of at least 2"):
        RolloutOptions(num_match_draws=1, control=ControlOptions("disk", "independent_draw"))
    with pytest.raises(rfp.InputError, match="a reward per slot"):
        replace(CONTROLLED, matches=MatchOptions(candidates="reciprocal"))
    with pytest.raises(rfp.InputError, match="adds over matches"):
        rollout(
            TinyTestNetwork(),
            pairs[:1],
            options=replace(OPTIONS, control=ControlOptions("reward")),
            generator=generator(),
        )


def test_maps_in_bfloat16_are_near_those_in_float32_and_everything_after_them_is_float32():
    network, images = Tiny().eval(), [torch.rand(3, 48, 64, generator=generator()), torch.rand(3, 32, 48)]
    exact, coarse = (extract_features(network, images, bfloat16=bfloat16) for bfloat16 in (False, True))
    assert coarse.log_heat.dtype == torch.float32
    assert all(dense.feature_map.dtype == torch.float32 for _, dense in coarse.groups)
    assert not torch.equal(coarse.log_heat, exact.log_heat)
    torch.testing.assert_close(coarse.log_heat, exact.log_heat, atol=0.05, rtol=0.05)


@pytest.mark.usefixtures("without_type_checks")
def test_rewards_by_depth_know_the_true_geometry_alone_and_depth_of_the_images_size(pairs):
    with pytest.raises(InputError, match="geometry='true'"):
        ControlOptions("reprojection", "independent_draw")
    small = replace(pairs[0], depth1=torch.ones(3, 4))
    with pytest.raises(InputError, match=r"got \(3, 4\)"):
        rollout(TinyTestNetwork(), [small], options=OPTIONS, generator=generator())


def test_depth_is_there_for_the_reward_where_every_pair_has_it(pairs):
    """Padded to one size with what stands for unknown; one pair without depth, and there is none."""
    deep = [replace(pair, depth1=torch.ones(pair.image1.shape[1:]), depth2=None) for pair in pairs[:2]]
    cut = replace(deep[1], image1=deep[1].image1[:, :-8, :-4], depth1=deep[1].depth1[:-8, :-4])
    seen = []

    def watch(result, correspondences, truth):
        seen.append(truth)
        return correspondences.weight.sum(-1)

    for each in ([deep[0], cut], [deep[0], pairs[1]]):
        rollout(TinyTestNetwork(), each, options=OPTIONS, generator=generator(), reward=watch)
    assert seen[0].depth1.shape == (2, 1, 1, *deep[0].depth1.shape)
    assert seen[0].depth1[1].sum() == cut.depth1.numel() < deep[1].depth1.numel()
    assert seen[0].depth2 is None
    assert seen[1].depth1 is None
