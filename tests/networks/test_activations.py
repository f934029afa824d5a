"""Activations against formulas written out by hand, and against finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fadeout.networks.activations import (
    ACTIVATIONS,
    get_activation,
    largest_slope,
    slope_of,
    switch_activation,
)
from fadeout.registry import FadeoutError
from fadeout.registry import parameters as takes
from reference import FUNCTIONS

POINTS = np.linspace(-7.03, 7.04, 199)  # none of them at a kink


def test_every_activation_has_an_oracle():
    assert set(FUNCTIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_slope_match_the_formula(name):
    phi, derivative = FUNCTIONS[name]
    with jax.enable_x64(True):
        activation = get_activation(name)
        z = jnp.asarray(POINTS)
        np.testing.assert_allclose(activation(z), phi(POINTS), rtol=1e-7, atol=1e-12)
        slopes = slope_of(activation, z)
        np.testing.assert_allclose(slopes, derivative(POINTS), rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_matches_finite_differences(name):
    h = 1e-6
    with jax.enable_x64(True):
        activation = get_activation(name)
        z = jnp.asarray(POINTS)
        difference = (activation(z + h) - activation(z - h)) / (2 * h)
        np.testing.assert_allclose(slope_of(activation, z), difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "parameters", "z", "value"),
    [
        ("leaky_relu", {"slope": 0.3}, -2.0, -0.6),
        ("elu", {"alpha": 2.0}, -1.0, 2 * np.expm1(-1.0)),
        ("silu", {"beta": 3.0}, 0.5, 0.5 / (1 + np.exp(-1.5))),
    ],
)
def test_parameters_may_be_traced(name, parameters, z, value):
    traced = jax.jit(lambda p: get_activation(name, **p)(jnp.array(z)))(parameters)
    np.testing.assert_allclose(traced, value, rtol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_chosen_by_its_place_in_the_table(name):
    parameters = {"slope": 0.3, "alpha": 2.0, "beta": 3.0}
    own = {key: parameters[key] for key in takes(ACTIVATIONS[name])}
    alone = get_activation(name, **own)
    index = list(ACTIVATIONS).index(name)
    chosen = switch_activation(list(ACTIVATIONS.values()), "none", index, parameters)
    z = jnp.asarray(POINTS)
    np.testing.assert_allclose(chosen(z), alone(z), rtol=1e-5, atol=1e-5)
    slopes = slope_of(alone, z)
    np.testing.assert_allclose(slope_of(chosen, z), slopes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("surrogate", "expected"),
    [
        ("none", [0.0, 0.0, 0.0]),
        ("identity", [1.0, 1.0, 1.0]),
        ("clipped", [0.0, 1.0, 0.0]),
        ("sigmoid", [0.104994, 0.235004, 0.104994]),
    ],
)
def test_a_surrogate_changes_the_backward_pass_only(surrogate, expected):
    z = jnp.array([-2.0, 0.5, 2.0])
    activation = get_activation("step", surrogate)
    np.testing.assert_array_equal(activation(z), [0.0, 1.0, 1.0])
    np.testing.assert_allclose(slope_of(activation, z), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    # gelu: Phi(sqrt 2) + sqrt 2 density(sqrt 2); silu: its maximum near z = 2.3994
    [("sigmoid", 0.25), ("tanh", 1.0), ("relu", 1.0), ("step", 0.0), ("hard_sigmoid", 1 / 6)]
    + [("gelu", 1.128904), ("silu", 1.099839), ("lecun_tanh", 1.7159 * 2 / 3)],
)
def test_steepest_slope(name, value):
    slope = partial(slope_of, get_activation(name))
    np.testing.assert_allclose(largest_slope(slope), value, rtol=1e-4)


def test_an_unknown_name_is_answered_with_the_nearest_and_all():
    with pytest.raises(FadeoutError, match=r"did you mean sigmoid\?.*step, sigmoid, tanh, relu"):
        get_activation("sigmod")
    with pytest.raises(FadeoutError, match="unknown surrogate"):
        get_activation("step", "clip")
