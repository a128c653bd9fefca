"""Pictures of matches and of training runs; matplotlib is imported here only."""

from rfp.plotting.diagnosis import DrawnNoise, DrawnPair, DrawnPolicy, draw_diagnosis
from rfp.plotting.epipolar_lines import DrawnEpipolarLines, draw_epipolar_lines
from rfp.plotting.errors import (
    AccuracyCurve,
    ErrorCurve,
    draw_accuracy_curves,
    draw_error_curves,
    draw_paired_errors,
)
from rfp.plotting.figures import save_figure
from rfp.plotting.heat import DrawnHeat, draw_heat
from rfp.plotting.keypoints import draw_keypoints_of_networks
from rfp.plotting.matches import DrawnMatches, draw_matches, draw_matches_of_networks
from rfp.plotting.pretraining import draw_pretraining
from rfp.plotting.runs import LoggedRun, draw_runs

__all__ = [
    "AccuracyCurve",
    "DrawnEpipolarLines",
    "DrawnHeat",
    "DrawnMatches",
    "DrawnNoise",
    "DrawnPair",
    "DrawnPolicy",
    "ErrorCurve",
    "LoggedRun",
    "draw_accuracy_curves",
    "draw_diagnosis",
    "draw_epipolar_lines",
    "draw_error_curves",
    "draw_heat",
    "draw_keypoints_of_networks",
    "draw_matches",
    "draw_matches_of_networks",
    "draw_paired_errors",
    "draw_pretraining",
    "draw_runs",
    "save_figure",
]
