"""Laws of the key-point policy and of the deployed detector."""

import pytest
import torch

from rfp.policy.keypoints import (
    KeypointOptions,
    draw_keypoints,
    keypoint_distribution,
    keypoint_noise_shape,
    top_keypoints,
)
from rfp.records import InputError

SIZES = [(24, 32), (20, 28)]


def heat(seed=0, height=24, width=32):
    return torch.randn(2, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise(options, draws, area, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, *keypoint_noise_shape(options, draws, area), generator=generator, dtype=torch.float64)


def is_strict_maximum(image, x, y, radius):
    window = image[y - radius : y + radius + 1, x - radius : x + radius + 1]
    return (window >= image[y, x]).sum() == 1


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("nms_radius", [0, 2])
def test_key_points_are_candidates_inside_the_border_of_their_own_image(replacement, nms_radius):
    options = KeypointOptions(num_keypoints=20, nms_radius=nms_radius, border=3, replacement=replacement)
    log_heat = heat()
    distribution = keypoint_distribution(log_heat, SIZES, options)
    keypoints = draw_keypoints(distribution, noise(options, 3, 24 * 32), options)
    assert keypoints.xy_px.shape == (2, 3, 20, 2)
    for image, (height, width) in enumerate(SIZES):
        for xy in keypoints.xy_px[image][keypoints.valid[image]].long().tolist():
            x, y = xy
            assert 3 <= x < width - 3
            assert 3 <= y < height - 3
            assert nms_radius == 0 or is_strict_maximum(log_heat[image], x, y, nms_radius)


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("nms_radius", [0, 2])
def test_log_probability_is_that_of_the_whole_image_distribution(replacement, nms_radius):
    """Recomputed here from the positions alone, with a plain log-softmax over the candidates."""
    options = KeypointOptions(
        num_keypoints=12, nms_radius=nms_radius, border=3, replacement=replacement, uniform_mixing=0.1
    )
    log_heat = heat()
    keypoints = draw_keypoints(keypoint_distribution(log_heat, SIZES, options), noise(options, 1, 24 * 32), options)
    for image, (height, width) in enumerate(SIZES):
        candidates = [
            (x, y)
            for y in range(3, height - 3)
            for x in range(3, width - 3)
            if nms_radius == 0 or is_strict_maximum(log_heat[image], x, y, nms_radius)
        ]
        f = torch.stack([log_heat[image, y, x] for x, y in candidates]).exp()
        p = 0.9 * f / f.sum() + 0.1 / len(candidates)
        of = dict(zip(candidates, p.tolist(), strict=True))
        expected, remaining = 0.0, 1.0
        rows = zip(keypoints.xy_px[image, 0].long().tolist(), keypoints.count[image, 0].tolist(), strict=True)
        for (x, y), count in rows:
            if count:
                value = torch.tensor(of[(x, y)], dtype=torch.float64)
                expected += count * float((value / remaining).log())
                remaining -= 0.0 if replacement else of[(x, y)]
        assert keypoints.log_prob[image, 0].item() == pytest.approx(expected, abs=1e-9)


def test_draws_with_replacement_add_up_to_the_number_asked_for():
    options = KeypointOptions(num_keypoints=200, nms_radius=2, border=3, replacement=True)
    keypoints = draw_keypoints(keypoint_distribution(heat(), SIZES, options), noise(options, 3, 24 * 32), options)
    assert (keypoints.count.sum(-1) == 200).all()
    assert (keypoints.count.max() > 1).all()
    assert not keypoints.valid.all()


def test_fewer_local_maxima_than_asked_for_are_masked_and_the_draw_ends():
    options = KeypointOptions(num_keypoints=500, nms_radius=2, border=3)
    distribution = keypoint_distribution(heat(), SIZES, options)
    keypoints = draw_keypoints(distribution, noise(options, 2, 24 * 32), options)
    for image in range(2):
        assert keypoints.valid[image].sum(-1).tolist() == [distribution.valid[image].sum()] * 2
    assert keypoints.xy_px.shape == (2, 2, 500, 2)
    assert keypoints.log_prob.isfinite().all()


def test_a_flat_image_has_no_local_maximum_and_gives_an_empty_draw_of_probability_one():
    options = KeypointOptions(num_keypoints=5)
    flat = torch.zeros(2, 24, 32, requires_grad=True)
    distribution = keypoint_distribution(flat, SIZES, options)
    keypoints = draw_keypoints(distribution, noise(options, 2, 24 * 32).float(), options)
    assert not keypoints.valid.any()
    assert (keypoints.log_prob == 0).all()
    keypoints.log_prob.sum().backward()
    assert flat.grad is not None
    assert (flat.grad == 0).all()


def test_padding_changes_nothing():
    options = KeypointOptions(num_keypoints=15, nms_radius=2, border=3)
    log_heat = heat()
    padded = torch.nn.functional.pad(log_heat, (0, 9, 0, 5), value=50.0)
    uniforms = noise(options, 3, 29 * 41)
    plain = draw_keypoints(keypoint_distribution(log_heat, SIZES, options), uniforms, options)
    other = draw_keypoints(keypoint_distribution(padded, SIZES, options), uniforms, options)
    assert (plain.xy_px * plain.valid[..., None] == other.xy_px * other.valid[..., None]).all()
    torch.testing.assert_close(plain.log_prob, other.log_prob)


def test_nan_in_the_heat_map_is_no_candidate():
    options = KeypointOptions(num_keypoints=15, nms_radius=0, border=0, replacement=True)
    log_heat = heat()
    log_heat[0, 10:14] = float("nan")
    log_heat.requires_grad_()
    keypoints = draw_keypoints(keypoint_distribution(log_heat, SIZES, options), noise(options, 3, 24 * 32), options)
    keypoints.log_prob.sum().backward()
    assert log_heat.grad is not None
    assert log_heat.grad.isfinite().all()
    y = keypoints.xy_px[0][..., 1]
    assert not ((y >= 10) & (y < 14) & keypoints.valid[0]).any()


def test_the_deployed_detector_is_the_top_of_the_same_distribution():
    options = KeypointOptions(num_keypoints=10, nms_radius=2, border=3)
    distribution = keypoint_distribution(heat(), SIZES, options)
    xy_px, log_p, valid = top_keypoints(distribution, 10)
    assert valid.all()
    assert (log_p.diff(dim=-1) <= 0).all()
    for image in range(2):
        best = distribution.log_p[image][distribution.valid[image]].sort(descending=True).values[:10]
        torch.testing.assert_close(log_p[image], best)
        heat_there = heat()[image][xy_px[image, :, 1].long(), xy_px[image, :, 0].long()]
        torch.testing.assert_close(heat_there - heat_there[0], log_p[image] - log_p[image, 0])


def test_a_request_for_more_key_points_than_pixels_is_padded():
    options = KeypointOptions(num_keypoints=2000, nms_radius=2, border=3)
    xy_px, log_p, valid = top_keypoints(keypoint_distribution(heat(), SIZES, options), 2000)
    assert xy_px.shape == (2, 2000, 2)
    assert log_p.shape == valid.shape == (2, 2000)


@pytest.mark.parametrize(
    "wrong", [{"num_keypoints": 0}, {"nms_radius": -1}, {"uniform_mixing": 1.0}, {"max_candidates": 0}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        KeypointOptions(**wrong)


def test_at_a_fixed_spread_only_the_differences_between_key_points_count():
    options = KeypointOptions(num_keypoints=4, border=3, spread=1.5)
    log_heat = heat().requires_grad_()
    distribution = keypoint_distribution(log_heat, SIZES, options)
    for log_p, valid in zip(distribution.log_p, distribution.valid, strict=True):
        assert log_p[valid].std(correction=0).item() == pytest.approx(1.5, abs=1e-6)
        assert log_p[valid].exp().sum().item() == pytest.approx(1.0, abs=1e-9)
    surer = keypoint_distribution(4 * log_heat - 7, SIZES, options)
    torch.testing.assert_close(surer.log_p, distribution.log_p)
    order = keypoint_distribution(log_heat, SIZES, KeypointOptions(num_keypoints=4, border=3))
    assert torch.equal(top_keypoints(order, 4)[0], top_keypoints(distribution, 4)[0])

    keypoints = draw_keypoints(distribution, noise(options, 3, 24 * 32), options)
    (gradient,) = torch.autograd.grad((keypoints.log_inclusion * torch.arange(4)).sum(), log_heat)
    assert gradient.abs().amax(dim=(1, 2)).min() > 0.1
    along = (gradient * log_heat).sum(dim=(1, 2)).abs() / gradient.flatten(1).norm(dim=1)
    assert (along < 1e-6).all(), "nothing is gained by being surer"


def test_a_spread_of_candidates_that_are_alike_or_of_none_is_harmless():
    options = KeypointOptions(num_keypoints=4, nms_radius=0, border=1, spread=2.0)
    flat = torch.zeros(2, 24, 32).requires_grad_()
    nothing = torch.full((2, 24, 32), float("-inf"))
    for log_heat in (flat, nothing):
        distribution = keypoint_distribution(log_heat, SIZES, options)
        keypoints = draw_keypoints(distribution, noise(options, 2, 24 * 32).float(), options)
        assert keypoints.log_prob.isfinite().all()
    keypoint_distribution(flat, SIZES, options).log_p[:, 0].sum().backward()
    assert flat.grad.isfinite().all()
    for wrong in (0.0, -1.0, float("inf")):
        with pytest.raises(InputError, match="spread"):
            KeypointOptions(spread=wrong)
