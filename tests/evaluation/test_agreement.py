"""The figures agree with independent implementations on shared numbers: glue-factory's, kornia's, OpenCV's."""

import math

import cv2
import numpy as np
import pytest
import torch
from kornia.metrics import auc_from_errors, pose_errors

from rfp.evaluation import estimate_pose, evaluate, pose_auc
from rfp.geometry.pose import relative_pose_error
from tests.evaluation.test_estimators import K1, K2, _problem
from tests.networks import TinyTestNetwork


def published_auc(errors, threshold):
    """SuperGlue's and glue-factory's definition, in NumPy.

    The errors sorted, e_1 ≤ … ≤ e_n, and the recalls i / n, both with a 0 before them; all points whose error is below
    the threshold and one more at the threshold with the last recall; the trapezoids, divided by the threshold.
    """
    errors = np.concatenate([[0.0], np.sort(errors)])
    recall = np.arange(len(errors)) / (len(errors) - 1)
    last = np.searchsorted(errors, threshold)
    x = np.append(errors[:last], threshold)
    y = np.append(recall[:last], recall[last - 1])
    return 100 * float(np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2)) / threshold


@pytest.mark.parametrize("count", [1, 3, 40, 1500])
@pytest.mark.parametrize("seed", range(3))
def test_auc_is_that_of_superglue_and_glue_factory_and_kornia(count, seed):
    numbers = np.random.default_rng(seed)
    errors = np.where(numbers.random(count) < 0.15, 180.0, numbers.gamma(1.0, 6.0, count))
    ours = pose_auc(errors.tolist(), (1, 5, 10, 20))
    assert ours == pytest.approx({threshold: published_auc(errors, threshold) for threshold in ours})
    assert ours == pytest.approx(auc_from_errors(torch.from_numpy(errors), tuple(ours)))


def test_a_report_s_auc_is_the_published_one_of_its_errors(session_pairs_folder):
    from rfp.data import PosedPairs

    report = evaluate(TinyTestNetwork(), PosedPairs(session_pairs_folder), num_keypoints=64)
    assert report.auc == pytest.approx({str(t): published_auc(np.array(report.errors_deg), t) for t in (5, 10, 20)})


@pytest.mark.parametrize("estimator", ["poselib", "opencv-ransac"])
@pytest.mark.parametrize("seed", range(3))
def test_errors_of_estimated_poses_agree_with_kornia_and_with_rodrigues(estimator, seed):
    xy1, xy2, R, t, _ = _problem(outliers=0.5, noise_px=1.5, seed=seed)
    pose = estimate_pose(estimator, xy1, xy2, K1, K2, max_error_px=3.0)
    rotation, translation = relative_pose_error(pose.R, pose.t, R, t, fold_translation=True)
    ours = [math.degrees(value.item()) for value in (rotation, translation)]
    estimate, truth = (torch.cat([a, b[:, None]], dim=1) for a, b in ((pose.R, pose.t), (R, t)))
    kornias = pose_errors(estimate, truth, fold_translation=True)
    assert ours == pytest.approx([kornias["R_err"].item(), kornias["t_err"].item()], abs=1e-4)
    assert max(ours) == pytest.approx(kornias["max_err"].item(), abs=1e-4)
    vector, _ = cv2.Rodrigues((pose.R.T @ R).numpy())
    cosine = min(1.0, abs(float(pose.t @ t)) / float(pose.t.norm() * t.norm()))
    assert ours[0] == pytest.approx(math.degrees(np.linalg.norm(vector)), abs=1e-6)
    assert ours[1] == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-5)
    assert ours[0] > 1e-3
