"""The lanes layout against plain matrix products, one network at a time."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from fadeout.networks import lanes
from fadeout.networks.layouts import EXAMPLES_FIRST, EXAMPLES_LAST, layout_of
from fadeout.networks.remedies import NORMALIZATIONS


def arrays(examples, inputs, outputs, runs):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (examples, inputs, runs), (inputs, outputs, runs), (examples, outputs, runs)
    return [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]


def test_declared_shapes_are_checked_in_these_tests():
    with pytest.raises(jaxtyping.TypeCheckError, match="fan_in"):
        lanes.matmul(jnp.ones((2, 3)), jnp.ones((4, 5)))


@pytest.mark.parametrize(
    ("examples", "inputs", "outputs", "runs"),
    [(4, 2, 8, 16), (4, 8, 8, 16), (4, 8, 1, 16), (120, 3, 5, 2), (96, 5, 3, 2)]
    + [(4, 60, 50, 3), (4, 60, 60, 1)],
)
def test_contract_and_its_gradients_match_matmul(examples, inputs, outputs, runs):
    x, kernel, cotangent = arrays(examples, inputs, outputs, runs)
    out, pull = jax.vjp(lanes.matmul, x, kernel)
    x_bar, kernel_bar = pull(cotangent)
    for r in range(runs):
        a, w, g = (np.asarray(v[..., r], np.float64) for v in (x, kernel, cotangent))
        np.testing.assert_allclose(out[..., r], a @ w, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(x_bar[..., r], g @ w.T, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(kernel_bar[..., r], a.T @ g, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("examples", [4, 100])
@pytest.mark.parametrize("width", [8, 100])
def test_products_of_the_backward_pass(runs, examples, width):
    """Every layout: written out, a plain product of one network, and a batch of them."""
    rng = np.random.default_rng(0)
    x, delta = jnp.asarray(rng.normal(size=(2, examples, width, runs)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(width, width, runs)), jnp.float32)
    back = lanes.matmul_transposed(delta, kernel)
    gradient = lanes.kernel_gradient(x, delta)
    for r in range(runs):
        a, d, w = (np.asarray(v[..., r], np.float64) for v in (x, delta, kernel))
        np.testing.assert_allclose(back[..., r], d @ w.T, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(gradient[..., r], a.T @ d, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 7, 48, 200])
def test_mean(count):
    x = jax.random.normal(jax.random.key(0), (count, 3))
    np.testing.assert_allclose(lanes.mean_over(x), np.mean(x, 0), rtol=1e-5, atol=1e-6)


def test_lane_count_depends_on_the_network_only():
    def count(depth, width, examples, recorded=1000):
        return lanes.lane_count(depth, width, examples, recorded, "cpu")

    assert count(4, 8, 4) == 128
    assert count(16, 8, 4) == count(64, 8, 4) == count(16, 16, 4) == 64
    assert count(4, 256, 4) == 1
    assert 16 <= count(40, 32, 12) < 128
    assert count(6, 32, 256) == count(4, 64, 4) == 1
    assert [count(4, 8, examples) for examples in (16, 256, 512)] == [32, 32, 1]
    assert [count(4, 16, examples) for examples in (16, 128, 256)] == [8, 8, 1]
    assert [count(4, 32, examples) for examples in (16, 64, 65)] == [8, 8, 1]
    assert lanes.lane_count(4, 32, 1000, 1000, "cpu", batch_size=16) == 8, "a step sees few"
    assert lanes.lane_count(4, 16, 128, 1000, "cpu", normalised=True) == 1
    assert count(4, 8, 4, recorded=10**7) * 4 * 10**7 <= lanes.RECORD_BYTES


def test_per_lane_takes_norms_within_a_lane():
    x = jnp.array([[3.0, 0.0], [4.0, 1.0]])
    np.testing.assert_allclose(lanes.per_lane(jnp.linalg.norm)(x), [5.0, 1.0])


@pytest.mark.parametrize("runs", [1, 3])
def test_a_signal_with_its_examples_last_gives_the_same_products(runs):
    x, kernel, delta = arrays(70, 5, 6, runs)
    first, last = EXAMPLES_FIRST, EXAMPLES_LAST
    turned, back = last.arrange(x), last.arrange(delta)
    for ours, plain in (
        (last.arrange(last.matmul(turned, kernel)), first.matmul(x, kernel)),
        (
            last.arrange(last.matmul_transposed(back, kernel)),
            first.matmul_transposed(delta, kernel),
        ),
        (last.kernel_gradient(turned, back), first.kernel_gradient(x, delta)),
        (last.bias_gradient(back), first.bias_gradient(delta)),
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [EXAMPLES_FIRST, EXAMPLES_LAST])
@pytest.mark.parametrize("name", ["layer", "rms", "batch"])
@pytest.mark.parametrize("runs", [1, 3])
def test_a_normalisations_gradient_is_its_vjp(name, layout, runs):
    z, _, g = (layout.arrange(a) for a in arrays(20, 7, 7, runs))
    function = NORMALIZATIONS[name]
    value, back = jax.vjp(lambda z: function(z, layout), z)
    found, again = function.gradient(z, g, layout)
    np.testing.assert_allclose(again, value, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, back(g)[0], rtol=1e-4, atol=1e-5)


def test_a_layout_follows_the_shape():
    assert layout_of(1, 8, 400, "cpu") is EXAMPLES_LAST
    assert layout_of(1, 64, 64, "cpu") is EXAMPLES_FIRST, "no more examples than units"
    assert layout_of(32, 8, 400, "cpu") is layout_of(1, 8, 400, "gpu") is EXAMPLES_FIRST
