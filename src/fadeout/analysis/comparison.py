"""A comparison: one quantity over one axis, by colour, row and column, or over two swept numbers.

What is asked is settled against what results have, and made numbers. Nothing is drawn.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr

from fadeout.analysis import groups
from fadeout.analysis.intervals import share_interval
from fadeout.analysis.predictions import PREDICTIONS, RELATIVE
from fadeout.analysis.verdicts import VERDICTS, verdicts
from fadeout.registry import FadeoutError, format_value, lookup
from fadeout.schema import convert_value
from fadeout.sweeps.results import config_labels, final_values
from fadeout.sweeps.variables import is_probe, variable_dims

RECORD_DIMS = ("layer", "step")
MOST_CELLS = 8
"""Rows that are drawn."""


@dataclass(frozen=True)
class Comparison:
    """The specification of a comparison: a quantity, its axis, and colour, row and column.

    None lets what varies in the sweep decide.

    Attributes:
      quantity: a probe, `loss`, `accuracy`, `solved_step`, or the share of runs that are `solved`,
        `born_dead`, or given a verdict (`vanishing`, ...). Several are separated by commas, a row
        each.
      x: `layer`, `step`, or a config value.
      color: a config value, or `layer`: a line for each layer.
      row, column: config values.
      map: two config values, whose grid shows the quantity as colour.
      at: `start`, `end` or a step, for what is not over steps.
      layer: of a probe that is not over layers.
    """

    quantity: str | None = None
    x: str | None = None
    color: str | None = None
    row: str | None = None
    column: str | None = None
    map: tuple[str, str] | None = None
    at: str | None = None
    layer: int = 1

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Builds a comparison from a mapping, as a study's YAML has it.

        Raises:
          FadeoutError: an unknown key, or a value that is none of its kind.
        """
        for key in data:
            lookup(dict.fromkeys(f.name for f in dataclasses.fields(cls)), key, "key of figure")
        values = {key: value for key, value in data.items() if value is not None}
        for key, value in values.items():
            if key == "map":
                two = isinstance(value, list | tuple) and len(value) == 2
                if not two or not all(isinstance(name, str) for name in value):
                    raise FadeoutError(f"figure.map takes two names, not {format_value(value)}")
                values[key] = tuple(value)
            elif key == "layer":
                values[key] = convert_value(value, int, "figure.layer")
            elif not isinstance(value, str | int) or isinstance(value, bool):
                raise FadeoutError(f"figure.{key} must be a word, not {format_value(value)}")
            else:
                values[key] = str(value)
        return cls(**values)

    def quantities(self) -> list[str]:
        return str(self.quantity).split(",")

    def file_name(self, results: xr.Dataset) -> str:
        """Returns the name of the picture's file: quantity, axis, and the groups that were asked
        for."""
        full = resolve_comparison(self, results)
        over = "_and_".join(full.map or (str(full.x),))
        by = [name for name in (self.color, self.row, self.column, self.at) if name]
        return "_by_".join([f"{'-'.join(full.quantities())}_over_{over}", *by])


def resolve_comparison(asked: Comparison, results: xr.Dataset) -> Comparison:
    """The comparison with its defaults, checked against what the results have.

    Raises:
      FadeoutError: a quantity or an axis that they lack, with those that they have.
    """
    results = groups.with_remedy(results)
    varying = [name for name in _config_coordinates(results) if groups.varies(results, name)]
    known = dict.fromkeys([*RECORD_DIMS, *_config_coordinates(results)])
    measured = [str(n) for n in results.data_vars if n not in ("status", "error")]
    recorded = [name for name in measured if is_probe(name)]
    quantity = asked.quantity or ("delta_norm" if "delta_norm" in results else "loss")
    filled = dataclasses.replace(asked, quantity=quantity)
    for name in filled.quantities():
        lookup(dict.fromkeys([*measured, "solved", "born_dead", *VERDICTS]), name, "quantity")
        needed = {"born_dead": ["dead_units"]}.get(name, [])
        for probe in needed:
            lookup(dict.fromkeys(recorded), probe, "recorded probe")
    for axis in (filled.x, *(filled.map or ())):
        if axis is not None:
            lookup(known, axis, "axis")
    if filled.x is not None and filled.x not in RECORD_DIMS and filled.x not in varying:
        value = groups.format_label(np.unique(results[filled.x].values)[0])
        vary = f": {', '.join(varying)} vary" if varying else ""
        raise FadeoutError(f"x={filled.x} is {value} in all runs, and no axis{vary}")
    told = [filled.color, filled.row, filled.column]
    if filled.color == "layer":
        flat = [n for n in filled.quantities() if "layer" not in _quantity_dims(results, n)]
        if flat or filled.x == "layer":
            raise FadeoutError(
                f"color=layer is of quantities of layers, over steps or a config value: "
                f"{flat[0] + ' has none' if flat else 'x is the layer already'}"
            )
        told = told[1:]
    for axis in told:
        if axis is not None:
            lookup(dict.fromkeys(_config_coordinates(results)), axis, "config value")
            if told.count(axis) > 1:
                raise FadeoutError(f"{axis} cannot be two of color, row and column")
    if not 1 <= filled.layer <= results.sizes["layer"]:
        raise FadeoutError(f"layer must be from 1 to {results.sizes['layer']}, not {filled.layer}")
    _check_moment(filled.at, results["step"].values)
    if filled.map:
        others = [name for name in ("x", "color", "row", "column") if getattr(filled, name)]
        if others:
            raise FadeoutError(f"a map has no {', no '.join(others)}: draw a map for each")
        for name in filled.map:
            values = results[name].values if name not in RECORD_DIMS else np.empty(0)
            if values.dtype.kind not in "fiu" or np.unique(values).size < 2:
                raise FadeoutError(f"map takes two swept numbers; {name} is not one here")
        if filled.map[0] == filled.map[1]:
            raise FadeoutError(f"map takes two swept numbers, not {filled.map[0]} twice")
        return filled
    if filled.x is None:
        layered = all(name in recorded for name in filled.quantities())
        numeric = [n for n in varying if n != "seed" and results[n].dtype.kind in "fiu"]
        fallback = "step" if "loss" in filled.quantities() else "depth"
        axis = "layer" if layered else (*numeric, fallback)[0]
        filled = dataclasses.replace(filled, x="step" if filled.color == "layer" else axis)
    over_dim = [name for name in filled.quantities() if filled.x in _quantity_dims(results, name)]
    if filled.x in RECORD_DIMS and len(over_dim) < len(filled.quantities()):
        odd = next(name for name in filled.quantities() if name not in over_dim)
        raise FadeoutError(f"{odd} has no {filled.x}: choose another --x")
    taken = {filled.x, filled.row, filled.column}
    hues = [n for n in (*groups.HUES, "depth", "sweep") if n in varying and n not in taken]
    if filled.color is None:
        filled = dataclasses.replace(filled, color=(*hues, "activation")[0])
    if "sweep" in varying and "sweep" not in (filled.color, *taken):
        if filled.column is None:
            filled = dataclasses.replace(filled, column="sweep")
        elif filled.row is None:
            filled = dataclasses.replace(filled, row="sweep")
    if filled.column is None and filled.x != "depth" and filled.color != "depth":
        column = "depth" if "depth" in varying and filled.row != "depth" else None
        filled = dataclasses.replace(filled, column=column)
    return filled


def _quantity_dims(results: xr.Dataset, quantity: str) -> tuple[str, ...]:
    """Returns the dimensions of a recorded quantity; a verdict on a run has only `run`."""
    return variable_dims(quantity) if quantity in results else ("run",)


def check_comparison(asked: Comparison, results: xr.Dataset) -> None:
    """Refuses a comparison that such results cannot answer.

    Raises:
      FadeoutError
    """
    resolve_comparison(asked, results)


def _config_coordinates(results: xr.Dataset) -> list[str]:
    """The config values of a dataset, and of several sweeps the sweep."""
    return [*config_labels(results), *["sweep"] * ("sweep" in results.coords)]


def is_share_of_runs(quantity: str) -> bool:
    return quantity in ("solved", "born_dead", *VERDICTS)


def outcome_flags(results: xr.Dataset, quantity: str) -> np.ndarray:
    """1 for each run that is solved, born dead, or of a verdict, 0 for the others, NaN for those of
    which the probes do not tell."""
    if quantity == "solved":
        status = results["status"].values
        return np.where(status == "trained", np.nan, status == "solved")
    if quantity == "born_dead":
        dead = results["dead_units"].sel(step=0)
        return np.where(dead.isnull().all("layer"), np.nan, (dead >= 1).any("layer"))
    words = verdicts(results)
    return np.where(words == "unknown", np.nan, words == quantity)


def comparison_values(results: xr.Dataset, quantity: str, asked: Comparison) -> xr.DataArray:
    """A quantity with the dims run and, where it is the axis, layer or step."""
    values = results[quantity]
    if "layer" in values.dims and asked.x != "layer":
        values = values.sel(layer=asked.layer)
    if "step" in values.dims and asked.x != "step":
        values = _select_step(values, default_moment(quantity, asked))
    return values.transpose("run", ...)


def default_moment(quantity: str, asked: Comparison) -> str:
    """Returns the step at which a quantity is shown that is not drawn over steps: initialisation
    where theory predicts it, else the end."""
    known = (quantity, asked.x) in PREDICTIONS or quantity in RELATIVE
    return asked.at or ("start" if known else "end")


def _select_step(values: xr.DataArray, at: str) -> xr.DataArray:
    if at in ("start", "end"):
        return values.sel(step=0) if at == "start" else final_values(values)
    return values.sel(step=int(at))


def _check_moment(at: str | None, steps: np.ndarray) -> None:
    number = str(at).isascii() and str(at).isdecimal()
    if at not in (None, "start", "end") and not (number and int(str(at)) in steps):
        raise FadeoutError(f"at takes start, end or a recorded step up to {steps[-1]}, not {at}")


def pooled_labels(asked: Comparison, results: xr.Dataset) -> str:
    """Returns the labels, except the seed, that vary within one line or cell."""
    told = {asked.x, asked.color, asked.row, asked.column, *(asked.map or ()), "seed"}
    if "remedy" in results.coords:
        told |= {*groups.REMEDY_LABELS}
    names = [n for n in _config_coordinates(results) if n not in told and groups.varies(results, n)]
    return f"; pooled over {', '.join(names)}".replace("_", " ") if names else ""


def describe_left_out(asked: Comparison, drawn: Sequence[tuple[list, list]]) -> str:
    """Returns a note on the values that were not drawn.

    Args:
      drawn: of colour, row and column the values drawn, and all of them.
    """
    names = (asked.color, asked.row, asked.column)
    words = [
        groups.describe_subsample(
            len(some), len(every), "depths" if name == "depth" else f"values of {name}"
        )
        for name, (some, every) in zip(names, drawn, strict=True)
    ]
    return "".join(words).replace("_", " ")


def axis_points(runs: xr.Dataset, quantity: str, asked: Comparison):
    """A quantity at every value of a config axis, with its interval or its spread."""
    axis = runs[asked.x].values
    xs = np.unique(axis)
    xs = xs[xs == xs]  # a sweep of several may lack the axis
    found = []
    for value in xs:
        own = runs.isel(run=axis == value)
        if is_share_of_runs(quantity):
            known = outcome_flags(own, quantity)
            some = np.isfinite(known)
            found.append(tuple(share_interval(known[some] == 1, own["seed"].values[some])))
        else:
            found.append(tuple(groups.quantile_spread(comparison_values(own, quantity, asked))))
    low, middle, high = np.array(found, float).T
    return xs, low, middle, high


def theory_line(runs, quantity, x, asked, at, middle) -> np.ndarray | None:
    """Returns theory's prediction for a line, where it covers all of its runs."""
    expect = PREDICTIONS.get((quantity, x))
    at_start = x != "layer" or default_moment(quantity, asked) in ("start", "0")
    if expect is None or not at_start:
        return None
    values = expect(shared_labels(runs), at)
    if values is None or quantity not in RELATIVE:
        return values
    top = np.flatnonzero(np.isfinite(values))[-1]
    return values * middle[top]


def shared_labels(runs: xr.Dataset) -> dict[str, Any]:
    """The config values that all runs have in common; NaN is what none of them has."""
    found = {}
    for name in _config_coordinates(runs):
        values = runs[name].values
        first = values[0]
        if np.all((values == first) | ((values != values) & (first != first))):
            found[name] = first.item() if hasattr(first, "item") else first
    return found


def cell_table(results, quantity, across, up, asked):
    """The swept values, and the quantity in every cell, [up, across]."""
    xs, i = np.unique(results[across].values, return_inverse=True)
    ys, j = np.unique(results[up].values, return_inverse=True)
    if is_share_of_runs(quantity):
        values, combine = outcome_flags(results, quantity), np.mean
    else:
        values, combine = (
            comparison_values(results, quantity, asked).values.astype(float),
            np.median,
        )
    place = j * xs.size + i
    order = np.argsort(place, kind="stable")
    parts = np.split(values[order], np.cumsum(np.bincount(place, minlength=xs.size * ys.size))[:-1])
    table = np.array([combine(part) if part.size else np.nan for part in parts])
    return xs, ys, table.reshape(ys.size, xs.size)


def cell_edges(values: np.ndarray) -> np.ndarray:
    """The borders of cells around sorted values."""
    scaled = np.log(values) if is_geometric(values) else values
    middles = (scaled[1:] + scaled[:-1]) / 2
    ends = np.concatenate([[2 * scaled[0] - middles[0]], middles, [2 * scaled[-1] - middles[-1]]])
    return np.exp(ends) if is_geometric(values) else ends


def is_geometric(values: np.ndarray) -> bool:
    """Returns whether swept numbers are spaced evenly on a logarithmic axis."""
    if values.size < 3 or values[0] <= 0:
        return False
    logs, plain = np.diff(np.log(values)), np.diff(values)
    return bool(np.ptp(logs) / logs.mean() < np.ptp(plain) / plain.mean())
