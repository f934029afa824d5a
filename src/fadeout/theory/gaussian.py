"""Gaussian expectations of any activation, by quadrature that resolves kinks and steep turns.

An activation is a name of `fadeout.networks.activations` or a function of an array; slopes come by
automatic differentiation. All is computed in float64.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

from fadeout.networks.activations import ACTIVATIONS, FLAT, SCANNED
from fadeout.registry import lookup

Activation = str | Callable

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


def function_of(activation: Activation) -> Callable:
    """What a name stands for now: results are kept by the function, which no name can change."""
    return (
        lookup(ACTIVATIONS, activation, "activation") if isinstance(activation, str) else activation
    )


@lru_cache(maxsize=256)
def compiled(function: Callable) -> Callable:
    return jax.jit(lambda u: jax.jvp(function, (u,), (jnp.ones_like(u),)))


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
