"""The policies: key points from a heat map, matches from descriptors. They never see the estimator."""

from rfp.policy.keypoints import KeypointOptions, draw_keypoints, keypoint_distribution, top_keypoints
from rfp.policy.matches import MatchOptions, draw_matches, match_distribution, mutual_nearest_neighbours

__all__ = [
    "KeypointOptions",
    "MatchOptions",
    "draw_keypoints",
    "draw_matches",
    "keypoint_distribution",
    "match_distribution",
    "mutual_nearest_neighbours",
    "top_keypoints",
]
