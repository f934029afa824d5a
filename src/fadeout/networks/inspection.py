"""What every layer of a network of a user's own shows, with its loss and gradients, in one program.

`tapped` is the functional core, for any function of parameters and data. `functional` makes such a
function of a module of Flax.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from fadeout.networks import taps
from fadeout.networks.layers import Layer
from fadeout.networks.norms import average, norm, root_mean_square
from fadeout.networks.probes import PROBES
from fadeout.networks.taps import Seen, WeightedSum
from fadeout.registry import FadeoutError, user_errors

_PROBES_ALWAYS = ("gradient_norm", "delta_norm", "weight_norm", "one_sided")
_PROBES_WITH_SLOPE = ("activation_mean", "activation_std", "saturation", "dead_units")
"""Those of layers with an activation function."""

_LAST_WORDS = ("kernel", "weight", "embedding", "w")
"""What the path of a layer does without, at its end."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values"],
    meta_fields=["layers", "kinds", "units", "unseen"],
)
@dataclass(frozen=True)
class Look:
    """What every layer showed in one call.

    Attributes:
      values: by name, [layer].
      layers: their labels, in the order of calls: the paths of their parameters.
      kinds: dense, convolution or embedding.
      units: how many each has.
      unseen: parameters of two axes and more that no weighted sum was found of.
    """

    values: dict[str, Array]
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[int, ...]
    unseen: tuple[str, ...]


def tapped(loss: Callable, has_aux: bool = False) -> Callable:
    """A loss with its gradients, and what every layer shows, all in one program.

    The result may be jitted, mapped, scanned and carried. Its layers are the weighted sums in which
    parameters meet data: matrix products, convolutions and lookups, in any framework, also inside
    of jit, remat, scan and cond.

    Args:
      loss: of parameters and data, gives a real number; with `has_aux`, that and anything else.
        The parameters are any tree with arrays in it, or a module of flax.nnx.

    Returns:
      A function of the same arguments. It gives what `jax.value_and_grad(loss, has_aux=has_aux)`
      gives, and a `Look`.

    Raises:
      FadeoutError: when it is called, if the loss is no real number, or has no weighted sum of
        parameters and data.

    >>> def loss(parameters, x):
    ...     return jnp.mean(jnp.tanh(x @ parameters["below"]) @ parameters["above"])
    >>> parameters = {"above": jnp.ones((3, 1)), "below": jnp.ones((2, 3))}
    >>> value, gradients, look = jax.jit(tapped(loss))(parameters, jnp.eye(2))
    >>> look.layers, look.values["delta_norm"].shape
    (('below', 'above'), (2,))
    """
    if not callable(loss):
        raise FadeoutError(f"a loss must be a function of parameters and data, not {loss!r:.60}")
    own = functools.partial(_tapped, loss, has_aux)
    return functools.wraps(loss)(_any_tree(own, loss, has_aux))


@functools.cache
def jitted(loss: Callable, has_aux: bool = False, states: int = 0) -> Callable:
    """`tapped(loss, has_aux)`, compiled once for every shape.

    Args:
      states: how many of its arguments after the parameters are a network's other state.
    """
    own = functools.partial(_tapped, loss, has_aux, states=states)
    return _any_tree(jax.jit(own), loss, has_aux)


def _any_tree(call: Callable, loss: Callable, has_aux: bool) -> Callable:
    """A function of parameters in any tree, or in a module of NNX, whose other state is updated as
    the loss leaves it."""

    def of_any(parameters: Any, *data: Any):
        if not isinstance(parameters, nnx.Module):
            return call(_Parameters.of(parameters), data)
        graph, own, state = nnx.split(parameters, nnx.Param, ...)
        pure = _pure_loss(graph, loss, has_aux)
        if hasattr(call, "lower"):
            through = jitted(pure, True, 1)
        else:
            through = _any_tree(functools.partial(_tapped, pure, True, states=1), pure, True)
        (value, (aux, state)), gradients, look = through(own, state, *data)
        nnx.update(parameters, state)
        return (value, aux) if has_aux else value, gradients, look

    return of_any


@functools.cache
def _pure_loss(graph: Any, loss: Callable, has_aux: bool) -> Callable:
    """A loss of a module of NNX as one of its parameters and its other state, which it returns."""

    def pure(parameters, state, *data):
        own = nnx.merge(graph, parameters, state, copy=True)
        found = loss(own, *data)
        value, aux = found if has_aux else (found, None)
        return value, (aux, nnx.split(own, nnx.Param, ...)[2])

    return pure


def _tapped(
    loss: Callable, has_aux: bool, tree: "_Parameters", data: tuple, states: int = 0
) -> tuple[Any, Any, Look]:
    fixed = len(jax.tree.leaves(data[:states]))
    given, data_tree = jax.tree.flatten(data)
    kept: list = []

    def flat(*arguments):
        own, rest = arguments[: len(tree.leaves)], arguments[len(tree.leaves) :]
        found = loss(tree.whole(own), *jax.tree.unflatten(data_tree, rest))
        value, aux = found if has_aux else (found, ())
        value = jnp.asarray(value)
        if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
            raise FadeoutError(
                f"a loss must be one real number, not of shape {value.shape} and {value.dtype}: "
                "take its mean"
            )
        leaves, aux_tree = jax.tree.flatten(aux)
        kept[:] = [aux_tree]
        return value, *leaves

    arguments = [*tree.leaves, *map(_as_array, given)]
    seeing = taps.trace(flat, len(tree.leaves), fixed, arguments)
    _, shapes = jax.eval_shape(lambda own: seeing.run(own, None), arguments)
    zeros = taps.zeros_for(shapes)

    def with_taps(own, zeros):
        outs, seen = seeing.run([*own, *arguments[len(own) :]], zeros)
        return outs[0], (outs[1:], seen)

    both = jax.value_and_grad(with_taps, argnums=(0, 1), has_aux=True)
    (value, (aux, seen)), (gradients, deltas) = both(tree.leaves, zeros)
    look = _look(seeing, tree, gradients, seen, deltas)
    value = (value, jax.tree.unflatten(kept[0], aux)) if has_aux else value
    return value, tree.gradients(gradients), look


def _as_array(leaf: Any) -> Array:
    try:
        return jnp.asarray(leaf)
    except TypeError as error:
        raise FadeoutError(
            f"data must be arrays or numbers, not {leaf!r:.60}: close over the rest"
        ) from error


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["leaves", "arrays"],
    meta_fields=["paths", "others", "tree"],
)
@dataclass(frozen=True)
class _Parameters:
    """The real arrays of a tree, and all else in it.

    Attributes:
      leaves: its parameters; `arrays`, what other arrays it has.
      paths: of the parameters.
      others: of each leaf: `leaf`, `array`, or itself.
    """

    leaves: list[Array]
    arrays: list[Array]
    paths: tuple[str, ...]
    others: tuple
    tree: Any

    @classmethod
    def of(cls, parameters: Any) -> "_Parameters":
        """
        Raises:
          FadeoutError: no leaf is a real array.
        """
        found, tree = jax.tree_util.tree_flatten_with_path(parameters)
        leaves, arrays, paths, others = [], [], [], []
        for path, leaf in found:
            array = hasattr(leaf, "dtype") and hasattr(leaf, "shape")
            if array and jnp.issubdtype(leaf.dtype, jnp.floating):
                leaves.append(jnp.asarray(leaf))
                if len(path) > 1 and getattr(path[-1], "name", "") == "value":  # of an nnx.Param
                    path = path[:-1]
                paths.append(jax.tree_util.keystr(path, simple=True, separator="/"))
                others.append("leaf")
            elif array:
                arrays.append(leaf)
                others.append("array")
            else:
                others.append(leaf)
        if not leaves:
            raise FadeoutError(
                "the first argument of a loss must be its parameters, with real arrays in it, not "
                f"{type(parameters).__name__}"
            )
        return cls(leaves, arrays, tuple(paths), tuple(others), tree)

    def whole(self, leaves: Any) -> Any:
        """The tree with these parameters."""
        given, arrays = iter(leaves), iter(self.arrays)
        return jax.tree.unflatten(self.tree, [
            next(given) if other == "leaf" else next(arrays) if other == "array" else other
            for other in self.others
        ])  # fmt: skip

    def gradients(self, leaves: list[Array]) -> Any:
        """The tree with gradients, and None in the place of all else."""
        given = iter(leaves)
        return jax.tree.unflatten(
            self.tree, [next(given) if other == "leaf" else None for other in self.others]
        )


# --- from what was seen to a row for each layer


def _look(
    seeing: taps.Trace, parameters: _Parameters, gradients: list[Array], seen: list, deltas: list
) -> Look:
    sums: list[WeightedSum] = taps.flatten(seeing.sums)
    uses = Counter(own.leaf for own in sums)
    calls: Counter[str] = Counter()
    rows = []
    for own, place, passed, delta in zip(
        sums, taps.places(seeing.sums), taps.flatten(seen), taps.flatten(deltas), strict=True
    ):
        weights, gradient = parameters.leaves[own.leaf], gradients[own.leaf]
        shared = uses[own.leaf] > 1
        checked = not shared and own.leaf not in seeing.elsewhere
        values = _measure(own, passed, delta, weights, gradient, shared, checked)
        name = _label(parameters.paths[own.leaf])
        calls[name] += 1
        label = f"{name}#{calls[name]}" if calls[name] > 1 else name
        layers = next(iter(values.values())).shape[0]
        stacked = "layer" in own.loops
        for number in range(layers):
            words = f"{label}[{number}]" if stacked else label
            row = {key: value[number] for key, value in values.items()}
            rows.append(((place[0], number, place[1:]), words, own, row))
    rows.sort(key=lambda row: row[0])  # of a stack, turn by turn
    names = list(rows[0][3])
    with_sums = {*uses, *(own.bias for own in sums)}
    unseen = [
        path
        for leaf, (path, array) in enumerate(zip(parameters.paths, parameters.leaves, strict=True))
        if array.ndim > 1 and leaf not in with_sums
    ]
    return Look(
        {name: jnp.stack([row[name] for _, _, _, row in rows]) for name in names},
        tuple(words for _, words, _, _ in rows),
        tuple(own.kind for _, _, own, _ in rows),
        tuple(taps.dimensions(own)[2] for _, _, own, _ in rows),
        tuple(unseen),
    )


def _label(path: str) -> str:
    words = path.split("/")
    return "/".join(words[:-1] if len(words) > 1 and words[-1] in _LAST_WORDS else words)


def _measure(
    own: WeightedSum, seen: Seen, delta: Array, weights: Array, gradient: Array, shared: bool,
    checked: bool,
) -> dict[str, Float[Array, "layer"]]:  # fmt: skip
    """All quantities of a weighted sum, of each turn of the loops that are layers, [layer].

    Args:
      weights, gradient: of its parameter.
      shared: whether other sums use that too.
      checked: whether the gradient must be this sum's alone.
    """
    turns = [seen.z.shape[n] for n, word in enumerate(own.loops) if word == "layer"]
    layers = math.prod(turns)
    shape = own.equation.invars[1 - own.data].aval.shape

    def as_stack(a):  # [layer, ...]
        return a.reshape(layers, *a.shape[len(turns) :])

    if own.plain:
        kernel = weights.reshape(layers, *shape)
    else:
        kernel = as_stack(_without_time(own, seen.kernel))
    if own.kind == "embedding" or (shared and own.plain):
        contribution = gradient.reshape(layers, *shape)
    else:
        like = own.equation.invars[1 - own.data].aval
        like = jax.ShapeDtypeStruct(like.shape, like.dtype)
        contribution = as_stack(taps.kernel_gradients(own, seen, delta, like))
    z, slopes = as_stack(taps.as_rows(own, seen.z)), as_stack(taps.as_rows(own, delta))
    found: dict[str, Any] = {
        "kernel": jax.vmap(functools.partial(taps.kernel_as_matrix, own))(kernel),
        "kernel_gradient": jax.vmap(functools.partial(taps.kernel_as_matrix, own))(contribution),
        "delta": slopes,
    }
    if own.activated:
        found["activation"] = as_stack(taps.as_rows(own, seen.activation))  # type: ignore[arg-type]
        found["slope"] = as_stack(taps.as_rows(own, seen.slope))  # type: ignore[arg-type]
        found["lowest"] = as_stack(_without_time(own, seen.lowest))
        found["highest"] = as_stack(_without_time(own, seen.highest))
    found = {name: _in_single(a) for name, a in found.items()}
    biased = own.bias is not None
    rows = jax.vmap(lambda found, z: _probe_layer(found, z, biased))(found, _in_single(z))
    rows["delta_over_time"] = as_stack(_over_time(own, delta))
    whole = norm(_in_single(gradient))
    parts = norm(_in_single(contribution))
    unexplained = jnp.abs(parts - whole) / jnp.where(whole > 0, whole, 1)
    rows["unexplained"] = jnp.full(layers, unexplained if checked else jnp.nan)
    return {
        name: jnp.asarray(value, jnp.result_type(slopes, jnp.float32))
        for name, value in rows.items()
    }


def _in_single(a: Array) -> Array:
    """Half precision has no room for norms."""
    return a.astype(jnp.float32) if jnp.finfo(a.dtype).bits < 32 else a


def _without_time(own: WeightedSum, a: Any) -> Array:
    """The first step in time of what has the axes of the loops first."""
    for axis in reversed([n for n, word in enumerate(own.loops) if word == "time"]):
        a = jnp.take(a, 0, axis)
    return a


def _over_time(own: WeightedSum, delta: Array) -> Float[Array, "*layer"]:
    """The size of delta at the first step in time over that at the last; NaN without time."""
    if "time" not in own.loops:
        turns = [delta.shape[n] for n, word in enumerate(own.loops) if word == "layer"]
        return jnp.full(turns, jnp.nan)
    axis = own.loops.index("time")
    first, last = (_in_single(jnp.take(delta, n, axis)) for n in (0, -1))
    inner = own._replace(loops=own.loops[:axis] + own.loops[axis + 1 :])
    lead = [n for n, word in enumerate(inner.loops) if word == "layer"]

    def size(a):
        rows = taps.as_rows(inner, a)
        function = norm
        for _ in lead:
            function = jax.vmap(function)
        return function(rows)

    return size(first) / size(last)


def _probe_layer(
    found: dict[str, Array], z: Float[Array, "example fan_out"], biased: bool
) -> dict[str, Float[Array, ""]]:
    """Applies the probes to a layer and its preactivations [example, out]."""
    lowest, highest = found.pop("lowest", None), found.pop("highest", None)
    layer = Layer(
        **{"activation": None, "slope": None} | found,  # type: ignore[arg-type]
        kernel_update=None,  # type: ignore[arg-type]
        bias_gradient=jnp.sum(found["delta"], 0) if biased else None,  # type: ignore[arg-type]
        below=None,  # type: ignore[arg-type]
    )
    rows = {name: PROBES[name].function(layer) for name in _PROBES_ALWAYS}
    rows["bias_gradient_norm"] = (
        PROBES["bias_gradient_norm"].function(layer) if biased else jnp.full((), jnp.nan)
    )
    rows["preactivation_mean"] = average(z)
    rows["preactivation_std"] = root_mean_square(z - average(z))
    nothing = jnp.mean(jnp.all(layer.delta == 0, axis=0))  # which gets no delta counts as dead
    without = dict.fromkeys(_PROBES_WITH_SLOPE, jnp.full((), jnp.nan)) | {"dead_units": nothing}
    if lowest is None:
        return rows | without
    layer = layer._replace(steepest_slope=jnp.maximum(jnp.abs(lowest), jnp.abs(highest)))
    graded = ~((lowest == highest) & (highest != 0))  # else it is no more than a factor
    return rows | {
        name: jnp.where(graded, PROBES[name].function(layer), without[name])
        for name in _PROBES_WITH_SLOPE
    }


# --- modules of Flax


class FunctionalNetwork(NamedTuple):
    """A module as a function.

    Attributes:
      loss: of parameters, state, inputs and targets, gives a number.
      parameters: what it is differentiated by.
      state: all else.
    """

    loss: Callable
    parameters: Any
    state: Any


def functional(
    module: Any, variables: Any, loss: Callable, keywords: Mapping[str, Any]
) -> FunctionalNetwork:
    """
    Raises:
      FadeoutError: it is no module of Flax, or one of Linen without its variables.
    """
    options = tuple(sorted(keywords.items()))
    if isinstance(module, nnx.Module):
        graph, parameters, state = nnx.split(module, nnx.Param, ...)
        if not jax.tree.leaves(parameters):
            raise FadeoutError(f"{type(module).__name__} has no parameters: no layer to examine")
        return FunctionalNetwork(_loss_of_nnx(graph, loss, options), parameters, state)
    if not isinstance(module, linen.Module):
        raise FadeoutError(
            "examine takes a module of flax.nnx or flax.linen, or a loss and its parameters, not "
            f"{module!r:.80}"
        )
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise FadeoutError("a Linen module needs its variables: variables=module.init(key, inputs)")
    state = {name: values for name, values in variables.items() if name != "params"}
    return FunctionalNetwork(_loss_of_linen(module, loss, options), variables["params"], state)


def _remembered(make: Callable) -> Callable:
    """The same function for the same arguments, so that a second look compiles nothing; another
    one each time, where they have no hash."""
    known = functools.lru_cache(maxsize=64)(make)

    @functools.wraps(make)
    def call(*arguments):
        try:
            return known(*arguments)
        except TypeError:
            return make(*arguments)

    return call


@_remembered
def _loss_of_nnx(graph: Any, loss: Callable, options: tuple) -> Callable:
    def call(parameters, state, inputs, targets):
        module = nnx.merge(graph, parameters, state, copy=True)
        with user_errors(f"the call of {type(module).__name__}", "fails"):
            output = module(inputs, **dict(options))
        return _judge(loss, output, targets)

    return call


@_remembered
def _loss_of_linen(module: linen.Module, loss: Callable, options: tuple) -> Callable:
    def call(parameters, state, inputs, targets):
        with user_errors(f"the call of {type(module).__name__}", "fails"):
            given = {"params": parameters, **state}
            output = module.apply(given, inputs, mutable=list(state), **dict(options))[0]
        return _judge(loss, output, targets)

    return call


def _judge(loss: Callable, output: Any, targets: Any) -> Float[Array, ""]:
    output = jax.tree.map(lambda a: checkpoint_name(a, taps.OUTPUT), output)
    try:
        judged = jnp.asarray(loss(output, targets))
    except (TypeError, ValueError) as error:
        raise FadeoutError(f"the loss of output and targets fails: {error}") from error
    if not jnp.issubdtype(judged.dtype, jnp.floating):
        raise FadeoutError(f"the loss must be a real number, not of {judged.dtype}")
    return jnp.mean(judged)
