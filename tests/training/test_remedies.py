"""Residual branches, normalisation and clipping: against the plain module by jax.grad and optax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fadeout
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks import remedies
from fadeout.networks.activations import get_activation
from fadeout.networks.layouts import EXAMPLES_LAST
from fadeout.networks.losses import get_loss
from fadeout.registry import FadeoutError
from fadeout.sweeps.run_index import index_runs
from fadeout.training.compile_groups import compile_group, precision_of
from fadeout.training.fit import make_remedy
from fadeout.training.programs import train_runs
from fadeout.training.resolve import identity, resolve
from helpers import drawn_alone

pytestmark = pytest.mark.few("tanh", "relu", "softplus")

REMEDIES = {
    "layer": {"normalization": "layer"},
    "rms, affine": {"normalization": "rms", "affine": True},
    "batch, affine": {"normalization": "batch", "affine": True},
    "residual": {"residual": 0.7},
    "sqrt_depth": {"residual": 1.5, "residual_scale": "sqrt_depth"},
    "rezero": {"residual": 0.7, "residual_scale": "zero"},
    "all": {"residual": 0.5, "residual_scale": "zero", "normalization": "batch", "affine": True},
}
TASK = Task("noisy_xor", examples=6, inputs="bipolar")
WHOLE = ("jacobian_gain", "jacobian_spread", "jacobian_largest", "jacobian_smallest",
         "ntk_largest", "ntk_smallest")  # fmt: skip


SIX = Training(6, 3, dtype="float64")
MANY = Task("noisy_xor", examples=400, inputs="bipolar"), 6
"""A task and a width of which networks train one at a time, their examples last."""


def remedied(
    name,
    depth,
    activation="tanh",
    training=SIX,
    task=TASK,
    width=4,
):
    """Of each remedy there is one program for all tests of this module."""
    of_examples = WHOLE[:4] if REMEDIES[name].get("normalization") != "batch" else ()
    return resolve(Run(
        Activation(activation), Init("he_normal", bias_variance=0.1), task,
        Model(depth, width, **REMEDIES[name]), Optimizer("momentum", 0.2, clip=0.1), training,
        ("delta_norm", "gradient_norm", *of_examples, *WHOLE[4:]), seed=5,
    ))  # fmt: skip


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("name", REMEDIES)
def test_training_against_the_plain_module(name, depth):
    check_against_the_plain_module(remedied(name, depth))


@pytest.mark.parametrize("name", ["layer", "rezero", "batch, affine"])
def test_training_on_many_examples_against_the_plain_module(name):
    task, width = MANY
    run = remedied(name, 3, task=task, width=width)
    assert compile_group(run).program.layout is EXAMPLES_LAST
    check_against_the_plain_module(run)


def check_against_the_plain_module(run):
    trace = train_runs(run)
    depth = run.model.depth
    with precision_of(run):
        examples, model = drawn_alone(run)
        remedy = make_remedy(run, run.model.residual, depth)

        def loss(model):
            _, output = model(examples.inputs, get_activation("tanh"), remedy)
            return get_loss("cross_entropy").of(output, examples.targets).mean()

        optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.2, 0.9))
        state, losses, clipped = optimizer.init(model), [], 0
        for _ in range(7):
            value, gradients = jax.value_and_grad(loss)(model)
            losses.append(value)
            clipped += optax.tree.norm(gradients) > 0.1
            last = model
            updates, state = optimizer.update(gradients, state, model)
            model = optax.apply_updates(model, updates)
        assert clipped > 2, "or clipping was not tried"
        np.testing.assert_allclose(trace.loss[:, 0], losses[::3], 1e-9)
        ours = jax.tree.map(lambda a: a[..., 0], trace.model)
        for got, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(last), strict=True):
            np.testing.assert_allclose(got, wanted, 1e-7, 1e-10)
        kernels = [gradients.first.kernel, *gradients.hidden.kernel[...], gradients.readout.kernel]
        wanted = [jnp.linalg.norm(jnp.asarray(kernel[...])) for kernel in kernels]
        np.testing.assert_allclose(trace.layers["gradient_norm"][-1, :, 0], wanted, 1e-7)


@pytest.mark.parametrize("name", ["residual", "layer", "batch, affine"])
def test_delta_is_the_gradient_by_the_preactivation(name):
    """By hand in NumPy: a zero is added to z of one unit on one example, and moved."""
    run = remedied(name, 3, "softplus", Training(0, 1, dtype="float64"))
    measured = train_runs(run).layers["delta_norm"][0, :, 0]
    with precision_of(run):
        examples, model = drawn_alone(run)
    x, targets = (np.asarray(a) for a in examples[:2])
    weights = [(model.first.kernel, model.first.bias),
               *zip(model.hidden.kernel[...], model.hidden.bias[...], strict=True),
               (model.readout.kernel, model.readout.bias)]  # fmt: skip
    weights = [(np.asarray(k[...]), np.asarray(b[...])) for k, b in weights]

    def normalised(z):
        axis = {"layer": 1, "batch": 0}.get(run.model.normalization)
        if axis is None:
            return z
        z = z - z.mean(axis, keepdims=True)
        return z / np.sqrt((z**2).mean(axis, keepdims=True) + 1e-5)

    def loss(taps):
        h = z = None
        for number, (kernel, bias) in enumerate(weights[:-1]):
            u = (x if h is None else h) @ kernel + bias
            z = u if z is None or not run.model.residual else z + run.model.residual * u
            z = z + taps[number]
            h = np.logaddexp(0, normalised(z))
        out = (h @ weights[-1][0] + weights[-1][1])[:, 0]
        return np.mean(np.logaddexp(0, out) - targets * out)

    taps = np.zeros((3, 6, 4))
    slopes = np.zeros_like(taps)
    for place in np.ndindex(*taps.shape):
        for sign in (1, -1):
            taps[place] = sign * 1e-5
            slopes[place] += sign * loss(taps) / 2e-5
        taps[place] = 0
    np.testing.assert_allclose(measured[:3], np.sqrt((slopes**2).sum((1, 2))), 1e-6)


@pytest.mark.parametrize(
    ("name", "task", "width"),
    [(name, TASK, 4) for name in REMEDIES] + [(name, *MANY) for name in ("layer", "rezero")],
)
def test_probes_of_all_layers_against_jacobians_of_the_plain_module(name, task, width):
    """The tangent kernel by jax.jacrev over all parameters, gains and factors among them; dz/dz_1
    of each example by jax.jacrev of the layers above, after two steps."""
    run = remedied(name, 4, training=Training(2, 1, dtype="float64"), task=task, width=width)
    trace = train_runs(run)
    measured = {probe: values[-1, :, 0] for probe, values in trace.layers.items()}
    tanh = get_activation("tanh")
    with precision_of(run):
        examples, _ = drawn_alone(run)
        model = jax.tree.map(jnp.asarray, jax.tree.map(lambda a: a[..., 0], trace.model))
        remedy = make_remedy(run, run.model.residual, 4)
        found = jax.jacrev(lambda m: m(examples.inputs, tanh, remedy)[1][:, 0])(model)

        def flat(part):
            leaves = jax.tree.leaves(part)
            return jnp.concatenate([a.reshape(len(a), -1) for a in leaves], axis=1)

        stack = [jax.tree.map(lambda a, i=i: a[:, i], found.hidden) for i in range(3)]
        rows = [flat(part) for part in (found.first, *stack, found.readout)]
        kernels = np.cumsum([row @ row.T for row in rows], axis=0)
        values = np.linalg.eigvalsh(kernels)
        np.testing.assert_allclose(measured["ntk_largest"], values[:, -1], 1e-8)
        floor = 1e-12 * values[:, -1].max()
        np.testing.assert_allclose(measured["ntk_smallest"], values[:, 0], 1e-6, floor)
        if "jacobian_gain" not in run.probes:
            return

        def above(z, layer):
            """z of a layer, of z_1 of one example."""
            part, z = model.first, z[None]
            for place in range(layer):
                h = tanh(remedy.normalise(z, part))
                part = model.hidden.at(place)
                z = remedy.add_skip(z, part.preactivation(h), part)
            return z[0]

        first = model.first.preactivation(examples.inputs)
        for layer in range(4):
            of_each = jax.jit(jax.vmap(jax.jacrev(functools.partial(above, layer=layer))))(first)
            singular = np.linalg.svd(np.array(of_each), compute_uv=False)
            squares = np.square(singular)
            wanted = {
                "jacobian_gain": np.sqrt(squares.mean(1)).mean(),
                "jacobian_spread": (squares.var(1) / squares.mean(1) ** 2).mean(),
                "jacobian_largest": singular[:, 0].mean(),
                "jacobian_smallest": singular[:, -1].mean(),
            }
            for probe, value in wanted.items():
                np.testing.assert_allclose(
                    measured[probe][layer], value, 1e-8, 1e-12, err_msg=f"{probe}, {layer}"
                )


def test_clipping_where_the_squares_of_a_gradient_overflow():
    """As in double precision: a step of norm 0.1 along a gradient of 1e22."""

    def moved(dtype):
        run = Run(Activation("relu"), Init("he_normal", 4.0), Task("xor", inputs="bipolar"),
                  Model(40, 8), Optimizer("sgd", 0.1, clip=1.0), Training(2, 1, dtype=dtype),
                  ("gradient_norm", "update_ratio", "weight_norm"), seed=2)  # fmt: skip
        return train_runs(run).layers

    single, double = moved("float32"), moved("float64")
    assert np.max(double["gradient_norm"][0]) > 1e20
    np.testing.assert_allclose(single["update_ratio"][0], double["update_ratio"][0], 1e-3)
    steps = single["update_ratio"][0] * single["weight_norm"][0]
    np.testing.assert_allclose(np.sqrt(np.sum(steps**2)), 0.1, 1e-3)


def test_where_networks_with_branches_break():
    """The layer of the first value that is not finite, as the recorded activations show it."""
    steps = Training(4, 1)
    run = Run(Activation("relu"), Init("he_normal"), model=Model(4, 8, residual=1e30),
              optimizer=Optimizer("sgd"), training=steps, probes=("activation_std",))  # fmt: skip
    found = fadeout.train(run, cache=None, quiet=True).isel(run=0)
    finite = np.isfinite(found.activation_std.sel(step=0).values[:4])
    assert int(found.diverged_step) == 0
    assert int(found.diverged_layer) == 1 + int(np.argmin(finite)) == 3
    run = Run(Activation("tanh"), Init("he_normal", 20.0),
              model=Model(4, 8, residual=1.0, residual_scale="zero"), probes=(),
              optimizer=Optimizer("sgd", 1e37, readout_factor=0.0), training=Training(1, 1),
              keep=("weights",), seed=2)  # fmt: skip
    found = fadeout.train(run, cache=None, quiet=True).isel(run=0)
    broken = ~np.isfinite(found.last_factor.values[1:4])
    assert np.isfinite(found.last_kernel.values[1:4]).all()
    assert broken.any()
    assert (int(found.diverged_step), int(found.diverged_layer)) == (
        0,
        2 + np.flatnonzero(broken)[-1],
    )


def test_answers_of_batch_normalisation_are_those_that_were_judged():
    run = Run(task=Task("circles"), model=Model(3, normalization="batch"), probes=(),
              training=Training(20, 20, held_out=20), keep=("outputs",))  # fmt: skip
    found = fadeout.train(run, cache=None, quiet=True).isel(run=0)
    y, t = found.last_output.values[:, 0], found.last_target.values
    losses = np.logaddexp(0, y) - t * y
    total = 44 * float(found.loss.sel(step=20)) + 20 * float(found.validation_loss.sel(step=20))
    assert losses.sum() == pytest.approx(total, rel=1e-5)


def test_no_residual_is_plain_to_the_last_bit():
    plain = Run(model=Model(3, 4), training=Training(8, 4), probes=("delta_norm",))
    zero = Run(model=Model(3, 4, residual=0.0), training=Training(8, 4), probes=("delta_norm",))
    assert identity(plain) == identity(zero)
    assert compile_group(plain) == compile_group(zero)
    branches = Run(model=Model(3, 4, residual=0.1), training=Training(8, 4), probes=("delta_norm",))
    assert compile_group(branches) != compile_group(plain)
    other = Run(model=Model(3, 4, residual=0.2), training=Training(8, 4), probes=("delta_norm",))
    assert compile_group(branches) == compile_group(other), "the factor is traced"


def test_rezero_is_the_identity_at_the_start_and_trains():
    run = Run(Activation("relu"), Init("he_normal"), task=Task("xor", inputs="bipolar"),
              model=Model(40, 8, residual=1.0, residual_scale="zero"),
              training=Training(200, 100), probes=("delta_norm", "activation_std"))  # fmt: skip
    found = fadeout.train(run, quiet=True).isel(run=0)
    for name in ("delta_norm", "activation_std"):
        start = found[name].sel(step=0, layer=slice(1, 40)).values
        np.testing.assert_allclose(start, start[0], 1e-6, err_msg=name)
    assert found.status == "solved"


def test_batch_normalisation_in_lanes_keeps_to_its_run():
    runs = [Run(task=TASK, model=Model(3, 4, normalization="batch"), seed=seed,
                training=Training(4, 2), probes=("delta_norm",)) for seed in range(4)]  # fmt: skip
    together, alone = fadeout.train(runs, quiet=True), fadeout.train(runs[2], quiet=True)
    np.testing.assert_array_equal(together.delta_norm[2], alone.delta_norm[0])


@pytest.mark.parametrize("name", ["layer", "rms", "batch"])
def test_normalisations(name):
    z = jax.random.normal(jax.random.key(0), (50, 60)) * 3 + 2
    made = np.asarray(remedies.NORMALIZATIONS[name](z))
    axis = 0 if name == "batch" else 1
    np.testing.assert_allclose((made**2).mean(axis), 1, rtol=1e-4)
    if name != "rms":
        np.testing.assert_allclose(made.mean(axis), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Run(task=Task("teacher", examples=1), model=Model(normalization="batch")),
         "batch normalisation of one example"),
        (lambda: Run(model=Model(normalization="batch"), training=Training(batch_size=1)),
         "batch normalisation of one example"),
        (lambda: Run(model=Model(residual=float("inf"))), "model.residual must be a finite number"),
        (lambda: Run(model=Model(width=1, normalization="rms")), "rms of one unit"),
        (lambda: Run(model=Model(width=2, normalization="layer")), "layer of 2 units"),
        (lambda: Run(task=Task("circles"), model=Model(normalization="batch"),
                     training=Training(held_out=1)), "batch normalisation of one example"),
        (lambda: Run(model=Model(normalization="bach")), "did you mean batch"),
        (lambda: Run(optimizer=Optimizer(clip=0)), "optimizer.clip must be above 0, not 0"),
        (lambda: Run(optimizer=Optimizer(clip=-1)), "optimizer.clip must be above 0, not -1"),
        (lambda: Run(model=Model(residual=1), probes=("layer_gain",)), "not of a residual branch"),
        (lambda: Run(model=Model(normalization="batch"), probes=("jacobian_gain",)),
         "jacobian_gain is of one example"),
        (lambda: Run(init=Init("lsuv"), model=Model(residual=1)), "lsuv scales plain layers"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(FadeoutError, match=words):
        compile_group(make())


@pytest.mark.parametrize(
    ("says_nothing", "words", "other"),
    [
        ({"residual_scale": "zero"}, "needs residual branches", {"residual": 1.0}),
        ({"affine": True}, "needs model.normalization", {"normalization": "layer"}),
    ],
)
def test_what_says_nothing_is_refused_unless_it_is_compared(says_nothing, words, other):
    alone, beside = Run(**says_nothing), Run(**says_nothing, **other)
    with pytest.raises(FadeoutError, match=words):
        index_runs([alone, Run()])
    looked = index_runs([alone, beside, Run()])
    assert looked.identity[0] == looked.identity[2] != looked.identity[1], "it is the plain network"
