"""What can be trained: which networks, which of their parameters, and at which share of the learning rate."""

import fnmatch
import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from rfp.records import InputError


def no_feature_network(network: nn.Module) -> InputError:
    """What is said of a network that is no ``FeatureNetwork``."""
    return InputError(
        f"expected a network with the methods extract and describe, got {type(network).__name__}; "
        "see the documentation's page on your own network"
    )


def trainable_parameters(network: nn.Module, frozen: Sequence[str] = ()) -> list[nn.Parameter]:
    """The parameters that require a gradient and match none of the shell patterns.

    Raises:
        InputError: a pattern that matches no parameter, or nothing left to train.
    """
    return list(_trainable(network, frozen).values())


def parameter_groups(network: nn.Module, frozen: Sequence[str] = (), rates: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The trainable parameters as an optimiser's groups, each with its ``factor`` on the learning rate.

    Args:
        rates: "PATTERN=FACTOR", PATTERN in the shell's manner. The last one that matches a parameter holds; what none
            matches has 1.

    Raises:
        InputError: what ``trainable_parameters`` says; an entry of another form; one that decides no parameter.

    >>> from torch import nn
    >>> network = nn.ModuleDict({"heat": nn.Linear(1, 1), "descriptors": nn.Linear(1, 1)})
    >>> [(group["factor"], len(group["params"])) for group in parameter_groups(network, (), ("heat.*=0.1",))]
    [(0.1, 2), (1.0, 2)]
    """
    trainable = _trainable(network, frozen)
    factors = [_parsed(entry) for entry in rates]
    chosen = {
        name: next((k for k in reversed(range(len(factors))) if fnmatch.fnmatchcase(name, factors[k][0])), None)
        for name in trainable
    }
    for number, entry in enumerate(rates):
        if number not in chosen.values():
            raise InputError(
                f"rate {entry!r} decides no parameter: nothing to train matches it, or later rates take all that do; "
                f"the first ones are {list(trainable)[:3]}"
            )
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        number = chosen[name]
        groups.setdefault(1.0 if number is None else factors[number][1], []).append(parameter)
    return [{"params": members, "factor": factor} for factor, members in groups.items()]


def _parsed(entry: str) -> tuple[str, float]:
    """(pattern, factor) of one rate."""
    pattern, _, number = entry.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if not pattern or not 0.0 < factor < math.inf:
        raise InputError(
            f"rate {entry!r}: expected PATTERN=FACTOR with a factor above 0, 'heat*=0.1' for example; what must not "
            "change is frozen"
        )
    return pattern, factor


def _trainable(network: nn.Module, frozen: Sequence[str]) -> dict[str, nn.Parameter]:
    """The parameters to train by their names."""
    names = [name for name, _ in network.named_parameters()]
    for pattern in frozen:
        if not fnmatch.filter(names, pattern):
            raise InputError(f"frozen pattern {pattern!r} matches no parameter; the first ones are {names[:3]}")
    chosen = {
        name: parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and not any(fnmatch.fnmatchcase(name, pattern) for pattern in frozen)
    }
    if not chosen:
        raise InputError("expected at least one parameter to train, got none; freeze fewer of them")
    return chosen
