"""Evaluation: the network as deployed, judged by the tasks that its key points and matches are for."""

from rfp.evaluation.absolute_pose_estimators import find_absolute_pose
from rfp.evaluation.auc import mean_clipped_accuracy, pose_auc, pose_auc_binned
from rfp.evaluation.comparison import Comparison, compare, format_comparison
from rfp.evaluation.estimators import ESTIMATORS, EstimatorName, estimate_pose
from rfp.evaluation.evaluate import check_settings, evaluate
from rfp.evaluation.homography_estimators import find_homography
from rfp.evaluation.homography_evaluation import evaluate_homographies
from rfp.evaluation.homography_report import HomographyReport, format_homographies
from rfp.evaluation.localization import LocalizationOptions, evaluate_localization
from rfp.evaluation.localization_report import LocalizationReport, format_localizations
from rfp.evaluation.matching import epipolar_error_px, fundamental_inliers, match_features, match_images
from rfp.evaluation.pose_figures import EvaluationReport, PairErrors, SceneFigures, pair_errors, read_pair_errors
from rfp.evaluation.reconstruction import MappingOptions, reconstruct
from rfp.evaluation.reconstruction_report import (
    ReconstructionReport,
    evaluate_reconstruction,
    format_reconstructions,
)
from rfp.evaluation.report import describe_settings, format_scenes, format_scenes_markdown, format_table
from rfp.evaluation.sweep import Sweep, format_sweep, sweep
from rfp.evaluation.true_poses import TruePoses, read_true_poses

__all__ = [
    "ESTIMATORS",
    "Comparison",
    "EstimatorName",
    "EvaluationReport",
    "HomographyReport",
    "LocalizationOptions",
    "LocalizationReport",
    "MappingOptions",
    "PairErrors",
    "ReconstructionReport",
    "SceneFigures",
    "Sweep",
    "TruePoses",
    "check_settings",
    "compare",
    "describe_settings",
    "epipolar_error_px",
    "estimate_pose",
    "evaluate",
    "evaluate_homographies",
    "evaluate_localization",
    "evaluate_reconstruction",
    "find_absolute_pose",
    "find_homography",
    "format_comparison",
    "format_homographies",
    "format_localizations",
    "format_reconstructions",
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
    "read_true_poses",
    "reconstruct",
    "sweep",
]
