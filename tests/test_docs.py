"""What the papers say: the tour runs, links lead somewhere, and every public name is documented."""

import base64
import inspect
import re

import nbformat
import pytest
from nbclient import NotebookClient

import fadeout
from fadeout.networks.activations import ACTIVATIONS
from helpers import ROOT

PAPERS = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md",
          *sorted((ROOT / "docs").glob("*.md"))]  # fmt: skip


def executed(name, folder):
    """Runs a notebook in a real kernel, and returns what a cell with some words showed."""
    notebook = nbformat.read(ROOT / f"docs/{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "generated results are not kept"
    where = {"metadata": {"path": folder}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    shown = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            if output.output_type == "execute_result":
                shown[cell.source] = output.data
            elif output.output_type == "stream" and output.name == "stdout":
                shown.setdefault(cell.source, {"text/plain": output.text})
    return lambda words: next(data for source, data in shown.items() if words in source)


def test_the_exercises_have_the_answers_that_they_say(tmp_path):
    said = executed("exercises", tmp_path)

    def number(words):
        return float(said(words)["text/plain"])

    measured = re.search(r"measured (-[\d.]+)", said("measured = ")["text/plain"])[1]
    assert -6.6 < float(measured) < -5.2
    assert -6.6 < number("expected = ") < -5.6
    assert number("results.saturation") == 0
    solved = eval(said("ways = ")["text/plain"])
    assert solved["plain", 10] == solved["plain", 20] == solved["adam", 20] == 0
    assert 0 < solved["adam", 10] < 1
    assert min(solved["residual", 10], solved["residual", 20]) > 0.8
    assert "iframe" in said("fadeout.show(")["text/html"]
    assert "'sigmoid': [103." in said("theory.critical(name)")["text/plain"]


def test_the_tour_runs_in_a_real_kernel_and_shows_its_picture(tmp_path):
    said = executed("tour", tmp_path)
    (profile,) = re.findall(r"\[([^]]*)\]", said("one.delta_norm")["text/plain"])
    profile = [float(number) for number in profile.replace(",", " ").split()]
    assert profile[0] < profile[7] / 1e3, "sigmoid's delta vanishes on its way down"
    lost = dict(re.findall(r"^(\w+) +([\d.]+|NaN)", said("lost.to_series")["text/plain"], re.M))
    assert float(lost["sigmoid"]) > 3 > 1 > float(lost["relu"])
    assert float(said('init="critical"')["text/plain"]) > 0.9, "it learns on its edge of chaos"
    assert "iframe" in said("fadeout.show(")["text/html"]
    picture = said("fadeout.compare(")
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.name)
def test_links_lead_somewhere(paper):
    words = re.sub(r"```.*?```", "", paper.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", words):
        if not target.startswith("http"):
            assert (paper.parent / target).exists(), target


def test_the_readme_lists_all_activations():
    (row,) = re.findall(r"^\| `activation` \| (.*) \|$", (ROOT / "README.md").read_text(), re.M)
    assert re.sub(r" \([^)]*\)", "", row).split(", ") == list(ACTIVATIONS)


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


def test_the_three_cases_are_as_the_page_says():
    """The code of docs/watching.md, run block by block: who is to blame, and what the cure does."""
    page = (ROOT / "docs/watching.md").read_text()
    own: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "watching.md", "exec"), own)  # as a reader would
    small, cured = own["small"].results, own["cured"].results
    assert (small.verdict[:, :5] == "vanishing").all()
    assert "variance_scaling(0.88" in str(own["small"])
    assert small.loss[-1] > 0.69
    assert cured.loss[-1] < 0.4
    assert (cured.verdict == "healthy").all()
    assert "over time" in str(own["forgets"])
    assert own["forgets"].results.loss[-1] > 0.68
    assert own["keeps"].results.loss[-1] < 0.1
    assert own["broken"].results.loss[-1] > 100
    assert "look at the learning rate" in str(own["broken"])
    assert (own["broken"].results.verdict[0] == "healthy").all()
    assert own["slower"].results.loss[-1] < 0.8
