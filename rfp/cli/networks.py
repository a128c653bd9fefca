"""The one or two networks that a command judges, with their matchers."""

from typing import Any

from rfp.matching.match import MatchingFunction, load_matcher
from rfp.models import load_network
from rfp.models.pretrained import network_name
from rfp.records import InputError


def load_networks(network: str, compare: str | None, matcher: str) -> dict[str, tuple[Any, MatchingFunction]]:
    """(network, matcher) by the name given on the command line, the one to compare with last.

    Raises:
        InputError: one network twice, an unknown one, or a matcher that does not fit it.
    """
    if compare == network:
        raise InputError(f"--compare: expected another network than --network, got {compare!r} twice")
    names = [network] + ([compare] if compare else [])
    loaded = {name: load_network(name) for name in names}
    # The network's own name, not the command line's: a run folder says nothing about its descriptors.
    return {name: (each, load_matcher(matcher, network=network_name(each))) for name, each in loaded.items()}
