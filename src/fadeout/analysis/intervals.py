"""Shares, means and ratios with their 95 % intervals, right also where networks share their draws.

A run's keys follow from its seed alone: runs of one seed begin with the same first layer, whatever
their activation or depth. That makes comparisons sharp (common random numbers), and a sample of
such runs smaller than their number. So a share of runs that share seeds is told its `draws`, and
two quantities of the same networks, or of the same seeds, are compared in pairs.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    low: float
    value: float
    high: float


UNKNOWN = Interval(math.nan, math.nan, math.nan)
"""Of nothing measured."""


def exactly(value: float) -> Interval:
    """A number that was computed, not sampled."""
    return Interval(value, value, value)


def share(flags: np.ndarray, draws: np.ndarray | None = None) -> Interval:
    """The share of true flags, with its Wilson interval; NaN of none.

    Args:
      flags: [run].
      draws: what each was drawn with, [run]. Flags of one draw may depend on one another: the
        interval is that of as many independent flags as have the same variance, and of no more
        than there are draws where all flags agree.

    Reference for `draws`: Korn & Graubard 1998.

    >>> share(np.array([True, True, False, False])).value
    0.5
    """
    flags = np.asarray(flags, bool)
    if not flags.size:
        return UNKNOWN
    value = float(flags.mean())
    if draws is None or np.unique(draws).size == flags.size:
        return wilson(value, flags.size)
    return wilson(value, independent(flags, np.asarray(draws)))


def independent(flags: np.ndarray, draws: np.ndarray) -> float:
    """How many independent flags would tell as much."""
    _, place = np.unique(draws, return_inverse=True)
    groups = int(place.max()) + 1
    if groups == 1:
        return 1.0
    value, count = flags.mean(), flags.size
    if value in (0, 1):
        size = float(groups)
    else:
        excess = np.bincount(place, flags - value)  # each draw's flags beyond what is expected
        variance = groups / (groups - 1) * float(excess @ excess) / count**2
        size = min(count, value * (1 - value) / variance if variance > 0 else count)
    return size * float(ndtri(0.975) / stdtrit(groups - 1, 0.975)) ** 2


def wilson(value: float, count: float) -> Interval:
    """Wilson's interval of a share of a number of flags that need not be whole."""
    z2 = float(ndtri(0.975)) ** 2
    middle = (value + z2 / (2 * count)) / (1 + z2 / count)
    reach = math.sqrt(z2 * (value * (1 - value) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    low, high = middle - reach, middle + reach
    return Interval(max(0.0, min(low, value)), value, min(1.0, max(high, value)))


def bootstrap(
    statistic: Callable, *samples: np.ndarray, paired: bool = False, draws: int = 2000
) -> Interval:
    """A statistic of samples, with its percentile bootstrap interval; NaN of an empty one.

    Args:
      statistic: of the samples, each along its last axis, and an `axis`.
      paired: whether the samples are of the same networks or seeds, in the same order, so that
        they are resampled together; else they are independent.
    """
    if not all(map(len, samples)):
        return UNKNOWN
    value = float(statistic(*samples, axis=-1))
    if all(np.all(sample == sample[0]) for sample in samples):
        return exactly(value)
    from scipy.stats import bootstrap as resample  # the import takes as long as all of JAX's

    low, high = resample(
        samples, statistic, n_resamples=draws, vectorized=True, method="percentile", paired=paired,
        rng=np.random.default_rng(0), batch=max(1, 10**7 // sum(map(len, samples))),
    ).confidence_interval  # fmt: skip
    return Interval(float(low), value, float(high))


def mean(values: np.ndarray) -> Interval:
    """The mean of a sample, with its bootstrap interval; what is not finite is left out."""
    return bootstrap(np.mean, values[np.isfinite(values)])
