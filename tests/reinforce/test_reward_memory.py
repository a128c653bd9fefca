"""Laws of the averages of earlier rewards."""

import pytest
import torch

from rfp.reinforce.reward_memory import SMALLEST_SPREAD, RewardMemory

YES = torch.ones(2, dtype=torch.bool)


def rewards(*means, spread=1.0):
    """Two draws a pair, at ``spread`` on both sides of the mean."""
    return torch.tensor([[[mean - spread, mean + spread]] for mean in means])


def test_each_pair_has_its_own_average_which_begins_as_a_plain_mean_and_then_decays():
    memory = RewardMemory(3, decay=0.5)
    for value in (1.0, 2.0, 4.0):
        memory.update(torch.tensor([0, 2]), rewards(value, 10 * value), YES)
    mean, _ = memory.read(torch.tensor([0, 2]))
    # 1, then (1 + 2) / 2, then half of what was and half of what came.
    torch.testing.assert_close(mean, torch.tensor([2.75, 27.5]))


def test_a_pair_never_seen_and_those_of_a_stream_read_what_holds_for_all():
    memory = RewardMemory(3, decay=0.9)
    mean, spread = memory.read(torch.tensor([1, -1]))
    assert mean.tolist() == [0.0, 0.0]
    assert spread.tolist() == [1.0, 1.0]
    memory.update(torch.tensor([0, 2]), rewards(1.0, 3.0), YES)
    mean, spread = memory.read(torch.tensor([1, -1]))
    torch.testing.assert_close(mean, torch.full((2,), 2.0))
    torch.testing.assert_close(spread, torch.full((2,), 2.0).sqrt())
    stream = RewardMemory(0)
    stream.update(torch.tensor([-1, -1]), rewards(1.0, 3.0), YES)
    assert stream.read(torch.tensor([-1]))[0].item() == pytest.approx(2.0)


def test_the_spread_of_a_pair_whose_draws_were_all_alike_has_a_floor():
    memory = RewardMemory(2, decay=0.9)
    reward = torch.cat([rewards(0.0, spread=0.0), rewards(0.0, spread=2.0)])
    memory.update(torch.tensor([0, 1]), reward, YES)
    spread = memory.read(torch.tensor([0, 1]))[1]
    torch.testing.assert_close(spread, torch.tensor([SMALLEST_SPREAD * 2.0**0.5, 2.0]))


def test_invalid_pairs_leave_everything_as_it_is_and_a_pair_twice_in_a_step_counts_once_by_its_mean():
    memory = RewardMemory(2, decay=0.5)
    memory.update(torch.tensor([0, 1]), rewards(1.0, 99.0), torch.tensor([True, False]))
    assert memory.visits.tolist() == [1, 0, 1]
    assert memory.mean.tolist() == [1.0, 0.0, 1.0]
    memory.update(torch.tensor([0, 0]), rewards(3.0, 5.0), YES)
    assert memory.visits.tolist() == [2, 0, 2]
    torch.testing.assert_close(memory.mean[0], torch.tensor(2.5))
    memory.update(torch.tensor([0, 0]), rewards(3.0, 5.0), ~YES)
    assert memory.visits.tolist() == [2, 0, 2]


def test_the_state_goes_on_where_it_was_and_is_a_copy():
    memory, again = RewardMemory(2), RewardMemory(2)
    memory.update(torch.tensor([0, 1]), rewards(1.0, 2.0), YES)
    state = memory.state_dict()
    again.load_state_dict(state)
    memory.update(torch.tensor([0, 1]), rewards(9.0, 9.0), YES)
    assert again.mean.tolist() == state["mean"].tolist() == [1.0, 2.0, 1.5]
