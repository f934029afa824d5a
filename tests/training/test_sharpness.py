"""The largest eigenvalue of the Hessian: against `jax.hessian` of the same network in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import fadeout
from fadeout.config import Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.curvature import Curvature, largest_eigenvalue, largest_of_tridiagonal
from helpers import network


def by_hessian(run, result):
    """The eigenvalues at the last step, of a network written by hand."""
    (x, y), _ = network(run)
    kept = fadeout.weights(result)
    count = len(kept) // 2
    with jax.enable_x64(True):
        layers = [
            tuple(jnp.asarray(kept[f"{word}_{n}"], jnp.float64) for word in ("kernel", "bias"))
            for n in range(1, count + 1)
        ]
        flat, unflatten = ravel_pytree(layers)

        def loss(flat):
            *hidden, (kernel, bias) = unflatten(flat)
            h = jnp.asarray(x, jnp.float64)
            for own, shift in hidden:
                h = jnp.tanh(h @ own + shift)
            z = h @ kernel + bias
            if run.training.loss_function == "squared_error":
                return jnp.mean(jnp.square(z[:, 0] - y))
            if z.shape[1] == 1:
                return optax.sigmoid_binary_cross_entropy(z[:, 0], y).mean()
            return optax.softmax_cross_entropy_with_integer_labels(z, y.astype(int)).mean()

        return np.linalg.eigvalsh(np.asarray(jax.hessian(loss)(flat)))


BASE = Run("tanh", Init("lecun_normal"), probes=("sharpness",), keep=("weights",),
           model=Model(2, 6), training=Training(60, 60), seed=3)  # fmt: skip
RUNS = {
    "float64": dataclasses.replace(BASE, training=Training(60, 60, dtype="float64")),
    "float32": BASE,
    "one layer, beside others": dataclasses.replace(BASE, model=Model(1, 6)),
    "three layers, beside others": dataclasses.replace(BASE, model=Model(3, 6)),
    "three classes, minibatches": dataclasses.replace(
        BASE, task=Task("spirals", examples=24), training=Training(60, 60, batch_size=8)
    ),
    "wide, one at a time": dataclasses.replace(
        BASE, task=Task("circles", examples=64), model=Model(2, 52),
        training=Training(4, 4, loss_function="squared_error"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def results():
    return fadeout.train(list(RUNS.values()), cache=None, quiet=True)


@pytest.mark.few("identity", "tanh")
@pytest.mark.parametrize("name", RUNS)
def test_the_sharpness_is_the_hessians_largest_eigenvalue(name, results):
    place = list(RUNS).index(name)
    own = results.isel(run=place)
    found = own.sharpness.sel(step=int(own.steps)).values
    found = found[np.isfinite(found)]
    depth = RUNS[name].model.depth
    assert found.size == depth + 1
    assert len(set(found.tolist())) == 1, "of the whole network"
    wanted = by_hessian(RUNS[name], own)
    assert found[0] == pytest.approx(wanted[-1], rel=1e-9 if name == "float64" else 2e-4)
    assert wanted[0] < 0, "and not the largest in size by chance"


def test_the_largest_of_a_tridiagonal_matrix_is_numpys():
    rng = np.random.default_rng(0)
    for size in (1, 2, 9):
        a, b = rng.normal(size=(size, 5)), rng.normal(size=(size - 1, 5))
        found = largest_of_tridiagonal(jnp.asarray(a), jnp.asarray(b))
        for run in range(5):
            whole = np.diag(a[:, run]) + np.diag(b[:, run], 1) + np.diag(b[:, run], -1)
            assert float(found[run]) == pytest.approx(np.linalg.eigvalsh(whole)[-1], abs=1e-5)


def test_the_largest_and_not_the_largest_in_size():
    matrix = np.diag([1.0, -50.0, 3.0, 0.5])
    start = [jnp.ones((4, 2))]
    product = lambda v: [jnp.asarray(matrix) @ v[0]]  # noqa: E731
    for steps in (4, 10):
        found = largest_eigenvalue(Curvature(product, start), steps)
        np.testing.assert_allclose(found, [3, 3], 1e-4)


def test_all_below_zero():
    matrix = jnp.diag(-jnp.arange(1.0, 4.0))
    found = largest_eigenvalue(Curvature(lambda v: [matrix @ v[0]], [jnp.ones((3, 1))]))
    assert float(found[0]) == pytest.approx(-1, rel=1e-4), "no direction is left, and 0 is none"


@pytest.mark.few("identity", "step")
def test_a_surrogate_has_no_hessian():
    run = dataclasses.replace(BASE, activation=fadeout.Activation("step", surrogate="sigmoid"))
    assert np.isnan(fadeout.train(run, cache=None, quiet=True).sharpness).all()


@pytest.mark.few("identity", "tanh")
def test_gradient_descent_ends_at_the_edge_of_stability():
    run = Run("tanh", Init("lecun_normal"), Task("circles", examples=32, noise=0.2), Model(3, 16),
              Optimizer("sgd", learning_rate=0.2), probes=("sharpness",),
              training=Training(1200, 100, loss_function="squared_error"))  # fmt: skip
    found = fadeout.train([dataclasses.replace(run, seed=s) for s in range(8)], cache=None,
                          quiet=True)  # fmt: skip
    sharpness = found.sharpness.sel(layer=1)
    assert float(sharpness.sel(step=0).median()) < 8.5
    assert float(sharpness.isel(step=slice(-5, None)).median()) == pytest.approx(10, rel=0.05)
    figure = fadeout.compare(found, quantity="sharpness", x="step")
    (line,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert set(np.round(line.get_ydata(), 9)) == {10.0}, "theory: 2 / learning rate"
