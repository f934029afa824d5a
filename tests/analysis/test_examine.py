"""Networks of a user's own: against gradients taken by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import fadeout
from fadeout.analysis.examine import examine
from fadeout.networks.activations import get_activation
from fadeout.registry import FadeoutError

KEY = jax.random.key(0)
LOSS = optax.softmax_cross_entropy_with_integer_labels


def norm(x):
    return float(jnp.sqrt(jnp.sum(jnp.square(x))))


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.below = nnx.Linear(5, 16, rngs=rngs)
        self.above = nnx.Linear(16, 16, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.above(nnx.relu(self.below(x)))))


def test_an_mlp_by_hand():
    module, x = MLP(nnx.Rngs(1)), jax.random.normal(KEY, (7, 5))
    targets = jnp.arange(7) % 3
    seen = examine(module, x, targets, LOSS)

    (w1, b1), w2, (w3, b3) = (
        (module.below.kernel[...], module.below.bias[...]), module.above.kernel[...],
        (module.out.kernel[...], module.out.bias[...]),
    )  # fmt: skip
    z1 = x @ w1 + b1
    h1 = np.maximum(z1, 0)
    h2 = np.tanh(h1 @ w2)
    p = jax.nn.softmax(h2 @ w3 + b3)
    d3 = (p - jax.nn.one_hot(targets, 3)) / 7
    d2 = (d3 @ w3.T) * (1 - h2**2)
    d1 = (d2 @ w2.T) * (z1 > 0)
    assert seen.layer.values.tolist() == ["below", "above", "out"]
    expected = {
        "delta_norm": [norm(d1), norm(d2), norm(d3)],
        "gradient_norm": [norm(x.T @ d1), norm(h1.T @ d2), norm(h2.T @ d3)],
        "bias_gradient_norm": [norm(d1.sum(0)), np.nan, norm(d3.sum(0))],
        "weight_norm": [norm(w1), norm(w2), norm(w3)],
        "preactivation_mean": [z1.mean(), (h1 @ w2).mean(), (h2 @ w3 + b3).mean()],
        "activation_mean": [h1.mean(), h2.mean(), np.nan],
        "activation_std": [h1.std(), h2.std(), np.nan],
        "dead_units": [np.all(z1 <= 0, 0).mean(), 0, 0],
        "saturation": [(z1 <= 0).mean(), (1 - h2**2 <= 0.05).mean(), np.nan],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(seen[name], values, 1e-5, 1e-7, err_msg=name)
    assert seen.attrs["loss"] == pytest.approx(float(LOSS(h2 @ w3 + b3, targets).mean()))
    assert set(seen.verdict.values) == {"healthy"}


class CNN(linen.Module):
    train: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (3, 3))(x)
        x = linen.BatchNorm(use_running_average=not self.train)(x)
        x = linen.relu(x)
        x = x + linen.Conv(4, (3, 3))(linen.gelu(linen.Conv(4, (3, 3), name="inner")(x)))
        return linen.Dense(3)(x.mean((1, 2)))


@pytest.mark.parametrize("train", [False, True])
def test_a_residual_cnn_by_hand(train):
    module, x = CNN(train), jax.random.normal(KEY, (4, 6, 6, 2))
    targets = jnp.arange(4) % 3
    variables = module.init(jax.random.key(1), x)
    seen = examine(module, x, targets, LOSS, variables=variables)
    names = ["Conv_0", "inner", "Conv_1", "Dense_0"]
    assert seen.layer.values.tolist() == names

    def loss(parameters, taps):
        def conv(name, x):
            own = parameters[name]
            z = jax.lax.conv_general_dilated(
                x, own["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return z + own["bias"] + taps[name]

        x1 = conv("Conv_0", x)
        mean, var = (x1.mean((0, 1, 2)), x1.var((0, 1, 2))) if train else (0.0, 1.0)
        h = jnp.maximum((x1 - mean) / jnp.sqrt(var + 1e-5), 0)
        h = h + conv("Conv_1", jax.nn.gelu(conv("inner", h)))
        own = parameters["Dense_0"]
        output = h.mean((1, 2)) @ own["kernel"] + own["bias"] + taps["Dense_0"]
        return LOSS(output, targets).mean(), (x1, h)

    taps = {name: jnp.zeros((4, 6, 6, 4)) for name in names[:3]} | {"Dense_0": jnp.zeros((4, 3))}
    parameters = variables["params"]
    (value, (z, _)), (gradients, deltas) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        parameters, taps
    )
    assert seen.attrs["loss"] == pytest.approx(float(value), rel=1e-5)
    for name in names:
        row = seen.sel(layer=name)
        assert float(row.delta_norm) == pytest.approx(norm(deltas[name]), rel=1e-4)
        assert float(row.gradient_norm) == pytest.approx(norm(gradients[name]["kernel"]), rel=1e-4)
    centred = z - z.mean((0, 1, 2)) if train else z
    share = float((centred <= 0).mean())
    assert float(seen.saturation.sel(layer="Conv_0")) == pytest.approx(share), "behind its norm"
    assert not np.isnan(seen.saturation.sel(layer="inner"))
    assert np.isnan(seen.saturation.sel(layer="Conv_1")), "its sum with the branch"


class Transformer(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)
        self.norms = nnx.List([nnx.LayerNorm(8, rngs=rngs) for _ in range(2)])
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

    @nnx.jit
    def __call__(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


def test_a_transformer_block_against_finite_differences():
    with jax.enable_x64(True):
        module = Transformer(nnx.Rngs(0))
        graph, state = nnx.split(module)
        state = jax.tree.map(lambda a: a.astype(float) if a.dtype == jnp.float32 else a, state)
        module = nnx.merge(graph, state)
        x = jax.random.normal(KEY, (3, 5, 8), float)

        def loss(output, _):
            return jnp.sum(jnp.sin(output))

        seen = examine(module, x, loss=loss)
        assert seen.layer.values.tolist() == [
            "attention/query", "attention/key", "attention/value", "attention/out", "up", "down"
        ]  # fmt: skip
        assert seen.units.values.tolist() == [8, 8, 8, 8, 16, 8]
        for path, layer in (("attention/query", module.attention.query), ("down", module.down),
                            ("attention/out", module.attention.out)):  # fmt: skip
            kernel = layer.kernel[...]
            direction = jax.random.normal(jax.random.key(3), kernel.shape, float)
            values = []
            for sign in (1, -1):
                layer.kernel[...] = kernel + sign * 1e-6 * direction
                values.append(float(loss(module(x), None)))
            layer.kernel[...] = kernel
            slope = (values[0] - values[1]) / 2e-6
            steepest = float(seen.gradient_norm.sel(layer=path))
            assert abs(slope) <= steepest * norm(direction)
            assert abs(slope) > 1e-3 * steepest
        # the last layer's delta is the loss's own slope
        assert float(seen.delta_norm[-1]) == pytest.approx(norm(jnp.cos(module(x))), rel=1e-9)
        assert float(seen.gradient_norm[-1]) > 0
        assert not np.isnan(seen.saturation.sel(layer="up"))
        assert np.isnan(seen.saturation.sel(layer="attention/query")), "no more than a factor"


def test_the_same_network_as_a_run_of_ours():
    """A perceptron of the package, drawn again in NNX: the same quantities at step 0."""
    from conftest import SMALL
    from fadeout.config import Activation, Model, Run
    from helpers import network

    run = Run(Activation("elu", alpha=2.0), model=Model(3, 4), training=SMALL)
    (x, targets), weights = network(run)
    layers = []
    for kernel, bias in weights:
        layer = nnx.Linear(*kernel.shape, rngs=nnx.Rngs(0))
        layer.kernel[...], layer.bias[...] = kernel, bias
        layers += [layer, get_activation("elu", alpha=2.0)]

    def loss(output, targets):
        return jax.nn.softplus(output[:, 0]) - targets * output[:, 0]

    seen = examine(nnx.Sequential(*layers[:-1]), x, targets, loss)
    found = fadeout.train(run).isel(run=0, step=0)
    for name in ("delta_norm", "gradient_norm", "bias_gradient_norm", "weight_norm", "one_sided",
                 "activation_mean", "activation_std", "saturation"):  # fmt: skip
        np.testing.assert_allclose(seen[name], found[name], 1e-5, 1e-7, err_msg=name)


def test_what_a_layer_is_called_again():
    class Twice(nnx.Module):
        def __init__(self):
            self.same = nnx.Linear(3, 3, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.same(nnx.sigmoid(self.same(x)))

    seen = examine(Twice(), jnp.ones((2, 3)))
    assert seen.layer.values.tolist() == ["same", "same#2"]
    assert seen.gradient_norm[0] == seen.gradient_norm[1], "of one kernel"
    assert seen.delta_norm[0] < seen.delta_norm[1]


def test_the_loss_is_no_part_of_the_network():
    module, x = MLP(nnx.Rngs(1)), jax.random.normal(KEY, (7, 5))
    for loss in (None, lambda output, _: jnp.mean(jnp.square(output - 1))):
        assert np.isnan(examine(module, x, loss=loss).saturation[-1])
    squashed = nnx.Sequential(nnx.Linear(5, 3, rngs=nnx.Rngs(0)), nnx.sigmoid)
    seen = examine(squashed, x)
    assert float(seen.activation_mean[0]) == pytest.approx(float(squashed(x).mean()), rel=1e-5)


@pytest.mark.parametrize("phi", [jnp.abs, jnp.sign, jnp.floor, lambda z: jnp.heaviside(z, 0.5)])
def test_activations_of_constant_slopes_are_activations(phi):
    module = nnx.Sequential(nnx.Linear(5, 8, rngs=nnx.Rngs(0)), phi,
                            nnx.Linear(8, 1, rngs=nnx.Rngs(1)))  # fmt: skip
    x = jax.random.normal(KEY, (7, 5))
    seen = examine(module, x)
    h = phi(x @ module.layers[0].kernel[...])
    assert float(seen.activation_mean[0]) == pytest.approx(float(h.mean()), rel=1e-5)
    assert seen.dead_units[0] == (0 if phi is jnp.abs else 1)


def test_layers_of_half_precision():
    module = nnx.Sequential(nnx.Linear(5, 8, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)), nnx.relu,
                            nnx.Linear(8, 1, dtype=jnp.bfloat16, rngs=nnx.Rngs(1)))  # fmt: skip
    seen = examine(module, jnp.ones((3, 5)), loss=lambda o, _: o.astype(jnp.float32).mean())
    assert np.isfinite(seen.delta_norm).all()
    assert not np.isnan(seen.saturation[0])


def test_a_subclass_of_a_layer_is_one_layer():
    class Own(linen.Dense):
        def __call__(self, x):
            return 2 * super().__call__(x)

    module = Own(3)
    x = jnp.ones((2, 4))
    seen = examine(module, x, variables=module.init(KEY, x))
    assert seen.sizes["layer"] == 1


def test_a_layer_that_is_dead_says_so_and_is_drawn():
    dead = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
    dead.bias[...] = -100.0
    module = nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(1)), nnx.tanh, dead, nnx.relu,
                            nnx.Linear(4, 1, rngs=nnx.Rngs(2)))  # fmt: skip
    seen = examine(module, jnp.ones((3, 4)), jnp.ones((3, 1)), optax.l2_loss)
    assert seen.verdict.values.tolist() == ["no_gradient", "no_gradient", "healthy"]
    assert seen.dead_units.values.tolist() == [0, 1, 0]
    figure = seen.pipe(fadeout.compare)
    assert "no gradient" in figure.get_suptitle()
    assert [ax.get_title() for ax in figure.axes] == ["the gradient", "the signal", "units"]
    table = fadeout.to_frame(seen)
    assert table.index.tolist() == seen.layer.values.tolist()
    assert table.loc["layers/2", "dead_units"] == 1
    with pytest.raises(FadeoutError, match="leave quantity out"):
        fadeout.compare(seen, quantity="delta_norm")


class Remat(linen.Module):
    @linen.compact
    def __call__(self, x):
        return jax.vmap(linen.Dense(2))(x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: examine(3, 1), "takes a module of flax.nnx or flax.linen"),
        (
            lambda: examine(lambda x: x, 1),
            "must be its parameters, with real arrays in it, not int",
        ),
        (lambda: examine(lambda x: x), "takes a loss, its parameters and its data"),
        (lambda: examine(lambda p, x: p * x, jnp.ones(2), jnp.ones(2)), "one real number, not of"),
        (lambda: examine(lambda p, x: (p * x).sum(), jnp.ones(2), 1.0), "no weighted sum"),
        (lambda: examine(CNN(), jnp.ones((1, 4, 4, 2))), "needs its variables"),
        (lambda: examine(nnx.Dropout(0.5, rngs=nnx.Rngs(0)), jnp.ones(3)), "no layer to examine"),
        (lambda: examine(MLP(nnx.Rngs(0)), jnp.ones((2, 5)), loss="mse"), "must be a function"),
        (
            lambda: examine(MLP(nnx.Rngs(0)), jnp.ones((2, 5)), loss=lambda o, t: 1),
            "a real number, or one for each example, not of int32",
        ),
    ],
)
def test_what_cannot_be_examined_is_refused(call, words):
    with pytest.raises(FadeoutError, match=words):
        call()


def test_a_module_is_left_as_it_was():
    module = MLP(nnx.Rngs(1))
    before = jax.tree.map(np.asarray, nnx.state(module))
    call = nnx.Linear.__call__
    examine(module, jnp.ones((2, 5)))
    assert nnx.Linear.__call__ is call
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, nnx.state(module)))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.linear(x))


class Stack(nnx.Module):
    """Four layers in one parameter; a batch is a multiple of the fan-in."""

    def __init__(self, rngs):
        self.blocks = nnx.vmap(Block)(rngs.split(4))

    def __call__(self, x):
        return nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(
            self.blocks, x
        )


def test_a_stack_that_is_scanned_is_its_layers():
    """As the same four layers, called one after another."""
    stack, x = Stack(nnx.Rngs(0)), jax.random.normal(KEY, (16, 4))
    seen = examine(stack, x)
    assert seen.layer.values.tolist() == [f"blocks/linear[{n}]" for n in range(4)]

    def loss(parameters, x):
        for kernel, bias in parameters:
            x = jnp.tanh(x @ kernel + bias)
        return jnp.mean(jnp.square(x))

    own = stack.blocks.linear
    alone = examine(loss, list(zip(own.kernel[...], own.bias[...], strict=True)), x)
    for name in ("delta_norm", "gradient_norm", "weight_norm", "preactivation_std"):
        np.testing.assert_allclose(seen[name], alone[name], 1e-5, err_msg=name)
    assert not np.isnan(seen.activation_std).any()


@jax.custom_vjp
def straight_through(z):
    return (z > 0).astype(z.dtype)


straight_through.defvjp(
    lambda z: (straight_through(z), z), lambda z, g: (jnp.where(jnp.abs(z) < 1, g, 0),)
)


def test_a_rule_of_ones_own_is_the_slope():
    module = nnx.Sequential(nnx.Linear(5, 8, rngs=nnx.Rngs(0)), straight_through,
                            nnx.Linear(8, 1, rngs=nnx.Rngs(1)))  # fmt: skip
    x = jax.random.normal(KEY, (7, 5))
    z = x @ module.layers[0].kernel[...]
    seen = examine(module, x)
    assert float(seen.saturation[0]) == pytest.approx(float((jnp.abs(z) >= 1).mean()))


class Headed(nnx.Module):
    """Six level layers, a head with small weights, and one that is called last for nothing."""

    def __init__(self, rngs):
        make = nnx.initializers.orthogonal()
        self.layers = nnx.List([nnx.Linear(8, 8, kernel_init=make, rngs=rngs) for _ in range(6)])
        self.head, self.auxiliary = nnx.Linear(8, 1, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)
        self.head.kernel[...] *= 1e-4

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.tanh(layer(0.1 * x))
        return self.head(x) + 0 * jax.lax.stop_gradient(self.auxiliary(x))


def test_heads_are_not_what_a_level_gradient_is_compared_with():
    class Level(Headed):
        def __call__(self, x):
            for layer in self.layers:
                x = jnp.tanh(layer(0.01 * x)) / 0.01
            return self.head(x) + jax.lax.stop_gradient(self.auxiliary(x))

    seen = examine(Level(nnx.Rngs(0)), jax.random.normal(KEY, (7, 8)), loss=lambda o, _: o.mean())
    assert seen.verdict.values.tolist() == ["healthy"] * 7 + ["no_gradient"]
    lost = examine(Headed(nnx.Rngs(0)), jax.random.normal(KEY, (7, 8)), loss=lambda o, _: o.mean())
    assert lost.verdict.values.tolist()[:3] == ["vanishing"] * 3
    assert lost.verdict.values.tolist()[5] == "healthy"


@pytest.mark.parametrize(
    "call",
    [lambda m: examine(m, "words"), lambda m: examine(m, np.ones((2, 3))),
     lambda m: examine(m, None), lambda m: examine(m, np.ones((2, 5)), loss=lambda o: o),
     lambda m: examine(3, np.eye(2)), lambda m: examine(m, np.ones((2, 5)), train=True)],
)  # fmt: skip
def test_whatever_a_module_or_a_loss_raises_is_answered_in_a_line(call):
    with pytest.raises(FadeoutError) as refused:
        call(MLP(nnx.Rngs(0)))
    assert len(str(refused.value).splitlines()) == 1
