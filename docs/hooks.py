"""Puts measured figures into pages: a line ``{{ results: NAME.json }}`` becomes the tables of docs/results/NAME.json.

Figures are never typed: where a results file is missing, the page says that nothing has been measured yet.
"""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import torch

from rfp import pose_auc
from rfp.evaluation.bootstrap import RESAMPLES, image_counts, interval, pair_counts, resampled_mean

RESULTS = Path(__file__).parent / "results"

_PLACEHOLDER = re.compile(r"^\{\{ results: (?P<name>[\w.-]+\.json) \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **kwargs) -> str:
    """The page with its results filled in; called by mkdocs."""
    return _PLACEHOLDER.sub(lambda match: render_file(RESULTS / match["name"]), markdown)


def render_file(path: Path) -> str:
    """The tables of a results file, or the statement that it does not exist."""
    if not path.is_file():
        return f"!!! note\n    Not measured yet: there is no `docs/results/{path.name}`."
    return render(json.loads(path.read_text())) + f"\n\nFrom `docs/results/{path.name}`."


def render(content: dict[str, Any]) -> str:
    """A fine-tuning study as its tables; anything else as plain values, then a table for each group."""
    if {"before", "seeds"} <= content.keys():
        return render_finetuning(content)
    if "main_job_runs" in content:
        return render_main_job(content)
    if "estimation_rows" in content:
        return render_estimation(content)
    if {"runs", "changes"} <= content.keys():
        return render_learning(content)
    plain = {key: value for key, value in content.items() if _is_plain(value)}
    parts = [_table([{"": _words(key), "value": value} for key, value in plain.items()])] if plain else []
    for key, value in content.items():
        if not _is_plain(value):
            parts.append(f"**{_words(key)}**\n\n{_render_group(value)}")
    return "\n\n".join(parts)


def render_finetuning(content: dict[str, Any]) -> str:
    """What benchmarks/finetune_aliked.py writes: AUC before and after by setting, set and seed."""
    judged = {"before": content["before"]}
    for run in content["seeds"]:
        judged[f"seed {run['seed']}, selected on validation (step {run['best_step']})"] = run["selected"]
        judged[f"seed {run['seed']}, last step"] = run["last"]
    parts = []
    for setting in content["before"]:
        rows = _weights_rows({weights: figures[setting] for weights, figures in judged.items()})
        parts.append(
            f"AUC@5/10/20 at {setting}; change of the mean clipped accuracy at 10° over the same pairs, with its 95 % "
            f"bootstrap interval over the images:\n\n{_table(rows)}"
        )
    rows = [
        {
            "seed": run["seed"],
            "reward, first quarter": run["reward_first_quarter"],
            "reward, last quarter": run["reward_last_quarter"],
            "failed poses": f"{run['failed_mean']:.1%}",
            "skipped steps": run["skipped_steps"],
            "minutes": run["seconds"] / 60,
            "AUC@5/10/20 on validation, by step": "; ".join(
                f"{row['step']}: {_slashed(row['auc'])}" for row in run["validations"]
            ),
        }
        for run in content["seeds"]
    ]
    parts.append(f"The runs:\n\n{_table(rows)}")
    parts.append(_render_group(content["machine"]))
    return "\n\n".join(parts)


def render_main_job(content: dict[str, Any]) -> str:
    """What benchmarks/main_job.py writes: each run on held-out rendered pairs and on real ones, and its cost."""
    runs = content["main_job_runs"]
    if len({run["way"] for run in runs}) > 1:
        return render_ways(content)
    rows, costs = [], []
    for run in runs:
        label = {"way": run["way"], "seed": run["seed"]}
        row = {**label, "before": run["before"]["auc"]}
        for weights in ("selected", "last"):
            change = paired_change(run["before"]["errors_deg"], run[weights]["errors_deg"])
            row[weights if weights == "last" else f"{weights} (step)"] = _slashed(run[weights]["auc"]) + (
                f" ({run['best_step']})" if weights == "selected" else ""
            )
            row[f"change, {weights}"] = change
        rows.append(row)
        costs.append(
            {
                **label,
                "reward, first quarter": run["reward_first_quarter"],
                "reward, last quarter": run["reward_last_quarter"],
                "minutes in all": run["minutes_in_all"],
                "minutes of training": run["training_minutes"],
                "peak memory, MiB": run["peak_memory_mib"],
                "seconds by stage": run["profile_s"],
            }
        )
    pairs = len(runs[0]["before"]["errors_deg"])
    parts = [
        f"AUC@5/10/20 on {pairs} rendered pairs of held-out layouts and textures; change of the mean clipped "
        f"accuracy at 10° over the same pairs, with its 95 % bootstrap interval:\n\n{_table(rows)}",
        f"Every seed of a way together:\n\n{_table(_pooled_changes(runs))}",
        f"The runs:\n\n{_table(costs)}",
    ]
    for setting, before in content.get("real_before", {}).items():
        judged = {"before": before}
        for run in runs:
            for weights, figures in (run["real"] or {}).items():
                judged[f"{run['way']}, seed {run['seed']}, {weights}"] = figures[setting]
        rows = _weights_rows(judged)
        judged_at = f"AUC@5/10/20 at {setting}, intervals over the images"
        parts.append(f"The same weights on photographs, {judged_at}:\n\n{_table(rows)}")
    return "\n\n".join([*parts, _render_group(content["machine"])])


def render_learning(content: dict[str, Any]) -> str:
    """What benchmarks/learning.py writes: the start's AUC, and what each arm changed, with intervals over images."""
    rows = []
    for change in content["changes"]:
        row = {name: change[name] for name in ("arm", "trained on", "steps", "seeds")}
        row["rate"] = change.get("learning rate", "its own")
        row["judged at"] = change["setting"]
        for threshold in (5, 10, 20):
            more = change[f"AUC@{threshold} more by"]
            before = change[f"AUC@{threshold} before"]
            row[f"AUC@{threshold}"] = f"{before:.1f} {_change(more)}"
        rows.append(row)
    resolved = []
    for setting in dict.fromkeys(change["setting"] for change in content["changes"]):
        here = [change["AUC@10 more by"] for change in content["changes"] if change["setting"] == setting]
        resolved.append(f"{statistics.median((more['high'] - more['low']) / 2 for more in here):.1f} at {setting}")
    beyond = [
        {key.removesuffix(" more by"): value if _is_plain(value) else _change(value) for key, value in row.items()}
        for row in content.get("beyond control", [])
    ]
    text = "How much more than the control, all pairs together (95 % interval, images and seeds resampled):"
    seconds = [
        {"arm": run["arm"], "seed": run["seed"], "steps": run["steps"], "seconds a step": run["seconds a step"]}
        for run in content["runs"]
        if "seconds a step" in run
    ]
    judged_on = sorted({name for run in content["runs"] for name in run["judged on"]})
    curves = [
        {"arm": run["arm"], "seed": run["seed"], **{f"step {each['step']}": each["auc"]["10"] for each in run["curve"]}}
        for run in content["runs"]
        if "curve" in run
    ]
    by_place = _auc_by_place(content["runs"])
    of_places = "AUC@5/10/20 of each place by itself, means of the seeds:"
    on_the_way = "AUC@10 on the way, every other pair of those that choose, 320 px, 512 key points, PoseLib at 1 px:"
    return "\n\n".join(
        [
            "The start, and how much more after training (95 % interval, images resampled), pooled over "
            f"{', '.join(judged_on)}:",
            _table(rows),
            f"The smallest rise of AUC@10 that these pairs resolve, half an interval: {'; '.join(resolved)}.",
            *([text, _table(beyond)] if beyond else []),
            *([of_places, _table(by_place)] if by_place else []),
            *([on_the_way, _table(curves)] if curves else []),
            *([_table(seconds)] if seconds else []),
            _render_group({**content["machine"], "start": content["network"]}),
            *([_render_group(content["start"])] if "start" in content else []),
        ]
    )


def _auc_by_place(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each setting and arm, the start first, where there are several places."""
    rows = []
    for start in (run for run in runs if run["arm"] == "start"):
        scenes = start["pairs"]["scenes"]
        if len(set(scenes)) == 1:
            continue
        arms: dict[tuple, list[dict[str, Any]]] = {}
        for run in (run for run in runs if run["trained on"] == start["trained on"]):
            arms.setdefault((run["arm"], run["steps"], run.get("learning rate", "its own")), []).append(run)
        for setting in start["figures"]:
            for (arm, steps, rate), members in arms.items():
                row = {"arm": arm, "trained on": start["trained on"], "steps": steps, "rate": rate}
                if arm == "start":
                    row |= {"trained on": "", "steps": "", "rate": ""}
                errors = [run["figures"][setting]["errors_deg"] for run in members]
                rows.append({**row, "judged at": setting, **_of_each_place(errors, scenes)})
    return rows


def _of_each_place(errors: list[list[float]], scenes: list[str]) -> dict[str, dict[str, float]]:
    found = {}
    for scene in dict.fromkeys(scenes):
        of_seeds = [pose_auc([e for e, its in zip(seed, scenes, strict=True) if its == scene]) for seed in errors]
        found[scene] = {f"{key:g}": statistics.fmean(auc[key] for auc in of_seeds) for key in of_seeds[0]}
    return found


def render_ways(content: dict[str, Any]) -> str:
    """Several ways of the main job beside each other, the seeds of each together."""
    runs = content["main_job_runs"]
    held_out = [
        {**row, "best steps": ", ".join(str(run["best_step"]) for run in runs if run["way"] == row["way"])}
        for row in _pooled_changes(runs)
    ]
    parts = [
        f"{len(runs[0]['before']['errors_deg'])} rendered pairs of held-out layouts and textures, AUC@5/10/20 before "
        f"{_slashed(runs[0]['before']['auc'])}; change of the mean clipped accuracy at 10° over the same pairs and all "
        f"seeds, with its 95 % bootstrap interval over the pairs:\n\n{_table(held_out)}"
    ]
    rows = []
    for way in dict.fromkeys(run["way"] for run in runs):
        judged = [run for run in runs if run["way"] == way and run["real"]]
        row: dict[str, Any] = {"way": way, "seeds judged": ", ".join(str(run["seed"]) for run in judged) or "none"}
        for setting, before in content["real_before"].items() if judged else ():
            gains = [_gains(before["errors_deg"], run["real"]["last"][setting]["errors_deg"]) for run in judged]
            row[setting] = _mean_interval(gains, before.get("pairs"))
        rows.append(row)
    before = "; ".join(f"{setting}: {_slashed(row['pooled'])}" for setting, row in content["real_before"].items())
    text = f"The last weights on photographs, before {before}; change as above, its interval over the images:"
    parts.append(f"{text}\n\n{_table(rows)}")
    return "\n\n".join([*parts, _render_group(content["machine"])])


def render_estimation(content: dict[str, Any]) -> str:
    """What benchmarks/robust_estimation.py writes: all estimators on each kind of problems, beside ours."""
    rows = content["estimation_rows"]
    beside = {
        (pair["workload"], pair["other"]): pair for pair in content.get("comparisons", ()) if pair["ours"] == "rfp"
    }
    parts = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        mine = [row for row in rows if row["workload"] == workload]
        ours = next((row["ms"] for row in mine if row["estimator"] == "rfp" and "ms" in row), None)
        table = [_estimation_row(row, ours, beside.get((workload, row["estimator"]), {})) for row in mine]
        parts.append(f"**{workload}**\n\n{_table(table)}")
    if content.get("goals"):
        parts.append(f"**What was wanted**\n\n{_table([_goal_row(goal) for goal in content['goals']])}")
    options = {row["estimator"]: row["options"] for row in rows}
    settings = [{"estimator": name, "options": text} for name, text in options.items()]
    parts.append(f"**Options**\n\n{_table(settings)}")
    commits = sorted({row["commit"] for row in rows if "ms" in row})
    return "\n\n".join([*parts, _render_group({**content["measured with"], "commits": commits})])


def _estimation_row(row: dict[str, Any], ours: float | None, beside: dict[str, Any]) -> dict[str, Any]:
    """One estimator: its time, that beside ours in words, its accuracy, and how much more accurate ours is."""
    if "ms" not in row:
        return {"estimator": row["estimator"], "ms a problem": row.get("missing", "not measured")}
    ratio = row["ms"] / ours if ours else None
    return {
        "estimator": row["estimator"],
        "ms a problem": row["ms"],
        "processor ms": row.get("processor_ms", ""),
        "beside rfp": "" if ratio is None else f"{_cell(ratio)} × slower" if ratio > 1 else _faster(1 / ratio),
        "AUC@5/10/20": _slashed(row["auc"]) if "auc" in row else "",
        "AUC@5 of rfp less this": _change(beside.get("AUC@5, ours more by")),
        "failed": f"{row['failed']:.1%}" if "failed" in row else "",
        "problems timed, judged": f"{row['timed']}, {row.get('judged', 'as above')}",
        **({"hypotheses a second": row["hypotheses_per_second"]} if "hypotheses_per_second" in row else {}),
    }


def _faster(ratio: float) -> str:
    return "1" if ratio == 1 else f"**{_cell(ratio)} × faster**"


def _change(change: dict[str, float] | None) -> str:
    """A paired change with its interval, as the benchmark stores it."""
    return "" if change is None else f"{change['mean']:+.1f} ({change['low']:+.1f} to {change['high']:+.1f})"


def _goal_row(goal: dict[str, Any]) -> dict[str, Any]:
    return {key: _change(value) if isinstance(value, dict) else value for key, value in goal.items()}


def _weights_rows(judged: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each set of weights judged at one setting, the first being what the others are compared with."""
    before = next(iter(judged.values()))
    rows = []
    for weights, figures in judged.items():
        aucs = {"pooled": figures["pooled"], **{name: figures["sets"][name]["auc"] for name in before["sets"]}}
        change = paired_change(before["errors_deg"], figures["errors_deg"], pairs=before.get("pairs"))
        rows.append({"weights": weights, "change": change, **{name: _slashed(auc) for name, auc in aucs.items()}})
    return rows


def _pooled_changes(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean change of each way over its seeds, pair by pair, so that pairs and not runs are drawn anew."""
    rows = []
    for way in dict.fromkeys(run["way"] for run in runs):
        members = [run for run in runs if run["way"] == way]
        row: dict[str, Any] = {"way": way, "seeds": len(members)}
        for weights in ("selected", "last"):
            gains = [_gains(run["before"]["errors_deg"], run[weights]["errors_deg"]) for run in members]
            row[f"change, {weights}"] = _mean_interval(gains)
        rows.append(row)
    return rows


def paired_change(
    before: list[float], after: list[float], *, threshold: float = 10.0, pairs: dict[str, Any] | None = None
) -> str:
    """Mean change of max(0, 1 - e / threshold) over the pairs, in percent, with its 95 % bootstrap interval."""
    return _interval(_gains(before, after, threshold), pairs)


def _gains(before: list[float], after: list[float], threshold: float = 10.0) -> list[float]:
    """What each pair gained of max(0, 1 - e / threshold)."""
    return [max(0.0, 1 - a / threshold) - max(0.0, 1 - b / threshold) for b, a in zip(before, after, strict=True)]


def _interval(gains: list[float], pairs: dict[str, Any] | None = None) -> str:
    """The mean gain in percent with its 95 % bootstrap interval.

    Over the images of each scene where ``pairs`` says which they are, else over the pairs: rendered ones share no
    image.
    """
    if not any(gains):
        return "none"
    generator = torch.Generator().manual_seed(0)
    if pairs is None:
        counts = pair_counts(len(gains), RESAMPLES, generator)
    else:
        counts = image_counts(torch.tensor(pairs["images"]), pairs["scenes"], RESAMPLES, generator)
    between = interval(100 * resampled_mean(torch.tensor(gains, dtype=counts.dtype), counts))
    low, high = between if between is not None else (float("nan"), float("nan"))
    return f"{100 * sum(gains) / len(gains):+.2f} ({low:+.2f} to {high:+.2f})"


def _mean_interval(gains: list[list[float]], pairs: dict[str, Any] | None = None) -> str:
    """The same of the mean over runs, pair by pair, so that images or pairs and not runs are drawn anew."""
    return _interval([sum(pair) / len(pair) for pair in zip(*gains, strict=True)], pairs)


def _slashed(auc: dict[str, float]) -> str:
    return "/".join(f"{value:.1f}" for value in auc.values())


def _render_group(value: Any) -> str:
    if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
        return _table([{"": key, **row} for key, row in value.items()])
    if isinstance(value, dict):
        return _table([{"": _words(key), "value": item} for key, item in value.items()])
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return _table(value)
    return _cell(value)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, (dict, list)) or (isinstance(value, list) and not _is_rows(value))


def _is_rows(value: list) -> bool:
    return bool(value) and all(isinstance(row, dict) for row in value)


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [" | ".join(_words(column) for column in columns), " | ".join(["---"] * len(columns))]
    lines += [" | ".join(_cell(row.get(column, "")) for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
    if isinstance(value, dict) and value.keys() == {"5", "10", "20"}:
        return _slashed(value)
    if isinstance(value, dict) and value.keys() == {"median", "quartiles"}:
        return f"{_cell(value['median'])} ({' to '.join(map(_cell, value['quartiles']))})"
    if isinstance(value, dict) and value.keys() == {"mean", "low", "high"}:
        return f"{_cell(value['mean'])} ({_cell(value['low'])} to {_cell(value['high'])})"
    if isinstance(value, dict):
        return ", ".join(f"{_words(str(key))} {_cell(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value)) if len(value) <= 8 else f"{len(value)} values"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _words(key: str) -> str:
    return str(key).replace("_", " ")
