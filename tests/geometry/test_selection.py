"""Selection by sign against ``torch.where``."""

import pytest
import torch

from rfp.geometry.selection import select


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_selection_is_that_of_where(dtype):
    generator = torch.Generator().manual_seed(0)
    sign, first, second = torch.randn(3, 1000, generator=generator, dtype=dtype).mul(1e20)
    sign[:2] = torch.tensor([0.0, -0.0])
    sign[2:4] = torch.tensor([torch.inf, -torch.inf])
    first[4:6] = torch.tensor([torch.inf, -torch.inf])
    expected = torch.where(torch.signbit(sign), second, first)
    assert torch.equal(select(sign, first, second), expected)
