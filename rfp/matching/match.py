"""Matchers by name, and one function in front of them all."""

from collections.abc import Callable
from typing import Literal

from rfp.matching.dual_softmax import DualSoftmax
from rfp.matching.lightglue import LIGHTGLUE_FEATURES, LightGlue
from rfp.matching.nearest_neighbours import ImageSize, MutualNearestNeighbours, RatioTest
from rfp.matching.scored_matches import ScoredMatches
from rfp.records import Features, InputError

MatcherName = Literal["mutual", "ratio", "dual-softmax", "lightglue", "lightglue-aliked", "lightglue-disk"]

MatchingFunction = Callable[[Features, Features, ImageSize | None, ImageSize | None], ScoredMatches]
"""What :class:`rfp.rollout.Matcher` is, for the rooms below it."""

MATCHERS: dict[str, Callable[[], MatchingFunction]] = {
    "mutual": MutualNearestNeighbours,
    "ratio": RatioTest,
    "dual-softmax": DualSoftmax,
    **{f"lightglue-{features}": lambda features=features: LightGlue(features) for features in LIGHTGLUE_FEATURES},
}
"""With their default options. "lightglue" alone takes the one that fits the network."""


def load_matcher(name: str, *, network: str = "") -> MatchingFunction:
    """The matcher of that name with its default options.

    Args:
        name: "mutual", "ratio", "dual-softmax", "lightglue-aliked" or "lightglue-disk"; or "lightglue", which chooses
            the weights by the network.
        network: The name of the network that the features come from; read by "lightglue" only.

    Raises:
        InputError: no such matcher, or LightGlue without weights for this network.

    Example:
        >>> str(load_matcher("mutual"))
        'mutual nearest neighbours'
    """
    if name == "lightglue":
        fitting = [features for features in LIGHTGLUE_FEATURES if network.startswith(features)]
        if not fitting:
            known = " and ".join(f"lightglue-{features}" for features in LIGHTGLUE_FEATURES)
            raise InputError(
                f"expected a network that LightGlue was trained for (aliked-n16 or disk), got {network or 'no name'!r}"
                f"; take another matcher, or name the weights: {known}"
            )
        name = f"lightglue-{fitting[0]}"
    if name not in MATCHERS:
        raise InputError(f"expected a matcher among {', '.join(MATCHERS)} and lightglue, got {name!r}")
    return MATCHERS[name]()


def match(
    features1: Features,
    features2: Features,
    matcher: str | MatchingFunction = "mutual",
    *,
    size1: ImageSize | None = None,
    size2: ImageSize | None = None,
) -> ScoredMatches:
    """The matches of B pairs of images: slot i of a pair is key point i of its image 1.

    Args:
        matcher: A name of ``MATCHERS``, or any object with the signature of :class:`rfp.rollout.Matcher`.
        size1: (height, width) of the images 1; LightGlue needs it, the others don't.
        size2: Of the images 2.

    Raises:
        InputError: no such matcher, or what it says itself.

    Example:
        >>> import torch
        >>> from rfp.records import Features
        >>> descriptor = torch.eye(3)[None]
        >>> features = Features(torch.zeros(1, 3, 2), torch.zeros(1, 3), descriptor, torch.ones(1, 3).bool())
        >>> flipped = Features(features.xy_px, features.score, descriptor.flip(1), features.valid)
        >>> match(features, flipped).index2
        tensor([[2, 1, 0]])
    """
    matching = load_matcher(matcher) if isinstance(matcher, str) else matcher
    return matching(features1, features2, size1, size2)
