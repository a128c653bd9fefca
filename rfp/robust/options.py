"""How much work RANSAC does, as a frozen dataclass."""

import math
import numbers
from dataclasses import dataclass
from typing import Literal

from rfp.records import InputError


@dataclass(frozen=True, kw_only=True)
class RansacOptions:
    """How much work RANSAC does for each problem. The budget is fixed, unless an early stop is asked for."""

    num_hypotheses: int = 128
    """Minimal samples a problem from all its matches; each gives up to ten candidates. The more outliers, the more are
    needed, but far fewer than for a sample without outliers: see ``resample_rounds``."""
    resample_rounds: int = 3
    """Rounds of a second stage: minimal samples from the inliers of the best models so far. Most of these models are
    wrong, and yet their inliers hold more true matches than the whole, so that a few rounds climb to a sample without
    outliers. At 25 % inliers it is worth more than ten times the hypotheses (``benchmarks/robust_estimation.py``).
    0 leaves it out."""
    num_resampled: int = 8
    """Models a round whose inliers are sampled from."""
    resamples: int = 8
    """Minimal samples a round from each of them."""
    tile: int | None = None
    """Minimal samples solved at once, over all problems together; bounds the memory and changes no result.
    None: 4096 on the CPU, so that the work stays in its caches, and 65536 elsewhere."""
    num_scoring_points: int = 96
    """Matches on which every candidate is scored. The fewer inliers, the more it takes to see which of the first models
    are a little better than chance, and the second stage begins with those."""
    num_preselected: int = 128
    """Candidates a problem, the best on those, that are scored on four times as many."""
    num_finalists: int = 32
    """Candidates a problem, the best on those, that are scored on all matches, with cheirality."""
    num_refined: int = 8
    """Finalists a problem that are optimised locally, at most all of them. Refinement decides the accuracy, and beside
    a wrong pose that fits a plane a true one often needs it to win."""
    refinement_iterations: int = 8
    """Gauss–Newton steps of each. With few good samples the optimum is far, and takes more of them."""
    solver_dtype: Literal["float64", "float32"] = "float64"
    """Of the minimal solver. float32 is faster, and loses the true matrix in some of the samples."""
    score: Literal["msac", "likelihood"] = "msac"
    """What an inlier at e thresholds gains: ``1 - e²``, or the log-likelihood ratio of a Gaussian inlier and a uniform
    outlier, which are equally likely at the threshold. Both fall from 1 at e = 0 to 0 at e = 1."""
    early_stop: float | None = None
    """Between tiles, leave out the problems whose best model has so many inliers that a sample of nothing else was
    drawn with this confidence (0.9999, say). Waits for the device at each tile, so it is for the CPU; saves time and
    changes no other problem's result."""

    @classmethod
    def for_inlier_ratio(
        cls, inlier_ratio: float, *, confidence: float = 0.99, sample_size: int = 5, **changes
    ) -> "RansacOptions":
        """As many hypotheses as hold a sample of inliers alone with this confidence, without a second stage.

        ``n = log(1 - confidence) / log(1 - inlier_ratioˢ)`` (M. Fischler and R. Bolles, Random sample consensus, 1981).
        Such a sample need not give a good model where there is noise; the second stage gets by with far fewer.

        >>> RansacOptions.for_inlier_ratio(0.4).num_hypotheses
        448

        Raises:
            InputError: a ratio below 0.01, or a ratio or a confidence that is not between 0 and 1.
        """
        if not (0.01 <= inlier_ratio < 1.0 and 0.0 < confidence < 1.0):
            raise InputError(
                "expected inlier_ratio between 0.01 and 1 and confidence between 0 and 1, got "
                f"{inlier_ratio} and {confidence}"
            )
        number = math.ceil(math.log1p(-confidence) / math.log1p(-(inlier_ratio**sample_size)))
        return cls(**{"num_hypotheses": number, "resample_rounds": 0, **changes})

    def __post_init__(self):
        """Refuses what cannot be computed.

        Raises:
            InputError: which option, on one line.
        """
        positive = ("num_hypotheses", "num_scoring_points", "num_preselected", "num_finalists", "num_refined", "tile")
        not_negative = ("refinement_iterations", "resample_rounds", "num_resampled", "resamples")
        for name, lowest in {**dict.fromkeys(positive, 1), **dict.fromkeys(not_negative, 0)}.items():
            value = getattr(self, name)
            default = type(self).__dataclass_fields__[name].default
            if value is None and default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise InputError(f"expected {name} as a whole number, got {value!r}; the default is {default}")
            if value < lowest:
                raise InputError(f"expected {name} of at least {lowest}, got {value}; the default is {default}")
        if self.num_preselected < self.num_finalists or self.num_preselected < self.num_resampled:
            raise InputError(
                f"expected num_preselected of at least num_finalists and num_resampled, got {self.num_preselected} for "
                f"{self.num_finalists} and {self.num_resampled}; raise it or lower these"
            )
        if self.solver_dtype not in ("float64", "float32"):
            raise InputError(f"expected a solver_dtype of float64 or float32, got {self.solver_dtype!r}")
        if self.score not in ("msac", "likelihood"):
            raise InputError(f"expected a score of msac or likelihood, got {self.score!r}")
        if self.early_stop is not None and not 0.0 < self.early_stop < 1.0:
            raise InputError(f"expected an early_stop between 0 and 1, got {self.early_stop}; 0.9999 is usual")
