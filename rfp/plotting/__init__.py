"""Pictures of matches and of training runs; matplotlib is imported here only."""

from rfp.plotting.curves import draw_training, reward_curve
from rfp.plotting.figures import save_figure
from rfp.plotting.matches import DrawnMatches, draw_matches, draw_matches_of_networks

__all__ = [
    "DrawnMatches",
    "draw_matches",
    "draw_matches_of_networks",
    "draw_training",
    "reward_curve",
    "save_figure",
]
