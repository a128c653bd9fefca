"""The one or two networks that a command judges, with their matchers."""

from typing import Any

from rfp.matching.match import MatchingFunction, load_matcher
from rfp.models import load_network
from rfp.records import InputError


def load_networks(network: str, compare: str | None, matcher: str) -> dict[str, tuple[Any, MatchingFunction]]:
    """(network, matcher) by the name given on the command line, the one to compare with last.

    Raises:
        InputError: one network twice, an unknown one, or a matcher that does not fit it.
    """
    if compare == network:
        raise InputError(f"--compare: expected another network than --network, got {compare!r} twice")
    names = [network] + ([compare] if compare else [])
    return {name: (load_network(name), load_matcher(matcher, network=name)) for name in names}
