"""An activation for each layer: against the same network by hand, and theory layer by layer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fadeout
from fadeout import theory
from fadeout.analysis.predictions import predict_delta_norm
from fadeout.analysis.verdicts import expected_share
from fadeout.config import Init, Model, Optimizer, Run, Task, Training
from fadeout.registry import FadeoutError
from fadeout.training.resolve import identity
from helpers import network, script

NAME = "sigmoid-2xtanh-relu"
PHI = [jax.nn.sigmoid, jnp.tanh, jnp.tanh, jax.nn.relu]
RUN = Run(NAME, Init("lecun_normal"), model=Model(4, 6), optimizer=Optimizer("sgd", 0.5),
          probes=("delta_norm", "activation_std", "saturation"), keep=("weights",), seed=2,
          training=Training(5, 5))  # fmt: skip


@pytest.mark.few("identity", "tanh", "sigmoid", "relu")
def test_a_training_by_hand():
    (x, y), parameters = network(RUN)
    rows = {}

    def loss(parameters, taps):
        h = x
        for phi, (kernel, bias), tap in zip(PHI, parameters[:-1], taps, strict=True):
            h = phi(h @ kernel + bias + tap)
        kernel, bias = parameters[-1]
        return optax.sigmoid_binary_cross_entropy((h @ kernel + bias)[:, 0], y).mean()

    zeros = [jnp.zeros((4, 6))] * 4
    parameters = [tuple(map(jnp.asarray, layer)) for layer in parameters]
    deltas = jax.grad(loss, argnums=1)(parameters, zeros)
    h, rows = x, {"activation_std": [], "saturation": []}
    for phi, (kernel, bias), steepest in zip(PHI, parameters, (0.25, 1, 1, 1), strict=False):
        z = h @ kernel + bias
        slope = jax.vmap(jax.vmap(jax.grad(phi)))(z)
        h = phi(z)
        rows["activation_std"].append(jnp.std(h))
        rows["saturation"].append(jnp.mean(jnp.abs(slope) <= 0.05 * steepest))
    for _ in range(5):
        gradients = jax.grad(loss)(parameters, zeros)
        parameters = jax.tree.map(lambda p, g: p - 0.5 * g, parameters, gradients)
    found = fadeout.train(RUN, cache=None, quiet=True).isel(run=0)
    assert found.activation == NAME
    start = found.sel(step=0)
    np.testing.assert_allclose(start.delta_norm[:4], [jnp.linalg.norm(d) for d in deltas], 2e-5)
    for name, own in rows.items():
        np.testing.assert_allclose(start[name][:4], own, 2e-5)
    kept = fadeout.weights(found)
    for layer, (kernel, _) in enumerate(parameters, 1):
        np.testing.assert_allclose(kept[f"kernel_{layer}"], kernel, 2e-4, 1e-6)


def test_two_ways_to_write_it_are_one_and_equal_layers_are_plain():
    def of(name):
        return identity(dataclasses.replace(RUN, activation=fadeout.Activation(name)))

    assert of("sigmoid-tanh-tanh-relu") == of(NAME) != of("tanh-sigmoid-tanh-relu")
    assert of("4xtanh") == of("2xtanh-2xtanh") == of("tanh")


@pytest.mark.few("identity", "tanh", "relu")
def test_theory_goes_layer_by_layer():
    """Of wide networks, and of one whose layers are all the same."""
    names = [*["tanh"] * 3, *["relu"] * 3]
    found = theory.profile(names, 6, 1.5, 0.1, 1.5)
    q, gains = 1.5, []
    for name in names[:-1]:
        own = theory.moments(name, q)
        q, _ = 1.5 * own.square + 0.1, gains.append(1.5 * own.slope_square)
    assert found.variances[-1] == pytest.approx(q)
    np.testing.assert_allclose(found.gains, gains)
    same = theory.profile(["tanh"] * 6, 6, 1.5, 0.1, 1.5)
    np.testing.assert_array_equal(
        same.variances, theory.profile("tanh", 6, 1.5, 0.1, 1.5).variances
    )
    runs = [
        Run("3xtanh-3xrelu", Init("mean_field", weight_variance=1.5), Task("teacher", features=64),
            Model(6, 256), training=Training(0, 1), probes=("delta_norm",), seed=seed)
        for seed in range(6)
    ]  # fmt: skip
    results = fadeout.train(runs, cache=None, quiet=True)
    labels = {name: results[name].values[0] for name in results.coords if name != "run"}
    wanted = predict_delta_norm(labels, np.arange(1, 7))
    measured = results.delta_norm.values[:, 0, :6]
    ratio = np.exp(np.log(measured / measured[:, -1:]).mean(0))
    np.testing.assert_allclose(ratio, wanted / wanted[-1], rtol=0.12)


def test_the_share_that_is_expected_is_the_layers_mean():
    def of(name):
        return expected_share({"activation": name})

    assert of("tanh-3xrelu") == pytest.approx((of("tanh") + 3 * of("relu")) / 4)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (Run("tanh-relu", depth=3), "is of 2 hidden layers, and model\\.depth is 3"),
        (Run("tanh-leaky_relu", depth=2), "leaky_relu has parameters or is your own"),
        (Run("tanh-tan", depth=2), "unknown activation 'tan'"),
        (Run("tanh--relu", depth=2), "write it as tanh-tanh-relu"),
        (Run("0xtanh-relu", depth=2), "write it as tanh-tanh-relu"),
        (Run("tanh-relu", Init("critical"), depth=2), "follow from one activation"),
        (Run("tanh-relu", Init("lsuv"), depth=2), "follow from one activation"),
        (Run("tanh-relu", Init(gain="auto"), depth=2), "follow from one activation"),
    ],
)
def test_what_is_refused(run, words):
    with pytest.raises(FadeoutError, match=words):
        fadeout.train(run, cache=None, quiet=True)


def test_it_is_a_choice_and_an_axis_on_the_command_line(tmp_path):
    words = "activation=tanh-relu,relu-tanh,tanh", "model.depth=2", "training.steps=20", "name=a"
    done = script("train", "-m", *words, cwd=tmp_path, pictures=True)
    assert done.returncode == 0, done.stderr
    results = fadeout.load(tmp_path / "outputs/a")
    assert set(results.activation.values) == {"tanh-relu", "relu-tanh", "tanh"}
    assert "tanh-relu" in done.stdout
    assert "could not be drawn" not in done.stdout
    wrong = script("train", "activation=tanh-relu", "model.depth=3", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "is of 2 hidden layers" in wrong.stderr
    found = fadeout.expand("activation=2xtanh-relu,relu model.depth=3")
    assert [run.activation.name for run in found] == ["2xtanh-relu", "relu"]
