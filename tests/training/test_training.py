"""Training against hand-written NumPy, plain optax and itself in another place of the batch."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fadeout
from fadeout.config import (
    MOST_DEPTH,
    MOST_STEPS,
    Activation,
    Init,
    Model,
    Optimizer,
    Run,
    Task,
    Training,
)
from fadeout.networks.activations import ACTIVATIONS, get_activation, slope_of
from fadeout.networks.initializers import INITIALIZERS
from fadeout.networks.keys import layer_keys, seed_key
from fadeout.networks.model import MLP, Signals
from fadeout.networks.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    get_optimizer,
    is_elementwise,
    updates_elementwise,
)
from fadeout.networks.stacks import LayerCount
from fadeout.registry import FadeoutError
from fadeout.training.compile_groups import compile_group, init_values
from fadeout.training.fit import fit
from fadeout.training.initialization import initialize_lanes
from fadeout.training.programs import fit_arguments, fit_values, train_group, train_runs
from fadeout.training.resolve import resolve
from helpers import layers, network
from reference import FUNCTIONS, backward, probes

pytestmark = pytest.mark.few


def measured_at_start(run):
    """The package's probes at step 0 against NumPy's, on the very same parameters."""
    (x, t), weights = network(run)
    phi, slope = FUNCTIONS[run.activation.name]
    grid = np.linspace(-3, 3, 601)
    steepest = np.abs(slope(grid)).max()
    loss = run.training.loss_function
    expected = probes(
        weights, x, t, phi, slope, steepest, loss, learning_rate=run.optimizer.learning_rate
    )
    return train_runs(run), expected, backward(weights, x, t, phi, slope, loss)[0]


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "step", "gelu"])
def test_every_probe_matches_handwritten_backpropagation(name, depth):
    run = Run(
        activation=Activation(name),
        init=Init("glorot_normal", gain=1.3, bias_variance=0.1),
        model=Model(depth, 5),
        optimizer=Optimizer("sgd", 0.1),
        training=Training(steps=0, record_every=1, dtype="float64"),
        seed=7,
    )
    trace, expected, loss = measured_at_start(run)
    np.testing.assert_allclose(trace.loss[0, 0], loss, rtol=1e-12)
    assert set(trace.layers) == set(expected)
    for probe, values in expected.items():
        np.testing.assert_allclose(
            trace.layers[probe][0, :, 0], values, rtol=1e-9, atol=1e-15, err_msg=probe
        )


@pytest.mark.parametrize(
    "task",
    [
        Task("parity", bits=3),
        Task("noisy_xor", examples=100, noise=0.3),
        Task("noisy_xor", examples=300, noise=0.3),  # of one network at a time, examples last
    ],
)
def test_squared_error_and_more_examples_than_are_unrolled(task):
    run = Run(
        task=task,
        optimizer=Optimizer("sgd", 0.1),
        training=Training(0, 1, loss_function="squared_error", dtype="float64"),
    )
    trace, expected, loss = measured_at_start(run)
    np.testing.assert_allclose(trace.loss[0, 0], loss, rtol=1e-12)
    for probe, values in expected.items():
        np.testing.assert_allclose(trace.layers[probe][0, :, 0], values, rtol=1e-9, err_msg=probe)


def test_gradient_matches_finite_differences_of_the_loss():
    run = Run(
        activation=Activation("softplus"),
        model=Model(3, 5),
        optimizer=Optimizer("sgd", 1.0),
        training=Training(0, 1, dtype="float64"),
    )
    (x, t), weights = network(run)
    phi, slope = FUNCTIONS["softplus"]
    numbers = np.random.default_rng(0)
    gradients = backward(weights, x, t, phi, slope)[2]
    for layer, gradient in enumerate(gradients):
        direction = numbers.normal(size=gradient.shape)

        def loss_at(h, layer=layer, direction=direction):
            moved = [
                (w + h * direction * (i == layer), b) if i == layer else (w, b)
                for i, (w, b) in enumerate(weights)
            ]
            return backward(moved, x, t, phi, slope)[0]

        difference = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-7)
    measured = train_runs(run).layers["gradient_norm"][0, :, 0]
    np.testing.assert_allclose(measured, [np.linalg.norm(g) for g in gradients], rtol=1e-12)


# --- optimisers


FIXED = ("name", "learning_rate", "readout_factor", "schedule", "warmup_steps", "clip")


def plain_training(run, steps):
    """One network trained by plain optax and jax.grad, without lanes or modules."""
    run = resolve(run)
    (x, t), weights = network(run)
    hyper = {k: v for k, v in run.optimizer.as_dict().items() if k not in FIXED}
    rate = {
        "constant": run.optimizer.learning_rate,
        "cosine": optax.cosine_decay_schedule(run.optimizer.learning_rate, run.training.steps),
        "warmup": optax.warmup_cosine_decay_schedule(
            0.0, run.optimizer.learning_rate, run.optimizer.warmup_steps, run.training.steps
        ),
    }[run.optimizer.schedule]
    factory = {
        "sgd": optax.sgd,
        "momentum": optax.sgd,
        "nesterov": lambda rate, **kw: optax.sgd(rate, nesterov=True, **kw),
        "adagrad": lambda rate, eps, eps_in_sqrt, initial_accumulator: optax.adagrad(
            rate, initial_accumulator, eps
        ),
    }.get(run.optimizer.name, getattr(optax, run.optimizer.name, None))
    optimizer = factory(rate, **hyper)

    def loss(weights):
        h = x
        for kernel, bias in weights[:-1]:
            h = jnp.tanh(h @ kernel + bias)
        y = (h @ weights[-1][0] + weights[-1][1])[:, 0]
        return optax.sigmoid_binary_cross_entropy(y, t).mean()

    state = optimizer.init(weights)
    for _ in range(steps):
        updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
        weights = optax.apply_updates(weights, updates)
    return weights


AS_OPTAX = {
    "rmsprop": {"eps_in_sqrt": True},
    "adagrad": {"eps_in_sqrt": True, "eps": 1e-7, "initial_accumulator": 0.1},
}
"""The options by which an optimiser is optax's and not its paper's."""


@pytest.mark.parametrize(
    "optimizer",
    [Optimizer(name, 0.03, **AS_OPTAX.get(name, {})) for name in OPTIMIZERS]
    + [Optimizer("adam", 0.03, schedule="cosine")]
    + [Optimizer("sgd", 0.3, schedule="warmup", warmup_steps=3)],
    ids=lambda o: f"{o.name}-{o.schedule}",
)
def test_optimizers_match_plain_optax(optimizer):
    run = Run(
        model=Model(3, 4),
        optimizer=optimizer,
        training=Training(6, 3, dtype="float64"),
        probes=["gradient_norm"],
    )
    mine = layers(train_runs([dataclasses.replace(run, seed=s) for s in (5, 0, 9)]).model, lane=1)
    with jax.enable_x64(True):
        plain = plain_training(run, 6)
    # optax keeps the factor of its warm-up in float32
    rtol = 1e-6 if optimizer.schedule == "warmup" else 1e-9
    for (kernel, bias), (plain_kernel, plain_bias) in zip(mine, plain, strict=True):
        np.testing.assert_allclose(kernel, plain_kernel, rtol=rtol, atol=rtol / 1e3)
        np.testing.assert_allclose(bias, plain_bias, rtol=rtol, atol=rtol / 1e3)


def test_which_optimizers_are_elementwise_is_read_from_their_programs():
    assert all(is_elementwise(function) for function in OPTIMIZERS.values())
    for mixing in (optax.lamb, optax.lars, optax.adafactor, optax.contrib.dadapt_adamw):
        assert not updates_elementwise(mixing(0.1)), "else it would go wrong in silence"
    assert updates_elementwise(optax.yogi(0.1))


def test_an_optimizer_with_norms_over_all_parameters_is_right_per_run(monkeypatch):
    def clipped(learning_rate):
        return optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(learning_rate))

    monkeypatch.setitem(OPTIMIZERS, "clipped", clipped)
    runs = [
        Run(
            init=Init(gain=gain),
            optimizer=Optimizer("clipped", 0.5),
            training=Training(2, 1),
            probes=["gradient_norm", "bias_gradient_norm"],
        )
        for gain in (0.1, 1.0, 3.0)
    ]
    together = train_runs(runs)
    for lane, run in enumerate(runs):
        (x, t), weights = network(run)
        phi, slope = FUNCTIONS["tanh"]
        for _ in range(2):
            _, _, kernels, biases, _, _ = backward(weights, x, t, phi, slope)
            size = np.sqrt(sum(np.sum(g**2) for g in [*kernels, *biases]))
            rate = 0.5 * min(1, 0.1 / size)
            weights = [
                (w - rate * dw, b - rate * db)
                for (w, b), dw, db in zip(weights, kernels, biases, strict=True)
            ]
        for mine, plain in zip(layers(together.model, lane), weights, strict=True):
            np.testing.assert_allclose(mine[0], plain[0], rtol=2e-4, atol=1e-6)


PATHS = ("update_ratio", "update_cosine", "path_length", "displacement", "jacobian_gain")


@pytest.mark.parametrize("depth", [1, 3])
def test_updating_layer_by_layer_is_updating_all_at_once(depth, monkeypatch):
    """Adam under another name is not known to work element by element."""
    monkeypatch.setitem(OPTIMIZERS, "whole", lambda learning_rate: optax.adam(learning_rate))
    layered, whole = (
        train_runs(Run(model=Model(depth, 4), optimizer=Optimizer(name, 0.05, 0.5), probes=PATHS,
                  training=Training(6, 3, dtype="float64")))
        for name in ("adam", "whole")
    )  # fmt: skip
    for name in PATHS:
        np.testing.assert_allclose(layered.layers[name], whole.layers[name], rtol=1e-10)
    for a, b in zip(layers(layered.model), layers(whole.model), strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-10)
        np.testing.assert_allclose(a[1], b[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_depth_that_is_no_number_gives_the_same(depth):
    """As on an accelerator: the stack has just the places that the network needs."""
    chosen = ("delta_norm", "update_ratio", "ntk_largest", "path_length")
    training = Training(6, 3, dtype="float64")
    run = resolve(Run(model=Model(depth, 4), training=training, probes=chosen))
    traced = train_runs(run)
    batch = compile_group(run)
    exact = dataclasses.replace(batch.program.run, model=run.model, training=run.training)
    tight = batch.program._replace(run=exact)
    with jax.enable_x64(True):
        like = dataclasses.replace(batch.init_key.run, model=run.model)
        examples, model = initialize_lanes(like, without(init_values(like, [run] * 2)))
        values = without(fit_values(batch, [run] * 2))
        static = fit(tight, values, examples, model)
    np.testing.assert_allclose(static.loss[:, :1], traced.loss, rtol=1e-12)
    np.testing.assert_array_equal(static.outcome.solved_step[:1], traced.outcome.solved_step)
    for name, found in traced.layers.items():
        np.testing.assert_allclose(static.layers[name][..., :1], found, rtol=1e-9)


def without(values):
    return {n: value for n, value in values.items() if n not in ("depth", "records", "every")}


def test_the_readout_may_have_a_rate_of_its_own():
    run = Run(model=Model(2, 3), training=Training(1, 1, dtype="float64"), probes=())
    before = network(run)[1]
    steps = []
    for factor in (1.0, 0.25):
        asked = dataclasses.replace(run, optimizer=Optimizer("sgd", 0.1, factor))
        after = layers(train_runs(asked).model, lane=0)
        steps.append([k - k0 for (k, _), (k0, _) in zip(after, before, strict=True)])
    for hidden, same in zip(steps[0][:-1], steps[1][:-1], strict=True):
        np.testing.assert_array_equal(hidden, same)
    np.testing.assert_allclose(steps[1][-1], 0.25 * steps[0][-1], rtol=1e-4)


def test_a_schedule_ends_at_zero():
    optimizer = get_optimizer("sgd", 1.0, "cosine", steps=10)
    state = optimizer.init(jnp.ones(1))
    rates = []
    for _ in range(11):
        update, state = optimizer.update(jnp.ones(1), state)
        rates.append(-float(update[0]))
    np.testing.assert_allclose(rates, (1 + np.cos(np.pi * np.arange(11) / 10)) / 2, atol=1e-6)


# --- one run, whatever its neighbours


def same(a, b):
    return all(
        np.array_equal(x, y, equal_nan=True)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def lane(trace, i):
    return jax.tree.map(lambda a: a[..., i], trace)


@pytest.mark.parametrize(
    ("activation", "depth", "width"),
    [("tanh", 3, 8), ("relu", 9, 8), ("gelu", 2, 16), ("sigmoid", 2, 64)],
)
def test_a_run_is_the_same_to_the_last_bit_alone_and_anywhere_in_a_batch(activation, depth, width):
    def run(seed, rate=0.01):
        return Run(
            activation=Activation(activation),
            model=Model(depth, width),
            optimizer=Optimizer("adam", rate),
            training=Training(20, 5),
            seed=seed,
        )

    alone = lane(train_runs(run(3)), 0)
    others = [run(seed, rate) for seed, rate in [(1, 0.1), (2, 1e6), (4, 0.02), (5, 0.0)]]
    for place in (0, 2, 4):
        batch = [*others[:place], run(3), *others[place:]]
        assert same(alone, lane(train_runs(batch), place))


@pytest.mark.parametrize(
    "what",
    [
        {},
        {
            "activation": Activation("tanh"), "optimizer": Optimizer("momentum", 0.1, clip=0.1),
            "model": Model(1, 4, residual=0.5, residual_scale="zero", normalization="layer"),
            "probes": ("ntk_largest", "jacobian_gain", "path_length"),
        },
        {
            "init": Init("lsuv"), "task": Task("parity", bits=4), "probes": ("delta_norm",),
            "training": Training(10, 5, batch_size=4, held_out=4), "keep": ("weights", "outputs"),
        },
        {"activation": Activation("relu"), "init": Init(gain=1e15), "optimizer": Optimizer("sgd")},
        {
            "activation": Activation("relu"), "init": Init(gain=1e15),
            "optimizer": Optimizer("sgd", clip=1.0),
        },
        {
            "optimizer": Optimizer("adam", 0.05, eps=0.0), "probes": ("ntk_largest", "of_all"),
            "model": Model(1, 4, residual=0.5, normalization="layer"),
        },
    ],
    ids=["defaults", "of all layers", "on some examples", "broken", "broken and clipped", "0 / 0"],
)  # fmt: skip
def test_networks_of_several_depths_are_trained_side_by_side_and_change_no_bit(what):
    @fadeout.probe("one of a user's own", whole=True)
    def of_all(layers):
        places = layers.hidden.bias_gradient.shape[0]
        there = jnp.arange(places) < layers.layer_count.each
        below = jnp.sum(jnp.abs(layers.hidden.activation)) + jnp.sum(layers.hidden.slope)
        return jnp.append(below, jnp.where(there, jnp.cumsum(there), 0))

    like = resolve(Run(**{"training": Training(10, 5)} | what))
    runs = [
        dataclasses.replace(like, model=dataclasses.replace(like.model, depth=depth), seed=seed)
        for depth in (1, 2, 4)
        for seed in range(2)
    ]
    batch = compile_group(runs[-1])
    together = train_group(batch, runs, batch.program.lanes, jax.local_devices()[0])
    for depth in (1, 2, 4):
        alone = train_runs([run for run in runs if run.model.depth == depth])
        for x, y in zip(*map(jax.tree.leaves, (alone, together[depth])), strict=True):
            np.testing.assert_array_equal(x, y)
    broken = like.init.gain > 1e8
    assert np.isfinite(together[4].loss).all() != broken
    if not broken:
        assert all(np.isfinite(together[1].layers[name][:, :1]).all() for name in like.probes)


def test_a_step_more_or_a_record_fewer_compiles_nothing():
    usual = compile_group(Run(training=Training(100, 10)))
    for steps, every in ((100, 1), (20_000, 200), (127, 1), (0, 1)):
        other = compile_group(Run(training=Training(steps, every)))
        assert (other.program, other.init_key) == (usual.program, usual.init_key)
        assert other != usual
    scheduled = [
        compile_group(
            Run(optimizer=Optimizer(schedule="cosine"), training=Training(steps, 10))
        ).program
        for steps in (100, 200)
    ]
    assert scheduled[0] != scheduled[1], "a schedule ends with the last step"
    assert compile_group(Run(training=Training(128, 1))).program.records == 160


def test_the_longest_and_the_deepest_run_have_room():
    batch = compile_group(Run(training=Training(MOST_STEPS, 1)))
    assert batch.program.records == batch.training.records == MOST_STEPS + 1
    assert compile_group(Run(model=Model(MOST_DEPTH, 2))).program.run.model.depth == MOST_DEPTH


def test_more_runs_than_lanes_come_back_in_order():
    runs = [Run(seed=seed, training=Training(2, 1), probes=()) for seed in range(130)]
    trace = train_runs(runs)
    assert trace.loss.shape == (3, 130)
    assert same(lane(trace, 129), lane(train_runs(runs[129]), 0))


def test_runs_of_different_groups_are_refused():
    with pytest.raises(FadeoutError, match="2 compile groups"):
        train_runs([Run(), Run(model=Model(depth=3))])


def test_a_new_float_or_seed_shares_the_program_and_a_new_word_does_not():
    base = compile_group(Run(activation=Activation("elu", alpha=1.0)))
    same_program = [
        Run(activation=Activation("elu", alpha=0.3), seed=9),
        Run(activation=Activation("elu"), init=Init(gain=2.0)),
        Run(activation=Activation("elu"), optimizer=Optimizer(learning_rate=1)),
    ]
    assert {compile_group(run) for run in same_program} == {base}
    other_init = compile_group(
        Run(activation=Activation("elu"), init=Init("he_normal"), task=Task("or"))
    )
    assert other_init != base
    assert other_init.program == base.program
    for other in (Run(Activation("selu")), Run(Activation("elu"), model=Model(depth=4))):
        assert compile_group(other) != base
        assert compile_group(other).program == base.program  # on a CPU, a number
    assert len({compile_group(Run(model=Model(depth))).program for depth in range(1, 65)}) == 3
    assert compile_group(Run(optimizer=Optimizer("sgd"))).program != base.program


# --- outcomes


def test_solved_counts_from_the_first_step_that_lasts():
    trace = train_runs([Run(seed=seed, training=Training(300, 1)) for seed in range(20)])
    for i in range(20):
        wrong = np.flatnonzero(trace.accuracy[:, i] < 1)
        since = wrong[-1] + 1 if wrong.size else 0
        expected = since if since <= 300 else -1
        assert trace.outcome.solved_step[i] == expected


def test_a_diverged_run_says_where_and_leaves_its_neighbours_alone():
    def run(rate):
        return Run(
            activation=Activation("relu"),
            init=Init("he_normal"),
            model=Model(4, 8),
            optimizer=Optimizer("sgd", rate),
            training=Training(40, 10, loss_function="squared_error"),
        )

    good, bad = run(0.01), run(1e6)
    trace = train_runs([good, bad, good])
    assert same(lane(trace, 0), lane(train_runs(good), 0))
    assert same(lane(trace, 2), lane(train_runs(good), 0))
    assert list(trace.outcome.diverged_step >= 0) == [False, True, False]

    # the same network step by step in NumPy's float32
    (x, t), weights = network(bad)
    phi, slope = FUNCTIONS["relu"]
    with np.errstate(all="ignore"):
        for steps_taken in range(41):  # noqa: B007  (read after the loop)
            value, _, kernels, biases, zs, _ = backward(weights, x, t, phi, slope, "squared_error")
            broken = [i + 1 for i, z in enumerate(zs) if not np.isfinite(z).all()]
            broken_back = [i + 1 for i, g in enumerate(kernels) if not np.isfinite(g).all()]
            if broken or broken_back or not np.isfinite(value):
                break
            weights = [
                (np.float32(w - 1e6 * dw), np.float32(b - 1e6 * db))
                for (w, b), dw, db in zip(weights, kernels, biases, strict=True)
            ]
    assert trace.outcome.diverged_step[1] == steps_taken
    assert trace.outcome.diverged_layer[1] == (broken[0] if broken else broken_back[-1])


def test_a_network_that_is_broken_from_the_start_diverges_at_step_0():
    run = Run(
        activation=Activation("relu"),
        init=Init("he_normal", gain=1e30),
        training=Training(2, 1),
        model=Model(depth=3),
    )
    outcome = train_runs(run).outcome
    assert outcome.diverged_step[0] == 0
    assert outcome.diverged_layer[0] == 2  # 1e30 in the first layer, 1e60 in the second


def test_step_networks_have_exactly_zero_hidden_gradients():
    run = Run(activation=Activation("step"), init=Init("he_normal"), training=Training(50, 10))
    trace = train_runs([dataclasses.replace(run, seed=seed) for seed in range(10)])
    assert np.all(trace.layers["gradient_norm"][:, :-1] == 0)
    assert np.all(trace.layers["gradient_norm"][0, -1] > 0)
    surrogate = dataclasses.replace(run, activation=Activation("step", surrogate="sigmoid"))
    assert np.all(train_runs(surrogate).layers["gradient_norm"][0] > 0)


def test_sigmoid_at_depth_50_has_vanished_and_not_underflowed():
    run = Run(
        activation=Activation("sigmoid"),
        init=Init("lecun_normal"),
        model=Model(50, 32),
        training=Training(0, 1),
        probes=["delta_norm"],
    )
    double = dataclasses.replace(run, training=Training(0, 1, dtype="float64"))
    norms = train_runs(run).layers["delta_norm"][0, :, 0]
    assert np.all(np.isfinite(norms))
    assert np.all(norms > 0)
    assert norms[0] < 1e-23  # its square is 0 in float32
    # the same network in NumPy's double precision
    (x, t), weights = network(run)
    weights = [(np.float64(w), np.float64(b)) for w, b in weights]
    deltas = backward(np.array(weights, object), np.float64(x), t, *FUNCTIONS["sigmoid"])[1]
    np.testing.assert_allclose(norms, [np.linalg.norm(d) for d in deltas], rtol=1e-3)
    assert np.all(train_runs(double).layers["delta_norm"] > 0)
    # mean field: chi = E sigmoid'(z)^2 at the fixed point q* = E sigmoid(z)^2
    slope = np.polyfit(np.arange(40), np.log10(norms[5:45]), 1)[0]
    z, w = np.polynomial.hermite_e.hermegauss(80)
    q = 0.0
    for _ in range(100):
        q = np.sum(w * FUNCTIONS["sigmoid"][0](np.sqrt(q) * z) ** 2) / np.sqrt(2 * np.pi)
    chi = np.sum(w * FUNCTIONS["sigmoid"][1](np.sqrt(q) * z) ** 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(slope, -0.5 * np.log10(chi), atol=0.05)


def test_nothing_is_measured_in_a_layer_that_is_not_finite():
    run = Run(
        activation=Activation("identity"),  # no unit can die and stop the blow-up on its way down
        model=Model(3, 4),
        optimizer=Optimizer("sgd", 1e6),
        training=Training(20, 1, loss_function="squared_error"),
    )
    trace = train_runs(run)
    assert trace.outcome.diverged_step[0] >= 0
    for name, values in trace.layers.items():
        assert np.isfinite(values[0, :-1]).all()
        assert np.isnan(values[-1]).all(), name


@pytest.mark.parametrize("init", INITIALIZERS)
def test_every_initialiser_builds_with_every_activation(init):
    def build(x):
        solved = {"weight_variance": 1.0} if init == "critical" else {}
        model = MLP.create(layer_keys(seed_key(0), 3), 2, width=4, init={"name": init} | solved)
        return [model(x, get_activation(activation)) for activation in ACTIVATIONS]

    for z, output in jax.eval_shape(build, jnp.zeros((4, 2))):
        assert z.shape == (3, 4, 4)
        assert output.shape == (4, 1)


@pytest.mark.parametrize(("depth", "room"), [(1, 4), (2, 4), (3, 3), (4, 4), (5, 16), (16, 16)])
def test_the_way_down_is_the_gradient_of_the_way_up(depth, room):
    """Against `jax.grad` of the plain network, whatever lies in the places that it lacks."""
    phi = get_activation("gelu")

    def graded(z):
        return phi(z), slope_of(phi, z)

    with jax.enable_x64(True):
        init = {"name": "he_normal", "bias_variance": 0.3}
        roomy = MLP.create(layer_keys(seed_key(1), room), 2, 5, jnp.float64, init=init)
        plain = roomy.trim(depth)
        x = jnp.asarray([[0.3, -0.7], [1.1, 0.4], [0.2, 0.9]])
        rubbish = jnp.full((room, 3, 5), 7.0)

        def loss(model, bump):
            _, output = model(x, phi)
            return jnp.sum(jnp.sin(output + bump))

        expected = jax.grad(loss)(plain, 0.0)

        @jax.jit
        def passes(most):
            count = LayerCount(most)
            output, signals = roomy.forward(x, graded, count, Signals(rubbish, rubbish, rubbish))
            return output, *roomy.backward(x, jnp.cos(output), count, signals, roomy)

        output, signals, gradients = passes(depth - 1)
        np.testing.assert_allclose(output, plain(x, phi)[1], rtol=1e-12)
        for mine, theirs in zip(layers(gradients.trim(depth)), layers(expected), strict=True):
            np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(signals.delta[depth:], rubbish[depth:])


# --- platforms


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_the_training_program_lowers_for_every_platform(platform):
    program = compile_group(Run(model=Model(depth=3), optimizer=Optimizer("adam"))).program
    arguments = fit_arguments(program, 128)
    if platform != "cpu":  # there the depth and the steps are no numbers
        arguments = without(arguments[0]), *arguments[1:]
    exported = jax.export.export(
        jax.jit(lambda *a: jax.tree.leaves(fit(program, *a))), platforms=[platform]
    )
    assert exported(*arguments).platforms == (platform,)


def rmsprop_by_hand(g, state, rate, decay=0.9, eps=1e-8, inside=False):
    v = decay * state + (1 - decay) * g**2
    return rate * g / (np.sqrt(v + eps) if inside else np.sqrt(v) + eps), v


def adagrad_by_hand(g, state, rate, eps=1e-10, inside=False):
    s = state + g**2
    return rate * g / (np.sqrt(s + eps) if inside else np.sqrt(s) + eps), s


@pytest.mark.few("sigmoid")
@pytest.mark.parametrize(
    ("optimizer", "by_hand", "start"),
    [
        (Optimizer("rmsprop", 0.01), rmsprop_by_hand, 0.0),
        (Optimizer("rmsprop", 0.01, eps_in_sqrt=True),
         functools.partial(rmsprop_by_hand, inside=True), 0.0),
        (Optimizer("adagrad", 0.1), adagrad_by_hand, 0.0),
        (Optimizer("adagrad", 0.1, eps=1e-7, eps_in_sqrt=True, initial_accumulator=0.1),
         functools.partial(adagrad_by_hand, eps=1e-7, inside=True), 0.1),
    ],
)  # fmt: skip
def test_adaptive_steps_of_vanishing_gradients_by_hand(optimizer, by_hand, start):
    """Sigmoid, 5 layers: gradients of 1e-6 and less, at which the place of eps decides."""
    run = Run(Activation("sigmoid"), model=Model(5, 4), optimizer=optimizer, probes=(),
              training=Training(3, 1, dtype="float64"), keep=("weights",))  # fmt: skip
    (x, t), weights = network(run)
    phi, slope = FUNCTIONS["sigmoid"]
    states = [(start + 0 * w, start + 0 * b) for w, b in weights]
    for _ in range(3):
        _, _, kernels, biases, _, _ = backward(weights, x, t, phi, slope, "cross_entropy")
        new = []
        for n, ((w, b), dw, db) in enumerate(zip(weights, kernels, biases, strict=True)):
            rate = optimizer.learning_rate
            (step_w, sw), (step_b, sb) = (
                by_hand(g, s, rate) for g, s in zip((dw, db), states[n], strict=True)
            )
            states[n] = sw, sb
            new.append((w - step_w, b - step_b))
        weights = new
    trained = train_runs(run).model
    np.testing.assert_allclose(trained.first.kernel[..., 0], weights[0][0], rtol=1e-9)
    np.testing.assert_allclose(trained.readout.kernel[..., 0], weights[-1][0], rtol=1e-9)


def test_numbers_that_are_typed_are_those_numbers_in_float64():
    run = Run(init=Init("constant", value=0.1), model=Model(1, 4), probes=(), keep=("weights",),
              training=Training(0, 1, dtype="float64"))  # fmt: skip
    assert np.asarray(train_runs(run).model.first.kernel[...]).ravel()[0] == 0.1
    with jax.enable_x64(True):
        factor = SCHEDULES["warmup"](100, 7)
        found = [float(factor(jnp.int32(step))) for step in range(101)]
    rising = [step / 7 for step in range(7)]
    falling = [(1 + math.cos(math.pi * (step - 7) / 93)) / 2 for step in range(7, 101)]
    np.testing.assert_allclose(found, rising + falling, rtol=1e-15, atol=1e-16)


@pytest.mark.few("identity", "tanh", "relu")
def test_a_backward_pass_that_overflows_is_infinite_from_there_down():
    """A tanh network whose delta grows beyond float32, its forward pass bounded."""
    run = Run(Activation("tanh"), Init("normal", stddev=1.7), model=Model(80, 4),
              probes=("delta_norm", "gradient_norm"), training=Training(1, 1))  # fmt: skip
    runs = [dataclasses.replace(run, seed=seed) for seed in range(40)]
    found = fadeout.train(runs, cache=None, quiet=True)
    delta = found.delta_norm.values[:, 0, :81]
    broken = np.isinf(delta).any(1)
    assert 0 < broken.sum() < 40
    assert np.isfinite(found.loss.values[:, 0]).all()
    assert not np.isnan(delta).any()
    for row in delta[broken]:
        last = np.flatnonzero(np.isinf(row)).max()
        assert np.isinf(row[: last + 1]).all()
    at_once = broken & (found.diverged_step.values == 0)
    assert (found.diverged_backward.values[at_once] == 1).all()
    squares = Training(1, 1, loss_function="squared_error")
    steep = dataclasses.replace(run, activation=Activation("relu"), training=squares)
    steep = dataclasses.replace(steep, init=Init("normal", stddev=2.0), model=Model(70, 8))
    results = fadeout.train([dataclasses.replace(steep, seed=seed) for seed in range(20)],
                            cache=None, quiet=True)  # fmt: skip
    delta = results.delta_norm.values[:, 0, :71]
    bounded = np.isinf(results.loss.values[:, 0]) & np.isfinite(delta[:, 70])
    assert bounded.any(), "a loss that overflows is no output that does"
    assert not np.isnan(delta[bounded]).any()
    flat = Run(Activation("identity"), Init("normal", stddev=4.0), model=Model(100, 4),
               probes=("delta_norm",), training=Training(1, 1))  # fmt: skip
    forwards = fadeout.train(flat, cache=None, quiet=True)
    assert forwards.diverged_backward.item() == 0
    assert np.isnan(forwards.delta_norm.values[0, 0, :50]).all(), "after a forward overflow"
