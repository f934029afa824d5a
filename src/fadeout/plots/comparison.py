"""One quantity over one axis, by colour, row and column; or as colour over two swept numbers."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fadeout import theory
from fadeout.activations import ACTIVATIONS
from fadeout.config import Run, convert
from fadeout.intervals import share
from fadeout.plots import statistics
from fadeout.plots.figures import NORMS, band
from fadeout.plots.predictions import PREDICTIONS, RELATIVE, activation_of
from fadeout.plots.style import BLACK, grid, legend_below, looks
from fadeout.probes import PROBES
from fadeout.registry import FadeoutError, lookup
from fadeout.results import VARIABLES, dims, final
from fadeout.verdicts import VERDICTS, verdicts

DIMS = ("layer", "step")
MOST_HUES, MOST_CELLS = 7, 8
"""Rows or columns that are drawn."""


@dataclass(frozen=True)
class Comparison:
    """What is drawn, and against what; None is chosen by what varies in the sweep.

    Attributes:
      quantity: a probe, `loss`, `accuracy`, `solved_step`, or the share of runs that are `solved`,
        `born_dead`, or given a verdict (`vanishing`, ...). Several are separated by commas, a row
        each.
      x: `layer`, `step`, or a config value.
      color, row, column: config values.
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
        """As a study's YAML writes it.

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
                    raise FadeoutError(f"figure.map takes two names of the config, not {value!r}")
                values[key] = tuple(value)
            elif key == "layer":
                values[key] = convert(value, int, "figure.layer")
            elif not isinstance(value, str | int) or isinstance(value, bool):
                raise FadeoutError(f"figure.{key} must be a word, not {value!r}")
            else:
                values[key] = str(value)
        return cls(**values)

    def quantities(self) -> list[str]:
        return str(self.quantity).split(",")

    def file_name(self, results: xr.Dataset) -> str:
        """Of its picture: what over what, and by what where that was asked for."""
        full = settled(self, results)
        over = "_and_".join(full.map or (str(full.x),))
        by = [name for name in (self.color, self.row, self.column, self.at) if name]
        return "_by_".join([f"{'-'.join(full.quantities())}_over_{over}", *by])


def settled(asked: Comparison, results: xr.Dataset) -> Comparison:
    """The comparison with its defaults, checked against what the results have.

    Raises:
      FadeoutError: a quantity or an axis that they lack, with those that they have.
    """
    varying = [name for name in coordinates(results) if statistics.varies(results, name)]
    known = dict.fromkeys([*DIMS, *coordinates(results)])
    recorded = [name for name in PROBES if name in results]
    quantity = asked.quantity or ("delta_norm" if "delta_norm" in results else "loss")
    filled = dataclasses.replace(asked, quantity=quantity)
    measured = [name for name in VARIABLES if name in results and name not in ("status", "error")]
    for name in filled.quantities():
        lookup(dict.fromkeys([*measured, "solved", "born_dead", *VERDICTS]), name, "quantity")
        needed = {"born_dead": ["dead_units"]}.get(name, [])
        for probe in needed:
            lookup(dict.fromkeys(recorded), probe, "recorded probe")
    for axis in (filled.x, *(filled.map or ())):
        if axis is not None:
            lookup(known, axis, "axis")
    told = [filled.color, filled.row, filled.column]
    for axis in told:
        if axis is not None:
            lookup(dict.fromkeys(coordinates(results)), axis, "config value")
            if told.count(axis) > 1:
                raise FadeoutError(f"{axis} cannot be two of color, row and column")
    if not 1 <= filled.layer <= results.sizes["layer"]:
        raise FadeoutError(f"layer must be from 1 to {results.sizes['layer']}, not {filled.layer}")
    check_moment(filled.at, results["step"].values)
    if filled.map:
        others = [name for name in ("x", "color", "row", "column") if getattr(filled, name)]
        if others:
            raise FadeoutError(f"a map has no {', no '.join(others)}: draw a map for each")
        for name in filled.map:
            values = results[name].values if name not in DIMS else np.empty(0)
            if values.dtype.kind not in "fiu" or np.unique(values).size < 2:
                raise FadeoutError(f"map takes two swept numbers; {name} is not one here")
        if filled.map[0] == filled.map[1]:
            raise FadeoutError(f"map takes two swept numbers, not {filled.map[0]} twice")
        return filled
    if filled.x is None:
        layered = all(name in PROBES for name in filled.quantities())
        numeric = [n for n in varying if n != "seed" and results[n].dtype.kind in "fiu"]
        fallback = "step" if "loss" in filled.quantities() else "depth"
        filled = dataclasses.replace(filled, x="layer" if layered else (*numeric, fallback)[0])
    over_dim = [name for name in filled.quantities() if filled.x in dims(name)]
    if filled.x in DIMS and len(over_dim) < len(filled.quantities()):
        odd = next(name for name in filled.quantities() if name not in over_dim)
        raise FadeoutError(f"{odd} has no {filled.x}: choose another --x")
    taken = {filled.x, filled.row, filled.column}
    hues = [n for n in (*statistics.HUES, "depth", "sweep") if n in varying and n not in taken]
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


def check(asked: Comparison, results: xr.Dataset) -> None:
    """Refuses a comparison that such results cannot answer.

    Raises:
      FadeoutError
    """
    settled(asked, results)


def coordinates(results: xr.Dataset) -> list[str]:
    """The config values of a dataset, and of several sweeps the sweep."""
    return [name for name in (*Run().labels(), "sweep") if name in results.coords]


def is_share(quantity: str) -> bool:
    return quantity in ("solved", "born_dead", *VERDICTS)


def flags(results: xr.Dataset, quantity: str) -> np.ndarray:
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


def values_of(results: xr.Dataset, quantity: str, asked: Comparison) -> xr.DataArray:
    """A quantity with the dims run and, where it is the axis, layer or step."""
    values = results[quantity]
    if "layer" in values.dims and asked.x != "layer":
        values = values.sel(layer=asked.layer)
    if "step" in values.dims and asked.x != "step":
        values = at_step(values, moment(quantity, asked))
    return values.transpose("run", ...)


def moment(quantity: str, asked: Comparison) -> str:
    """When a quantity is shown that is not over steps: where theory has something to say of it, at
    initialisation."""
    known = (quantity, asked.x) in PREDICTIONS or quantity in RELATIVE
    return asked.at or ("start" if known else "end")


def at_step(values: xr.DataArray, at: str) -> xr.DataArray:
    if at in ("start", "end"):
        return values.sel(step=0) if at == "start" else final(values)
    return values.sel(step=int(at))


def check_moment(at: str | None, steps: np.ndarray) -> None:
    number = str(at).isascii() and str(at).isdecimal()
    if at not in (None, "start", "end") and not (number and int(str(at)) in steps):
        raise FadeoutError(f"at takes start, end or a recorded step up to {steps[-1]}, not {at}")


def words_of(results: xr.Dataset, name: str | None) -> tuple[np.ndarray, list[str]]:
    """Every run's value of an axis as text, and the texts in the order in which they are drawn."""
    if name is None:
        return np.full(results.sizes["run"], ""), [""]
    return statistics.labels(results[name].values)


def compare(results: xr.Dataset, asked: Comparison) -> Figure:
    """Draws a comparison.

    What to conclude: lines whose bands do not meet differ by more than the seed; a dashed line is
    what theory expects, so that where the two part, an assumption of it fails.

    Raises:
      FadeoutError: a quantity or an axis that the results lack.
    """
    asked = settled(asked, results)
    if asked.map:
        return heat_map(results, asked)
    rows, columns = words_of(results, asked.row), words_of(results, asked.column)
    hues, chosen = words_of(results, asked.color)
    every = len(chosen), len(rows[1]), len(columns[1])
    most = len(chosen) if set(chosen) <= set(ACTIVATIONS) else MOST_HUES
    chosen = statistics.some(chosen, most)
    row_words, column_words = (statistics.some(axis[1], MOST_CELLS) for axis in (rows, columns))
    shown = len(chosen), len(row_words), len(column_words)
    cells = [(quantity, row) for quantity in asked.quantities() for row in row_words]
    figure, axes = grid(len(cells), len(column_words), sharex="col", sharey="row")
    style = looks(chosen)
    for (i, (quantity, row)), (j, column) in (
        (r, c) for r in enumerate(cells) for c in enumerate(column_words)
    ):
        inside = (rows[0] == row) & (columns[0] == column)
        for hue in chosen:
            runs = results.isel(run=inside & (hues == hue))
            if runs.sizes["run"]:
                line(axes[i, j], runs, quantity, asked, style[hue] | {"label": hue})
        title = [f"{name} {word}" for name, word in
                 ((asked.row, row), (asked.column, column)) if name]  # fmt: skip
        axes[i, j].set_title(", ".join(title))
    for (quantity, _), strip in zip(cells, axes, strict=True):
        strip[0].set_ylabel(label_of(quantity, asked))
    for quantity in asked.quantities():
        own = [strip for (q, _), strip in zip(cells, axes, strict=True) if q == quantity]
        finish(own, quantity)
    for ax in axes[-1]:
        ax.set_xlabel(axis_label(str(asked.x)))
        if asked.x == "layer":
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        elif asked.x not in DIMS:
            mark_values(ax, np.unique(results[asked.x].values))
    several = len(asked.quantities()) > 1
    figure.suptitle(heading("Comparison" if several else title_of(quantity), str(asked.x)))
    words = note(asked) + pooled_over(asked, results) + left_out(asked, shown, every)
    legend_below(figure, axes.flat, words)
    return figure


def pooled_over(asked: Comparison, results: xr.Dataset) -> str:
    """What varies, but for the seed, among the runs of one line or cell."""
    told = {asked.x, asked.color, asked.row, asked.column, *(asked.map or ()), "seed"}
    names = [n for n in coordinates(results) if n not in told and statistics.varies(results, n)]
    names = [n for n in names if n in statistics.HUES or n in ("depth", "sweep")]
    return f"; pooled over {', '.join(names)}".replace("_", " ") if names else ""


def left_out(asked: Comparison, shown: tuple[int, ...], every: tuple[int, ...]) -> str:
    """What of the values there are was not drawn."""
    names = (asked.color, asked.row, asked.column)
    words = [
        f"{drawn} of {all_} values of {name} drawn"
        for name, drawn, all_ in zip(names, shown, every, strict=True)
        if drawn < all_
    ]
    return "; ".join(["", *words]).replace("_", " ")


def line(ax: Axes, runs: xr.Dataset, quantity: str, asked: Comparison, look: dict) -> None:
    """One colour of a cell: measured with its spread, and dashed what theory expects."""
    if asked.x in DIMS:
        values = values_of(runs, quantity, asked)
        every = {
            "step": statistics.recorded(runs),
            "layer": runs["layer"].values <= runs["depth"].values.max() + 1,
        }
        values = values.isel({asked.x: every[asked.x]})
        x, middle = values[asked.x].values, statistics.spread(values).median
        marker = {"marker": ""} if asked.x == "step" and x.size > 40 else {}
        band(ax, x, values, look | marker)
    else:
        x, low, middle, high = points(runs, quantity, asked)
        some = np.isfinite(middle)
        reach = np.clip([middle - low, high - middle], 0, None)
        if x.dtype.kind not in "fiu":
            look = look | {"linestyle": ""}  # nothing lies between two words
        ax.errorbar(x[some], middle[some], yerr=reach[:, some], capsize=3, **look)
    expected = predicted(runs, quantity, str(asked.x), asked, x, middle)
    if expected is not None:
        ax.plot(x, expected, color=BLACK, linestyle=(0, (4, 2)), linewidth=1.3, zorder=5,
                label="theory")  # fmt: skip


def points(runs: xr.Dataset, quantity: str, asked: Comparison):
    """A quantity at every value of a config axis, with its interval or its spread."""
    axis = runs[asked.x].values
    xs = np.unique(axis)
    xs = xs[xs == xs]  # a sweep of several may lack the axis
    found = []
    for value in xs:
        own = runs.isel(run=axis == value)
        if is_share(quantity):
            known = flags(own, quantity)
            some = np.isfinite(known)
            found.append(tuple(share(known[some] == 1, own["seed"].values[some])))
        else:
            found.append(tuple(statistics.spread(values_of(own, quantity, asked))))
    low, middle, high = np.array(found, float).T
    return xs, low, middle, high


def predicted(runs, quantity, x, asked, at, middle) -> np.ndarray | None:
    """What theory expects of a line, where it says something of all its runs."""
    expect = PREDICTIONS.get((quantity, x))
    at_start = x != "layer" or moment(quantity, asked) in ("start", "0")
    if expect is None or not at_start:
        return None
    values = expect(shared_labels(runs), at)
    if values is None or quantity not in RELATIVE:
        return values
    top = np.flatnonzero(np.isfinite(values))[-1]
    return values * middle[top]


def shared_labels(runs: xr.Dataset) -> dict[str, Any]:
    """The config values that all runs have in common."""
    found = {}
    for name in coordinates(runs):
        values = runs[name].values
        first = values[0]
        if np.all(values == first):
            found[name] = first.item() if hasattr(first, "item") else first
    return found


# --- maps


def heat_map(results: xr.Dataset, asked: Comparison) -> Figure:
    """A quantity as colour over two swept numbers: the median over the other runs of a cell, or
    the share of them.

    What to conclude: an edge between colours is where a choice begins to matter; a fine-grained one
    means that no rule of thumb will do.
    """
    across, up = asked.map  # type: ignore[misc]
    quantities = asked.quantities()
    figure, axes = grid(1, len(quantities), width=6.4, height=5.0)
    for ax, quantity in zip(axes[0], quantities, strict=True):
        xs, ys, table = cell_table(results, quantity, across, up, asked)
        norm, kind, shown = color_scale(quantity, table)
        ax.set_facecolor("#bbbbbb")
        image = ax.pcolormesh(edges(xs), edges(ys), shown, norm=norm, rasterized=True)
        for values, scale in ((xs, ax.set_xscale), (ys, ax.set_yscale)):
            if is_geometric(values):
                scale("log")
        bar = figure.colorbar(image, ax=ax, label=kind + label_of(quantity, asked))
        bar.ax.grid(False)
        ax.grid(False)
        overlay(ax, results, across, up)
        for values, ticks in ((xs, ax.set_xticks), (ys, ax.set_yticks)):
            if values.size <= 12:
                ticks(values, [statistics.text(value) for value in values], minor=False)
                ax.minorticks_off()
        ax.set_xlabel(axis_label(across))
        ax.set_ylabel(axis_label(up))
    figure.suptitle(heading(title_of(quantities[0]), f"{across} and {up}"))
    middle = "share" if is_share(quantities[0]) else "median"
    words = f"{middle} of the runs of a cell{pooled_over(asked, results)}; grey: not finite"
    legend_below(figure, axes.flat, words)
    return figure


def cell_table(results, quantity, across, up, asked):
    """The swept values, and the quantity in every cell, [up, across]."""
    xs, i = np.unique(results[across].values, return_inverse=True)
    ys, j = np.unique(results[up].values, return_inverse=True)
    if is_share(quantity):
        values, combine = flags(results, quantity), np.mean
    else:
        values, combine = values_of(results, quantity, asked).values.astype(float), np.median
    place = j * xs.size + i
    order = np.argsort(place, kind="stable")
    parts = np.split(values[order], np.cumsum(np.bincount(place, minlength=xs.size * ys.size))[:-1])
    table = np.array([combine(part) if part.size else np.nan for part in parts])
    return xs, ys, table.reshape(ys.size, xs.size)


def color_scale(quantity: str, table: np.ndarray) -> tuple[Normalize, str, np.ndarray]:
    """The scale of a map, the words before its quantity, and what is shown: logarithms of what
    spans decades."""
    if is_share(quantity) or quantity in ("accuracy", "saturation", "dead_units"):
        return Normalize(0, 1), "", table
    finite = table[np.isfinite(table) & (table > 0)]
    if finite.size and finite.max() > 30 * finite.min():
        low, high = np.log10(np.quantile(finite, [0.01, 0.99]))
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = np.log10(table)
        return Normalize(low, max(high, low + 1e-3)), r"$\log_{10}$ of the ", shown
    return Normalize(), "", table


def edges(values: np.ndarray) -> np.ndarray:
    """The borders of cells around sorted values."""
    scaled = np.log(values) if is_geometric(values) else values
    middles = (scaled[1:] + scaled[:-1]) / 2
    ends = np.concatenate([[2 * scaled[0] - middles[0]], middles, [2 * scaled[-1] - middles[-1]]])
    return np.exp(ends) if is_geometric(values) else ends


def is_geometric(values: np.ndarray) -> bool:
    """Whether swept numbers are spaced evenly on a logarithmic axis."""
    if values.size < 3 or values[0] <= 0:
        return False
    logs, plain = np.diff(np.log(values)), np.diff(values)
    return bool(np.ptp(logs) / logs.mean() < np.ptp(plain) / plain.mean())


def overlay(ax: Axes, results: xr.Dataset, across: str, up: str) -> None:
    """Six xi_c over weight variance and depth, where one activation and bias are swept."""
    labels = shared_labels(results)
    phi = activation_of(labels)
    wanted = {"bias_variance", "gain"} <= set(labels)
    if (across, up) != ("weight_variance", "depth") or phi is None or not wanted:
        return
    low, high = ax.get_xlim()
    grid_points = np.linspace(max(low, 1e-3), high, 60)
    reach = [
        6 * theory.depth_scales(
            phi, v * labels["gain"] ** 2, labels["bias_variance"]
        ).correlation
        for v in grid_points
    ]  # fmt: skip
    top = ax.get_ylim()
    ax.plot(grid_points, reach, color="white", linewidth=3)
    ax.plot(grid_points, reach, color=BLACK, linestyle="--", label=r"theory: 6 $\xi_c$")
    ax.set_ylim(top)


# --- words


def title_of(quantity: str) -> str:
    if is_share(quantity):
        return f"share of runs {quantity.replace('_', ' ')}"
    return str(VARIABLES[quantity]["long_name"])


def heading(what: str, where: str) -> str:
    words = f"{what} over {where.replace('_', ' ')}"
    return "\n".join(textwrap.wrap(words[0].upper() + words[1:], 56))


def mark_values(ax: Axes, values: np.ndarray) -> None:
    """Ticks at the swept numbers, on a logarithmic axis where they are spaced so."""
    if values.dtype.kind not in "fiu":
        return
    if is_geometric(values):
        ax.set_xscale("log")
    if values.size <= 10:
        ax.set_xticks(values, [statistics.text(value) for value in values], minor=False)
        ax.minorticks_off()


def label_of(quantity: str, asked: Comparison) -> str:
    """A quantity, and which layer or step of it is shown."""
    where = []
    if quantity in PROBES and asked.x != "layer":
        where.append(f"layer {asked.layer}")
    if "step" in dims(quantity) and asked.x != "step":
        at = moment(quantity, asked)
        where.append({"start": "at initialisation", "end": "at the end"}.get(at, f"step {at}"))
    words = title_of(quantity).replace(" of the backpropagated signal delta", " of delta")
    return f"{words}\n{', '.join(where)}" if where else words


def axis_label(name: str) -> str:
    words = {
        "layer": "weight layer (the last is the readout)",
        "depth": "depth (hidden layers)",
        "width": "width (units)",
        "step": "step",
    }
    return words.get(name, name.replace("_", " "))


def finish(strips: Sequence[np.ndarray], quantity: str) -> None:
    """The scale of the rows of one quantity: shares in per cent, what spans decades in powers of
    ten."""
    if is_share(quantity) or quantity in ("accuracy", "saturation", "dead_units", "one_sided"):
        for strip in strips:
            strip[0].yaxis.set_major_formatter(PercentFormatter(1.0))
            strip[0].set_ylim(-0.03, 1.03)
        return
    drawn = [
        np.asarray(found.get_ydata(), float)
        for strip in strips
        for ax in strip
        for found in ax.get_lines()
        if found.get_label() != "theory"
    ]
    values = np.concatenate([y[np.isfinite(y)] for y in drawn] or [np.empty(0)])
    positive = values[values > 0]
    wide = positive.size and positive.max() > 30 * positive.min()
    if positive.size and (values >= 0).all() and (wide or quantity in NORMS):
        for strip in strips:
            for ax in strip:
                ax.set_yscale("log")
            low, high = strip[0].get_ylim()  # theory may go far; what was measured stays legible
            strip[0].set_ylim(max(low, positive.min() / 1e3), min(high, positive.max() * 1e3))


def note(asked: Comparison) -> str:
    shares = all(is_share(quantity) for quantity in asked.quantities())
    if shares:
        return f"{asked.color}; bars: Wilson 95 % intervals".replace("_", " ")
    return f"{asked.color}; line: median, spread: 10th to 90th percentile of runs".replace("_", " ")
