"""The figures of a sweep: comparisons over depths, and those that are no comparison."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fadeout.analysis import groups
from fadeout.analysis.comparison import Comparison
from fadeout.analysis.looks import BLACK, ORANGE, hue_looks
from fadeout.analysis.verdicts import expected_share
from fadeout.networks.activations import in_table_order
from fadeout.networks.probes import PROBES
from fadeout.plots.comparison import draw_comparison
from fadeout.plots.lines import (
    DOWNWARDS,
    HIDDEN_LAYER,
    LEAST_LOSS,
    band,
    layers_text,
    line_looks,
)
from fadeout.plots.style import (
    current,
    fitting,
    fitting_rows,
    grid,
    has_one_panel,
    headline,
    legend_below,
    panelled,
    to_logarithmic,
)

_NORMS = ("delta_norm", "gradient_norm")
_UNITS = ("saturation", "dead_units")


def _units_over_layers(results: xr.Dataset) -> Figure:
    """Saturated and dead units over layers: solid after training, dashed at initialisation.

    What to conclude: a saturated unit passes hardly any gradient, a dead one none; where they are
    many in every layer, the profile above them falls.
    """
    quantities = _rows_of(results, *_UNITS)
    figure, axes = _panels_by_depth(results, len(quantities), sharey=True)
    for group, column, look in _groups_to_draw(results):
        layers = np.arange(1, group.depth + 1)
        runs = group.runs.sel(layer=layers)
        for row, name in enumerate(quantities):
            start = groups.at_start(runs[name]).mean("run")
            axes[row, column].plot(
                layers, start, **look | {"linestyle": "--", "label": None, "alpha": 0.5}
            )
            end = groups.at_end(runs[name]).mean("run")
            axes[row, column].plot(layers, end, **look | {"linestyle": "-"})
    for row, name in enumerate(quantities):
        axes[row, 0].set_ylabel(PROBES[name].title)
        axes[row, 0].yaxis.set_major_formatter(PercentFormatter(1.0))
        axes[row, 0].set_ylim(-0.03, 1.03)
    _label_columns(results, axes, HIDDEN_LAYER)
    headline(figure, "Units that pass no gradient on")
    note = f"{_color_words(results)}mean over runs; solid: at the end, dashed: at initialisation"
    note += _depths_left_out(results)
    legend_below(figure, axes.flat, note + _units_note(results, quantities))
    return figure


def _units_note(results: xr.Dataset, quantities: Sequence[str]) -> str:
    """Returns a note on what counts as saturated and as dead, and on the share that is usual for an
    activation."""
    means = {
        "dead_units": "dead: the slope is 0 on every example",
        "saturation": "saturated: at most 5\N{NO-BREAK SPACE}% of its steepest, on an example",
    }
    words = "\n" + "; ".join(text for name, text in means.items() if name in quantities)
    if "saturation" not in quantities:
        return words
    names = np.unique(results["activation"].values).tolist()
    own = {name: expected_share({"activation": name}) for name in in_table_order(names)}
    shown = [f"{name} {value:.0%}" for name, value in own.items() if 0.01 <= value < 0.99]
    healthy = f"\n(healthy on a standard normal input: {', '.join(shown[:6])} saturated)"
    return words + healthy if shown else words


def _gradient_over_training(results: xr.Dataset) -> Figure:
    """The delta norm of every layer at every step, as an image per activation and depth.

    What to conclude: dark from the top down and from the start is a gradient that vanishes; dark
    everywhere later on is a task that is solved.
    """
    cells = list(groups.group_runs(results))
    hues, columns = fitting_rows(groups.drawn_hues(results), 1.3), _columns_of(results)
    every = len(np.unique(results[groups.choose_hue(results)].values))
    medians = {
        (group.hue, group.depth): groups.quantile_spread(group.runs["delta_norm"]).median
        for group in cells
        if group.depth in columns
    }
    if has_one_panel():
        hues = [
            max(hues, key=lambda hue: _decades_lost(medians.get((hue, columns[0]))))
        ]  # where most is lost
    figure, axes = grid(len(hues), len(columns), height=2.6, sharex=True)
    scale = _logarithmic_scale(medians.values())
    image = None
    for ax in axes.flat:
        ax.grid(False)
        ax.set_facecolor("#bbbbbb")
    for group in cells:
        if group.hue not in hues or group.depth not in columns:
            continue
        ax = axes[hues.index(group.hue), columns.index(group.depth)]
        steps = group.runs["step"].values
        image = _delta_image(ax, steps, medians[group.hue, group.depth], scale)
    for row, hue in enumerate(hues):
        axes[row, 0].set_ylabel(f"{hue}\nweight layer")
    for column, depth in enumerate(columns):
        axes[0, column].set_title(layers_text(depth))
        axes[-1, column].set_xlabel("step")
    bar = figure.colorbar(image, ax=axes, label=r"median over runs of  $\log_{10}\,\|\delta\|$")
    bar.ax.grid(False)
    left = _depths_left_out(results, columns) + groups.describe_subsample(
        len(hues), every, "values"
    )
    words = f"The backpropagated signal in training\n(grey: 0, or not finite{left})"
    headline(figure, words)
    return figure


def _share_solved(results: xr.Dataset) -> Figure:
    """The share of runs that solve the task, over depth, with Wilson 95 % intervals.

    What to conclude: intervals that do not meet are a difference that more seeds will not undo.
    """
    figure, axes = grid(1, 1, width=7.5, height=4.2)
    ax = axes[0, 0]
    cells = list(groups.group_runs(results))
    hues = groups.drawn_hues(results)
    columns = groups.drawn_depths(results)
    style = hue_looks(hues)
    for i, hue in enumerate(hues):
        mine = [group for group in cells if group.hue == hue]
        shares = [groups.solved_share(group.runs) for group in mine]
        x = [columns.index(group.depth) + 0.6 * ((i + 0.5) / len(hues) - 0.5) for group in mine]
        middle = np.array([s.value for s in shares])
        reach = [middle - [s.low for s in shares], [s.high for s in shares] - middle]
        look = style[hue] | {"linestyle": "", "label": hue}
        ax.errorbar(x, middle, np.clip(reach, 0, None), capsize=4, **look)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("depth (hidden layers)")
    ax.set_ylabel("share of runs solved")
    ax.grid(axis="x", visible=False)
    counts = sorted({group.runs.sizes["run"] for group in cells})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    headline(figure, "Who solves the task")
    words = f"{_color_words(results)}{number} runs a point; bars: Wilson 95 % intervals"
    legend_below(figure, [ax], words)
    return figure


def _one_run(results: xr.Dataset) -> Figure:
    """All that says something about a single run: its layers before training, dashed, and after;
    its loss; and the backpropagated signal over layers and training.

    What to conclude: a dashed line that falls towards layer 1 is a gradient that vanishes on its
    way down; where the loss stays level as well, that is why.
    """
    run, steps = results.isel(run=0), groups.recorded_steps(results)
    name, trained = str(run["activation"].item()), int(steps.sum()) > 1
    look = hue_looks([name])[name]
    shares = [q for q in _UNITS if q in run]
    parts: dict[str, Callable[[Axes], None]] = {
        quantity: partial(_layers_of_one, results, quantity, look, trained)
        for quantity in _NORMS
        if quantity in run
    }
    if shares:
        parts["units"] = partial(_units_of_one, run, shares, trained)
    if trained:
        parts["loss"] = partial(_loss_of_one, results, look)
        if "delta_norm" in run:
            parts["image"] = partial(_image_of_one, run, steps)
    names = list(parts)[: 1 if has_one_panel() else None]
    fit = current.get().columns * 2 // 3 or 1  # each has a vertical axis of its own
    columns = min(3, len(names), fit) or 1
    rows = -(-len(names) // columns)
    spare = rows * columns - len(names)
    places = np.array([*names, *names[-1:] * spare]).reshape(rows, columns)
    figure = panelled(rows, columns, width=5.0, height=3.9)
    for part, ax in figure.subplot_mosaic(places.tolist()).items():
        parts[str(part)](ax)
    headline(figure, f"{name}, {layers_text(int(run['depth']))}: {_outcome_of(run)}")
    return figure


def _layers_of_one(results: xr.Dataset, quantity: str, look: dict, trained: bool, ax: Axes) -> None:
    for when, style in ((groups.at_start, "--"), (groups.at_end, "-"))[: 1 + trained]:
        label = "at initialisation" if style == "--" else "after training"
        own = look | {"linestyle": style, "label": label}
        band(ax, results["layer"].values, when(results[quantity]), own)
    _make_logarithmic(np.array([ax]))
    ax.set_ylabel(PROBES[quantity].axis_label)
    ax.set_xlabel(DOWNWARDS)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.legend(fontsize="small")


def _units_of_one(run: xr.Dataset, shares: Sequence[str], trained: bool, ax: Axes) -> None:
    colors = {"saturation": ORANGE, "dead_units": BLACK}
    for quantity in shares:
        values = groups.at_end(run[quantity])[: int(run["depth"])]
        ax.plot(values["layer"], values, "o-", color=colors[quantity], label=PROBES[quantity].label)
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel(HIDDEN_LAYER)
    ax.set_ylabel("share of units after training" if trained else "share of units")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.legend(fontsize="small")


def _loss_of_one(results: xr.Dataset, look: dict, ax: Axes) -> None:
    steps = groups.recorded_steps(results)
    values = results["loss"].isel(step=steps)
    band(ax, values["step"].values, values, look | {"marker": "", "label": "loss"})
    _make_logarithmic(np.array([ax]), LEAST_LOSS)
    ax.set_ylabel("loss")
    ax.set_xlabel("step")


def _image_of_one(run: xr.Dataset, steps: np.ndarray, ax: Axes) -> None:
    values = run["delta_norm"].isel(step=steps)
    image = _delta_image(ax, values["step"].values, values.values, None)
    ax.set_xlabel("step")
    ax.set_ylabel("weight layer")
    ax.figure.colorbar(image, ax=ax, label=r"$\log_{10}\,\|\delta\|$").ax.grid(False)


def _outcome_of(run: xr.Dataset) -> str:
    """How a run ended, in a few words."""
    status = str(run["status"].item())
    if status in ("solved", "diverged"):
        return f"{status} at step {int(run[f'{status}_step'])}"
    return status


def _delta_image(ax: Axes, steps: np.ndarray, values: np.ndarray, scale: Normalize | None):
    """The backpropagated signal of every layer at every step, [step, layer], as an image."""
    ax.grid(False)
    ax.set_facecolor("#bbbbbb")
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = np.log10(values.T)
    reach = steps[-1] + (steps[-1] - steps[-2] if steps.size > 1 else 1)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    return ax.imshow(
        np.where(np.isfinite(shown), shown, np.nan), norm=scale or _logarithmic_scale([values]),
        aspect="auto", origin="lower", extent=(0, reach, 0.5, len(shown) + 0.5),
        interpolation="nearest",
    )  # fmt: skip


# --- parts


def _panels_by_depth(results: xr.Dataset, rows: int, **share):
    """One column of axes per depth."""
    return grid(rows, len(_columns_of(results)), sharex="col", **share)


def _columns_of(results: xr.Dataset) -> list[int]:
    """The depths that have a column each."""
    return fitting(groups.drawn_depths(results))


def _rows_of(results: xr.Dataset, *quantities: str) -> list[str]:
    """Returns the quantities that were recorded and have a row each."""
    recorded = [name for name in quantities if name in results]
    return recorded[:1] if has_one_panel() else recorded


def _decades_lost(values: np.ndarray | None) -> float:
    """Powers of ten by which they [step, layer] fall at the start, from the readout down; of
    nothing that could be drawn, less than any."""
    shown = np.asarray([] if values is None else values[0], float)
    shown = shown[np.isfinite(shown) & (shown > 0)]
    return float(np.log10(shown[-1] / shown[0])) if shown.size > 1 else -np.inf


def _groups_to_draw(results: xr.Dataset):
    """Yields every group with its column and its look."""
    hue, columns = groups.choose_hue(results), _columns_of(results)
    looks = line_looks(groups.drawn_hues(results), hue)
    for group in groups.group_runs(results):
        if group.depth in columns:
            yield group, columns.index(group.depth), looks[group.hue]


def _label_columns(results: xr.Dataset, axes: np.ndarray, xlabel: str) -> None:
    for column, depth in enumerate(_columns_of(results)):
        axes[0, column].set_title(layers_text(depth))
        axes[-1, column].set_xlabel(xlabel)
        axes[-1, column].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _make_logarithmic(axes: np.ndarray, least: float = 0.0) -> None:
    """A logarithmic axis for all axes of a row that have something on it."""
    for ax in axes:
        curves = [
            line.get_ydata() for line in ax.get_lines() if line.get_transform() == ax.transData
        ]
        if any((np.asarray(y, float) > 0).any() for y in curves):
            to_logarithmic(ax, least)


def _logarithmic_scale(medians) -> Normalize:
    """One colour scale for all images: their finite positive values, in powers of ten."""
    values = np.concatenate([median[np.isfinite(median) & (median > 0)] for median in medians])
    if values.size == 0:
        return Normalize(-1, 0)
    low, high = np.log10(np.quantile(values, [0.005, 1.0]))
    return Normalize(low, max(high, low + 1))


def _color_words(results: xr.Dataset) -> str:
    """Returns a note on what the colours mean, where the legend shows numbers."""
    hue = groups.choose_hue(results)
    numeric = hue in results.coords and results[hue].dtype.kind in "biuf"
    return f"colour: {hue.replace('_', ' ')}; " if numeric else ""


def _depths_left_out(results: xr.Dataset, columns: Sequence[int] | None = None) -> str:
    """Returns a note on depths that are not drawn."""
    shown = len(_columns_of(results) if columns is None else columns)
    return groups.describe_subsample(shown, len(np.unique(results["depth"].values)), "depths")


class _Drawing(NamedTuple):
    """How a figure comes about.

    Attributes:
      draw: of the results.
      needs: the probes of which it shows at least one; none where it needs no probe.
      over_training: it says nothing of networks that were only drawn.
      of_one: it is of a single run, and no other is.
      of_classes: it says nothing of a task without classes.
    """

    draw: Callable[[xr.Dataset], Figure]
    needs: tuple[str, ...] = ()
    over_training: bool = True
    of_one: bool = False
    of_classes: bool = False

    def says_something(self, results: xr.Dataset) -> bool:
        """Returns whether it is worth drawing of these results."""
        recorded = not self.needs or any(probe in results for probe in self.needs)
        trained = results.sizes["step"] > 1
        classes = bool((results["status"] != "trained").any()) or not self.of_classes
        if self.of_one and not trained:
            recorded = any(probe in results for probe in (*_NORMS, *_UNITS))
        in_time = trained or not self.over_training
        return recorded and in_time and classes and (results.sizes["run"] == 1) == self.of_one


def _compared(title: str, asked: Comparison, probes: tuple[str, ...] = (), **needs) -> _Drawing:
    """A figure that is a comparison over depths: of the probes that were recorded, if it is of
    probes."""

    def draw(results: xr.Dataset) -> Figure:
        shown = ",".join(_rows_of(results, *probes)) or asked.quantity
        hue = groups.choose_hue(results)
        full = replace(asked, quantity=shown, color=hue, column="depth")
        return draw_comparison(results, full, title)

    return _Drawing(draw, probes, **needs)


FIGURES: dict[str, _Drawing] = {
    # a line that falls towards layer 1 is a gradient that vanishes; compare the rows: weight
    # gradients can look level where delta vanishes
    "gradient_profile_at_start": _compared(
        "How the gradient fares on its way down, at initialisation",
        Comparison(x="layer", at="start"), _NORMS, over_training=False,
    ),
    # where the loss is solved all gradients are small, at every layer alike; where it is not, the
    # lower layers never got a gradient to learn from
    "gradient_profile_at_end": _compared(
        "How the gradient fares on its way down, after training",
        Comparison(x="layer", at="end"), _NORMS,
    ),
    "gradient_over_training": _Drawing(_gradient_over_training, ("delta_norm",)),
    # a band that stays at the top (log 2 for cross-entropy) never started to learn; a wide band
    # means that the seed decides, not the activation
    "loss_curves": _compared("Loss during training", Comparison("loss", x="step")),
    "share_solved": _Drawing(_share_solved, of_classes=True),
    "units_over_layers": _Drawing(_units_over_layers, _UNITS, False),
    "run": _Drawing(_one_run, over_training=False, of_one=True),
}  # fmt: skip
"""Each figure by the name of its file; the comments say what to conclude from it."""
