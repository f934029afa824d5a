"""Initialisers against the variance that their names promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fadeout.initializers import INITIALIZERS, initialize
from fadeout.registry import FadeoutError

FAN_IN, FAN_OUT = 300, 500
VARIANCE = {
    "zeros": 0.0,
    "constant": 0.0,
    "normal": 0.01**2,
    "uniform": 0.05**2 / 3,
    "lecun_normal": 1 / FAN_IN,
    "lecun_uniform": 1 / FAN_IN,
    "glorot_normal": 2 / (FAN_IN + FAN_OUT),
    "glorot_uniform": 2 / (FAN_IN + FAN_OUT),
    "he_normal": 2 / FAN_IN,
    "he_uniform": 2 / FAN_IN,
    "orthogonal": 1 / FAN_OUT,
    "mean_field": 1 / FAN_IN,
}


def draw(name, **parameters):
    return initialize(jax.random.key(0), (FAN_IN, FAN_OUT), jnp.float32, name=name, **parameters)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_variance(name):
    kernel, bias = draw(name)
    # 150,000 draws: five standard errors of a variance are at most 5 sqrt(2 / n)
    np.testing.assert_allclose(np.var(kernel), VARIANCE[name], rtol=5 * np.sqrt(2 / kernel.size))
    np.testing.assert_array_equal(bias, np.zeros(FAN_OUT))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_gain_scales_the_kernel(name):
    np.testing.assert_allclose(draw(name, gain=3.0)[0], 3 * draw(name)[0], rtol=1e-6)


def test_orthogonal_rows_are_orthonormal():
    kernel, _ = draw("orthogonal")
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(FAN_IN), atol=1e-5)


def test_bias_variance():
    _, bias = initialize(
        jax.random.key(0), (1, 20_000), jnp.float32, name="zeros", bias_variance=0.25
    )
    np.testing.assert_allclose(np.var(bias), 0.25, rtol=0.05)


def test_unknown_name():
    with pytest.raises(FadeoutError, match=r"unknown init 'he'.*glorot_normal"):
        draw("he")
