"""The picture of a claim: what was measured under each condition, and where it would be true."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fadeout.analysis.looks import BLACK, BLUE, GREEN, GREY, RED
from fadeout.claims import Claim, Finding, Verdict
from fadeout.plots.style import blank_figure

_COLORS = {"holds": GREEN, "fails": RED, "holds only if": BLUE, "undecided": GREY}
_MARKS = {True: (GREEN, "o"), False: (RED, "s"), None: (GREY, "D")}
ROW_HEIGHT, PANEL_HEIGHT = 0.34, 0.95
_PANELS = 3
"""What decides nothing is shown only up to so many panels."""


def forest(claim: Claim, findings: Sequence[Finding], verdict: Verdict) -> Figure:
    """Each finding with its 95 % interval, a panel per quantity.

    What to conclude: a point whose whole interval lies in the shaded range supports the sentence
    (green), one wholly outside speaks against it (red); a blue bar is what theory expects.
    """
    panels, unknown = panels_of(claim, findings)
    heights = [ROW_HEIGHT * len(panel) + PANEL_HEIGHT for panel in panels]
    lines = [f"“{claim.sentence}” ({claim.source})"]
    lines += [str(verdict)] if str(verdict) != verdict.word else []
    lines += [f"too few values to judge {', nor '.join(unknown)}"] if unknown else []
    words = "\n".join(textwrap.fill(line, 104) for line in lines)
    lines = textwrap.wrap(claim.headline(verdict), 44)
    head = 0.42 * len(lines) + 0.24 * (words.count("\n") + 1) + 0.6
    figure = blank_figure(10, sum(heights) + head + 0.5)
    figure.suptitle(
        "\n".join(lines), fontweight="bold", fontsize="xx-large", color=_COLORS[verdict.word],
        x=0.02, ha="left",
    )  # fmt: skip
    if not panels:
        figure.text(0.02, 0.5, words, fontsize="small")
        return figure
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, claim, panel)
    axes[0].annotate(
        words, (0.02, 1.0), (0, 12), xycoords=("figure fraction", "axes fraction"),
        textcoords="offset points", va="bottom", fontsize="small",
    )  # fmt: skip
    _forest_legend(figure, [finding for panel in panels for finding in panel], claim)
    return figure


def panels_of(claim: Claim, findings: Sequence[Finding]) -> tuple[list[list[Finding]], list[str]]:
    """The findings of each quantity that is drawn, those that decide first, and the quantities that
    would decide but were not measured."""
    quantities = dict.fromkeys(finding.quantity for finding in findings)
    panels = [[f for f in findings if f.quantity == quantity] for quantity in quantities]
    measured = [p for p in panels if any(np.isfinite(f.measured.value) for f in p)]
    judged = [panel for panel in measured if claim.judged(panel[0])]
    beside = [panel for panel in measured if not claim.judged(panel[0])]
    unknown = [name for name in claim.rules if name not in {panel[0].quantity for panel in judged}]
    return judged + beside[: max(_PANELS - len(judged), 0)], unknown


def _draw_panel(ax: Axes, claim: Claim, panel: Sequence[Finding]) -> None:
    rows = np.arange(len(panel))
    for row, finding in zip(rows, panel, strict=True):
        low, value, high = finding.measured
        color, marker = BLACK, "o"
        if claim.judged(finding):
            color, marker = _MARKS[claim.supports(finding)]
        if finding.expected is not None:
            ax.plot(finding.expected, row, "|", color=BLUE, markersize=17, markeredgewidth=3)
        if np.isfinite([low, value, high]).all():
            reach = np.clip([[value - low], [high - value]], 0, None)
            ax.errorbar(value, row, xerr=reach, fmt=marker, color=color, capsize=4,
                        markerfacecolor=color if claim.judged(finding) else "white")  # fmt: skip
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": "x-small"}
        ax.annotate(_interval_text(finding.measured), (1.01, row), **place)
    if claim.judged(panel[0]):
        _shade_range(ax, claim.rules[panel[0].quantity])
    ax.set_yticks(rows, [finding.condition for finding in panel], fontsize="small")
    ax.set_ylim(len(panel) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7))
    ax.margins(x=0.08)
    low, high = ax.get_xlim()
    if high - low < (least := 0.1 * max(abs(low), abs(high), 1e-3)):  # nothing but digits to see
        ax.set_xlim(low - least, high + least)
    ax.set_xlabel(panel[0].quantity)
    ax.grid(axis="y", visible=False)


def _shade_range(ax: Axes, rule) -> None:
    """Colours the range that supports the claim, as far as the axis shows it."""
    low, high = ax.get_xlim()
    bounds = [bound for bound in rule if np.isfinite(bound)]
    pad = 0.05 * (max(high, *bounds) - min(low, *bounds))
    low, high = min(low, *(b - pad for b in bounds)), max(high, *(b + pad for b in bounds))
    ax.axvspan(max(low, rule.low), min(high, rule.high), color=GREEN, alpha=0.13, linewidth=0)
    ax.set_xlim(low, high)


def _interval_text(interval) -> str:
    low, value, high = interval
    if not np.isfinite(value):
        return "too few values"
    return f"{value:.3g}" if low == high else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _forest_legend(figure: Figure, findings: Sequence[Finding], claim: Claim) -> None:
    answers = {claim.supports(finding) for finding in findings if claim.judged(finding)}
    words = {True: "supports the sentence", False: "speaks against it", None: "undecided"}
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=_MARKS[answer][0], marker=_MARKS[answer][1], linestyle="", label=text)
        for answer, text in words.items()
        if answer in answers
    ]
    if any(not claim.judged(finding) for finding in findings):
        handles.append(Line2D([], [], color=BLACK, marker="o", markerfacecolor="white",
                              linestyle="", label="shown beside"))  # fmt: skip
    if any(finding.expected is not None for finding in findings):
        handles.append(Line2D([], [], color=BLUE, marker="|", markersize=14, markeredgewidth=3,
                              linestyle="", label="expected from theory"))  # fmt: skip
    handles.append(Patch(color=GREEN, alpha=0.13, label="where the sentence is true"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small")
