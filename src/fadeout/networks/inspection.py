"""Networks of a user's own, in Flax: what their dense and convolutional layers show, unchanged.

While the module is called, every such layer's output gets a zero added, by which the loss is
differentiated: its gradient is delta = dL/dz. What stands between that output and the next layer is
read from the traced program: the activation is what applies to z element by element, by whatever
function.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax.extend import core
from jaxtyping import Array, Float

from fadeout.networks.activations import value_and_vjp
from fadeout.networks.jaxprs import ELEMENTWISE, INLINED
from fadeout.networks.layers import Layer
from fadeout.registry import FadeoutError, user_errors

_NNX = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.ConvTranspose)
_LINEN = (linen.Dense, linen.DenseGeneral, linen.Conv, linen.ConvTranspose, linen.ConvLocal)
_LAYERS = "Linear, LinearGeneral, Dense, DenseGeneral, Conv and ConvTranspose"


class _LayerCall(NamedTuple):
    """One call of one layer.

    Attributes:
      path: of the layer in its module, with a number where it is called again.
      kind: its class.
      parameters: the path of its parameters.
      inputs: how many axes of its kernel are of what it weighs; of a convolution all but the last.
      kernel: the shape of the kernel that it used.
    """

    path: str
    kind: str
    parameters: tuple
    inputs: int
    kernel: tuple[int, ...]


class _LayerRecord(NamedTuple):
    """The signal, gradient and parameters of one layer call.

    Attributes:
      layer: as the probes take it; positions of a sequence or an image count as examples.
      preactivation: z.
    """

    call: _LayerCall
    layer: Layer
    preactivation: Float[Array, "example fan_out"]


class _Recorder:
    """Adds a tap to the output of every layer that is called, and notes what passed."""

    def __init__(self, taps: list | None = None):
        self.taps = taps
        self.calls: list[_LayerCall] = []
        self.passed: list[tuple[Array, Array]] = []

    def note(
        self,
        path: tuple,
        kind: str,
        inputs: int,
        kernel: tuple[int, ...],
        x: Float[Array, "..."],
        z: Float[Array, "..."],
    ):
        words = "/".join(map(str, path)) or kind
        before = sum(call.parameters == path for call in self.calls)
        if self.taps is not None:
            z = z + self.taps[len(self.calls)]
        label = f"{words}#{before + 1}" if before else words
        self.calls.append(_LayerCall(label, kind, path, inputs, tuple(kernel)))
        self.passed.append((x, z))
        return z


_PATCHED = threading.Lock()


@contextlib.contextmanager
def _nnx_calls(module: nnx.Module, recorder: _Recorder) -> Iterator[None]:
    """Every call of a layer of this module goes through the recorder."""
    paths = {}
    for path, node in nnx.iter_graph(module):
        if isinstance(node, _NNX):  # by an attribute, which nnx.jit hands on with its copies
            paths[str(path)] = path
            node.examined = str(path)

    def through(kind: type, original: Callable) -> Callable:
        def call(self, x, *rest, **given):
            z = original(self, x, *rest, **given)
            path = paths.get(getattr(self, "examined", ""))
            if path is None:
                return z
            several = isinstance(self, nnx.LinearGeneral) and isinstance(self.in_features, tuple)
            inputs = len(self.in_features) if several else 1  # type: ignore[arg-type]
            kernel = self.kernel[...].shape
            return recorder.note(path, type(self).__name__, inputs, kernel, x, z)

        return call

    with _PATCHED:
        originals = {kind: kind.__call__ for kind in _NNX}
        try:
            for kind, original in originals.items():
                kind.__call__ = through(kind, original)  # type: ignore[method-assign]
            yield
        finally:
            for kind, original in originals.items():
                kind.__call__ = original  # type: ignore[method-assign]


@contextlib.contextmanager
def _linen_calls(recorder: _Recorder) -> Iterator[None]:
    """Every call of a layer of Linen goes through the recorder."""

    inside: list[tuple] = []

    def interceptor(call, arguments, given, context):
        layer = context.module
        if layer.path in inside:  # of a subclass, which calls its own
            return call(*arguments, **given)
        inside.append(layer.path)
        z = call(*arguments, **given)
        inside.pop()
        if not isinstance(layer, _LINEN) or context.method_name != "__call__":
            return z
        axis = getattr(layer, "axis", None)
        inputs = len(axis) if isinstance(axis, tuple) else 1
        kernel = layer.get_variable("params", "kernel").shape
        return recorder.note(layer.path, type(layer).__name__, inputs, kernel, arguments[0], z)

    with linen.intercept_methods(interceptor):
        yield


class _FunctionalNetwork(NamedTuple):
    """A module as a function.

    Attributes:
      parameters: what it is differentiated by.
      call: of parameters, inputs and a recorder, gives the output.
      flat: gradients or parameters by path.
    """

    parameters: Any
    call: Callable[[Any, Any, _Recorder], Any]
    flat: Callable[[Any], Mapping[tuple, Array]]


def _functional_network(
    module: Any, variables: Any, keywords: dict[str, Any]
) -> _FunctionalNetwork:
    """
    Raises:
      FadeoutError: it is no module of Flax, or one of Linen without its variables.
    """
    if isinstance(module, nnx.Module):
        graph, parameters, others = nnx.split(module, nnx.Param, ...)

        def call(parameters, inputs, recorder):
            copy = nnx.merge(graph, parameters, others, copy=True)
            with _nnx_calls(copy, recorder):
                return copy(inputs, **keywords)

        def flat(state):
            return {path: leaf[...] for path, leaf in nnx.to_flat_state(state)}

        return _FunctionalNetwork(parameters, call, flat)
    if not isinstance(module, linen.Module):
        raise FadeoutError(f"examine takes a module of flax.nnx or flax.linen, not {module!r:.80}")
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise FadeoutError("a Linen module needs its variables: variables=module.init(key, inputs)")
    rest = {name: values for name, values in variables.items() if name != "params"}

    def apply(parameters, inputs, recorder):
        with _linen_calls(recorder):
            given = {"params": parameters, **rest}
            return module.apply(given, inputs, mutable=list(rest), **keywords)[0]

    def flat_of(tree, path=()):
        if not isinstance(tree, Mapping):
            return {path: tree}
        inner = [flat_of(branch, (*path, name)) for name, branch in tree.items()]
        return {name: leaf for branch in inner for name, leaf in branch.items()}

    return _FunctionalNetwork(variables["params"], apply, flat_of)


def inspect_network(
    module: Any, inputs: Any, targets: Any, loss: Callable, variables: Any, keywords: dict[str, Any]
) -> tuple[Float[Array, ""], list[_LayerRecord]]:
    """The loss, and what every call of a layer shows, in the order of calls.

    Raises:
      FadeoutError: no module of Flax, no layer that is known, or a loss that is none.
    """
    network = _functional_network(module, variables, keywords)
    with user_errors(f"the call of {type(module).__name__}", "fails"):
        return _record_layers(network, inputs, targets, loss)


def _record_layers(
    network: _FunctionalNetwork, inputs: Any, targets: Any, loss: Callable
) -> tuple[Float[Array, ""], list[_LayerRecord]]:
    found: list[_LayerCall] = []

    def run(parameters, inputs, targets, taps):
        recorder = _Recorder(taps)
        with jax.disable_jit():  # what is compiled inside is traced in one piece
            output = network.call(parameters, inputs, recorder)
            try:
                judged = jnp.asarray(loss(output, targets))
            except (TypeError, ValueError) as error:
                raise FadeoutError(f"the loss of output and targets fails: {error}") from error
            if not jnp.issubdtype(judged.dtype, jnp.floating):
                raise FadeoutError(f"the loss must be a real number, not of {judged.dtype}")
            value = jnp.mean(judged)
        found[:] = recorder.calls
        return value, (recorder.passed, output)

    arguments = [network.parameters, inputs, targets, None]
    with _check_untransformed():
        _, (passed, _) = jax.eval_shape(run, *arguments)
        if not found:
            raise FadeoutError(f"no layer was called of those that are known: {_LAYERS}")
        arguments[3] = [jnp.zeros(z.shape, z.dtype) for _, z in passed]
        both = jax.value_and_grad(run, argnums=(0, 3), has_aux=True)
        (value, (passed, _)), (gradients, deltas) = jax.jit(both)(*arguments)
        program = jax.make_jaxpr(run)(*arguments)
    leaves = len(jax.tree.leaves(network.parameters))
    activations = _value_and_slope_of_calls(program, leaves, jax.tree.leaves(arguments), len(found))
    parameters = network.flat(network.parameters)
    matrices = _Matrices(parameters, network.flat(gradients))
    return value, [
        _LayerRecord(call, matrices.layer(call, x, delta, *activation), matrices.rows(call, z))
        for call, (x, z), delta, activation in zip(found, passed, deltas, activations, strict=True)
    ]


@contextlib.contextmanager
def _check_untransformed() -> Iterator[None]:
    try:
        yield
    except jax.errors.UnexpectedTracerError as error:
        raise FadeoutError(
            "a layer is called inside a transformation of its own (remat, vmap), where what it "
            "sees cannot be had: examine the module without it"
        ) from error


class _Matrices(NamedTuple):
    """Parameters and gradients by path, to be seen as matrices [in, out]."""

    parameters: Mapping[tuple, Array]
    gradients: Mapping[tuple, Array]

    def shape(self, call: _LayerCall) -> tuple[int, int]:
        """Returns the shape of a call's kernel.

        Raises:
          FadeoutError: the kernel that was called is a part of the parameter.
        """
        shape = self.parameters[(*call.parameters, "kernel")].shape
        if shape != call.kernel:
            raise FadeoutError(
                f"{call.path} holds several layers in one parameter {list(shape)}, as nnx.scan and "
                "nnx.vmap make, and what each of them sees cannot be told apart: examine the "
                "module without"
            )
        cut = len(shape) - 1 if "Conv" in call.kind else call.inputs
        return math.prod(shape[:cut]), math.prod(shape[cut:])

    def rows(self, call: _LayerCall, z: Float[Array, "..."]) -> Float[Array, "example fan_out"]:
        """Positions count as examples, and the features of heads as units."""
        return z.reshape(-1, self.shape(call)[1])

    def layer(
        self, call: _LayerCall, x, delta, activation=None, slope=None, steepest=None
    ) -> Layer:
        """The layer as the probes take it; what it lacks is None."""
        matrix, path = self.shape(call), (*call.parameters, "kernel")
        bias = self.gradients.get((*call.parameters, "bias"))
        graded = activation is not None
        return Layer(
            kernel=self.parameters[path].reshape(matrix),
            kernel_gradient=self.gradients[path].reshape(matrix),
            kernel_update=None,  # type: ignore[arg-type]
            bias_gradient=None if bias is None else bias.ravel(),  # type: ignore[arg-type]
            delta=self.rows(call, delta),
            below=None if "Conv" in call.kind else x.reshape(-1, matrix[0]),  # type: ignore[arg-type]
            activation=self.rows(call, activation) if graded else None,
            slope=self.rows(call, slope) if graded else None,
            steepest_slope=self.rows(call, steepest).max(0) if graded else None,
        )


# --- what is between a layer's output and the next layer


def _value_and_slope_of_calls(program: Any, leaves: int, values: list, calls: int) -> list[tuple]:
    """phi(z), phi'(z) and the largest |phi'| of each unit, of every call; nothing where z goes
    through nothing that works element by element.

    Args:
      program: the traced call: of the parameters, which are the first `leaves` of its arguments,
        and of all else, gives the loss and every layer's input and output.
      values: of its arguments.
    """
    jaxpr = program.jaxpr
    moving, _ = _equations_from(jaxpr, jaxpr.invars[leaves:])  # with the examples
    seen, made = jaxpr.outvars[1 : 1 + 2 * calls], set(jaxpr.outvars[1 + 2 * calls :])
    found = []
    for z in seen[1 : 2 * calls : 2]:
        starts = [z, *_normalization_equations(jaxpr, z, moving, made)]
        tried = (_value_and_slope_of_call(program, values, start, moving, made) for start in starts)
        found.append(next(filter(None, tried), ()))
    return found


def _normalization_equations(jaxpr: Any, z: Any, moving: set, made: set) -> list:
    """Returns the variables, in order, that have the shape of z and depend on z alone: the output
    of a batch norm between a layer and its activation."""
    inside, found = {z}, []
    for equation in jaxpr.eqns:
        used = {v for v in equation.invars if isinstance(v, core.Var) and v in moving}
        if used and used <= inside and not used & made:
            inside |= set(equation.outvars)
            found += [v for v in equation.outvars if v.aval.shape == z.aval.shape]
    return found


def _value_and_slope_of_call(program: Any, values: list, z: Any, moving: set, made: set) -> tuple:
    """Returns phi(z) and phi'(z) of one layer call.

    The module's outputs, `made`, end the search.
    """
    jaxpr = program.jaxpr
    inside, equations = {z}, []
    for equation in jaxpr.eqns:
        used = [v for v in equation.invars if isinstance(v, core.Var)]
        if not inside & set(used) or any(v in moving and v not in inside for v in used):
            continue
        if made & set(used):  # the loss's
            continue
        if {v.aval.shape for v in equation.outvars} == {z.aval.shape} and _is_elementwise(equation):
            inside |= set(equation.outvars)
            equations.append(equation)
    after = {
        v
        for equation in jaxpr.eqns
        if not any(equation is own for own in equations)
        for v in equation.invars
        if isinstance(v, core.Var) and v in inside
    }
    after |= inside & made
    if len(after) != 1 or z in after:
        return ()
    (h,) = after
    if not jnp.issubdtype(h.aval.dtype, jnp.floating):
        return ()
    constants = list(dict.fromkeys(
        v for e in equations for v in e.invars if isinstance(v, core.Var) and v not in inside
    ))  # fmt: skip
    given = [*jaxpr.constvars, *jaxpr.invars]
    known = _subprogram(given, jaxpr.eqns, [z, *constants])
    at, *fixed = jax.jit(known)(*program.consts, *values)
    phi = _subprogram([z, *constants], equations, [h])

    def both(z):
        return value_and_vjp(lambda z: phi(z, *fixed)[0], z)

    def extremes(number, found):
        slope = both(jnp.full_like(at, number / 10 - 3))[1].astype(at.dtype)
        return jnp.minimum(found[0], slope), jnp.maximum(found[1], slope)

    activation, slope = jax.jit(both)(at)
    start = jnp.full_like(at, jnp.inf), jnp.full_like(at, -jnp.inf)
    flattest, steepest = jax.jit(lambda: jax.lax.fori_loop(0, 61, extremes, start))()
    if jnp.all(flattest == steepest) and jnp.all(steepest != 0):  # no more than a factor
        return ()
    return activation, slope, jnp.maximum(jnp.abs(flattest), jnp.abs(steepest))


def _is_elementwise(equation: Any) -> bool:
    """Returns whether an equation works element by element, and what it calls too."""
    name = equation.primitive.name
    if name in ELEMENTWISE:
        return True
    called = equation.params.get(INLINED.get(name, ""))
    jaxpr = getattr(called, "jaxpr", called)
    return jaxpr is not None and all(
        _is_elementwise(e) for e in _equations_from(jaxpr, jaxpr.invars)[1]
    )


def _equations_from(jaxpr: Any, starts: list) -> tuple[set, list]:
    """Returns all variables that depend on some variables, and the equations that make them."""
    moving, equations = set(starts), []
    for equation in jaxpr.eqns:
        if any(v in moving for v in equation.invars if isinstance(v, core.Var)):
            moving |= set(equation.outvars)
            equations.append(equation)
    return moving, equations


def _subprogram(arguments: list, equations: list, results: list) -> Callable:
    """A function of some variables of a traced program, by some of its equations."""
    about = core.DebugInfo("part", "part of a network", None, None)
    own = core.Jaxpr([], arguments, results, equations, debug_info=about)
    return core.jaxpr_as_fun(core.ClosedJaxpr(own, []))
