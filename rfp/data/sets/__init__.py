"""Known data sets, each by its standard files, as sequences of pairs. One file a set."""

from rfp.data.sets.homography_folder import HomographyFolder
from rfp.data.sets.homography_records import HomographyPair, HomographyRecord
from rfp.data.sets.hpatches import LARGE_SEQUENCES, HPatches
from rfp.data.sets.joined_pairs import JoinedPairs, PosedPairSet
from rfp.data.sets.megadepth import MegaDepthPairs
from rfp.data.sets.recognition import OpenedPairs, needs_image_folder, open_posed_pairs, open_set
from rfp.data.sets.reinforced_feature_points import ReinforcedFeaturePointsPairs
from rfp.data.sets.superglue_pairs import SuperGluePairs
from rfp.data.sets.tum import TUMSequence

__all__ = [
    "LARGE_SEQUENCES",
    "HPatches",
    "HomographyFolder",
    "HomographyPair",
    "HomographyRecord",
    "JoinedPairs",
    "MegaDepthPairs",
    "OpenedPairs",
    "PosedPairSet",
    "ReinforcedFeaturePointsPairs",
    "SuperGluePairs",
    "TUMSequence",
    "needs_image_folder",
    "open_posed_pairs",
    "open_set",
]
