"""The picture of the coordinate check."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fadeout.analysis.scaling import Check
from fadeout.plots.style import grid, headline

_SYMBOLS = {
    "signal": r"$\sqrt{\mathrm{E}\,\phi(z)^2}$",
    "delta": r"$\|\partial L/\partial z\|$",
    "update": r"$\|\Delta W\| / \|W\|$",
}


def draw_scaling(check: Check, table: pd.DataFrame) -> Figure:
    """Each quantity against the size, a column for each step and a line for each position, with the
    slopes.

    What to conclude: a flat line does not change with the size. A line that grows says that wide
    networks need a smaller learning rate, or another scale at the start.
    """
    figure, axes = grid(len(check.quantities), len(check.steps), sharex=True, sharey="row")
    for row, (name, (values, _, expected)) in enumerate(check.quantities.items()):
        for column, step in enumerate(check.steps):
            ax = axes[row, column]
            for p, position in enumerate(check.positions):
                own = values[:, :, column, p]
                own = np.where(np.isfinite(own) & (own > 0), own, np.nan)
                if not np.isfinite(own).any():
                    continue
                line = table[
                    (table.quantity == name) & (table.step == step) & (table.position == position)
                ].iloc[0]
                words = f"{position}: {line.slope:+.2f} {line.word}"
                (drawn,) = ax.plot(
                    check.sizes, np.nanmedian(own, 1), "o-", label=words, color=f"C{p}"
                )
                ax.fill_between(check.sizes, np.nanmin(own, 1), np.nanmax(own, 1),
                                color=drawn.get_color(), alpha=0.2, linewidth=0)  # fmt: skip
            if expected is not None and step == 0:
                ax.plot(check.sizes, expected, "k--", linewidth=1.2)
                ax.plot([], [], "k--", linewidth=1.2, label="theory")
            ax.set_xscale("log")
            ax.set_xticks(check.sizes, [str(size) for size in check.sizes], minor=False)
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_yscale("log")
            ax.legend(fontsize="x-small", title=None)
            if row == 0:
                ax.set_title(_moment(step))
            if column == 0:
                ax.set_ylabel(f"{name} {_SYMBOLS.get(name, '')}")
        for ax in axes[-1]:
            ax.set_xlabel(check.over)
    headline(figure, summarize_scaling(check, table))
    return figure


def summarize_scaling(check: Check, table: pd.DataFrame) -> str:
    """Says in a sentence whether the signal stays as it is."""
    own = table[table.quantity == "signal"]
    bad = own[~own.word.isin(["PASS", "undecided"])]
    if bad.empty:
        sure = (own.word == "PASS").all()
        return f"the signal does not change with {check.over}" if sure else "undecided: more seeds"
    worst = bad.iloc[int(np.nanargmax(np.abs(bad.slope.fillna(np.inf))))]
    does = {"GROWS": "grows", "SHRINKS": "shrinks"}.get(worst.word, "is not finite")
    where = f"{worst.position} layer, {_moment(worst.step)}"
    return f"the signal {does} with {check.over}, {where}: {worst.slope:+.2f}"


def _moment(step: int) -> str:
    return "at the start" if step == 0 else f"after {step} step{'s' if step > 1 else ''}"
