"""What every matcher returns: for each key point of image 1 its partner, a score, and whether it is a match."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ScoredMatches:
    """Slot i is key point i of image 1: shapes never depend on how many matches there are."""

    index2: Int[Tensor, "*B K1"]
    """The partner among the key points of image 2; 0 where ``valid`` is false."""
    score: Float[Tensor, "*B K1"]
    """Higher is better, on the matcher's own scale: comparable within one matcher only. 0 where ``valid`` is false."""
    valid: Bool[Tensor, "*B K1"]
    """Which slots hold a match. No key point is in two of them."""
