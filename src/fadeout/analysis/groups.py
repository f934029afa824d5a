"""What the figures show, as numbers: groups of runs, quantiles and shares. Nothing is drawn."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import xarray as xr

from fadeout.analysis.intervals import Interval, share_interval
from fadeout.networks.activations import ACTIVATIONS, in_table_order
from fadeout.sweeps.results import config_labels, final_values

HUES = (
    "activation", "remedy", "init", "task", "optimizer", "inputs", "surrogate", "learning_rate",
    "gain", "weight_variance", "width", "loss_function", "schedule", "dtype", "output", "clip",
    "batch_size",
)  # fmt: skip
"""Before all others, in this order."""
_NO_HUES = ("depth", "seed", "steps", "record_every")
_CARRIED = ("layer", "step", "seed", "depth", "steps", "record_every")
"""What a group keeps of some 45 coordinates, each of which xarray would cut for every group."""
REMEDY_LABELS = ("residual", "residual_scale", "normalization", "affine")


class _Group(NamedTuple):
    """Runs that a figure draws as one line or cell.

    Attributes:
      hue: the value that gives the colour, as text.
      depth: of all its runs.
      runs: the dataset of these runs, cut to the layers that this depth has, with the coordinates
        `_CARRIED`.
    """

    hue: str
    depth: int
    runs: xr.Dataset


def with_remedy(results: xr.Dataset) -> xr.Dataset:
    """Adds the coordinate `remedy` (plain, residual, layer norm, ...) where its parts vary."""
    there = [name for name in REMEDY_LABELS if name in results.coords]
    if "remedy" in results.coords or not any(varies(results, name) for name in there):
        return results
    columns = [results[name].values.tolist() for name in there]
    rows = list(zip(*columns, strict=True))
    words = {row: _remedy_label(**dict(zip(there, row, strict=True))) for row in set(rows)}
    return results.assign_coords(remedy=("run", [words[row] for row in rows]))


def _remedy_label(
    residual: float = 0.0,
    residual_scale: str = "constant",
    normalization: str = "none",
    affine: bool = False,
) -> str:
    """Returns a short label for a network's residual branches and normalisation.

    >>> _remedy_label(), _remedy_label(1.0, "sqrt_depth"), _remedy_label(0.5, normalization="layer")
    ('plain', 'residual / sqrt(depth)', 'residual x 0.5, layer norm')
    """
    words = []
    if residual:
        scale = {"constant": "residual", "sqrt_depth": "residual / sqrt(depth)", "zero": "ReZero"}
        factor = "" if residual == 1 else f" x {residual:g}"
        words.append(scale[residual_scale] + factor)
    if normalization != "none":
        words.append(f"{normalization} norm" + ", trained" * affine)
    return ", ".join(words) or "plain"


def varies(results: xr.Dataset, name: str) -> bool:
    return name in results.coords and len(np.unique(results[name].values)) > 1


def choose_hue(results: xr.Dataset) -> str:
    """Returns the config value that decides the colours: the first of `HUES` that varies, else a
    varying parameter, else the activation."""
    others = (name for name in config_labels(results) if name not in _NO_HUES)
    return next((name for name in (*HUES, *others) if varies(results, name)), "activation")


def pooled(results: xr.Dataset) -> list[str]:
    """Config values that vary within the groups: their spread is what the bands show."""
    told = (choose_hue(results), "depth", *(REMEDY_LABELS if "remedy" in results.coords else ()))
    names = [name for name in config_labels(results) if name not in told]
    return [name for name in names if varies(results, name)]


def rows_that_fit(results: xr.Dataset, most: int) -> tuple[list[str], list[str]]:
    """The config values by which a table of runs over depth has rows, and those that vary as well
    and are pooled, as they would make more rows than fit."""
    told = {"seed", "depth", "activation", *(REMEDY_LABELS if "remedy" in results.coords else ())}
    rows: list[str] = ["activation"]
    pooled: list[str] = []
    for name in config_labels(results):
        if name not in told and varies(results, name):
            columns = [results[n].astype(str).values.tolist() for n in (*rows, name)]
            fits = len(set(zip(*columns, strict=True))) <= most
            (rows if fits else pooled).append(name)
    return rows, pooled


def subsample(values: list, most: int) -> list:
    """Returns all values, or `most` evenly spread ones."""
    picks = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[i] for i in picks]


def describe_subsample(shown: int, every: int, what: str) -> str:
    """Returns a note on what was left out, or nothing where all is drawn.

    >>> describe_subsample(2, 8, "depths"), describe_subsample(8, 8, "depths")
    ('; 2 of 8 depths drawn', '')
    """
    return f"; {shown} of {every} {what} drawn" if shown < every else ""


def drawn_depths(results: xr.Dataset) -> list[int]:
    """Returns the depths that are drawn: at most six."""
    return subsample(np.unique(results["depth"].values).tolist(), most=6)


def drawn_hues(results: xr.Dataset) -> list[str]:
    """Returns the hues that are drawn, as text."""
    return fitting_hues(label_texts(results[choose_hue(results)].values)[1])


def fitting_hues(words: list[str]) -> list[str]:
    """Returns the values that get a colour each: all activations, or at most seven other values."""
    return words if set(words) <= set(ACTIVATIONS) else subsample(words, most=7)


def label_texts(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Every run's value of an axis as text, and the texts in the order in which they are drawn.

    Numbers get as many digits as tell them apart, twelve at most: what differs beyond them is a
    rounding error, and one value.

    >>> label_texts(np.array([0.12341, 0.5, 0.12342]))[1]
    ['0.12341', '0.12342', '0.5']
    """
    distinct, place = np.unique(values, return_inverse=True)
    words = [format_label(value) for value in distinct]
    for digits in range(5, _MAX_DIGITS + 1):
        twice = {word for word, count in Counter(words).items() if count > 1}
        words = [
            format_label(value, digits) if word in twice else word
            for word, value in zip(words, distinct, strict=True)
        ]
    return np.array(words)[place], in_table_order(list(dict.fromkeys(words)))


_MAX_DIGITS = 12


def axis_texts(results: xr.Dataset, name: str | None) -> tuple[np.ndarray, list[str]]:
    """Returns `label_texts` of a config value; of None, one empty text for all runs."""
    if name is None:
        return np.full(results.sizes["run"], ""), [""]
    return label_texts(results[name].values)


def group_by(
    results: xr.Dataset, names: Sequence[str | None], shown: Sequence[list[str] | None] = ()
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Groups runs by config values: all figures, tables, pages and claims do it so.

    Args:
      names: config values; None groups nothing.
      shown: for each name, the texts that are drawn, in order; None for all of them. Runs with
        another text are left out.

    Returns:
      For each combination that occurs, in order: its texts, and the positions of its runs.

    >>> runs = {"activation": ("run", ["relu", "step", "relu"]), "depth": ("run", [2, 2, 4])}
    >>> [(words, own.tolist()) for words, own in group_by(xr.Dataset(coords=runs), ["depth"])]
    [(('2',), [0, 1]), (('4',), [2])]
    """
    codes, orders = [np.zeros(results.sizes["run"], int)], [[""]]  # of no names, one group
    for name, wanted in zip_longest(names, shown):
        texts, order = axis_texts(results, name)
        orders.append(order if wanted is None else wanted)
        number = {word: i for i, word in enumerate(orders[-1])}
        codes.append(np.array([number.get(word, -1) for word in texts.tolist()], int))
    table = np.stack(codes)
    drawn = np.flatnonzero((table >= 0).all(0))
    keys, inverse = np.unique(table[:, drawn], axis=1, return_inverse=True)
    group = inverse.ravel()
    parts = np.split(drawn[np.argsort(group, kind="stable")], np.cumsum(np.bincount(group))[:-1])
    words = [tuple(o[k] for o, k in zip(orders, key, strict=True))[1:] for key in keys.T]
    return list(zip(words, parts, strict=True)) if drawn.size else []


def group_runs(results: xr.Dataset) -> Iterator[_Group]:
    """Groups the runs by hue and depth, as the figures of a sweep draw them."""
    light = results.drop_vars([name for name in results.coords if name not in _CARRIED])
    depths = {format_label(depth): depth for depth in drawn_depths(results)}
    shown = [drawn_hues(results), list(depths)]
    for (hue, word), own in group_by(results, [choose_hue(results), "depth"], shown):
        runs = light.isel(run=own).sel(layer=slice(1, depths[word] + 1))
        yield _Group(hue, depths[word], runs.isel(step=recorded_steps(runs)))


def recorded_steps(runs: xr.Dataset) -> np.ndarray:
    """Returns the steps of the dataset that any of these runs recorded."""
    steps = runs["step"].values[:, None]
    every, last = runs["record_every"].values, runs["steps"].values
    return ((steps % every == 0) & (steps <= last)).any(axis=1)


def format_label(value, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float | np.floating) else str(value)


class _Spread(NamedTuple):
    """The median over runs, and the band from the 10th to the 90th percentile."""

    low: np.ndarray
    median: np.ndarray
    high: np.ndarray


def quantile_spread(values: xr.DataArray) -> _Spread:
    """Returns quantiles over runs. They are quantiles of the values, not of logarithms.

    Runs that are not finite are left out; where none is finite, NaN.
    """
    data = np.moveaxis(values.values, values.dims.index("run"), 0).astype(float)
    data = np.where(np.isfinite(data), data, np.nan)
    some = ~np.isnan(data).all(axis=0)
    result = np.full((3, *data.shape[1:]), np.nan)
    gaps = np.isnan(data[:, some]).any()
    quantile = np.nanquantile if gaps else np.quantile  # the first goes column by column
    result[:, some] = quantile(data[:, some], [0.1, 0.5, 0.9], axis=0)
    return _Spread(*result)


def at_start(values: xr.DataArray) -> xr.DataArray:
    """Returns the values at initialisation."""
    return values.sel(step=0)


def at_end(values: xr.DataArray) -> xr.DataArray:
    """Returns the values at each run's last step."""
    return final_values(values)


def solved_share(runs: xr.Dataset) -> Interval:
    """Returns the share of runs that end with every example right."""
    return share_interval(runs["status"].values == "solved", runs["seed"].values)
