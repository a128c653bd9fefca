"""REINFORCE: rewards and log-probabilities in, a surrogate loss out."""

from rfp.reinforce.baselines import BASELINES, Baseline, nested_advantages
from rfp.reinforce.diagnostics import draw_statistics
from rfp.reinforce.surrogate import surrogate_loss, surrogate_per_pair

__all__ = ["BASELINES", "Baseline", "draw_statistics", "nested_advantages", "surrogate_loss", "surrogate_per_pair"]
