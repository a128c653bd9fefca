import math

import pytest
import torch

from rfp.evaluation import ESTIMATORS, epipolar_error_px, estimate_pose, fundamental_inliers
from rfp.geometry.pose import relative_pose_error
from rfp.records import InputError

K1 = torch.tensor([[500.0, 0.0, 320.0], [0.0, 510.0, 240.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
K2 = torch.tensor([[700.0, 0.0, 300.0], [0.0, 690.0, 260.0], [0.0, 0.0, 1.0]], dtype=torch.float64)

ACCURACY_DEG = {"poselib": 0.5, "opencv": 3.5, "opencv-ransac": 3.5, "pycolmap": 0.8, "rfp": 0.7}
"""At 0.3 px of noise; OpenCV's two end without a non-linear refinement of the pose."""


def _rotation(axis_angle):
    skew = torch.zeros(3, 3, dtype=torch.float64)
    x, y, z = axis_angle
    skew[0, 1], skew[0, 2], skew[1, 2] = -z, y, -x
    return torch.linalg.matrix_exp(skew - skew.T)


def _problem(*, count=200, outliers=0.3, noise_px=0.3, K1=K1, K2=K2, seed=0):
    """(xy1, xy2, R, t): points of a random cloud in both images, some of the matches wrong."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    R, t = _rotation([0.1, -0.25, 0.05]), torch.tensor([1.0, 0.2, 0.3], dtype=torch.float64)
    t = t / t.norm()
    X = (uniform(count, 3) - 0.5) * torch.tensor([4.0, 3.0, 3.0]) + torch.tensor([0.0, 0.0, 6.0])
    projected = []
    for K, points in ((K1, X), (K2, X @ R.T + t)):
        pixels = points @ K.T
        noise = torch.randn(count, 2, generator=generator, dtype=torch.float64) * noise_px
        projected.append(pixels[:, :2] / pixels[:, 2:] + noise)
    wrong = uniform(count) < outliers
    projected[1] = torch.where(wrong[:, None], uniform(count, 2) * 500, projected[1])
    return projected[0], projected[1], R, t, ~wrong


def _error_deg(pose, R, t):
    angles = relative_pose_error(pose.R, pose.t, R, t, fold_translation=False)
    return math.degrees(max(angle.item() for angle in angles))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_finds_the_pose_among_outliers(estimator):
    xy1, xy2, R, t, right = _problem()
    pose = estimate_pose(estimator, xy1, xy2, K1, K2, max_error_px=1.0)
    assert pose.valid
    assert _error_deg(pose, R, t) < ACCURACY_DEG[estimator]
    assert (pose.inliers & right).sum() > 0.9 * pose.inliers.sum()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_skewed_pixels_change_nothing(estimator):
    skewed = K2.clone()
    skewed[0, 1] = 90.0
    xy1, xy2, R, t, _ = _problem(K2=skewed)
    pose = estimate_pose(estimator, xy1, xy2, K1, skewed, max_error_px=1.0)
    assert _error_deg(pose, R, t) < ACCURACY_DEG[estimator]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_threshold_is_measured_in_pixels_of_the_images_as_they_are(estimator):
    """Images of twice the size and a threshold of twice the pixels are the same problem."""
    xy1, xy2, *_ = _problem()
    double = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))
    pose = estimate_pose(estimator, xy1, xy2, K1, K2, max_error_px=1.0)
    scaled = estimate_pose(estimator, 2 * xy1, 2 * xy2, double @ K1, double @ K2, max_error_px=2.0)
    assert _error_deg(scaled, pose.R, pose.t) < 1e-3
    assert torch.equal(scaled.inliers, pose.inliers)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_same_call_gives_the_same_bits_and_moves_no_global_generator(estimator):
    xy1, xy2, *_ = _problem(outliers=0.6)
    state = torch.get_rng_state()
    first, second = (estimate_pose(estimator, xy1, xy2, K1, K2, max_error_px=1.0, seed=3) for _ in range(2))
    assert torch.equal(first.R, second.R)
    assert torch.equal(first.t, second.t)
    assert torch.equal(first.inliers, second.inliers)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_inliers_are_those_within_the_threshold(estimator):
    """Of matches with a noise of 1 px; the distance to an epipolar line is about as large."""
    xy1, xy2, *_ = _problem(outliers=0.0, noise_px=1.0)
    shares = [
        estimate_pose(estimator, xy1, xy2, K1, K2, max_error_px=threshold).inliers.double().mean().item()
        for threshold in (0.5, 1.0, 4.0)
    ]
    assert shares[0] < 0.6
    assert shares[0] + 0.15 < shares[1] < 0.9
    assert shares[2] > 0.95


@pytest.mark.parametrize("estimator", ["poselib", "pycolmap", "rfp"])
def test_another_seed_draws_other_samples(estimator):
    xy1, xy2, *_ = _problem(outliers=0.6, noise_px=1.0)
    poses = [estimate_pose(estimator, xy1, xy2, K1, K2, max_error_px=1.0, seed=seed).R for seed in range(4)]
    assert not all(torch.equal(poses[0], R) for R in poses[1:])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("count", [0, 1, 4])
def test_fewer_than_five_matches_are_a_failure(estimator, count):
    xy1, xy2, *_ = _problem(count=count)
    pose = estimate_pose(estimator, xy1, xy2, K1, K2, max_error_px=1.0)
    assert not pose.valid
    assert pose.inliers.shape == (count,)
    assert torch.equal(pose.t, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", ["five", "one point", "a line", "no motion"])
def test_degenerate_matches_give_a_finite_answer_or_a_failure(estimator, kind):
    xy1, xy2, *_ = _problem(count=5 if kind == "five" else 30, outliers=0.0)
    if kind == "one point":
        xy1, xy2 = xy1[:1].expand(30, 2).clone(), xy2[:1].expand(30, 2).clone()
    if kind == "a line":
        xy1[:, 1], xy2[:, 1] = 240.0, 260.0
    if kind == "no motion":
        xy2 = xy1.clone()
    pose = estimate_pose(estimator, xy1, xy2, K1, K1 if kind == "no motion" else K2, max_error_px=1.0)
    for tensor in (pose.R, pose.t, pose.E, pose.score):
        assert tensor.isfinite().all()
    torch.testing.assert_close(pose.R @ pose.R.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert pose.t.norm().item() == pytest.approx(1.0, abs=1e-6)


def test_points_of_any_float_type_are_taken():
    xy1, xy2, R, t, _ = _problem()
    pose = estimate_pose("poselib", xy1.float(), xy2.float(), K1.float(), K2.float(), max_error_px=1.0)
    assert _error_deg(pose, R, t) < 0.5


def test_an_unknown_estimator_is_one_line():
    xy1, xy2, *_ = _problem()
    with pytest.raises(InputError, match=r"expected an estimator among poselib, .* got 'magic'"):
        estimate_pose("magic", xy1, xy2, K1, K2, max_error_px=1.0)


def test_true_matches_have_no_epipolar_error_and_displaced_ones_about_their_displacement():
    xy1, xy2, R, t, _ = _problem(outliers=0.0, noise_px=0.0)
    assert epipolar_error_px(xy1, xy2, K1, K2, R, 5 * t).max() < 1e-9
    # Along the normal of the epipolar line, a displacement of 2 px is split between the two images.
    F = torch.linalg.inv(K2).T @ torch.linalg.cross(t.expand(3, 3), R.T).T @ torch.linalg.inv(K1)
    line = torch.cat([xy1, torch.ones(len(xy1), 1)], dim=1) @ F.T
    displaced = xy2 + 2 * line[:, :2] / line[:, :2].norm(dim=1, keepdim=True)
    errors = epipolar_error_px(xy1, displaced, K1, K2, R, t)
    assert (errors < 2).all()
    assert (errors > 0.8).all()


def test_a_fundamental_matrix_verifies_without_cameras():
    xy1, xy2, _, _, right = _problem()
    inliers = fundamental_inliers(xy1, xy2, max_error_px=1.0)
    assert (inliers & right).sum() > 0.9 * right.sum()
    assert (inliers & ~right).sum() < 0.1 * inliers.sum()


def test_seven_matches_verify_nothing():
    xy1, xy2, *_ = _problem(count=7, outliers=0.0)
    assert not fundamental_inliers(xy1, xy2, max_error_px=1.0).any()
    assert fundamental_inliers(xy1[:0], xy2[:0], max_error_px=1.0).shape == (0,)
