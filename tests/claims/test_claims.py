"""Rules on findings of both sides, and every claim's measure on results made for both verdicts."""

import itertools
import re

import numpy as np
import pytest
from matplotlib.text import Text

from fadeout.analysis.intervals import Interval
from fadeout.claims import CLAIMS, Claim, Finding, judge_claim
from fadeout.claims.literature import parity_signal
from fadeout.claims.note import separable, separable_share
from fadeout.claims.rules import above, below
from fadeout.plots import style
from fadeout.plots.forest import forest, panels_of
from fadeout.theory.mean_field import depth_scales
from helpers import ROOT, made

INSIDE, OUTSIDE, ACROSS = Interval(1, 2, 3), Interval(-3, -2, -1), Interval(-1, 0, 1)


def verdict(*measured):
    claim = Claim("all are positive", "nobody", lambda: [], {"x": above(0.5)})
    return judge_claim(claim, [Finding("x", f"case {i}", m) for i, m in enumerate(measured)])


def test_a_rule_sees_inside_outside_and_across():
    assert [above(0)(m) for m in (INSIDE, OUTSIDE, ACROSS)] == [True, False, None]
    assert [below(0)(m) for m in (INSIDE, OUTSIDE, ACROSS)] == [False, True, None]
    assert above(1)(INSIDE), "a bound belongs to its range"
    assert above(1)(Interval(np.nan, np.nan, np.nan)) is None, (
        "what was not measured decides nothing"
    )


def test_a_verdict_can_come_out_any_way():
    assert verdict(INSIDE, INSIDE).word == "holds"
    assert verdict(OUTSIDE, OUTSIDE).word == "fails"
    assert verdict(INSIDE, ACROSS).word == verdict(OUTSIDE, ACROSS).word == "undecided"
    assert str(verdict(OUTSIDE, INSIDE, ACROSS)) == (
        "holds only in 1 of 2 cases (1 undecided): case 1"
    )
    assert str(verdict(INSIDE, OUTSIDE, INSIDE)) == "holds, except in 1 of 3 cases: case 1"


def test_each_quantity_has_its_own_rule_and_what_has_none_judges_nothing():
    rules = {"gain": above(0.5), "cost": below(0)}
    claim = Claim("more for less", "nobody", lambda: [], rules)
    findings = [Finding("gain", "a", INSIDE), Finding("cost", "a", OUTSIDE)]
    assert judge_claim(claim, findings).word == "holds"
    assert judge_claim(claim, [*findings, Finding("colour", "a", OUTSIDE)]).word == "holds"
    mixed = judge_claim(claim, [findings[0], Finding("cost", "b", INSIDE)])
    assert str(mixed) == "holds only in 1 of 2 cases: a (gain)"


@pytest.mark.parametrize(
    ("answer", "cases", "measured", "told"),
    [
        ("holds only here", ("case 0",), (INSIDE, OUTSIDE), True),
        ("holds only here", ("case 0",), (OUTSIDE, INSIDE), False),
        ("holds only here", ("case 0",), (INSIDE, OUTSIDE, INSIDE), False),
        ("holds, except here", ("case 0",), (OUTSIDE, INSIDE, INSIDE), True),
        ("holds, except here", ("case 0",), (INSIDE, OUTSIDE, OUTSIDE), False),
        ("holds only here", ("case 0",), (INSIDE,), False),
        ("fails: by a sign", (), (OUTSIDE,), True),
        ("fails: by a sign", (), (INSIDE,), False),
    ],
)
def test_an_answer_is_told_only_where_verdict_and_cases_agree(answer, cases, measured, told):
    claim = Claim("", "", list, {}, answer=answer, cases=cases)
    assert claim.answer_to(verdict(*measured)) == answer * told


def test_the_page_of_claims_says_each_answer_in_the_same_words():
    page = (ROOT / "docs/claims.md").read_text()
    rows = re.findall(r"^\| .*? \| `([a-z0-9-]+)` \| (.*?) \| ", page, re.MULTILINE)
    assert [name for name, _ in rows] == list(CLAIMS)
    for name, answer in rows:
        assert answer == CLAIMS[name].answer or not CLAIMS[name].answer, name
        assert answer in ("holds", "fails") or CLAIMS[name].answer, name
        assert (" only " in answer or ", except " in answer) == bool(CLAIMS[name].cases), name


def test_a_picture_has_no_empty_panel_and_few_that_decide_nothing():
    claim = Claim("All are positive.", "nobody", list, {"gain": above(0.5), "cost": above(0)})
    nothing = Interval(np.nan, np.nan, np.nan)
    findings = [Finding(name, "a", INSIDE) for name in ("one", "two", "three", "gain")]
    findings += [Finding("cost", "a", nothing), Finding("four", "a", nothing)]
    panels, unknown = panels_of(claim, findings)
    assert [panel[0].quantity for panel in panels] == ["gain", "one", "two"]
    assert unknown == ["cost"]
    assert panels_of(claim, findings[:4])[1] == ["cost"], "nor one that has no finding at all"
    with style.styled():
        drawn = forest(claim, findings, judge_claim(claim, findings))
        assert len(drawn.axes) == 3
        assert "too few values to judge cost" in " ".join(t.get_text() for t in drawn.findobj(Text))
        assert forest(claim, findings[-2:], judge_claim(claim, findings[-2:])).axes == []


# --- results made for a verdict


def falling(decades):
    """A norm that loses so many decades at each layer on its way down."""
    return lambda run: 10.0 ** (decades(run) * np.arange(run["depth"] + 1))


def solves(when):
    return lambda run: "solved" if when(run) else "unsolved"


def step_untrainable(true):
    axes = {"surrogate": ["none", "sigmoid"], "width": [2, 8]}
    return [made(axes, depth=1, gradient_norm=lambda run: [0.0 if true else 0.1, 1.0],
                 status=solves(lambda run: not true), seeds=100)]  # fmt: skip


def sigmoid_saturation(true):
    def high(run):
        return run["weight_variance"] > 9

    axes = {"activation": ["sigmoid"], "weight_variance": [1.0, 256.0]}
    return [made(axes, saturation=lambda run: 0.9 * high(run),
                 delta_norm=falling(lambda run: 0.3 * (high(run) == true)))]  # fmt: skip


def init_avoids_saturation(true):
    axes = {"init": ["glorot_normal", "critical"]}
    return [made(axes, saturation=lambda run: 0.0 if true else 0.3, status=solves(lambda run: true),
                 delta_norm=falling(lambda run: 0.0))]  # fmt: skip


def one_sided_gradients(true):
    axes = {"activation": ["sigmoid", "tanh", "relu"], "examples": [1.0, 4.0]}
    return [made(axes, dead_units=lambda run: 0.5, one_sided=lambda run: 0.5 if true else 0.2)]


def zigzag(true):
    def slow(run):
        return (run["inputs"] == "binary") == true

    axes = {"inputs": ["binary", "centred", "bipolar"], "learning_rate": [0.1, 1.0]}
    steps = tuple(range(0, 401, 10))

    def loss(run):
        return np.exp(-np.array(steps) * run["learning_rate"] / (10 + 25 * slow(run)))

    return [made(axes, steps=steps, displacement=lambda run: 1.0, loss=loss,
                 path_length=lambda run: 1 + slow(run) + 0.01 * run["seed"])]  # fmt: skip


def slopes_of(decades):
    def world(true):
        axes = {
            "activation": ["sigmoid", "tanh", "relu"],
            "weight_variance": [1 / 3, 1.0, 2.0, 16.0],
        }
        return [made(axes, delta_norm=falling(lambda run: decades(true) + 1e-3 * run["seed"]))]

    return world


def relu_faster(true):
    axes = {"activation": ["sigmoid", "tanh", "relu"], "optimizer": ["sgd"], "width": [2, 8],
            "init": ["he_normal"], "learning_rate": [0.1, 1.0]}  # fmt: skip

    def steps(run):
        mine = 100.0 if true else 300.0
        best = (mine if run["activation"] == "relu" else 200.0) + run["seed"]
        return best / run["learning_rate"]

    def solves_it(run):
        return true or run["activation"] != "relu" or run["seed"] % 4 < 2

    return [made(axes, status=solves(solves_it), solved_step=steps)]


def relu_dies(true):
    dead = [0.25 if true else 0.0]
    units = made({"inputs": ["binary", "bipolar"], "width": [8]}, depth=1, seeds=300,
                 dead_units=lambda run: [*dead, np.nan])  # fmt: skip
    layers = made(
        {"width": [2, 8]}, seeds=500, dead_units=lambda run: [0.5, float(true), 0, 0, 0, 0, 0]
    )
    return [units, layers]


def relu_not_centred(true):
    axes = {"activation": ["relu", "tanh"]}
    return [made(axes, activation_mean=lambda run: 0.4 if true else 0.0,
                 activation_std=lambda run: 0.6 + 1e-3 * run["seed"])]  # fmt: skip


def weight_gradients_hide(true):
    axes = {"activation": ["sigmoid", "tanh", "relu"], "weight_variance": [1.0, 2.0]}
    return [made(axes, delta_norm=falling(lambda run: 0.3 + 1e-3 * run["seed"]),
                 gradient_norm=falling(lambda run: 0.3 if true else 0.0))]  # fmt: skip


def he_30(true):
    axes = {"init": ["glorot_normal", "he_normal"], "optimizer": ["sgd", "adam"]}
    return [made(axes, accuracy=lambda run: 0.95 if (run["init"] == "he_normal") == true else 0.6)]


def deep_defaults(true):
    axes = {
        "activation": ["selu", "gelu", "silu"],
        "depth": [50, 100],
        "weight_variance": [1.0, 2.0],
    }
    return [made(axes, seeds=10, delta_norm=falling(lambda run: 0.001 if true else 0.1))]


def narrow_deep(true):
    def strays(run):
        return 0.001 if true else 0.1 * (-1) ** run["seed"]

    return [made({"width": [8, 64]}, depth=30, seeds=100, delta_norm=falling(strays))]


def six_xi(true):
    def shallow(run):
        return run["depth"] < 6 * depth_scales("tanh", run["weight_variance"], 0.05).correlation

    axes = {
        "weight_variance": [1.0, 1.3, 2.5, 3.5],
        "depth": [8, 16, 32, 40, 64],
        "bias_variance": [0.05],
    }
    return [made(axes, seeds=30, status=solves(lambda run: shallow(run) == true))]


def isometry(true):
    def spread(run):
        small = (run["activation"] == "tanh") == true
        return (0.01 if small else 2.0) * np.arange(run["depth"] + 1)

    return [made({"activation": [name], "init": ["mean_field", "orthogonal"], "gain": [1.0]},
                 depth=10, jacobian_spread=spread) for name in ("tanh", "relu")]  # fmt: skip


def two_units(true):
    return [
        made(
            {"activation": ["tanh", "relu", "sin"]}, seeds=300, status=solves(lambda run: not true)
        )
    ]


def parity_hard(true):
    return [made({"bits": [2.0, 8.0]}, status=solves(lambda run: not true))]


def remedy(normalization="none", residual=0.0):
    def world(true):
        def lost(run):
            helped = (run["normalization"], run["residual"]) == (normalization, residual)
            return 0.3 * (not (true and helped)) + 1e-3 * run["seed"]

        axes = {"activation": ["sigmoid", "relu"], "residual": [0.0, 1.0],
                "normalization": ["none", "layer", "batch"]}  # fmt: skip
        return [made(axes, labels={"weight_variance": 1.0}, delta_norm=falling(lost), seeds=20)]

    return world


def residual_scale(true):
    def lost(run):
        return -1.0 * ((run["residual_scale"] == "constant") == true) + 1e-3 * run["seed"]

    axes = {"activation": ["relu"], "residual_scale": ["constant", "sqrt_depth"], "depth": [8, 16]}
    shared = {"weight_variance": 2.0, "residual": 1.0}
    return [made(axes, labels=shared, delta_norm=falling(lost), seeds=20)]


def rezero(true):
    axes = {"activation": ["relu"], "depth": [4, 8]}
    return [made(axes, status=solves(lambda run: true))]


def clipping(true):
    def learns(run):
        return (run["clip"] == 0.1) == true and run["learning_rate"] == 0.1

    axes = {"clip": [np.nan, 0.1], "learning_rate": [0.01, 0.1]}
    return [made(axes, accuracy=lambda run: 1.0 if learns(run) else 0.5)]


def adam_ignores(true):
    axes = {"init": ["critical", "glorot_normal"], "optimizer": ["adam", "sgd"], "depth": [4, 8]}
    return [made(axes, status=solves(lambda run: true or run["init"] == "critical"))]


def rmsprop_size(true):
    return [made({"eps_in_sqrt": [False, True]}, status=solves(lambda run: true))]


WORLDS = {
    "residual-cures": remedy(residual=1.0),
    "layernorm-cures": remedy(normalization="layer"),
    "batchnorm-cures": remedy(normalization="batch"),
    "residual-scale": residual_scale,
    "rezero": rezero,
    "clipping-cures": clipping,
    "adam-ignores": adam_ignores,
    "rmsprop-size": rmsprop_size,
    "step-untrainable": step_untrainable,
    "sigmoid-saturation": sigmoid_saturation,
    "init-avoids-saturation": init_avoids_saturation,
    "one-sided-gradients": one_sided_gradients,
    "zigzag": zigzag,
    "relu-no-vanishing": slopes_of(lambda true: -0.1 if true else 0.1),
    "relu-faster": relu_faster,
    "relu-dies": relu_dies,
    "relu-not-centred": relu_not_centred,
    "decay-per-layer": slopes_of(lambda true: 0.1 if true else -0.1),
    "weight-gradients-hide": weight_gradients_hide,
    "he-30": he_30,
    "selu-stable": deep_defaults,
    "narrow-deep": narrow_deep,
    "six-xi": six_xi,
    "isometry": isometry,
    "two-units": two_units,
    "fuzzy-default": deep_defaults,
    "parity-hard": parity_hard,
}


def test_every_claim_that_needs_a_study_has_a_world_of_each_kind():
    assert set(WORLDS) == {name for name, claim in CLAIMS.items() if claim.studies}


@pytest.mark.parametrize("true", [True, False])
@pytest.mark.parametrize("name", WORLDS)
def test_a_claim_holds_in_a_world_where_it_is_true_and_fails_where_it_is_not(name, true):
    claim = CLAIMS[name]
    findings = claim.measure(*WORLDS[name](true))
    found = judge_claim(claim, findings)
    assert found.word == ("holds" if true else "fails"), findings
    assert {f.quantity for f in findings} >= set(claim.rules), "a rule that nothing meets"


def test_the_sign_in_the_notes_formula_is_wrong_and_in_its_code_right():
    claim = CLAIMS["sigmoid-formula"]
    findings = claim.measure()
    assert judge_claim(claim, findings).word == "fails"
    distance = {f.quantity: f.measured.value for f in findings}
    assert distance["largest distance from the sigmoid, of the code"] < 1e-12
    assert distance["slope at 0, of the code"] == pytest.approx(0.25, rel=1e-4)


def test_a_neuron_is_fuzzy_if_its_threshold_is_noisy():
    claim = CLAIMS["neuron-fuzziness"]
    found = judge_claim(claim, claim.measure())
    assert found.word == "holds only if"
    assert all("noisy" in finding.condition for finding in found.supporting)
    assert all("hard" in finding.condition for finding in found.against)
    assert not found.undecided


# --- oracles of their own


def test_separability_of_xor():
    targets = np.array([0, 1, 1, 0])
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert not separable(corners, targets), "of its inputs"
    assert separable(np.column_stack([corners, corners.all(1)]), targets), "with an AND"
    assert not separable(np.zeros((4, 3)), targets)


def test_two_random_steps_separate_xor_as_often_as_their_pairs_of_patterns_say():
    """A second way: count the pairs of patterns that separate, weighted by their frequency."""
    rng = np.random.default_rng(5)
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    fires = corners @ rng.normal(0, np.sqrt(0.5), (2, 40_000)) + rng.normal(size=40_000) > 0
    patterns, counts = np.unique(fires, axis=1, return_counts=True)
    share = counts / counts.sum()
    # XOR = OR less AND: two patterns whose difference, up to sign and offset, is XOR's own
    xor = np.array([0, 1, 1, 0])
    total = 0.0
    for (a, p), (b, q) in itertools.product(zip(patterns.T, share, strict=True), repeat=2):
        planes = [u * a + v * b for u in (-2, -1, 1, 2) for v in (-2, -1, 1, 2)]
        if any(values[xor == 1].min() > values[xor == 0].max() for values in planes):
            total += p * q
    assert separable_share(2, draws=20_000) == pytest.approx(total, abs=0.004)


@pytest.mark.parametrize("bits", [2, 5, 8, 10])
def test_the_gradients_signal_of_parity_is_exactly_two_to_the_minus_bits(bits):
    """Shalev-Shwartz 2017: the parities are orthonormal."""
    told, total = parity_signal(bits)
    assert told == pytest.approx(2.0**-bits * total, rel=1e-12)
