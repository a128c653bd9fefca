"""How noisy an estimate of the gradient is: its variance over the square of what it estimates, from repeated draws."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RESOLVED = 2.0
"""Standard errors that a signal must lie above 0 to be believed."""


@dataclass(frozen=True)
class NoiseToSignal:
    """Scalars in float64."""

    ratio: Float[Tensor, ""]
    """tr Cov(g) / ‖E g‖²: so many gradients must be averaged before the mean points more along E g than beside it.
    inf where the estimate of ‖E g‖² is not above 0."""
    error: Float[Tensor, ""]
    """Standard error of the ratio, by the jackknife; inf where the ratio is, with or without any one of the rows."""
    noise: Float[Tensor, ""]
    """tr Cov(g)."""
    signal: Float[Tensor, ""]
    """‖E g‖². Unbiased, so it can be below 0."""
    signal_error: Float[Tensor, ""]
    """Its standard error, by the jackknife."""

    @property
    def resolved(self) -> Bool[Tensor, ""]:
        """Whether the signal lies two of its errors above 0; else the ratio means nothing, but its lower bound does."""
        return (self.signal > RESOLVED * self.signal_error) & self.error.isfinite()

    @property
    def at_least(self) -> Float[Tensor, ""]:
        """The ratio if the signal were two errors larger than found; 0 where there is neither noise nor signal."""
        largest = self.signal.clamp_min(0.0) + RESOLVED * self.signal_error
        return torch.where(largest > 0, self.noise / torch.where(largest > 0, largest, 1.0), 0.0)


def noise_to_signal(
    gradients: Float[Tensor, "n P"], *, squared_norms: Float[Tensor, "n"] | None = None
) -> NoiseToSignal:
    """tr Cov(g) / ‖E g‖² of a gradient from n independent estimates of it.

    ‖E g‖² is the mean of gᵢ·gⱼ over i ≠ j, (‖Σ g‖² - Σ ‖g‖²) / (n (n - 1)): a U-statistic, unbiased, while the square
    of the mean gradient would contain the noise. tr Cov(g) is the mean of ‖g‖² less that, unbiased too; their ratio is
    only consistent. The errors are of the delete-one jackknife (Efron and Stein 1981).

    Args:
        gradients: Flattened, one a row; at least three rows.
        squared_norms: E ‖g‖² behind each row where a row is a mean of several g, whose own noise is asked for: rows are
            means over the draws of one pair, say, and g is the gradient of a single draw of a single pair.

    >>> import torch
    >>> gradients = 1.0 + torch.randn(400, 100, generator=torch.Generator().manual_seed(0))
    >>> round(float(noise_to_signal(gradients).ratio), 1)  # tr I / |1|²
    1.0
    """
    own = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64).square()
    square = own if squared_norms is None else squared_norms.double()
    total = gradients.sum(dim=0, dtype=torch.float64)
    along = (gradients @ total.to(gradients.dtype)).double()  # Σⱼ gᵢ·gⱼ
    n = gradients.shape[0]
    products = along.sum() - own.sum()
    signal = products / (n * (n - 1))
    noise = square.mean() - signal
    without = (products - 2 * (along - own)) / ((n - 1) * (n - 2))
    noise_without = (square.sum() - square) / (n - 1) - without
    ratio = _ratio(noise, signal)
    error = _jackknife_error(torch.where(without > 0, noise_without / without, ratio))
    known = (signal > 0) & (without > 0).all()
    return NoiseToSignal(
        ratio=ratio,
        error=torch.where(known, error, float("inf")),
        noise=noise,
        signal=signal,
        signal_error=_jackknife_error(without),
    )


def _ratio(noise: Float[Tensor, ""], signal: Float[Tensor, ""]) -> Float[Tensor, ""]:
    positive = signal > 0
    return torch.where(positive, noise / torch.where(positive, signal, 1.0), float("inf"))


def _jackknife_error(without: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """The standard error of a statistic from its values with each row left out."""
    n = without.shape[0]
    finite = torch.where(without.isfinite(), without, 0.0)
    return ((n - 1) / n * (finite - finite.mean()).square().sum()).sqrt()
