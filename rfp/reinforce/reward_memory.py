"""What earlier steps say about the rewards of each pair: a baseline and a scale that these draws had no part in."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SMALLEST_SPREAD = 0.2
"""Of a pair, in units of that of all pairs: one whose draws were all alike so far must not outweigh the others."""


class RewardMemory:
    """Exponential averages of the rewards and their squares, of each pair of a data set and of all pairs together.

    Read before it is updated, it holds nothing of the draws that it is subtracted from or that it scales, so that the
    gradient stays unbiased; it lags behind the network by as many steps as a pair waits for its turn. A pair that was
    never seen reads what holds for all of them, as does every pair of a stream. The state lies on the device, and
    nothing here waits for it.

    Args:
        num_pairs: of the data set; 0 for a stream.
        decay: of the averages, at each visit of a pair; a young average is the plain mean.
    """

    def __init__(self, num_pairs: int, *, decay: float = 0.9, device: torch.device | str = "cpu"):
        self.decay = decay
        self.visits, self.mean, self.square = (torch.zeros(num_pairs + 1, device=device) for _ in range(3))

    def read(self, index: Int[Tensor, "B"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """(average reward, its spread) of the pairs. Before anything was seen 0 and 1.

        Args:
            index: numbers of the pairs; -1 is a pair of a stream.
        """
        slot = torch.where(self.visits[index] > 0, index, -1)
        mean = self.mean[slot]
        variance = (self.square - self.mean.square()).clamp_min(0.0)
        spread, overall = variance[slot].sqrt(), variance[-1].sqrt()
        spread = torch.maximum(spread, SMALLEST_SPREAD * overall)
        return mean, torch.where(spread > 1e-6, spread, 1.0)

    @torch.no_grad()
    def update(self, index: Int[Tensor, "B"], reward: Float[Tensor, "B S T"], valid: Bool[Tensor, "B"]) -> None:
        """Move the averages of these pairs, and of all, towards the rewards of their draws; invalid pairs are left."""
        weight = valid.to(self.mean.dtype)
        draws = reward.detach().to(self.mean.dtype).flatten(1)
        rows = torch.stack([weight, weight * draws.mean(dim=1), weight * draws.square().mean(dim=1)])
        sums = torch.zeros_like(self.mean).expand(3, -1).clone()
        # A stream's pairs are counted in the last entry once, as those of all pairs.
        known = torch.where(index >= 0, rows, 0.0)
        sums.index_add_(1, index % len(self.mean), known)
        sums[:, -1] = rows.sum(dim=1)
        visited = sums[0] > 0
        towards = sums[1:] / sums[0].clamp_min(1.0)
        self.visits += visited
        step = torch.where(visited, torch.maximum(1.0 / self.visits.clamp_min(1.0), self._floor()), 0.0)
        self.mean += step * (towards[0] - self.mean)
        self.square += step * (towards[1] - self.square)

    def _floor(self) -> Tensor:
        return self.mean.new_full((), 1.0 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        return {"visits": self.visits.clone(), "mean": self.mean.clone(), "square": self.square.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        for name, value in state.items():
            getattr(self, name).copy_(value)
