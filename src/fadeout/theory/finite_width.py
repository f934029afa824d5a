"""What is exact without a limit of width: relu networks, and deep linear ones."""

import math

import numpy as np
from scipy.special import digamma, polygamma

from fadeout.registry import FadeoutError
from fadeout.theory.gaussian import CHECKED, checks_arguments


@checks_arguments
def log_gradient_moments(width: int, weight_variance: float) -> tuple[float, float]:
    """Mean and variance of log R, R the factor of a squared norm in one layer of a relu network.

    Exact at any width, given that a unit is alive: R = (sw2 / n) chi2_B, B ~ Binomial(n, 1/2),
    independent over layers. Reference: Hanin 2018; Hanin & Nica 2018.
    """
    from scipy.stats import binom  # a slow import, where it is needed

    alive = np.arange(1, width + 1)
    weight = binom.pmf(alive, width, 0.5)
    weight = weight / weight.sum()
    logs = np.log(2 * weight_variance / width) + digamma(alive / 2)
    mean = float(weight @ logs)
    return mean, float(weight @ (polygamma(1, alive / 2) + (logs - mean) ** 2))


def dead_probability(*widths: int) -> float:
    """The probability that some layer of a relu network is born dead at one input.

    Exact for any symmetric initialisation without atoms: 1 - prod(1 - 2^-n).
    Reference: Lu, Shin, Su & Karniadakis 2019.

    >>> dead_probability(1, 1)
    0.75
    """
    for width in widths:
        CHECKED["width"]("width", width)
    return -math.expm1(sum(math.log1p(-(2.0**-n)) for n in widths))


@checks_arguments
def deep_linear(start: np.ndarray, strength: float, times: np.ndarray) -> np.ndarray:
    """The product of a deep linear network's aligned singular values under gradient flow, [time].

    da_l/dt = (strength - prod a) prod_{k != l} a_k, for whitened inputs; two layers that start
    equal give the logistic curve s e^(2st) / (e^(2st) - 1 + s / a(0)).

    Args:
      start: of each layer, at time 0.
      strength: of the correlation between inputs and outputs.
      times: increasing, from 0.

    Reference: Saxe, McClelland & Ganguli 2014, eqs. 7 and 13.
    """

    from scipy.integrate import solve_ivp  # a slow import, where it is needed

    if (
        start.ndim != 1
        or times.ndim != 1
        or not times.size
        or times[0] < 0
        or not (np.diff(times) > 0).all()
    ):
        raise FadeoutError("start must be a number for each layer, and times must increase from 0")
    if times[-1] == 0:
        return np.full(len(times), np.prod(start))

    def flow(_, values):
        others = np.array([np.prod(np.delete(values, i)) for i in range(values.size)])
        return (strength - np.prod(values)) * others

    answer = solve_ivp(flow, (0.0, float(times[-1])), start, "LSODA", times, rtol=1e-10, atol=1e-13)
    return answer.y.prod(axis=0)
