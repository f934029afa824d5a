"""Mean-field theory against closed forms, published constants, and networks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf
from scipy.stats import multivariate_normal

import fadeout
from fadeout import Activation, Init, Model, Run, Task, Training, theory
from fadeout.registry import FadeoutError
from fadeout.theory.finite_width import dead_probability, log_gradient_moments
from fadeout.theory.gaussian import function_of, moments
from fadeout.theory.mean_field import (
    chi,
    critical,
    depth_scales,
    fixed_point,
    gradient_profile,
    product_moment,
    variance_map,
)

VARIANCES = [1e-4, 0.1, 1.0, 30.0, 1e4, 1e6]


@pytest.mark.parametrize("q", VARIANCES)
def test_expectations_have_their_closed_forms(q):
    exact = {
        "erf": ((2 / math.pi) * math.asin(2 * q / (1 + 2 * q)), 4 / math.pi / math.sqrt(1 + 4 * q)),
        "relu": (q / 2, 1 / 2),
        "leaky_relu": (q * (1 + 0.01**2) / 2, (1 + 0.01**2) / 2),
        "identity": (q, 1.0),
        "squared_relu": (1.5 * q**2, 2 * q),
    }
    if q < 100:  # beyond, no quadrature of fixed nodes follows the oscillation
        exact["sin"] = ((1 - math.exp(-2 * q)) / 2, (1 + math.exp(-2 * q)) / 2)
    for name, (square, slope_square) in exact.items():
        found = moments(name, q)
        np.testing.assert_allclose(found.square, square, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(found.slope_square, slope_square, rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(
        moments("hard_tanh", q).slope_square, erf(1 / math.sqrt(2 * q)), rtol=1e-9
    )


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "gelu", "hard_tanh", "selu"])
def test_the_slope_of_the_variance_map_is_its_finite_difference(name):
    q, h = 0.7, 1e-5
    difference = (moments(name, q + h).square - moments(name, q - h).square) / (2 * h)
    np.testing.assert_allclose(moments(name, q).stretch, difference, rtol=1e-7)


def test_a_function_is_as_good_as_a_name():
    assert moments(jnp.tanh, 0.3) == moments("tanh", 0.3)


@pytest.mark.parametrize(
    ("weight_variance", "bias_variance", "q"), [(1.05, 2.01e-5, 0.0259), (2.0, 0.104, 0.8214)]
)
def test_pennington_2017(weight_variance, bias_variance, q):
    np.testing.assert_allclose(fixed_point("tanh", weight_variance, bias_variance), q, rtol=0.01)
    np.testing.assert_allclose(chi("tanh", q, weight_variance), 1, atol=0.005)


def test_schoenholz_2017():
    (point,) = critical("tanh", 0.05)
    np.testing.assert_allclose(point.weight_variance, 1.76, atol=0.005)
    np.testing.assert_allclose(
        fixed_point("tanh", point.weight_variance, 0.05), point.variance, rtol=1e-6
    )


def test_klambauer_2017():
    np.testing.assert_allclose(variance_map("selu", 1.0, 1.0), 1, atol=1e-6)
    np.testing.assert_allclose(moments("selu", 1.0).value, 0, atol=1e-6)
    assert chi("selu", 1.0, 1.0) > 1


def test_the_edge_of_chaos():
    assert critical("relu") == [pytest.approx((2.0, 1.0))]
    assert critical("leaky_relu") == [pytest.approx((2 / (1 + 1e-4), 1.0))]
    assert critical("relu", 0.1) == []
    assert critical("tanh") == [pytest.approx((1.0, 0.0))]
    assert critical("erf") == [pytest.approx((math.pi / 4, 0.0))]
    assert critical("softplus") == []
    assert critical("step") == []


def test_fixed_points():
    assert fixed_point("relu", 2.0) == 1.0
    assert fixed_point("relu", 1.0, 0.5) == pytest.approx(1.0)
    assert fixed_point("relu", 2.1, 0.1) == math.inf
    q = fixed_point("erf", 2.0, 0.3)
    assert variance_map("erf", q, 2.0, 0.3) == pytest.approx(q, rel=1e-12)


def test_depth_scales():
    scales = depth_scales("relu", 1.0, 0.5)  # both slopes are 1/2
    np.testing.assert_allclose(scales, -1 / math.log(0.5), rtol=1e-9)
    for kinked in ("relu", "leaky_relu", "relu6"):  # whose fixed point is at the kink
        found = depth_scales(kinked, 1.0)[1:]
        np.testing.assert_allclose(found, -1 / math.log(0.5), rtol=2e-4, err_msg=kinked)
    assert depth_scales("tanh", 3.0, 0.05).gradient < 0 < depth_scales("tanh", 3.0, 0.05).variance
    assert all(map(math.isnan, depth_scales("relu", 3.0)))


def test_relu_at_finite_width_against_simulation():
    width, weight_variance = 8, 2.0
    generator = np.random.default_rng(0)
    kernels = generator.normal(0, math.sqrt(weight_variance / width), (100_000, width, width))
    h = np.maximum(kernels @ np.full(width, 1 / math.sqrt(width)), 0)
    squares = np.sum(h**2, axis=1)
    dead = np.mean(squares == 0)
    assert abs(dead - dead_probability(width)) < 5 * math.sqrt(dead_probability(width) / 100_000)
    logs = np.log(squares[squares > 0])
    mean, variance = log_gradient_moments(width, weight_variance)
    assert abs(logs.mean() - mean) < 4 * math.sqrt(variance / logs.size)
    np.testing.assert_allclose(logs.var(), variance, rtol=0.05)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "softplus", "erf"])
def test_wide_networks_follow_the_predicted_gradient(name):
    depth, width = 20, 256
    runs = [
        Run(Activation(name), Init("mean_field", weight_variance=1.0), Task(inputs="bipolar"),
            Model(depth, width), training=Training(0, 1), probes=("delta_norm",), seed=seed)
        for seed in range(4)
    ]  # fmt: skip
    measured = np.log10(fadeout.train(runs)["delta_norm"].values[:, 0, :depth]).mean(axis=0)
    predicted = gradient_profile(name, depth, 1.0, variance=1.0)
    slopes = [np.polyfit(np.arange(depth), profile, 1)[0] for profile in (measured, predicted)]
    assert abs(slopes[0] - slopes[1]) < 0.01


@pytest.mark.parametrize("c", [-1.0, -0.5, 0.0, 0.3, 0.9, 0.999, 1.0])
def test_correlation_maps_against_arc_cosine_and_arc_sine_kernels(c):
    """Cho & Saul 2009 for relu; Williams 1997 for erf; and every smooth case at c = 1."""
    angle = np.arccos(c)
    relu = (np.sin(angle) + (np.pi - angle) * c) / np.pi
    assert theory.correlation_map("relu", c, 3.0, 2.0) == pytest.approx(relu, abs=1e-9)
    q = 1.7
    exact = 2 / np.pi * np.arcsin(2 * q * c / (1 + 2 * q))
    assert product_moment(function_of("erf"), c, q) == pytest.approx(exact, abs=1e-9)
    assert theory.correlation_map("tanh", 1.0, q, 2.0, 0.1) == pytest.approx(1.0, abs=1e-12)


def test_off_the_ordered_phase_correlations_settle_below_one():
    c = theory.correlation_fixed_point("tanh", 2.5, 0.05)
    assert 0 < c < 1
    q = theory.fixed_point("tanh", 2.5, 0.05)
    followed = 0.9
    for _ in range(300):
        followed = theory.correlation_map("tanh", followed, q, 2.5, 0.05)
    assert followed == pytest.approx(c, abs=1e-9)
    h = 1e-3
    ends = [theory.correlation_map("tanh", c + s * h, q, 2.5, 0.05) for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * h)
    scales = theory.depth_scales("tanh", 2.5, 0.05)
    assert scales.correlation == pytest.approx(-1 / np.log(slope), rel=1e-3)
    assert scales.gradient < 0
    ordered = theory.depth_scales("tanh", 1.5, 0.05)
    assert ordered.correlation == ordered.gradient > 0


def test_the_edge_holds_the_critical_points():
    weight_variance, bias_variance = theory.edge("tanh")
    at = np.interp(0.05, bias_variance, weight_variance)
    assert theory.critical("tanh", 0.05)[0].weight_variance == pytest.approx(at, rel=1e-3)
    assert theory.edge("softplus")[0].size == 0


def test_quadrature_follows_kinks_wherever_they_are():
    """Clips at 1/2, kinks off 0 and fast oscillations: each has a closed form."""

    def clip(z):
        return jnp.clip(z, -0.5, 0.5)

    for q in VARIANCES:
        exact = erf(0.5 / math.sqrt(2 * q))
        assert moments(clip, q).slope_square == pytest.approx(exact, rel=1e-9)
    assert moments("sin", 1e4).square == pytest.approx(0.5, rel=1e-9)
    shifted = moments(lambda z: jnp.maximum(z - 0.3, 0), 1.0)
    assert shifted.slope_square == pytest.approx((1 - erf(0.3 / math.sqrt(2))) / 2, rel=1e-9)
    with pytest.raises(FadeoutError, match="two rules of quadrature still differ"):
        moments("sin", 1e9)
    assert fixed_point("softplus", 2.0) == math.inf, "and not where rounding turns its map"


def test_the_chaotic_phase_of_a_function_with_kinks():
    """hard_tanh at (2, 0.3), by Price's theorem with closed forms for E phi' phi'."""
    c = theory.correlation_fixed_point("hard_tanh", 2.0, 0.3)
    q = theory.fixed_point("hard_tanh", 2.0, 0.3)
    assert c == pytest.approx(0.82873, abs=1e-5)
    assert theory.correlation_map("hard_tanh", c, q, 2.0, 0.3) == pytest.approx(c, abs=1e-9)
    bounds = np.array([-1, 1]) / math.sqrt(q)
    both = multivariate_normal([0, 0], [[1, c], [c, 1]])
    corners = [both.cdf([a, b]) for a in bounds for b in bounds]
    inside = corners[3] - corners[1] - corners[2] + corners[0]
    scales = theory.depth_scales("hard_tanh", 2.0, 0.3)
    assert scales.correlation == pytest.approx(-1 / math.log(2.0 * inside), rel=1e-4)
    assert scales.correlation == pytest.approx(10.765, abs=2e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.chi("relu", -1.0, 2.0), lambda: theory.chi("relu", 1j, 2.0),
        lambda: theory.chi("rleu", 1.0, 2.0), lambda: theory.chi(3, 1.0, 2.0),
        lambda: theory.chi("relu", "a", 2.0), lambda: theory.chi("relu", [1.0], 2.0),
        lambda: theory.chi("relu", math.nan, 2.0), lambda: theory.moments("relu", None),
        lambda: theory.variances("relu", 0, 2.0), lambda: theory.variances("relu", 2.5, 2.0),
        lambda: theory.correlation_map("tanh", 1.5, 1.0, 1.0), lambda: theory.critical("tanh", -1),
        lambda: theory.dead_probability(0), lambda: theory.fixed_point(lambda z: "a", 1.0),
        lambda: theory.branch_factor(1.0, "half", 3), lambda: theory.profile("relu", 10**8, 1.0),
        lambda: theory.moments(jnp.exp, 49.0), lambda: theory.chi("relu", jax.random.key(0), 2.0),
        lambda: theory.deep_linear([0.1], 1.0, [1.0, 1.0]), lambda: theory.moments(jnp.sinh, 36.0),
        lambda: theory.log_gradient_moments(2.5, 1.0), lambda: theory.deep_linear(3, 1.0, [0]),
    ],
)  # fmt: skip
def test_what_theory_cannot_be_asked_is_answered_in_a_line(call):
    with pytest.raises(FadeoutError) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1


def test_theory_takes_an_activation_with_its_parameters_and_knows_what_it_is_now():
    leaky = theory.chi(Activation("leaky_relu", slope=0.5), 1.0, 2.0)
    assert leaky == pytest.approx(1.25)
    by = {"by": 2.0}

    def scaled(z):
        return by["by"] * z

    assert theory.chi(scaled, 1.0, 1.0) == pytest.approx(4.0)
    by["by"] = 3.0
    assert theory.chi(scaled, 1.0, 1.0) == pytest.approx(9.0)
