"""Any JAX function, seen while its loss is differentiated: against `jax.value_and_grad`, the same
network with taps by hand, and another way to write it."""

import functools
import html
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import fadeout
from fadeout.analysis.watch import first_trouble
from fadeout.registry import FadeoutError

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (6, 4))


def draw(*shapes):
    keys = jax.random.split(KEY, len(shapes))
    return [jax.random.normal(k, s) / np.sqrt(s[0]) for k, s in zip(keys, shapes, strict=True)]


def recurrent(parameters, x):
    """An Elman network over the rows of x [example, time, feature]."""
    inside, across, out = parameters

    def step(h, x):
        h = jnp.tanh(x @ inside + h @ across)
        return h, None

    h, _ = jax.lax.scan(step, jnp.zeros((x.shape[0], 5)), jnp.swapaxes(x, 0, 1))
    return jnp.mean(jnp.square(h @ out))


def stacked(parameters, x):
    """A scanned stack of blocks of two layers, each computed anew in the backward pass."""

    @functools.partial(jax.checkpoint, policy=None)
    def block(h, own):
        up, down = own
        return h + jnp.tanh(h @ up) @ down, None

    h, _ = jax.lax.scan(block, x, parameters)
    return jnp.mean(jnp.square(h))


def chosen(parameters, x):
    below, one, two = parameters
    h = jnp.tanh(x @ below)
    h = jax.lax.cond(x[0, 0] > -100, lambda h: jnp.tanh(h @ one), lambda h: h @ two, h)
    return jnp.mean(jnp.square(h))


def mapped(parameters, x):
    below, above = parameters

    @jax.jit
    def of_one(x):
        return jnp.dot(jax.nn.relu(below.T @ x), above)

    return jnp.mean(jnp.square(jax.vmap(of_one)(x)))


def tied(parameters, words):
    (table,) = parameters
    return optax.softmax_cross_entropy_with_integer_labels(table[words] @ table.T, words).mean()


@jax.custom_vjp
def doubled(x, kernel):
    return x @ kernel


doubled.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (2 * g @ kept[1].T, 2 * kept[0].T @ g))


def penalised(parameters, x):
    below, above = parameters
    weights = jnp.sum(jnp.square(below))
    return jnp.mean(jnp.tanh(x @ below) @ above) + 0.1 * weights


def dropped(parameters, x, key):
    below, above = parameters
    h = jax.nn.gelu(x @ below)
    kept = jax.random.bernoulli(key, 0.5, h.shape)
    return jnp.mean(jnp.square(jnp.where(kept, 2 * h, 0) @ above))


ZOO = {
    "recurrent": (recurrent, draw((4, 5), (5, 5), (5, 1)), (jax.random.normal(KEY, (6, 7, 4)),)),
    "stacked": (stacked, (*(jnp.stack(draw(*[s] * 3)) for s in ((4, 5), (5, 4))),), (X,)),
    "chosen": (chosen, draw((4, 4), (4, 4), (4, 4)), (X,)),
    "mapped": (mapped, draw((4, 5), (5, 2)), (X,)),
    "tied": (tied, draw((9, 4)), (jnp.arange(6),)),
    "penalised": (penalised, draw((4, 5), (5, 1)), (X,)),
    "dropped": (dropped, draw((4, 5), (5, 1)), (X, jax.random.key(3))),
    "convolved": (
        lambda p, x: jnp.mean(jnp.square(jax.lax.conv(x, p[0], (1, 1), "SAME"))),
        draw((3, 2, 3, 3)),
        (jax.random.normal(KEY, (2, 2, 5, 5)),),
    ),
}
LAYERS = {
    "recurrent": ["0", "1", "2"],
    "stacked": ["0[0]", "1[0]", "0[1]", "1[1]", "0[2]", "1[2]"],
    "chosen": ["0", "2", "1"],  # XLA counts the false branch first
    "tied": ["0", "0#2"],
}


@pytest.mark.parametrize("name", ZOO)
def test_value_and_gradients_are_those_of_the_loss(name):
    loss, parameters, data = ZOO[name]
    value, gradients, look = jax.jit(fadeout.tapped(loss))(parameters, *data)
    wanted, own = jax.value_and_grad(loss)(parameters, *data)
    assert float(value) == pytest.approx(float(wanted), rel=1e-6)
    for got, right in zip(jax.tree.leaves(gradients), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(got, right, 1e-5, 1e-7)
    assert jax.tree.structure(gradients) == jax.tree.structure(own)
    assert list(look.layers) == LAYERS.get(name, list(look.layers))
    unexplained = np.asarray(look.values["unexplained"])
    assert not (unexplained > 1e-5).any(), "x^T delta is the kernel's gradient"
    if name in ("recurrent", "stacked", "convolved"):
        assert not np.isnan(unexplained).any()


def test_delta_of_a_recurrent_network_by_time():
    """The same network, written step by step, with a zero added to every sum."""
    _, (inside, across, out), (x,) = ZOO["recurrent"]

    def unrolled(taps):
        h = jnp.zeros((6, 5))
        for t in range(7):
            h = jnp.tanh(x[:, t] @ inside + taps[t] + h @ across)
        return jnp.mean(jnp.square(h @ out))

    deltas = jax.grad(unrolled)(jnp.zeros((7, 6, 5)))
    seen = fadeout.examine(recurrent, (inside, across, out), x)
    norms = np.sqrt(np.sum(np.square(deltas), (1, 2)))
    both = seen.sel(layer=["0", "1"])
    np.testing.assert_allclose(both.delta_norm, np.linalg.norm(norms), 1e-5)
    np.testing.assert_allclose(both.delta_over_time, norms[0] / norms[-1], 1e-5)
    assert np.isnan(seen.delta_over_time.sel(layer="2"))


def test_a_stack_is_the_same_as_its_layers():
    _, (up, down), (x,) = ZOO["stacked"]

    def plain(parameters, x):
        for one, two in parameters:
            x = x + jnp.tanh(x @ one) @ two
        return jnp.mean(jnp.square(x))

    own = fadeout.examine(stacked, (up, down), x)
    alone = fadeout.examine(plain, list(zip(up, down, strict=True)), x)
    assert alone.layer.values.tolist() == ["0/0", "0/1", "1/0", "1/1", "2/0", "2/1"]
    for name in own.data_vars:
        if name != "verdict":
            np.testing.assert_allclose(own[name], alone[name], 1e-4, 1e-6, err_msg=name)
    assert np.isfinite(own.saturation[::2]).all()


def test_the_branch_that_was_not_taken_shows_nothing():
    loss, parameters, data = ZOO["chosen"]
    seen = fadeout.examine(loss, parameters, *data)
    assert np.isfinite(seen.preactivation_std.sel(layer=["0", "1"])).all()
    assert np.isnan(seen.preactivation_std.sel(layer="2"))


def test_a_layer_with_a_rule_of_its_own_keeps_it_and_is_named():
    """A rule that doubles the gradient: what stands inside would have another."""

    def loss(parameters, x):
        return jnp.mean(jnp.square(doubled(jnp.tanh(x @ parameters["below"]), parameters["own"])))

    below, own = draw((4, 5), (5, 2))
    gradients = jax.grad(loss)({"below": below, "own": own}, X)
    watch = fadeout.watch(loss)
    _, found = watch({"below": below, "own": own}, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), found, gradients)
    assert watch.results.layer.values.tolist() == ["below"]
    assert watch.results.attrs["notes"] == "own is no layer that is known"


def test_a_penalty_is_no_gap():
    loss, parameters, data = ZOO["penalised"]
    seen = fadeout.examine(loss, parameters, *data)
    assert np.isfinite(seen.gradient_norm).all()
    assert "0 enters in other ways too" in seen.attrs["notes"]


class Block(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        return linen.gelu(linen.Dense(4)(x)), None


class Stack(linen.Module):
    @linen.compact
    def __call__(self, x):
        layers = linen.scan(
            linen.remat(Block), {"params": 0}, length=5, split_rngs={"params": True}
        )
        return layers()(x, None)[0]


def test_a_linen_stack_that_is_scanned_and_rematerialised():
    variables = Stack().init(KEY, X)
    seen = fadeout.examine(Stack(), X, variables=variables)
    assert seen.sizes["layer"] == 5
    assert np.isfinite(seen.saturation).all()
    (block,) = variables["params"].values()
    own = block["Dense_0"]

    def plain(parameters, x):
        for kernel, bias in parameters:
            x = jax.nn.gelu(x @ kernel + bias)
        return jnp.mean(jnp.square(x))

    alone = fadeout.examine(plain, list(zip(own["kernel"], own["bias"], strict=True)), X)
    np.testing.assert_allclose(seen.delta_norm, alone.delta_norm, 1e-4)


class Cell(nnx.Module):
    def __init__(self, rngs):
        self.cell = nnx.RNN(nnx.LSTMCell(4, 6, rngs=rngs))
        self.out = nnx.Linear(6, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.cell(x)[:, -1])


def test_an_lstm_has_a_time_and_no_layer_a_step():
    seen = fadeout.examine(Cell(nnx.Rngs(0)), jax.random.normal(KEY, (3, 20, 4)))
    assert seen.sizes["layer"] <= 9
    cells = seen.sel(layer=[str(name) for name in seen.layer.values if name != "out"])
    assert np.isfinite(cells.delta_over_time).all()
    assert (cells.delta_over_time < 1).all(), "the last step's answer is what is judged"


def test_networks_at_birth():
    def loss(parameters, x):
        for kernel in parameters:
            x = jnp.tanh(x @ kernel)
        return jnp.mean(jnp.square(x))

    def make(key):
        return [0.15 * jax.random.normal(k, (4, 4)) for k in jax.random.split(key, 8)]

    seen = fadeout.examine(loss, make, X, seeds=16)
    assert dict(seen.sizes) == {"seed": 16, "layer": 8}
    key = jax.random.split(jax.random.key(0), 16)[5]
    alone = fadeout.examine(loss, make(key), X)
    np.testing.assert_allclose(seen.delta_norm[5], alone.delta_norm, 1e-5)
    assert seen.verdict.values[0] == "vanishing"
    assert seen.verdict.values[-1] == "healthy"


# --- while it trains


def perceptron(parameters, x, y):
    for kernel, bias in parameters[:-1]:
        x = jax.nn.sigmoid(x @ kernel + bias)
    kernel, bias = parameters[-1]
    return optax.sigmoid_binary_cross_entropy((x @ kernel + bias)[:, 0], y).mean()


def start(depth=4, width=8):
    sizes = [4] + [width] * depth + [1]
    kernels = draw(*itertools.pairwise(sizes))
    return [(kernel, jnp.zeros(kernel.shape[1])) for kernel in kernels]


Y = jnp.array([0.0, 1, 1, 0, 1, 0])


def test_training_with_a_watch_is_training_without():
    logged = []
    watch = fadeout.watch(perceptron, every=3, log=lambda row, step: logged.append((step, row)))
    own, plain = start(), start()
    for _ in range(7):
        value, gradients = watch(own, X, Y)
        wanted, right = jax.jit(jax.value_and_grad(perceptron))(plain, X, Y)
        assert float(value) == pytest.approx(float(wanted), rel=1e-5)
        own = jax.tree.map(lambda p, g: p - 0.5 * g, own, gradients)
        plain = jax.tree.map(lambda p, g: p - 0.5 * g, plain, right)
    found = watch.results
    assert found.step.values.tolist() == [0, 3, 6] == [step for step, _ in logged]
    assert logged[1][1]["1/0/delta_norm"] == pytest.approx(float(found.delta_norm[1, 1]))
    assert "layer" in str(watch)
    assert html.escape(str(watch)) in watch._repr_html_()
    first = fadeout.examine(perceptron, start(), X, Y)
    np.testing.assert_allclose(found.delta_norm[0], first.delta_norm, 1e-5)


def test_a_watch_says_where_it_went_wrong():
    watch = fadeout.watch(perceptron, every=1)
    parameters = start()
    watch(parameters, X, Y)
    kernel, bias = parameters[2]
    parameters[2] = kernel.at[0, 0].set(jnp.inf), bias
    watch(parameters, X, Y)
    assert first_trouble(watch.results) == "step 1: 2/0 is not finite, forwards"
    assert "step 1: 2/0 is not finite, forwards" in str(watch)


def test_a_watch_keeps_aux_and_what_a_module_changes(tmp_path):
    class Normed(nnx.Module):
        def __init__(self, rngs):
            self.below, self.norm = nnx.Linear(4, 5, rngs=rngs), nnx.BatchNorm(5, rngs=rngs)
            self.above = nnx.Linear(5, 1, rngs=rngs)

        def __call__(self, x):
            return self.above(nnx.relu(self.norm(self.below(x))))

    def loss(module, x, y):
        output = module(x)[:, 0]
        return jnp.mean(jnp.square(output - y)), output

    module, other = Normed(nnx.Rngs(0)), Normed(nnx.Rngs(0))
    watch = fadeout.watch(loss, every=2, has_aux=True)
    for _ in range(3):
        (value, aux), gradients = watch(module, X, Y)
        (wanted, same), right = nnx.value_and_grad(loss, has_aux=True)(other, X, Y)
        assert float(value) == pytest.approx(float(wanted), rel=1e-5)
        np.testing.assert_allclose(aux, same, 1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-6), gradients, right)
        np.testing.assert_allclose(module.norm.mean[...], other.norm.mean[...], 1e-6)
    assert np.isfinite(watch.results.saturation.sel(layer="below")).all(), "behind its norm"
    stored = watch.save(tmp_path / "mine")
    with pytest.raises(FadeoutError, match="is there already"):
        watch.save(stored)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fadeout.watch(3), "must be a function of parameters"),
        (lambda: fadeout.watch(perceptron, every=0), "from 1 on, not 0"),
        (lambda: fadeout.watch(perceptron).results, "nothing was seen yet"),
        (
            lambda: fadeout.watch(lambda p, x: p @ x)(jnp.ones((2, 2)), jnp.ones(2)),
            "one real number",
        ),
        (lambda: fadeout.watch(perceptron)([], X, Y), "must be its parameters"),
        (lambda: fadeout.watch(perceptron)(jnp.arange(3), X, Y), "must be its parameters"),
        (lambda: fadeout.examine(perceptron, start, X, Y, seeds=0), "seeds must be"),
        (lambda: fadeout.examine(perceptron, start(), X, Y, seeds=3), "makes parameters"),
        (lambda: fadeout.examine(lambda p, x: float(p.sum()) * x, jnp.ones(3), 1.0), "fails"),
    ],
)
def test_what_cannot_be_watched_is_one_clear_line(call, words):
    with pytest.raises(FadeoutError, match=words) as refused:
        call()
    assert len(str(refused.value).splitlines()) <= 2


def test_a_second_look_compiles_nothing_and_sees_what_has_changed():
    compiled, factor = [], 1.0

    def count(name, *_, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(name)

    def loss(parameters, x):
        return factor * jnp.mean(jnp.square(jnp.tanh(x @ parameters)))

    parameters = draw((4, 3))[0]
    first = fadeout.examine(loss, parameters, X)
    other = parameters + 0.0
    jax.monitoring.register_event_duration_secs_listener(count)
    again = fadeout.examine(loss, other, X)
    assert compiled == []
    assert again.equals(first)
    factor = 5.0
    changed = fadeout.examine(loss, parameters, X)
    assert changed.attrs["loss"] == pytest.approx(5 * first.attrs["loss"])
    assert compiled != []


@pytest.mark.parametrize("scale", [0.5, 6.0])
def test_the_advised_scale_makes_the_gradient_level(scale):
    """Twelve relu layers; He's scale is 2."""

    def loss(parameters, x):
        for kernel in parameters:
            x = jax.nn.relu(x @ kernel)
        return jnp.mean(x)

    def make(key, scale=scale):
        init = jax.nn.initializers.variance_scaling(scale, "fan_in", "normal")
        return [init(k, (64, 64)) for k in jax.random.split(key, 12)]

    x = jax.random.normal(KEY, (32, 64))
    words = fadeout.examine(loss, make, x, seeds=8).attrs["advice"]
    advised = float(words.split("variance_scaling(")[1].split(",")[0])
    assert advised == pytest.approx(2, rel=0.15)
    cured = fadeout.examine(loss, functools.partial(make, scale=advised), x, seeds=8)
    assert cured.attrs["advice"].startswith("the gradient is level")


# --- what a review found


def deep(parameters, x, change):
    """Layers of tanh, of which each is called in another way."""
    for kernel in parameters[:-1]:
        x = change(kernel, x)
    return jnp.mean(jnp.square(x @ parameters[-1]))


KERNELS = draw(*[(4, 4)] * 5)
PLAIN = functools.partial(deep, change=lambda w, x: jnp.tanh(x @ w))


@pytest.mark.parametrize(
    ("change", "parameters"),
    [
        (lambda w, x: jnp.tanh(x @ (w * 0.5)), [*(2 * w for w in KERNELS[:-1]), KERNELS[-1]]),
        (jax.checkpoint(lambda w, x: jnp.tanh(x @ w)), KERNELS),
        (jax.jit(lambda w, x: jnp.tanh(x @ w)), KERNELS),
        (lambda w, x: jax.lax.map(lambda row: jnp.tanh(row @ w), x), KERNELS),
    ],
    ids=["scaled", "checkpoint", "jit", "map"],
)
def test_the_same_network_in_other_words(change, parameters):
    seen = fadeout.examine(functools.partial(deep, change=change), parameters, X)
    plain = fadeout.examine(PLAIN, KERNELS, X)
    assert np.isfinite(plain.saturation[:4]).all()
    for name in plain.data_vars:
        if name not in ("verdict", "delta_over_time"):
            np.testing.assert_allclose(seen[name], plain[name], 1e-4, 1e-6, err_msg=name)
    assert (seen.verdict.values == plain.verdict.values).all()
    assert np.isnan(seen.delta_over_time).all(), "nothing is carried in time"


def test_stacks_in_other_words():
    kernels, out = jnp.stack(KERNELS[:4]), KERNELS[4]
    plain = fadeout.examine(PLAIN, KERNELS, X)

    def counted(parameters, x):
        stack, out = parameters
        x = jax.lax.fori_loop(0, 4, lambda i, x: jnp.tanh(x @ stack[i]), x)
        return jnp.mean(jnp.square(x @ out))

    def moved(parameters, x):
        stack, out = parameters
        x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, jnp.moveaxis(stack, 1, 0))
        return jnp.mean(jnp.square(x @ out))

    inside = jax.checkpoint(counted)
    for loss, stack in (
        (counted, kernels),
        (moved, jnp.moveaxis(kernels, 0, 1)),
        (inside, kernels),
    ):
        seen = fadeout.examine(loss, (stack, out), X)
        assert seen.layer.values.tolist() == ["0[0]", "0[1]", "0[2]", "0[3]", "1"]
        for name in ("delta_norm", "gradient_norm", "weight_norm", "saturation"):
            np.testing.assert_allclose(seen[name], plain[name], 1e-4, err_msg=name)


def test_saturation_of_few_elements():
    def loss(parameters, x):
        return jnp.mean(jnp.tanh(x @ parameters[0]) @ parameters[1])

    parameters, z = (jnp.eye(3), jnp.ones((3, 1))), jnp.full((1, 3), 2.5)
    for x in (z, jnp.tile(z, (40, 1))):
        assert fadeout.examine(loss, parameters, x).saturation[0] == 1


def test_a_layer_that_is_skipped_is_no_trouble():
    def loss(parameters, x, taken):
        x = jnp.tanh(x @ parameters[0])
        x = jax.lax.cond(taken, lambda x: jnp.tanh(x @ parameters[1]), lambda x: x, x)
        for kernel in parameters[2:]:
            x = jnp.tanh(x @ kernel)
        return jnp.mean(jnp.square(x))

    watch = fadeout.watch(loss, every=1)
    watch(KERNELS, X, False)
    assert watch.results.verdict.sel(layer="1").item() == "not_used"
    assert first_trouble(watch.results) == ""
    assert "not finite" not in watch.results.attrs["advice"]


def test_streams_of_random_numbers_go_on():
    def loss(module, x, rngs):
        return jnp.mean(module(x) * jax.random.normal(rngs.dropout(), (6, 2)))

    values = []
    for every in (1, 2, 10):
        module, rngs = nnx.Linear(4, 2, rngs=nnx.Rngs(0)), nnx.Rngs(dropout=1)
        watch = fadeout.watch(loss, every=every)
        values.append([float(watch(module, X, rngs)[0]) for _ in range(3)])
    np.testing.assert_allclose(values[0], values[1], 1e-5)
    np.testing.assert_allclose(values[0], values[2], 1e-5)
    assert len(set(values[0])) == 3


def test_looks_and_plain_calls_give_gradients_of_one_kind():
    """Of numbers, whole numbers and functions among the parameters, as Equinox has them."""

    def loss(parameters, x, *, shift):
        return jnp.mean(parameters["phi"](x @ parameters["w"])) * parameters["gain"] + shift

    parameters = {"w": KERNELS[0], "gain": 2.0, "count": jnp.arange(3), "phi": jnp.tanh}
    watch = fadeout.watch(loss, every=2)
    look, plain = (watch(parameters, X, shift=1.0) for _ in range(2))
    assert float(look[0]) == pytest.approx(float(plain[0]), rel=1e-5)
    assert jax.tree.structure(look[1]) == jax.tree.structure(plain[1])
    np.testing.assert_allclose(look[1]["gain"], plain[1]["gain"], 1e-5)
    assert look[1]["count"] is look[1]["phi"] is None


def test_a_part_of_a_table_and_what_is_no_bias():
    def loss(parameters, words):
        x = parameters["table"][:5][words] @ parameters["w"] + parameters["places"]
        return jnp.mean(jnp.square(jnp.tanh(x) @ parameters["w"]))

    parameters = {"table": draw((8, 4))[0], "w": KERNELS[0], "places": draw((6, 4))[0]}
    seen = fadeout.examine(loss, parameters, jnp.array([0, 1, 2, 3, 4, 0]))
    assert seen.kind.values.tolist() == ["embedding", "dense", "dense"]
    assert np.isfinite(seen.gradient_norm).all()
    assert np.isnan(seen.bias_gradient_norm).all()


def test_the_last_look_speaks():
    def loss(parameters, x):
        for kernel in parameters:
            x = jnp.tanh(x @ kernel)
        return jnp.mean(jnp.square(x))

    watch = fadeout.watch(loss, every=1)
    watch(KERNELS, X)
    watch([8 * kernel for kernel in KERNELS], X)
    assert "look at the learning rate" in str(watch).splitlines()[-1]
    assert watch.results.attrs["advice"] == str(watch).splitlines()[-1]


def test_what_was_watched_is_drawn_and_tabled():
    watch = fadeout.watch(PLAIN, every=1)
    for size in (1.0, 0.05):
        watch([size * kernel for kernel in KERNELS], X)
    words = watch.results.verdict[-1].values.tolist()
    title = fadeout.compare(watch.results).get_suptitle()
    assert f"{words.count('vanishing')} of 5 layers vanishing" in title
    assert fadeout.to_frame(watch.results).shape[0] == 10

    def make(key):
        return [0.05 * jax.random.normal(k, (4, 4)) for k in jax.random.split(key, 5)]

    born = fadeout.examine(PLAIN, make, X, seeds=4)
    assert "vanishing" in fadeout.compare(born).get_suptitle()
