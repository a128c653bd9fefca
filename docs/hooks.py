"""Puts measured figures into pages: a line ``{{ results: NAME.json }}`` becomes the tables of docs/results/NAME.json.

Figures are never typed: where a results file is missing, the page says that nothing has been measured yet.
"""

import json
import random
import re
from pathlib import Path
from typing import Any

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
        columns = ["pooled", *content["before"][setting]["sets"]]
        rows = []
        for weights, figures in judged.items():
            sets = figures[setting]["sets"]
            aucs = [figures[setting]["pooled"], *(sets[name]["auc"] for name in columns[1:])]
            change = paired_change(content["before"][setting]["errors_deg"], figures[setting]["errors_deg"])
            aucs_by_name = {name: _slashed(auc) for name, auc in zip(columns, aucs, strict=True)}
            rows.append({"weights": weights, "change": change, **aucs_by_name})
        parts.append(
            f"AUC@5/10/20 at {setting}; change of the mean clipped accuracy at 10° over the same pairs, with its 95 % "
            f"bootstrap interval:\n\n{_table(rows)}"
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


def paired_change(before: list[float], after: list[float], *, threshold: float = 10.0) -> str:
    """Mean change of max(0, 1 - e / threshold) over the pairs, in percent, with its 95 % bootstrap interval."""
    gains = [max(0.0, 1 - b / threshold) - max(0.0, 1 - a / threshold) for a, b in zip(before, after, strict=True)]
    if not any(gains):
        return "none"
    draw = random.Random(0)
    means = sorted(100 * sum(draw.choices(gains, k=len(gains))) / len(gains) for _ in range(2000))
    return f"{100 * sum(gains) / len(gains):+.2f} ({means[50]:+.2f} to {means[1949]:+.2f})"


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
    if isinstance(value, dict):
        return ", ".join(f"{_words(str(key))} {_cell(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value)) if len(value) <= 8 else f"{len(value)} values"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _words(key: str) -> str:
    return str(key).replace("_", " ")
