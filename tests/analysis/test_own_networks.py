"""Networks of a user's own, from the outside: in other frameworks, on many devices, on disk, on the
command line; the advice that is tried; and the monitor of an optimiser."""

import json
import os
import re
import subprocess
import sys
import textwrap

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from flax import linen, nnx

import fadeout
from fadeout.analysis.layer_verdicts import layer_verdicts, one_look
from fadeout.registry import FadeoutError
from fadeout.sweeps.sweep import sweep
from helpers import script

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (32, 4))
Y = jax.nn.one_hot(jax.random.randint(KEY, (32,), 0, 3), 3)


# --- in another framework


def of_equinox(model, x, y):
    return jnp.mean(jnp.square(jax.vmap(model)(x) - y))


def test_equinox_is_the_same_network_written_plainly():
    """Its layers stand behind `vmap`, so that their sums are transposed before their bias."""
    model = equinox.nn.MLP(4, 3, 8, 4, activation=jnp.tanh, key=KEY)

    def plain(parameters, x, y):
        for kernel, bias in parameters[:-1]:
            x = jnp.tanh(x @ kernel + bias)
        kernel, bias = parameters[-1]
        return jnp.mean(jnp.square(x @ kernel + bias - y))

    parameters = [(layer.weight.T, layer.bias) for layer in model.layers]
    seen, wanted = (
        fadeout.examine(of_equinox, model, X, Y),
        fadeout.examine(plain, parameters, X, Y),
    )
    assert seen.layer.values.tolist() == [f"layers/{n}" for n in range(5)]
    assert np.isfinite(seen.saturation.values[:-1]).all()
    for name in seen.data_vars:
        if name != "verdict":
            np.testing.assert_allclose(seen[name], wanted[name], 1e-5, 1e-7, err_msg=name)
    value, gradients = fadeout.watch(of_equinox)(model, X, Y)
    own, right = equinox.filter_value_and_grad(of_equinox)(model, X, Y)
    assert float(value) == pytest.approx(float(own), rel=1e-6)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-7)


def test_kernels_that_are_joined_to_one_are_one_layer():
    """Flax's optimised LSTM multiplies by four kernels at once."""
    model = linen.RNN(linen.OptimizedLSTMCell(5))
    x = jax.random.normal(KEY, (3, 7, 4))
    variables = model.init(KEY, x)
    seen = fadeout.examine(lambda v, x: jnp.mean(model.apply(v, x)[:, -1] ** 2), variables, x)
    assert [path.split("/")[-1] for path in seen.layer.values] == ["{hf,hg,hi,ho}", "{if,ig,ii,io}"]
    assert seen.attrs["notes"] == ""
    assert (seen.delta_over_time > 0).all()


def test_the_gate_of_an_empty_cell_is_no_loss_over_time():
    """Delta of a forget gate is exactly 0 at the first step, whatever comes there."""
    model = linen.RNN(linen.LSTMCell(5))
    x = jax.random.normal(KEY, (3, 4, 4))
    variables = model.init(KEY, x)
    seen = fadeout.examine(lambda v, x: jnp.mean(model.apply(v, x)[:, -1] ** 2), variables, x)
    gates = seen.delta_over_time.values
    assert (gates > 0.01).all()
    assert "decades over time" not in seen.attrs["advice"]


def test_a_layer_is_compared_with_those_of_its_name():
    """A projection whose output is normalised has a large delta, and is no explosion."""
    names = [f"{n}/{part}" for n in range(3) for part in ("gate", "down")] + ["head"]
    delta = np.array([1.0, 1e3, 1.0, 1e3, 1.0, 1e3, 1e-5])
    active = np.array([True, False, True, False, True, False, False])
    found = {
        "delta_norm": ("layer", delta),
        "saturation": ("layer", np.where(active, 0.0, np.nan)),
        "dead_units": ("layer", 0 * delta),
        "weight_norm": ("layer", delta),
        "preactivation_std": ("layer", delta),
        "delta_over_time": ("layer", np.nan * delta),
        "kind": ("layer", ["dense"] * 7),
    }
    own = xr.Dataset(found, {"layer": names})
    assert set(layer_verdicts(own)) == {"healthy"}
    own["delta_norm"].values[1] = 1.0
    assert layer_verdicts(own).tolist()[:3] == ["healthy", "vanishing", "healthy"]


def test_a_bool_after_a_sum_is_no_activation():
    def loss(kernel, x):
        logits = x @ kernel
        taken = jax.nn.one_hot(jnp.argmax(logits, -1), 3)
        return jnp.mean(logits * taken)

    seen = fadeout.examine(loss, jnp.ones((4, 3)), X)
    assert np.isfinite(seen.delta_norm).all()


def test_a_watch_on_two_devices_sees_what_one_does():
    """Data are sharded over examples; numbers are those of a single device."""
    code = textwrap.dedent("""
        import fadeout, jax, jax.numpy as jnp, numpy as np, optax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        def loss(p, x):
            return jnp.mean(jnp.square(jnp.tanh(jax.nn.relu(x @ p[0]) @ p[1])))
        p = [jax.random.normal(jax.random.key(n), (6, 6)) for n in (1, 2)]
        x = jax.random.normal(jax.random.key(0), (8, 6))
        mesh = Mesh(np.array(jax.devices()), "d")
        own = jax.device_put(x, NamedSharding(mesh, P("d")))
        split = [jax.device_put(p[0], NamedSharding(mesh, P(None, "d"))),
                 jax.device_put(p[1], NamedSharding(mesh, P("d")))]
        a, b = fadeout.watch(loss, every=1), fadeout.watch(loss, every=1)
        (_, ga), (_, gb) = a(p, x), b(split, own)
        assert len(gb[0].devices()) == 2, gb[0].sharding
        for name in a.results:
            if name != "verdict":
                np.testing.assert_allclose(a.results[name], b.results[name], 2e-6, err_msg=name)
        optimizer = fadeout.monitor(optax.sgd(0.1))
        update = jax.jit(optimizer.update)
        states = [update(g, optimizer.init(q), q)[1] for g, q in ((ga, p), (gb, split))]
        for one, two in zip(*map(jax.tree.leaves, states)):
            np.testing.assert_allclose(one, two, 2e-6)
        print("same")
    """)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True,
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
    )  # fmt: skip
    assert done.stdout == "same\n", done.stderr


# --- before training


def deep(parameters, x):
    for kernel in parameters[:-1]:
        x = jax.nn.relu(x @ kernel)
    return jnp.mean(x @ parameters[-1])


def small(key):
    return [0.05 * jax.random.normal(k, (48, 48)) for k in jax.random.split(key, 9)]


def test_the_advice_is_tried():
    """Of relu the level scale is He's, 2; networks drawn so have the delta that is told."""
    x = jax.random.normal(KEY, (64, 48))
    seen = fadeout.examine(deep, small, x, seeds=12)
    told = re.search(
        r"variance_scaling\(([\d.]+), .* tried on 12 networks: ([\d.]+) times a layer "
        r"\[([\d.]+), ([\d.]+)\]",
        seen.attrs["advice"],
    )
    scale, factor, low, high = map(float, told.groups())
    assert scale == pytest.approx(2, rel=0.12)
    assert low < factor < high
    assert 0.9 < factor < 1.1

    def scaled(key):
        *hidden, last = small(key)
        return [*(kernel * np.sqrt(scale / (48 * 0.05**2)) for kernel in hidden), last]

    again = fadeout.examine(deep, scaled, x, seeds=12)
    np.testing.assert_allclose(
        np.log10(seen.advised_delta_norm[:, :-1]), np.log10(again.delta_norm[:, :-1]), atol=0.2
    )
    assert (one_look(again).verdict == "healthy").all()
    fadeout.compare(seen)


# --- on disk, on the command line


NETWORK = textwrap.dedent("""
    import jax, jax.numpy as jnp
    from shapes_of_mine import SHAPES
    def loss(parameters, batch):
        x, y = batch
        for kernel in parameters[:-1]:
            x = jnp.tanh(x @ kernel)
        return jnp.mean((x @ parameters[-1] - y) ** 2)
    def drawn(key):
        keys = jax.random.split(key, len(SHAPES))
        kernels = [0.05 * jax.random.normal(k, s) for k, s in zip(keys, SHAPES)]
        return loss, kernels, (jnp.ones((8, 4)), jnp.ones((8, 1)))
    def make():
        return drawn(jax.random.key(0))
    def wrong():
        return loss
    def breaks():
        return 1 / 0
""")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_net.py").write_text(NETWORK)
    (tmp_path / "shapes_of_mine.py").write_text("SHAPES = [(4, 8), *[(8, 8)] * 6, (8, 1)]")
    return tmp_path


def test_the_command_examines_a_file(folder):
    done = script("examine", "my_net.py", "--name", "mine", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "vanishing" in done.stdout
    assert "variance_scaling" in done.stdout
    own = folder / "outputs" / "mine"
    assert {path.name for path in own.iterdir()} == {
        "network.nc", "network.png", "network.svg", "report.html",
    }  # fmt: skip
    seen = fadeout.load(own)
    assert seen.identical(fadeout.load(own / "network.nc"))
    assert seen.sizes == {"layer": 8}
    page = (own / "report.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["verdicts"] == [word.replace("_", " ") for word in seen.verdict.values]
    again = script("examine", "my_net.py", "--name", "mine", cwd=folder)
    assert again.returncode == 1
    assert "is there already: choose another name" in again.stderr
    assert script("plot", "outputs/mine", cwd=folder).returncode == 0
    assert "report.html" in script("report", "outputs/mine", cwd=folder).stdout


ANSWERS = {
    ("my_net.py:drawn", "--seeds", "4", "--name", "s"): "tried on 4 networks",
    ("my_net.py:drawn",): "takes arguments: add --seeds 64",
    ("my_net.py", "--seeds", "4"): "must take a key for --seeds",
    ("my_net.py", "--seeds", "0"): "--seeds must be at least 1",
    ("my_net.py:other",): "has no function other",
    ("my_net.py:wrong",): "must return loss, parameters, data",
    ("my_net.py:breaks",): "ZeroDivisionError",
    ("nothing.py",): "nothing.py does not exist",
    ("my_net",): "name a Python file and its function",
}


@pytest.mark.parametrize("words", ANSWERS)
def test_the_command_answers_in_a_line(words, folder):
    done = script("examine", *words, cwd=folder)
    told = done.stdout + done.stderr
    assert ANSWERS[words] in told
    assert "Traceback" not in told
    assert (done.returncode == 0) == (words[0] == "my_net.py:drawn" and "4" in words)


def test_what_was_watched_is_stored_and_read(tmp_path):
    watch = fadeout.watch(deep, every=2)
    parameters = small(KEY)
    for _ in range(7):
        _, gradients = watch(parameters, jnp.ones((4, 48)))
        parameters = jax.tree.map(lambda p, g: p - g, parameters, gradients)
    with pytest.raises(FadeoutError, match="no results under"):
        fadeout.load(tmp_path / "mine")
    path = watch.save(tmp_path / "mine")
    found = fadeout.load(tmp_path / "mine")
    assert found.identical(watch.results)
    assert found.step.values.tolist() == [0, 2, 4, 6]
    fadeout.compare(found)
    with pytest.raises(FadeoutError, match="is there already"):
        watch.save(tmp_path / "mine")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FadeoutError, match=r"network\.nc is damaged"):
        fadeout.load(tmp_path / "mine")


def test_a_network_and_a_sweep_do_not_share_a_folder(tmp_path):
    watch = fadeout.watch(deep)
    watch(small(KEY), jnp.ones((4, 48)))
    watch.save(tmp_path / "mine")
    runs = [fadeout.Run(steps=10, probes=())]
    with pytest.raises(FadeoutError, match="holds a network of your own"):
        sweep(runs, tmp_path / "mine")
    sweep(runs, tmp_path / "other")
    with pytest.raises(FadeoutError, match="is there already"):
        watch.save(tmp_path / "other")
    assert fadeout.load(tmp_path / "other").sizes["run"] == 1


def test_most_networks_speak_for_all():
    """One network of which no gradient is left does not take the others'."""
    seen = fadeout.examine(deep, small, jax.random.normal(KEY, (64, 48)), seeds=5)
    seen["delta_norm"].values[0] = 0
    assert (one_look(seen).delta_norm > 0).all()


# --- the monitor of an optimiser


def test_a_monitor_changes_nothing_and_keeps_the_norms():
    parameters = {"a": jnp.full((4, 3), 2.0), "b": [jnp.zeros(3, jnp.bfloat16), jnp.float32(1e30)]}
    gradients = jax.tree.map(lambda p: jnp.full(p.shape, 3, p.dtype), parameters)
    plain, own = optax.adam(0.1), fadeout.monitor(optax.adam(0.1), every=3)
    state, other = own.init(parameters), plain.init(parameters)
    sizes = []
    for step in range(5):
        updates, state = jax.jit(own.update)(gradients, state, parameters)
        wanted, other = jax.jit(plain.update)(gradients, other, parameters)
        jax.tree.map(np.testing.assert_array_equal, updates, wanted)
        if step % 3 == 0:
            last = updates, parameters
        parameters = optax.apply_updates(parameters, updates)
        sizes.append(optax.tree.get(state, "update_norm"))
        for name, tree in (("update_norm", last[0]), ("parameter_norm", last[1])):
            norms = jax.tree.map(lambda x: np.linalg.norm(np.asarray(x, np.float64)), tree)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, 1e-5),
                optax.tree.get(state, name), norms,
            )  # fmt: skip
    assert float(optax.tree.get(state, "gradient_norm")["a"]) == pytest.approx(3 * np.sqrt(12))
    assert sizes[0] == sizes[1] == sizes[2]
    assert int(state.count) == 5


def test_a_monitor_says_when_a_gradient_was_first_not_finite():
    optimizer = optax.chain(optax.identity(), fadeout.monitor(optax.sgd(0.1), every=2))
    parameters = {"a": jnp.ones(3), "b": jnp.ones(2)}

    def step(state, number):
        gradients = {"a": jnp.where(number >= 3, jnp.nan, jnp.ones(3)), "b": jnp.ones(2)}
        return optimizer.update(gradients, state, parameters)[1], None

    state, _ = jax.lax.scan(step, optimizer.init(parameters), jnp.arange(8))
    assert {k: int(v) for k, v in optax.tree.get(state, "not_finite").items()} == {"a": 4, "b": -1}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fadeout.monitor(0.1), "takes an optimiser of optax"),
        (lambda: fadeout.monitor(optax.sgd(0.1), every=0), "every must be a whole number"),
        (lambda: fadeout.examine(deep, small, X, seeds=True), "seeds must be a whole number"),
        (lambda: fadeout.examine(deep, lambda: 1, X, seeds=2), "that makes parameters fails"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(FadeoutError, match=words):
        call()


def test_a_module_is_drawn_by_its_key():
    class Net(nnx.Module):
        def __init__(self, rngs):
            init = nnx.initializers.normal(0.02)
            self.layers = nnx.List(
                [nnx.Linear(4, 4, kernel_init=init, rngs=rngs) for _ in range(5)]
            )

        def __call__(self, x):
            for layer in self.layers:
                x = nnx.tanh(layer(x))
            return x

    seen = fadeout.examine(
        lambda model, x: jnp.mean(model(x)), lambda key: Net(nnx.Rngs(key)), X, seeds=3
    )
    assert len(np.unique(seen.weight_norm[:, 0])) == 3
    assert "tried on 3 networks" in seen.attrs["advice"]
