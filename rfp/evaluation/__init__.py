"""Evaluation: the network as deployed, judged by the relative poses that outside estimators find from its matches."""

from rfp.evaluation.auc import mean_clipped_accuracy, pose_auc, pose_auc_binned
from rfp.evaluation.comparison import Comparison, compare, format_comparison
from rfp.evaluation.estimators import ESTIMATORS, EstimatorName, estimate_pose
from rfp.evaluation.evaluate import check_settings, evaluate
from rfp.evaluation.matching import epipolar_error_px, fundamental_inliers, match_features, match_images
from rfp.evaluation.pose_figures import EvaluationReport, PairErrors, SceneFigures, pair_errors, read_pair_errors
from rfp.evaluation.report import describe_settings, format_scenes, format_scenes_markdown, format_table
from rfp.evaluation.sweep import Sweep, format_sweep, sweep

__all__ = [
    "ESTIMATORS",
    "Comparison",
    "EstimatorName",
    "EvaluationReport",
    "PairErrors",
    "SceneFigures",
    "Sweep",
    "check_settings",
    "compare",
    "describe_settings",
    "epipolar_error_px",
    "estimate_pose",
    "evaluate",
    "format_comparison",
    "format_scenes",
    "format_scenes_markdown",
    "format_sweep",
    "format_table",
    "fundamental_inliers",
    "match_features",
    "match_images",
    "mean_clipped_accuracy",
    "pair_errors",
    "pose_auc",
    "pose_auc_binned",
    "read_pair_errors",
    "sweep",
]
