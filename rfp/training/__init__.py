"""Training: options, the trainer, pretraining, checkpoints and the metrics log."""

from rfp.training.options import JudgeOptions, TrainerOptions
from rfp.training.pretraining import Pretrainer, PretrainingSummary
from rfp.training.pretraining_options import PretrainingOptions
from rfp.training.pretraining_pairs import PosedViews, RenderedViews, verified_matches
from rfp.training.pretraining_sources import HomographyViews, label_sources, load_sources
from rfp.training.trainer import Trainer, TrainingSummary

__all__ = [
    "HomographyViews",
    "JudgeOptions",
    "PosedViews",
    "Pretrainer",
    "PretrainingOptions",
    "PretrainingSummary",
    "RenderedViews",
    "Trainer",
    "TrainerOptions",
    "TrainingSummary",
    "label_sources",
    "load_sources",
    "verified_matches",
]
