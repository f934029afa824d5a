"""Probes on their own; against hand-written backpropagation they stand in test_training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fadeout.config import DEFAULT_PROBES, Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks import probes
from fadeout.networks.lanes import per_lane
from fadeout.networks.layers import Layer, Layers, Path
from fadeout.networks.norms import by_scale, norm, root_mean_square
from fadeout.networks.probes import PROBES, Probe
from fadeout.training.measuring import measure_layers
from fadeout.training.programs import CPU_OPTIONS, train_runs
from helpers import layers, network

pytestmark = pytest.mark.few("tanh", "relu", "identity", "silu")


def as_elsewhere(x):
    """A norm as accelerators take it."""
    return by_scale(x, x.ndim, of_mean=False)


WAYS = pytest.mark.parametrize("norm", [norm, as_elsewhere])


@WAYS
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1.0, 1e20, 1e37])
def test_a_norm_is_exact_over_the_whole_range_of_float32(scale, norm):
    x = jnp.array([3 * scale, -4 * scale], jnp.float32)
    np.testing.assert_allclose(norm(x), 5 * scale, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-305, 1e-200, 1.0, 1e200, 1e306])
def test_a_norm_is_exact_over_the_whole_range_of_float64(scale):
    with jax.enable_x64(True):
        np.testing.assert_allclose(norm(jnp.array([3 * scale, -4 * scale])), 5 * scale, 1e-14)
        np.testing.assert_allclose(root_mean_square(jnp.full(9, scale)), scale, 1e-14)


@WAYS
@pytest.mark.parametrize("shape", [(2,), (4, 1), (8, 64)])
def test_a_compiled_norm_is_exact_at_every_scale(shape, norm):
    """XLA moves constants: (c x)^2 became c^2 x^2 in some shapes, and x^2 was lost."""
    x = np.random.default_rng(0).normal(size=shape)
    x = (x * np.logspace(-33, 36, 200).reshape(-1, *[1] * len(shape))).astype(np.float32)
    truth = np.linalg.norm(x.reshape(200, -1).astype(np.float64), axis=1)
    compiled = jax.jit(norm).lower(x[0]).compile(CPU_OPTIONS)
    np.testing.assert_allclose([compiled(row) for row in x], truth, rtol=1e-5)
    lanes = np.moveaxis(x, 0, -1)
    np.testing.assert_allclose(jax.jit(per_lane(norm))(lanes), truth, rtol=1e-5)
    one = jax.jit(per_lane(norm)).lower(lanes[..., :1]).compile(CPU_OPTIONS)
    alone = [one(lanes[..., i : i + 1])[0] for i in range(200)]
    np.testing.assert_allclose(alone, truth, rtol=1e-5)


@WAYS
def test_norms_of_zero_and_of_what_is_not_finite(norm):
    assert norm(jnp.zeros(3)) == 0
    assert jax.jit(lambda: norm(jnp.zeros(3)))() == 0, "known while compiling"
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


# --- those that are not recorded by default, at initialisation and along three steps

COSTLY = tuple(name for name in PROBES if name not in DEFAULT_PROBES)
RUN = Run(
    Activation("silu"), Init("mean_field", bias_variance=0.1, weight_variance=2.0),
    Task("teacher", examples=5, features=3), Model(3, 6),
    Optimizer("momentum", learning_rate=0.1),
    Training(steps=3, record_every=1, dtype="float64"), probes=COSTLY, seed=7,
)  # fmt: skip


@pytest.fixture(scope="module")
def measured():
    return {name: values[:, :, 0] for name, values in train_runs(RUN).layers.items()}


@pytest.fixture(scope="module")
def hidden():
    """(z, h, phi'(z)) of each hidden layer at initialisation, and the network."""
    (x, _), weights = network(RUN)
    rows = []
    for kernel, bias in weights[:-1]:
        z = x @ kernel + bias
        sigmoid = 1 / (1 + np.exp(-z))
        x = z * sigmoid
        rows.append((z, x, sigmoid * (1 + z * (1 - sigmoid))))
    return rows, weights


def test_jacobians_against_their_singular_values(measured, hidden):
    rows, weights = hidden
    for layer, (_, _, slope) in enumerate(rows):
        below = np.stack([weights[layer][0] * s for s in slope])
        own = np.linalg.svd(below, compute_uv=False)
        gain = np.sqrt((own**2).sum(1).mean() / own.shape[1])
        np.testing.assert_allclose(measured["layer_gain"][0, layer], gain)
        np.testing.assert_allclose(measured["layer_largest"][0, layer], own[:, 0].mean())
    jacobian = np.stack([np.eye(6)] * 5)
    for layer in range(3):
        if layer:
            jacobian = np.einsum("io,ei,eij->eoj", weights[layer][0], rows[layer - 1][2], jacobian)
        s = np.linalg.svd(jacobian, compute_uv=False)
        spread = np.var(s**2, axis=1) / np.mean(s**2, axis=1) ** 2
        expected = {
            "jacobian_gain": np.sqrt(np.mean(s**2, axis=1)).mean(),
            "jacobian_spread": spread.mean(),
            "jacobian_largest": s[:, 0].mean(),
            "jacobian_smallest": s[:, -1].mean(),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(measured[name][0, layer], value, atol=1e-12, err_msg=name)
        assert np.isnan(measured["jacobian_gain"][0, 3])


def test_the_neural_tangent_kernel_against_automatic_differentiation(measured):
    (x, _), weights = network(RUN)

    def output(weights):
        h = jnp.asarray(x)
        for kernel, bias in weights[:-1]:
            h = jax.nn.silu(h @ kernel + bias)
        return (h @ weights[-1][0] + weights[-1][1])[:, 0]

    with jax.enable_x64(True):
        gradients = jax.jacrev(output)([(jnp.asarray(k), jnp.asarray(b)) for k, b in weights])
    flat = [np.concatenate([np.asarray(g).reshape(5, -1) for g in layer], 1) for layer in gradients]
    for layer in range(4):
        seen = np.concatenate(flat[: layer + 1], axis=1)
        values = np.linalg.eigvalsh(seen @ seen.T)
        np.testing.assert_allclose(measured["ntk_largest"][0, layer], values[-1])
        np.testing.assert_allclose(measured["ntk_smallest"][0, layer], values[0])


def test_activations_between_examples(measured, hidden):
    for layer, (_, h, _) in enumerate(hidden[0]):
        unit = h / np.linalg.norm(h, axis=1, keepdims=True)
        pairs = (unit @ unit.T)[np.triu_indices(5, 1)]
        np.testing.assert_allclose(measured["example_correlation"][0, layer], pairs.mean())
        s = np.linalg.svd(h, compute_uv=False)
        p = s / s.sum()
        np.testing.assert_allclose(
            measured["effective_rank"][0, layer], np.exp(-(p * np.log(p)).sum())
        )


def test_examples_without_activation_have_no_cosine():
    assert probes.example_correlation(layer(activation=[[0.0, 0], [1, 0], [1, 0]])) == 1
    assert np.isnan(probes.example_correlation(layer(activation=[[0.0, 0], [1, 0]])))


def test_the_path_of_the_kernels(measured):
    """Against the networks that shorter trainings end with."""
    ends = []
    for steps in range(5):
        training = Training(steps=steps, record_every=1, dtype="float64")
        model = train_runs(dataclasses.replace(RUN, training=training, probes=())).model
        ends.append([kernel for kernel, _ in layers(model, 0)])
    for layer in range(4):
        kernels = [end[layer] for end in ends]
        moves = np.diff(kernels, axis=0)
        lengths = np.linalg.norm(moves, axis=(1, 2))
        path = np.append(0, np.cumsum(lengths))[:4]
        away = [np.linalg.norm(kernel - kernels[0]) for kernel in kernels[:4]]
        cosine = (moves[1:] * moves[:-1]).sum((1, 2)) / (lengths[1:] * lengths[:-1])
        np.testing.assert_allclose(measured["path_length"][:, layer], path, rtol=1e-9)
        np.testing.assert_allclose(measured["displacement"][:, layer], away, rtol=1e-9)
        np.testing.assert_allclose(measured["update_cosine"][1:, layer], cosine, rtol=1e-9)
        assert np.isnan(measured["update_cosine"][0, layer])


# --- every probe at every scale that float32 holds

SCALES = [1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e20, 1e30]


def layers_of(scale, dtype, quantity):
    """Three hidden layers and a readout of four units, of which one quantity has a scale."""
    rng = np.random.default_rng(5)

    def draw(*shape, by=1.0):
        return jnp.asarray(rng.normal(size=shape).astype(np.float32).astype(dtype) * by, dtype)

    size = dict.fromkeys(("kernel", "gradient", "activation", "slope"), 1.0) | {quantity: scale}

    def layer(*lead, units=4, readout=False):
        inside = {} if readout else {
            "activation": draw(*lead, 5, units, by=size["activation"]),
            "slope": draw(*lead, 5, units, by=size["slope"]),
            "steepest_slope": jnp.full(lead, 2.0 * size["slope"], dtype),
        }  # fmt: skip
        kernel = draw(*lead, 4, units, by=size["kernel"])
        update = draw(*lead, 4, units, by=size["gradient"])
        path = Path(0.5 * kernel, 0.7 * update + draw(*lead, 4, units, by=size["gradient"]),
                    jnp.full(lead, 3.0 * size["gradient"], dtype))  # fmt: skip
        return Layer(
            kernel, draw(*lead, 4, units, by=size["gradient"]), update,
            draw(*lead, units, by=size["gradient"]), draw(*lead, 5, units, by=size["gradient"]),
            draw(*lead, 5, 4, by=size["activation"]), path, **inside,
        )  # fmt: skip

    return Layers(layer(), layer(2), layer(units=1, readout=True))


@pytest.mark.parametrize("quantity", ["kernel", "gradient", "activation", "slope"])
@pytest.mark.parametrize("name", [name for name, own in PROBES.items() if not own.curvature])
def test_every_probe_is_right_wherever_its_true_value_is_a_number(name, quantity):
    """Against the same in float64, whose range holds every square; what overflows says so."""
    measure = measure_of(name)
    with jax.enable_x64(True):
        truth = [np.asarray(measure(layers_of(s, np.float64, quantity))) for s in SCALES]
    info = np.finfo(np.float32)
    for scale, expected in zip(SCALES, truth, strict=True):
        measured = np.asarray(measure(layers_of(scale, np.float32, quantity)))
        assert np.isnan(measured).tolist() == np.isnan(expected).tolist(), scale
        # a small difference of large numbers, as the smallest of eigenvalues, is known by those
        known = 1e-5 * np.abs(of_largest(name, scale, quantity, expected))
        large = np.abs(expected) > info.max
        assert np.all(np.isinf(measured[large & (known < np.abs(expected))])), scale
        normal = ~large & (np.abs(expected) > 1e2 * info.tiny) & (known < info.max)
        off = np.abs(measured - expected)[normal]
        assert np.all(off <= known[normal] + 1e-4 * np.abs(expected[normal])), (scale, measured)


def of_largest(name, scale, quantity, expected):
    if "smallest" not in name:
        return np.zeros_like(expected)
    with jax.enable_x64(True):
        whole = layers_of(scale, np.float64, quantity)
        return np.asarray(measure_of(name.replace("smallest", "largest"))(whole))


@functools.cache
def measure_of(name):
    return jax.jit(lambda layers: measure_layers({name: PROBES[name]}, layers)[name])


def test_a_probe_may_give_a_whole_number_of_some_layers():
    def width(layer):
        return 7 if layer.kernel.shape[1] == 1 else jnp.max(layer.kernel)

    layers = layers_of(1.0, np.float32, "kernel")
    first = layers.first._replace(kernel=layers.first.kernel[:, :1])
    found = measure_layers({"width": Probe(width, "", True)}, layers._replace(first=first))["width"]
    assert found.dtype == np.float32
    assert found[0] == found[3] == 7


@pytest.mark.parametrize("size", [1e-36, 3e38])
def test_directions_and_ranks_are_numbers_at_the_ends_of_the_range(size):
    layers = layers_of(1.0, np.float32, "kernel")
    ends = layers.first.activation / jnp.max(jnp.abs(layers.first.activation)) * size
    for name in ("effective_rank", "example_correlation"):
        usual, found = (
            measure_of(name)(layers._replace(first=layers.first._replace(activation=x)))
            for x in (layers.first.activation, ends)
        )
        np.testing.assert_allclose(found, usual, rtol=2e-3)


def test_a_kernel_to_which_dead_layers_add_nothing_is_not_lost():
    """Above a layer without slope the shares below are 0, whatever size the weights have there."""
    layers = layers_of(1e-25, np.float32, "kernel")
    first = layers.first._replace(slope=0 * layers.first.slope, below=1e30 * layers.first.below)
    own = measure_of("ntk_largest")(layers._replace(first=first))
    assert np.isfinite(own).all()
    assert own[-1] > 0.1


@pytest.mark.parametrize("value", [1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_an_identity_network_of_constant_weights(value):
    """std of layer l is v (width v)^(l - 1) / sqrt(2) on XOR, and all examples are parallel."""
    run = Run(Activation("identity"), Init("constant", value=value), model=Model(5, 4),
              training=Training(0, 1), probes=("activation_std", "activation_mean",
                                               "example_correlation"))  # fmt: skip
    seen = {name: values[0, :, 0] for name, values in train_runs(run).layers.items()}
    expected = value * (4 * value) ** np.arange(5.0) / np.sqrt(2)
    with np.errstate(over="ignore"):
        expected = np.where(expected > 3.4e38, np.inf, expected)
    good = (expected > 1.2e-38) & np.isfinite(expected)
    np.testing.assert_allclose(seen["activation_std"][:5][good], expected[good], rtol=1e-5)
    means = value * (4 * value) ** np.arange(5.0)
    np.testing.assert_allclose(seen["activation_mean"][:5][good], means[good], rtol=1e-5)
    np.testing.assert_allclose(seen["example_correlation"][:5][good], 1, rtol=1e-6)
    assert np.isnan(seen["activation_std"][5]), "the readout lacks it"


def test_the_jacobian_of_a_network_that_passes_nothing_has_no_spread():
    layers = layers_of(0.0, np.float32, "slope")
    assert np.isnan(np.asarray(probes.jacobian_spread(layers))[1:]).all()
    assert (np.asarray(probes.jacobian_gain(layers))[1:] == 0).all()
