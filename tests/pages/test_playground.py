"""The page that trains, in a real browser: its mathematics against fadeout's, and its controls."""

import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import fadeout
from fadeout import theory
from fadeout.analysis.intervals import share_interval
from fadeout.claims.table import CLAIMS
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.activations import ACTIVATIONS
from fadeout.networks.initializers import kernel_variance
from fadeout.pages import page_texts, write_playground
from fadeout.pages.playground import INITS, page_tours
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
    told = page_texts("playground")
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
    names = (
        "common.js",
        "playground.js",
        "panels.js",
        "tours.js",
        "experiments.js",
        "playground.html",
    )
    script = "\n".join(OWN.joinpath(name).read_text() for name in names)
    asked = set(re.findall(r'\bt\("(\w+)"', script)) | set(re.findall(r'data-word="(\w+)"', script))
    asked |= set(re.findall(r'(?:group|part)\("(\w+)"', script))
    panels = json.loads(re.search(r"const PANELS = (\[.*?\]);", script)[1])
    asked |= {f"{panel}_{kind}" for panel in panels for kind in ("title", "why")} | {"predict_why"}
    asked |= {f"predict_{measure}" for measure in ("profile", "decades", "solved", "dead_layer")}
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
    chinese = page_texts("playground")["zh"]
    assert page.locator("h1").inner_text() == chinese["title"]
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.locator("#language").click()
    assert page.locator("h1").inner_text() == page_texts("playground")["en"]["title"]
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
    ("vanishing", "vanishing", "vanishing", "learning", "vanishing solved", "vanishing",
     "exploding"),
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
        if screen == "telephone":  # what comes true is seen on the laptop; here, that all fits
            page.evaluate(
                "play(false); if (asked) { asked.found = Array(20).fill({ profile: asked.guess,"
                " solved: true, dead_layer: true }); drawAsk(); }"
            )
        else:
            if "ask" in stop:
                page.locator("#run-twenty").click()
                page.wait_for_selector("#predict[data-done=yes]", timeout=60_000)
                low, high = stop["ask"]["expected"]
                assert low <= page.evaluate("answerOf(asked).middle") <= high, where
            if "steps" in stop:
                page.evaluate("play(false); advance(limit() - labs[0].step); drawNow()")
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


# --- guesses


def test_twenty_networks_are_counted_as_fadeout_counts(page):
    """Wilson's interval, and the median's by the sixth and the fifteenth of twenty."""
    for count in (0, 3, 10, 20):
        low, _, high = share_interval(np.arange(20) < count, np.arange(20))
        np.testing.assert_allclose(page.evaluate(f"wilson({count}, 20)"), [low, high], atol=1e-5)
    values = np.random.default_rng(0).normal(size=20)
    found = page.evaluate("(values) => medianOfTwenty(values)", values.tolist())
    assert found["middle"] == pytest.approx(np.median(values))
    assert stats.binom.cdf(14, 20, 0.5) - stats.binom.cdf(5, 20, 0.5) == pytest.approx(
        0.959, abs=1e-3
    )
    assert (found["low"], found["high"]) == tuple(np.sort(values)[[5, 14]])


def test_a_line_is_drawn_by_hand_and_its_distance_is_told(opened, playground):
    page = opened(playground)
    page.locator("#tours").select_option("0")
    box = page.locator("#predict").bounding_box()
    scale = page.evaluate(
        "(() => { const b = byId('predict').getBoundingClientRect();"
        "const s = profileScale(b.width, b.height); return [s.x(9), s.y(0), s.x(0), s.y(-8)]; })()"
    )
    page.mouse.move(box["x"] + scale[0], box["y"] + scale[1])
    page.mouse.down()
    page.mouse.move(box["x"] + scale[2], box["y"] + scale[3])
    page.mouse.up()
    guess = page.evaluate("asked.guess")
    np.testing.assert_allclose(guess, np.linspace(-8, 0, 10), atol=0.1)
    assert float(page.locator("#guess input").input_value()) == -16, "in halves, by the slider"
    page.locator("#run-twenty").click()
    page.wait_for_selector("#predict[data-done=yes]")
    profiles = np.array(page.evaluate("asked.found.map((own) => own.profile)"))
    assert profiles.shape == (20, 10)
    expected = theory.profile("sigmoid", 10, 1.0, 0.0, 1.0).gradient
    np.testing.assert_allclose(np.median(profiles, 0), expected, atol=0.5)
    distance = np.abs(np.median(profiles, 0) - guess)[:-1].mean()
    told = page.locator("#predict-text").inner_text()
    assert f"Over all layers your line is {distance:.1f} decades off" in told
    assert page.locator("#guess input").is_disabled(), "what was said cannot be unsaid"
    page.locator("#run-twenty").click()
    page.locator("#guess input").fill("-6")
    assert page.evaluate("asked.guess[0]") == -3, "and by keyboard a straight one"
    assert not page.locator("#gradient-panel").is_visible(), "the answer is not given away"
    assert page.locator("#status").inner_text() == "guess first, then run twenty networks"


def test_a_tour_waits_and_is_handed_on(opened, playground):
    page = opened(playground, "tour=1&stop=7")
    assert page.locator("#tour-place").inner_text() == "7 / 9"
    assert page.evaluate("view.playing") is False, "there is time to bet"
    page.locator("#tour-run").click()
    page.wait_for_selector("#tour-run:enabled", timeout=30_000)
    assert page.evaluate("labs.map((lab) => lab.step)") == [400, 400]
    page.locator("#play").click()
    assert page.evaluate("labs[0].step") < 400, "again from the start, and no further"
    page.locator("#play").click()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#tour-place").inner_text() == "6 / 9"
    assert page.url.endswith("#tour=1&stop=6") or "tour=1&stop=6" in page.url
    page.locator("#leave").click()
    assert "tour=" not in page.url
    assert opened(playground, "tour=9&stop=1").evaluate("view.tour") == -1
    page.locator("#start-tour").click()
    assert page.locator("#tour-place").inner_text() == "1 / 9"
    page.set_viewport_size({"width": 800, "height": 390})
    assert is_on_screen(page, "#next")


def test_a_sheet_without_answers(opened, playground):
    page = opened(playground, "tour=4&stop=1")
    page.locator("#sheet-button").click()
    page.set_viewport_size({"width": 700, "height": 500})  # which redraws what is hidden
    assert page.locator("#sheet-page em").first.is_visible()
    page.locator("#sheet-answers").click()
    assert not page.locator("#sheet-page em").first.is_visible()
    page.locator("#sheet-close").press("Escape")
    assert page.locator("#tour-text").is_visible()


def test_a_guess_that_is_left_does_not_come_back(opened, playground):
    page = opened(playground)
    page.locator("#tours").select_option("0")
    page.evaluate("asked.steps = 3000")
    page.locator("#run-twenty").click()
    page.locator("#next").click()
    page.wait_for_timeout(300)
    assert page.evaluate("asked") is None
    assert not page.locator("#predict-panel").is_visible()


# --- a race


def test_a_race_is_two_networks_from_the_same_weights(opened, playground):
    page = opened(playground, "depth=4&against=activation:tanh")
    both = page.evaluate(
        "advance(30); labs.map((lab) => ({ loss: lab.seen.loss, step: lab.step }))"
    )
    for own, name in zip(both, ("sigmoid", "tanh"), strict=True):
        alone = page.evaluate(
            "(name) => { const lab = new Experiment({ ...state, activation: name });"
            "for (let k = 0; k < 30; k += 1) lab.advance(); return lab.seen.loss; }", name,
        )  # fmt: skip
        assert own == {"loss": alone, "step": 30}
    page.evaluate("drawAll()")
    told = page.locator("#status").inner_text()
    assert told.startswith("step 30 · sigmoid: loss ")
    assert " · tanh: loss " in told
    names = page.evaluate("byId('gradient').data.map((trace) => trace.name)")
    assert names == ["sigmoid", "tanh"]
    words = page.locator("#command").inner_text()
    assert words.startswith("fadeout train -m activation=sigmoid,tanh")
    runs = fadeout.expand(words.removeprefix("fadeout train -m"))
    assert [run.activation.name for run in runs] == ["sigmoid", "tanh"]


def test_a_race_is_chosen_and_handed_on(opened, playground):
    page = opened(playground, "activation=tanh")
    page.locator("#controls fieldset").last.locator("select").first.select_option(label="depth")
    assert page.evaluate("race") == {"key": "depth", "value": 11}
    page.locator("#controls fieldset").last.locator("input").fill("19")
    assert "against=depth:20" in page.url
    again = opened(playground, page.url.split("#")[1])
    assert again.evaluate("labs.map((lab) => lab.settings.depth)") == [10, 20]
    assert again.evaluate("byId('gradient').data.map((t) => t.name)") == ["depth 10", "depth 20"]
    odd = opened(playground, "against=task:moons&seed=3")
    assert odd.evaluate("race.key") is None
    page.locator("#controls fieldset").last.locator("select").first.select_option(label="no rival")
    assert page.evaluate("labs.length") == 1


def test_one_of_a_race_may_diverge(opened, playground):
    page = opened(
        playground,
        "activation=relu&init=he_normal&depth=8&loss=squared_error&rate=3&against=rate:0.01",
    )
    page.evaluate("advance(200); drawNow()")
    assert page.evaluate("labs.map((lab) => lab.finite)") == [False, True]
    assert page.evaluate("labs[1].step") == 200


def test_the_true_speed_is_told(opened, playground):
    page = opened(
        playground, "activation=tanh&init=lecun_normal&depth=30&width=32&rate=0.001&optimizer=adam"
    )
    page.locator("#speed input").fill("4")
    page.locator("#play").click()
    page.wait_for_timeout(2500)
    told = page.locator("#status").inner_text()
    assert re.search(r"[\d.e+]+ steps a second$", told), told
    page.locator("#play").click()
    assert "steps a second" not in page.locator("#status").inner_text()


def test_lines_are_drawn_on_the_scale_of_step_0(page):
    """A gradient of the largest size then is full strength, four decades below it is nothing."""
    found = page.evaluate(
        "(() => { Object.assign(state, DEFAULTS); reset(); const lab = labs[0], s = lab.strongest;"
        "const first = [s, s / 100, s / 2e4, 0].map((gradient) => strength(gradient, lab));"
        "advance(300); return [first, lab.strongest === s, strength(s, lab)]; })()"
    )
    assert found == [[1, pytest.approx(0.5), 0, 0], True, 1]


def test_a_small_delta_of_a_small_loss_is_explained(opened, playground):
    page = opened(playground, "activation=tanh&depth=4")
    assert "because the loss is" not in page.locator("#gradient-text").inner_text()
    page.evaluate("advance(2000); drawNow()")
    assert "because the loss is" in page.locator("#gradient-text").inner_text()


# --- what teachers bring


def test_starting_points_open_their_state(opened, playground):
    page = opened(playground, "depth=3", viewport=SCREENS["telephone"])
    assert page.locator("#starts button").count() == 8
    for number, start in enumerate(page_tours()["starts"]):
        page.locator("#starts button").nth(number).click()
        found = settings(page)
        assert found == page.evaluate("DEFAULTS") | start["set"]
        assert page.evaluate("race.key ? { [race.key]: race.value } : null") == start.get("against")
        inked = page.evaluate(
            "(n) => byId('starts').querySelectorAll('canvas')[n].getContext('2d')"
            ".getImageData(0, 0, 264, 112).data.some((v) => v > 0)", number,
        )  # fmt: skip
        assert inked


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_teachers_sheet_is_one_printed_page(opened, playground, language):
    page = opened(playground, f"lang={language}")
    for number, own in enumerate(page_tours()["tours"]):
        page.locator("#tours").select_option(str(number))
        page.locator("#sheet-button").click()
        text = page.locator("#sheet-page").inner_text()
        for part in texts_of([own[key] for key in ("objectives", "stops", "questions", "beware")]):
            assert part[language] in text
        printed_on_one(page)
        page.locator("#sheet-close").click()
        assert page.locator("#tour-text").is_visible()


def printed_on_one(page):
    """Whether what is printed fits on a sheet of A4."""
    printed = page.pdf(
        format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "14mm")
    )
    assert printed.count(b"/Type /Page\n") == 1


DOCUMENTED = re.search(
    r"```json\n(.*?)```", Path(__file__).parents[2].joinpath("docs/teaching.md").read_text(), re.S
)[1]


def test_a_tour_of_ones_own(opened, playground, tmp_path):
    """The one of the documentation, opened, gone through, and printed."""
    page = opened(playground)
    (tmp_path / "own.json").write_text(DOCUMENTED)
    page.locator("details.own").last.locator("summary").click()
    page.locator("#tour-file").set_input_files(tmp_path / "own.json")
    page.wait_for_selector(".touring")
    assert page.locator("#tour-place").inner_text() == "1 / 3"
    page.locator("#run-twenty").click()
    page.wait_for_selector("#predict[data-done=yes]")
    assert 3 <= page.evaluate("answerOf(asked).middle") <= 19, "more than a few, and not all"
    page.locator("#next").click()
    assert page.evaluate("labs.map((lab) => lab.settings.width)") == [2, 16]
    page.locator("#next").click()
    assert page.evaluate("labs.map((lab) => lab.settings.width)") == [64, 4]
    page.locator("#sheet-button").click()
    assert "Two seeds are not a law." in page.locator("#sheet-page").inner_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("{", "This is not JSON"),
        ({"title": ""}, "needs a title"),
        ({"stops": []}, "a list of stops"),
        ({"stops": [{}]}, "Stop 1 needs a text"),
        ({"stops": [{"text": "a", "set": {"depht": 3}}]}, "Stop 1: depht cannot be 3"),
        ({"stops": [{"text": "a", "set": {"depth": 99}}]}, "depth cannot be 99; choose from 1, 2"),
        ({"stops": [{"text": "a", "look": "all"}]}, "look is one of gradient"),
        ({"stops": [{"text": "a", "steps": 0.5}]}, "steps is a whole number"),
        ({"stops": [{"text": "a", "against": {"depth": 2, "width": 2}}]}, "names one setting"),
        ({"stops": [{"text": "a", "ask": {}}]}, "ask.measure is one of profile"),
        ({"stops": [None]}, "Stop 1 needs a text"),
        ({"stops": [{"text": "a", "ask": {"measure": "solved", "range": [3, 1]}}]}, "ask.range"),
        ({"objectives": "learn"}, "objectives must be a list"),
        ({"questions": [None]}, "questions must be a list"),
        ({"claims": "x"}, "claims must be a list"),
        ({"beware": 3}, "beware must be a text"),
        (
            {"stops": [{"text": "a", "set": {"depth": 999}, "against": {"depth": 20}}]},
            "depth cannot",
        ),
        ({"stops": [{"text": "a", "set": {"constructor": 1}}]}, "constructor cannot be 1"),
        ({"stops": [{"text": "a", "against": {"seed": 5}}]}, "names one setting of activation"),
        ({"stops": [{"text": "a", "against": {"task": "moons"}}]}, "names one setting of"),
        (
            {"stops": [{"text": "a", "set": {"init": "critical", "activation": "softplus"}}]},
            "no edge of chaos",
        ),
        ({"stops": [{"text": "a", "ask": {"measure": "solved", "steps": "400"}}]}, "from 1 to"),
        ({"stops": [{"text": "a", "ask": {"measure": "solved", "steps": 10**6}}]}, "from 1 to"),
        (
            {"stops": [{"text": "a", "set": {"depth": 1}, "ask": {"measure": "profile"}}]},
            "with one hidden layer",
        ),
    ],
)
def test_a_tour_with_a_mistake_is_refused(page, change, told):
    tour = change if isinstance(change, str) else json.dumps(json.loads(DOCUMENTED) | change)
    before = page.evaluate("tours.length")
    page.evaluate("(tour) => addTour(tour)", tour)
    assert told in page.evaluate("byId('tour-fault').textContent")
    assert page.evaluate("tours.length") == before


def test_names_of_javascript_in_the_address_are_no_settings(opened, playground):
    page = opened(playground, "constructor=1&toString=2&__proto__=1&against=constructor:1")
    assert settings(page) == page.evaluate("DEFAULTS")


@pytest.mark.parametrize(
    ("table", "numbers"),
    [
        ("1,5;2,3;ja\n2,5;1;nein", [[1.5, 2.3], [2.5, 1.0]]),
        ("1.5\t2.3\tja\n2.5\t1\tnein", [[1.5, 2.3], [2.5, 1.0]]),
        ("1.5,2.3,ja\n2.5,1,nein".replace(",", "\N{FULLWIDTH COMMA}"), [[1.5, 2.3], [2.5, 1.0]]),
        ("1.5 2.3 1\n2.5 1 0", [[1.5, 2.3], [2.5, 1.0]]),
    ],
)
def test_tables_of_many_countries(page, table, numbers):
    """Two rows of two numbers, which have mean 0 and variance 1 in the page."""
    found = page.evaluate("(table) => examplesOf(table)", table)
    assert found["inputs"] == np.sign(np.subtract(numbers, np.mean(numbers, 0))).tolist()
    assert found["targets"] == ([0, 1] if "ja" in table else [1, 0])


def test_where_nothing_passes_there_is_no_number(opened, playground):
    page = opened(playground, "tour=1&stop=1")
    page.evaluate("asked.settings.activation = 'step'")
    page.locator("#run-twenty").click()
    page.wait_for_selector("#predict[data-done=yes]")
    told = page.locator("#predict-text").inner_text()
    assert told.startswith("In 20 of 20 networks no gradient passes")
    assert "NaN" not in told


def test_the_command_of_a_race_is_the_race(opened, playground):
    page = opened(playground, "scale=sqrt_depth&against=residual:1&depth=4")
    words = page.locator("#command").inner_text().removeprefix("fadeout train -m")
    runs = fadeout.expand(words)
    assert [run.model.residual for run in runs] == [0, 1]
    assert {run.model.residual_scale for run in runs} == {"sqrt_depth"}


def test_data_of_ones_own_are_trained_on(opened, playground):
    page = opened(playground, "activation=tanh&depth=2&rate=1")
    page.locator("details.own").first.locator("summary").click()
    rows = [
        f"{x},{y},{'yes' if (x > 4) != (y > 40) else 'no'}"
        for x in range(0, 10, 3)
        for y in range(0, 100, 30)
    ]
    page.locator("#data-text").fill("\n".join(["a,b,c", *rows]))
    page.locator("#data-use").click()
    told = "16 examples of 2 numbers; 8 with the answer yes, which is 1 here."
    assert page.locator("#data-fault").inner_text() == told
    examples = np.reshape(page.evaluate("Array.from(labs[0].x)"), (16, 2))
    np.testing.assert_allclose(examples.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(examples.std(0), 1, atol=1e-12)
    page.evaluate("advance(1500); drawNow()")
    assert page.locator("#status").get_attribute("data-word") == "solved"
    assert "task=table" in page.locator("#command").inner_text()
    assert "task.file=data.csv" in page.locator("#command").inner_text()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("", "two rows or more"),
        ("1,2,a", "two rows or more"),
        ("1,2,a\n3,x,b", "Row 2, column 2: x is not a number"),
        ("1,2,a\n3,b", "Row 2 has 2 cells and the first has 3"),
        ("1,2,a\n3,4,a", "two different answers, not 1"),
        ("1,2,a\n3,4,b\n3,5,c", "two different answers, not 3"),
        ("a\nb", "1 to 16 numbers"),
        ("\n".join(f"{i},{i % 2}" for i in range(501)), "501 rows are too many"),
        ("1,2,<b>\n3,inf,b", "inf is not a number"),
    ],
)
def test_data_with_a_mistake_are_refused(page, rows, told):
    before = settings(page)
    page.evaluate("(rows) => { byId('data-text').value = rows; useData(); }", rows)
    assert told in page.evaluate("byId('data-fault').textContent")
    assert settings(page) == before


def test_options_have_words_in_chinese(opened, playground):
    page = opened(playground, "lang=zh")
    shown = page.evaluate(
        "Array.from(document.querySelectorAll('#controls option'), (o) => o.textContent)"
    )
    known = set(page.evaluate("NAMES")) | {
        "glorot_normal",
        "lecun_normal",
        "he_normal",
        "adam",
        "torch (PyTorch)",
    }
    plain = {word for word in shown if not re.search("[\u4e00-\u9fff]", word)}
    assert plain <= known, plain - known
