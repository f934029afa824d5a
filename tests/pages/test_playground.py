"""The page that trains, in a real browser: its mathematics against fadeout's, and its controls."""

import json
import re
from importlib.resources import files

import numpy as np
import pytest

import fadeout
from fadeout import theory
from fadeout.claims.table import CLAIMS
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.activations import ACTIVATIONS
from fadeout.networks.initializers import kernel_variance
from fadeout.pages import write_playground
from fadeout.pages.playground import INITS, page_texts, page_tours
from fadeout.pages.translate import javascript
from fadeout.registry import FadeoutError

OWN = files("fadeout.pages")


@pytest.fixture(scope="module")
def playground(tmp_path_factory):
    return write_playground(tmp_path_factory.mktemp("playground") / "p.html")


@pytest.fixture(scope="module")
def page(browser, playground):
    """One page for what changes no control."""
    page = browser.new_page()
    page.goto(playground.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    yield page
    page.close()


# --- its mathematics


def test_every_activation_is_fadeouts(page):
    z = np.concatenate([np.linspace(-30, 30, 1201), [1e-8, -1e-8, 2.5, -2.5, 100, -100]])
    for name in ACTIVATIONS:
        found = page.evaluate(
            "([name, z]) => { const h = new Float64Array(z.length), s = new Float64Array(z.length);"
            "PHI[name](Float64Array.from(z), h, s); return [Array.from(h), Array.from(s)]; }",
            [name, z.tolist()],
        )
        expected = np.array(theory.value_and_slope(name, z))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13, err_msg=name)


def test_an_operation_without_translation_is_said():
    import jax

    with pytest.raises(FadeoutError, match="lgamma has no translation"):
        javascript(lambda z: (jax.lax.lgamma(z), z))


def kernels_and_biases(result):
    """As `fadeout.weights`, also of networks that have more than these."""
    lacking = [name for name in ("last_gain", "last_factor") if name in result]
    return fadeout.weights(result.drop_vars(lacking))


REMEDIES = {
    "plain": {},
    "residual, rms": {"residual": 0.5, "normalization": "rms"},
    "sqrt_depth, layer": {
        "residual": 1.0,
        "residual_scale": "sqrt_depth",
        "normalization": "layer",
    },
    "rezero": {"residual": 1.0, "residual_scale": "zero"},
    "batch": {"normalization": "batch"},
}


@pytest.mark.few
@pytest.mark.parametrize(
    ("activation", "optimizer", "rate", "loss", "remedy"),
    [
        ("tanh", "sgd", 0.3, "cross_entropy", "plain"),
        ("relu", "adam", 0.01, "cross_entropy", "plain"),
        ("tanh", "adam", 0.003, "squared_error", "plain"),
        ("relu", "momentum", 0.01, "squared_error", "plain"),
        ("gelu", "sgd", 0.1, "cross_entropy", "residual, rms"),
        ("tanh", "sgd", 0.1, "cross_entropy", "sqrt_depth, layer"),
        ("softplus", "adam", 0.003, "cross_entropy", "rezero"),
        ("tanh", "momentum", 0.03, "cross_entropy", "batch"),
    ],
)
def test_training_in_the_browser_is_fadeouts(page, activation, optimizer, rate, loss, remedy):
    """From the same weights, 200 steps in double precision, to 1e-9."""
    model = Model(3, 8, **REMEDIES[remedy])
    run = Run(
        Activation(activation), Init("he_normal"), Task("xor", inputs="bipolar"), model,
        Optimizer(optimizer, rate), Training(200, 20, loss, "float64"),
        ("delta_norm", "gradient_norm", "saturation", "dead_units"), keep=("weights",),
    )  # fmt: skip
    training = Training(0, 1, loss, "float64")
    begun, ended = (
        fadeout.train(r, cache=None, quiet=True).isel(run=0)
        for r in (Run(run.activation, run.init, run.task, model, run.optimizer, training,
                      run.probes, keep=("weights",)), run)
    )  # fmt: skip
    weights = kernels_and_biases(begun)
    settings = {"activation": activation, "optimizer": optimizer, "rate": rate, "loss": loss,
                "depth": 3, "width": 8, "task": "xor", "residual": model.residual,
                "scale": model.residual_scale, "normalization": model.normalization}  # fmt: skip
    found = page.evaluate(
        """([settings, kernels, biases]) => {
          Object.assign(state, settings);
          reset();
          give(kernels, biases);
          const losses = [labs[0].seen.loss];
          for (let k = 0; k < 10; k += 1) { advance(20); losses.push(labs[0].seen.loss); }
          const now = measured(state, labs[0].seen);
          return { losses, kernels: labs[0].net.kernels.map((k) => Array.from(k)), ...now };
        }""",
        [settings, *([weights[f"{kind}_{layer}"].tolist() for layer in range(1, 5)]
                     for kind in ("kernel", "bias"))],
    )  # fmt: skip
    np.testing.assert_allclose(found["losses"], ended.loss, rtol=1e-9, atol=1e-12)
    for layer, kernel in enumerate(found["kernels"], 1):
        own = kernels_and_biases(ended)[f"kernel_{layer}"].ravel()
        np.testing.assert_allclose(kernel, own, rtol=1e-8, atol=1e-9)
    last = ended.sel(step=200)
    for name, probe in (
        ("delta", "delta_norm"),
        ("saturated", "saturation"),
        ("dead", "dead_units"),
    ):
        np.testing.assert_allclose(
            found[name], last[probe][:3], rtol=1e-7, atol=1e-12, err_msg=name
        )
    np.testing.assert_allclose(found["weights"], last.gradient_norm, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("remedy", ["plain", "residual, rms", "sqrt_depth, layer", "rezero"])
def test_its_theory_is_fadeouts(page, remedy):
    model = Model(12, 64, **REMEDIES[remedy])
    branch = theory.branch_factor(model.residual, model.residual_scale, 12)
    for name in ("sigmoid", "tanh", "relu", "gelu"):
        found = page.evaluate(
            "(settings) => { Object.assign(state, settings); return theory(state, 2, 1); }",
            {"activation": name, "depth": 12, "width": 64, "init": "lecun_normal", "gain": 1.2,
             "residual": model.residual, "scale": model.residual_scale,
             "normalization": model.normalization},
        )  # fmt: skip
        expected = theory.profile(name, 12, 1.44, 0.0, 1.44, branch, model.normalization != "none")
        np.testing.assert_allclose(np.log10(found["delta"]), expected.gradient, atol=0.002)
        np.testing.assert_allclose(found["signal"], np.sqrt(expected.variances), rtol=1e-3)


def test_networks_are_drawn_with_fadeouts_variances(page):
    for name in INITS:
        found = page.evaluate(
            "(init) => kernelVariance({ ...state, activation: 'tanh', init }, 12, 20)", name
        )
        parameters = {"weight_variance": 1.0} if name == "critical" else {}
        assert found == pytest.approx(kernel_variance(name, 12, 20, **parameters), abs=1e-12)
    kernel = page.evaluate(
        "state.init = 'he_normal'; state.gain = 1; state.depth = 2; state.width = 64;"
        "Array.from(drawNetwork(state, 2, generator(3)).kernels[1])"
    )
    assert np.var(kernel) == pytest.approx(2 / 64, rel=5 * np.sqrt(2 / 64**2))


# --- its words


def test_no_text_is_missing_in_either_language():
    told = page_texts()
    assert told["en"].keys() == told["zh"].keys()
    texts = [key for key in told["en"] if key != "options"]
    assert all(told[language][key].strip() for language in ("en", "zh") for key in texts)
    holes = {
        language: {
            key: sorted(re.findall(r"\{(\w+)\}", text))
            for key, text in told[language].items()
            if key != "options"
        }
        for language in ("en", "zh")
    }
    assert holes["en"] == holes["zh"]
    names = ("playground.js", "panels.js", "tours.js", "experiments.js", "playground.html")
    script = "\n".join(OWN.joinpath(name).read_text() for name in names)
    asked = set(re.findall(r'\bt\("(\w+)"', script)) | set(re.findall(r'data-word="(\w+)"', script))
    asked |= set(re.findall(r'(?:group|part)\("(\w+)"', script))
    panels = json.loads(re.search(r"const PANELS = (\[.*?\]);", script)[1])
    asked |= {f"{panel}_{kind}" for panel in [*panels, "predict"] for kind in ("title", "why")}
    for measure in ("solved", "dead_layer"):
        asked |= {f"guess_{measure}", f"answer_{measure}"}
    words = told["en"].keys()
    assert asked <= words, asked - words
    spare = {key for key in words - asked if f'"{key}"' not in script and key != "options"}
    assert not spare, f"texts that nothing shows: {spare}"


def texts_of(value):
    """Every text of the tours, in both languages."""
    if isinstance(value, dict) and "en" in value:
        yield value
    for inside in value.values() if isinstance(value, dict) else value:
        if isinstance(inside, dict | list):
            yield from texts_of(inside)


def test_tours_have_all_their_texts():
    guide = page_tours()
    assert all(text["en"].strip() and text["zh"].strip() for text in texts_of(guide))
    assert len(guide["starts"]) == 8
    for tour in guide["tours"]:
        assert len(tour["objectives"]) == len(tour["questions"]) == 3
        assert "ask" in tour["stops"][0], "first a guess"
        assert set(tour["claims"]) <= set(CLAIMS)
        assert all("look" in stop or "ask" in stop for stop in tour["stops"])
        for text in texts_of(tour["stops"]):
            assert "last panel" not in text["en"]
            assert "first panel" not in text["en"]


def test_it_speaks_the_browsers_language_and_the_other(opened, playground):
    page = opened(playground, locale="zh-CN")
    chinese = page_texts()["zh"]
    assert page.locator("h1").inner_text() == chinese["title"]
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.locator("#language").click()
    assert page.locator("h1").inner_text() == page_texts()["en"]["title"]
    assert "lang=en" in page.url
    assert page.locator("#gradient-text").inner_text().startswith("On the way down")


# --- its controls


def settings(page):
    return page.evaluate("({ ...state })")


def test_a_network_trains_before_your_eyes(opened, playground):
    page = opened(playground, "activation=tanh&depth=4")
    assert "step 0" in page.locator("#status").inner_text()
    page.locator("#one").click()
    assert "step 1 " in page.locator("#status").inner_text()
    page.locator("#speed input").fill("4")
    page.locator("#play").click()
    page.wait_for_selector("#status[data-word=solved]", timeout=20_000)
    page.locator("#play").click()
    steps = page.evaluate("labs[0].step")
    page.wait_for_timeout(200)
    assert page.evaluate("labs[0].step") == steps, "it is paused"
    assert page.evaluate("byId('loss').data[0].y.length") > 10
    page.locator("#reset").click()
    assert "step 0" in page.locator("#status").inner_text()


def test_what_is_paused_is_drawn_and_one_more_step_is_one(opened, playground):
    page = opened(playground, "activation=step&depth=2")
    page.locator("#speed input").fill("4")
    page.locator("#play").click()
    page.wait_for_timeout(800)
    page.locator("#play").click()
    step, shown = page.evaluate("[labs[0].step, byId('status').textContent]")
    assert f"step {step} " in shown
    loss = shown.split("loss ")[1].split(" ")[0]
    assert page.locator("#loss-text").inner_text().startswith(f"Loss {loss};")
    page.locator("#one").click()
    assert page.evaluate("labs[0].step") == step + 1


def test_a_text_does_not_stay_beside_what_it_is_not_of(opened, playground):
    page = opened(playground)
    page.locator("#tours").select_option("0")
    assert page.locator("#tour-text").inner_text()
    page.locator("#controls input[type=range]").first.fill("4")
    assert not page.locator("#tour-text").inner_text()
    assert page.locator("#tours").input_value() == "-1"


def test_who_solves_without_a_gradient_is_said_to(opened, playground):
    """step: the readout alone; and an exploding network is not said to vanish at dead layers."""
    page = opened(playground, "activation=step&depth=2&optimizer=adam&rate=0.01")
    page.evaluate("advance(600); drawNow()")
    assert page.locator("#status").get_attribute("data-word") == "solved_above"
    page.evaluate("labs[0].now.delta = [0, 1e9, 1]; labs[0].seen.accuracy = 0.5; drawNow()")
    assert page.locator("#status").get_attribute("data-word") == "exploding"


def test_sigmoid_of_twenty_layers_does_not_train_even_with_adam(opened, playground):
    """As the tour says."""
    page = opened(playground, "depth=20&optimizer=adam&rate=0.01")
    assert page.evaluate("advance(400); labs[0].seen.accuracy") < 1


def test_long_training_keeps_few_records(opened, playground):
    page = opened(playground, "activation=tanh&depth=1&width=2")
    found = page.evaluate(
        "advance(3000); ({ kept: labs[0].records.length, step: labs[0].records.at(-1).step })"
    )
    assert 200 <= found["kept"] <= 401
    assert found["step"] > 2900


def test_what_diverges_says_so_and_stops(opened, playground):
    page = opened(
        playground,
        "activation=relu&init=he_normal&depth=8&loss=squared_error&optimizer=sgd&rate=3",
    )
    page.locator("#speed input").fill("4")
    page.locator("#play").click()
    page.wait_for_selector("#status[data-word=diverged]", timeout=20_000)
    assert page.evaluate("view.playing") is False


def test_every_activation_has_its_panels(opened, playground):
    page = opened(playground, "depth=5")
    for name in ACTIVATIONS:
        page.locator("#controls select").first.select_option(label=name)
        assert page.locator("#gradient svg").count() > 0
        assert settings(page)["activation"] == name
        nothing = page.locator("#status").get_attribute("data-word") == "no_gradient"
        assert nothing == ("Exactly zero" in page.locator("#gradient-text").inner_text())
        assert nothing == (name == "step")


def test_what_has_no_edge_of_chaos_says_so(opened, playground):
    page = opened(playground, "activation=softplus&init=critical")
    assert "no edge of chaos" in page.locator("#status").inner_text()
    assert page.locator("#play").is_disabled()
    page.locator("#controls select").nth(1).select_option(label="he_normal")
    assert page.locator("#play").is_enabled()


def test_settings_live_in_the_address(opened, playground):
    page = opened(playground)
    page.locator("#controls select").first.select_option(label="relu")
    page.locator("#controls input[type=range]").first.fill("19")
    page.locator("#controls select").nth(2).select_option(label="moons")
    before, address = settings(page), page.url.split("#")[1]
    assert before["depth"] == 20
    again = opened(playground, address)
    assert settings(again) == before
    odd = opened(playground, "activation=%3Cb%3E&depth=1e9&width=abc&task=__proto__&seed=x&lang=xx")
    assert settings(odd) == odd.evaluate("DEFAULTS")


def test_the_command_is_what_is_on_the_screen(opened, playground):
    page = opened(
        playground,
        "activation=gelu&depth=7&width=12&gain=1.2&task=parity&optimizer=sgd&rate=0.3"
        "&residual=0.5&scale=sqrt_depth&normalization=rms",
    )
    (run,) = fadeout.expand(page.locator("#command").inner_text().removeprefix("fadeout train"))
    assert run.activation.name == "gelu"
    assert (run.model.depth, run.model.width, run.model.normalization) == (7, 12, "rms")
    assert (run.model.residual, run.model.residual_scale) == (0.5, "sqrt_depth")
    assert (run.init.gain, run.optimizer.name, run.optimizer.learning_rate) == (1.2, "sgd", 0.3)
    assert (run.task.name, run.task.inputs, run.task.bits) == ("parity", "bipolar", 4)
    page.locator("#copy").click()
    assert page.locator("#copied").inner_text() in ("copied", "selected: copy it with the keyboard")


TOLD = (
    ("vanishing", "learning", "learning", "vanishing", "vanishing", "vanishing",
     "vanishing solved", "solved", "vanishing"),
    ("vanishing", "vanishing", "vanishing", "learning", "vanishing solved", "vanishing", "exploding"),
    ("learning", "learning", "learning", "no_gradient", "no_gradient solved", "learning",
     "solved"),
    ("vanishing", "no_gradient", "no_gradient", "vanishing", "vanishing solved"),
    ("exploding", "exploding", "vanishing", "learning", "solved vanishing", "learning"),
)  # fmt: skip
"""What the state of each stop must be, of a race those of both, for its text to be true."""

SCREENS = {"laptop": {"width": 1300, "height": 850}, "telephone": {"width": 390, "height": 800}}


def is_on_screen(page, place):
    """Whether something stands between the transport and the tour's words, or in the window."""
    box, height = page.locator(place).bounding_box(), page.viewport_size["height"]
    if place.endswith("-panel"):
        top = page.locator("#transport").bounding_box()["height"]
        return box["y"] >= top - 1 and box["y"] + box["height"] <= (
            page.locator("#tour").bounding_box()["y"] + 1
        )
    return box["y"] >= 0 and box["y"] + box["height"] <= height + 1


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("tour", range(5))
def test_every_tour_keeps_its_promise_on_every_screen(opened, playground, tour, screen):
    """Each stop's text, its panel and the way on are on the screen; each guess is answered by
    twenty networks as the sheet says; what trains comes to its end. By keyboard alone."""
    language = {"laptop": "en", "telephone": "zh"}[screen]
    page = opened(playground, f"lang={language}", viewport=SCREENS[screen], color_scheme="dark")
    page.locator("#tours").select_option(str(tour))
    stops = page_tours()["tours"][tour]["stops"]
    assert len(stops) == len(TOLD[tour])
    for number, (stop, wanted) in enumerate(zip(stops, TOLD[tour], strict=True)):
        where = f"stop {number + 1}"
        assert page.locator("#tour-text").inner_text() == stop["text"][language]
        assert page.locator("#tour-place").inner_text() == f"{number + 1} / {len(stops)}"
        for key, value in stop["set"].items():
            assert settings(page)[key] == value
        if "ask" in stop:
            page.locator("#run-twenty").click()
            page.wait_for_selector("#predict[data-done=yes]", timeout=60_000)
            low, high = stop["ask"]["expected"]
            assert low <= page.evaluate("answerOf(asked).middle") <= high, where
        if "steps" in stop:
            page.evaluate("play(false); advance(view.until - labs[0].step); drawNow()")
        assert page.evaluate("labs.map((lab) => lab.state).join(' ')") == wanted, where
        looked = "predict" if "ask" in stop else stop["look"]
        for place in (f"#{looked}-panel", "#tour-text", "#back", "#next"):
            assert is_on_screen(page, place), f"{where}: {place}"
        assert page.locator(".looked").get_attribute("id") == f"{looked}-panel"
        if number < len(stops) - 1:
            page.locator("#next").focus()
            page.keyboard.press("Enter")


def test_what_does_not_learn_though_its_gradient_passes_is_told(opened, playground):
    page = opened(playground)
    page.evaluate(
        """Object.assign(state, { activation: "tanh", optimizer: "sgd", rate: 1e-9 });
        reset(); advance(499); drawNow()"""
    )
    assert page.locator("#status").get_attribute("data-word") == "learning"
    page.evaluate("advance(1); drawNow()")
    assert page.locator("#status").get_attribute("data-word") == "stuck"
    assert "may point the wrong way" in page.locator("#status").inner_text()


def test_dark_pages_telephones_and_questions(opened, playground):
    page = opened(playground, color_scheme="dark", viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#transport").bounding_box()["height"] < 844 / 3
    for panel in page.evaluate("PANELS"):
        assert len(page.locator(f"#{panel}").get_attribute("aria-label")) > 20
        page.locator(f"figure:has(#{panel}) summary").click()
        assert page.locator(f"#{panel}-why").is_visible()
    assert playground.stat().st_size < 6e6
