"""Matchers: from two sets of key points with descriptors to scored matches. They need no network and no camera."""

from rfp.matching.dual_softmax import DualSoftmax, dual_softmax
from rfp.matching.lightglue import LightGlue
from rfp.matching.match import MATCHERS, load_matcher, match
from rfp.matching.nearest_neighbours import (
    ImageSize,
    MutualNearestNeighbours,
    RatioTest,
    mutual_nearest_neighbours,
)
from rfp.matching.scored_matches import ScoredMatches

__all__ = [
    "MATCHERS",
    "DualSoftmax",
    "ImageSize",
    "LightGlue",
    "MutualNearestNeighbours",
    "RatioTest",
    "ScoredMatches",
    "dual_softmax",
    "load_matcher",
    "match",
    "mutual_nearest_neighbours",
]
