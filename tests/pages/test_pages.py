"""Pages in a real browser, and what they are made of."""

import base64
import json
import re
import shlex
import shutil

import numpy as np
import pytest

from conftest import small_runs
from fadeout import load, train
from fadeout.analysis import groups
from fadeout.analysis.verdicts import verdicts
from fadeout.cli.compose import compose_jobs
from fadeout.config import Activation, Model, Optimizer, Run, Task, Training
from fadeout.pages import as_json, page_texts, write_report
from fadeout.pages.summary import NOTHING, ZERO, encode_values, summary
from fadeout.registry import FadeoutError
from fadeout.training.resolve import resolve
from helpers import script

EVIL = "</script><script>document.title='taken'</script><b>x</b>"


def decoded(text, share):
    unit, packed = text.split(":")
    values = np.frombuffer(base64.b64decode(packed), "<i2").astype(float)
    shown = values / int(unit) if share else 10 ** (values / int(unit))
    return np.where(values == NOTHING, np.nan, np.where((values == ZERO) & (not share), 0, shown))


@pytest.fixture(scope="module")
def results(small_sweep):
    return load(small_sweep)


# --- what the page is made of


def test_numbers_survive_their_coding():
    values = np.array([1e-30, 0.0, np.nan, np.inf, 1.0, 3.14159, 1e20])
    back = decoded(encode_values(values, share=False), share=False)
    np.testing.assert_allclose(back[[0, 4, 5, 6]], values[[0, 4, 5, 6]], rtol=0.0012)
    assert back[1] == 0
    assert np.isnan(back[[2, 3]]).all()
    far = np.array([1e-60, 1e-300, 1.0])
    np.testing.assert_allclose(decoded(encode_values(far, share=False), False), far, rtol=0.012)
    shares = decoded(encode_values(np.array([0, 0.12345, 1.0, np.nan]), share=True), share=True)
    np.testing.assert_allclose(shares, [0, 0.1234, 1.0, np.nan], atol=1e-4)


def test_the_groups_hold_the_statistics_of_their_runs(results):
    data = summary(results, "x")
    assert [axis["name"] for axis in data["axes"]] == ["activation", "depth"]
    assert data["pooled"] == ["seed"]
    group = next(g for g in data["groups"] if g["at"] == [1, 1])
    own = results.isel(run=((results["activation"] == "tanh") & (results["depth"] == 5)).values)
    assert group["runs"] == own.sizes["run"]
    expected = np.stack(groups.quantile_spread(own["delta_norm"].sel(layer=slice(1, 6))))
    found = decoded(group["values"]["delta_norm"], share=False).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0.0012)
    assert group["steps"] == [0, 3, 6]


def test_findings_are_those_of_the_runs(results):
    """Of each group: decades from the highest hidden layer to the lowest, before training."""
    data = summary(results, "x")
    names, depths = (axis["values"] for axis in data["axes"])
    found = {(names[g["at"][0]], depths[g["at"][1]]): g for g in data["groups"]}
    assert found["step", "5"]["zero"]
    assert found["step", "5"]["decades"] is None
    assert found["tanh", "1"]["decades"] is None, "of one layer there is none"
    own = results.isel(run=((results["activation"] == "tanh") & (results["depth"] == 5)).values)
    ratio = own["delta_norm"].sel(step=0, layer=1) / own["delta_norm"].sel(step=0, layer=5)
    assert found["tanh", "5"]["decades"] == pytest.approx(float(np.median(np.log10(ratio))))
    assert data["classes"]


def test_regressions_that_diverge_are_not_said_to_solve():
    runs = [
        Run(Activation("tanh"), task=Task("linear"), optimizer=Optimizer("sgd", rate),
            training=Training(5, 5, "squared_error"))
        for rate in (0.1, 1e30)
    ]  # fmt: skip
    assert not summary(train(runs, quiet=True), "x")["classes"]


def test_a_remedy_is_counted_once():
    runs = [
        Run(Activation("relu"), model=Model(2, 4, **remedy), training=Training(2, 1), seed=seed)
        for remedy in ({}, {"residual": 1.0, "residual_scale": "sqrt_depth"}) for seed in (0, 1)
    ]  # fmt: skip
    data = summary(train(runs, quiet=True), "x")
    assert data["axes"][0]["name"] == "remedy"
    assert data["pooled"] == ["seed"]


def test_verdicts_in_the_page_add_up(results):
    assert sum(v["share"][1] for v in summary(results, "x")["verdicts"]) == pytest.approx(1)


def test_markup_in_data_cannot_close_its_element():
    text = as_json({"name": EVIL, "line": "\u2028"})
    assert "<" not in text
    assert json.loads(text) == {"name": EVIL, "line": "\u2028"}


def test_a_page_without_its_library_says_what_to_install(results, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    with pytest.raises(FadeoutError, match=r"pip install 'fadeout\[report\]'"):
        write_report(results, "x", tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_the_report_script_writes_one_file_that_fetches_nothing(small_sweep, tmp_path):
    done = script("report", small_sweep, "--to", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.html").read_text()
    own = text[: text.index("<script>")] + text[text.rindex("<script>") :]
    assert not re.search(r"(src|href)=\"(?!data:)", own)
    assert script("report", "nowhere", cwd=tmp_path).returncode == 1


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A sweep that recorded no probe, and in which some diverge."""
    runs = [
        Run(Activation("relu"), probes=(), training=Training(6, 3, "squared_error"), seed=seed,
            optimizer=Optimizer("sgd", rate))
        for seed in range(4) for rate in (0.1, 1e30)
    ]  # fmt: skip
    return train(runs)


def test_without_probes_the_verdicts_are_the_statuses(bare):
    found = {v["word"]: v["share"] for v in summary(bare, "x")["verdicts"]}
    assert set(found) == {"diverged", "unsolved"} or set(found) == {
        "diverged",
        "solved",
        "unsolved",
    }
    assert sum(share[1] for share in found.values()) == pytest.approx(1)
    assert found["diverged"][0] < found["diverged"][1] < found["diverged"][2]


# --- in a browser


def counts(rows, number):
    """Waits until so many are there; the page's policy forbids to wait by a script."""
    from playwright.sync_api import expect

    expect(rows).to_have_count(number)


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    return write_report(results, EVIL, tmp_path_factory.mktemp("report") / "r.html", f"Why? {EVIL}")


def test_charts_are_drawn_and_a_script_in_a_config_stays_text(opened, report):
    page = opened(report)
    for chart in ("profile", "image", "loss", "solved", "units"):
        assert page.locator(f"#{chart} svg").count() > 0
        assert len(page.locator(f"#{chart}").get_attribute("aria-label")) > 30
    assert page.locator("#name").inner_text() == EVIL
    assert page.locator("#question").inner_text().strip() == f"Why? {EVIL}"
    assert page.title() != "taken"
    assert page.locator("h1 b").count() == 0


def test_the_slider_moves_the_profile(opened, report, results):
    page = opened(report)
    before = page.evaluate("byId('profile').data.map((t) => t.y)")
    page.locator("input[type=range]").fill("2")
    assert "at step 6" in page.locator("#profile-title").inner_text()
    drawn = page.evaluate("byId('profile').data")
    assert [trace["y"] for trace in drawn] != before
    tanh = next(trace for trace in drawn if trace.get("name") == "tanh")
    own = results.isel(run=((results["activation"] == "tanh") & (results["depth"] == 5)).values)
    expected = own["delta_norm"].sel(step=6, layer=slice(1, 6)).median("run")
    np.testing.assert_allclose(tanh["y"], expected, rtol=0.0012)


def test_controls_choose_depth_quantity_and_activations(opened, report):
    page = opened(report)
    page.locator("#controls select").nth(0).select_option(label="1")
    assert max(len(x) for x in page.evaluate("byId('loss').data.map((t) => t.x)")) > 0
    layers = page.evaluate(
        "byId('profile').data.filter((t) => t.name && t.mode !== 'markers').map((t) => t.x.length)"
    )
    assert set(layers) == {2}
    page.locator("#controls select").nth(1).select_option(label="share of saturated units")
    assert "saturated" in page.locator("#profile-title").inner_text()
    page.locator("#controls input[type=checkbox]").first.uncheck()
    names = page.evaluate("byId('loss').data.filter((t) => t.name).map((t) => t.name)")
    assert names == ["tanh"]


def test_the_table_filters_and_sorts(opened, report, results):
    page = opened(report)
    rows = page.locator("#runs tbody tr")
    assert rows.count() == len(small_runs())
    page.locator("#filter").fill("activation=tanh depth=5")
    counts(page.locator("#runs tbody tr"), 2)
    page.locator("#filter").fill("solved")  # not the unsolved, and not the name of a column
    solved = int((results["status"] == "solved").sum())
    counts(page.locator("#runs tbody tr"), solved)
    page.locator("#filter").fill("")
    counts(page.locator("#runs tbody tr"), 8)
    page.locator("#runs th button", has_text="depth").click()
    column = [int(rows.nth(i).locator("td").nth(1).inner_text()) for i in range(8)]
    assert column == sorted(column)
    page.locator("#runs th button", has_text="depth").click()
    assert int(rows.first.locator("td").nth(1).inner_text()) == 5


def test_a_run_shows_its_layers_and_the_command_that_repeats_it(opened, report, loader):
    page = opened(report)
    page.locator("#filter").fill("activation=tanh depth=5 seed=1")
    counts(page.locator("#runs tbody tr"), 1)
    page.locator("#runs tbody tr").first.focus()
    page.keyboard.press("Enter")
    wanted = ("tanh", 5, 1)
    runs = {(r.activation.name, r.model.depth, r.seed): resolve(r) for r in small_runs()}
    run = runs[wanted]
    assert run.digest() in page.locator("#run-title").inner_text()
    assert page.locator("#run-layers tr").count() == 1 + 6
    command = shlex.split(page.locator("#run-command").inner_text())
    assert command[:2] == ["fadeout", "train"]
    (config,) = compose_jobs(loader, *loaded(loader, command[2:]))
    assert resolve(config.run()) == run


def test_zeros_are_marked_at_the_foot(opened, report):
    page = opened(report)
    drawn = page.evaluate("byId('profile').data.map((t) => [t.name || '', t.mode, t.y])")
    ((_, _, marks),) = [trace for trace in drawn if trace[0] == "step: exactly zero"]
    assert len(marks) == 5, "every hidden layer of the deepest"
    assert 0 < max(marks) < min(y for _, _, ys in drawn for y in ys if y and y not in marks)
    assert "step exactly zero" in page.locator("#profile-text").inner_text()


def test_runs_as_csv(opened, report):
    page = opened(report)
    page.locator("#filter").fill("activation=tanh")
    counts(page.locator("#runs tbody tr"), 4)
    lines = page.evaluate("csv()").splitlines()
    assert lines[0].startswith("id,activation,depth,seed,status,verdict")
    assert len(lines) == 5
    assert all(",tanh," in line for line in lines[1:])


def test_several_sweeps_side_by_side_and_each_run_in_the_playground(opened, small_sweep, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(small_sweep, other)
    done = script("report", small_sweep, other, "--playground", "--to", "both.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = opened(tmp_path / "both.html")
    assert page.locator("#controls legend").inner_text() == "sweep"
    names = page.evaluate("byId('loss').data.filter((t) => t.name).map((t) => t.name)")
    assert len(names) == 2
    page.locator("#filter").fill("activation=tanh depth=5 seed=1 sweep=other")
    counts(page.locator("#runs tbody tr"), 1)
    page.locator("#runs tbody tr").first.click()
    address = page.locator("#play").get_attribute("href")
    assert address.startswith("playground.html#")
    there = opened(tmp_path / "playground.html", address.split("#")[1])
    found = there.evaluate("({ ...state })")
    wanted = {"activation": "tanh", "depth": 5, "width": 4, "init": "he_normal", "task": "xor"}
    assert wanted.items() <= found.items()


def loaded(loader, overrides):
    from hydra.types import RunMode

    return loader.load_configuration("config", [], RunMode.MULTIRUN), [overrides]


def test_a_sweep_without_probes_has_a_page_too(opened, bare, tmp_path):
    page = opened(write_report(bare, "bare", tmp_path / "bare.html"))
    assert page.locator("#loss svg").count() > 0
    assert not page.locator("#profile").is_visible()
    counts(page.locator("#runs tbody tr"), 8)
    page.locator("#filter").fill("diverged learning_rate=0.1")
    counts(page.locator("#runs tbody tr"), 0)


def test_dark_pages_and_telephones(opened, report):
    page = opened(report, color_scheme="dark", viewport={"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 26)"


def test_the_headline_is_what_was_found(opened, report):
    page = opened(report)
    headline = "Over 5 layers the gradient is exactly zero with step and gets through with tanh."
    assert page.locator("h1").inner_text() == headline
    assert page.locator("#outcome").inner_text().startswith("Solved by ")
    page.evaluate(
        "HUE.values = ['a', 'b', 'c', 'd', 'e', 'f', '0.5'];"
        "DATA.groups = HUE.values.map((name, i) => ({ at: [i, 0], depth: 9, zero: false,"
        " decades: [-8.24, -3, 4, 0, 0, 0, -5][i], solved: [0, i / 10, 1] }));"
        "state.at = [0]; DATA.axes[1].name = AXES[0].name = 'init'; AXES[0].values = ['x'];"
        "drawFinding()"
    )
    assert page.locator("h1").inner_text() == (
        "With init x: Over 9 layers the gradient vanishes with a (8.2 decades lost), b (3.0 "
        "decades lost) and activation 0.5 (5.0 decades lost), explodes with c (4.0 decades gained) "
        "and gets through with d, e and f."
    )
    assert "60\u00a0% (activation 0.5), 50\u00a0% (f)" in page.locator("#outcome").inner_text()


def test_the_headline_follows_the_controls(opened, report):
    page = opened(report)
    page.locator("#controls select").nth(0).select_option(label="1")
    assert page.locator("h1").inner_text() == "step and tanh: 8 runs"


def test_a_report_in_chinese(opened, report):
    page = opened(report, locale="zh-CN")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.locator("h1").inner_text().startswith("5 层下来")
    assert "梯度在 step 中恰好为零" in page.locator("h1").inner_text()
    shown = page.locator("#charts").inner_text() + page.locator("#controls").inner_text()
    assert not re.search(r"Median|percentile|layer|Loss|Verdicts", shown), shown
    page.locator("#language").click()
    assert page.locator("#loss-title").inner_text() == "Loss during training"


@pytest.mark.parametrize("page_name", ["report", "playground"])
def test_texts_are_the_same_in_both_languages(page_name):
    told = page_texts(page_name)
    assert told["en"].keys() == told["zh"].keys()
    groups = [key for key in told["en"] if isinstance(told["en"][key], dict)]
    for key in told["en"].keys() - set(groups):
        holes = [sorted(re.findall(r"\{(\w+)\}", told[language][key])) for language in told]
        assert holes[0] == holes[1], key
        assert all(told[language][key].strip() for language in told)


def test_no_text_of_the_report_is_missing():
    from importlib.resources import files

    own = files("fadeout.pages")
    script = "".join(own.joinpath(f"report.{kind}").read_text() for kind in ("js", "html"))
    script += own.joinpath("common.js").read_text()
    asked = set(re.findall(r'\bt\("(\w+)"', script)) | set(
        re.findall(r'data-(?:word|name)"?[=:] ?"(\w+)"', script)
    )
    words = page_texts("report")["en"].keys()
    assert asked <= words, asked - words
    spare = {key for key in words - asked if f'"{key}"' not in script and key != "names"}
    panels = ("profile", "image", "loss", "solved", "units", "verdicts")
    assert spare <= {f"{panel}_{kind}" for panel in panels for kind in ("why", "title")}


def test_every_panel_is_explained_and_fills_the_screen(opened, report):
    page = opened(report)
    for panel in page.evaluate("[...PANELS, 'verdicts']"):
        figure = page.locator(f"#{panel}-panel")
        figure.locator("summary").click()
        assert len(figure.locator(".why p").inner_text()) > 30
        figure.locator("summary").click()
    page.locator("#profile-panel .full").click()
    page.wait_for_timeout(500)
    assert page.evaluate("document.fullscreenElement.id") == "profile-panel"
    assert page.evaluate("byId('profile').layout.showlegend") is True
    chart = page.locator("#profile").bounding_box()
    assert chart["height"] > 0.7 * page.viewport_size["height"]
    assert page.locator("#profile .legend").bounding_box()["y"] < chart["y"] + 80


def test_verdicts_follow_the_filter(opened, report, results):
    page = opened(report)
    assert page.locator("#verdicts th").all_inner_texts() == ["step", "tanh", "all"]
    page.locator("#filter").fill("activation=tanh depth=5")
    counts(page.locator("#runs tbody tr"), 2)
    assert page.locator("#verdicts th").all_inner_texts() == ["tanh", "all"]
    own = results.isel(run=((results["activation"] == "tanh") & (results["depth"] == 5)).values)
    (word,) = set(verdicts(own).tolist())
    assert page.locator("#verdicts tr").first.inner_text().split("\n")[-1].strip() == (
        f"{word.replace('_', ' ')} 100\u00a0%"
    )


def test_bands_are_told_where_they_are(opened, report, results, tmp_path):
    page = opened(report)
    assert "bands spread over seed" in page.locator("#counts").inner_text()
    assert "band: 10th" in page.locator("#loss-text").inner_text()
    alone = results.isel(run=(results["seed"] == 0).values)
    page = opened(write_report(alone, "alone", tmp_path / "alone.html"))
    assert "a line is one run" in page.locator("#counts").inner_text()
    assert "band" not in page.locator("#loss-text").inner_text()


def test_equal_lines_stand_beside_each_other(opened, report):
    page = opened(report)
    widths = page.evaluate("byId('loss').data.filter((t) => t.name).map((t) => t.line.width)")
    assert widths[0] > widths[1]
    first, second = page.evaluate("byId('solved').data.map((t) => t.x)")
    assert all(a < b for a, b in zip(first, second, strict=True))


def test_a_run_that_is_chosen_is_not_covered_by_the_bar(opened, report):
    page = opened(report)
    page.locator("#runs tbody tr").first.click()
    bar = page.locator("#controls").bounding_box()
    assert page.locator("#run-title").bounding_box()["y"] >= bar["y"] + bar["height"] - 1
