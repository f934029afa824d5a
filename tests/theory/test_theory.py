"""Mean-field theory against closed forms, published constants, and networks."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import fadeout
from fadeout import Activation, Init, Model, Run, Task, Training, theory
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
