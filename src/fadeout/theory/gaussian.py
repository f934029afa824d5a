"""Gaussian expectations of any activation, by quadrature that resolves kinks and steep turns.

An activation is a name of `fadeout.networks.activations` or a function of an array; slopes come by
automatic differentiation. All is computed in float64.
"""

import functools
import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array
from scipy.special import ndtr

from fadeout import config
from fadeout.networks.activations import (
    ACTIVATIONS,
    SATURATED_SLOPE,
    SLOPE_GRID,
    bind_static,
    value_and_vjp,
)
from fadeout.networks.jaxprs import digest, trace
from fadeout.networks.settings import standard_settings
from fadeout.registry import (
    FadeoutError,
    format_value,
    function_name,
    is_builtin,
    lookup,
    plain_number,
    user_errors,
)
from fadeout.schema import fill_options

ActivationLike = str | config.Activation | Callable

_REACH = 14.0
"""Standard deviations to which expectations are taken; e^(-98) lies beyond."""

_TOLERANCE = 1e-8
"""Two rules of quadrature must agree to this, relative to the sizes that they add up."""


class Moments(NamedTuple):
    """Gaussian expectations of an activation at u = sqrt(q) Z.

    Attributes:
      value, square: E phi, E phi^2.
      slope_square, slope_fourth: E phi'^2, E phi'^4.
      stretch: d E phi^2 / dq = E phi phi' Z / sqrt(q), which needs no second derivative.
    """

    value: float
    square: float
    slope_square: float
    slope_fourth: float
    stretch: float


@lru_cache(maxsize=4)
def _unit_rule(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(count)


def _panel_rule(edges: np.ndarray, count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre quadrature on panels, [..., panel, node].

    Args:
      edges: of the panels, [..., panel + 1].
      count: nodes of a panel.
    """
    x, w = _unit_rule(count)
    middle, reach = (edges[..., 1:] + edges[..., :-1]) / 2, (edges[..., 1:] - edges[..., :-1]) / 2
    return middle[..., None] + reach[..., None] * x, reach[..., None] * w


def _normal_density(z: np.ndarray) -> np.ndarray:
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _graded_edges(variance: float, kinks: np.ndarray, reach: float = _REACH) -> np.ndarray:
    """Edges of panels over a standard normal Z that follow an activation at u = sqrt(variance) Z.

    Panels shrink towards 0, where tanh of a wide u turns within 1/sqrt(variance), and end at the
    kinks.
    """
    half = reach * 2.0 ** -np.arange(0, 22)
    bends = kinks / math.sqrt(variance) if variance > 0 else kinks[:0]
    inside = bends[np.abs(bends) < reach]
    return np.unique(np.concatenate([-half, [0.0], half, inside]))


@lru_cache(maxsize=256)
def _kinks_of(function: Callable) -> np.ndarray:
    """Returns the points where an activation or its slope jumps, which become edges of the
    quadrature.

    Between the points of a grid the jump is followed by bisection into the half that holds the
    larger part of it; what has not shrunk when nothing is left to halve is a jump.

    >>> _kinks_of(ACTIVATIONS["hard_tanh"]).tolist()
    [-1.0, 1.0]
    """
    outer = np.geomspace(3, 1e8, 4000)
    points = np.concatenate([-outer[::-1], np.linspace(-3, 3, 24_001)[1:-1] + 1e-7, outer])
    low, high = points[:-1], points[1:]
    seen = [np.stack(value_and_slope(function, side)) for side in (low, high)]
    for _ in range(60):
        middle = (low + high) / 2
        at = np.stack(value_and_slope(function, middle))
        with np.errstate(invalid="ignore"):
            first = np.abs(at - seen[0]).sum(0) >= np.abs(seen[1] - at).sum(0)
        low, high = np.where(first, low, middle), np.where(first, middle, high)
        seen = [np.where(first, seen[0], at), np.where(first, at, seen[1])]
    with np.errstate(invalid="ignore"):
        jump = np.abs(seen[1] - seen[0])
        size = np.maximum(np.abs(seen[0]), np.abs(seen[1]))
        found = (jump > 1e-6 * (1e-3 + size)).any(0) & (high - low <= 1e-9 * (1 + np.abs(low)))
    places = np.array([round(place, 12) + 0.0 for place in (low[found] + high[found]) / 2])
    return np.unique(places)


_MAX_PANELS = 4096


def _expectation(function: Callable, edges: np.ndarray, what: str) -> np.ndarray:
    """E f(Z) of several functions f of a standard normal, by panels that are halved until two
    rules agree.

    Args:
      function: of nodes z [node], gives [which, node].
      edges: of the first panels.
      what: is integrated, for an error.

    Raises:
      FadeoutError: no number of panels that can be had makes two rules agree.
    """
    total = absolute = 0.0
    low, high = edges[:-1], edges[1:]
    worst = math.nan
    for _ in range(60):
        middle, count = (low + high) / 2, len(low)
        ends = [np.concatenate(three) for three in ((low, low, middle), (high, middle, high))]
        integrals, sizes = _by_panel(function, *ends)
        coarse, fine = integrals[:, :count], integrals[:, count:].reshape(-1, 2, count).sum(1)
        sizes = sizes[:, count:].reshape(-1, 2, count).sum(1)
        scale = absolute + sizes.sum(-1)
        with np.errstate(invalid="ignore"):
            off = np.abs(fine - coarse) > 1e-2 * _TOLERANCE * np.maximum(scale, 1e-300)[:, None]
        open_ = off.any(0) & np.isfinite(fine).all(0) & (high - low > 1e-13)
        total = total + fine[:, ~open_].sum(-1)
        absolute = absolute + sizes[:, ~open_].sum(-1)
        if not open_.any():
            _check_reach(function, edges, absolute, what)
            return total
        if 2 * open_.sum() > _MAX_PANELS:
            break
        worst = float(np.abs(fine - coarse)[:, open_].max())
        low, high = (
            np.concatenate(pair)[np.concatenate([open_, open_])]
            for pair in ((low, middle), (middle, high))
        )
    raise FadeoutError(
        f"{what} cannot be computed to {_TOLERANCE:g}: two rules of quadrature still differ by "
        f"{worst:.1g} with {_MAX_PANELS} panels; it oscillates too fast at this variance"
    )


def _check_reach(function: Callable, edges: np.ndarray, scale: np.ndarray, what: str) -> None:
    """
    Raises:
      FadeoutError: what lies beyond the outermost edges counts.
    """
    ends = edges[[0, -1]]
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = np.abs(function(ends)) * _normal_density(ends)
    if (beyond.max(-1) > _TOLERANCE * np.maximum(scale, 1e-300)).any():
        raise FadeoutError(
            f"{what} cannot be computed: at this variance the activation grows so fast that what "
            f"lies beyond {ends[1]:g} standard deviations counts"
        )


def _by_panel(
    function: Callable, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The integrals over panels, [which, panel], and those of the absolute values.

    Panels are taken in blocks of few sizes, so that JAX compiles few programs.
    """
    ends = np.stack([low, high], -1)
    block = next((size for size in _BLOCKS if size >= len(ends)), _BLOCKS[-1])
    padded = np.concatenate([ends, np.zeros((-len(ends) % block, 2))])
    integrals, sizes = [], []
    for rows in padded.reshape(-1, block, 2):
        z, weight = (part[:, 0] for part in _panel_rule(rows))
        with np.errstate(over="ignore", invalid="ignore"):
            values = function(z.ravel()).reshape(-1, *z.shape) * (weight * _normal_density(z))
        integrals.append(values.sum(-1))
        sizes.append(np.abs(values).sum(-1))
    return tuple(np.concatenate(part, -1)[:, : len(ends)] for part in (integrals, sizes))  # type: ignore[return-value]


_BLOCKS = (24, 160)
"""Panels that are taken at once: of a first rule with its halves, and of the few that are open."""


class _FrozenFunction:
    """A user's function as the program that it is now, in float64. Results are kept by what it
    computes, so that a constant which changes later is another function."""

    def __init__(self, function: Callable):
        self.__name__ = function_name(function)
        with standard_settings(True):
            number = jax.ShapeDtypeStruct((), jnp.float64)
            program = trace(function, number)
            self.digest = digest(lambda z: value_and_vjp(function, z), number)
        run = core.jaxpr_as_fun(program)
        self.apply = jnp.vectorize(lambda z: run(z)[0])

    def __call__(self, u: Array) -> Array:
        return self.apply(u)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _FrozenFunction) and self.digest == other.digest


def freeze(function: Callable) -> _FrozenFunction:
    """A user's function as it is now.

    Raises:
      FadeoutError: it is no function of a number that JAX can trace and differentiate.
    """
    what = f"activation {function_name(function)}"
    with user_errors(what):
        return _FrozenFunction(function)


def function_of(activation: ActivationLike) -> Callable:
    """The function of a name, of an `Activation`, or of a user's own.

    Raises:
      FadeoutError: an unknown name, or what is no function.
    """
    if isinstance(activation, str):
        return lookup(ACTIVATIONS, activation, "activation")
    if isinstance(activation, config.Activation):
        entry = lookup(ACTIVATIONS, activation.name, "activation")
        section = fill_options(activation, entry, "activation")
        activation = bind_static(entry, section.options)
    if isinstance(activation, _FrozenFunction):
        return activation
    if not callable(activation):
        raise FadeoutError(
            f"an activation is a name, an Activation or a function, not {format_value(activation)}"
        )
    inner = getattr(activation, "func", activation)
    return activation if is_builtin(inner) else freeze(activation)


def _number(name: str, value: Any, low: float, high: float, whole: bool = False) -> Any:
    what = "a whole number" if whole else "a number"
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and value % 1):
        raise FadeoutError(f"{name} must be {what}, not {format_value(value)}")
    if not low <= value <= high or abs(value) > 10**300:
        bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise FadeoutError(f"{name} must be {bounds}, not {format_value(value)}")
    return int(value) if whole else float(value)


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        found = np.asarray(value)
        if found.dtype.kind not in "biuf":
            raise TypeError
        return found.astype(float)
    except (TypeError, ValueError):
        raise FadeoutError(f"{name} must be numbers, not {format_value(value)}") from None


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise FadeoutError(f"{name} must be true or false, not {format_value(value)}")
    return value


_VARIANCE = 0.0, 1e300
CHECKED: dict[str, Callable[[str, Any], Any]] = {
    "activation": lambda name, value: (
        list(map(function_of, value)) if isinstance(value, list | tuple) else function_of(value)
    ),
    "variance": lambda name, value: _number(name, value, *_VARIANCE),
    "weight_variance": lambda name, value: _number(name, value, *_VARIANCE),
    "bias_variance": lambda name, value: _number(name, value, *_VARIANCE),
    "bias_over_weight": lambda name, value: _number(name, value, *_VARIANCE),
    "residual": lambda name, value: _number(name, value, -1e300, 1e300),
    "correlation": lambda name, value: _number(name, value, -1, 1),
    "depth": lambda name, value: _number(name, value, 1, config.MOST_DEPTH, whole=True),
    "width": lambda name, value: _number(name, value, 1, 10**7, whole=True),
    "strength": lambda name, value: _number(name, value, -1e300, 1e300),
    "start": _numbers,
    "times": _numbers,
    "u": _numbers,
    "orthogonal": _flag,
    "normalised": _flag,
    "branch": lambda name, value: None if value is None else _number(name, value, -1e300, 1e300),
}
"""What the arguments of theory may be, by their names."""


def checks_arguments(function: Callable) -> Callable:
    """Refuses arguments of theory that make no sense, and looks up the activation once."""
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*values: Any, **given: Any) -> Any:
        own = [CHECKED[n](n, v) if n in CHECKED else v for n, v in zip(names, values, strict=False)]
        named_ = {n: CHECKED[n](n, v) if n in CHECKED else v for n, v in given.items()}
        return function(*own, *values[len(own) :], **named_)

    return call


@lru_cache(maxsize=256)
def compile_value_and_slope(function: Callable) -> Callable:
    return jax.jit(lambda u: value_and_vjp(function, u))


@checks_arguments
def value_and_slope(activation: ActivationLike, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """phi(u) and phi'(u) in float64."""
    with standard_settings(True):
        value, slope = compile_value_and_slope(function_of(activation))(jnp.asarray(u, jnp.float64))
        return np.asarray(value), np.asarray(slope)


@checks_arguments
def moments(activation: ActivationLike, variance: float) -> Moments:
    """Gaussian expectations of an activation.

    >>> round(moments("relu", 2.0).square, 12)
    1.0
    """
    return _moments_of(function_of(activation), float(variance))


@lru_cache(maxsize=65536)
def _moments_of(function: Callable, variance: float) -> Moments:
    deviation = math.sqrt(variance)

    def integrands(z: np.ndarray) -> np.ndarray:
        phi, slope = value_and_slope(function, deviation * z)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.stack([phi, phi**2, slope**2, slope**4, phi * slope * z])

    what = (
        f"E phi^2 of {function_name(getattr(function, 'func', function))} at variance {variance:g}"
    )
    found = _expectation(integrands, _graded_edges(variance, _kinks_of(function)), what)
    value, square, slope_square, slope_fourth, mixed = map(float, found)
    return Moments(
        value, square, slope_square, slope_fourth, mixed / deviation if variance else math.nan
    )


def pair_moments(
    function: Callable, correlation: float, variance: float
) -> tuple[float, float, float]:
    """E phi(u1) phi(u2), E phi'(u1) phi'(u2) and E (phi(u1) - phi(u2))^2, for u1 and u2 normal of
    one variance and a correlation.

    u2 = c u1 + sqrt(1 - c^2) v: within each u1, the panels of v end where u2 meets a kink.

    Raises:
      FadeoutError: the same nodes do not give E phi(u2)^2 as `moments` has it.
    """
    kinks, deviation = _kinks_of(function), math.sqrt(variance)
    reach, rest = 9.0, math.sqrt(max(0.0, 1 - correlation**2))
    z, weight = (part.ravel() for part in _panel_rule(_graded_edges(variance, kinks, reach), 16))
    weight = weight * _normal_density(z)
    bends = kinks / deviation
    places = np.concatenate([[0.0], bends[np.abs(bends) < 2 * reach]])
    steps = reach * 2.0 ** -np.arange(0, 16)
    offsets = np.concatenate([-steps, [0.0], steps])
    centres = (places - correlation * z[:, None]) / max(rest, 1e-300)  # v where u2 is at a kink
    nearest = np.take_along_axis(centres, np.abs(centres).argmin(1)[:, None], 1)
    everywhere = np.broadcast_to(np.arange(-reach, reach + 1, 3), (len(z), 7))
    edges = np.concatenate([nearest + offsets, centres, everywhere], 1).clip(-reach, reach)
    sums = np.zeros(4)
    phi, slope = value_and_slope(function, deviation * z)
    for start in range(0, len(z), 256):
        rows = slice(start, start + 256)
        own = np.sort(edges[rows], axis=1)
        v, inner = _panel_rule(own, 16)
        inner = inner * _normal_density(v)
        u = deviation * (correlation * z[rows, None, None] + rest * v)
        other, steep = value_and_slope(function, u)
        each = phi[rows, None, None]
        joint = weight[rows, None, None] * inner
        sums += [
            float((joint * part).sum())
            for part in (
                each * other,
                slope[rows, None, None] * steep,
                (each - other) ** 2,
                other**2,
            )
        ]
    known = _moments_of(function, variance).square
    if not abs(sums[3] - known) <= _TOLERANCE * max(known, 1e-300):
        raise FadeoutError(
            f"the correlation map of {function_name(getattr(function, 'func', function))} "
            f"at variance {variance:g} and correlation {correlation:g} cannot be computed "
            f"to {_TOLERANCE:g}: two rules of quadrature differ by "
            f"{abs(sums[3] - known) / max(known, 1e-300):.1g}"
        )
    return sums[0], sums[1], sums[2]


@checks_arguments
def steepest_slope(activation: ActivationLike) -> float:
    """The largest |phi'(z)| over what is `SLOPE_GRID`.

    >>> steepest_slope("sigmoid")
    0.25
    """
    return float(np.abs(value_and_slope(activation, SLOPE_GRID)[1]).max())


@checks_arguments
def saturated_share(activation: ActivationLike, variance: float = 1.0) -> float:
    """The share of units that are saturated (`SATURATED_SLOPE`) where preactivations are normal.

    >>> round(saturated_share("relu"), 3), round(saturated_share("tanh"), 3)
    (0.5, 0.029)
    """
    z = (np.arange(-4000, 4000) + 0.5) / 1000
    _, both = value_and_slope(activation, np.concatenate([math.sqrt(variance) * z, SLOPE_GRID]))
    slope, steep = np.split(both, [z.size])
    flat = np.abs(slope) <= SATURATED_SLOPE * np.abs(steep).max()
    edges = ndtr(np.arange(-4000, 4001) / 1000)
    edges[0], edges[-1] = 0.0, 1.0
    return float(flat @ np.diff(edges))
