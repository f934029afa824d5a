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
from fadeout.networks.jaxprs import digest
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
    meta_fields=["layers", "kinds", "units", "parameters", "unseen"],
)
@dataclass(frozen=True)
class Look:
    """The quantities of every layer, as one call showed them.

    Attributes:
      values: by name, [layer].
      layers: their labels, in the order of calls: the paths of their parameters.
      kinds: dense, convolution or embedding.
      units: how many each has.
      parameters: of each, those of which its kernel is made, counted among the real arrays.
      unseen: in words, parameters of two axes and more that no weighted sum was found of, or not
        of all their uses.
    """

    values: dict[str, Any]  # arrays, and whatever JAX puts in their place
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[int, ...]
    parameters: tuple[tuple[int, ...], ...]
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
    return functools.wraps(loss)(_of_any(loss, has_aux, lambda function: function))


def jitted(loss: Callable, has_aux: bool = False) -> Callable:
    """`tapped(loss, has_aux)`, compiled once for every shape."""
    return _of_any(loss, has_aux, jax.jit)


def gradients_of(loss: Callable, has_aux: bool = False) -> Callable:
    """`jax.value_and_grad(loss, has_aux=has_aux)`, jitted, of whatever `tapped` takes."""

    @jax.jit
    def of_tree(tree: _Parameters, data: tuple, named: dict):
        def own(leaves):
            return loss(tree.whole(leaves), *data, **named)

        value, gradients = jax.value_and_grad(own, has_aux=has_aux)(tree.leaves)
        return value, tree.gradients(gradients)

    of_arrays = jax.jit(jax.value_and_grad(loss, has_aux=has_aux))
    of_module = nnx.jit(nnx.value_and_grad(loss, has_aux=has_aux))

    def call(parameters: Any, *data: Any, **named: Any) -> Any:
        if isinstance(parameters, nnx.Module) or any(_is_node(own) for own in data):
            return of_module(parameters, *data, **named)
        leaves = jax.tree.leaves(parameters)
        if leaves and all(isinstance(leaf, jax.Array) and _is_real(leaf.dtype) for leaf in leaves):
            return of_arrays(parameters, *data, **named)
        return of_tree(_Parameters.of(parameters), data, named)

    return call


@functools.cache
def _is_real(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def is_module(network: Any) -> bool:
    """Returns whether it is a module of flax.nnx or flax.linen."""
    return isinstance(network, nnx.Module | linen.Module)


def _is_node(given: Any) -> bool:
    """Returns whether it is an object of NNX: a module, or random streams."""
    return isinstance(given, nnx.Pytree)


def _of_any(loss: Callable, has_aux: bool, compiled: Callable) -> Callable:
    """A function of parameters in any tree; and of objects of NNX, whose state is updated as the
    loss leaves it.

    Args:
      compiled: is applied to what is called: `jax.jit`, or nothing.
    """
    of_arrays = compiled(functools.partial(_tapped, loss, has_aux))
    known: dict[tuple, Callable] = {}

    def of_any(parameters: Any, *data: Any, **named: Any):
        if not isinstance(parameters, nnx.Module) and not any(map(_is_node, data)):
            return of_arrays(_Parameters.of(parameters), data, named)
        key, own, state, arrays = _without_objects(parameters, data)
        if key not in known:
            pure = _pure_loss(*key, loss, has_aux)
            known[key] = compiled(functools.partial(_tapped, pure, True, states=1))
        found = known[key](_Parameters.of(own), (state, *arrays), named)
        (value, (aux, (kept, states))), gradients, look = found
        if isinstance(parameters, nnx.Module):
            nnx.update(parameters, kept)
        nnx.update([own for own in data if _is_node(own)], states)
        return (value, aux) if has_aux else value, gradients, look

    return of_any


def _without_objects(
    parameters: Any, data: tuple
) -> tuple[tuple[Any, Any, tuple[bool, ...]], Any, tuple, tuple]:
    """Takes objects of NNX apart.

    Returns:
      The first arguments of `_pure_loss`; the parameters; all other state; and the data that are
      no objects.
    """
    graph, own, state = None, parameters, ()
    if isinstance(parameters, nnx.Module):
        graph, own, state = nnx.split(parameters, nnx.Param, ...)
    others, states = nnx.split([own for own in data if _is_node(own)])
    arrays = tuple(given for given in data if not _is_node(given))
    return (graph, others, tuple(map(_is_node, data))), own, (state, states), arrays


def _pure_loss(
    graph: Any, others: Any, places: tuple[bool, ...], loss: Callable, has_aux: bool
) -> Callable:
    """A loss of objects of NNX as one of parameters and of all their other state, which it returns.

    Args:
      graph: of the parameters' module, or None; `others`, of the objects among the data.
      places: which data are objects.
    """

    def pure(parameters, state, *arrays, **named):
        own = parameters
        if graph is not None:
            own = nnx.merge(graph, parameters, state[0], copy=True)
        nodes = nnx.merge(others, state[1], copy=True)
        given, objects = iter(arrays), iter(nodes)
        data = [next(objects) if node else next(given) for node in places]
        found = loss(own, *data, **named)
        value, aux = found if has_aux else (found, None)
        kept = () if graph is None else nnx.split(own, nnx.Param, ...)[2]
        return value, (aux, (kept, nnx.split(nodes)[1]))

    return pure


_PROGRAMS: dict[tuple, Callable] = {}
_MOST_PROGRAMS = 16


def look(loss: Callable, parameters: Any, *data: Any, states: int = 0) -> tuple[Array, Look]:
    """The loss, and what every layer shows, once.

    A function is known by what it computes: what was compiled is used again where the traced
    program and all constants in it are the same, whatever the function closes over.

    Args:
      states: how many arguments after the parameters are a network's other state.
    """
    if isinstance(parameters, nnx.Module) or any(map(_is_node, data)):
        structure, own, state, arrays = _without_objects(parameters, data)
        pure = _pure_loss(*structure, loss, False)
        return look(lambda *given: pure(*given)[0], own, state, *arrays, states=1)
    tree = _Parameters.of(parameters)
    leaves, form = jax.tree.flatten((tree, data))
    leaves = [_as_array(leaf) for leaf in leaves]

    def flat(*leaves):
        tree, data = jax.tree.unflatten(form, leaves)
        return loss(tree.whole(tree.leaves), *data)

    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    own = functools.partial(_tapped, loss, False, states=states)
    try:
        key = digest(flat, *shapes), form, tuple((s.shape, s.dtype) for s in shapes), states
    except FadeoutError:  # it computes another thing each time, and is compiled each time
        value, _, found = jax.jit(own)(tree, data, {})
        return value, found
    if key not in _PROGRAMS:
        while len(_PROGRAMS) >= _MOST_PROGRAMS:
            _PROGRAMS.pop(next(iter(_PROGRAMS)))
        _PROGRAMS[key] = jax.jit(own).lower(tree, data, {}).compile()
    value, _, found = _PROGRAMS[key](tree, data, {})
    return value, found


def _tapped(
    loss: Callable, has_aux: bool, tree: "_Parameters", data: tuple, named: dict, states: int = 0
) -> tuple[Any, Any, Look]:
    fixed = len(jax.tree.leaves(data[:states]))
    given, data_tree = jax.tree.flatten((data, named))
    kept: list = []

    def flat(*arguments):
        own, rest = arguments[: len(tree.leaves)], arguments[len(tree.leaves) :]
        data, named = jax.tree.unflatten(data_tree, rest)
        found = loss(tree.whole(own), *data, **named)
        value, aux = found if has_aux else (found, ())
        value = jnp.asarray(value)
        if value.shape or not _is_real(value.dtype):
            raise FadeoutError(
                f"a loss must be one real number, not of shape {value.shape} and {value.dtype}: "
                "take its mean"
            )
        leaves, aux_tree = jax.tree.flatten(aux)
        kept[:] = [aux_tree]
        return value, *leaves

    arguments = [*tree.leaves, *map(_as_array, given)]
    seeing = taps.trace_sums(flat, len(tree.leaves), fixed, arguments)

    def with_taps(own, zeros):
        outs, seen = seeing.run([*own, *arguments[len(own) :]], zeros)
        return outs[0], (outs[1:], seen)

    both = jax.value_and_grad(with_taps, argnums=(0, 1), has_aux=True)
    (value, (aux, seen)), (gradients, deltas) = both(tree.leaves, seeing.zeros)
    look = _look(seeing, tree, gradients, seen, deltas)
    value = (value, jax.tree.unflatten(kept[0], aux)) if has_aux else value
    return value, tree.gradients(gradients), look


def _as_array(leaf: Any) -> Array:
    try:
        return jnp.asarray(leaf)
    except TypeError as error:
        raise FadeoutError(
            f"data must be arrays or numbers, not {leaf!r:.60}: close over other settings"
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

    leaves: list  # of arrays, and of whatever JAX puts in their place
    arrays: list
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
            leaf = jnp.asarray(leaf) if isinstance(leaf, float) else leaf
            array = hasattr(leaf, "dtype") and hasattr(leaf, "shape")
            if array and _is_real(leaf.dtype):
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


def as_tree(loss: Callable, parameters: Any) -> tuple[Callable, Any]:
    """A loss and its parameters as a tree of arrays, also of a module of flax.nnx, whose other
    state stays as it is."""
    if not isinstance(parameters, nnx.Module):
        return loss, parameters
    graph, own, state = nnx.split(parameters, nnx.Param, ...)
    return lambda own, *data: loss(nnx.merge(graph, own, state, copy=True), *data), own


def rescale(parameters: Any, factors: Float[Array, "parameter"]) -> Any:
    """Parameters whose real arrays are multiplied, each by its factor."""
    if isinstance(parameters, nnx.Module):
        graph, own, state = nnx.split(parameters, nnx.Param, ...)
        return nnx.merge(graph, rescale(own, factors), state)
    tree = _Parameters.of(parameters)
    return tree.whole(
        [leaf * jnp.asarray(factors[n], leaf.dtype) for n, leaf in enumerate(tree.leaves)]
    )


def count_parameters(parameters: Any) -> int:
    """How many real arrays there are, `rescale` counts them so."""
    if isinstance(parameters, nnx.Module):
        parameters = nnx.state(parameters, nnx.Param)
    leaves = jax.tree.leaves(parameters)
    return sum(hasattr(leaf, "dtype") and _is_real(leaf.dtype) for leaf in leaves)


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
        checked = own.plain and not shared and own.leaf not in seeing.elsewhere
        bias = None if own.bias is None else gradients[own.bias]
        values = _measure(own, passed, delta, weights, gradient, bias, shared, checked)
        name = _label(own, parameters)
        calls[name] += 1
        label = f"{name}#{calls[name]}" if calls[name] > 1 else name
        layers = next(iter(values.values())).shape[0]
        stacked = "layer" in own.loops
        for number in range(layers):
            words = f"{label}[{number}]" if stacked else label
            row = {key: value[number] for key, value in values.items()}
            key = (*place[: own.cut], number, *place[own.cut :]) if stacked else place
            rows.append((key, words, own, row))
    rows.sort(key=lambda row: row[0])  # of a stack, turn by turn
    names = list(rows[0][3])
    with_sums = {leaf for own in sums for leaf in (*own.leaves, own.bias)}
    named = list(enumerate(zip(parameters.paths, parameters.leaves, strict=True)))
    unseen = [
        f"{path} is no layer that is known"
        for leaf, (path, array) in named
        if array.ndim > 1 and leaf not in with_sums
    ]
    unseen += [
        f"{path} enters in other ways too, and its gradient is that of the layer alone"
        for leaf, (path, _) in named
        if leaf in uses and leaf in seeing.elsewhere
    ]
    return Look(
        {name: jnp.stack([row[name] for _, _, _, row in rows]) for name in names},
        tuple(words for _, words, _, _ in rows),
        tuple(own.kind for _, _, own, _ in rows),
        tuple(taps.dimensions(own)[2] for _, _, own, _ in rows),
        tuple(own.leaves for _, _, own, _ in rows),
        tuple(unseen),
    )


_MOST_NAMED = 4
"""Parameters of one kernel that its label names."""


def _label(own: WeightedSum, parameters: _Parameters) -> str:
    """The path of a layer's kernel; of several that are joined to one, what they share, and the
    rest in braces: `cell/{hf,hg,hi,ho}`."""
    paths = [parameters.paths[n] for n in own.leaves if parameters.leaves[n].ndim > 1]
    words = [_without_last(path) for path in paths or [parameters.paths[own.leaf]]]
    if len(words) == 1:
        return "/".join(words[0])
    shared = 0
    while all(len(w) > shared + 1 and w[shared] == words[0][shared] for w in words):
        shared += 1
    rest = ["/".join(w[shared:]) for w in words]
    named = ",".join([*rest[:_MOST_NAMED], *["..."] * (len(rest) > _MOST_NAMED)])
    return "/".join([*words[0][:shared], f"{{{named}}}"])


def _without_last(path: str) -> list[str]:
    words = path.split("/")
    return words[:-1] if len(words) > 1 and words[-1] in _LAST_WORDS else words


def _measure(
    own: WeightedSum, seen: Seen, delta: Array, weights: Array, gradient: Array,
    bias: Array | None, shared: bool, checked: bool,
) -> dict[str, Float[Array, "layer"]]:  # fmt: skip
    """All quantities of a weighted sum, of each turn of the loops that are layers, [layer].

    Args:
      weights, gradient: of its parameter; `bias`, of that the gradient.
      shared: whether other sums use that too.
      checked: whether the gradient must be this sum's alone.
    """
    turns = [seen.z.shape[n] for n in own.layer_axes]
    layers = math.prod(turns)
    shape = own.equation.invars[1 - own.data].aval.shape

    def as_stack(a):  # [layer, ...]
        return a.reshape(layers, *a.shape[len(turns) :])

    if own.plain:
        kernel = weights.reshape(layers, *shape)
    else:
        kernel = as_stack(_without_time(own, seen.kernel))
    if own.plain and (own.kind == "embedding" or shared):
        contribution = gradient.reshape(layers, *shape)
    else:
        like = jax.ShapeDtypeStruct(shape, own.equation.invars[1 - own.data].aval.dtype)
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
    units = z.shape[-1]
    if bias is not None and bias.size in (units, layers * units):
        each = bias.reshape(-1, units)
        found["bias_gradient"] = jnp.broadcast_to(each, (layers, units))
    found = {name: _in_single(a) for name, a in found.items()}
    rows = jax.vmap(_probe_layer)(found, _in_single(z))
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
    """The first turn of loops that are no layers, of what has the axes of the loops first."""
    for axis in reversed(own.other_axes):
        a = jnp.take(a, 0, axis)
    return a


def _over_time(own: WeightedSum, delta: Array) -> Float[Array, "*layer"]:
    """The size of delta at the first step in time over that at the last; NaN without time, and
    where nothing comes to the last step (of padded sequences). Nothing comes to a forget gate at
    the first step, whose cell is empty: there the second step counts."""
    axis = next((n for n, word in enumerate(own.loops) if word.startswith("time")), None)
    if axis is None:
        return jnp.full([delta.shape[n] for n in own.layer_axes], jnp.nan)
    order = [0, min(1, delta.shape[axis] - 1), -1]
    order = order if own.loops[axis] == "time" else [-1 - n for n in order]
    first, second, last = (_in_single(jnp.take(delta, n, axis)) for n in order)
    inner = own._replace(loops=own.loops[:axis] + own.loops[axis + 1 :])

    def size(a):
        function = norm
        for _ in inner.layer_axes:
            function = jax.vmap(function)
        return function(taps.as_rows(inner, a))

    start = jnp.where(size(first) > 0, size(first), size(second))
    return jnp.where(size(last) > 0, start / size(last), jnp.nan)


def _probe_layer(
    found: dict[str, Array], z: Float[Array, "example fan_out"]
) -> dict[str, Float[Array, ""]]:
    """Applies the probes to a layer and its preactivations [example, out]."""
    lowest, highest = found.pop("lowest", None), found.pop("highest", None)
    layer = Layer(
        **{"activation": None, "slope": None, "bias_gradient": None} | found,  # type: ignore[arg-type]
        kernel_update=None,  # type: ignore[arg-type]
        below=None,  # type: ignore[arg-type]
    )
    rows = {name: PROBES[name].function(layer) for name in _PROBES_ALWAYS}
    rows["bias_gradient_norm"] = (
        PROBES["bias_gradient_norm"].function(layer)
        if "bias_gradient" in found
        else jnp.full((), jnp.nan)
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
    if isinstance(module, nnx.Module):
        graph, parameters, state = nnx.split(module, nnx.Param, ...)
        if not jax.tree.leaves(parameters):
            raise FadeoutError(f"{type(module).__name__} has no parameters: no layer to examine")
        return FunctionalNetwork(_loss_of_nnx(graph, loss, keywords), parameters, state)
    if not isinstance(module, linen.Module):
        raise FadeoutError(
            "examine takes a module of flax.nnx or flax.linen, or a loss and its parameters, not "
            f"{module!r:.80}"
        )
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise FadeoutError("a Linen module needs its variables: variables=module.init(key, inputs)")
    state = {name: values for name, values in variables.items() if name != "params"}
    return FunctionalNetwork(_loss_of_linen(module, loss, keywords), variables["params"], state)


def _loss_of_nnx(graph: Any, loss: Callable, keywords: Mapping) -> Callable:
    def call(parameters, state, inputs, targets):
        module = nnx.merge(graph, parameters, state, copy=True)
        with user_errors(f"the call of {type(module).__name__}", "fails"):
            output = module(inputs, **keywords)
        return _judge(loss, output, targets)

    return call


def _loss_of_linen(module: linen.Module, loss: Callable, keywords: Mapping) -> Callable:
    def call(parameters, state, inputs, targets):
        with user_errors(f"the call of {type(module).__name__}", "fails"):
            given = {"params": parameters, **state}
            output = module.apply(given, inputs, mutable=list(state), **keywords)[0]
        return _judge(loss, output, targets)

    return call


def _judge(loss: Callable, output: Any, targets: Any) -> Float[Array, ""]:
    output = jax.tree.map(lambda a: checkpoint_name(a, taps.OUTPUT), output)
    try:
        judged = jnp.asarray(loss(output, targets))
    except (TypeError, ValueError) as error:
        raise FadeoutError(f"the loss of output and targets fails: {error}") from error
    if not _is_real(judged.dtype) or not judged.size:
        raise FadeoutError(
            f"the loss must be a real number, or one for each example, not of {judged.dtype} and "
            f"shape {judged.shape}"
        )
    return jnp.mean(judged)
