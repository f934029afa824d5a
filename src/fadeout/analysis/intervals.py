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


def exact(value: float) -> Interval:
    """Returns a computed number as an interval of no width."""
    return Interval(value, value, value)


def share_interval(flags: np.ndarray, draws: np.ndarray | None = None) -> Interval:
    """The share of true flags, with its Wilson interval; NaN of none.

    Args:
      flags: [run], true and false or 1 and 0; what is NaN is left out.
      draws: what each was drawn with, [run]. Flags of one draw may depend on one another: the
        interval is that of as many independent flags as have the same variance, and of no more
        than there are draws where all flags agree.

    Reference for `draws`: Korn & Graubard 1998.

    >>> share_interval(np.array([True, True, False, False])).value
    0.5
    """
    flags = np.asarray(flags)
    if flags.dtype.kind == "f":
        known = ~np.isnan(flags)
        flags, draws = flags[known], None if draws is None else np.asarray(draws)[known]
    flags = flags.astype(bool)
    if not flags.size:
        return UNKNOWN
    value = float(flags.mean())
    if draws is None or np.unique(draws).size == flags.size:
        return _wilson_interval(value, flags.size)
    return _wilson_interval(value, _effective_count(flags, np.asarray(draws)))


def _effective_count(flags: np.ndarray, draws: np.ndarray) -> float:
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


def _wilson_interval(value: float, count: float) -> Interval:
    """Wilson's interval of a share of a number of flags that need not be whole."""
    z2 = float(ndtri(0.975)) ** 2
    middle = (value + z2 / (2 * count)) / (1 + z2 / count)
    reach = math.sqrt(z2 * (value * (1 - value) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    low, high = middle - reach, middle + reach
    return Interval(max(0.0, min(low, value)), value, min(1.0, max(high, value)))


def bootstrap(
    statistic: Callable, *samples: np.ndarray, paired: bool = False, draws: int = 2000
) -> Interval:
    """A statistic of samples, with its percentile bootstrap interval.

    Of n values a percentile interval is narrower than that of Student's t by about
    sqrt((n - 1) / n) 1.96 / t: so much it is widened (Hesterberg 2015). One value has no interval,
    and none has no value.

    Args:
      statistic: of the samples, each along its last axis, and an `axis`.
      paired: whether the samples are of the same networks or seeds, in the same order, so that
        they are resampled together; else they are independent.
    """
    if not all(map(len, samples)):
        return UNKNOWN
    value, fewest = float(statistic(*samples, axis=-1)), min(map(len, samples))
    if fewest == 1:
        return Interval(math.nan, value, math.nan)
    if all(np.all(sample == sample[0]) for sample in samples):
        return exact(value)
    from scipy.stats import bootstrap as resample  # the import takes as long as all of JAX's

    low, high = resample(
        samples, statistic, n_resamples=draws, vectorized=True, method="percentile", paired=paired,
        rng=np.random.default_rng(0), batch=max(1, 10**7 // sum(map(len, samples))),
    ).confidence_interval  # fmt: skip
    wider = float(stdtrit(fewest - 1, 0.975) / ndtri(0.975)) * math.sqrt(fewest / (fewest - 1))
    return Interval(
        value - wider * (value - float(low)), value, value + wider * (float(high) - value)
    )


def mean_interval(values: np.ndarray, flags: bool = True) -> Interval:
    """The mean of a sample, with Student's t interval; of zeros and ones, with Wilson's.

    What is not finite is left out. One value has no interval. The interval covers 95 % of samples
    from a normal distribution, of whatever size; of skewed ones (lognormal, deviation of the log 1)
    it covers 83 % at 5 values, 84 % at 10, 87 % at 20 and 89 % at 40.

    Args:
      flags: whether values that are all 0 or 1 are flags; else they are sizes that happen to be.

    >>> [round(bound, 3) for bound in mean_interval(np.array([1.0, 2.0, 3.0]))]
    [-0.484, 2.0, 4.484]
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not values.size:
        return UNKNOWN
    value = float(np.mean(values))
    if values.size == 1:
        return Interval(math.nan, value, math.nan)
    if flags and np.isin(values, (0.0, 1.0)).all():
        return _wilson_interval(value, values.size)
    with np.errstate(over="ignore", invalid="ignore"):
        reach = float(stdtrit(values.size - 1, 0.975) * values.std(ddof=1)) / math.sqrt(values.size)
    return Interval(value - reach, value, value + reach)


def paired_share_interval(a: np.ndarray, b: np.ndarray) -> Interval:
    """The difference of two shares of the same draws, a - b, with Newcombe's 95 % interval.

    Args:
      a, b: flags, [draw].

    Reference: Newcombe 1998, method 10. It has a width also where all flags agree.

    >>> flags = np.array([1, 1, 0, 1, 0, 0, 1, 1]) == 1
    >>> low, value, high = paired_share_interval(flags, ~flags)
    >>> round(low, 3), value, round(high, 3)
    (-0.389, 0.25, 0.726)
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if not a.size:
        return UNKNOWN
    (low_a, p, high_a), (low_b, q, high_b) = share_interval(a), share_interval(b)
    both, neither = float(np.mean(a & b)), float(np.mean(~a & ~b))
    spread = math.sqrt(p * (1 - p) * q * (1 - q))
    covered = both * neither - (p - both) * (q - both)
    correction = max(covered - 0.5 / a.size, 0.0) if covered > 0 else covered
    phi = correction / spread if spread > 0 else 0.0

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    value = p - q
    return Interval(
        value - reach(p - low_a, high_b - q), value, value + reach(high_a - p, q - low_b)
    )


def score_interval(mean: float, count: int) -> Interval:
    """The mean of so many scores from 0 to 1, with Wilson's 95 % interval: of flags it is theirs,
    and of scores in between, which vary less, it is wide enough.

    >>> [round(bound, 2) for bound in score_interval(0.5, 24)]
    [0.31, 0.5, 0.69]
    """
    return _wilson_interval(mean, count)


_GRID = 1001
"""Means that a confidence sequence tries."""


def confidence_sequence(scores: np.ndarray, level: float = 0.95) -> Interval:
    """The mean of independent scores, with an interval that is valid whenever one stops to look.

    A repeated 95 % interval excludes the truth sooner or later; this one does so in at most 5 % of
    all studies, however often they are looked at (by Ville's inequality): for each mean, one bets
    against it, score by score, and it is left out once the capital has grown twentyfold.

    Args:
      scores: from 0 to 1, [draw], in the order in which they came.

    Reference: Waudby-Smith & Ramdas 2024, hedged capital with their predictable bets.

    >>> low, value, high = confidence_sequence(np.array([1.0] * 40))
    >>> round(low, 2), value, high
    (0.84, 1.0, 1.0)
    """
    scores = np.asarray(scores, float)
    if not scores.size:
        return UNKNOWN
    count = np.arange(1, scores.size + 1)
    means = (0.5 + np.cumsum(scores)) / (count + 1)
    variances = (0.25 + np.cumsum(np.square(scores - means))) / (count + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets = np.sqrt(2 * math.log(2 / (1 - level)) / (before * count * np.log1p(count)))
    tried = np.linspace(0, 1, _GRID)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.log1p(np.minimum(bets, 0.5 / tried) * (scores - tried)).cumsum(1)
        down = np.log1p(-np.minimum(bets, 0.5 / (1 - tried)) * (scores - tried)).cumsum(1)
    most = np.nanmax(np.maximum(up, down), axis=1) - math.log(2)
    kept = tried[most < -math.log(1 - level), 0]
    value = float(scores.mean())
    if not kept.size:
        return Interval(value, value, value)
    return Interval(min(float(kept[0]), value), value, max(float(kept[-1]), value))
