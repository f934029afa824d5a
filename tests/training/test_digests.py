"""Who a user's function is: what it computes, by whatever way it reaches it, and nothing else."""

import functools
import importlib
import subprocess
import sys
import textwrap
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

import fadeout
from conftest import SMALL
from fadeout import extensions
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task
from fadeout.networks.jaxprs import digest, mixing_primitive, trace
from fadeout.networks.tasks import circles
from fadeout.registry import FadeoutError
from fadeout.training.resolve import identity, resolve

SHORT = {"model": Model(1, 4), "training": SMALL, "probes": ()}
Z = jax.ShapeDtypeStruct((2, 3), jnp.float32)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A user's package with helpers at some distance; gives its folder."""
    monkeypatch.setattr(extensions, "LOADED", {})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deeper.py").write_text("BY = 2.0\ndef bend(z):\n    return BY * z\n")
    (package / "near.py").write_text("from . import deeper\ndef bend(z): return deeper.bend(z)\n")
    (package / "far.py").write_text(
        "from their_package import deeper\ndef bend(z): return deeper.bend(z)\n"
    )
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("their_package")]:
        del sys.modules[name]


def forget():
    for name in [n for n in sys.modules if n.startswith("their_package")]:
        del sys.modules[name]
    extensions.LOADED.clear()


@pytest.mark.parametrize("way", ["near", "far"])
def test_a_changed_helper_is_another_run_however_it_is_imported(lab, way):
    path = lab / "my_lab.py"
    path.write_text(
        f"import fadeout\nfrom their_package import {way}\n"
        f"@fadeout.activation\ndef bent(z): return {way}.bend(z)\n"
    )
    extensions.load_extensions([str(path)])
    run = Run(Activation("bent"), **SHORT)
    before = identity(run)
    deeper = lab / "their_package" / "deeper.py"
    deeper.write_text(
        "BY = 2.0  # a comment\n\ndef bend(z):\n    twice = z * BY\n    return BY * z\n"
    )
    forget()
    extensions.load_extensions([str(path)])
    assert identity(run) == before, "comments and dead code are no change"
    deeper.write_text("BY = 3.0\ndef bend(z):\n    return BY * z\n")
    assert identity(run) == before, "what was edited after it was imported is not what runs"
    forget()
    extensions.load_extensions([str(path)])
    changed = identity(run)
    assert changed != before
    deeper.write_text("BY = 4.0\ndef bend(z):\n    return BY * z\n")
    import their_package.deeper

    importlib.reload(their_package.deeper)
    assert identity(run) not in (before, changed), "a reloaded module"
    their_package.deeper.BY = 2.0
    assert identity(run) == before, "a constant on a module"


class Settings:
    by = 2.0


FEW = {"by": jnp.array([2.0, 3.0])}
left, right = (lambda z: 2 * z), (lambda z: 3 * z)


@jax.jit
def jitted(z):
    return Settings.by * z


@jax.custom_jvp
def ruled(z):
    return z


ruled.defjvp(lambda primals, tangents: (primals[0], Settings.by * tangents[0]))

WAYS = {
    "a class": (lambda z: Settings.by * z, lambda m: m.setattr(Settings, "by", 3.0)),
    "a jitted helper": (lambda z: jitted(z), lambda m: m.setattr(Settings, "by", 3.0)),
    "a custom rule": (lambda z: ruled(z), lambda m: m.setattr(Settings, "by", 3.0)),
    "an array": (lambda z: FEW["by"][1] * z,
                 lambda m: m.setitem(FEW, "by", jnp.array([2.0, 4.0]))),
    "one of two lambdas on a line": (lambda z: left(z),
                                     lambda m: m.setitem(globals(), "left", right)),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_function_reaches_is_in_its_identity(way, monkeypatch):
    body, change = WAYS[way]

    @fadeout.activation
    def reaching(z):
        return body(z)

    run = Run(Activation(reaching), **SHORT)
    before = identity(run)
    assert identity(run) == before
    change(monkeypatch)
    assert identity(run) != before


@pytest.mark.few("tanh")
def test_a_jitted_helper_trains_as_it_is_now(monkeypatch):
    """JAX remembers it as it was when it was first traced."""

    @fadeout.activation
    def helped(z):
        return jnp.tanh(jitted(z))

    run = Run(Activation(helped), **SHORT)
    losses = []
    for by in (2.0, 3.0, 2.0):
        monkeypatch.setattr(Settings, "by", by)
        losses.append(fadeout.train(run, cache=None, quiet=True).loss.values)
    np.testing.assert_array_equal(losses[0], losses[2])
    assert not np.array_equal(losses[0], losses[1])


def test_names_around_a_function_are_nothing_to_it(monkeypatch):
    """A key, a dataset, a list that holds itself: none is looked at."""
    endless: list = []
    endless.append(endless)
    names = {"tanh": xr.Dataset(), "sin": jax.random.key(0), "reaches": endless}

    @fadeout.activation
    def plain_sine(z):
        return jnp.sin(z)

    before = identity(Run(Activation(plain_sine), **SHORT))
    for name, value in names.items():
        monkeypatch.setitem(globals(), name, value)
    assert identity(Run(Activation(plain_sine), **SHORT)) == before
    assert identity(Run("relu"))


CALLS: list = []


def test_what_is_another_program_each_time_is_refused():
    @fadeout.activation
    def counting(z):
        CALLS.append(1)
        return z * 1.0

    run = Run(Activation(counting), **SHORT)
    assert identity(run) == identity(run), "a list that grows changes no number"

    with pytest.raises(FadeoutError, match="activation drifting, traced twice, is two programs"):

        @fadeout.activation
        def drifting(z):
            return z * (1.0 + np.random.default_rng().normal())

    assert identity(Run("relu")), "another run knows nothing of it"

    @fadeout.task
    def drawn(key, *, examples: int = 4):
        return np.random.default_rng().normal(size=(examples, 2)), np.arange(examples) % 2

    with pytest.raises(FadeoutError, match="task drawn, traced twice"):
        identity(Run(task=Task(drawn), model=Model(1, 4)))

    @fadeout.probe("asks Python")
    def asking(layer):
        return jax.pure_callback(lambda x: np.float32(x), jnp.float32(0), jnp.mean(layer.kernel))

    with pytest.raises(FadeoutError, match=r"probe asking calls back into Python"):
        identity(Run(probes=("asking",)))


def test_a_task_is_what_it_returns(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.eye(4))

    @fadeout.task
    def loaded(key):
        return np.load(path), np.arange(4) % 2

    run = Run(task=Task(loaded), **SHORT)
    before = identity(run)
    np.save(path, 2 * np.eye(4))
    assert identity(run) != before


def test_each_kind_of_function_is_known_by_what_it_computes(monkeypatch):
    monkeypatch.setattr(Settings, "by", 2.0)

    @fadeout.initializer
    def drawn(key, shape, dtype, *, scale: float = 1.0):
        return Settings.by * scale * jax.random.normal(key, shape, dtype)

    @fadeout.optimizer
    def chained(learning_rate, *, decay: float = 0.9):
        return optax.chain(optax.trace(decay), optax.scale(-Settings.by * learning_rate))

    @fadeout.probe("how wide", readout=True)
    def wide(layer, *, above: float = 1.0):
        return Settings.by * jnp.mean(layer.kernel)

    @fadeout.probe("of all", whole=True, readout=True)
    def of_all(layers):
        return Settings.by * jnp.arange(2.0 + layers.hidden.kernel.shape[0])

    @fadeout.task
    def clouds(key, *, examples: int = 8, noise: float = 0.5):
        return Settings.by + noise * jax.random.normal(key, (examples, 2)), jnp.arange(examples) % 2

    runs = [Run(init=Init(drawn, scale=2.0)), Run(optimizer=Optimizer(chained)),
            Run(probes=("wide",)), Run(probes=("of_all",)), Run(task=Task(clouds))]  # fmt: skip
    before = [identity(run) for run in runs]
    assert before == [identity(run) for run in runs]
    assert identity(Run(init=Init(drawn, scale=3.0))) != before[0]
    words = [source.rsplit(" ", 1)[0] for run in runs for source in resolve(run).sources]
    assert words == ["init drawn", "optimizer chained", "probe wide", "probe of_all", "task clouds"]
    monkeypatch.setattr(Settings, "by", 3.0)
    assert not set(before) & {identity(run) for run in runs}


def test_the_same_function_is_the_same_in_every_process():
    code = textwrap.dedent("""
        import fadeout, jax.numpy as jnp
        @fadeout.activation
        def cubic(z, *, by: float = 1.0, power: int = 3):
            return by * z**power / jnp.float32(7) + jnp.array([1.0, 2.0])[1]
        print(fadeout.identity(fadeout.Run(cubic)))
    """)
    told = [
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        for text in (code, "import jax; jax.random.key(1)\n" + code)
    ]
    assert told[0].stdout == told[1].stdout


KNOTS = jnp.linspace(-1, 1, 5)
ELEMENTWISE = {
    "a polynomial": lambda z: jnp.polyval(jnp.array([1.0, 2.0, 3.0]), z),
    "a table": lambda z: jnp.interp(z, KNOTS, KNOTS**2),
    "a spline": lambda z: jnp.sum(jnp.maximum(z[..., None] - KNOTS, 0), -1),
    "pieces": lambda z: jnp.piecewise(z, [z < 0, z >= 0], [jnp.sin, jnp.cos]),
    "a loop": lambda z: jax.lax.fori_loop(0, 3, lambda i, x: jnp.sin(x), z),
    "a series": lambda z: jax.lax.scan(lambda x, a: (a + x * z, x), 0 * z, KNOTS)[0],
    "a basis": lambda z: jnp.exp(-((z[..., None] - KNOTS) ** 2)) @ jnp.ones(5),
    "a stack": lambda z: jnp.max(jnp.stack([z, 0.1 * z]), 0),
    "branches": lambda z: jnp.select([z < 0, z > 1], [z, z**2], 0.0),
}
MIXING = {
    "sort": jnp.sort, "reduce_max": jax.nn.softmax, "cumsum": lambda z: jnp.cumsum(z, -1),
    "rev": lambda z: z[::-1], "dot_general": lambda z: z @ jnp.eye(3),
    "sub": lambda z: (z[:, :, None] - z[:, None, :]).sum(-1),
    "top_k": lambda z: jnp.where(z >= jax.lax.top_k(z, 1)[0], z, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ELEMENTWISE, *MIXING])
def test_elementwise_is_read_from_the_program(name):
    function = (ELEMENTWISE | MIXING)[name]

    def both(z):
        value, pull = jax.vjp(function, z)
        return value, pull(jnp.ones_like(value))[0]

    found = mixing_primitive(trace(both, Z))
    assert found == (None if name in ELEMENTWISE else name)
    jacobian = jax.jacfwd(lambda z: function(z).ravel())(jnp.arange(6.0).reshape(2, 3) % 4 - 1.3)
    alone = not (jacobian.reshape(6, 6) * (1 - np.eye(6))).any()
    assert alone or found


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_half_precision_inside_is_no_fault(kind):
    def half(z):
        return jnp.tanh(z.astype(kind)).astype(z.dtype)

    fadeout.activation(half)


def test_two_ways_to_write_a_function_are_one():
    assert digest(lambda z: jnp.tanh(2 * z), Z) == digest(jax.jit(lambda x: jnp.tanh(2 * x)), Z)
    assert digest(lambda z: jnp.tanh(2 * z), Z) != digest(lambda z: jnp.tanh(2.5 * z), Z)
    assert digest(lambda z: jnp.sin(z), Z) != digest(jnp.sin, jax.ShapeDtypeStruct((3,), "float32"))


BY = 1.0


@functools.wraps(circles)
def wrapped(key, **options):
    return circles(key)


def by_place(z):
    return jnp.where(jax.random.bernoulli(jax.random.key(1), 0.9, z.shape), jnp.tanh(z), 0)


@jax.custom_vjp
def clipped(z):
    return jnp.tanh(z)


clipped.defvjp(
    lambda z: (jnp.tanh(z), z), lambda z, g: (jnp.clip(g, -1e-2, 1e-2) / jnp.cosh(z) ** 2,)
)


@jax.custom_vjp
def guided(z):
    return jnp.tanh(z)


guided.defvjp(
    lambda z: (jnp.tanh(z), z), lambda z, g: (jnp.maximum(g, 0) * (1 - jnp.tanh(z) ** 2),)
)


@jax.custom_vjp
def dropping(z):
    return jnp.tanh(z)


dropping.defvjp(
    lambda z: (jnp.tanh(z), z),
    lambda z, g: (jnp.where(jnp.abs(g) < 1e-5, 0, g) * (1 - jnp.tanh(z) ** 2),),
)

ODD = {
    "guided backpropagation": (fadeout.activation, lambda z: guided(z), "not linear in the grad"),
    "small gradients dropped": (fadeout.activation, lambda z: dropping(z), "not linear in the g"),
    "the name of an axis": (fadeout.activation, lambda z, *, step=1.0: step * z, "there already"),
    "a name of the package": (fadeout.task, wrapped, "already a task circles"),
    "random places": (fadeout.activation, by_place, "with what differs from place to place"),
    "a clipped gradient": (fadeout.activation, lambda z: clipped(z), "not linear in the gradient"),
    "another rank": (fadeout.activation, lambda z: z - z.mean(0) if z.ndim == 3 else z, "reduce_"),
    "two axes alone": (fadeout.activation, lambda z: z[:, :][range(z.shape[0])] if z.ndim == 2
                       else z.no_such, "cannot be traced"),
    "no function": (fadeout.activation, int, "define it with def"),
}  # fmt: skip


@pytest.mark.parametrize("way", ODD)
def test_what_only_seems_to_be_elementwise_or_ones_own_is_refused(way):
    decorator, function, words = ODD[way]
    if getattr(function, "__name__", "") == "<lambda>":
        function.__name__ = "odd"
    with pytest.raises(FadeoutError, match=words):
        decorator(function)


def test_functions_are_traced_as_the_run_calls_them(monkeypatch):
    """The real network with its stack, gains where there are any, the number of classes."""

    @fadeout.optimizer
    def by_rank(learning_rate):
        def update(gradients, state, parameters=None):
            def step(g):
                return -learning_rate * g * (BY if g.ndim == 3 else 1.0)

            return jax.tree.map(step, gradients), state

        return optax.GradientTransformation(lambda _: optax.EmptyState(), update)

    @fadeout.probe("gains")
    def gains(layer):
        return jnp.zeros(()) if layer.gain is None else BY * jnp.mean(layer.gain)

    @fadeout.probe("of many", whole=True)
    def of_many(layers):
        count = layers.hidden.kernel.shape[0]
        return jnp.ones(count + 1) * (BY if count > 4 else 1.0)

    @fadeout.task(classes=lambda **_: int(1 + BY))
    def two(key):
        return jnp.ones((4, 2)), jnp.arange(4) % 2

    runs = [
        Run(optimizer=Optimizer(by_rank), model=Model(3, 4)),
        Run(probes=("gains",), model=Model(2, 4, normalization="layer", affine=True)),
        Run(probes=("of_many",), model=Model(6, 4, residual=1.0, residual_scale="zero")),
        Run(task=Task(two)),
    ]
    before = [identity(run) for run in runs]
    monkeypatch.setitem(globals(), "BY", 3.0)
    assert not set(before) & {identity(run) for run in runs}

    def growing(learning_rate):
        return optax.GradientTransformation(
            lambda _: (), lambda g, state, p=None: (g, (*state, jnp.ones(())))
        )

    fadeout.optimizer(growing)
    with pytest.raises(FadeoutError, match="changes the shapes or dtypes of its state"):
        identity(Run(optimizer=Optimizer(growing)))


@pytest.mark.few("tanh")
def test_a_users_activation_of_another_precision_leaves_others_alone():
    @fadeout.activation
    def single(z):
        return jnp.tanh(z.astype(jnp.float32))

    double = replace(SMALL, dtype="float64")
    run = Run(model=Model(1, 4), training=double, probes=())
    assert fadeout.train(run, cache=None, quiet=True).loss.dtype == np.float64
    with pytest.raises(FadeoutError, match="activation single gives float32"):
        identity(Run(Activation(single), training=double))
