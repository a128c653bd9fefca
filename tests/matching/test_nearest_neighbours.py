"""Laws of the matchers that compare descriptors: against plain loops, under masks, and on the device alone."""

import math

import pytest
import torch

from rfp.matching import DualSoftmax, MutualNearestNeighbours, RatioTest, dual_softmax, load_matcher, match
from rfp.records import Features, InputError
from rfp.rollout import Matcher
from tests.sync_deny_list import no_host_visits

B, K1, K2, D = 2, 23, 17, 6
MATCHERS = {
    "mutual": MutualNearestNeighbours(),
    "ratio": RatioTest(ratio=0.9),
    "dual-softmax": DualSoftmax(temperature=0.2, threshold=0.05),
}


def features(count, seed, *, batch=B, masked=()):
    generator = torch.Generator().manual_seed(seed)
    descriptor = torch.nn.functional.normalize(torch.randn(batch, count, D, generator=generator).double(), dim=-1)
    valid = torch.ones(batch, count, dtype=torch.bool)
    for slot in masked:
        valid[:, slot] = False
    xy_px = torch.rand(batch, count, 2, generator=generator)
    return Features(xy_px, torch.zeros(batch, count), descriptor, valid)


def related(seed=0, noise=0.25):
    """Image 2 holds image 1's key points in another order, disturbed, and without the last."""
    one = features(K1, seed, masked=(4, 9))
    order = torch.randperm(K1, generator=torch.Generator().manual_seed(seed))[:K2]
    disturbance = noise * features(K2, seed + 1).descriptor
    two = torch.nn.functional.normalize(one.descriptor[:, order] + disturbance, dim=-1)
    valid2 = torch.ones(B, K2, dtype=torch.bool)
    valid2[:, 2] = False
    return one, Features(one.xy_px[:, order], torch.zeros(B, K2), two, valid2)


def pairs_of(matches, b):
    return {(i, int(matches.index2[b, i])): float(matches.score[b, i]) for i in range(K1) if matches.valid[b, i]}


def distances(one, two, b):
    """Rows and columns of the valid key points only, as plain numbers."""
    rows = [i for i in range(K1) if one.valid[b, i]]
    columns = [j for j in range(K2) if two.valid[b, j]]
    table = {
        (i, j): math.dist(one.descriptor[b, i].tolist(), two.descriptor[b, j].tolist()) for i in rows for j in columns
    }
    return rows, columns, table


def mutual_by_loops(rows, columns, table):
    for i in rows:
        j = min(columns, key=lambda j: table[i, j])
        if min(rows, key=lambda other: table[other, j]) == i:
            yield i, j


def test_mutual_nearest_neighbours_are_those_of_a_plain_loop():
    one, two = related()
    matches = match(one, two)
    for b in range(B):
        expected = {
            (i, j): float(one.descriptor[b, i] @ two.descriptor[b, j])
            for i, j in mutual_by_loops(*distances(one, two, b))
        }
        assert len(expected) >= 5
        assert pairs_of(matches, b) == pytest.approx(expected)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.0])
def test_the_ratio_test_is_that_of_a_plain_loop_in_both_directions(ratio):
    one, two = related(noise=0.6)
    matches = match(one, two, RatioTest(ratio=ratio))
    for b in range(B):
        rows, columns, table = distances(one, two, b)
        expected = {}
        for i, j in mutual_by_loops(rows, columns, table):
            second = min(*(table[i, other] for other in columns if other != j), *(table[k, j] for k in rows if k != i))
            if table[i, j] < ratio * second:
                expected[i, j] = 1 - table[i, j] / second
        assert pairs_of(matches, b) == pytest.approx(expected, abs=1e-9)
    assert ratio == 0.5 or matches.valid.sum() >= 5


@pytest.mark.parametrize("threshold", [0.0, 0.2])
def test_the_dual_softmax_is_that_of_a_plain_loop(threshold):
    one, two = related(noise=0.6)
    matches = match(one, two, DualSoftmax(temperature=0.15, threshold=threshold))
    for b in range(B):
        rows, columns, table = distances(one, two, b)
        weight = {key: math.exp((1 - distance**2 / 2) / 0.15) for key, distance in table.items()}
        p = {
            (i, j): weight[i, j] ** 2 / sum(weight[i, c] for c in columns) / sum(weight[r, j] for r in rows)
            for i, j in table
        }
        expected = {
            (i, j): p[i, j]
            for i in rows
            for j in columns
            if p[i, j] > threshold
            and p[i, j] == max(p[i, c] for c in columns)
            and p[i, j] == max(p[r, j] for r in rows)
        }
        assert len(expected) >= 3
        assert pairs_of(matches, b) == pytest.approx(expected)


def test_the_dual_softmax_of_a_row_and_a_column_sums_to_at_most_one():
    one, two = related()
    similarity = one.descriptor @ two.descriptor.transpose(-1, -2)
    p = dual_softmax(similarity, temperature=0.1)
    assert (p.sum(-1) <= 1 + 1e-9).all()
    assert (p.sum(-2) <= 1 + 1e-9).all()
    torch.testing.assert_close(dual_softmax(similarity.transpose(-1, -2), temperature=0.1), p.transpose(-1, -2))


@pytest.mark.parametrize("matcher", MATCHERS.values(), ids=MATCHERS)
def test_swapping_the_images_swaps_the_matches(matcher):
    one, two = related()
    forth, back = match(one, two, matcher), match(two, one, matcher)
    for b in range(B):
        swapped = {(int(back.index2[b, j]), j): float(back.score[b, j]) for j in range(K2) if back.valid[b, j]}
        assert pairs_of(forth, b) == pytest.approx(swapped)


@pytest.mark.parametrize("matcher", MATCHERS.values(), ids=MATCHERS)
def test_masked_key_points_are_as_good_as_absent(matcher):
    """Whatever stands in a masked slot, NaN included, the matches are those of the others alone."""
    one, two = related()
    poisoned = one.descriptor.clone()
    poisoned[~one.valid] = two.descriptor[0, 0] * 7
    matches = match(Features(one.xy_px, one.score, poisoned, one.valid), two, matcher)
    assert matches.valid.any()
    for field in ("index2", "score", "valid"):
        assert torch.equal(getattr(matches, field), getattr(match(one, two, matcher), field))
    assert not matches.valid[:, [4, 9]].any()
    assert (matches.index2[matches.valid] != 2).all()
    assert (matches.index2[~matches.valid] == 0).all()
    assert (matches.score[~matches.valid] == 0).all()


@pytest.mark.parametrize("matcher", MATCHERS.values(), ids=MATCHERS)
@pytest.mark.parametrize(("count1", "count2"), [(0, 5), (5, 0), (0, 0), (1, 1), (1, 5), (5, 1)])
def test_few_key_points_or_none_are_fine(matcher, count1, count2):
    one, two = features(count1, 0), features(count2, 1)
    matches = match(one, two, matcher)
    assert matches.valid.shape == (B, count1)
    assert matches.score.isfinite().all()
    assert (matches.valid.sum(-1) <= min(count1, count2)).all()
    nothing = Features(two.xy_px, two.score, two.descriptor, torch.zeros_like(two.valid))
    assert not match(one, nothing, matcher).valid.any()


def test_two_equal_descriptors_do_not_stand_out():
    one = features(1, 0)
    twins = Features(*(torch.cat([value, value], dim=1) for value in vars(one).values()))
    assert match(one, twins).valid.all()
    assert not match(one, twins, RatioTest(ratio=1.0)).valid.any()


def test_a_pair_s_matches_do_not_depend_on_the_batch():
    one, two = related()
    for matcher in MATCHERS.values():
        batch = match(one, two, matcher)
        alone = [
            match(*(Features(*(v[b : b + 1] for v in vars(f).values())) for f in (one, two)), matcher) for b in range(B)
        ]
        for field in ("index2", "valid"):
            assert torch.equal(getattr(batch, field), torch.cat([getattr(single, field) for single in alone]))


@pytest.mark.parametrize("matcher", MATCHERS.values(), ids=MATCHERS)
def test_matching_visits_the_host_nowhere(matcher):
    on_meta = Features(*(torch.empty_like(value, device="meta") for value in vars(features(K1, 0)).values()))
    with no_host_visits():
        matches = match(on_meta, on_meta, matcher)
    assert matches.valid.shape == (B, K1)
    assert isinstance(matcher, Matcher)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RatioTest(ratio=0.0),
        lambda: RatioTest(ratio=1.5),
        lambda: DualSoftmax(temperature=0.0),
        lambda: DualSoftmax(threshold=1.0),
        lambda: load_matcher("magic"),
        lambda: load_matcher("lightglue", network="tiny"),
    ],
)
def test_options_that_mean_nothing_are_one_line(wrong):
    with pytest.raises(InputError, match="expected"):
        wrong()
