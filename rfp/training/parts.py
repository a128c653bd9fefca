"""The parts of a network: what only its detector uses, what only its descriptors use, and what both share."""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.models.state import in_eval_mode
from rfp.rollout import FeatureNetwork

Part = Literal["detector", "descriptor", "shared"]
PARTS: tuple[Part, ...] = get_args(Part)


def network_parts(network: FeatureNetwork, image: Float[Tensor, "3 h w"]) -> dict[str, Part]:
    """The part of each parameter that requires a gradient, by its name.

    Found by asking which outputs depend on it, so that it holds for any network: the heat map alone makes it the
    detector's, the descriptors alone the descriptor's, both (or neither) shared.

    Args:
        image: Any image that the network takes, on its device. Values do not matter.
    """
    assert isinstance(network, nn.Module)
    named = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    with in_eval_mode(network), torch.enable_grad():
        features = network.extract(image[None])
        middle = image.new_zeros(1, 1, 2)
        outputs = {"detector": features.log_heat, "descriptor": network.describe(features, middle)}
    reaches = {part: _reached(output, list(named.values())) for part, output in outputs.items()}
    alone: dict[tuple[bool, bool], Part] = {(True, False): "detector", (False, True): "descriptor"}
    return {
        name: alone.get((heat, descriptor), "shared")
        for name, heat, descriptor in zip(named, reaches["detector"], reaches["descriptor"], strict=True)
    }


def gradient_norms(
    named_parameters: Iterable[tuple[str, nn.Parameter]], parts: Mapping[str, Part]
) -> dict[str, Float[Tensor, ""]]:
    """``gradient_norm_PART`` of each part that has gradients, 0 where one is not finite. Waits for nothing."""
    of_part: dict[Part, list[Tensor]] = {part: [] for part in PARTS}
    for name, parameter in named_parameters:
        if parameter.grad is not None and name in parts:
            of_part[parts[name]].append(parameter.grad)
    norms = {part: torch.nn.utils.get_total_norm(gradients) for part, gradients in of_part.items() if gradients}
    return {f"gradient_norm_{part}": torch.where(norm.isfinite(), norm, 0.0) for part, norm in norms.items()}


def _reached(output: Tensor, parameters: list[nn.Parameter]) -> list[bool]:
    """Whether the output depends on each parameter, by the graph alone."""
    if not output.requires_grad:
        return [False] * len(parameters)
    gradients = torch.autograd.grad(output.sum(), parameters, retain_graph=True, allow_unused=True)
    return [gradient is not None for gradient in gradients]
