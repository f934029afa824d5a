"""Gaussian expectations of any activation, by quadrature that resolves kinks and steep turns.

An activation is a name of `fadeout.networks.activations` or a function of an array; slopes come by
automatic differentiation. All is computed in float64.
"""

import functools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array
from scipy.special import ndtr

from fadeout import config
from fadeout.networks.activations import ACTIVATIONS, FLAT, SCANNED, value_and_vjp
from fadeout.networks.jaxprs import digest, trace
from fadeout.registry import FadeoutError, is_own, lookup, named, shown, tried
from fadeout.schema import complete

Activation = str | config.Activation | Callable

KINKS = np.array([1.0, 3.0, 6.0])
"""Where, besides 0, the activations of the table have kinks."""

REACH = 14.0
"""Standard deviations to which expectations are taken; e^(-98) lies beyond."""


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


@lru_cache(maxsize=1)
def unit_rule() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(24)


def panel_rule(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of composite Gauss-Legendre quadrature on the panels between edges."""
    x, w = unit_rule()
    middle, reach = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + reach[:, None] * x).ravel(), (reach[:, None] * w).ravel()


def normal_rule(variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes z and weights of expectations over a standard normal.

    Panels shrink towards 0, where tanh of a wide u turns within
    1/sqrt(q), and end at the kinks.
    """
    graded = REACH * 2.0 ** -np.arange(0, 44 * 0.5, 0.5)
    kinks = KINKS / math.sqrt(variance) if variance > 0 else KINKS[:0]
    half = np.unique(np.concatenate([[0.0], graded, kinks[kinks < REACH]]))
    edges = np.concatenate([-half[:0:-1], half])
    z, weight = panel_rule(edges)
    return z, weight * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


class Frozen:
    """A user's function as the program that it is now, in float64. Results are kept by what it
    computes, so that a constant which changes later is another function."""

    def __init__(self, function: Callable):
        with jax.enable_x64(True):
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
        return isinstance(other, Frozen) and self.digest == other.digest


def frozen(function: Callable) -> Frozen:
    """A user's function as it is now.

    Raises:
      FadeoutError: it is no function of a number that JAX can trace and differentiate.
    """
    what = f"activation {named(function)}"
    with tried(what):
        return Frozen(function)


def function_of(activation: Activation) -> Callable:
    """The function of a name, of an `Activation`, or of a user's own.

    Raises:
      FadeoutError: an unknown name, or what is no function.
    """
    if isinstance(activation, str):
        return lookup(ACTIVATIONS, activation, "activation")
    if isinstance(activation, config.Activation):
        entry = lookup(ACTIVATIONS, activation.name, "activation")
        section = complete(activation, entry, "activation")
        activation = functools.partial(entry, **dict(section.options))
    if isinstance(activation, Frozen):
        return activation
    if not callable(activation):
        raise FadeoutError(
            f"an activation is a name, an Activation or a function, not {shown(activation)}"
        )
    inner = getattr(activation, "func", activation)
    return activation if is_own(inner) else frozen(activation)


@lru_cache(maxsize=256)
def compiled(function: Callable) -> Callable:
    return jax.jit(lambda u: value_and_vjp(function, u))


def value_and_slope(activation: Activation, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """phi(u) and phi'(u) in float64."""
    with jax.enable_x64(True):
        value, slope = compiled(function_of(activation))(jnp.asarray(u, jnp.float64))
        return np.asarray(value), np.asarray(slope)


def moments(activation: Activation, variance: float) -> Moments:
    """Gaussian expectations of an activation.

    >>> round(moments("relu", 2.0).square, 12)
    1.0
    """
    return moments_of(function_of(activation), variance)


@lru_cache(maxsize=65536)
def moments_of(function: Callable, variance: float) -> Moments:
    z, weight = normal_rule(variance)
    phi, slope = value_and_slope(function, math.sqrt(variance) * z)
    return Moments(
        value=float(weight @ phi),
        square=float(weight @ phi**2),
        slope_square=float(weight @ slope**2),
        slope_fourth=float(weight @ slope**4),
        stretch=float(weight @ (phi * slope * z)) / math.sqrt(variance) if variance else math.nan,
    )


def steepest_slope(activation: Activation) -> float:
    """The largest |phi'(z)| over what is `SCANNED`.

    >>> steepest_slope("sigmoid")
    0.25
    """
    return float(np.abs(value_and_slope(activation, SCANNED)[1]).max())


def saturated_share(activation: Activation, variance: float = 1.0) -> float:
    """The share of units that are saturated (`FLAT`) where preactivations are normal.

    >>> round(saturated_share("relu"), 3), round(saturated_share("tanh"), 3)
    (0.5, 0.029)
    """
    z = (np.arange(-4000, 4000) + 0.5) / 1000
    _, both = value_and_slope(activation, np.concatenate([math.sqrt(variance) * z, SCANNED]))
    slope, steep = np.split(both, [z.size])
    flat = np.abs(slope) <= FLAT * np.abs(steep).max()
    edges = ndtr(np.arange(-4000, 4001) / 1000)
    edges[0], edges[-1] = 0.0, 1.0
    return float(flat @ np.diff(edges))
