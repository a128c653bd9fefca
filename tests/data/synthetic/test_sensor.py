"""What the cameras make of the light."""

import pytest
import torch

from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.sensor import Sensors, blurred, draw_sensors, expose, soften_edges, take_photographs
from rfp.data.synthetic.uniforms import Uniforms


def sensors(gain=1.0, vignetting=0.0, blur_px=0.0, noise=0.0, pairs=1):
    full = torch.full
    return Sensors(full((pairs, 2, 3), gain), *(full((pairs, 2), value) for value in (vignetting, blur_px, noise)))


def test_a_perfect_camera_shows_the_root_of_the_light():
    radiance = torch.rand(1, 2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    shown = take_photographs(radiance, sensors(), torch.randn(1, 2, 3, 12, 16))
    torch.testing.assert_close(shown, radiance.sqrt())


@pytest.mark.parametrize("blur_px", [0.3, 0.6, 0.85])
def test_the_point_spread_has_the_stated_deviation(blur_px):
    point = torch.zeros(1, 2, 3, 15, 15)
    point[..., 7, 7] = 1.0
    shown = take_photographs(point, sensors(blur_px=blur_px), torch.zeros_like(point)).square()
    offset = torch.arange(15.0) - 7
    torch.testing.assert_close(shown.sum(dim=(-1, -2)), torch.ones(1, 2, 3))
    for dim in (-1, -2):
        variance = (shown.sum(dim=dim) * offset.square()).sum(dim=-1)
        torch.testing.assert_close(variance.sqrt(), torch.full((1, 2, 3), blur_px))


def test_vignetting_darkens_the_corners_by_the_stated_share():
    shown = take_photographs(torch.ones(1, 2, 3, 31, 41) * 0.5, sensors(vignetting=0.3), torch.zeros(1, 2, 3, 31, 41))
    light = shown.square()
    torch.testing.assert_close(light[0, 0, 0, 15, 20].item(), 0.5)
    torch.testing.assert_close(light[0, 0, 0, 0, 0].item(), 0.35)
    torch.testing.assert_close(light[0, 0, 0, 30, 40].item(), 0.35)


def test_noise_has_the_stated_deviation():
    noise = torch.randn(1, 2, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    shown = take_photographs(torch.full((1, 2, 3, 60, 60), 0.25), sensors(noise=0.02), noise)
    torch.testing.assert_close((shown - 0.5).std().item(), 0.02, rtol=0.03, atol=0)


def test_both_images_of_a_pair_are_exposed_alike():
    radiance = (
        torch.rand(3, 2, 3, 24, 36, generator=torch.Generator().manual_seed(0))
        * torch.tensor([0.01, 1, 50])[:, None, None, None, None]
    )
    exposed = expose(radiance.clone())
    ratio = exposed / radiance
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1, :1].expand_as(ratio))
    assert (exposed.mean(dim=(1, 2, 3, 4)) - 0.22).abs().max() < 0.05


def test_each_image_draws_its_own_settings_within_the_ranges():
    options = SceneOptions.hard()
    drawn = draw_sensors(options, Uniforms(torch.rand(100, 16, generator=torch.Generator().manual_seed(0))))
    assert (drawn.gain[:, 0] != drawn.gain[:, 1]).any(dim=-1).all()
    assert drawn.gain[..., 1].log2().abs().max() <= options.exposure
    for value, (low, high) in ((drawn.blur_px, options.blur_px), (drawn.noise, options.noise)):
        assert low <= value.min()
        assert value.max() <= high
    assert drawn.vignetting.max() <= options.vignetting


def test_only_pixels_at_the_borders_of_surfaces_are_softened():
    light = torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    surface = torch.zeros(1, 8, 10, dtype=torch.uint8)
    surface[..., 5:] = 7
    soft = soften_edges(light, surface)
    half = torch.full((1, 1, 1, 1), 0.5)
    torch.testing.assert_close(soft[..., 4:6], blurred(light, half, half)[..., 4:6])
    assert torch.equal(soft[..., :4], light[..., :4])
    assert torch.equal(soft[..., 6:], light[..., 6:])
