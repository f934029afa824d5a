"""Which functions of a user's own a run uses, told apart by what they compute.

Every function is traced with the shapes, the dtype and the static options of the run, and the
traced program is hashed (`networks.jaxprs`). Tracing takes about ten milliseconds. Indexing many
runs therefore remembers what it has traced. What a user changes between two sweeps is seen.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fadeout.config import Run
from fadeout.networks.activations import TRIAL_SHAPES, bind_static, is_by_layer, value_and_vjp
from fadeout.networks.initializers import DRAWN
from fadeout.networks.jaxprs import digest, memoized, memoizing
from fadeout.networks.layers import Layer, Layers, Path
from fadeout.networks.optimizers import OPTIMIZERS  # noqa: F401 - fills its table
from fadeout.networks.probes import PROBES
from fadeout.networks.remedies import PLAIN, Remedy
from fadeout.networks.settings import standard_settings
from fadeout.networks.tasks import INPUTS, call_task, classes_of, example_shapes
from fadeout.registry import (
    CONTENTS,
    TABLES,
    FadeoutError,
    entry_function,
    is_builtin,
    parameters,
    user_errors,
)
from fadeout.schema import Choice, kinds, sections_of, static_options
from fadeout.training.initialization import depth_bucket, network_shapes

GROUPS = tuple(n for n in sections_of(Run) if issubclass(kinds(Run)[n][0], Choice))
"""The sections that name an entry of a table."""


def sources_of(run: Run) -> tuple[str, ...]:
    """The kind, the name and the digest of every function of a user's own that a run uses; of what
    reads a file or arrays, a digest of these.

    Args:
      run: with the defaults of its sections written out.
    """
    with memoizing():
        found = []
        for kind in GROUPS:
            section = getattr(run, kind)
            if kind == "activation" and is_by_layer(section.name):
                continue  # of the package's own
            found.append((kind, section.name, dict(section.options)))
        found += [("probe", name, {}) for name in run.probes]
        return tuple(
            f"{kind} {name} {told}"
            for kind, name, options in found
            if (told := _source(run, kind, name, options))
        )


def _source(run: Run, kind: str, name: str, options: dict) -> str:
    function = entry_function(TABLES[kind][name])
    if function in CONTENTS:
        return CONTENTS[function](**options)
    if is_builtin(function):
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
    function = entry_function(TABLES[kind][name])
    static = static_options(options)
    shapes = _SHAPES[kind](run)
    what = f"{kind} {name}"

    def compute() -> str:
        dtype = run.training.dtype
        with standard_settings(dtype == "float64"):
            floats = {
                key: jax.ShapeDtypeStruct((), dtype)
                for key, p in parameters(function).items()
                if p.kind is float and key in options
            }
            traced, arguments = _TRACED[kind](run, bind_static(function, static), shapes, floats)
            with user_errors(what):
                return digest(traced, *arguments, what=what) + _declared(run, kind, name)

    names = tuple(sorted(options))
    return memoized((kind, function, static, names, shapes, run.training.dtype), compute)


def _declared(run: Run, kind: str, name: str) -> str:
    """Returns the arguments of the decorator that decide a number."""
    if kind == "probe":
        entry, flags = PROBES[name], ("readout", "whole", "path", "gradient")
        return "".join(f"+{word}" for word in flags if getattr(entry, word))
    if kind == "task":
        return f"+{classes_of(name, dict(run.task.options))}"
    return ""


def _array(*shape: int, dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))


def _trace_activation(run: Run, function: Callable, shapes: tuple, floats: dict):
    """Value and slope, so that custom rules are in the digest."""
    dtype = run.training.dtype
    several = tuple(_array(*shape, dtype=dtype) for shape in TRIAL_SHAPES)

    def both(several, floats):
        found = [value_and_vjp(lambda z: function(z, **floats), z) for z in several]
        for (value, _), z in zip(found, several, strict=True):
            if (value.shape, value.dtype) != (z.shape, z.dtype):
                raise FadeoutError(
                    f"activation {run.activation.name} gives {value.dtype} of {value.shape} where "
                    f"it is given {z.dtype} of {z.shape}"
                )
        return found

    return both, (several, floats)


def _trace_init(run: Run, function: Callable, shapes: tuple, floats: dict):
    def kernels(key, floats):
        return [function(key, shape, DRAWN, **floats) for shape in dict.fromkeys(shapes)]

    return kernels, (_key(), floats)


def _trace_task(run: Run, function: Callable, shapes: tuple, floats: dict):
    return lambda key, floats: call_task(function, key, INPUTS[run.task.inputs], floats), (
        _key(),
        floats,
    )


def _network(run: Run, shapes: tuple) -> Any:
    """The shapes of a run's network, its hidden layers stacked as its program has them."""
    features, outputs, room = shapes[:3]
    return network_shapes(run, features, outputs, room)


def _trace_optimizer(run: Run, function: Callable, shapes: tuple, floats: dict):
    """Its first state, and a step of the run's own network."""
    network = _network(run, shapes)

    def step(rate, floats, gradients, network):
        optimizer = function(rate, **floats)
        state = optimizer.init(network)
        updates, after = optimizer.update(gradients, state, network)
        if _kinds(state) != _kinds(after):
            raise FadeoutError(
                f"optimizer {run.optimizer.name} changes the shapes or dtypes of its state"
            )
        return after, updates

    return step, (_array(dtype=run.training.dtype), floats, network, network)


def _kinds(tree: Any) -> tuple:
    """The structure of a tree, and the shapes and dtypes in it."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def _trace_probe(run: Run, function: Callable, shapes: tuple, floats: dict):
    """Traces a probe on layers shaped like the run's own, with their gains and factors."""
    dtype, examples, network = run.training.dtype, shapes[3], _network(run, shapes)
    normalised = run.model.normalization != "none"

    def layer(part: Any, activation: bool, stacked: bool = False) -> Layer:
        lead = part.kernel.shape[:-2]
        fan_in, fan_out = part.kernel.shape[-2:]
        kernel = _array(*lead, fan_in, fan_out, dtype=dtype)
        out, scalar = _array(*lead, examples, fan_out, dtype=dtype), _array(*lead, dtype=dtype)
        below = _array(*lead, examples, fan_in, dtype=dtype)
        own = {
            name: jax.ShapeDtypeStruct(parameter.shape, dtype)
            for name in ("gain", "shift", "factor")
            if (parameter := getattr(part, name)) is not None
        }
        if activation:
            own |= {"activation": out, "slope": out, "steepest_slope": scalar}
            own |= {"preactivation": out} if normalised else {}
        path = Path(kernel, kernel, scalar)
        bias = _array(*lead, fan_out, dtype=dtype)
        return Layer(kernel, kernel, kernel, bias, out, below, path, **own)

    first, readout = layer(network.first, True), layer(network.readout, False)
    hidden = layer(network.hidden, True)
    entry = PROBES[next(n for n, e in PROBES.items() if entry_function(e) is function)]
    if entry.whole:
        residual = bool(run.model.residual)
        branch = _array(dtype=dtype) if residual else None

        def whole(first, hidden, readout, branch):
            remedy = Remedy(run.model.normalization, branch)
            return function(
                Layers(first, hidden, readout, None, None if remedy == PLAIN else remedy)
            )

        return whole, (first, hidden, readout, branch)
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), hidden)
    layers = [first, one] + [readout] * entry.readout
    return lambda *layers: [function(layer) for layer in layers], tuple(layers)


_TRACED: dict[str, Callable] = {
    "activation": _trace_activation, "init": _trace_init, "task": _trace_task,
    "optimizer": _trace_optimizer, "probe": _trace_probe,
}  # fmt: skip


def _sizes(run: Run) -> tuple:
    """The features and outputs of a run, for how many hidden layers its program has room, and how
    many examples it is trained on."""
    examples, features = memoized(
        ("shapes", run.task, run.training.dtype),
        lambda: example_shapes(run.task, run.training.dtype),
    )
    classes = classes_of(run.task.name, dict(run.task.options))
    depth = run.model.depth
    room = depth_bucket(depth) if jax.default_backend() == "cpu" else depth
    model = run.model.width, run.model.normalization, run.model.affine, run.model.residual_scale
    outputs = classes if classes > 2 else 1
    return (
        features,
        outputs,
        room,
        examples - run.training.held_out,
        model,
        bool(run.model.residual),
    )


def _kernel_shapes(run: Run) -> tuple:
    """The shapes of a run's first, hidden and last kernels."""
    features, outputs = _sizes(run)[:2]
    width = run.model.width
    return (features, width), (width, width), (width, outputs)


_SHAPES: dict[str, Callable[[Run], tuple]] = {
    "activation": lambda run: (),
    "init": _kernel_shapes,
    "task": lambda run: (run.task.inputs,),
    "optimizer": _sizes,
    "probe": _sizes,
}
"""What of a run decides how a function is traced, besides its options and the dtype."""
