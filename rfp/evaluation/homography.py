"""Measures of key points and matches between two views of a plane, whose homography is known: as they were published.

D2-Net is M. Dusmanu et al., D2-Net: a trainable CNN for joint description and detection of local features (CVPR 2019);
SuperPoint is D. DeTone et al., SuperPoint: self-supervised interest point detection and description (CVPR workshops
2018), whose appendix "Evaluation metrics" defines repeatability, matching score and homography estimation. ``H`` maps
pixels of image 1 to pixels of image 2, pixel (0, 0) being the centre of the top-left pixel.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.evaluation.auc import Threshold

THRESHOLDS_PX = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
"""Of the mean matching accuracy, as in D2-Net's curves."""

CORNER_THRESHOLDS_PX = (1, 3, 5)
"""Of the homography's error at the corners, as in SuperPoint's table."""

Size = tuple[int, int]
"""(height, width) in pixels."""


def transfer(xy_px: Float[Tensor, "N 2"], H: Float[Tensor, "3 3"]) -> Float[Tensor, "N 2"]:
    """The points ``π(H (x, y, 1))`` in float64; infinite where H takes them to infinity.

    >>> transfer(torch.tensor([[1.0, 2.0]]), torch.diag(torch.tensor([2.0, 2.0, 1.0])))
    tensor([[2., 4.]], dtype=torch.float64)
    """
    moved = xy_px.double() @ H[:, :2].double().T + H[:, 2].double()
    w = moved[:, 2:]
    return torch.where(w == 0, math.inf, moved[:, :2] / torch.where(w == 0, 1.0, w))


def transfer_error_px(
    xy1_px: Float[Tensor, "M 2"], xy2_px: Float[Tensor, "M 2"], H: Float[Tensor, "3 3"]
) -> Float[Tensor, "M"]:
    """The distance in image 2 of each match: ``‖π(H x1) - x2‖``, in pixels (Hartley and Zisserman, section 4.2.1)."""
    return torch.linalg.vector_norm(transfer(xy1_px, H) - xy2_px.double(), dim=-1)


def matching_accuracy(
    errors_px: Float[Tensor, "M"], thresholds_px: Sequence[Threshold] = THRESHOLDS_PX
) -> dict[Threshold, float]:
    """The share of a pair's matches with ``‖π(H x1) - x2‖ ≤ ε``, in percent, by ε; 0 for a pair without matches.

    Its mean over the pairs, every pair counting the same, is the *mean matching accuracy* of D2-Net, section 5.1
    (after K. Mikolajczyk and C. Schmid, A performance evaluation of local descriptors, 2005).

    >>> matching_accuracy(torch.tensor([0.5, 1.0, 2.5, 20.0]), (1, 3))
    {1: 50.0, 3: 75.0}
    """
    if len(errors_px) == 0:
        return dict.fromkeys(thresholds_px, 0.0)
    return {threshold: 100 * (errors_px <= threshold).double().mean().item() for threshold in thresholds_px}


def visible(
    xy_px: Float[Tensor, "N 2"], H: Float[Tensor, "3 3"], size: Size
) -> tuple[Float[Tensor, "N 2"], Bool[Tensor, "N"]]:
    """The points in the other image, and which of them are within its ``size``: -½ ≤ x < w - ½, -½ ≤ y < h - ½."""
    moved = transfer(xy_px, H)
    height, width = size
    x, y = moved.unbind(dim=-1)
    return moved, (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)


def repeatability(
    xy1_px: Float[Tensor, "K1 2"],
    xy2_px: Float[Tensor, "K2 2"],
    H: Float[Tensor, "3 3"],
    size1: Size,
    size2: Size,
    *,
    max_error_px: float = 3.0,
) -> float:
    """The share of key points that the other view has, too, in percent (SuperPoint's appendix); 0 without any.

    ``(Σᵢ [min_j ‖x̂₁ᵢ - x₂ⱼ‖ ≤ ε] + Σⱼ [min_i ‖x̂₁ᵢ - x₂ⱼ‖ ≤ ε]) / (N₁ + N₂)`` with ``x̂₁ = π(H x₁)``. The N₁ and N₂ key
    points are those within the view of both images; distances are taken in image 2. It grows with the number of key
    points, so it compares detectors at equal numbers only.
    """
    seen1, shared1 = visible(xy1_px, H, size2)
    _, shared2 = visible(xy2_px, torch.linalg.inv(H.double()), size1)
    points1, points2 = seen1[shared1], xy2_px[shared2].double()
    if len(points1) == 0 or len(points2) == 0:
        return 0.0
    near = torch.cdist(points1, points2, compute_mode="donot_use_mm_for_euclid_dist") <= max_error_px
    repeated = near.any(dim=1).sum() + near.any(dim=0).sum()
    return 100 * repeated.item() / (len(points1) + len(points2))


def matching_score(
    xy1_px: Float[Tensor, "K1 2"],
    xy2_px: Float[Tensor, "K2 2"],
    matched1_px: Float[Tensor, "M 2"],
    matched2_px: Float[Tensor, "M 2"],
    H: Float[Tensor, "3 3"],
    size1: Size,
    size2: Size,
    *,
    max_error_px: float = 3.0,
) -> float:
    """The share of the key points in the shared view that end in a correct match, in percent (SuperPoint's appendix).

    Counted from either image and averaged: ``½ Σ (correct matches of shared key points) / (shared key points)``,
    correct being ``‖π(H x₁) - x₂‖ ≤ ε`` from image 1 and ``‖π(H⁻¹ x₂) - x₁‖ ≤ ε`` from image 2. An image without a
    key point in the shared view counts with 0.
    """
    back = torch.linalg.inv(H.double())
    shares = []
    for keypoints, here, there, map_, size in (
        (xy1_px, matched1_px, matched2_px, H, size2),
        (xy2_px, matched2_px, matched1_px, back, size1),
    ):
        shared = visible(keypoints, map_, size)[1].sum().item()
        correct = (transfer_error_px(here, there, map_) <= max_error_px) & visible(here, map_, size)[1]
        shares.append(correct.sum().item() / shared if shared else 0.0)
    return 100 * sum(shares) / 2


def corner_error_px(H: Float[Tensor, "3 3"], H_true: Float[Tensor, "3 3"], size1: Size) -> float:
    """The mean distance that the corners of image 1 land apart, in pixels of image 2 (SuperPoint's appendix).

    ``¼ Σ ‖π(H c) - π(H* c)‖`` over the centres of the four outermost pixels c. The share of pairs for which it is at
    most ε is SuperPoint's accuracy, the area under the curve of that share (:func:`rfp.evaluation.pose_auc`, with
    pixels in place of degrees) the AUC of SuperGlue and LoFTR.

    >>> shifted = torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0], [0.0, 0.0, 1.0]])
    >>> corner_error_px(shifted, torch.eye(3), (48, 64))
    5.0
    """
    height, width = size1
    right, bottom = width - 1.0, height - 1.0
    corners = torch.tensor([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]], dtype=torch.float64)
    error = transfer_error_px(corners, transfer(corners, H_true), H).mean().item()
    return error if math.isfinite(error) else math.inf
