import pytest
import torch

from rfp.data.synthetic.textures import FAMILIES, HELD_OUT_FAMILIES, TRAINING_FAMILIES, draw_textures
from rfp.records import InputError
from tests.sync_deny_list import no_host_visits


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_textures_are_finite_in_range_and_have_contrast(family):
    textures = draw_textures(4, size=64, families=[family], generator=_generator())
    assert textures.shape == (4, 3, 64, 64)
    assert textures.isfinite().all()
    assert textures.min() >= 0
    assert textures.max() <= 1
    assert textures.std((1, 2, 3)).min() > 0.08


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_decides_every_texel(family):
    first, again, other = (
        draw_textures(2, size=64, families=[family], generator=_generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 0.02


@pytest.mark.parametrize("family", FAMILIES)
def test_it_runs_without_data_under_the_deny_list(family):
    with no_host_visits():
        textures = draw_textures(3, size=64, families=[family], generator=_generator(), device=torch.device("meta"))
    assert textures.device.type == "meta"
    assert textures.shape == (3, 3, 64, 64)


def test_training_and_held_out_families_share_no_name():
    assert not set(TRAINING_FAMILIES) & set(HELD_OUT_FAMILIES)
    assert FAMILIES == TRAINING_FAMILIES + HELD_OUT_FAMILIES


@pytest.mark.parametrize("families", [["fractal", "shapes"], []])
def test_an_unknown_family_is_refused_with_the_names_of_the_known(families):
    with pytest.raises(InputError, match=", ".join(FAMILIES)):
        draw_textures(1, families=families, generator=_generator())
