"""Initialisers against the variance that their names promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fadeout
from fadeout.config import Activation, Init, Model, Run, Task, Training
from fadeout.networks.initializers import FROM_FILE, INITIALIZERS, initialize, kernel_variance
from fadeout.registry import FadeoutError
from fadeout.training.programs import train_runs
from fadeout.training.resolve import resolve
from helpers import layers, network

pytestmark = pytest.mark.few("tanh", "relu", "leaky_relu", "sigmoid", "softplus", "step")

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
    "torch": 1 / (3 * FAN_IN),
    "orthogonal": 1 / FAN_OUT,
    "mean_field": 1 / FAN_IN,
    "critical": 2 / FAN_IN,
    "lsuv": 1 / FAN_OUT,
}
GIVEN = {"critical": {"weight_variance": 2.0}}


def draw(name, **parameters):
    return initialize(
        jax.random.split(jax.random.key(0)),
        (FAN_IN, FAN_OUT),
        jnp.float32,
        name=name,
        **GIVEN.get(name, {}),
        **parameters,
    )


DRAWN = [name for name in INITIALIZERS if name not in FROM_FILE]


@pytest.mark.parametrize("name", DRAWN)
def test_variance(name):
    kernel, bias = draw(name)
    # 150,000 draws: five standard errors of a variance are at most 5 sqrt(2 / n)
    np.testing.assert_allclose(np.var(kernel), VARIANCE[name], rtol=5 * np.sqrt(2 / kernel.size))
    told = kernel_variance(name, FAN_IN, FAN_OUT, **GIVEN.get(name, {}))
    assert told == (None if name == "lsuv" else pytest.approx(VARIANCE[name]))
    if name != "torch":
        np.testing.assert_array_equal(bias, np.zeros(FAN_OUT))


@pytest.mark.parametrize("name", DRAWN)
def test_gain_scales_the_kernel(name):
    np.testing.assert_allclose(draw(name, gain=3.0)[0], 3 * draw(name)[0], rtol=1e-6)


def test_orthogonal_rows_are_orthonormal():
    kernel, _ = draw("orthogonal")
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(FAN_IN), atol=1e-5)


def test_bias_variance():
    _, bias = initialize(
        jax.random.split(jax.random.key(0)),
        (1, 20_000),
        jnp.float32,
        name="zeros",
        bias_variance=0.25,
    )
    np.testing.assert_allclose(np.var(bias), 0.25, rtol=0.05)


def test_unknown_name():
    with pytest.raises(FadeoutError, match=r"unknown init 'he'.*glorot_normal"):
        draw("he")


def test_critical_is_solved_for_the_activation():
    def solved(name, **parameters):
        bias_variance = parameters.pop("bias_variance", 0.0)
        init = Init("critical", bias_variance=bias_variance)
        return resolve(Run(Activation(name, **parameters), init)).init.weight_variance

    assert solved("relu") == 2
    assert solved("leaky_relu", slope=0.5) == pytest.approx(2 / 1.25)
    assert solved("tanh", bias_variance=0.05) == pytest.approx(1.76, abs=0.01)  # Schoenholz 2017
    assert solved("sigmoid") == pytest.approx(103.0, abs=0.1)


@pytest.mark.parametrize(
    ("name", "bias_variance", "message"),
    [
        ("softplus", 0.0, r"softplus has no edge of chaos at init.bias_variance=0, nor.*init=lsuv"),
        ("step", 0.0, "nor at any other"),
        ("relu", 0.1, r"relu has no edge .*=0.1: the nearest is at init.bias_variance=0$"),
    ],
)
def test_no_edge_of_chaos_is_said_before_any_compute(name, bias_variance, message):
    with pytest.raises(FadeoutError, match=message):
        resolve(Run(Activation(name), Init("critical", bias_variance=bias_variance)))


@pytest.mark.parametrize("name", ["tanh", "softplus"])
def test_lsuv_gives_every_layer_variance_gain_squared(name):
    training = Training(dtype="float64")  # softplus's mean grows until float32 loses the variance
    run = Run(
        Activation(name), Init("lsuv", gain=1.5), Task("teacher"), Model(50, 12), training=training
    )
    (x, _), weights = network(run)
    phi = {"tanh": np.tanh, "softplus": lambda z: np.logaddexp(0, z)}[name]
    for kernel, bias in weights:
        z = x @ kernel + bias
        assert np.var(z) == pytest.approx(2.25, rel=1e-4)
        x = phi(z)


def test_deep_orthogonal_networks_do_not_hang():
    """Twelve or more batched QR calls in one program deadlock; one for all layers does not."""
    training = Training(steps=0, record_every=1)
    run = Run(init=Init("orthogonal"), model=Model(60, 12), training=training, probes=())
    (kernel, _), *_ = layers(train_runs([run] * 3).model, 2)[1:]
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(12), atol=1e-5)


def test_threads_that_decompose_matrices_do_not_wait_for_each_other():
    """Two threads that run QR or SVD at once deadlock in jax 0.10, unless they take turns."""
    training = Training(steps=0, record_every=1)
    runs = [
        Run(init=Init("orthogonal"), model=Model(4, 64), training=training,
            probes=("jacobian_largest",), seed=seed)
        for seed in range(8)
    ]  # fmt: skip
    largest = fadeout.train(runs)["jacobian_largest"].isel(step=0, layer=0)
    np.testing.assert_allclose(largest, 1, rtol=1e-5)
