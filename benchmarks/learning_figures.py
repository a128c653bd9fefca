"""What trained networks changed against their start: AUC with intervals, on the same resampled images for both."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.evaluation.bootstrap import RESAMPLES, image_counts, interval, resampled_auc

THRESHOLDS = (5, 10, 20)
EACH_IN_TURN = "each of these in turn"
"""What an arm was trained on whose pairs of several places are pooled."""


def changes(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each arm, setting and estimator: the start's AUC, the mean change over seeds, its 95 % interval.

    The interval resamples the images of each scene, the same for start and arm, and the seeds. Half its width is about
    the smallest change that the sets can resolve. Where several places were trained for, each in turn, further rows are
    of all their pairs together.
    """
    rows = []
    runs = [*runs, *_of_all_places(runs)]
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for run in runs:
        if run["arm"] != "start":
            key = (run["arm"], run["trained on"], run["steps"], run.get("learning rate"))
            groups.setdefault(key, []).append(run)
    for (arm, trained_on, steps, rate), members in groups.items():
        (start,) = (run for run in runs if run["arm"] == "start" and run["trained on"] == trained_on)
        pairs = start["pairs"]
        generator = torch.Generator().manual_seed(0)
        counts = image_counts(torch.tensor(pairs["images"]), pairs["scenes"], RESAMPLES, generator)
        for setting, before in start["figures"].items():
            errors = torch.tensor([run["figures"][setting]["errors_deg"] for run in members], dtype=torch.float64)
            row = {"arm": arm, "trained on": trained_on, "steps": steps, "seeds": len(members), "setting": setting}
            if rate is not None:
                row["learning rate"] = rate
            first = torch.tensor(before["errors_deg"], dtype=torch.float64)
            rows.append({**row, **_change(first, errors, counts)})
    return rows


def _of_all_places(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was trained for each of several places as one run on all their pairs; none if a pair would count twice.

    The seeds of an arm that a place lacks are left out.
    """
    starts = {run["trained on"]: run for run in runs if run["arm"] == "start"}
    if len(starts) < 2:
        return []
    judged_on = [name for run in starts.values() for name in run["judged on"]]
    if len(set(judged_on)) < len(judged_on):
        return []
    groups: dict[tuple, dict[str, dict[str, Any]]] = {}
    for run in runs:
        key = (run["arm"], run["seed"], run["steps"], run.get("learning rate"))
        groups.setdefault(key, {})[run["trained on"]] = run
    images, scenes = _pooled_images([run["pairs"] for run in starts.values()])
    known = {"trained on": EACH_IN_TURN, "pairs": {"images": images, "scenes": scenes}}
    pooled = []
    for of_place in groups.values():
        if of_place.keys() == starts.keys():
            members = [of_place[place] for place in starts]
            figures = {
                setting: {"errors_deg": [error for run in members for error in run["figures"][setting]["errors_deg"]]}
                for setting in members[0]["figures"]
            }
            pooled.append({**members[0], **known, "figures": figures})
    return pooled


def beyond_control(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How much more AUC an arm has than the control, all pairs of all places pooled, with its 95 % interval.

    Of the arms that have as many seeds as the control, on the same places and with as many steps.
    """
    starts = {run["trained on"]: run["pairs"] for run in runs if run["arm"] == "start"}
    images, scenes = _pooled_images(list(starts.values()))
    counts = image_counts(torch.tensor(images), scenes, RESAMPLES, torch.Generator().manual_seed(0))
    arms: dict[str, dict[tuple, dict[str, Any]]] = {}
    for run in runs:
        if run["arm"] != "start":
            key = (run["trained on"], run["seed"], run["steps"], run.get("learning rate"))
            arms.setdefault(run["arm"], {})[key] = run["figures"]
    control, rows = arms.pop("control", {}), []
    seeds = sorted({key[1] for key in control})
    if {key[0] for key in control} != set(starts) or len(control) != len(starts) * len(seeds):
        return []
    for arm, members in arms.items():
        if members.keys() != control.keys():
            continue
        for setting in next(iter(control.values())):
            pooled = [_pooled_errors(each, list(starts), seeds, setting) for each in (members, control)]
            generator = torch.Generator().manual_seed(0)
            drawn = [torch.randint(len(seeds), (len(counts), len(seeds)), generator=generator) for _ in pooled]
            row: dict[str, Any] = {"arm": arm, "setting": setting, "seeds": len(seeds)}
            for threshold in THRESHOLDS:
                ours, of_control = (
                    _auc_of_seeds(errors, counts, chosen, threshold)
                    for errors, chosen in zip(pooled, drawn, strict=True)
                )
                row[f"AUC@{threshold} more by"] = _more(ours, of_control)
            rows.append(row)
    return rows


def _pooled_images(pairs: Sequence[dict[str, Any]]) -> tuple[list[list[int]], list[str]]:
    """Images and scenes of the pairs of several places, the images numbered on."""
    images: list[list[int]] = []
    scenes: list[str] = []
    for of_place in pairs:
        first = 1 + max((number for pair in images for number in pair), default=-1)
        images += [[number + first for number in pair] for pair in of_place["images"]]
        scenes += of_place["scenes"]
    return images, scenes


def _pooled_errors(
    figures: dict[tuple, dict[str, Any]], places: Sequence[str], seeds: Sequence[int], setting: str
) -> Float[Tensor, "seeds N"]:
    def of(seed: int) -> list[float]:
        chosen = {key[0]: value for key, value in figures.items() if key[1] == seed}
        return [error for place in places for error in chosen[place][setting]["errors_deg"]]

    return torch.tensor([of(seed) for seed in seeds], dtype=torch.float64)


def _change(
    before: Float[Tensor, "N"], after: Float[Tensor, "seeds N"], counts: Float[Tensor, "R N"]
) -> dict[str, Any]:
    """The AUC before, and how much more it is after, at each threshold."""
    generator = torch.Generator().manual_seed(0)
    seeds = torch.randint(len(after), (len(counts), len(after)), generator=generator)
    row: dict[str, Any] = {}
    for threshold in THRESHOLDS:
        start = _auc_of_seeds(before[None], counts, torch.zeros_like(seeds[:, :1]), threshold)
        row[f"AUC@{threshold} before"] = round(start[0], 2)
        row[f"AUC@{threshold} more by"] = _more(_auc_of_seeds(after, counts, seeds, threshold), start)
    return row


def _auc_of_seeds(
    errors: Float[Tensor, "seeds N"], counts: Float[Tensor, "R N"], chosen: Int[Tensor, "R seeds"], threshold: float
) -> tuple[float, Float[Tensor, "R"]]:
    """The mean AUC over the seeds: of the pairs as they are, and of each resampling of the images and the seeds."""
    whole = torch.ones_like(counts[:1])
    mean = float(torch.stack([resampled_auc(each, whole, threshold) for each in errors]).mean())
    resampled = torch.stack([resampled_auc(each, counts, threshold) for each in errors], dim=1)
    return mean, resampled.gather(1, chosen).mean(dim=1)


def _more(after: tuple[float, Float[Tensor, "R"]], before: tuple[float, Float[Tensor, "R"]]) -> dict[str, float]:
    """How much more the one is than the other, with its 95 % interval."""
    low, high = interval(after[1] - before[1]) or (float("nan"), float("nan"))
    return {"mean": round(after[0] - before[0], 2), "low": round(low, 2), "high": round(high, 2)}


def print_changes(rows: Sequence[dict[str, Any]]) -> None:
    """One line for each."""
    for row in rows:
        name = f"{row['arm']} ({row['seeds']} seeds, {row['steps']} steps on {row['trained on']}), {row['setting']}"
        parts = []
        for threshold in THRESHOLDS:
            change = row[f"AUC@{threshold} more by"]
            text = f"{change['mean']:+.1f} ({change['low']:+.1f} to {change['high']:+.1f})"
            parts.append(f"@{threshold} {row[f'AUC@{threshold} before']:.1f} {text}")
        print(f"{name}: " + ", ".join(parts), flush=True)
