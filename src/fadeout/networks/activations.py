"""Activation functions phi, and the slopes phi' by which they pass a gradient on.

An activation is elementwise; its parameters are keyword-only, and floats among them traced. It
comes in by `activation`, in this file or in one of a user's own.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from fadeout.networks.jaxprs import digest, mixing_primitive, trace
from fadeout.networks.palette import check_look
from fadeout.networks.stacks import LayerIndex
from fadeout.registry import (
    NAMES,
    FadeoutError,
    function_name,
    is_builtin,
    lookup,
    new_table,
    user_errors,
)
from fadeout.registry import parameters as takes

ActivationFunction = Callable[[Array], Array]
ValueAndSlope = Callable[[Array], tuple[Array, Array]]
"""What gives phi(z) and phi'(z)."""


def value_and_vjp(function: Callable, z: Array) -> tuple[Array, Array]:
    """phi(z) and phi'(z) as `jax.grad` sees it: the VJP with ones."""
    value, pull = jax.vjp(function, z)
    return value, pull(jnp.ones_like(value))[0]


_TRIAL_INPUTS = (0.0, -0.0, 1.0, -1.0, 2.0, -2.0)
"""Where a new activation and its slope must be finite."""


_TRIAL_GRADIENTS = (-1.0, 2.0**-7, -(2.0**-7), 2.0**7, 2.0**-17, -(2.0**13))
"""By which a backward pass is multiplied to see whether it is linear: powers of two, which half
precision scales by without rounding."""

TRIAL_SHAPES = (2, 3), (4, 8, 16)
"""The shapes of z for which an activation is traced: [example, unit], and with networks beside."""


def _check_activation(function: Callable) -> None:
    """Refuses what is no activation.

    Raises:
      FadeoutError: JAX cannot trace or differentiate it, it has effects, it gives another shape or
        dtype, it is not elementwise, or its value or slope is not finite at one of `_TRIAL_INPUTS`.
    """
    what = f"activation {function_name(function)}"
    floats = {
        key: jnp.float32(p.default)
        for key, p in takes(function).items()
        if p.kind is float and p.default is not None
    }
    z = jnp.array(_TRIAL_INPUTS, jnp.float32).reshape(2, 3)

    def both(z, floats):
        return value_and_vjp(partial(function, **floats), z)

    with user_errors(what):
        plain = jax.make_jaxpr(partial(function, **floats))(z)
        value = jnp.asarray(function(z, **floats))
    if plain.effects:
        effects = ", ".join(map(str, plain.effects))
        raise FadeoutError(f"{what} has effects ({effects}): leave them out")
    if value.shape != z.shape or value.dtype != z.dtype:
        raise FadeoutError(
            f"{what} must give the shape and dtype that it is given, {z.shape} {z.dtype}, not "
            f"{value.shape} {value.dtype}"
        )
    with user_errors(what):
        digest(both, z, floats, what=what)
        value, slope = both(z, floats)
    for shape in TRIAL_SHAPES:
        with user_errors(what):
            program = trace(both, jax.ShapeDtypeStruct(shape, z.dtype), floats)
        if mixing := mixing_primitive(program):
            raise FadeoutError(
                f"{what} is not elementwise: {mixing} lets one value of z decide about others, or "
                "may do so for all that its program tells"
            )
    with user_errors(what):
        pull = jax.vjp(partial(function, **floats), z)[1]
        scaled = [pull(jnp.full_like(z, g))[0] / g for g in _TRIAL_GRADIENTS]
    near = float(0.03 * jnp.nanmax(jnp.abs(slope)) + 1e-6)
    if not all(jnp.allclose(own, slope, 0.05, near, equal_nan=True) for own in scaled):
        raise FadeoutError(
            f"{what} has a custom_vjp that is not linear in the gradient it is given, as one that "
            "clips it: the backward pass multiplies by phi'(z); use optimizer.clip"
        )
    with user_errors(what):
        alone = jax.vmap(lambda z: both(z, floats)[0])(z.reshape(-1, 1, 1)).reshape(z.shape)
    if not jnp.allclose(value, alone, 1e-5, 1e-6, equal_nan=True):
        raise FadeoutError(f"{what} is not elementwise: it depends on the shape of z")
    for name, found in (("value", value), ("slope", slope)):
        bad = jnp.flatnonzero(~jnp.isfinite(found))
        if bad.size:
            place, number = float(z.ravel()[bad[0]]), float(found.ravel()[bad[0]])
            raise FadeoutError(
                f"{what} is not finite everywhere between -2 and 2: its {name} at z = {place:g} is "
                f"{number:g}, also for jax.grad. Guard what a branch does not use: "
                "jnp.where(z >= 0, z, jnp.sqrt(jnp.where(z >= 0, 1, -z)))"
            )


ACTIVATIONS = new_table("activation", "z", reserved=("surrogate",), check=_check_activation)


class Display(NamedTuple):
    """How pictures show an activation.

    Attributes:
      formula: phi(z) at the default parameters, in matplotlib's mathtext.
      look: colour (#rrggbb), line style and marker. None takes the next look of a cycle.
    """

    formula: str = ""
    look: tuple[str, str, str] | None = None


DISPLAYS: dict[str, Display] = {}
"""How pictures show each activation, by name."""


def activation(
    function: Callable | None = None,
    *,
    formula: str = "",
    look: Any = None,
) -> Callable:
    """Registers an activation function under its own name.

    Args:
      function: works element by element on an array of any shape. Its keyword-only parameters, all
        with defaults, become keys of `activation` in a config; floats among them are traced.
      formula: phi(z) for the atlas, in matplotlib's mathtext: `r"$\\max(z, 0)$"`.
      look: colour (a word of `palette.COLORS` or #rrggbb), line style and marker in all pictures:
        `("green", "-", "D")`.

    Returns:
      The function as it was; without one, a decorator.

    Raises:
      FadeoutError: its name is taken, or it is not an activation function.

    >>> from fadeout.registry import TABLES
    >>> @activation(formula=r"$\\arctan z$")
    ... def arctan(z, *, stretch: float = 1.0):
    ...     return jnp.arctan(stretch * z) / stretch
    >>> print(get_activation("arctan", stretch=2.0)(jnp.array([0.0])))
    [0.]
    >>> del TABLES["activation"]["arctan"]
    """
    if function is None:
        return partial(activation, formula=formula, look=look)
    drawn = None if look is None else check_look(look)
    if str(formula).count("$") % 2:
        raise FadeoutError(f"formula={formula!r}: mathematics stands between two dollars")
    ACTIVATIONS.add(function)
    DISPLAYS[NAMES[function]] = Display(str(formula), drawn)
    return function


SLOPE_GRID = np.arange(-300, 301) / 100
"""Where the steepest slope is looked for: nearly all of a standard normal lies here, and unbounded
slopes (squared_relu) have a scale as well."""

SATURATED_SLOPE = 0.05
"""A unit counts as saturated where |phi'| is at most this share of its largest value."""


@activation(formula=r"$1$ if $z > 0$, else $0$", look=("black", ":", "s"))
def step(z):
    """1 where z > 0, else 0. Its derivative is 0 wherever it has one, so no gradient passes."""
    return (z > 0).astype(jnp.result_type(z, float))


@activation(formula=r"$\frac{1}{1 + e^{-z}}$", look=("red", "-", "o"))
def sigmoid(z):
    """1 / (1 + exp(-z)), with its steepest slope, 1/4, at 0."""
    return jax.nn.sigmoid(z)


@activation(formula=r"$\tanh z$", look=("blue", "-", "^"))
def tanh(z):
    """The sigmoid centred and stretched: 2 sigmoid(2z) - 1."""
    return jnp.tanh(z)


@activation(formula=r"$\max(z, 0)$", look=("green", "-", "D"))
def relu(z):
    """max(z, 0), with slope 0 at 0."""
    return jax.nn.relu(z)


@activation(formula=r"$z$", look=("grey", "-", "x"))
def identity_(z):
    """z: a linear network."""
    return z


@activation(formula=r"$\max(z, 0.01\,z)$", look=("green", "--", "d"))
def leaky_relu(z, *, slope=0.01):
    """z where z >= 0, else slope * z (Maas 2013)."""
    return jax.nn.leaky_relu(z, slope)


@activation(formula=r"$z$ if $z > 0$, else $e^z - 1$", look=("sky", "-", "v"))
def elu(z, *, alpha=1.0):
    """z where z > 0, else alpha (exp(z) - 1) (Clevert 2016)."""
    return jax.nn.elu(z, alpha)


@activation(formula=r"$1.0507\,(z$ if $z > 0$, else $1.6733\,(e^z - 1))$", look=("sky", "--", "<"))
def selu(z):
    """1.0507 elu(z) with alpha = 1.6733: (mean 0, variance 1) is a fixed point (Klambauer 2017)."""
    return jax.nn.selu(z)


@activation(formula=r"$z\,\Phi(z)$", look=("purple", "-", "P"))
def gelu(z):
    """z Phi(z), with Phi the normal distribution function (Hendrycks & Gimpel 2016)."""
    return jax.nn.gelu(z, approximate=False)


@activation(
    formula=r"$\frac{z}{2}(1 + \tanh(\sqrt{2/\pi}\,(z + 0.044715\,z^3)))$",
    look=("purple", ":", "p"),
)
def gelu_tanh(z):
    """z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))): the approximation of gelu."""
    return jax.nn.gelu(z, approximate=True)


@activation(formula=r"$\frac{z}{1 + e^{-z}}$", look=("purple", "--", "*"))
def silu(z, *, beta=1.0):
    """z sigmoid(beta z), also called swish (Ramachandran 2017)."""
    return z * jax.nn.sigmoid(beta * z)


@activation(formula=r"$z\,\tanh(\log(1 + e^z))$", look=("purple", "-.", "h"))
def mish(z):
    """z tanh(softplus(z)) (Misra 2019)."""
    return jax.nn.mish(z)


@activation(formula=r"$\log(1 + e^z)$", look=("orange", "-", ">"))
def softplus(z):
    """log(1 + exp(z)): the smooth relu, whose slope is the sigmoid."""
    return jax.nn.softplus(z)


@activation(formula=r"$\frac{z}{1 + |z|}$", look=("blue", "-.", "1"))
def softsign(z):
    """z / (1 + |z|): saturates like 1/z^2, slower than tanh (Glorot & Bengio 2010)."""
    return jax.nn.soft_sign(z)


@activation(formula=r"$\min(\max(z, -1), 1)$", look=("blue", "--", "2"))
def hard_tanh(z):
    """z cut to [-1, 1]."""
    return jax.nn.hard_tanh(z)


@activation(formula=r"$\min(\max(\frac{z}{6} + \frac{1}{2}, 0), 1)$", look=("red", "--", "8"))
def hard_sigmoid(z):
    """(z + 3) / 6 cut to [0, 1]."""
    return jax.nn.hard_sigmoid(z)


@activation(formula=r"$1.7159\,\tanh(\frac{2}{3}z)$", look=("blue", ":", "3"))
def lecun_tanh(z):
    """1.7159 tanh(2z/3), so that phi(1) = 1 and phi(-1) = -1 (LeCun 1998)."""
    return 1.7159 * jnp.tanh(z * (2 / 3))


@activation(formula=r"$\mathrm{erf}\,z$", look=("sky", ":", "4"))
def erf(z):
    """The error function: saturating, odd, and solvable in closed form (Williams 1997)."""
    return lax.erf(z)


@activation(formula=r"$\sin z$", look=("orange", "--", "+"))
def sin(z):
    """sin(z): neither monotone nor saturating (Sitzmann 2020)."""
    return jnp.sin(z)


@activation(formula=r"$\min(\max(z, 0), 6)$", look=("green", "-.", "H"))
def relu6(z):
    """z cut to [0, 6]."""
    return jax.nn.relu6(z)


@activation(formula=r"$\max(z, 0)^2$", look=("green", ":", "X"))
def squared_relu(z):
    """max(z, 0)^2: its slope has no bound (So 2021)."""
    return jnp.square(jax.nn.relu(z))


def in_table_order(words: list[str]) -> list[str]:
    """Activations in the table's order, and any others as they came.

    >>> in_table_order(["relu", "mine", "step"])
    ['step', 'relu', 'mine']
    """
    table = list(ACTIVATIONS)
    return sorted(words, key=lambda word: table.index(word) if word in table else len(table))


SURROGATES: dict[str, Callable | None] = {
    "none": None,
    "identity": identity_,
    "clipped": hard_tanh,
    "sigmoid": sigmoid,
}
"""Functions whose slope stands in for that of an activation in the backward pass."""


def get_activation(
    name: str | Callable, surrogate: str = "none", **parameters: Any
) -> ActivationFunction:
    """The activation of this name, its parameters filled in.

    Args:
      name: in `ACTIVATIONS`; or a function.
      surrogate: the function whose slope the backward pass uses instead of phi' (straight-through
        estimation, Bengio 2013): `identity` has slope 1, `clipped` 1 on [-1, 1], `sigmoid` its own.
      parameters: of those that have some; floats may be traced.

    Returns:
      A function of an array of any shape.

    Raises:
      FadeoutError: unknown name.

    >>> print(get_activation("leaky_relu", slope=0.1)(jnp.array([-2.0, 2.0])))
    [-0.2  2. ]
    """
    function = name if callable(name) else lookup(ACTIVATIONS, name, "activation")
    static = [key for key, p in takes(function).items() if p.kind is not float]
    chosen = tuple(sorted((key, parameters[key]) for key in static if key in parameters))
    floats = {key: value for key, value in parameters.items() if key not in static}
    return switch_activation((bind_static(function, chosen),), surrogate, 0, floats)


@lru_cache(maxsize=1024)
def bind_static(function: Callable, static: tuple[tuple[str, object], ...]) -> Callable:
    """Returns the function with its static options bound; one object for one choice."""
    return partial(function, **dict(static)) if static else function


def switch_activation(
    functions: Sequence[Callable], surrogate: str, index: LayerIndex, parameters: dict
) -> ActivationFunction:
    """Returns the activation that a traced `index` chooses among several."""
    choices = _branches_with_surrogate(functions, surrogate)
    return lambda z: switched(choices, z, index, parameters)


class ByLayer(NamedTuple):
    """phi and phi' of networks whose layers have activations of their own.

    Attributes:
      choose: gives phi and phi' of a number among the activations.
      numbers: of each hidden layer, [layer].
    """

    choose: Callable[[LayerIndex], ValueAndSlope]
    numbers: Int[Array, "layer"]

    def at(self, layer: LayerIndex) -> ValueAndSlope:
        """phi and phi' of a hidden layer, counted from 0."""
        return self.choose(self.numbers[layer])


_MOST_REPEATS = 10_000

_PART = re.compile(r"(?:(\d+)x)?([A-Za-z_]\w*)")


def is_by_layer(name: str) -> bool:
    """Returns whether a name is of an activation for each layer: `tanh-tanh-relu`."""
    return "-" in name or (_PART.fullmatch(name) is not None and name[:1].isdigit())


def layers_of_name(name: str) -> list[str]:
    """The activation of every hidden layer, from the bottom; `15xtanh-relu` has tanh 15 times.

    Raises:
      FadeoutError: it is not written so, or names an activation that is unknown, a user's own, or
        has parameters.

    >>> layers_of_name("2xtanh-relu")
    ['tanh', 'tanh', 'relu']
    """
    found = []
    for part in name.split("-"):
        match = _PART.fullmatch(part)
        if match is None or not 1 <= int(match[1] or 1) <= _MOST_REPEATS:
            raise FadeoutError(f"activation={name}: write it as tanh-tanh-relu, or 2xtanh-relu")
        own = lookup(ACTIVATIONS, match[2], "activation")
        if takes(own) or not is_builtin(own):
            raise FadeoutError(
                f"activation={name}: {match[2]} has parameters or is your own; an activation for "
                "each layer takes those of the package that have none"
            )
        found += [match[2]] * int(match[1] or 1)
    return found


def name_of_layers(layers: Sequence[str]) -> str:
    """The one name of an activation for each layer; of equal ones it is theirs.

    >>> name_of_layers(["tanh", "tanh", "relu"]), name_of_layers(["relu", "relu"])
    ('2xtanh-relu', 'relu')
    """
    runs = [(word, len(list(group))) for word, group in itertools.groupby(layers)]
    if len(runs) == 1:
        return runs[0][0]
    return "-".join(word if count == 1 else f"{count}x{word}" for word, count in runs)


def switch_value_and_slope(
    functions: Sequence[Callable], surrogate: str, index: LayerIndex, parameters: dict
) -> ValueAndSlope:
    """Returns phi and phi' of the activation that a traced `index` chooses among several."""
    choices = _branches_with_surrogate(functions, surrogate)
    return lambda z: _switched_value_and_slope(choices, z, index, parameters)


def _branches_with_surrogate(functions: Sequence[Callable], surrogate: str) -> tuple:
    stand_in = lookup(SURROGATES, surrogate, "surrogate")
    return tuple((function, stand_in) for function in functions)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def switched(choices, z, index, parameters):
    return _switched_value_and_slope(choices, z, index, parameters)[0]


@switched.defjvp
def switched_tangent(choices, primals, tangents):
    value, slope = _switched_value_and_slope(choices, *primals)
    return value, slope * tangents[0]


def _switched_value_and_slope(
    choices, z: Float[Array, "*size"], index, parameters
) -> tuple[Float[Array, "*size"], Float[Array, "*size"]]:
    """phi(z) and phi'(z) of the chosen activation.

    An infinite preactivation has no slope, not even where the activation is flat: it makes all
    gradients below it NaN, so that nothing that diverges can hide behind a saturated unit.

    Both are computed once, in the forward pass, and z is of no use to the backward pass; left to
    itself, XLA computes a gelu's erf, and the sums that made z, again for each product of the
    backward pass, and trains 8 times slower at width 8. A branch costs nothing that can be measured
    on a CPU.
    """

    def branch(function, stand_in):
        own = {
            k: parameters[k]
            for k, p in takes(function).items()
            if p.kind is float and k in parameters
        }

        def both(z):
            value, slope = value_and_vjp(partial(function, **own), z)
            if stand_in is not None:
                slope = slope_of(stand_in, z)
            return value, slope + 0 * z

        return both

    branches = [branch(*choice) for choice in choices]
    return branches[0](z) if len(branches) == 1 else lax.switch(index, branches, z)


def slope_of(activation: ActivationFunction, z: Float[Array, "*size"]) -> Float[Array, "*size"]:
    """phi'(z), elementwise, as the backward pass sees it.

    >>> print(slope_of(tanh, jnp.array([0.0])))
    [1.]
    """
    return value_and_vjp(activation, z)[1]


def largest_slope(slope: Callable, dtype=jnp.float32) -> Float[Array, ""]:
    """Returns the largest |phi'(z)| over `SLOPE_GRID`.

    Args:
      slope: gives phi'(z).

    >>> print(largest_slope(partial(slope_of, sigmoid)))
    0.25
    """
    return jnp.max(jnp.abs(slope(jnp.asarray(SLOPE_GRID, dtype))))
