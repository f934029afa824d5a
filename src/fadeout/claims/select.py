"""Parts of results, and what several claims measure of them."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from fadeout.verdicts import Interval, bootstrap, slopes

DECADES = "decades of delta lost per layer"

FEWEST = 8
"""Of fewer values no interval is given."""


def where(results: xr.Dataset, **labels: Any) -> xr.Dataset:
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
    axes = [np.unique(results[name].values).tolist() for name in names]
    for values in itertools.product(*axes):
        runs = where(results, **dict(zip(names, values, strict=True)))
        if runs.sizes["run"]:
            yield values, runs


def solved(runs: xr.Dataset) -> np.ndarray:
    return runs["status"].values == "solved"


def decades_lost(runs: xr.Dataset, probe: str = "delta_norm", lowest: int = 1) -> np.ndarray:
    """Per run, what a layer takes from log10 of a norm on its way down to the `lowest`, at
    initialisation."""
    return slopes(runs[probe].sel(step=0), lowest)


def ratio(above: np.ndarray, below: np.ndarray) -> Interval:
    """The ratio of two samples' medians, with its bootstrap interval; NaN of too few values."""
    if min(len(above), len(below)) < FEWEST:
        return Interval(np.nan, np.nan, np.nan)
    return bootstrap(ratio_of_medians, above, below)


def ratio_of_medians(a, b, axis):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.median(a, axis=axis) / np.median(b, axis=axis)


def ratio_of_means(a, b, axis):
    return np.mean(a, axis=axis) / np.mean(b, axis=axis)
