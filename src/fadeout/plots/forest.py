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
from fadeout.plots.style import sheet

COLORS = {"holds": GREEN, "fails": RED, "holds only if": BLUE, "undecided": GREY}
MARKS = {True: (GREEN, "o"), False: (RED, "s"), None: (GREY, "D")}
ROW_HEIGHT, PANEL_HEIGHT = 0.34, 0.95


def forest(claim: Claim, findings: Sequence[Finding], verdict: Verdict) -> Figure:
    """Each finding with its 95 % interval, a panel per quantity.

    What to conclude: a point whose whole interval lies in the shaded range supports the sentence
    (green), one wholly outside speaks against it (red); a blue bar is what theory expects.
    """
    quantities = list(dict.fromkeys(finding.quantity for finding in findings))
    panels = [[f for f in findings if f.quantity == quantity] for quantity in quantities]
    heights = [ROW_HEIGHT * len(panel) + PANEL_HEIGHT for panel in panels]
    title = textwrap.fill(f"“{claim.sentence}”", 78)
    words = textwrap.fill(str(verdict), 96) if str(verdict) != verdict.word else ""
    words = "\n".join(filter(None, [words, textwrap.fill(claim.source, 96)]))
    head = 0.5 + 0.32 * (title.count("\n") + 1) + 0.26 * (words.count("\n") + 1) + 0.2
    figure = sheet(10, sum(heights) + head + 0.5)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        draw_panel(ax, claim, panel)
    figure.suptitle(
        verdict.word.upper(), fontweight="bold", fontsize="xx-large", color=COLORS[verdict.word],
        x=0.02, ha="left",
    )  # fmt: skip
    axes[0].set_title(f"{title}\n{words}", loc="left", fontsize="small", pad=12)
    legend(figure, findings, claim)
    return figure


def draw_panel(ax: Axes, claim: Claim, panel: Sequence[Finding]) -> None:
    rows = np.arange(len(panel))
    for row, finding in zip(rows, panel, strict=True):
        low, value, high = finding.measured
        color, marker = BLACK, "o"
        if claim.judged(finding):
            color, marker = MARKS[claim.supports(finding)]
        if finding.expected is not None:
            ax.plot(finding.expected, row, "|", color=BLUE, markersize=17, markeredgewidth=3)
        if np.isfinite([low, value, high]).all():
            reach = np.clip([[value - low], [high - value]], 0, None)
            ax.errorbar(value, row, xerr=reach, fmt=marker, color=color, capsize=4,
                        markerfacecolor=color if claim.judged(finding) else "white")  # fmt: skip
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": "x-small"}
        ax.annotate(interval_text(finding.measured), (1.01, row), **place)
    if claim.judged(panel[0]):
        shade(ax, claim.rules[panel[0].quantity])
    ax.set_yticks(rows, [finding.condition for finding in panel], fontsize="small")
    ax.set_ylim(len(panel) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=7))
    ax.margins(x=0.08)
    ax.set_xlabel(panel[0].quantity)
    ax.grid(axis="y", visible=False)


def shade(ax: Axes, rule) -> None:
    """Colours the range that supports the claim, as far as the axis shows it."""
    ax.margins(x=0.08)
    low, high = ax.get_xlim()
    bounds = [bound for bound in rule if np.isfinite(bound)]
    pad = 0.05 * (max(high, *bounds) - min(low, *bounds))
    low, high = min(low, *(b - pad for b in bounds)), max(high, *(b + pad for b in bounds))
    ax.axvspan(max(low, rule.low), min(high, rule.high), color=GREEN, alpha=0.13, linewidth=0)
    ax.set_xlim(low, high)


def interval_text(interval) -> str:
    low, value, high = interval
    if not np.isfinite(value):
        return "too few values"
    return f"{value:.3g}" if low == high else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def legend(figure: Figure, findings: Sequence[Finding], claim: Claim) -> None:
    answers = {claim.supports(finding) for finding in findings if claim.judged(finding)}
    words = {True: "supports the sentence", False: "speaks against it", None: "undecided"}
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=MARKS[answer][0], marker=MARKS[answer][1], linestyle="", label=text)
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
