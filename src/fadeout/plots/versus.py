"""Two configs, compared: paired differences, and how often one is better."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fadeout.analysis.comparison import is_share_of_runs
from fadeout.analysis.difference import PairedGroup, Standing
from fadeout.analysis.groups import format_label
from fadeout.analysis.looks import BLACK, BLUE, GREEN, GREY, RED
from fadeout.plots.style import blank_figure, headline

_MOST_DOTS = 1000


def draw_versus(
    found: xr.Dataset, groups: Sequence[PairedGroup], decided: Sequence[Standing] | None = None
) -> Figure:
    """A row for each group: the difference of each seed, with the interval of what they have in
    common; and the share of seeds at which A is better.

    What to conclude: an interval on the right that lies on one side of the line decides.

    Args:
      found: what `fadeout.difference` gives.
      decided: of a study that trained until it was decided, where each group stands.
    """
    found = found if "group" in found.dims else found.expand_dims("group")
    about, rows = found.attrs, np.arange(len(groups))
    figure = blank_figure(11, 1.9 + 0.55 * len(groups))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    words = [_words_of(group) for group in groups]
    if is_share_of_runs(about["by"]):
        words_of_parts = f"only {about['a']}", "both or neither", f"only {about['b']}"
        _draw_shares(left, groups, words_of_parts)
        left.set_xlabel(f"seeds, by what is {about['by'].replace('_', ' ')}")
        left.xaxis.set_major_formatter(PercentFormatter(1))
    else:
        _draw_differences(left, groups, found)
        left.set_xlabel(f"{about['by'].replace('_', ' ')}, {about['a']} minus {about['b']}")
    ends = np.array([found[name].values for name in ("win_low", "win", "win_high")]).T
    sure = found["decided"].values
    if decided is not None:
        ends = np.array([standing.win for standing in decided])
        sure = np.array([standing.word in ("a", "b") for standing in decided])
    for row, (low, win, high), known in zip(rows, ends, sure, strict=True):
        color = GREY if not known else GREEN if win > 0.5 else RED
        reach = np.clip([[win - low], [high - win]], 0, None)
        right.errorbar(win, row, xerr=reach, fmt="o", color=color, capsize=4)
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": "x-small"}
        seeds = int(found["seeds"].values[row])
        right.annotate(f"{win:.0%} of {seeds} seeds", (1.02, row), **place)
    right.axvline(0.5, color=BLACK, linewidth=1)
    right.set_xlim(-0.03, 1.03)
    right.xaxis.set_major_formatter(PercentFormatter(1))
    right.set_xlabel(f"seeds at which {about['a']} is better, ties counted half")
    left.set_yticks(rows, words)
    left.set_ylim(len(groups) - 0.4, -0.6)
    headline(figure, _title(found, decided))
    return figure


def _words_of(group: PairedGroup) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {format_label(value)}" for name, value in group.labels.items()
    )


def _title(found: xr.Dataset, decided: Sequence[Standing] | None) -> str:
    """Says who is better, and in how many of the groups."""
    about = found.attrs
    win = found["win"].values > 0.5
    sure = (
        found["decided"].values
        if decided is None
        else np.array([s.word in ("a", "b") for s in decided])
    )
    by = about["by"].replace("_", " ")
    if not sure.any():
        return f"{about['a']} or {about['b']}, by {by}: not decided"
    sides = [(about["a"], about["b"], win & sure), (about["b"], about["a"], ~win & sure)]
    words = [
        f"{better} is better than {worse}"
        + (f" in {which.sum()} of {which.size} groups" if which.size > 1 else "")
        for better, worse, which in sides
        if which.any()
    ]
    return f"{'; '.join(words)} (by {by})"


def _draw_shares(ax, groups: Sequence[PairedGroup], words: tuple[str, str, str]) -> None:
    for row, group in enumerate(groups):
        if not group.paired:
            for place, own, color in ((-0.16, group.a, GREEN), (0.16, group.b, RED)):
                ax.barh(row + place, np.mean(own), 0.3, color=color)
            continue
        wins, losses = np.mean(group.a > group.b), np.mean(group.a < group.b)
        start = 0.0
        shares = wins, 1 - wins - losses, losses
        for share, color, word in zip(shares, (GREEN, "0.85", RED), words, strict=True):
            ax.barh(row, share, 0.6, left=start, color=color, label=word if row == 0 else None)
            start += share
    if not any(group.paired for group in groups):
        return
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize="small")
    ax.set_xlim(0, 1)
    ax.grid(axis="y", visible=False)


def _draw_differences(ax, groups: Sequence[PairedGroup], found: xr.Dataset) -> None:
    """A dot for each seed; those of whom one lost altogether stand nowhere."""
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, _MOST_DOTS)
    for row, group in enumerate(groups):
        if group.paired:
            with np.errstate(invalid="ignore"):
                each = group.a - group.b
            each = each[np.isfinite(each)][:_MOST_DOTS]
            ax.plot(each, row + jitter[: each.size], ".", color=BLUE, alpha=0.35, zorder=1)
        low, value, high = (float(found[n].values[row]) for n in ("low", "value", "high"))
        if np.isfinite([low, value, high]).all():
            reach = np.clip([[value - low], [high - value]], 0, None)
            ax.errorbar(value, row, xerr=reach, fmt="D", color=BLACK, capsize=4, zorder=3)
    ax.axvline(0, color=BLACK, linewidth=1)
    ax.grid(axis="y", visible=False)
