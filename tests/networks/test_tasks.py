"""Tasks against their truth tables, losses against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fadeout.networks.losses import get_loss
from fadeout.networks.tasks import make_examples


@pytest.mark.parametrize(
    ("name", "answers"),
    [("xor", [0, 1, 1, 0]), ("and", [0, 0, 0, 1]), ("or", [0, 1, 1, 1]), ("nand", [1, 1, 1, 0])],
)
def test_truth_tables(name, answers):
    for inputs, low in (("binary", 0), ("bipolar", -1)):
        examples = make_examples(None, jnp.float32, name=name, inputs=inputs)
        np.testing.assert_array_equal(examples.inputs, [[low, low], [low, 1], [1, low], [1, 1]])
        np.testing.assert_array_equal(examples.targets, answers)


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_parity_is_the_product_of_signs(bits):
    examples = make_examples(None, jnp.float32, name="parity", inputs="bipolar", bits=bits)
    assert examples.inputs.shape == (2**bits, bits)
    assert len(np.unique(examples.inputs, axis=0)) == 2**bits
    sign = np.prod(-np.asarray(examples.inputs), axis=1)
    np.testing.assert_array_equal(examples.targets, (1 - sign) / 2)


def test_noisy_xor_is_xor_with_noise():
    examples = make_examples(
        jax.random.key(1), jnp.float32, name="noisy_xor", examples=4000, noise=0.2
    )
    corners = np.asarray(examples.inputs).reshape(-1, 4, 2)
    np.testing.assert_allclose(
        corners.mean(0), [[0, 0], [0, 1], [1, 0], [1, 1]], atol=5 * 0.2 / np.sqrt(1000)
    )
    np.testing.assert_allclose(corners.std(0), 0.2, rtol=0.1)
    np.testing.assert_array_equal(examples.targets[:8], [0, 1, 1, 0] * 2)


def test_a_teacher_halves_gaussian_inputs_in_a_way_that_no_line_does():
    examples = make_examples(
        jax.random.key(2), jnp.float32, name="teacher", examples=4000, features=6
    )
    x, t = np.asarray(examples.inputs), np.asarray(examples.targets)
    assert t.mean() == 0.5
    np.testing.assert_allclose(x.mean(0), 0, atol=5 / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(x.T), np.eye(6), atol=0.12)
    line = np.linalg.lstsq(np.c_[x, np.ones(4000)], 2 * t - 1, rcond=None)[0]
    right = ((np.c_[x, np.ones(4000)] @ line > 0) == (t > 0.5)).mean()
    assert 0.5 < right < 0.97
    other = make_examples(jax.random.key(3), jnp.float32, name="teacher", examples=4000, features=6)
    assert not np.array_equal(other.inputs, x)


@pytest.mark.parametrize(
    ("name", "output", "target", "value"),
    [
        ("cross_entropy", 2.0, 1.0, -np.log(1 / (1 + np.exp(-2.0)))),
        ("cross_entropy", 2.0, 0.0, -np.log(1 - 1 / (1 + np.exp(-2.0)))),
        ("cross_entropy", 100.0, 0.0, 100.0),
        ("squared_error", 3.0, 1.0, 4.0),
    ],
)
def test_losses(name, output, target, value):
    np.testing.assert_allclose(
        get_loss(name).function(jnp.array(output), jnp.array(target)), value, rtol=1e-6
    )
