import pytest
import torch

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.noise import band_noise, bent_grid, smooth_noise, spectral_noise, texel_grid
from rfp.data.synthetic.textures.palette import blend, draw_palette, pick

SIZE = 64


@pytest.fixture
def draws():
    return Draws(torch.Generator().manual_seed(0), torch.device("cpu"))


def _radial_amplitude(fields):
    frequency = torch.fft.fftfreq(SIZE, 1 / SIZE)
    radius = torch.sqrt(frequency[:, None] ** 2 + frequency**2)
    power = torch.fft.fft2(fields).abs().square().mean((0, 1))
    return torch.stack([power[(radius >= low) & (radius < 2 * low)].mean() for low in (2, 4, 8, 16)]).sqrt()


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_the_amplitude_falls_by_the_slope(draws, slope):
    fields = spectral_noise(30, 2, SIZE, draws, slope=torch.full((30,), slope))
    steps = _radial_amplitude(fields).log2().diff()
    torch.testing.assert_close(steps, torch.full((3,), -slope), atol=0.15, rtol=0)


@pytest.mark.parametrize("stretch", [None, torch.tensor([[3.0, 1.0]]).expand(20, 2)])
def test_fields_have_zero_mean_and_unit_deviation(draws, stretch):
    fields = spectral_noise(20, 1, SIZE, draws, slope=torch.linspace(0, 2, 20), stretch=stretch)
    torch.testing.assert_close(fields.mean((-2, -1)), torch.zeros(20, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(fields.std((-2, -1), correction=0), torch.ones(20, 1), atol=1e-3, rtol=0)


def test_stretching_along_x_makes_fields_smoother_along_x(draws):
    fields = spectral_noise(20, 1, SIZE, draws, slope=torch.ones(20), stretch=torch.tensor([[4.0, 1.0]]).expand(20, 2))
    along_x, along_y = ((fields - fields.roll(1, axis)).square().mean() for axis in (-1, -2))
    assert along_x < 0.5 * along_y


def test_a_band_holds_its_frequency(draws):
    field = band_noise(10, SIZE, draws, frequency=torch.full((10,), 12.0))
    crossings = (field.sign() != field.sign().roll(1, -1)).float().sum(-1).mean()
    # Rice: a field whose frequencies lie on a circle of radius f crosses zero √2 f times on a line.
    assert crossings == pytest.approx(2**0.5 * 12, rel=0.1)


def test_smooth_fields_keep_unit_deviation_and_wrap(draws):
    field = smooth_noise(20, 2, SIZE, draws, slope=1.6)
    torch.testing.assert_close(field.std((-2, -1)), torch.ones(20, 2), atol=0.06, rtol=0)
    steps = (field - field.roll(1, -1)).abs().mean((0, 1, 2))
    assert steps[0] < 1.3 * steps.median()


def test_a_bent_grid_stays_near_the_straight_one(draws):
    straight, bent = texel_grid(SIZE, draws), bent_grid(20, SIZE, draws, largest=0.02)
    assert straight[0, :, 3, 7].tolist() == pytest.approx([7.5 / SIZE, 3.5 / SIZE])
    assert 0 < (bent - straight).abs().max() < 5 * 0.02


def test_colours_are_in_range_and_mostly_muted(draws):
    palette = draw_palette(500, 8, draws)
    assert palette.min() >= 0
    assert palette.max() <= 1
    saturation = palette.amax(1) - palette.amin(1)
    assert saturation.median() < 0.2
    lightness = palette.mean(1)
    assert (lightness.amax(1) - lightness.amin(1)).min() > 0.4


def test_picking_and_blending_meet_at_the_colours(draws):
    palette = draw_palette(2, 5, draws)
    places = torch.arange(5)[None, None, None].expand(2, 1, 1, 5)
    torch.testing.assert_close(pick(palette, (places + 0.5) / 5)[:, :, 0], palette)
    # The ends exactly, the colours between them to a step of the ramp.
    blended = blend(palette, places / 4)[:, :, 0]
    torch.testing.assert_close(blended[..., [0, 4]], palette[..., [0, 4]])
    torch.testing.assert_close(blended, palette, atol=0.02, rtol=0)
