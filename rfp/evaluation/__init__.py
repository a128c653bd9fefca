"""Evaluation: the network as deployed, judged by the relative poses that outside estimators find from its matches."""

from rfp.evaluation.auc import mean_clipped_accuracy, pose_auc, pose_auc_binned
from rfp.evaluation.estimators import ESTIMATORS, EstimatorName, estimate_pose
from rfp.evaluation.evaluate import check_settings, evaluate
from rfp.evaluation.matching import epipolar_error_px, fundamental_inliers, match_features, match_images
from rfp.evaluation.report import EvaluationReport, SceneFigures, describe_settings, format_scenes, format_table

__all__ = [
    "ESTIMATORS",
    "EstimatorName",
    "EvaluationReport",
    "SceneFigures",
    "check_settings",
    "describe_settings",
    "epipolar_error_px",
    "estimate_pose",
    "evaluate",
    "format_scenes",
    "format_table",
    "fundamental_inliers",
    "match_features",
    "match_images",
    "mean_clipped_accuracy",
    "pose_auc",
    "pose_auc_binned",
]
