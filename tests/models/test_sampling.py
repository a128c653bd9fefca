"""Feature maps are read at pixel points with one convention, whatever their stride."""

import pytest
import torch

from rfp.models import sample_descriptors
from rfp.models.sampling import sample_pixels, unit_norm


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_a_map_of_its_own_coordinates_gives_back_the_points(stride):
    """A map holding the pixel position of each cell's centre, (i + ½) s - ½, read at a point, holds that point."""
    height, width = 48, 64
    x = (torch.arange(width // stride) + 0.5) * stride - 0.5
    y = (torch.arange(height // stride) + 0.5) * stride - 0.5
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    values = torch.stack([xx, yy, torch.full_like(xx, 7.0)])[None].double()
    point = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0)).double()
    point = point * torch.tensor([width - stride, height - stride]) + (stride - 1) / 2
    direction = sample_descriptors(values, point, (height, width))
    torch.testing.assert_close(direction[..., :2] / direction[..., 2:] * 7, point, atol=1e-9, rtol=0)


def test_at_stride_one_a_pixel_reads_its_own_cell():
    values = torch.randn(2, 16, 11, 13, generator=torch.Generator().manual_seed(0))
    y, x = torch.meshgrid(torch.arange(11.0), torch.arange(13.0), indexing="ij")
    point = torch.stack([x, y], dim=-1).flatten(0, 1).expand(2, -1, -1)
    expected = torch.nn.functional.normalize(values, dim=1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(sample_descriptors(values, point, (11, 13)), expected, atol=1e-5, rtol=0)


def test_outside_the_map_is_the_border_or_zero():
    values = torch.rand(1, 3, 5, 6) + 1
    point = torch.tensor([[[-2.0, -2.0], [40.0, 30.0]]])
    border = sample_pixels(values, point, outside="border")[0]
    torch.testing.assert_close(border, torch.stack([values[0, :, 0, 0], values[0, :, -1, -1]]))
    assert not sample_pixels(values, point, outside="zeros").any()


def test_unit_norm_equals_torchs_and_is_finite_at_zero():
    values = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unit_norm(values, -1), torch.nn.functional.normalize(values, dim=-1))
    zero = torch.zeros(2, 3, requires_grad=True)
    unit_norm(zero, -1).sum().backward()
    assert not unit_norm(zero, -1).any()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()
    assert torch.autograd.gradcheck(lambda x: unit_norm(x, -1), values.requires_grad_())
