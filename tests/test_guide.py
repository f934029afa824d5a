"""The guide of docs/extending.md is followed in a copy of the package."""

import os
import shutil
import subprocess
import sys

import pytest

from helpers import ROOT

ACTIVATION = '''

@activation(formula=r"$z\\,e^{-z^2}$", look=("blue", ":", "P"))
def bump(z, *, sharpness=1.0):
    """z exp(-sharpness z^2): rises and falls again."""
    return z * jnp.exp(-sharpness * z * z)
'''
OPTIMIZER = '''

@optimizer
def lamb(learning_rate, *, weight_decay: NotNegative = 0.0):
    """Adam scaled by the norms of kernel and update (You 2020)."""
    return optax.lamb(learning_rate, weight_decay=weight_decay)
'''
PROBE = '''

@probe("share of positive weights", readout=True, share=True, label="positive")
def positive(layer: Layer) -> Float[Array, ""]:
    """Share of weights above 0."""
    return jnp.mean(layer.kernel > 0)
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package to which an activation, an optimiser and a probe were added."""
    where = tmp_path_factory.mktemp("package")
    for folder in ("src", "conf"):
        shutil.copytree(ROOT / folder, where / folder)
    networks = where / "src/fadeout/networks"
    for module, code in (("activations", ACTIVATION), ("optimizers", OPTIMIZER), ("probes", PROBE)):
        path = networks / f"{module}.py"
        path.write_text(path.read_text() + code)
    (where / "conf/activation/bump.yaml").write_text("name: bump\nsharpness: 1.0\n")
    (where / "conf/optimizer/lamb.yaml").write_text(
        "name: lamb\nlearning_rate: 0.01\nweight_decay: 0.0\n"
    )
    return where


def python(package, *words):
    environment = os.environ | {"PYTHONPATH": str(package / "src")}
    done = subprocess.run([sys.executable, *words], cwd=package, env=environment,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_activation_and_a_probe_are_chosen_listed_and_drawn(package):
    fadeout = "-m", "fadeout"
    told = python(package, *fadeout, "train", "-m", "activation=bump", "model.depth=2",
                  "activation.sharpness=0.5,2", "probes=[positive]", "training.steps=2", "name=new",
                  "training.record_every=1", "formats=[png]")  # fmt: skip
    assert "2 runs" in told
    python(package, *fadeout, "plot", "outputs/new", "--quantity", "positive")
    assert list((package / "outputs/new").glob("positive*.png"))
    assert "bump (sharpness=1.0)" in python(package, *fadeout, "list", "activations")
    assert "Share of weights above 0." in python(package, *fadeout, "list", "probes")
    python(package, *fadeout, "atlas", "--activation", "bump", "--to", "atlas")
    assert list((package / "atlas").glob("*bump*"))


LAMB = """
import jax, jax.numpy as jnp, numpy as np, optax, fadeout
from fadeout import Init, Model, Optimizer, Run, Training
from fadeout.networks.optimizers import OPTIMIZERS, is_elementwise
assert not is_elementwise(OPTIMIZERS["lamb"])

def run(steps):
    return Run("tanh", Init("lecun_normal"), model=Model(3, 4), seed=3, keep=("weights",),
               optimizer=Optimizer("lamb", learning_rate=0.1), probes=(),
               training=Training(steps, max(steps, 1), dtype="float64"))

def weights(steps):
    found = fadeout.weights(fadeout.train(run(steps), cache=None, quiet=True).isel(run=0))
    layers = [(found[f"kernel_{i}"], found[f"bias_{i}"]) for i in range(1, 5)]
    hidden = [np.stack(arrays) for arrays in zip(*layers[1:3])]  # the package stacks hidden layers
    return [layers[0], tuple(hidden), layers[3]]

x, t = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), jnp.array([0, 1, 1, 0.0])

def loss(parameters):
    (first, c), (kernels, biases), (readout, d) = parameters
    h = jnp.tanh(x @ first + c)
    for kernel, bias in zip(kernels, biases):
        h = jnp.tanh(h @ kernel + bias)
    z = (h @ readout + d)[:, 0]
    return jnp.mean(jax.nn.softplus(z) - t * z)

with jax.enable_x64(True):
    parameters, lamb = jax.tree.map(jnp.asarray, weights(0)), optax.lamb(0.1)
    state = lamb.init(parameters)
    for _ in range(4):
        updates, state = lamb.update(jax.grad(loss)(parameters), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    for mine, theirs in zip(jax.tree.leaves(weights(4)), jax.tree.leaves(parameters), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
print("equal")
"""


def test_an_optimizer_that_takes_norms_is_right_without_a_word(package):
    assert python(package, "-c", LAMB).strip() == "equal"
