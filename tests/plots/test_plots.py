"""Statistics apart from drawing; every figure against a small picture of itself.

After a change that is wanted: make figures.
"""

import io

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.text import Text
from PIL import Image

import fadeout
from fadeout import plots, theory
from fadeout.analysis import comparison, groups
from fadeout.analysis.comparison import (
    Comparison,
    cell_edges,
    cell_table,
    is_geometric,
    resolve_comparison,
)
from fadeout.analysis.intervals import Interval
from fadeout.analysis.looks import PICTURE_FORMATS, PURPLE, hue_looks
from fadeout.analysis.predictions import PREDICTIONS, hidden_weight_variance
from fadeout.claims import Claim, Finding, judge_claim
from fadeout.claims.rules import above
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.activations import ACTIVATIONS, DISPLAYS
from fadeout.networks.probes import PROBES
from fadeout.plots import atlas, neuron, style
from fadeout.plots.comparison import draw_comparison
from fadeout.plots.figures import FIGURES
from fadeout.plots.forest import forest
from fadeout.registry import FadeoutError
from fadeout.sweeps.joining import concat_sweeps
from fadeout.sweeps.variables import is_share
from helpers import made

STEPS = tuple(range(0, 101, 10))


def a_sweep(**more):
    """A sweep of made-up numbers: everything that the figures of every sweep show."""
    rate = {"step": 0.0, "sigmoid": 0.35, "tanh": 0.05, "relu": -0.02}

    def norm(run):
        layers = np.arange(run["depth"] + 1)
        fade = rate[run["activation"]] * (layers - run["depth"])
        start = 10.0 ** (fade + 0.1 * np.sin(run["seed"] + layers))
        if run["activation"] == "step":
            start[:-1] = 0
        return start * np.exp(-np.array(STEPS) / 80)[:, None]

    return made(
        {"activation": list(rate), "depth": [2, 8]}, steps=STEPS, seeds=6,
        delta_norm=norm, gradient_norm=lambda run: 2 * norm(run),
        saturation=lambda run: [*np.linspace(0.1, 0.6, run["depth"]), np.nan],
        dead_units=lambda run: [*np.full(run["depth"], 0.05 * run["seed"]), np.nan],
        loss=lambda run: 0.7 * np.exp(-np.array(STEPS) / (20 + 5 * run["seed"])),
        accuracy=lambda run: np.linspace(0.5, 1, len(STEPS)),
        status=lambda run: "solved" if (run["seed"] + run["depth"]) % 3 else "unsolved",
        solved_step=lambda run: 10.0 * run["seed"],
        labels={"record_every": 10, "init": "mean_field", "weight_variance": 1.0, "gain": 1.0,
                "bias_variance": 0.0, "inputs": "bipolar", "task": "xor"} | more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sweep():
    return a_sweep()


# --- statistics


def test_spreads_are_quantiles_of_what_is_finite():
    values = np.array([[1.0, np.nan], [2.0, np.inf], [3.0, np.nan], [4.0, np.nan], [50.0, np.nan]])
    low, median, high = groups.quantile_spread(xr.DataArray(values, dims=("run", "layer")))
    assert (low[0], median[0], high[0]) == (1.4, 3.0, pytest.approx(31.6))
    assert np.isnan(median[1])


def test_groups_are_cut_to_their_own_layers_and_in_the_tables_order(sweep):
    found = [(group.hue, group.depth) for group in groups.group_runs(sweep)]
    assert found == [(a, d) for a in ("step", "sigmoid", "tanh", "relu") for d in (2, 8)]
    group = next(groups.group_runs(sweep))
    assert group.runs.sizes == {"run": 6, "step": 11, "layer": 3}
    assert groups.pooled(sweep) == ["seed"]
    assert groups.solved_share(group.runs).value == pytest.approx(4 / 6)


def test_of_very_many_values_some_evenly_spread_are_drawn():
    assert groups.subsample(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert groups.subsample([1, 2], 5) == [1, 2]


# --- comparisons


def test_a_comparisons_defaults_follow_what_varies(sweep):
    asked = resolve_comparison(Comparison(), sweep)
    assert (asked.quantity, asked.x, asked.color, asked.column) == (
        "delta_norm", "layer", "activation", "depth",
    )  # fmt: skip
    asked = resolve_comparison(Comparison(quantity="solved"), sweep)
    assert (asked.x, asked.color, asked.column) == ("depth", "activation", None)
    assert resolve_comparison(Comparison(quantity="loss"), sweep).x == "depth"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"quantity": "delta_nrom"}, "did you mean delta_norm"),
        ({"quantity": "weight_norm"}, "unknown quantity 'weight_norm'"),
        ({"x": "dpeth"}, "did you mean depth"),
        ({"color": "colour"}, "unknown config value"),
        ({"quantity": "solved", "x": "layer"}, "solved has no layer"),
        ({"quantity": "saturation", "x": "depth", "at": "15"}, "recorded step up to 100, not 15"),
        ({"map": ("activation", "depth")}, "activation is not one here"),
        ({"map": ("layer", "depth")}, "two swept numbers"),
        ({"figure": 3}, "unknown key of figure"),
        ({"map": ("depth", "seed"), "color": "activation"}, "a map has no color"),
        ({"layer": 99}, "layer must be from 1 to 9, not 99"),
    ],
)
def test_what_cannot_be_compared_is_said(sweep, asked, words):
    with pytest.raises(FadeoutError, match=words):
        draw_comparison(sweep, Comparison.from_dict(asked))


def test_points_over_a_config_axis_are_shares_and_medians(sweep):
    runs = sweep.isel(run=(sweep["activation"] == "tanh").values)
    x, low, middle, high = comparison.axis_points(runs, "solved", Comparison(x="depth"))
    assert x.tolist() == [2, 8]
    assert middle == pytest.approx([4 / 6, 4 / 6])
    assert (low < middle).all()
    assert (middle < high).all()
    asked = Comparison(x="depth", layer=1, at="end")
    _, _, middle, _ = comparison.axis_points(runs, "delta_norm", asked)
    own = runs["delta_norm"].sel(layer=1, step=100)
    assert middle[0] == pytest.approx(float(own.isel(run=(runs["depth"] == 2).values).median()))


def test_cells_of_a_map_hold_the_median_of_their_runs():
    axes = {"learning_rate": [0.1, 1.0, 10.0], "gain": [1.0, 2.0]}
    runs = made(axes, seeds=3, loss=lambda run: run["learning_rate"] * run["gain"] + run["seed"],
                status=lambda run: "solved" if run["gain"] > 1 else "unsolved")  # fmt: skip
    xs, ys, table = cell_table(runs, "loss", "learning_rate", "gain", Comparison())
    np.testing.assert_allclose(table, np.outer(ys, xs) + 1)
    _, _, shares = cell_table(runs, "solved", "learning_rate", "gain", Comparison())
    np.testing.assert_array_equal(shares, [[0, 0, 0], [1, 1, 1]])


def test_borders_lie_between_values_as_they_are_spaced():
    assert cell_edges(np.array([1.0, 2.0, 3.0])).tolist() == [0.5, 1.5, 2.5, 3.5]
    assert cell_edges(np.array([1.0, 10.0, 100.0])) == pytest.approx(
        10.0 ** np.array([-0.5, 0.5, 1.5, 2.5])
    )
    assert is_geometric(np.array([2, 8, 32]))
    assert not is_geometric(np.array([0.0, 1.0, 2.0]))


# --- predictions


def test_weight_variances_of_the_initialisers():
    expected = {"lecun_uniform": 1, "glorot_normal": 1, "he_normal": 2, "orthogonal": 1}
    for name, variance in expected.items():
        assert hidden_weight_variance({"init": name, "gain": 3.0}) == 9 * variance
    assert hidden_weight_variance({"init": "mean_field", "gain": 2.0, "weight_variance": 0.5}) == 2
    assert hidden_weight_variance({"init": "normal", "gain": 1.0}) is None


def test_theory_drawn_beside_is_theorys_own(sweep):
    runs = sweep.isel(run=((sweep["activation"] == "tanh") & (sweep["depth"] == 8)).values)
    layers = np.arange(1, 10)
    labels = comparison.shared_labels(runs)
    drawn = PREDICTIONS["delta_norm", "layer"](labels, layers)
    np.testing.assert_allclose(np.log10(drawn[:8]), theory.gradient_profile("tanh", 8, 1.0))
    assert np.isnan(drawn[8])
    assert PREDICTIONS["delta_norm", "layer"](labels | {"inputs": "binary"}, layers) is None


@pytest.mark.parametrize(
    ("init", "task"),
    [
        (Init("glorot_normal"), Task("xor", "bipolar")),
        (Init("orthogonal", gain=1.5), Task("parity", "bipolar", bits=6)),
        (Init("orthogonal"), Task("teacher", examples=64, features=16)),
        (Init("mean_field", weight_variance=1.5, bias_variance=0.1), Task("xor", "bipolar")),
    ],
    ids=lambda x: x.name,
)
def test_predicted_signals_are_those_of_wide_networks(init, task):
    """Kernels of the first layer are not square, which some initialisers notice."""
    runs = [
        Run(init=init, task=task, model=Model(4, 128), training=Training(0, 1), seed=seed,
            probes=("activation_std", "activation_mean", "delta_norm"))
        for seed in range(8)
    ]  # fmt: skip
    results = fadeout.train(runs)
    labels, layers = comparison.shared_labels(results), np.arange(1, 5)
    found = results["activation_std"].sel(step=0, layer=layers).mean("run")
    expected = PREDICTIONS["activation_std", "layer"](labels, layers)
    np.testing.assert_allclose(found, expected, rtol=0.06)


@pytest.mark.parametrize(
    "odd",
    [
        {"inputs": "binary"}, {"surrogate": "sigmoid"}, {"task": "noisy_xor"}, {"init": "normal"},
        {"task": "moons"}, {"task": "of_my_own"}, {"normalization": "batch"}, {"init": "torch"},
    ],
)  # fmt: skip
def test_theory_is_silent_where_it_knows_nothing(sweep, odd):
    runs = sweep.isel(run=((sweep["activation"] == "tanh") & (sweep["depth"] == 8)).values)
    labels = comparison.shared_labels(runs)
    layers = np.arange(1, 10)
    assert PREDICTIONS["delta_norm", "layer"](labels, layers) is not None
    assert PREDICTIONS["delta_norm", "layer"](labels | odd, layers) is None


def test_a_quantity_that_theory_knows_is_shown_where_it_knows_it(sweep):
    asked = Comparison(quantity="activation_std", x="layer")
    assert comparison.default_moment("activation_std", asked) == "start"
    assert comparison.default_moment("saturation", asked) == "end"
    assert comparison.default_moment("activation_std", Comparison(x="layer", at="end")) == "end"


def test_two_sweeps_are_not_pooled(sweep):
    both = concat_sweeps({"one": sweep, "two": sweep})
    asked = resolve_comparison(Comparison(), both)
    assert "sweep" in (asked.color, asked.row, asked.column)
    assert comparison.pooled_labels(Comparison(x="layer", color="activation"), both) == (
        "; pooled over depth, sweep"
    )


def test_pictures_are_named_by_what_they_show(sweep):
    assert Comparison().file_name(sweep) == "delta_norm_over_layer"
    asked = Comparison(quantity="solved", color="depth", x="activation")
    assert asked.file_name(sweep) == "solved_over_activation_by_depth"


def test_what_was_not_recorded_is_not_counted(sweep):
    missing = sweep.copy()
    missing["dead_units"] = missing["dead_units"].where(missing["depth"] == 2)
    assert np.isnan(comparison.outcome_flags(missing, "born_dead")).sum() == 24
    _, low, middle, _ = comparison.axis_points(missing, "born_dead", Comparison(x="depth"))
    assert np.isnan([low[1], middle[1]]).all()
    assert middle[0] == 0


# --- deep linear networks


@pytest.mark.parametrize("layers", [2, 3])
def test_deep_linear_networks_have_their_closed_forms(layers):
    """Two equal layers: a logistic curve (Saxe 2014, eq. 13). Three: the time it takes is an
    integral with a closed form, t = [F(a)] with F' = 1 / (3 a^(4/3) (s - a))."""
    s, start, times = 1.3, 0.2, np.linspace(0, 3, 7)
    found = theory.deep_linear([start] * layers, s, times)
    assert theory.deep_linear([start] * layers, s, np.zeros(1)) == pytest.approx([start**layers])
    a0 = start**layers
    if layers == 2:
        growth = np.exp(2 * s * times)
        np.testing.assert_allclose(found, s * growth / (growth - 1 + s / a0), rtol=1e-7)
        return
    from scipy.integrate import quad

    for t, a in zip(times[1:], found[1:], strict=True):
        taken, _ = quad(lambda u: 1 / (3 * u ** (4 / 3) * (s - u)), a0, a, limit=200)
        assert taken == pytest.approx(t, rel=1e-5)


def test_deep_linear_training_follows_its_exact_solution():
    """Down to a millionth of the loss; the step is small, not infinitely so."""
    run = Run(Activation("identity"), Init("constant", value=0.1), Task("linear", "bipolar"),
              Model(3, 4), Optimizer("sgd", 0.001), Training(6000, 100, "squared_error", "float64"),
              probes=())  # fmt: skip
    results = fadeout.train(run)
    steps = results["step"].values
    expected = PREDICTIONS["loss", "step"](comparison.shared_labels(results), steps)
    found = results["loss"].isel(run=0).values
    assert found[-1] < 1e-6 * found[0]
    labels = comparison.shared_labels(results)
    for odd in ({"loss_function": "cross_entropy"}, {"inputs": "binary"}, {"schedule": "cosine"}):
        assert PREDICTIONS["loss", "step"](labels | odd, steps) is None
    np.testing.assert_allclose(np.log10(found), np.log10(expected), atol=0.05)


# --- pictures


small_picture = pytest.mark.mpl_image_compare(
    baseline_dir="figures", savefig_kwargs={"dpi": 40}, tolerance=12, style="default"
)
"""Enough to see that something moved."""


@small_picture
@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_every_sweep(name, sweep):
    with style.styled():
        of_one = sweep.isel(run=[8]) if FIGURES[name].of_one else sweep
        return FIGURES[name].draw(of_one)


COMPARISONS = {
    "layers": {},
    "rows": {"quantity": "delta_norm,saturation", "x": "layer", "at": "end"},
    "depth": {"quantity": "solved", "x": "depth"},
    "loss": {"quantity": "loss", "x": "step"},
    "unit": {"quantity": "dead_units", "x": "depth", "layer": 1, "row": "activation"},
}


@small_picture
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparison(name, sweep):
    with style.styled():
        return draw_comparison(sweep, Comparison.from_dict(COMPARISONS[name]))


@small_picture
def test_map_with_six_xi():
    axes = {"weight_variance": [0.5, 1.0, 1.5, 2.0, 3.0], "depth": [8, 16, 32, 64]}
    shared = {"activation": "tanh", "init": "mean_field", "bias_variance": 0.05, "gain": 1.0}
    runs = made(
        axes, seeds=2, accuracy=lambda run: 0.5 + 0.1 * run["weight_variance"], labels=shared
    )
    with style.styled():
        return draw_comparison(
            runs, Comparison(quantity="accuracy", map=("weight_variance", "depth"))
        )


def test_a_line_for_each_layer(sweep):
    figure = fadeout.compare(sweep, quantity="delta_norm", color="layer", column="activation")
    for ax, (words, own) in zip(
        figure.axes, groups.group_by(groups.with_remedy(sweep), ["activation"]), strict=False
    ):
        assert words[0] in ax.get_title()
        runs = sweep.isel(run=own)
        for line in ax.lines:
            if line.get_label().isdigit():
                middle = groups.quantile_spread(runs.delta_norm.sel(layer=int(line.get_label())))
                middle = middle.median[groups.recorded_steps(runs)]
                np.testing.assert_allclose(line.get_ydata(), middle)
    for asked, words in {
        ("loss", "step"): "loss has none",
        ("delta_norm", "layer"): "x is the layer already",
    }.items():
        with pytest.raises(FadeoutError, match=words):
            fadeout.compare(sweep, quantity=asked[0], x=asked[1], color="layer")


def test_a_map_of_gain_and_depth_has_six_xi_too():
    runs = [
        Run("tanh", Init("lecun_normal", gain=gain), Task("teacher", examples=4), seed=seed,
            model=Model(depth, 4), training=Training(0, 1), probes=("activation_std",))
        for gain in (0.5, 1.0, 1.5) for depth in (2, 8, 32) for seed in range(2)
    ]  # fmt: skip
    results = fadeout.train(runs, cache=None, quiet=True)
    figure = fadeout.compare(results, quantity="loss", map=("gain", "depth"))
    (line,) = [x for x in figure.axes[0].lines if "xi" in x.get_label()]
    gain, depth = line.get_xdata()[10], line.get_ydata()[10]
    assert depth == pytest.approx(6 * theory.depth_scales("tanh", gain**2, 0.0).correlation)


@small_picture
def test_forest():
    claim = Claim("All are positive.", "nobody", lambda: [], {"gain": above(0.5)})
    findings = [
        Finding("gain", "wide", Interval(0.6, 1.0, 1.4), 1.1),
        Finding("gain", "narrow", Interval(-0.4, -0.1, 0.2)),
        Finding("gain", "middle", Interval(0.2, 0.5, 0.8)),
        Finding("colour", "wide", Interval(1.0, 1.0, 1.0), 2.0),
    ]
    with style.styled():
        return forest(claim, findings, judge_claim(claim, findings))


PAGES = {
    "all": lambda: atlas.all_activations(list(ACTIVATIONS), (-5, 5)),
    "gelu": lambda: atlas.activation_page("gelu", (-6, 6)),
    "step": lambda: atlas.activation_page("step", (-5, 5)),
    "sampled_sigmoid": atlas.sampled_sigmoid,
    "one_neuron": lambda: neuron.one_neuron(plots.NOTE_ACTIVATIONS),
    "firing_rate": lambda: neuron.firing_rate(500),
    "chain": lambda: neuron.chain(plots.NOTE_ACTIVATIONS),
}


@small_picture
@pytest.mark.parametrize("name", PAGES)
def test_page(name):
    with style.styled():
        return PAGES[name]()


@small_picture
def test_surface():
    x, y = neuron.surface_inputs().T
    solves = neuron.Surface(
        9 * (x - y) ** 2 - 4, np.array([[1, -1], [-1, 1]]), np.array([-0.5, 0.5])
    )
    not_yet = neuron.Surface(x - 0.5, np.array([[1.0], [0.0]]), np.array([-0.5]))
    with style.styled():
        return neuron.xor_surfaces([not_yet, solves], ["step 0", "step 100"], "XOR")


def test_every_activation_of_the_package_has_a_formula_and_a_look():
    shown = [DISPLAYS[name] for name in ACTIVATIONS]
    assert all(display.formula.startswith("$") for display in shown)
    assert len({display.look for display in shown}) == len(shown), "each its own"


def test_an_activation_of_a_user_is_drawn_as_its_decorator_says():
    @fadeout.activation(formula=r"$\arctan z$", look=("purple", ":", "X"))
    def arctan(z):
        return jnp.arctan(z)

    assert hue_looks(["arctan"])["arctan"] == {
        "color": PURPLE, "linestyle": ":", "marker": "X",
    }  # fmt: skip
    with style.styled():
        title = atlas.all_activations(["arctan", "tanh"], (-3, 3)).axes[0].get_title()
    assert title == "arctan\n" + r"$\phi(z) = \arctan z$"
    with pytest.raises(fadeout.FadeoutError, match="a look is a colour, a line style and a marker"):
        fadeout.activation(look="red")(arctan)
    for odd in (("grene", "-", "D"), ("green", "solid", "D"), ("green", "-", "nope")):
        with pytest.raises(fadeout.FadeoutError, match=r"unknown (colour|line style|marker)"):
            fadeout.activation(look=odd)(arctan)
    with pytest.raises(fadeout.FadeoutError, match="between two dollars"):
        fadeout.activation(formula="$z")(arctan)


def test_a_probe_says_how_it_is_drawn():
    @fadeout.probe("share of small weights", share=True, label="small")
    def small_weights(layer):
        return jnp.mean(jnp.abs(layer.kernel) < 0.1)

    assert PROBES["small_weights"].axis_label == "small"
    assert is_share("small_weights")
    assert is_share("accuracy")
    assert not is_share("delta_norm")
    assert PROBES["gradient_norm"].axis_label.startswith("weight gradient  $")


def test_formats_are_equal_on_repetition_and_say_what_they_were_made_of(sweep, tmp_path):
    for folder in ("one", "two"):
        for look in style.STYLES:
            plots.save_comparison(sweep.assign_coords(id=("run", ids(sweep))), Comparison(),
                                  tmp_path / folder / look, look, PICTURE_FORMATS)  # fmt: skip
    files = sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".png", ".svg", ".pdf"}
    for path in files:
        content = path.read_bytes()
        assert content == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        assert b"48 runs" in content
        assert b"fadeout" in content


@pytest.mark.parametrize("width", [6.75, 3.25])
@pytest.mark.parametrize("name", FIGURES)
def test_a_paper_has_its_width_and_legible_letters_and_no_title(name, width, sweep, tmp_path):
    with style.styled("paper", width=width):
        drawn = FIGURES[name].draw(sweep.isel(run=[8]) if FIGURES[name].of_one else sweep)
        style.save_figure(drawn, tmp_path, name, "")
    assert drawn.get_figwidth() == width
    assert drawn.get_suptitle() == ""
    shown = [text for text in drawn.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in shown) >= 7
    assert {text.get_fontname() for text in shown} == {"DejaVu Serif"}
    with Image.open(tmp_path / f"{name}.png") as picture:
        assert picture.size[0] == pytest.approx(300 * width, abs=1)


def test_a_column_has_room_for_all_activations(tmp_path):
    axes, half = {"activation": list(ACTIVATIONS), "depth": [2, 10]}, lambda run: 0.5
    runs = made(
        axes, seeds=2, labels={"record_every": 10}, status=lambda run: "solved", loss=half,
        delta_norm=half, gradient_norm=half, saturation=half, dead_units=half,
    )  # fmt: skip
    with style.styled("paper", width=3.25):
        for name, drawing in FIGURES.items():
            if not drawing.of_one:
                drawn = drawing.draw(runs)
                style.save_figure(drawn, tmp_path, name, "")  # which warns where nothing fits
                sizes = [ax.get_position().size * drawn.get_size_inches() for ax in drawn.axes]
                assert min(size[1] for size in sizes) > 0.7, name
                assert drawn.get_figheight() < 16, name
                left = drawn.get_suptitle() + " ".join(t.get_text() for t in drawn.findobj(Text))
                assert "depths drawn" not in left, "two fit"


def test_what_a_picture_leaves_out_is_said(sweep):
    deep = sweep.sel(layer=sweep["layer"] <= 9)
    with style.styled("talk"):
        for name in ("gradient_profile_at_start", "units_over_layers", "gradient_over_training",
                     "loss_curves"):  # fmt: skip
            words = " ".join(t.get_text() for t in FIGURES[name].draw(deep).findobj(Text))
            words = " ".join(words.split())
            assert "depths drawn" in words, name
        drawn = draw_comparison(deep, Comparison(quantity="delta_norm,saturation"))
        assert len(drawn.axes) == 1
        assert "1 of 2 quantities drawn" in " ".join(t.get_text() for t in drawn.findobj(Text))
    with style.styled("paper", width=3.25):
        chosen = Comparison(quantity="loss,delta_norm", map=("seed", "depth"))
        drawn = draw_comparison(deep, chosen)
        drawn.draw_without_rendering()
        widths = [ax.get_position().width * 3.25 for ax in drawn.axes[:2]]
        assert min(widths) > 1.4, "maps one above the other"


@pytest.mark.parametrize("name", FIGURES)
def test_a_talk_has_one_panel(name, sweep):
    with style.styled("talk"):
        drawn = FIGURES[name].draw(sweep.isel(run=[8]) if FIGURES[name].of_one else sweep)
    panels = [ax for ax in drawn.axes if ax.get_label() != "<colorbar>"]
    assert len(panels) == 1
    largest = max(sweep["depth"].values)
    if name != "share_solved":
        assert f"{largest} hidden layers" in drawn.get_suptitle() + panels[0].get_title()


@pytest.mark.parametrize(
    ("look", "width"), [("paper", 0.5), ("paper", float("nan")), ("talk", 3.0)]
)
def test_a_width_that_is_none(look, width, sweep, tmp_path):
    with pytest.raises(FadeoutError, match="width"):
        plots.save_all(
            sweep.assign_coords(id=("run", ids(sweep))), tmp_path / "none", look=look, width=width
        )
    assert not (tmp_path / "none").exists()


def ids(results):
    return [f"{i:016x}" for i in range(results.sizes["run"])]


def test_an_atlas_of_what_does_not_exist(tmp_path):
    with pytest.raises(FadeoutError, match="did you mean gelu"):
        plots.save_atlas(["geul"], (-1, 1), tmp_path / "atlas")
    with pytest.raises(FadeoutError, match="lower to a higher"):
        plots.save_atlas(None, (1, 1), tmp_path / "atlas")
    with pytest.raises(FadeoutError, match="did you mean paper"):
        plots.save_atlas(["relu"], (-1, 1), tmp_path / "atlas", "papre")


def test_two_values_are_never_one_line(tmp_path):
    """0.12341 and 0.12342 have the same four digits; they are two rates, and not two seeds."""
    rates = [0.12341, 0.12342, 0.5]
    results = made({"activation": ["tanh"], "learning_rate": rates}, seeds=3,
                   loss=lambda run: [1.0, run["learning_rate"]], status=lambda run: "solved",
                   labels={"record_every": 10})  # fmt: skip
    assert groups.drawn_hues(results) == ["0.12341", "0.12342", "0.5"]
    assert [group.runs.sizes["run"] for group in groups.group_runs(results)] == [3, 3, 3]
    words, shown = groups.label_texts(results["learning_rate"].values)
    assert len(set(words)) == len(shown) == 3
    nearly = np.array([0.3, 0.1 + 0.2])
    assert groups.label_texts(nearly)[1] == ["0.3"], "a rounding error is no other value"


def test_numbers_of_a_swept_axis_stay_where_rows_share_it():
    results = made({"activation": ["tanh", "relu"], "depth": [2, 6]}, depth=6, seeds=2,
                   loss=lambda run: [1.0, 0.5], status=lambda run: "solved")  # fmt: skip
    figure = fadeout.compare(results, quantity="loss", row="activation", x="depth")
    figure.savefig(io.BytesIO())
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["2", "6"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels() if label.get_visible()] \
        in ([], ["2", "6"])  # fmt: skip
    with pytest.raises(FadeoutError, match=r"x=width is 64 in all runs, and no axis: .*depth"):
        fadeout.compare(results, quantity="loss", x="width")


def test_numbers_in_a_legend_are_named():
    results = made({"activation": ["leaky_relu"], "slope": [0.0, 0.1, 0.3]}, seeds=3,
                   labels={"record_every": 10}, loss=lambda run: [1.0, 0.5],
                   status=lambda run: "solved")  # fmt: skip
    legends = [FIGURES[name].draw(results).legends[0] for name in ("loss_curves", "share_solved")]
    assert all(legend.get_title().get_text().startswith("colour: slope; ") for legend in legends)


# --- films


def test_a_films_last_frame_is_the_trained_network():
    from fadeout.training.programs import train_runs
    from fadeout.training.snapshots import network_output, train_with_snapshots
    from helpers import layers

    run = Run(Activation("tanh"), Init("glorot_normal"), model=Model(2, 3),
              optimizer=Optimizer("sgd", 0.5), training=Training(40, 10), probes=())  # fmt: skip
    frames = train_with_snapshots(run, range(0, 41, 10))
    assert len(frames) == 5
    for (kernel, bias), (k, b) in zip(
        layers(frames[-1]), layers(train_runs(run).model, lane=0), strict=True
    ):
        np.testing.assert_allclose(kernel, k, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(bias, b, rtol=1e-5, atol=1e-7)
    hidden, answers = network_output(run, frames[-1], np.array([[0.0, 1.0], [1.0, 1.0]]))
    assert hidden.shape == (2, 2, 3)
    (k1, b1), (k2, b2), (k3, b3) = layers(frames[-1])
    first = np.tanh(np.array([[0.0, 1.0], [1.0, 1.0]]) @ k1 + b1)
    np.testing.assert_allclose(answers, np.tanh(first @ k2 + b2) @ k3 + b3, rtol=1e-4)
