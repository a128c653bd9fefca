import pytest
import torch

from rfp.data.synthetic.textures import FAMILIES, HELD_OUT_FAMILIES, TRAINING_FAMILIES, draw_textures, families
from rfp.records import InputError
from tests.sync_deny_list import no_host_visits

SIZE = 64


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _draw(family, count, seed=0):
    return draw_textures(count, size=SIZE, families=[family], generator=_generator(seed))


def _statistics(textures):
    """What brightness and contrast leave alone: spectrum, share of edges and flat ground, directions, skewness."""
    grey = textures.mean(1)
    grey = (grey - grey.mean((1, 2), keepdim=True)) / grey.std((1, 2), keepdim=True)
    frequency = torch.fft.fftfreq(SIZE, 1 / SIZE)
    radius = torch.sqrt(frequency[:, None] ** 2 + frequency**2)
    power = torch.fft.fft2(grey).abs().square()
    bands = [power[:, (radius >= low) & (radius < 2 * low)].mean(1).log() for low in (1, 2, 4, 8, 16)]
    dx, dy = grey - grey.roll(1, -1), grey - grey.roll(1, -2)
    slope, direction = torch.hypot(dx, dy), torch.atan2(dy, dx)
    edges = (slope**4).mean((1, 2)).log() - 2 * (slope**2).mean((1, 2)).log()
    flat = (slope < 0.25 * slope.mean((1, 2), keepdim=True)).float().mean((1, 2))
    order = [(torch.polar(slope, fold * direction)).mean((1, 2)).abs() / slope.mean((1, 2)) for fold in (2, 4)]
    return torch.stack([*bands, edges, flat, *order, (grey**3).mean((1, 2)), (grey**4).mean((1, 2)).log()], 1)


def _distance(first, second):
    """Mahalanobis distance between the means of two samples."""
    covariance = (torch.cov(first.T) + torch.cov(second.T)) / 2
    difference = first.mean(0) - second.mean(0)
    return torch.sqrt(difference @ torch.linalg.solve(covariance, difference))


@pytest.fixture(scope="module")
def statistics():
    return {family: _statistics(_draw(family, 48)) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_textures_are_finite_in_range_and_have_contrast(family):
    textures = _draw(family, 8)
    assert textures.shape == (8, 3, SIZE, SIZE)
    assert textures.isfinite().all()
    assert textures.min() >= 0
    assert textures.max() <= 1
    assert textures.std((1, 2, 3)).min() > 0.07
    # Neither black nor white: less than a third of the texels sits at an end of the range.
    assert ((textures == 0) | (textures == 1)).float().mean((1, 2, 3)).max() < 0.33


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_decides_every_texel(family):
    first, again, other = (_draw(family, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first - other).abs().mean((1, 2, 3)).min() > 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_textures_of_one_family_differ_from_their_neighbours(family):
    """In content and not just in exposure: they are barely correlated, and their spectra are spread."""
    textures = _draw(family, 12)
    grey = textures.mean(1).flatten(1)
    correlation = torch.corrcoef(grey).fill_diagonal_(0)
    assert correlation.abs().max() < 0.8
    assert _statistics(textures)[:, 2].std() > 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_textures_wrap_around(family):
    """Across the seam values change as they do inside; in a cut-out, which does not wrap, they change much more."""

    def step_at_seam(textures, axis):
        steps = (textures - textures.roll(1, axis)).abs().movedim(axis, 0).flatten(1).mean(1)
        return steps[0] / steps[1:].median()

    textures = _draw(family, 24)
    for axis in (-1, -2):
        assert 0.6 < step_at_seam(textures, axis) < 1.6
        assert step_at_seam(textures.narrow(axis, 0, 47), axis) > 2


@pytest.mark.parametrize("family", FAMILIES)
def test_it_runs_without_data_under_the_deny_list(family):
    with no_host_visits():
        textures = draw_textures(3, size=SIZE, families=[family], generator=_generator(), device="meta")
    assert textures.device.type == "meta"
    assert textures.shape == (3, 3, SIZE, SIZE)


def test_families_take_turns():
    """Texture i is of the family i mod n: the same families alone give the same kinds in the same places."""
    pair = ["clouds", "checker"]
    drawn = []
    textures = draw_textures(5, size=SIZE, families=pair, generator=_generator())
    generator = _generator()
    for family, count in zip(pair, (3, 2)):
        drawn.append(draw_textures(count, size=SIZE, families=[family], generator=generator))
    assert torch.equal(textures[0::2], drawn[0])
    assert torch.equal(textures[1::2], drawn[1])


def test_fewer_textures_than_families_and_none_at_all():
    assert draw_textures(2, size=SIZE, generator=_generator()).shape[0] == 2
    assert draw_textures(0, size=SIZE, generator=_generator()).shape == (0, 3, SIZE, SIZE)


def test_no_global_generator_moves():
    state = torch.get_rng_state()
    draw_textures(len(FAMILIES), size=SIZE, families=FAMILIES, generator=_generator())
    assert torch.equal(state, torch.get_rng_state())


def test_training_draws_none_of_the_held_out_families(monkeypatch):
    assert not set(TRAINING_FAMILIES) & set(HELD_OUT_FAMILIES)
    assert FAMILIES == TRAINING_FAMILIES + HELD_OUT_FAMILIES

    def refuse(count, size, draws):
        raise AssertionError("a held-out family was drawn")

    for name in HELD_OUT_FAMILIES:
        monkeypatch.setitem(families._HELD_OUT, name, refuse)
    draw_textures(4 * len(TRAINING_FAMILIES), size=SIZE, generator=_generator())
    with pytest.raises(AssertionError, match="held-out"):
        draw_textures(1, size=SIZE, families=HELD_OUT_FAMILIES, generator=_generator())


@pytest.mark.parametrize("family", HELD_OUT_FAMILIES)
def test_held_out_families_are_of_another_kind(statistics, family):
    """Further from every training family than batches of one family are from each other."""
    again = _distance(statistics[family], _statistics(_draw(family, 48, seed=1)))
    nearest = min(_distance(statistics[family], statistics[training]) for training in TRAINING_FAMILIES)
    assert nearest > 1.4 > again


@pytest.mark.parametrize("family", FAMILIES)
def test_the_spectrum_falls_as_in_photographs(statistics, family):
    """Amplitude falls by the frequency to the power of about -1; 48 photographs gave -1.3 by the same measure."""
    bands = statistics[family][:, :5].mean(0)
    slope = 0.5 * (bands[-1] - bands[0]) / (4 * torch.log(torch.tensor(2.0)))
    assert -2 < slope < -0.6


@pytest.mark.parametrize("names", [["fractal", "shapes"], []])
def test_an_unknown_family_is_refused_with_the_names_of_the_known(names):
    with pytest.raises(InputError, match=", ".join(FAMILIES)):
        draw_textures(1, families=names, generator=_generator())


@pytest.mark.parametrize("size", [8, 66])
def test_a_size_that_does_not_divide_is_refused(size):
    with pytest.raises(InputError, match=f"got {size}"):
        draw_textures(1, size=size, generator=_generator())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_never_waits_for_the_host(family):
    generator = torch.Generator("cuda").manual_seed(0)
    draw_textures(5, families=[family], generator=generator)  # lazy initialisation may synchronise
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        textures = draw_textures(5, families=[family], generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert textures.isfinite().all()
