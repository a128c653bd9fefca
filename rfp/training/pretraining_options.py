"""Everything that decides how a network is pretrained, as a frozen dataclass; the command line is made from it."""

import math
from dataclasses import dataclass, field

from rfp.data.augmentation import PhotometricAugmentation
from rfp.records import InputError
from rfp.training.options import JudgeOptions

WIDE_AUGMENTATION = PhotometricAugmentation(brightness=0.2, contrast=0.4, gamma=0.4, blur=1.3, noise=0.04)
"""Wider than the trainer's: homographies bring no light of their own."""


@dataclass(frozen=True)
class PretrainingOptions:
    """Options of low-level pretraining."""

    steps: int = 20000
    """Optimiser steps at most."""
    seconds: float = 600.0
    """Stop before the last step after this long, validations included; the schedule follows whichever ends first. With
    inf for all the steps the result depends on the seed alone."""
    pairs_per_step: int = 4
    """Pairs of views that each step learns from."""
    learning_rate: float | None = None
    """AdamW's, after the warm-up: 2e-3 from random weights, 1e-4 for a network that is trained already."""
    weight_decay: float = 1e-4
    """AdamW's."""
    clip_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    averaging: float = 0.999
    """Decay of the exponential average of the weights, which is what is validated and kept."""
    frozen: tuple[str, ...] = ()
    """Shell patterns of parameters that must not change, for example 'heat*'."""
    points: int = 384
    """Correspondences of a pair that teach the descriptors, at most."""
    temperature: float = 0.06
    """Of the cosine similarities in the cross-entropy."""
    jitter_px: float = 0.5
    """Standard deviation of the points' positions: a detector is not exact either."""
    heat_weight: float = 0.5
    """Weight of the detector's term beside the descriptors'; 0 leaves the detector to itself."""
    distillation_weight: float = 0.0
    """Weight of matching the similarities between the teacher's descriptors; needs a teacher that has some."""
    augment: bool = True
    """Photometric changes, independent for the two views of a pair."""
    augmentation: PhotometricAugmentation = field(default_factory=lambda: WIDE_AUGMENTATION)
    """How strong they are."""
    bfloat16: bool = False
    """Compute the network's maps in bfloat16, faster where the hardware knows it. From random weights a GPU does so
    anyway."""
    seed: int = 0
    """Decides the views and every draw."""
    validate_every: int = 1000
    """Steps between validations; the best weights are kept."""
    checkpoint_every: int = 200
    """Steps between checkpoints to resume from."""
    log_every: int = 20
    """Steps between readings of the metrics (each reading waits for the device)."""
    judge: JudgeOptions = field(default_factory=JudgeOptions)

    def __post_init__(self):
        counts = ("steps", "pairs_per_step", "points", "validate_every", "checkpoint_every", "log_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError(f"expected {name} of at least 1, got {getattr(self, name)}")
        for name in ("clip_norm", "temperature"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise InputError(f"expected {name} above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "jitter_px", "heat_weight", "distillation_weight"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"expected {name} of at least 0, got {getattr(self, name)}")
        if not self.seconds > 0:
            raise InputError(f"expected seconds above 0, got {self.seconds}; inf for all the steps")
        if self.learning_rate is not None and not 0.0 < self.learning_rate < math.inf:
            raise InputError(f"expected learning_rate above 0, got {self.learning_rate}; 2e-3 or 1e-4 are usual")
        if not 0.0 <= self.averaging < 1.0:
            raise InputError(f"expected averaging of at least 0 and below 1, got {self.averaging}; 0.999 is usual")
