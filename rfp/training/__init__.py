"""Training: options, the trainer, checkpoints and the metrics log."""

from rfp.training.options import JudgeOptions, TrainerOptions
from rfp.training.trainer import Trainer, TrainingSummary

__all__ = ["JudgeOptions", "Trainer", "TrainerOptions", "TrainingSummary"]
