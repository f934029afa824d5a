"""Parts of results, and what several claims measure of them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr

from fadeout.analysis import intervals
from fadeout.analysis.groups import group_by
from fadeout.analysis.intervals import UNKNOWN, Interval, bootstrap
from fadeout.analysis.slopes import log10_slopes
from fadeout.sweeps.results import final_values

DECADES = "decades of delta lost per layer"

_FEWEST = 8
"""Of fewer values no interval is given."""


def mean_of_networks(values: np.ndarray) -> Interval:
    """The mean of what networks show; a share of units that is 0 in all of them is no flag."""
    return intervals.mean_interval(values, flags=False)


def select_runs(results: xr.Dataset, **labels: Any) -> xr.Dataset:
    """The runs whose config has these values; of their seeds, all or one `half`, even or odd: what
    is chosen by one half can be measured by the other."""
    chosen = np.ones(results.sizes["run"], bool)
    half = labels.pop("half", None)
    if half is not None:
        chosen &= results["seed"].values % 2 == (half == "odd")
    for name, value in labels.items():
        chosen &= results[name].values == value
    return results.isel(run=chosen)


def cases(results: xr.Dataset, *names: str) -> Iterator[tuple[tuple, xr.Dataset]]:
    """The runs of every combination of these config values that occurs, in order."""
    first = {name: results[name].values for name in names}
    found = {
        tuple(first[name][own[:1]].tolist()[0] for name in names): own
        for _, own in group_by(results, names)
    }
    for values in sorted(values for values in found if all(v == v for v in values)):  # no NaN
        yield values, results.isel(run=found[values])


def share_of_solved(runs: xr.Dataset) -> np.ndarray:
    return runs["status"].values == "solved"


_LEARNT = 0.9
"""The accuracy from which on a network counts as one that learns."""


def learns(runs: xr.Dataset) -> np.ndarray:
    return final_values(runs["accuracy"]).values >= _LEARNT


def decades_lost(runs: xr.Dataset, probe: str = "delta_norm", lowest: int = 1) -> np.ndarray:
    """Per run, what a layer takes from log10 of a norm on its way down to the `lowest`, at
    initialisation."""
    return log10_slopes(runs[probe].sel(step=0), lowest)


def by_seed(values: np.ndarray, runs: xr.Dataset, seeds: np.ndarray) -> np.ndarray:
    """One value for each of these seeds, of runs of one config; NaN where there is none."""
    found = np.full(seeds.size, np.nan)
    found[np.searchsorted(seeds, runs["seed"].values)] = values
    return found


def compare_by_seed(
    statistic: Callable, one: tuple[np.ndarray, xr.Dataset], two: tuple[np.ndarray, xr.Dataset]
) -> Interval:
    """A statistic of two configs' values, each with the runs that it is of. Runs of one seed share
    their draws, so that seeds are resampled, and not runs; NaN of too few values.

    Args:
      statistic: it leaves out what is NaN.
    """
    if min(values.size for values, _ in (one, two)) < _FEWEST:
        return UNKNOWN
    seeds = np.unique(np.concatenate([runs["seed"].values for _, runs in (one, two)]))
    return bootstrap(statistic, *(by_seed(*pair, seeds) for pair in (one, two)), paired=True)


def difference_of_means(a, b, axis):
    """The difference of two means, NaN left out."""
    return np.nanmean(a, axis=axis) - np.nanmean(b, axis=axis)


def ratio_of_medians(a, b, axis):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nanmedian(a, axis=axis) / np.nanmedian(b, axis=axis)


def ratio_of_means(a, b, axis):
    return np.mean(a, axis=axis) / np.mean(b, axis=axis)
