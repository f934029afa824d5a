"""Activations in JavaScript, from what JAX traces of them: the mathematics is written once."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from fadeout.networks.settings import standard_settings
from fadeout.registry import FadeoutError

_OPERATIONS = {
    "add": "({0} + {1})",
    "add_any": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "neg": "(-{0})",
    "max": "Math.max({0}, {1})",
    "min": "Math.min({0}, {1})",
    "pow": "({0} ** {1})",
    "square": "({0} * {0})",
    "one_minus_square": "(1 - {0} * {0})",
    "rsqrt": "(1 / Math.sqrt({0}))",
    "logistic": "(1 / (1 + Math.exp(-{0})))",
    "erf": "erf({0})",
    "erfc": "erfc({0})",
    "gt": "({0} > {1})",
    "ge": "({0} >= {1})",
    "lt": "({0} < {1})",
    "le": "({0} <= {1})",
    "eq": "({0} === {1})",
    "ne": "({0} !== {1})",
    "and": "({0} && {1})",
    "or": "({0} || {1})",
    "not": "(!{0})",
    "select_n": "({0} ? {2} : {1})",
    "convert_element_type": "Number({0})",
    "copy": "{0}",
    "stop_gradient": "{0}",
} | {
    name: f"Math.{name}({{0}})"
    for name in ("abs", "sign", "exp", "expm1", "log", "log1p", "sqrt", "cbrt", "sin", "cos",
                 "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh")
}  # fmt: skip
"""JAX's elementwise operations as JavaScript; erf and erfc are the page's own."""


_CALLS = {"exp_neg_sq": "Math.exp(-({0} * {0}))"}
"""Functions of JAX's own (0.12) that are made of a number's bits."""


def javascript(both: Callable) -> str:
    """A function of arrays z, h and s that fills h and s with what `both` gives of each z.

    Args:
      both: of a scalar, elementwise: a value and a slope.

    Raises:
      FadeoutError: it uses an operation that has no translation.

    >>> print(javascript(lambda z: (jnp.tanh(z), 1 + z)))
    (z, h, s) => {
      for (let i = 0; i < z.length; i += 1) {
        const a = z[i];
        const b = Math.tanh(a);
        const c = (1 + a);
        h[i] = b;
        s[i] = c;
      }
    }
    """
    with standard_settings(True):
        traced = jax.make_jaxpr(both)(jnp.float64(0.5))
    lines: list[str] = []
    value, slope = _inlined(traced, ["z[i]"], lines, _names())
    return "\n".join([
        "(z, h, s) => {",
        "  for (let i = 0; i < z.length; i += 1) {",
        *(f"    {line}" for line in [*lines, f"h[i] = {value};", f"s[i] = {slope};"]),
        "  }",
        "}",
    ])  # fmt: skip


def _names() -> Iterator[str]:
    """a, b, ..., z, a1, b1, ..., but for those of the arguments."""
    number = 0
    while True:
        for letter in "abcdefgjklmnopqrtuvwxy":
            yield f"{letter}{number or ''}"
        number += 1


def _inlined(
    closed: ClosedJaxpr | Jaxpr, arguments: list[str], lines: list[str], fresh: Iterator[str]
) -> list[str]:
    """Writes a program line by line; what its outputs are called."""
    jaxpr, constants = (
        (closed.jaxpr, closed.consts) if isinstance(closed, ClosedJaxpr) else (closed, [])
    )
    words: dict[Any, str] = dict(
        zip(jaxpr.constvars, map(_javascript_number, constants), strict=True)
    )
    for variable, argument in zip(jaxpr.invars, arguments, strict=True):
        if not argument.isidentifier() and "[" in argument:
            name = next(fresh)
            lines.append(f"const {name} = {argument};")
            argument = name
        words[variable] = argument

    def word(atom: Any) -> str:
        return _javascript_number(atom.val) if isinstance(atom, Literal) else words[atom]

    for equation in jaxpr.eqns:
        given = [word(atom) for atom in equation.invars]
        inner = next((equation.params[key] for key in ("jaxpr", "call_jaxpr")
                      if key in equation.params), None)  # fmt: skip
        name = equation.primitive.name
        known = _CALLS.get(_function_label(inner)) if inner is not None else None
        if known is not None:
            inner, found = None, [known.format(*given)]
        elif inner is not None:
            found = _inlined(inner, given, lines, fresh)
        elif name == "integer_pow":
            found = [f"({given[0]} ** {equation.params['y']})"]
        elif name in _OPERATIONS:
            found = [_OPERATIONS[name].format(*given)]
        else:
            raise FadeoutError(f"{name} has no translation to JavaScript")
        for variable, text in zip(equation.outvars, found, strict=True):
            if text.startswith(("(", "M", "N", "e")) and inner is None:
                words[variable] = next(fresh)
                lines.append(f"const {words[variable]} = {text};")
            else:
                words[variable] = text
    return [word(atom) for atom in jaxpr.outvars]


def _function_label(inner: Any) -> str:
    """Returns the name of the Python function that an inner program came from."""
    about = getattr(getattr(inner, "jaxpr", inner), "debug_info", None)
    return getattr(about, "func_name", "") if about is not None else ""


def _javascript_number(value: Any) -> str:
    """A scalar as JavaScript writes it."""
    scalar = np.asarray(value).item()
    if isinstance(scalar, bool):
        return str(scalar).lower()
    if math.isinf(scalar):
        return "Infinity" if scalar > 0 else "-Infinity"
    if math.isnan(scalar):
        return "NaN"
    whole = scalar == int(scalar) and abs(scalar) < 2**53
    text = repr(int(scalar) if whole else float(scalar))
    return f"({text})" if scalar < 0 else text
