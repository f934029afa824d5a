"""One quantity over one axis, by colour, row and column; or as colour over two swept numbers."""

import dataclasses
import textwrap
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fadeout import theory
from fadeout.analysis import groups
from fadeout.analysis.comparison import (
    MOST_CELLS,
    RECORD_DIMS,
    Comparison,
    axis_points,
    cell_edges,
    cell_table,
    comparison_values,
    default_moment,
    describe_left_out,
    is_geometric,
    is_share_of_runs,
    pooled_labels,
    resolve_comparison,
    shared_labels,
    theory_line,
)
from fadeout.analysis.looks import BLACK
from fadeout.analysis.predictions import activation_of, hidden_weight_variance
from fadeout.networks.probes import PROBES
from fadeout.plots.lines import (
    DOWNWARDS,
    HIDDEN_LAYER,
    LEAST_LOSS,
    WEIGHT_LAYER,
    band,
    layers_text,
    line_looks,
)
from fadeout.plots.style import (
    current,
    fitting,
    grid,
    has_one_panel,
    headline,
    is_outer,
    legend_below,
    to_logarithmic,
    wrapped,
)
from fadeout.sweeps.variables import is_share, variable_attributes, variable_dims


def draw_comparison(results: xr.Dataset, asked: Comparison, title: str = "") -> Figure:
    """Draws a comparison.

    Args:
      title: by default it says what is compared over what.

    What to conclude: lines whose bands do not meet differ by more than the seed; a dashed line is
    what theory expects, so that where the two part, an assumption of it fails.

    Raises:
      FadeoutError: a quantity or an axis that the results lack.
    """
    results = groups.with_remedy(results)
    asked = resolve_comparison(asked, results)
    if asked.map:
        return _draw_heat_map(results, asked)
    facets = (asked.row, asked.column, asked.color)
    by_layer = asked.color == "layer"
    if by_layer:
        facets = (asked.row, asked.column, None)
    rows, columns, hues = (groups.axis_texts(results, name)[1] for name in facets)
    if by_layer:
        hues = [str(layer) for layer in range(1, int(results["depth"].max()) + 2)]
    chosen = groups.fitting_hues(hues)
    row_words, quantities = groups.subsample(rows, MOST_CELLS), asked.quantities()
    if has_one_panel():
        row_words, quantities = row_words[-1:], quantities[:1]
    one_row = len(quantities) * len(row_words) == 1
    column_words = fitting(columns, lines=2 if one_row else 1)
    counts = (chosen, hues), (row_words, rows), (column_words, columns)
    cells = [(quantity, row) for quantity in quantities for row in row_words]
    if one_row:
        figure, axes = wrapped(len(column_words))
    else:
        figure, axes = grid(len(cells), len(column_words), sharex="col", sharey="row")
    looks, spread = line_looks(chosen, str(asked.color)), False
    shown = (row_words, column_words, [""] if by_layer else chosen)
    for (row, column, hue), own in groups.group_by(results, facets, shown):
        for i, (quantity, its_row) in enumerate(cells):
            if its_row != row:
                continue
            ax, runs = axes[i, column_words.index(column)], results.isel(run=own)
            for word in chosen if by_layer else [hue]:
                one = dataclasses.replace(asked, layer=int(word)) if by_layer else asked
                if not by_layer or int(word) <= runs["depth"].max() + 1:
                    spread |= _draw_line(ax, runs, quantity, one, looks[word])
    for i, ((quantity, row), strip) in enumerate(zip(cells, axes, strict=True)):
        for column, ax in zip(column_words, strip, strict=True):
            if is_outer(ax.yaxis):
                ax.set_ylabel(_label_of(quantity, asked, where=not title))
            pairs = (asked.row, row), (asked.column, column)
            if asked.row or not i:  # without rows, the columns are named once
                ax.set_title(", ".join(_facet_title(name, word) for name, word in pairs if name))
    for quantity in quantities:
        own = [strip for (q, _), strip in zip(cells, axes, strict=True) if q == quantity]
        _finish_axes(own, quantity)
    for ax in axes[-1]:
        if is_outer(ax.xaxis):
            ax.set_xlabel(_axis_label(str(asked.x), quantities))
        if asked.x == "layer":
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        elif asked.x not in RECORD_DIMS:
            _mark_values(ax, np.unique(results[asked.x].values))
    several = len(quantities) > 1
    what = "Comparison" if several else _title_of(quantity)
    headline(figure, title or _heading(what, str(asked.x)))
    words = (
        _comparison_note(asked, spread)
        + pooled_labels(asked, results)
        + describe_left_out(asked, counts)
    )
    words += groups.describe_subsample(len(quantities), len(asked.quantities()), "quantities")
    legend_below(figure, axes.flat, words)
    return figure


def _draw_line(ax: Axes, runs: xr.Dataset, quantity: str, asked: Comparison, look: dict) -> bool:
    """One colour of a cell: measured with its spread, and dashed what theory expects.

    Returns:
      Whether it has a spread.
    """
    if asked.x in RECORD_DIMS:
        values = comparison_values(runs, quantity, asked)
        every = {
            "step": groups.recorded_steps(runs),
            "layer": runs["layer"].values <= runs["depth"].values.max() + 1,
        }
        values = values.isel({asked.x: every[asked.x]})
        x, middle = values[asked.x].values, groups.quantile_spread(values).median
        marker = {"marker": ""} if asked.x == "step" and x.size > 40 else {}
        spread = band(ax, x, values, look | marker)
    else:
        x, low, middle, high = axis_points(runs, quantity, asked)
        some = np.isfinite(middle)
        reach = np.clip([middle - low, high - middle], 0, None)
        if x.dtype.kind not in "fiu":
            look = look | {"linestyle": ""}  # nothing lies between two words
        spread = runs.sizes["run"] > x.size
        ax.errorbar(
            x[some], middle[some], yerr=reach[:, some] if spread else None, capsize=3, **look
        )
    expected = theory_line(runs, quantity, str(asked.x), asked, x, middle)
    if expected is not None:
        ax.plot(x, expected, color=BLACK, linestyle=(0, (4, 2)), linewidth=1.3, zorder=5,
                label="theory")  # fmt: skip
    return spread


# --- maps


def _draw_heat_map(results: xr.Dataset, asked: Comparison) -> Figure:
    """A quantity as colour over two swept numbers: the median over the other runs of a cell, or
    the share of them.

    What to conclude: an edge between colours is where a choice begins to matter; a fine-grained one
    means that no rule of thumb will do.
    """
    across, up = asked.map  # type: ignore[misc]
    quantities = asked.quantities()[: 1 if has_one_panel() else None]
    across_page = min(len(quantities), current.get().columns // 2 or 1)  # each with its colour bar
    rows = -(-len(quantities) // across_page)
    figure, axes = grid(rows, across_page, width=6.4, height=5.0)
    for ax in axes.flat[len(quantities) :]:
        ax.set_axis_off()
    for ax, quantity in zip(axes.flat, quantities, strict=False):
        xs, ys, table = cell_table(results, quantity, across, up, asked)
        norm, kind, shown = _color_scale(quantity, table)
        ax.set_facecolor("#bbbbbb")
        image = ax.pcolormesh(cell_edges(xs), cell_edges(ys), shown, norm=norm, rasterized=True)
        for values, scale in ((xs, ax.set_xscale), (ys, ax.set_yscale)):
            if is_geometric(values):
                scale("log")
        bar = figure.colorbar(image, ax=ax, label=kind + _label_of(quantity, asked))
        bar.ax.grid(False)
        ax.grid(False)
        _draw_trainable_depth(ax, results, across, up)
        for values, ticks in ((xs, ax.set_xticks), (ys, ax.set_yticks)):
            if values.size <= 12:
                ticks(values, [groups.format_label(value) for value in values], minor=False)
                ax.minorticks_off()
        ax.set_xlabel(_axis_label(across))
        ax.set_ylabel(_axis_label(up))
    headline(figure, _heading(_title_of(quantities[0]), f"{across} and {up}"))
    middle = "share" if is_share_of_runs(quantities[0]) else "median"
    words = f"{middle} of the runs of a cell{pooled_labels(asked, results)}; grey: not finite"
    words += groups.describe_subsample(len(quantities), len(asked.quantities()), "quantities")
    legend_below(figure, axes.flat, words)
    return figure


def _color_scale(quantity: str, table: np.ndarray) -> tuple[Normalize, str, np.ndarray]:
    """The scale of a map, the words before its quantity, and what is shown: logarithms of what
    spans decades."""
    if is_share_of_runs(quantity) or is_share(quantity):
        return Normalize(0, 1), "", table
    finite = table[np.isfinite(table) & (table > 0)]
    if finite.size and finite.max() > 30 * finite.min():
        low, high = np.log10(np.quantile(finite, [0.01, 0.99]))
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = np.log10(table)
        return Normalize(low, max(high, low + 1e-3)), r"$\log_{10}$ of the ", shown
    return Normalize(), "", table


def _draw_trainable_depth(ax: Axes, results: xr.Dataset, across: str, up: str) -> None:
    """Six xi_c over weight variance, or gain, and depth, where one activation and bias are
    swept."""
    if across not in ("weight_variance", "gain") or up != "depth":
        return
    labels = shared_labels(results)
    phi = activation_of(labels)
    low, high = ax.get_xlim()
    grid_points = np.linspace(max(low, 1e-3), high, 60)
    variances = [hidden_weight_variance(labels | {across: value}) for value in grid_points]
    if phi is None or "bias_variance" not in labels or None in variances:
        return
    reach = [
        6 * theory.depth_scales(phi, variance, labels["bias_variance"]).correlation
        for variance in variances
    ]
    top = ax.get_ylim()
    ax.plot(grid_points, reach, color="white", linewidth=3)
    ax.plot(grid_points, reach, color=BLACK, linestyle="--", label=r"theory: 6 $\xi_c$")
    ax.set_ylim(top)


# --- words


def _title_of(quantity: str) -> str:
    if is_share_of_runs(quantity):
        return f"share of runs {quantity.replace('_', ' ')}"
    return variable_attributes(quantity)["long_name"]


def _heading(what: str, where: str) -> str:
    over = {"step": "during training", "layer": "over layers"}
    words = f"{what} {over.get(where) or 'over ' + where.replace('_', ' ')}"
    return "\n".join(textwrap.wrap(words[0].upper() + words[1:], 56))


def _mark_values(ax: Axes, values: np.ndarray) -> None:
    """Ticks at the swept numbers, on a logarithmic axis where they are spaced so."""
    if values.dtype.kind not in "fiu":
        return
    if is_geometric(values):
        ax.set_xscale("log")
    if values.size <= 10:
        ax.set_xticks(values, [groups.format_label(value) for value in values], minor=False)
        ax.minorticks_off()


def _label_of(quantity: str, asked: Comparison, where: bool = True) -> str:
    """A quantity, and which layer or step of it is shown, unless a title says that."""
    shown = []
    along = () if is_share_of_runs(quantity) else variable_dims(quantity)
    alone = quantity in PROBES and PROBES[quantity].curvature  # it is of the whole network
    if "layer" in along and "layer" not in (asked.x, asked.color) and not alone:
        shown.append(f"layer {asked.layer}")
    if "step" in along and asked.x != "step":
        at = default_moment(quantity, asked)
        shown.append({"start": "at initialisation", "end": "at the end"}.get(at, f"step {at}"))
    words = PROBES[quantity].axis_label if quantity in PROBES else _title_of(quantity)
    return f"{words}\n{', '.join(shown)}" if shown and where else words


def _facet_title(name: str, word: str) -> str:
    if name == "depth" and word.isdecimal():
        return layers_text(int(word))
    return f"{name.replace('_', ' ')} {word}"


def _axis_label(name: str, quantities: Sequence[str] = ()) -> str:
    if name == "layer":
        shown = [PROBES[quantity] for quantity in quantities if quantity in PROBES]
        if shown and not any(probe.readout for probe in shown):
            return HIDDEN_LAYER
        return DOWNWARDS if shown and all(probe.gradient for probe in shown) else WEIGHT_LAYER
    words = {
        "depth": "depth (hidden layers)",
        "width": "width (units)",
        "step": "step",
    }
    return words.get(name, name.replace("_", " "))


def _finish_axes(strips: Sequence[np.ndarray], quantity: str) -> None:
    """The scale of the rows of one quantity: shares in per cent, what spans decades in powers of
    ten."""
    if is_share_of_runs(quantity) or is_share(quantity):
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
    gradient = quantity in PROBES and PROBES[quantity].gradient
    wide = positive.size and positive.max() > 30 * positive.min()
    if positive.size and (values >= 0).all() and (wide or gradient or quantity == "loss"):
        for strip in strips:
            for ax in strip:
                to_logarithmic(ax, LEAST_LOSS if quantity == "loss" else 0.0)
            low, high = strip[0].get_ylim()  # theory may go far; what was measured stays legible
            strip[0].set_ylim(max(low, positive.min() / 1e3), min(high, positive.max() * 1e3))


def _comparison_note(asked: Comparison, spread: bool) -> str:
    shares = all(is_share_of_runs(quantity) for quantity in asked.quantities())
    if shares:
        return f"colour: {asked.color}; bars: Wilson 95 % intervals".replace("_", " ")
    bands = "line: median; band: 10th to 90th percentile" if spread else "one run a line"
    words = f"colour: {asked.color}; {bands}"
    return words.replace("_", " ")
