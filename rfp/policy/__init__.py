"""The policies: key points from a heat map, matches from descriptors. They never see the estimator."""

from rfp.matching.nearest_neighbours import mutual_nearest_neighbours
from rfp.policy.keypoints import KeypointOptions, draw_keypoints, keypoint_distribution, top_keypoints
from rfp.policy.matches import MatchOptions, draw_matches, match_distribution

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
