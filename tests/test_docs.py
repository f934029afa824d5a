"""What the papers say: the tour runs, links lead somewhere, and every public name is documented."""

import ast
import inspect
import json
import re

import pytest

import fadeout
from helpers import ROOT

PAPERS = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md",
          *sorted((ROOT / "docs").glob("*.md"))]  # fmt: skip


def test_the_tour_runs_from_top_to_bottom():
    cells = json.loads((ROOT / "docs/tour.ipynb").read_text())["cells"]
    space: dict = {}
    shown = []
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "generated results are not kept"
            tree = ast.parse("".join(cell["source"]))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "tour", "exec"), space)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), "tour", "eval"), space))
    profile, lost = shown[0], shown[1]
    assert profile[0] < profile[7] / 1e3, "sigmoid's delta vanishes on its way down"
    assert lost["sigmoid"] > 3 > 1 > lost["relu"]
    assert shown[-2] > 0.9, "sigmoid learns on its edge of chaos"


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.name)
def test_links_lead_somewhere(paper):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", paper.read_text()):
        if not target.startswith("http"):
            assert (paper.parent / target).exists(), target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("name", fadeout.__all__)
def test_every_public_name_says_what_it_is(name):
    found = getattr(fadeout, name)
    text = inspect.getdoc(found)
    assert text
    assert len(text.splitlines()[0]) > 20
    if name == "FadeoutError" or inspect.ismodule(found):
        return
    parts = {"Attributes:"} if inspect.isclass(found) else {"Args:", "Returns:", "Raises:"}
    assert {part for part in parts if part not in text} == set()
    assert ">>> " in text, "an example"


def test_the_api_page_names_them_all():
    page = (ROOT / "docs/api.md").read_text()
    for name in set(fadeout.__all__) - {"FadeoutError", "theory"}:
        assert re.search(rf"^::: fadeout[\w.]*\.{name}$", page, re.MULTILINE), name
