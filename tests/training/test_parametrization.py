"""Parametrisations: the table of mup, by hand and by slopes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fadeout
from fadeout.analysis.scaling import PROBES_OF_SCALING
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.parametrization import scale_steps, step_exponent, step_factors
from fadeout.registry import FadeoutError
from helpers import network, script

SGD, ADAM = Optimizer("sgd", learning_rate=0.3), Optimizer("adam", learning_rate=0.02)


def run_of(parametrization, optimizer, width=16, base_width=4, **more):
    init = more.pop("init", Init("lecun_normal"))
    return Run(
        Activation("tanh"), init, optimizer=optimizer, probes=("update_ratio",),
        model=Model(3, width, parametrization=parametrization, base_width=base_width),
        training=Training(5, 5), keep=("weights",), **more,
    )  # fmt: skip


def by_hand(run, factors, readout):
    """The same training in plain JAX, each kernel and bias with a rate of its own."""
    model = dataclasses.replace(run.model, parametrization="standard", base_width=8)
    (x, y), drawn = network(dataclasses.replace(run, model=model))
    parameters = [{"kernel": jnp.asarray(k), "bias": jnp.asarray(b)} for k, b in drawn]
    parameters[-1]["kernel"] *= readout
    factors = [factors[0], factors[1], factors[1], factors[2]]
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[run.optimizer.name](
        run.optimizer.learning_rate
    )
    state = optimizer.init(parameters)

    def loss(parameters):
        h = x
        for own in parameters[:-1]:
            h = jnp.tanh(h @ own["kernel"] + own["bias"])
        z = (h @ parameters[-1]["kernel"] + parameters[-1]["bias"])[:, 0]
        return optax.sigmoid_binary_cross_entropy(z, y).mean()

    for _ in range(5):
        updates, state = optimizer.update(jax.grad(loss)(parameters), state, parameters)
        for update, (kernel, bias) in zip(updates, factors, strict=True):
            update["kernel"], update["bias"] = update["kernel"] * kernel, update["bias"] * bias
        parameters = optax.apply_updates(parameters, updates)
    return [own["kernel"] for own in parameters]


TABLES = {  # width 16 over base 4: n = 4; Yang et al. 2022, table 3
    ("mup", "sgd"): ([(4, 4), (1, 4), (1 / 4, 1)], 0.5),
    ("mup", "adam"): ([(1, 1), (1 / 4, 1), (1 / 4, 1)], 0.5),
    ("ntk", "sgd"): ([(1, 1), (1 / 4, 1), (1 / 4, 1)], 1.0),
    ("ntk", "adam"): ([(1, 1), (1 / 2, 1), (1 / 2, 1)], 1.0),
}


@pytest.mark.few("identity", "tanh")
@pytest.mark.parametrize("way", TABLES)
def test_a_training_by_hand(way):
    name, optimizer = way
    run = run_of(name, SGD if optimizer == "sgd" else ADAM)
    trained = fadeout.weights(fadeout.train(run, cache=None, quiet=True).isel(run=0))
    for layer, kernel in enumerate(by_hand(run, *TABLES[way]), 1):
        np.testing.assert_allclose(trained[f"kernel_{layer}"], kernel, 2e-4, 2e-5)


@pytest.mark.few("identity", "tanh")
def test_at_the_base_width_all_are_the_same():
    runs = [run_of(name, ADAM, 8, 8) for name in ("standard", "ntk", "mup")]
    found = fadeout.train(runs, cache=None, quiet=True)
    for kernel in found.last_kernel.values[1:]:
        np.testing.assert_allclose(kernel, found.last_kernel.values[0], 1e-5, 1e-6)


def test_which_rules_an_optimiser_follows_is_measured():
    table = fadeout.networks.optimizers.OPTIMIZERS
    found = {name: step_exponent(own) for name, own in table.items()}
    assert found == {
        "sgd": 1, "momentum": 1, "nesterov": 1,
        **dict.fromkeys(("adam", "adamw", "rmsprop", "adagrad", "lion"), 0),
    }  # fmt: skip

    @fadeout.optimizer
    def rooted(learning_rate):
        return optax.stateless(
            lambda g, p: jax.tree.map(lambda g: -learning_rate * jnp.sqrt(jnp.abs(g)), g)
        )

    with pytest.raises(FadeoutError, match="and rooted is neither"):
        fadeout.train(run_of("mup", Optimizer("rooted")), cache=None, quiet=True)
    del table["rooted"]


def test_the_factors_multiply_to_one_at_the_base():
    for name in ("ntk", "mup"):
        for exponent in (0, 1):
            assert set(np.ravel(step_factors(name, 64, 64, exponent))) == {1.0}
    with pytest.raises(FadeoutError, match=r"needs model\.parametrization=ntk or mup"):
        fadeout.train(Run(model=Model(2, 8, base_width=4)), cache=None, quiet=True)


def checked(parametrization):
    runs = [
        Run("tanh", Init("lecun_normal"), Task("circles"), Model(3, width, base_width=64,
            parametrization=parametrization) if parametrization == "mup" else Model(3, width),
            Optimizer("adam", learning_rate=0.003), Training(10, 1), seed=seed,
            probes=PROBES_OF_SCALING)
        for width in (64, 128, 256) for seed in range(6)
    ]  # fmt: skip
    return fadeout.scaling(fadeout.train(runs, cache=None, quiet=True))


@pytest.mark.few("identity", "tanh")
def test_the_coordinate_check_passes_with_mup_and_not_without():
    found = checked("mup")
    assert found.word.isin(["PASS", "undecided"]).all(), found
    assert (found.slope - found.wanted).abs().max() < 0.1
    assert (found[found.quantity == "signal"].slope).abs().max() < 0.06
    assert set(found.step) == {0, 1, 10}
    assert set(found[found.quantity == "delta"].wanted) == {-0.5}
    update = found[(found.quantity == "update") & (found.step == 0)].set_index("position")
    assert update.wanted.to_dict() == {"first": 0.0, "middle": -0.5, "last": -0.5}
    plain = checked("standard")
    last = plain[(plain.quantity == "signal") & (plain.position == "last")].set_index("step")
    assert last.word[0] in ("PASS", "undecided")
    assert last.word[10] == "GROWS"


def test_the_start_scales_as_theory_expects():
    """Glorot's first kernel is over fan_in + fan_out, so that its signal falls with the width."""
    runs = [
        dataclasses.replace(
            run_of("standard", ADAM, width, Model().base_width, init=Init("glorot_normal")),
            seed=seed, probes=PROBES_OF_SCALING, task=Task("xor", "bipolar"),
        )
        for width in (64, 128, 256) for seed in range(4)
    ]  # fmt: skip
    found = fadeout.scaling(fadeout.train(runs, quiet=True), steps=[0])
    own = found[found.quantity == "signal"]
    assert (own.theory < -0.4).all()
    assert (own.slope - own.theory).abs().max() < 0.06
    assert own.theory.between(own.low, own.high).all()
    assert found[found.quantity != "signal"].theory.isna().all()


def make(width, key):
    keys = jax.random.split(key, 4)
    kernels = [jax.random.normal(k, (width, width)) / np.sqrt(width) for k in keys]
    kernels[0] = jax.random.normal(keys[0], (4, width)) / 2
    kernels[-1] = jax.random.normal(keys[3], (width, 1)) / np.sqrt(width)

    def loss(parameters, x):
        for kernel in parameters[:-1]:
            x = jnp.tanh(x @ kernel)
        return jnp.mean(jnp.square(x @ parameters[-1] - 1))

    return loss, kernels, (jax.random.normal(jax.random.key(1), (16, 4)),)


def test_a_branchs_factor_is_one_number_at_any_width():
    drawn = jax.tree.map(jnp.ones_like, fadeout.Dense(jnp.ones((2, 2)), jnp.ones(2), jnp.ones(())))
    found = scale_steps(drawn, (3.0, 5.0))
    assert (float(found.factor[...]), float(found.kernel[0, 0])) == (1, 3)


def test_steps_are_what_they_are_called():
    rows = {
        order: fadeout.scaling(make, sizes=[8, 16, 32], steps=order, optimizer=optax.sgd(1.0))
        for order in ((5, 0), (0, 5), (0, 0, 5))
    }
    for found in rows.values():
        assert found.equals(rows[0, 5])


def test_networks_of_ones_own():
    found = fadeout.scaling(make, sizes=[64, 128, 256], seeds=6, optimizer=optax.adam(0.003))
    own = found[(found.quantity == "signal") & (found.position == "2")].set_index("step")
    assert own.word[0] in ("PASS", "undecided")
    assert own.slope[10] > 0.05
    rates = fadeout.scaling(
        make, sizes=[64, 128, 256], steps=(0, 10), optimizer=lambda width: optax.sgd(1 / width)
    )
    assert (rates[rates.quantity == "signal"].slope.abs() < 0.1).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fadeout.scaling(make), "needs their sizes"),
        (lambda: fadeout.scaling(make, sizes=[2, 4]), "three sizes or more"),
        (lambda: fadeout.scaling(lambda width: None, sizes=[2, 4, 8]), "that makes networks fails"),
        (
            lambda: fadeout.scaling(make, sizes=[2, 4, 8], steps=(), optimizer=optax.sgd(1)),
            "steps must be whole numbers",
        ),
        (
            lambda: fadeout.scaling(make, sizes=[2, 4, 8], steps=(1.5,), optimizer=optax.sgd(1)),
            "steps must be whole numbers",
        ),
        (
            lambda: fadeout.train(run_of("mup", ADAM, init=Init("glorot_normal"))),
            "begins with variances over the fan-in",
        ),
        (lambda: fadeout.scaling(3, sizes=[2, 4, 8]), "make must be a function"),
    ],
)
def test_what_cannot_be_checked(call, words):
    with pytest.raises(FadeoutError, match=words):
        call()


def test_the_command(tmp_path):
    words = ("init=lecun_normal", "--over", "width=4,8,16", "--over", "depth=2,3,4", "--seeds", "3",
             "--steps", "0,2")  # fmt: skip
    done = script("scaling", *words, "--name", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for over in ("width", "depth"):
        folder = tmp_path / "outputs/mine" / over
        assert (folder / "scaling.png").exists()
        assert fadeout.load(folder).sizes["run"] == 9
    assert done.stdout.count("signal") == 2 * 2 + 3 * 2
    for wrong, told in {
        ("--over", "width=4,8"): "three sizes or more",
        ("--over", "width=4,a,8"): "three sizes or more",
        ("--steps", "1,-1"): "whole numbers from 0 on",
        ("seed=3",): "use --seeds",
        ("activation=no",): "activation",
        ("activation=tanh,relu", "--over", "width=4,8,16"): "activation vary as well",
    }.items():
        failed = script("scaling", "--name", "other", *wrong, cwd=tmp_path)
        assert failed.returncode == 1
        assert told in failed.stderr
        assert "Traceback" not in failed.stderr
