"""What the rows of benchmarks/robust_estimation.py say when set side by side: times, paired accuracy, goals."""

from dataclasses import dataclass
from typing import Any

import torch

Rows = list[dict[str, Any]]

DRAWS = 2000
THRESHOLD_DEG = 5.0


def comparisons(rows: Rows) -> Rows:
    """Each other estimator beside each of ours that was judged: how many times faster, and how much more accurate."""
    pairs = []
    for row in rows:
        for other in rows:
            same = row["workload"] == other["workload"]
            if same and _is_ours(row) and "judged" in row and not _is_ours(other) and other.get("ms"):
                pairs.append({"workload": row["workload"], "ours": row["estimator"], **compare(row, other, rows)})
    return pairs


def compare(ours: dict[str, Any], other: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """The ratio of the times and, on the problems that both were judged on, the change of AUC@5 with its interval."""
    judged = accuracy_of(other, rows)
    change, count = None, 0
    if judged is not None and "errors_centideg" in ours:
        change, count = paired_change(_errors(judged), _errors(ours))
    return {
        "other": other["estimator"],
        "times faster": round(other["ms"] / ours["ms"], 3),
        "AUC@5, ours more by": change,
        "on problems": count,
    }


def accuracy_of(row: dict[str, Any], rows: Rows) -> dict[str, Any] | None:
    """The judged row that computes the same: itself, or that of the name before the comma."""
    if "judged" in row:
        return row
    candidates = [row["estimator"].rsplit(", ", parts)[0] for parts in (1, 2)]
    judged = {each["estimator"]: each for each in rows if each["workload"] == row["workload"] and "judged" in each}
    return next((judged[name] for name in candidates if name in judged), None)


def paired_change(before: list[float], after: list[float]) -> tuple[dict[str, float], int]:
    """Mean change of max(0, 1 - e / 5°) in points over the problems of both, with its 95 % bootstrap interval."""
    count = min(len(before), len(after))
    gains = [100 * (_score(a) - _score(b)) for b, a in zip(before[:count], after[:count], strict=True)]
    values = torch.tensor(gains, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    means = torch.stack([values[torch.randint(count, (count,), generator=generator)].mean() for _ in range(DRAWS)])
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"mean": round(values.mean().item(), 2), "low": round(low, 2), "high": round(high, 2)}, count


def _score(error_deg: float) -> float:
    return max(0.0, 1 - error_deg / THRESHOLD_DEG)


def _errors(row: dict[str, Any]) -> list[float]:
    return [int(value) / 100 for value in row["errors_centideg"].split()]


def _is_ours(row: dict[str, Any]) -> bool:
    return row["estimator"].split(",")[0] == "rfp"


@dataclass(frozen=True)
class Goal:
    """What is wanted of one of ours beside another estimator."""

    ours: str
    other: str
    inliers: str
    """Of the problems with 300 matches."""
    times_faster: float
    points_more: float
    """Of AUC@5."""


KORNIA = "kornia, batch auto"  # its default
CPU_GOALS = (
    *(Goal("rfp", other, ratio, 10, 0) for other in ("kornia, batch 2048", KORNIA) for ratio in ("70 %", "40 %")),
    *(Goal("rfp, early stop at 0.99", KORNIA, ratio, 10, 0) for ratio in ("70 %", "40 %")),
    Goal("rfp", "OpenCV RANSAC", "40 %", 10, 20),
    *(
        Goal("rfp, early stop", other, ratio, at_least, -1.5)
        for other in ("PoseLib", "PoseLib, from 100")
        for ratio, at_least in (("70 %", 1 / 1.5), ("40 %", 1), ("25 %", 1))
    ),
)
GPU_GOALS = (Goal("rfp", "PoseLib", "40 %", 50, -1.5), Goal("rfp", "PoseLib, pool", "40 %", 5, -1.5))


def goals(rows: Rows, device: str) -> Rows:
    """Each goal with what was measured, met or missed; those without both rows are left out."""
    table = []
    for goal in CPU_GOALS if device == "cpu" else GPU_GOALS:
        workload = f"300 matches, {goal.inliers} inliers"
        found = {row["estimator"]: row for row in rows if row["workload"] == workload and row.get("ms")}
        if goal.ours not in found or goal.other not in found:
            continue
        measured = compare(found[goal.ours], found[goal.other], rows)
        change = measured["AUC@5, ours more by"]
        table.append(
            {
                "ours": goal.ours,
                "against": goal.other,
                "inliers": goal.inliers,
                "times faster, wanted": round(goal.times_faster, 2),
                "times faster": measured["times faster"],
                "time": _verdict(measured["times faster"] >= goal.times_faster),
                "AUC@5 more by, wanted": goal.points_more,
                "AUC@5 more by": change,
                "accuracy": _verdict(change["low"] >= goal.points_more) if change else "not judged",
            }
        )
    return table


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def print_table(result: dict[str, Any]) -> None:
    """Rows by problems, with the times of the others as multiples of ours, then the goals."""
    rows: Rows = result["estimation_rows"]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        mine = [row for row in rows if row["workload"] == workload]
        reference = next((row for row in mine if row["estimator"] == "rfp" and row.get("ms")), None)
        print(f"\n{workload}: ms a problem, time beside rfp's, AUC@5/10/20, problems timed and judged")
        for row in mine:
            print(f"  {row['estimator']:28s} {_line(row, reference)}")
    for goal in result["goals"]:
        change = interval(goal["AUC@5 more by"])
        print(
            f"goal: {goal['ours']} against {goal['against']} at {goal['inliers']}: {goal['times faster']:.2f} times "
            f"faster (wanted {goal['times faster, wanted']:g}: {goal['time']}), AUC@5 {change} points "
            f"(wanted {goal['AUC@5 more by, wanted']:+g}: {goal['accuracy']})"
        )


def _line(row: dict[str, Any], reference: dict[str, Any] | None) -> str:
    if "ms" not in row:
        return row.get("missing", "not measured")
    beside = f"{row['ms'] / reference['ms']:7.2f} ×" if reference is not None else " " * 9
    auc = "/".join(f"{value:.1f}" for value in row["auc"].values()) if "auc" in row else ""
    return f"{row['ms']:9.3f} {beside}  {auc:16s} {row['timed']} {row.get('judged', '')}"


def interval(change: dict[str, float] | None) -> str:
    """A paired change as text."""
    return "not judged" if change is None else f"{change['mean']:+.1f} ({change['low']:+.1f} to {change['high']:+.1f})"
