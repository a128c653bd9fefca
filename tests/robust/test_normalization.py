"""Points of any unit become points of one size about the origin."""

import pytest
import torch

from rfp.geometry.direct_linear import similarity
from rfp.robust.model import make_problems
from rfp.robust.normalization import normalize_problems
from tests.sync_deny_list import no_host_visits


def problems_of(data, valid=None, max_error=2.0):
    return make_problems(data, max_error, valid, None)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 500.0])
@pytest.mark.parametrize("origin", [0.0, 1000.0])
def test_normalised_points_have_the_size_of_one_about_the_origin(unit, origin):
    generator = torch.Generator().manual_seed(0)
    data = unit * (torch.rand(5, 101, 4, generator=generator, dtype=torch.float64) + origin)
    normalized, centre, scale = normalize_problems(problems_of(data))
    assert normalized.data.median(dim=1).values.abs().max() < 1e-9
    distances = normalized.data.abs().median(dim=1).values.mean(dim=-1)
    torch.testing.assert_close(distances, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(normalized.max_error, 2 * scale)
    torch.testing.assert_close(normalized.data / scale[:, None, None] + centre[:, None], data)


def test_the_similarity_is_the_normalisation():
    data = 500 * torch.rand(4, 30, 4, generator=torch.Generator().manual_seed(1))
    normalized, centre, scale = normalize_problems(problems_of(data))
    T2 = similarity(centre[:, 2:], scale)
    mapped = torch.cat((data[..., 2:], torch.ones(4, 30, 1)), dim=-1).double() @ T2.mT
    torch.testing.assert_close(mapped[..., :2].float(), normalized.data[..., 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(mapped[..., 2], torch.ones(4, 30, dtype=torch.float64))


def test_outliers_and_masked_points_move_nothing():
    generator = torch.Generator().manual_seed(2)
    data = torch.rand(3, 60, 4, generator=generator)
    _, centre, scale = normalize_problems(problems_of(data))
    masked = torch.cat((data, torch.full((3, 9, 4), torch.nan)), dim=1)
    _, same_centre, same_scale = normalize_problems(problems_of(masked))
    assert torch.equal(centre, same_centre)
    assert torch.equal(scale, same_scale)
    spoilt = data.clone()
    spoilt[:, 5] = 9e5
    normalized, centre, _ = normalize_problems(problems_of(spoilt))
    assert (centre - 0.5).abs().max() < 0.3
    assert 0.5 < normalized.data.abs().median() < 2


def test_points_at_one_place_or_none_stay_finite():
    data = torch.stack((torch.full((20, 4), 7.0), torch.full((20, 4), torch.nan), torch.full((20, 4), 7.0)))
    data[2, 3] = 57.0
    normalized, _, scale = normalize_problems(problems_of(data))
    torch.testing.assert_close(scale, torch.tensor([1.0, 1.0, 0.02]))
    assert not normalized.data[:2].any()
    assert torch.isfinite(normalized.data).all()
    normalized, centre, scale = normalize_problems(problems_of(torch.rand(2, 0, 4)))
    assert normalized.data.shape == (2, 0, 4)
    assert torch.isfinite(centre).all()
    assert torch.isfinite(scale).all()


def test_the_normalisation_runs_on_meta_without_a_denied_operation():
    with no_host_visits():
        normalized, centre, scale = normalize_problems(problems_of(torch.empty(2, 30, 4, device="meta")))
        assert similarity(centre[:, :2], scale).shape == (2, 3, 3)
    assert normalized.data.device.type == "meta"
