"""What `fadeout.show` puts into a notebook, in a real browser."""

import numpy as np
import pytest

import fadeout
from fadeout.config import Init, Model, Optimizer, Run, Task, Training
from fadeout.pages.show import MOST_FRAMES, data_to_show
from fadeout.registry import FadeoutError

MOONS = Run("tanh", task=Task("moons"), model=Model(4, 8), optimizer=Optimizer("adam", 0.02),
            training=Training(200, 4))  # fmt: skip
SPIRALS = Run("relu", Init("he_normal"), Task("spirals", options={"arms": 3}), Model(3, 16),
              Optimizer("adam", 0.01), Training(100, 10))  # fmt: skip


@pytest.fixture(scope="module")
def shown():
    return fadeout.show([MOONS, SPIRALS])


def test_all_that_is_shown_is_what_was_trained():
    """The values of the run itself, and answers that agree with its accuracy."""
    (own,) = data_to_show([MOONS])["runs"]
    probes = ("delta_norm", "activation_mean", "activation_std", "dead_units", "saturation")
    run = Run(**{name: getattr(MOONS, name) for name in ("activation", "task", "model", "optimizer",
              "training")}, probes=probes, keep=["weights"])  # fmt: skip
    found = fadeout.train(run, quiet=True).isel(run=0)
    assert len(own["steps"]) == MOST_FRAMES
    np.testing.assert_allclose(own["loss"], found["loss"], rtol=1e-4)
    at = found.sel(step=own["steps"], layer=slice(1, 4))
    np.testing.assert_allclose(own["layers"]["delta"], at["delta_norm"], rtol=1e-4)
    rms = np.hypot(at["activation_mean"], at["activation_std"])
    np.testing.assert_allclose(own["layers"]["signal"], rms, rtol=1e-4)
    surface, size = own["surface"], own["surface"]["points"]
    last = np.reshape(surface["frames"][-1], (size, size))[::-1]
    expected = fadeout.surface(found, points=size)
    np.testing.assert_allclose(last, 100 / (1 + np.exp(-expected.isel(run=0).values)), atol=0.6)
    assert surface["x"] == pytest.approx([float(expected.x[0]), float(expected.x[-1])])
    assert found["accuracy"].values[-1] == 1
    for x, y, target in own["examples"]:
        column = np.abs(expected.x.values - x).argmin()
        row = np.abs(expected.y.values - y).argmin()
        assert abs(last[row, column] - 100 * target) < 70, "near an example, roughly its answer"


@pytest.mark.parametrize("width", [390, 1000])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_notebook_shows_it(browser, shown, tmp_path, width, scheme):
    """As the notebook embeds it: a frame of its own, which fetches nothing and moves."""
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><body>{shown._repr_html_()}</body>")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong = []
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    own = ("file:", "about:")
    page.on("request", lambda r: None if r.url.startswith(own) else wrong.append(r.url))
    page.goto(path.as_uri())
    frame = page.frames[1]
    frame.wait_for_selector("body[data-ready=yes]")
    assert frame.evaluate("document.documentElement.scrollWidth") <= width
    step = frame.locator("#controls input[type=range]")
    assert "Step 0:" in frame.locator("#loss-text").inner_text()
    picture = "byId('surface').toDataURL()"
    before = frame.evaluate(picture)
    step.fill("40")
    assert "Step 200:" in frame.locator("#loss-text").inner_text()
    assert "100\u00a0% right" in frame.locator("#loss-text").inner_text()
    assert frame.evaluate(picture) != before
    frame.locator("select").select_option("1")
    assert "A colour for each class" in frame.locator("#surface-text").inner_text()
    assert frame.locator("#controls input[type=range]").input_value() == "10", "its own last"
    frame.locator("#film").click()
    page.wait_for_timeout(700)
    frame.locator("#film").click()
    assert 0 < frame.evaluate("state.frame") < 10, "from the start"
    for panel in frame.evaluate("PANELS"):
        assert len(frame.locator(f"#{panel}").get_attribute("aria-label")) > 15
    page.close()
    assert wrong == []


def test_what_has_no_plane_says_so(opened, tmp_path):
    runs = [
        Run(task=Task("parity"), training=Training(4, 2)),
        Run(task=Task("moons"), model=Model(2, 8, normalization="batch"), training=Training(4, 2)),
        Run("relu", training=Training(0, 1)),
    ]
    path = fadeout.show(runs).save(tmp_path / "runs.html")
    page = opened(path, locale="zh-CN")
    assert "4 个输入" in page.locator("#surface-text").inner_text()
    page.locator("select").select_option("1")
    assert "整批" in page.locator("#surface-text").inner_text()
    page.locator("select").select_option("2")
    assert page.locator("#film").count() == 0, "nothing to move through"


def test_numbers_are_shown_between_the_lowest_and_the_highest_target():
    """A regression's targets are -1, 0 and 1: three colours, and not two."""
    run = Run(task=Task("linear", "bipolar"), training=Training(20, 10, "squared_error"))
    (own,) = data_to_show([run])["runs"]
    assert own["levels"] == (-1.0, 1.0)
    assert {target for _, _, target in own["examples"]} == {0.0, 0.5, 1.0}
    trained = fadeout.train(Run(task=run.task, training=run.training, keep=["weights"]), quiet=True)
    expected = fadeout.surface(trained, points=own["surface"]["points"]).isel(run=0).values
    last = np.reshape(own["surface"]["frames"][-1], expected.shape)[::-1]
    np.testing.assert_allclose(last, np.clip(50 * (expected + 1), 0, 100), atol=0.6)


def test_results_are_shown_too():
    results = fadeout.train([MOONS, Run("relu", seed=1, training=Training(4, 2))], quiet=True)
    names = [run["name"] for run in data_to_show([MOONS, Run("relu", seed=1)])["runs"]]
    assert names[0].startswith("tanh, task moons")
    assert "MB of HTML" in repr(fadeout.show(results.isel(run=1)))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (3, "takes a Run, or results"),
        ([], "takes a Run, or results"),
        ("activation=tanh", "takes a Run, or results"),
        ([Run()] * 13, "12 runs at most, not 13"),
    ],
)
def test_what_cannot_be_shown(what, told):
    with pytest.raises(FadeoutError, match=told):
        fadeout.show(what)
