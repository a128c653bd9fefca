"""Evaluation: the network as deployed, judged by the relative poses that outside estimators find from its matches."""

from rfp.evaluation.auc import mean_clipped_accuracy, pose_auc, pose_auc_binned
from rfp.evaluation.estimators import ESTIMATORS, EstimatorName, estimate_pose
from rfp.evaluation.evaluate import evaluate
from rfp.evaluation.matching import epipolar_error_px, match_features
from rfp.evaluation.report import EvaluationReport, SceneFigures, describe_settings, format_scenes, format_table

__all__ = [
    "ESTIMATORS",
    "EstimatorName",
    "EvaluationReport",
    "SceneFigures",
    "describe_settings",
    "epipolar_error_px",
    "estimate_pose",
    "evaluate",
    "format_scenes",
    "format_table",
    "match_features",
    "mean_clipped_accuracy",
    "pose_auc",
    "pose_auc_binned",
]
