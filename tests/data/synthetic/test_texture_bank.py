"""Look-ups in the texture bank against a plain interpolation, and what they do where details are too small."""

import pytest
import torch

from rfp.data.synthetic.texture_bank import look_up, make_bank


def random_textures(count=3, size=16, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def plain_bilinear(texture, u, v):
    """Of one texture (3, s, s), wrapping around; texel i has its centre at (i + ½) / s."""
    size = texture.shape[-1]
    x, y = u * size - 0.5, v * size - 0.5
    x0, y0 = x.floor().long(), y.floor().long()
    fx, fy = x - x0, y - y0
    at = [[texture[:, (y0 + j) % size, (x0 + i) % size] for i in range(2)] for j in range(2)]
    return (at[0][0] * (1 - fx) + at[0][1] * fx) * (1 - fy) + (at[1][0] * (1 - fx) + at[1][1] * fx) * fy


def mip(texture, level):
    light = texture.square()[None]
    for _ in range(level):
        light = torch.nn.functional.avg_pool2d(light, 2)
    return light.sqrt()[0]


@pytest.mark.parametrize("level", range(5))
def test_a_look_up_on_a_level_is_bilinear_and_wraps(level):
    textures = random_textures()
    generator = torch.Generator().manual_seed(1)
    u, v = 6 * torch.rand(2, 500, generator=generator) - 3
    found = look_up(
        make_bank(textures), torch.full((500,), 1.0), u, v, torch.full((500,), level + 0.0), between_levels=False
    )
    torch.testing.assert_close(found, plain_bilinear(mip(textures[1], level), u, v), atol=4e-3, rtol=0)


def test_between_levels_both_are_mixed():
    textures = random_textures()
    u, v = torch.rand(2, 200, generator=torch.Generator().manual_seed(2))
    found = look_up(make_bank(textures), torch.full((200,), 2.0), u, v, torch.full((200,), 1.25), between_levels=True)
    fine, coarse = (plain_bilinear(mip(textures[2], level), u, v) for level in (1, 2))
    torch.testing.assert_close(found, 0.75 * fine + 0.25 * coarse, atol=4e-3, rtol=0)


def test_far_away_a_texture_is_its_mean_light():
    textures = random_textures()
    u, v = torch.rand(2, 50, generator=torch.Generator().manual_seed(3))
    found = look_up(make_bank(textures), torch.zeros(50), u, v, torch.full((50,), 30.0), between_levels=True)
    mean = textures[0].square().mean(dim=(1, 2)).sqrt()
    torch.testing.assert_close(found, mean[:, None].expand(3, 50), atol=6e-3, rtol=0)


def test_white_and_black_stay_inside_the_range():
    textures = torch.stack((torch.ones(3, 8, 8), torch.zeros(3, 8, 8)))
    u, v, lod = torch.rand(3, 2000, generator=torch.Generator().manual_seed(4))
    for place, value in ((0.0, 1.0), (1.0, 0.0)):
        found = look_up(make_bank(textures), torch.full((2000,), place), u, v, 3 * lod, between_levels=True)
        assert (found - value).abs().max() < 3e-3
        assert found.max() <= 1


def test_a_texture_of_an_odd_size_is_refused():
    with pytest.raises(ValueError, match="power of two, got 12"):
        make_bank(torch.zeros(1, 3, 12, 12))
