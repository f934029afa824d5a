"""What a function computes, read from its traced program: a hash of it, and whether it works
element by element.

A traced program (a jaxpr) holds whatever a function reaches: constants, arrays, helpers, custom
rules. How the function is written is not in it: names, comments and calls leave no mark.
"""

import contextlib
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from fadeout.registry import FadeoutError

ELEMENTWISE = frozenset({
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "bessel_i0e", "bessel_i1e", "bitcast_convert_type", "cbrt", "ceil", "clamp", "complex",
    "conj", "convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma", "div", "eq",
    "eq_to", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma",
    "igammac", "imag", "integer_pow", "is_finite", "le", "le_to", "lgamma", "log", "log1p",
    "logistic", "lt", "lt_to", "max", "min", "mul", "ne", "neg", "nextafter", "not",
    "log2", "mulhi", "one_minus_square", "polynomial", "optimization_barrier", "or", "polygamma",
    "population_count", "pow", "real",
    "reduce_precision", "regularized_incomplete_beta", "rem", "round", "rsqrt", "select_n",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt",
    "square", "stop_gradient", "sub", "tan", "tanh", "xor", "zeta",
})  # fmt: skip
"""Primitives whose output at a place depends on their inputs at that place alone."""

_REDUCTIONS = frozenset({
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax",
    "argmin",
})  # fmt: skip

INLINED = {
    "jit": "jaxpr", "pjit": "jaxpr", "checkpoint": "jaxpr", "remat2": "jaxpr",
    "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr",
}  # fmt: skip
"""Primitives that only call a program, and the parameter that holds it."""

_CALLBACKS = frozenset({"pure_callback", "io_callback", "debug_callback", "debug_print"})

_IGNORED = frozenset({
    "name", "inline", "keep_unused", "donated_invars", "ctx_mesh", "debug_info", "bwd",
    "fwd_jaxpr_thunk", "jvp_jaxpr_fun", "jvp_jaxpr_thunk", "symbolic_zeros",
})  # fmt: skip
"""Parameters of equations that decide no value. Custom rules are seen where they are applied."""

_FRESH_NUMBERS = itertools.count()


def _fresh_axis() -> list[tuple[str, int]]:
    """An axis that did not exist before. JAX traces a jitted helper once, and does not see that a
    constant in it has changed; inside another axis it traces everything again."""
    return [(f"traced_{next(_FRESH_NUMBERS)}", 1)]


def trace(function: Callable, *avals: Any) -> core.ClosedJaxpr:
    """The program that a function is now, for arguments of these shapes and dtypes."""
    return jax.make_jaxpr(lambda *given: function(*given), axis_env=_fresh_axis())(*avals)


def retraced(function: Callable, *avals: Any) -> Callable:
    """A function of arguments of these shapes and dtypes by the program that it is now."""
    program, result = jax.make_jaxpr(function, axis_env=_fresh_axis(), return_shape=True)(*avals)
    run, tree = core.jaxpr_as_fun(program), jax.tree.structure(result)
    return lambda *given: tree.unflatten(run(*jax.tree.leaves(given)))


class _Value(NamedTuple):
    """Anything that an equation reads or makes.

    Attributes:
      name: a number; of a constant a hash of its bytes.
      shape, dtype: of the array.
    """

    name: int | str
    shape: tuple[int, ...]
    dtype: str


class _Equation(NamedTuple):
    """One equation of a flat program, in which nothing is called."""

    primitive: str
    inputs: list[_Value]
    outputs: list[_Value]
    parameters: dict[str, Any]
    effects: bool


class _Program(NamedTuple):
    """A traced program without calls and without what nobody reads."""

    inputs: list[_Value]
    equations: list[_Equation]
    outputs: list[_Value]

    def text(self) -> str:
        """The program in canonical form: two programs of one text compute the same."""
        number: dict[int, int] = {}

        def word(value: _Value) -> str:
            name = value.name
            if isinstance(name, int):
                name = number.setdefault(name, len(number))
            return f"{name}:{value.dtype}{list(value.shape)}"

        lines = [" ".join(map(word, self.inputs))]
        for e in self.equations:
            given = " ".join(f"{k}={_parameter_text(v)}" for k, v in sorted(e.parameters.items()))
            read, made = " ".join(map(word, e.inputs)), " ".join(map(word, e.outputs))
            lines.append(f"{made} = {e.primitive}[{given}] {read}")
        return "\n".join([*lines, " ".join(map(word, self.outputs))])


def _flatten(closed: core.ClosedJaxpr) -> _Program:
    """A traced program with all calls written out, and without dead code."""
    number = itertools.count()
    inputs = [_value_of(v, next(number)) for v in closed.jaxpr.invars]
    equations, outputs = _inline(closed, inputs, number)
    needed, kept = {value.name for value in outputs}, []
    for equation in reversed(equations):
        if equation.effects or any(value.name in needed for value in equation.outputs):
            kept.append(equation)
            needed.update(value.name for value in equation.inputs)
    return _Program(inputs, kept[::-1], outputs)


def _inline(closed, inputs: list[_Value], number) -> tuple[list[_Equation], list[_Value]]:
    """The equations of a program and of all that it calls, and its outputs."""
    known = dict(zip(closed.jaxpr.invars, inputs, strict=True))
    known |= {
        v: _constant(c) for v, c in zip(closed.jaxpr.constvars, closed.consts, strict=True)
    }  # fmt: skip

    def read(v) -> _Value:
        return _constant(v.val, v.aval) if isinstance(v, core.Literal) else known[v]

    equations = []
    for e in closed.jaxpr.eqns:
        given = list(map(read, e.invars))
        called = _called_program(e)
        if called is not None:
            more, made = _inline(called, given, number)
            equations += more
        else:
            made = [_value_of(v, next(number)) for v in e.outvars]
            parameters = {k: p for k, p in e.params.items() if k not in _IGNORED}
            equations.append(
                _Equation(e.primitive.name, given, made, parameters, bool(e.effects))
            )  # fmt: skip
        known |= dict(zip(e.outvars, made, strict=True))
    return equations, list(map(read, closed.jaxpr.outvars))


def _called_program(equation: Any) -> core.ClosedJaxpr | None:
    """The program that an equation only calls; None of all others."""
    own = equation.primitive.name
    if own == "call_hi_primitive":  # of JAX 0.12: an object that knows its program
        prim = equation.params["_prim"]
        return jax.make_jaxpr(lambda *given: prim.expand(*prim.in_tree.unflatten(given)))(
            *(v.aval for v in equation.invars)
        )
    inner = equation.params.get(INLINED.get(own, ""))
    return None if inner is None else as_closed(inner)


def as_closed(jaxpr) -> core.ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else core.ClosedJaxpr(jaxpr, ())


def scan_counts(
    inputs: Sequence[tuple], outputs: Sequence[tuple], body: core.Jaxpr
) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carried: by the axes that its
    body lacks, since the names of its parameters differ between versions of JAX.

    Args:
      inputs, outputs: the shapes of what the scan takes and gives.
    """

    def sliced(outer: Sequence[tuple], inner: Sequence[Any]) -> list[bool]:
        return [len(o) > len(v.aval.shape) for o, v in zip(outer, inner, strict=True)]

    carry = sliced(outputs, body.outvars).count(False)
    return len(inputs) - carry - sum(sliced(inputs, body.invars)), carry


def _value_of(variable, name: int) -> _Value:
    return _Value(
        name, getattr(variable.aval, "shape", ()), str(getattr(variable.aval, "dtype", ""))
    )


def _constant(value: Any, aval: Any = None) -> _Value:
    """A constant by its bytes; a random key by its data."""
    if jnp.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key):
        kind, value = str(value.dtype), jax.random.key_data(value)
    else:
        kind = str(getattr(aval, "dtype", None) or getattr(value, "dtype", type(value).__name__))
    array = np.asarray(value)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return _Value(digest, array.shape, kind)


def _parameter_text(parameter: Any) -> str:
    """A parameter of an equation as text that is the same in every process."""
    if isinstance(parameter, core.ClosedJaxpr | core.Jaxpr):
        return "{" + _flatten(as_closed(parameter)).text() + "}"
    if isinstance(parameter, tuple | list):
        return "(" + ", ".join(map(_parameter_text, parameter)) + ")"
    if isinstance(parameter, dict):
        return _parameter_text(sorted(parameter.items(), key=repr))
    if hasattr(parameter, "__array__") and not isinstance(parameter, np.generic):
        return str(_constant(parameter))
    if callable(parameter) and not isinstance(parameter, type):
        return getattr(parameter, "__name__", type(parameter).__name__)
    return re.sub(r" at 0x[0-9a-f]+", "", str(parameter))


def digest(function: Callable, *avals: Any, what: str = "a function") -> str:
    """Sixteen hexadecimal digits of what a function computes from arguments of these shapes.

    They change with the program: its operations, and every constant and array in it. They do not
    change with names, comments, helpers, or the process.

    Args:
      what: the function is called this in an error.

    Raises:
      FadeoutError: the function calls back into Python, or is another program each time that it is
        traced.

    >>> two = digest(lambda z: 2 * z, jax.ShapeDtypeStruct((3,), jnp.float32))
    >>> two == digest(lambda x: x * 2, jax.ShapeDtypeStruct((3,), jnp.float32))
    False
    >>> two == digest(jax.jit(lambda x: 2 * x), jax.ShapeDtypeStruct((3,), jnp.float32))
    True
    """
    first, second = (_flatten(trace(function, *avals)) for _ in range(2))
    for primitive in _primitives(first):
        if primitive in _CALLBACKS:
            raise FadeoutError(
                f"{what} calls back into Python ({primitive}), so that nobody can tell what it "
                "computes: write it with jax.numpy, and leave prints out"
            )
    texts = [
        f"{jax.tree.structure(avals)}\n{program.text()}" for program in (first, second)
    ]  # fmt: skip
    if texts[0] != texts[1]:
        raise FadeoutError(
            f"{what}, traced twice, is two programs: it draws from NumPy or random, counts, or "
            "reads the clock; draw from a JAX key instead"
        )
    return hashlib.sha256(texts[0].encode()).hexdigest()[:16]


def _primitives(program: _Program) -> set[str]:
    """The names of all primitives in a program, also in loops and branches."""
    found = set()
    for e in program.equations:
        found.add(e.primitive)
        for inner in _inner_programs(e):
            found |= _primitives(inner)
    return found


def _inner_programs(equation: _Equation) -> list[_Program]:
    """The bodies and branches of a loop or a conditional."""
    given = [
        p
        for parameter in equation.parameters.values()
        for p in (parameter if isinstance(parameter, tuple | list) else [parameter])
    ]
    return [_flatten(as_closed(p)) for p in given if isinstance(p, core.ClosedJaxpr | core.Jaxpr)]


# --- what was traced is remembered for a while

_remembered: ContextVar[dict | None] = ContextVar("remembered", default=None)


@contextlib.contextmanager
def memoizing(known: dict | None = None) -> Iterator[dict]:
    """Makes `memoized` compute each key once inside: indexing many runs traces each function once.

    Args:
      known: what was remembered before; by default what the surrounding context remembers.
    """
    if known is None:
        known = _remembered.get()
    token = _remembered.set({} if known is None else known)
    try:
        yield _remembered.get()  # type: ignore[misc]
    finally:
        _remembered.reset(token)


def memoized(key: tuple, compute: Callable[[], Any]) -> Any:
    """Returns `compute()`, computed once inside `memoizing`. An error is remembered as well."""
    known = _remembered.get()
    if known is None:
        return compute()
    if key not in known:
        try:
            known[key] = compute(), None
        except FadeoutError as error:
            known[key] = None, error
    found, refused = known[key]
    if refused is not None:
        raise refused
    return found


# --- whether a program works element by element


def mixing_primitive(closed: core.ClosedJaxpr, first: int = 1) -> str | None:
    """The first primitive by which an element of the first arguments may decide about another.

    Args:
      closed: a traced function; its first arguments share one shape, as its outputs do.
      first: how many of them.

    Returns:
      The primitive's name; None where the function works element by element.

    >>> z = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    >>> mixing_primitive(trace(jnp.sort, z)), mixing_primitive(trace(jax.nn.gelu, z))
    ('sort', None)
    """
    program = _flatten(closed)
    of_z = {v.name: tuple(range(len(v.shape))) for v in program.inputs[:first]}
    mixing = _follow_axes(program, of_z, {})
    whole = [tuple(range(len(v.shape))) for v in program.outputs]
    if mixing is None and any(
        of_z.get(v.name, axes) != axes for v, axes in zip(program.outputs, whole, strict=True)
    ):
        return "an output of other axes"
    return mixing


def _follow_axes(
    program: _Program,
    of_z: dict[int | str, tuple[int, ...]],
    varying: dict[int | str, frozenset[int]],
) -> str | None:
    """Follows the axes of z through a program; gives the first primitive that mixes along them, or
    by which a place of z counts.

    Args:
      of_z: of each value that depends on z, which of its axes are those of z, in order. It is
        filled in.
      varying: of each other value, the axes along which it differs, as a table's or random bits. It
        is filled in.
    """

    def differs(v: _Value) -> frozenset[int]:
        if v.name in varying:
            return varying[v.name]
        return frozenset(a for a, n in enumerate(v.shape) if n > 1) if v.shape else frozenset()

    for e in program.equations:
        moving = [(v, of_z[v.name]) for v in e.inputs if v.name in of_z]
        if not moving:
            varying.update({v.name: _differing(e, v, differs) for v in e.outputs})
            continue
        rank, along = len(moving[0][0].shape), set(moving[0][1])
        beside = [v for v in e.inputs if v.name not in of_z and len(v.shape) == rank]
        aligned = e.primitive in ELEMENTWISE or e.primitive in ("concatenate", "stack")
        if aligned and any(differs(v) & along for v in beside):
            return f"{e.primitive} with what differs from place to place"
        axes = _axes_after(e, of_z, differs)
        if axes is None:
            return e.primitive
        of_z.update(
            {v.name: own for v, own in zip(e.outputs, axes, strict=True) if own is not None}
        )
    return None


_Axes = tuple[int, ...] | None


_REARRANGING = frozenset((
    "slice", "squeeze", "expand_dims", "transpose", "unstack", "reshape", "split", "rev",
    "dynamic_slice", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod",
))  # fmt: skip
"""Primitives that make something uniform of what is uniform."""


def _differing(
    e: _Equation, made: _Value, differs: Callable[[_Value], frozenset[int]]
) -> frozenset[int]:
    """The axes along which a value differs that does not depend on z."""
    every = frozenset(a for a, n in enumerate(made.shape) if n > 1)
    if e.primitive in ELEMENTWISE:
        same = [differs(v) for v in e.inputs if len(v.shape) == len(made.shape)]
        return frozenset().union(*same) & every
    if e.primitive == "broadcast_in_dim":
        along = e.parameters["broadcast_dimensions"]
        return frozenset(int(along[a]) for a in differs(e.inputs[0])) & every
    if e.primitive == "iota":
        return frozenset([e.parameters["dimension"]]) & every
    if e.primitive in _REARRANGING and not any(map(differs, e.inputs)):
        return frozenset()
    if e.primitive == "dot_general":
        (left, right), (batched, _) = e.parameters["dimension_numbers"]
        if not batched:
            sides = zip(
                e.inputs, (left, right), (0, len(e.inputs[0].shape) - len(left)), strict=True
            )
            return frozenset(
                place + start
                for v, summed, start in sides
                for place, a in enumerate(a for a in range(len(v.shape)) if a not in summed)
                if a in differs(v)
            )
    if e.primitive == "gather":
        offsets = e.parameters["dimension_numbers"].offset_dims
        return (every if differs(e.inputs[1]) else frozenset(offsets)) & every
    return every


def _axes_after(
    e: _Equation,
    of_z: dict[int | str, tuple[int, ...]],
    differs: Callable[[_Value], frozenset[int]],
) -> list[_Axes] | None:
    """Returns which axes of an equation's outputs are axes of z, or None where it may mix along
    them."""
    given = [of_z.get(v.name) for v in e.inputs]
    moving = {axes for axes in given if axes is not None}
    (axes,) = moving if len(moving) == 1 else (None,)
    if e.primitive in ("scan", "while", "cond"):
        return _axes_of_control(e, given, [differs(v) for v in e.inputs])
    if axes is None:
        return None
    if e.primitive in ELEMENTWISE:
        return [axes] * len(e.outputs)
    if e.primitive == "broadcast_in_dim":
        along = e.parameters["broadcast_dimensions"]
        return [tuple(int(along[a]) for a in axes)]
    if e.primitive.startswith("cum") and e.parameters["axis"] not in axes:
        return [axes]
    if e.primitive == "stack":
        return [tuple(a + (a >= e.parameters["axis"]) for a in axes)]
    if e.primitive in _REDUCTIONS and "axes" in e.parameters:
        gone = e.parameters["axes"]
        if set(gone) & set(axes):
            return None
        return [tuple(a - sum(g < a for g in gone) for a in axes)] * len(e.outputs)
    if e.primitive in ("squeeze", "expand_dims"):
        gone = e.parameters["dimensions"]
        return [tuple(a - sum(g < a for g in gone) for a in axes)]
    if e.primitive == "reshape":
        return _reshaped(e, axes)
    if e.primitive == "concatenate" and e.parameters["dimension"] not in axes:
        return [axes]
    if e.primitive == "transpose":
        order = e.parameters["permutation"]
        return [tuple(order.index(a) for a in axes)]
    if e.primitive == "slice":
        before, after = e.inputs[0].shape, e.outputs[0].shape
        return [axes] if all(before[a] == after[a] for a in axes) else None
    if e.primitive == "unstack" and e.parameters["axis"] not in axes:
        gone = e.parameters["axis"]
        return [tuple(a - (gone < a) for a in axes)] * len(e.outputs)
    if e.primitive == "dot_general" and given[0] is not None and given[1] is None:
        (summed, _), (batched, _) = e.parameters["dimension_numbers"]
        if batched or set(summed) & set(axes):
            return None
        left = [a for a in range(len(e.inputs[0].shape)) if a not in summed]
        return [tuple(left.index(a) for a in axes)]
    if e.primitive == "gather" and given[0] is None:  # from a table, at places that z decides
        offsets = e.parameters["dimension_numbers"].offset_dims
        batch = [a for a in range(len(e.outputs[0].shape)) if a not in offsets]
        return [tuple(batch[a] for a in axes)]
    return None


def _reshaped(e: _Equation, axes: tuple[int, ...]) -> list[_Axes] | None:
    """A reshape that only adds or removes axes of one element."""
    before, after = e.inputs[0].shape, e.outputs[0].shape
    big = [a for a, size in enumerate(before) if size != 1]
    still = [a for a, size in enumerate(after) if size != 1]
    if [before[a] for a in big] != [after[a] for a in still] or not set(axes) <= set(big):
        return None
    return [tuple(still[big.index(a)] for a in axes)]


def _axes_of_control(
    e: _Equation, given: list[_Axes], vary: list[frozenset[int]]
) -> list[_Axes] | None:
    """Returns `_axes_after` a loop or a conditional, by following its bodies."""
    if e.primitive == "cond":
        if given[0] is not None:
            return None
        branches = map(as_closed, e.parameters["branches"])
        return _agreed_axes([_follow_body(branch, given[1:], vary[1:]) for branch in branches])
    if e.primitive == "scan":
        body = as_closed(e.parameters["jaxpr"])
        shapes = [v.shape for v in e.inputs], [v.shape for v in e.outputs]
        consts, carried = scan_counts(*shapes, body.jaxpr)
        own, state = given[:consts], given[consts : consts + carried]
        rest = given[consts + carried :]
        if any(axes is not None and 0 in axes for axes in rest):  # a loop over elements of z
            return None
        rest = _shifted(rest, -1)
        rows = [frozenset(a - 1 for a in own if a) for own in vary[consts + carried :]]
        vary = [*vary[: consts + carried], *rows]
    else:
        tested, consts = e.parameters["cond_nconsts"], e.parameters["body_nconsts"]
        own, state = given[tested : tested + consts], given[tested + consts :]
        body, carried, rest = as_closed(e.parameters["body_jaxpr"]), len(state), []
        test = as_closed(e.parameters["cond_jaxpr"])
        test_varies, vary = [*vary[:tested], *vary[tested + consts :]], vary[tested:]
    for _ in range(carried + 1):  # until what is carried stays as it is
        found = _follow_body(body, [*own, *state, *rest], vary)
        if found is None:
            return None
        after = _agreed_axes([state, found[:carried]])
        if after is None:
            return None
        if after == state:
            break
        state = after
    if e.primitive == "while":
        passed = _follow_body(test, [*given[:tested], *state], test_varies)
        return state if passed == [None] else None
    assert found is not None
    return [*state, *_shifted(found[carried:], 1)]


def _shifted(several: list[_Axes], by: int) -> list[_Axes]:
    """Axes in the body of a loop (-1), or behind the axis that a loop stacks along (1)."""
    return [None if axes is None else tuple(a + by for a in axes) for axes in several]


def _follow_body(
    closed: core.ClosedJaxpr, given: list[_Axes], vary: list[frozenset[int]]
) -> list[_Axes] | None:
    program = _flatten(closed)
    varying: dict[int | str, frozenset[int]] = {
        v.name: own for v, own in zip(program.inputs, vary, strict=True)
    }
    pairs = zip(program.inputs, given, strict=True)
    of_z: dict[int | str, tuple[int, ...]] = {v.name: a for v, a in pairs if a is not None}
    if _follow_axes(program, of_z, varying) is not None:
        return None
    return [of_z.get(v.name) for v in program.outputs]


def _agreed_axes(sides: list[list[_Axes] | None]) -> list[_Axes] | None:
    """Returns what all branches say about the same outputs, if they agree."""
    if any(side is None for side in sides):
        return None
    found: list[_Axes] = []
    for choices in zip(*sides, strict=True):  # type: ignore[arg-type]
        known = {axes for axes in choices if axes is not None}
        if len(known) > 1:
            return None
        found.append(next(iter(known), None))
    return found
