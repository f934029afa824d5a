"""Which functions of a user's own a run uses, told apart by what they compute.

Every function is traced with the shapes, the dtype and the static options of the run, and the
traced program is hashed (`networks.jaxprs`). Tracing takes about ten milliseconds. A survey of many
runs therefore remembers what it has traced; what a user changes between two surveys is seen.
"""

from collections.abc import Callable
from typing import Any

import jax

from fadeout.config import Run
from fadeout.networks.activations import bound, value_and_vjp
from fadeout.networks.initializers import DRAWN
from fadeout.networks.jaxprs import digest, once, remembering
from fadeout.networks.layers import Layer, Layers, Path
from fadeout.networks.optimizers import OPTIMIZERS  # noqa: F401 - fills its table
from fadeout.networks.probes import PROBES
from fadeout.networks.settings import standard
from fadeout.networks.tasks import INPUTS, call, classes_of, declared_classes, example_shapes
from fadeout.registry import (
    CONTENTS,
    TABLES,
    function_in,
    is_own,
    parameters,
    tried,
)
from fadeout.schema import Entry, kinds, sections_of

GROUPS = tuple(n for n in sections_of(Run) if issubclass(kinds(Run)[n][0], Entry))
"""The sections that name an entry of a table."""


def sources_of(run: Run) -> tuple[str, ...]:
    """The kind, the name and the digest of every function of a user's own that a run uses; of what
    reads a file or arrays, a digest of these.

    Args:
      run: with the defaults of its sections written out.
    """
    with remembering():
        found = []
        for kind in GROUPS:
            section = getattr(run, kind)
            found.append((kind, section.name, dict(section.options)))
        found += [("probe", name, {}) for name in run.probes]
        return tuple(
            f"{kind} {name} {told}"
            for kind, name, options in found
            if (told := _source(run, kind, name, options))
        )


def _source(run: Run, kind: str, name: str, options: dict) -> str:
    function = function_in(TABLES[kind][name])
    if function in CONTENTS:
        return CONTENTS[function](**options)
    if is_own(function):
        return ""
    return function_digest(run, kind, name, options)


def function_digest(run: Run, kind: str, name: str, options: dict[str, Any]) -> str:
    """The digest of one function of a user's own.

    Args:
      run: whose shapes and dtype it is traced with.
      options: of the function, of which the floats are traced.

    Raises:
      FadeoutError: it cannot be traced, calls back into Python, or is another program each time.
    """
    function = function_in(TABLES[kind][name])
    static = tuple(sorted((k, v) for k, v in options.items() if not isinstance(v, float)))
    shapes = _SHAPES[kind](run)
    what = f"{kind} {name}"

    def compute() -> str:
        dtype = run.training.dtype
        with standard(dtype == "float64"):
            floats = {
                key: jax.ShapeDtypeStruct((), dtype)
                for key, p in parameters(function).items()
                if p.kind is float and key in options
            }
            traced, arguments = _TRACED[kind](run, bound(function, static), shapes, floats)
            with tried(what):
                return digest(traced, *arguments, what=what) + _declared(kind, name)

    names = tuple(sorted(options))
    return once((kind, function, static, names, shapes, run.training.dtype), compute)


def _declared(kind: str, name: str) -> str:
    """What the decorator was told beside the function, where it decides a number."""
    if kind == "probe":
        entry = PROBES[name]
        flags = [word for word in ("readout", "whole", "path") if getattr(entry, word)]
        return "".join(f" {word}" for word in flags).replace(" ", "+")
    if kind == "task":
        classes = declared_classes(name)
        return "" if classes is None else f"+{classes}"
    return ""


def _array(*shape: int, dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))


def _trace_activation(run: Run, function: Callable, shapes: tuple, floats: dict):
    """Value and slope, so that custom rules are in the digest."""
    z = _array(2, 3, dtype=run.training.dtype)
    return lambda z, floats: value_and_vjp(lambda z: function(z, **floats), z), (z, floats)


def _trace_init(run: Run, function: Callable, shapes: tuple, floats: dict):
    def kernels(key, floats):
        return [function(key, shape, DRAWN, **floats) for shape in dict.fromkeys(shapes)]

    return kernels, (_key(), floats)


def _trace_task(run: Run, function: Callable, shapes: tuple, floats: dict):
    return lambda key, floats: call(function, key, INPUTS[run.task.inputs], floats), (
        _key(),
        floats,
    )


def _trace_optimizer(run: Run, function: Callable, shapes: tuple, floats: dict):
    """Its first state, and a step on kernels and biases of the run's shapes."""
    dtype = run.training.dtype
    network = [{"kernel": _array(*s, dtype=dtype), "bias": _array(s[1], dtype=dtype)}
               for s in shapes]  # fmt: skip

    def step(rate, floats, gradients, network):
        optimizer = function(rate, **floats)
        state = optimizer.init(network)
        updates, state = optimizer.update(gradients, state, network)
        return state, optimizer.update(updates, state, network)

    return step, (_array(dtype=dtype), floats, network, network)


def _trace_probe(run: Run, function: Callable, shapes: tuple, floats: dict):
    dtype, (first, width, readout), examples = run.training.dtype, shapes[:3], shapes[3]

    def layer(shape: tuple[int, int], activation: bool) -> Layer:
        kernel, out = _array(*shape, dtype=dtype), _array(examples, shape[1], dtype=dtype)
        scalar = _array(dtype=dtype)
        below = _array(examples, shape[0], dtype=dtype)
        path = Path(kernel, kernel, scalar)
        slopes = (out, out, scalar) if activation else (None, None, None)
        return Layer(
            kernel, kernel, kernel, _array(shape[1], dtype=dtype), out, below, path, *slopes
        )

    entry = PROBES[next(n for n, e in PROBES.items() if function_in(e) is function)]
    if entry.whole:
        stack = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((2, *a.shape), a.dtype), layer(width, True)
        )
        return function, (Layers(layer(first, True), stack, layer(readout, False)),)
    layers = [layer(first, True), layer(width, True)] + [layer(readout, False)] * entry.readout
    return lambda *layers: [function(layer) for layer in layers], tuple(layers)


_TRACED: dict[str, Callable] = {
    "activation": _trace_activation, "init": _trace_init, "task": _trace_task,
    "optimizer": _trace_optimizer, "probe": _trace_probe,
}  # fmt: skip


def _kernel_shapes(run: Run) -> tuple:
    """The shapes of a run's first, hidden and last kernels, and how many examples there are."""
    examples, features = once(
        ("shapes", run.task, run.training.dtype),
        lambda: example_shapes(run.task, run.training.dtype),
    )
    classes = classes_of(run.task.name, dict(run.task.options))
    width, outputs = run.model.width, classes if classes > 2 else 1
    return (features, width), (width, width), (width, outputs), examples - run.training.held_out


_SHAPES: dict[str, Callable[[Run], tuple]] = {
    "activation": lambda run: (),
    "init": lambda run: _kernel_shapes(run)[:3],
    "task": lambda run: (run.task.inputs,),
    "optimizer": lambda run: _kernel_shapes(run)[:3],
    "probe": _kernel_shapes,
}
"""What of a run decides how a function is traced, besides its options and the dtype."""
