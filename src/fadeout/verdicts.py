"""What measurements mean: intervals of shares and slopes, and one word for every run."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.stats import binomtest
from scipy.stats import bootstrap as resample

from fadeout.registry import FadeoutError
from fadeout.results import final


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    low: float
    value: float
    high: float


def exactly(value: float) -> Interval:
    """A number that was computed, not sampled."""
    return Interval(value, value, value)


def share(flags: np.ndarray) -> Interval:
    """The share of true flags, with its Wilson interval.

    >>> share(np.array([True, True, False, False])).value
    0.5
    """
    test = binomtest(int(flags.sum()), flags.size)
    interval = test.proportion_ci(0.95, method="wilson")
    return Interval(float(interval.low), float(test.statistic), float(interval.high))


def bootstrap(statistic: Callable, *samples: np.ndarray, draws: int = 2000) -> Interval:
    """A statistic of independent samples, with its percentile bootstrap interval.

    Args:
      statistic: of the samples, each along its last axis, and an `axis`.
    """
    value = float(statistic(*samples, axis=-1))
    if all(np.all(sample == sample[0]) for sample in samples):
        return exactly(value)
    low, high = resample(
        samples, statistic, n_resamples=draws, vectorized=True, method="percentile",
        rng=np.random.default_rng(0), batch=max(1, 10**7 // sum(map(len, samples))),
    ).confidence_interval  # fmt: skip
    return Interval(float(low), value, float(high))


def mean(values: np.ndarray) -> Interval:
    """The mean of a sample, with its bootstrap interval; what is not finite is left out."""
    return bootstrap(np.mean, values[np.isfinite(values)])


def hidden(values: xr.DataArray) -> np.ndarray:
    """A probe's values at the hidden layers of runs of one depth, [..., layer]."""
    (depth,) = np.unique(values["depth"].values)
    return values.sel(layer=slice(1, int(depth))).values


def slopes(values: xr.DataArray, lowest: int = 1) -> np.ndarray:
    """Per run, what a layer adds to log10 of a norm on the way up: least squares, [run].

    Args:
      values: of runs of one depth at one step, [run, layer].
      lowest: hidden layer that is looked at.

    Positive is a gradient that vanishes on its way down.
    """
    with np.errstate(divide="ignore"):
        return trend(np.log10(hidden(values)[:, lowest - 1 :]))


def trend(profile: np.ndarray) -> np.ndarray:
    """The slope of values over layers, [..., layer], by least squares.

    >>> print(round(float(trend(np.array([3.0, 5.0, 7.0]))), 12))
    2.0
    """
    layers = np.arange(profile.shape[-1]) - (profile.shape[-1] - 1) / 2
    return profile @ layers / (layers @ layers)


# --- one word for every run

NEEDED = {"delta_norm", "dead_units", "saturation"}
DEAD = 1.0
VANISHING, EXPLODING = 1e-2, 1e2
SATURATED = 0.5
VERDICTS = (
    "failed",
    "diverged",
    "unknown",
    "dead",
    "vanishing",
    "exploding",
    "saturated",
    "healthy",
)


def verdicts(results: xr.Dataset) -> np.ndarray:
    """For every run the first that applies, [run].

    *failed*: its program did. *diverged*: a value was not finite. *unknown*: a probe that this
    needs was not recorded of it. *dead*: after training all units of some hidden layer are dead on
    all examples, so that no gradient passes. *vanishing*, *exploding*: at initialisation the delta
    norm of the first hidden layer is less than 1/100, or more than 100 times, that of the last.
    *saturated*: after training more than half of all hidden units are. Else *healthy*.

    Raises:
      FadeoutError: a probe that this needs was not recorded.
    """
    lacking = sorted(NEEDED - set(results))
    if lacking:
        raise FadeoutError(f"verdicts need the probes {', '.join(lacking)}: record them as well")
    start = results["delta_norm"].sel(step=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (start.sel(layer=1) / start.sel(layer=results["depth"])).values
    status = results["status"].values
    unknown = np.any([results[name].sel(step=0, layer=1).isnull() for name in NEEDED], axis=0)
    conditions = {
        "failed": status == "failed",
        "diverged": status == "diverged",
        "unknown": unknown,
        "dead": (final(results["dead_units"]) >= DEAD).any("layer").values,
        "vanishing": ratio < VANISHING,
        "exploding": ratio > EXPLODING,
        "saturated": final(results["saturation"]).mean("layer").values > SATURATED,
    }
    return np.select(list(conditions.values()), list(conditions), "healthy")


def verdict_shares(words: np.ndarray) -> dict[str, Interval]:
    """The share of each verdict that occurs among some runs.

    >>> list(verdict_shares(np.array(["healthy", "dead", "healthy"])))
    ['dead', 'healthy']
    """
    return {word: share(words == word) for word in VERDICTS if (words == word).any()}
