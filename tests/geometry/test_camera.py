"""Pixels to normalised points, thresholds, resized cameras."""

import kornia.geometry.epipolar
import pytest
import torch

from rfp.geometry.camera import normalize_points, normalized_threshold, scale_intrinsics

K = torch.tensor([[500.0, 3.0, 310.0], [0.0, 520.0, 245.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,)])
def test_normalized_points_are_the_inverse_camera_times_pixels(batch):
    xy_px = 500 * torch.rand(*batch, 7, 2, generator=torch.Generator().manual_seed(0))
    homogeneous = torch.cat((xy_px, torch.ones(*batch, 7, 1)), dim=-1)
    expected = (homogeneous @ torch.linalg.inv(K).T)[..., :2]
    torch.testing.assert_close(normalize_points(xy_px, K.expand(*batch, 3, 3)), expected, atol=1e-6, rtol=1e-5)


def test_kornia_inverts_the_normalisation():
    xy_px = 500 * torch.rand(1, 7, 2, generator=torch.Generator().manual_seed(1))
    back = kornia.geometry.denormalize_points_with_intrinsics(normalize_points(xy_px, K[None]), K[None, None])
    # kornia ignores the skew
    torch.testing.assert_close(back[..., 1], xy_px[..., 1], atol=1e-3, rtol=0)


def test_a_camera_without_focal_length_gives_finite_points():
    assert not normalize_points(torch.rand(4, 2), torch.zeros(3, 3)).any()


def test_the_threshold_is_the_mean_of_both_cameras():
    K2 = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 1020.0, 0.0], [0.0, 0.0, 1.0]])
    assert normalized_threshold(2.0, K, K2).item() == pytest.approx(0.5 * 2 * (1 / 510 + 1 / 1010))


def test_a_resized_camera_sees_the_same_rays():
    # The centre (u, v) of a pixel lies at (u + ½) s - ½ in the resized image.
    xy_px = torch.tensor([[0.0, 0.0], [639.0, 479.0], [100.0, 50.0]])
    resized = (xy_px + 0.5) * torch.tensor([0.5, 0.25]) - 0.5
    expected = normalize_points(xy_px, K)
    torch.testing.assert_close(normalize_points(resized, scale_intrinsics(K, 0.5, 0.25)), expected, atol=1e-6, rtol=0)
    by_tensor = scale_intrinsics(K.expand(2, 3, 3), torch.full((2,), 0.5), torch.full((2,), 0.25))
    torch.testing.assert_close(by_tensor[1], scale_intrinsics(K, 0.5, 0.25))
