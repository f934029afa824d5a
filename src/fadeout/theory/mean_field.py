"""What mean-field theory predicts of a random network, for any activation. No network is trained.

Conventions (Poole 2016, Schoenholz 2017): z = W phi(z below) + b with W ~ (0, weight_variance /
fan_in) and b ~ (0, bias_variance), variance q = E z^2, Z a standard normal. An activation is a name
of `fadeout.networks.activations` or a function of an array. Slopes come from automatic
differentiation. Everything is computed in float64.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fadeout.registry import FadeoutError, format_value
from fadeout.theory.gaussian import (
    ActivationLike,
    Moments,
    checks_arguments,
    function_of,
    moments,
    pair_moments,
)
from fadeout.theory.remedies import profile

LARGEST, SMALLEST = 1e12, 1e-14
"""Variances beyond these count as infinite, or as 0."""


@checks_arguments
def variance_map(
    activation: ActivationLike, variance: float, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """The variance of the next layer's preactivations: Q(q) = sw2 E phi(sqrt(q) Z)^2 + sb2.

    Reference: Poole 2016, eq. 3.

    >>> round(variance_map("relu", 3.0, 2.0), 12)
    3.0
    """
    return weight_variance * moments(activation, variance).square + bias_variance


@checks_arguments
def chi(activation: ActivationLike, variance: float, weight_variance: float) -> float:
    """The mean squared gain of the gradient per layer: chi_1 = sw2 E phi'(sqrt(q) Z)^2.

    The log10 of a delta norm changes by 0.5 log10 chi_1 a layer. Reference: Schoenholz 2017, eq. 4.

    >>> round(chi("sigmoid", 0.0, 1.0), 6)
    0.0625
    """
    return weight_variance * moments(activation, variance).slope_square


@checks_arguments
def fixed_point(
    activation: ActivationLike, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """The variance q* that layers approach from variance 1; inf where they diverge.

    Where every variance is a fixed point, as for relu at weight variance 2, it is 1.

    >>> fixed_point("relu", 2.5), fixed_point("tanh", 0.9)
    (inf, 0.0)
    """

    def growth(q: float) -> float:
        return variance_map(activation, q, weight_variance, bias_variance) - q

    low = high = 1.0
    start = growth(1.0)
    if abs(start) < 1e-14:
        return 1.0
    if start > 0:
        while growth(high) > -_ROUNDING * high:
            low, high = high, 2 * high
            if high > LARGEST:
                return math.inf
    else:
        while growth(low) < _ROUNDING * low:
            low, high = low / 2, low
            if low < SMALLEST:
                return 0.0
    return _find_root(growth, low, high, xtol=1e-300, rtol=1e-14)


_ROUNDING = 1e-10
"""What a variance map says of a variance is known to this share of it."""


def _find_root(function: Callable[[float], float], low: float, high: float, **tolerances) -> float:
    """Returns a root of a function of a number, by a change of sign."""
    from scipy.optimize import brentq  # a slow import, where it is needed

    return float(brentq(function, low, high, **tolerances))


@checks_arguments
def correlation_map(
    activation: ActivationLike,
    correlation: float,
    variance: float,
    weight_variance: float,
    bias_variance: float = 0.0,
) -> float:
    """The next layer's correlation of two inputs' preactivations, both of the same variance.

    (sw2 E phi(sqrt(q) Z1) phi(sqrt(q) (c Z1 + sqrt(1 - c^2) Z2)) + sb2) / Q(q).
    Reference: Poole 2016, eq. 5.

    >>> math.isclose(correlation_map("relu", 0.0, 1.0, 2.0), 1 / math.pi, rel_tol=1e-9)
    True
    """
    function = function_of(activation)
    mixed = product_moment(function, correlation, variance)
    grown = variance_map(function, variance, weight_variance, bias_variance)
    return (weight_variance * mixed + bias_variance) / grown


def product_moment(activation: ActivationLike, correlation: float, variance: float) -> float:
    """E phi(u1) phi(u2) for u of a variance and a correlation."""
    if correlation >= 1:
        return moments(activation, variance).square
    return _pair_moments_kept(function_of(activation), float(correlation), float(variance))[0]


_pair_moments_kept = lru_cache(maxsize=4096)(pair_moments)


@checks_arguments
def correlation_fixed_point(
    activation: ActivationLike, weight_variance: float, bias_variance: float = 0.0
) -> float:
    """The correlation c* that any two inputs approach with depth: 1 in the ordered phase.

    In the chaotic phase (chi_1 > 1) c* is where two signals that part are brought together as fast:
    sw2 E (phi(u1) - phi(u2))^2 / 2 = q (1 - c).

    >>> correlation_fixed_point("tanh", 0.9)
    1.0
    >>> round(correlation_fixed_point("hard_tanh", 2.0, 0.3), 5)
    0.82873
    """
    function = function_of(activation)
    q = fixed_point(function, weight_variance, bias_variance)
    if not 0 < q < math.inf or chi(function, q, weight_variance) <= 1 + 1e-9:
        return 1.0

    def parts_faster(c: float) -> float:
        """Returns how much faster signals part than they are apart; chi_1 - 1 at c = 1."""
        return weight_variance * _pair_moments_kept(function, c, q)[2] / (2 * q * (1 - c)) - 1

    if parts_faster(0.0) >= -1e-12:
        return 0.0
    nearest = 1 - 1e-12
    if parts_faster(nearest) <= 0:
        return 1.0
    return _find_root(parts_faster, 0.0, nearest, xtol=1e-13)


class DepthScales(NamedTuple):
    """Layers over which a signal is forgotten.

    Attributes:
      variance: xi_q, of the approach to the fixed point.
      gradient: xi of chi_1 at the fixed point, over which the gradient vanishes; negative where it
        explodes (chi_1 > 1).
      correlation: xi_c, over which two inputs' correlation approaches c*: in the ordered phase that
        of the gradient.
    """

    variance: float
    gradient: float
    correlation: float


@checks_arguments
def depth_scales(
    activation: ActivationLike, weight_variance: float, bias_variance: float = 0.0
) -> DepthScales:
    """xi = -1 / ln of the slopes of the variance and correlation maps, and of chi_1, at the fixed
    point.

    Reference: Schoenholz 2017, eqs. 7 and 9. Networks train up to about six xi_c.
    """
    function = function_of(activation)
    q = fixed_point(function, weight_variance, bias_variance)
    if math.isinf(q):
        return DepthScales(math.nan, math.nan, math.nan)
    small = max(q, SMALLEST)  # at 0 itself a kink has a slope of its own
    slope = moments(function, q).stretch if q else moments(function, small).slope_square
    gain = chi(function, small, weight_variance)
    c = correlation_fixed_point(function, weight_variance, bias_variance)
    forgets = gain
    if c < 1:  # the map's slope, by Price's theorem
        forgets = weight_variance * _pair_moments_kept(function, c, q)[1]
    return DepthScales(*(_depth_scale(rate) for rate in (weight_variance * slope, gain, forgets)))


def _depth_scale(rate: float) -> float:
    if rate <= 0:
        return 0.0
    return math.inf if abs(rate - 1) < 1e-12 else -1 / math.log(rate)


class CriticalPoint(NamedTuple):
    """A point on the edge of chaos: chi_1 = 1 at the fixed point `variance`."""

    weight_variance: float
    variance: float


@checks_arguments
def critical(activation: ActivationLike, bias_variance: float = 0.0) -> list[CriticalPoint]:
    """The points of the edge of chaos at a bias variance; none where there is no edge.

    The edge is followed along q, where no root of a map is needed: sw2 = 1 / E phi'^2 and
    sb2 = q - sw2 E phi^2 (Hayou 2019). Where an edge point holds for every q, as relu's (2, 0), it
    is given at q = 1. A point at q = 0 is the limit of small signals: tanh's (1, 0) draws larger
    ones in, gelu's (4, 0) does not.

    >>> [tuple(round(x, 6) for x in point) for point in critical("relu")]
    [(2.0, 1.0)]
    >>> critical("softplus")
    []
    """
    curve = _edge_curve(activation)
    if curve is None:
        return []
    grid, _, edge_bias = curve

    def excess(q: float) -> float:
        known = moments(activation, q)
        return q - known.square / known.slope_square - bias_variance

    def point(q: float) -> CriticalPoint:
        at = q if moments(activation, q).slope_square else SMALLEST
        return CriticalPoint(1 / moments(activation, at).slope_square, q)  # relu6 has a kink at 0

    if np.all(np.abs(edge_bias) < 1e-9 * grid):  # sb2 = 0 along the whole edge
        return [point(1.0)] if bias_variance == 0 else []
    points = []
    left = edge_bias - bias_variance
    if bias_variance == 0 and abs(left[0]) < 1e-6 * grid[0]:  # the edge starts at q = 0
        points.append(point(0.0))
        left[np.abs(left) < 1e-6 * grid] = abs(left[-1])
    crossings = np.flatnonzero(left[:-1] * left[1:] < 0)
    roots = [_find_root(excess, grid[i], grid[i + 1], rtol=1e-14) for i in crossings]
    return points + [point(q) for q in roots]


def _edge_curve(activation: ActivationLike) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """q, sw2 and sb2 along the edge of chaos, sb2 < 0 where it is not feasible."""
    grid = np.geomspace(1e-8, 1e6, 281)
    known = [moments(activation, float(q)) for q in grid]
    slopes = np.array([m.slope_square for m in known])
    if slopes.min() <= 0:
        return None
    return grid, 1 / slopes, grid - np.array([m.square for m in known]) / slopes


@checks_arguments
def edge(activation: ActivationLike) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias variances on the edge of chaos, for drawing it; empty where there is none.

    >>> weight_variance, bias_variance = edge("erf")
    >>> round(float(weight_variance[0]), 6) == round(math.pi / 4, 6)
    True
    """
    curve = _edge_curve(activation)
    if curve is None:
        return np.empty(0), np.empty(0)
    grid, weight_variance, bias_variance = curve
    bias_variance = np.where(np.abs(bias_variance) < 1e-9 * grid, 0.0, bias_variance)
    feasible = bias_variance >= 0
    return weight_variance[feasible], bias_variance[feasible]


@checks_arguments
def variances(
    activation: ActivationLike,
    depth: int,
    weight_variance: float,
    bias_variance: float = 0.0,
    variance: float = 1.0,
) -> list[float]:
    """The variance of every hidden layer's preactivations, from that of the first.

    >>> [round(q, 12) for q in variances("relu", 3, weight_variance=1.0)]
    [1.0, 0.5, 0.25]
    """
    return profile(activation, depth, weight_variance, bias_variance, variance).variances.tolist()


@checks_arguments
def spread_added(known: Moments, orthogonal: bool) -> float:
    """Returns what a layer adds to the Jacobian's Var(s^2) / (E s^2)^2: mu_2 / mu_1^2 - 1 - s_1,
    where s_1 is 0 for orthogonal kernels and -1 for Gaussian ones; NaN where nothing passes.

    Reference: Pennington, Schoenholz & Ganguli 2017, eq. 22.
    """
    if not isinstance(known, Moments):
        raise FadeoutError(f"spread_added takes theory.moments(...), not {format_value(known)}")
    if not known.slope_square:
        return math.nan
    return known.slope_fourth / known.slope_square**2 - (1 if orthogonal else 0)


@checks_arguments
def gradient_profile(
    activation: ActivationLike,
    depth: int,
    weight_variance: float,
    bias_variance: float = 0.0,
    variance: float = 1.0,
) -> np.ndarray:
    """log10 of the delta norm of every hidden layer, [depth], less that of the last: 0 at the top.

    Args:
      variance: of the first hidden layer's preactivations.

    Going down from hidden layer l + 1 to l, the squared norm is multiplied by
    sw2 E phi'(sqrt(q_l) Z)^2, the widths being equal.
    """
    return profile(activation, depth, weight_variance, bias_variance, variance).gradient
