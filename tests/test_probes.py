"""Probes on their own; against hand-written backpropagation they stand in test_training."""

import jax.numpy as jnp
import numpy as np
import pytest

from fadeout import probes
from fadeout.config import DEFAULT_PROBES
from fadeout.probes import PROBES, Layer, norm


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1.0, 1e20, 1e37])
def test_a_norm_is_exact_over_the_whole_range_of_float32(scale):
    x = jnp.array([3 * scale, -4 * scale], jnp.float32)
    np.testing.assert_allclose(norm(x), 5 * scale, rtol=1e-6)


def test_norms_of_zero_and_of_what_is_not_finite():
    assert norm(jnp.zeros(3)) == 0
    assert np.isinf(norm(jnp.array([1.0, jnp.inf])))
    assert np.isnan(norm(jnp.array([1.0, jnp.nan])))


def layer(**fields):
    blank = dict.fromkeys(Layer._fields, jnp.zeros((2, 2)))
    return Layer(**blank | {name: jnp.asarray(value) for name, value in fields.items()})


def test_one_sided_counts_units_whose_incoming_gradients_share_a_sign():
    # per unit (column): all positive; mixed; negative with a zero; all zero
    gradient = [[1.0, 1.0, -1.0, 0.0], [2.0, -1.0, 0.0, 0.0]]
    assert probes.one_sided(layer(kernel_gradient=gradient)) == 0.5


def test_saturation_and_dead_units():
    # three examples, two units; the second unit has slope 0 on every example
    slope = [[1.0, 0.0], [0.05, 0.0], [0.5, 0.0]]
    seen = layer(slope=slope, activation=np.ones((3, 2)), steepest_slope=1.0)
    np.testing.assert_allclose(probes.saturation(seen), 4 / 6)
    np.testing.assert_allclose(probes.dead_units(seen), 1 / 2)


def test_units_whose_activations_are_not_finite_are_neither_dead_nor_saturated():
    seen = layer(slope=jnp.zeros((1, 2)), activation=[[1.0, jnp.nan]], steepest_slope=1.0)
    assert np.isnan(probes.dead_units(seen))
    assert np.isnan(probes.saturation(seen))


def test_the_default_config_records_every_probe():
    assert set(DEFAULT_PROBES) == set(PROBES)
