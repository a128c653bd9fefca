"""Two runs pair by pair: signs, wins and losses, intervals that know the runs are paired, and files that don't fit."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from rfp.evaluation import PairErrors, compare, format_comparison, pose_auc, read_pair_errors
from rfp.records import InputError

SETTINGS = {"estimator": "poselib", "max_error_px": 1.0, "image_size": 640, "num_keypoints": 512, "nms_radius": 2}
PAIRS = list(itertools.combinations(range(9), 2))


def run(errors, label="first", **changes):
    count = len(errors)
    figures = {
        "names": [f"pair {number}" for number in range(count)],
        "scenes": ["scene"] * count,
        "images": [list(pair) for pair in PAIRS[:count]],
        "settings": SETTINGS,
    }
    return PairErrors(label=label, errors_deg=list(errors), **{**figures, **changes})


def random_errors(seed=0):
    return (20 * torch.rand(len(PAIRS), generator=torch.Generator().manual_seed(seed)).double() ** 2).tolist()


def test_the_difference_is_the_second_minus_the_first():
    first, second = run(random_errors(0)), run(random_errors(1), "second")
    found, turned = compare(first, second), compare(second, first)
    for threshold in ("5", "10", "20"):
        expected = pose_auc(second.errors_deg)[int(threshold)] - pose_auc(first.errors_deg)[int(threshold)]
        assert found.difference[threshold] == pytest.approx(expected)
        assert turned.difference[threshold] == pytest.approx(-expected)
        low, high = found.difference_interval[threshold]
        assert low < expected < high
        back = turned.difference_interval[threshold]
        assert [-back[1], -back[0]] == pytest.approx([low, high])
    assert (found.num_won, found.num_lost) == (turned.num_lost, turned.num_won)


def test_a_run_compared_with_itself_differs_by_nothing():
    same = compare(run(random_errors()), run(random_errors(), "second"))
    assert set(same.difference.values()) == {0.0}
    assert all(bounds == [0.0, 0.0] for bounds in same.difference_interval.values())
    assert (same.num_won, same.num_lost, same.num_tied) == (0, 0, len(PAIRS))
    assert same.differing_settings == {}


def test_what_makes_a_pair_hard_for_both_cancels():
    """A second run that is a little better everywhere: sure, although each run alone may lie anywhere."""
    errors = [4 * error for error in random_errors()]
    found = compare(run(errors), run([0.9 * error for error in errors], "second"))
    low, high = found.difference_interval["20"]
    assert 0 < low < high < 8


def test_wins_losses_and_ties_are_counted_below_20_degrees():
    first = run([1.0, 5.0, 180.0, 30.0, 2.00, 180.0, 19.0])
    second = run([5.0, 1.0, 10.00, 90.0, 2.05, 180.0, 25.0], "second")
    found = compare(first, second)
    assert (found.num_won, found.num_lost, found.num_tied) == (2, 2, 3)
    assert (found.newly_solved, found.newly_unsolved) == (1, 1)
    gains = {change.name: change.gain for change in found.changes}
    assert [change.name for change in found.changes[2:4]] == ["pair 2", "pair 6"]
    assert gains["pair 1"] == pytest.approx(100 * ((0.8 - 0) + (0.9 - 0.5) + (0.95 - 0.75)) / 3)
    assert gains["pair 0"] == pytest.approx(-gains["pair 1"])
    assert sum(change.gain for change in found.changes) / 7 == pytest.approx(
        sum(_clipped(second.errors_deg)) / 21 - sum(_clipped(first.errors_deg)) / 21
    )


def _clipped(errors):
    return [100 * max(0.0, 1 - error / threshold) for error in errors for threshold in (5, 10, 20)]


def test_the_order_of_the_pairs_does_not_matter_but_the_pairs_do():
    first, second = run(random_errors(0)), run(random_errors(1), "second")
    order = torch.randperm(len(PAIRS), generator=torch.Generator().manual_seed(3)).tolist()
    shuffled = run(
        [second.errors_deg[n] for n in order],
        "second",
        names=[second.names[n] for n in order],
        images=[second.images[n] for n in order],
    )
    assert compare(first, shuffled) == compare(first, second)
    with pytest.raises(InputError, match="'pair 35' is in one of them only"):
        compare(first, run(random_errors(1)[:-1]))
    twice = replace(second, names=["pair 1", "pair 1", *second.names[2:]])
    with pytest.raises(InputError, match="expected two runs on the same pairs"):
        compare(first, twice)


def test_settings_that_differ_are_said():
    other = run(random_errors(1), "second", settings={**SETTINGS, "num_keypoints": 1024})
    found = compare(run(random_errors()), other)
    assert found.differing_settings == {"num_keypoints": [512, 1024]}
    for markdown in (False, True):
        assert "the runs differ in num_keypoints too: 512 and 1024" in format_comparison(found, markdown=markdown)


def test_without_image_numbers_there_is_no_interval_by_image():
    found = compare(run(random_errors(), images=[]), run(random_errors(1), "second", images=[]))
    assert set(found.difference_interval.values()) == {None}
    assert all(found.difference_interval_by_pair.values())


def test_the_table_holds_the_figures():
    found = compare(run(random_errors(0)), run(random_errors(1), "second"))
    for markdown in (False, True):
        table = format_comparison(found, markdown=markdown, num_changes=3)
        assert f"{found.difference['5']:+.1f}" in table
        assert f"second is better on {found.num_won} of 36 pairs, worse on {found.num_lost}" in table
        assert [change.name in table for change in found.changes[:4]] == [True, True, True, False]


def test_a_file_is_read_as_it_was_written(tmp_path):
    errors = random_errors()
    figures = {"errors_deg": errors, "names": [f"pair {n}" for n in range(len(PAIRS))], "settings": SETTINGS}
    path = tmp_path / "run.json"
    path.write_text(
        json.dumps({**figures, "network": "net", "pair_images": PAIRS, "pair_scenes": ["scene"] * len(PAIRS)})
    )
    assert read_pair_errors(path) == run(errors, "net")
    path.write_text(json.dumps(figures))  # as earlier versions wrote them
    assert read_pair_errors(path).label == "run"
    assert read_pair_errors(path).images == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read"),
        ("no json", "expected JSON"),
        ("[]", "found no errors_deg"),
        ('{"errors_deg": [1.0], "names": ["a"]}', "found no settings"),
        ('{"errors_deg": [1.0, 2.0], "names": ["a"], "settings": {}}', r"as many names as errors \(2\), got 1"),
        ('{"errors_deg": ["x"], "names": ["a"], "settings": {}}', "errors_deg: expected numbers from 0 to 180"),
        ('{"errors_deg": [NaN], "names": ["a"], "settings": {}}', "errors_deg: expected numbers from 0 to 180"),
        ('{"errors_deg": [], "names": [], "settings": {}}', "errors_deg: expected numbers"),
    ],
)
def test_a_file_that_is_no_run_is_one_line(tmp_path, content, expected):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=expected) as caught:
        read_pair_errors(path)
    assert str(path) in str(caught.value)
