"""The atlas: every activation with its derivative, where it saturates, and what it does to a
standard normal input."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fadeout.analysis.looks import BLACK, BLUE, GREY, ORANGE, RED, hue_looks
from fadeout.networks.activations import DISPLAYS, SATURATED_SLOPE
from fadeout.plots.style import blank_figure, grid, headline
from fadeout.theory.gaussian import moments, steepest_slope, value_and_slope


def _formula(name: str) -> str:
    """Returns phi(z) = ..., typeset, or nothing for a user's activation without a formula."""
    formula = DISPLAYS[name].formula
    return r"$\phi(z) = " + formula.removeprefix("$") if formula else ""


def _curves(name: str, reach: tuple[float, float], points: int = 2001):
    """z, phi(z) and phi'(z) on a range."""
    z = np.linspace(*reach, points)
    return z, *value_and_slope(name, z)


def all_activations(names: Sequence[str], reach: tuple[float, float]) -> Figure:
    """One small panel for each activation: its curve, and dashed its derivative.

    What to conclude: where the dashed line lies on 0 no gradient passes; where it stays below 1
    everywhere, as sigmoid's 1/4, each layer shrinks the gradient unless the weights make up for it.
    """
    columns = min(len(names), 3 if len(names) % 4 == 1 else 4)  # no panel alone in a row
    figure, axes = grid(-(-len(names) // columns), columns, width=3.6, height=2.9, sharex=True)
    style = hue_looks(names)
    for ax, name in zip(axes.flat, names, strict=False):
        z, phi, slope = _curves(name, reach)
        _shade_saturated(ax, z, slope, steepest_slope(name))
        ax.plot(z, _broken(phi), color=style[name]["color"], label=r"$\phi$")
        ax.plot(z, _broken(slope), color=style[name]["color"], linestyle="--", linewidth=1.5,
                label=r"$\phi'$")  # fmt: skip
        ax.set_title(f"{name}\n{_formula(name)}", fontsize="small")
        ax.set_ylim(-1.8, 3.2)
        _cross(ax)
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    for ax in axes.flat[max(len(names) - columns, 0) : len(names)]:  # the lowest of each column
        ax.set_xlabel("$z$")
        ax.tick_params(labelbottom=True)
    headline(
        figure,
        r"Activations $\phi$ (solid) and their derivatives $\phi'$ (dashed)" + "\n"
        "grey: saturated, the slope is at most 5 % of its largest",
    )
    return figure


def activation_page(name: str, reach: tuple[float, float]) -> Figure:
    """One activation on a page of its own: value, slope, and the numbers that decide.

    What to conclude: E phi'^2 is the gain of the squared gradient per layer at weight and input
    variance 1: below 1, gradients shrink from layer to layer. E phi is how far the outputs are from
    centred.
    """
    z, phi, slope = _curves(name, reach)
    known = moments(name, 1.0)
    steepest = steepest_slope(name)
    figure = blank_figure(11, 7.5)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    look = {"color": hue_looks([name])[name]["color"]}
    for ax, values in ((top, phi), (bottom, slope)):
        _shade_saturated(ax, z, slope, steepest)
        ax.plot(z, _broken(values), **look)
        _cross(ax)
    top.axhline(known.value, color=BLUE, linestyle=":",
                label=rf"mean output $E\,\phi(Z) = {known.value:.3f}$")  # fmt: skip
    low = int(np.argmin(phi))
    if 0 < low < z.size - 1 and phi[low] < phi[0] - 1e-9:
        top.plot(z[low], phi[low], "v", color=RED,
                 label=rf"minimum ${phi[low]:.3f}$ at $z = {z[low]:.2f}$")  # fmt: skip
    largest = float(np.abs(slope).max())
    if largest > 0:
        at = z[int(np.argmax(np.abs(slope) > largest - 1e-9))]
        words = rf"largest slope here ${largest:.3f}$, first at $z = {at:.2f}$"
        bottom.plot(at, largest, "^", color=ORANGE, label=words)
    bottom.plot([], [], " ", label=rf"$E\,\phi'(Z)^2 = {known.slope_square:.3f}$")
    flat = float(np.mean(np.abs(slope) <= SATURATED_SLOPE * steepest)) if steepest else 1.0
    top.set_title(f"{name}:  {_formula(name)}", fontsize="large")
    top.set_ylabel(r"$\phi(z)$")
    bottom.set_ylabel(r"$\phi'(z)$")
    note = f"grey: saturated, {flat:.0%} of this range; $Z$ is a standard normal"
    bottom.set_xlabel(f"$z$   ({note})")
    for ax in (top, bottom):
        ax.legend(loc="upper left", fontsize="small")
    return figure


def sampled_sigmoid(reach: tuple[float, float] = (-10.0, 10.0)) -> Figure:
    """The note's own figure: the sigmoid from 10 points and from 100.

    What to conclude: ten points make a polygon with corners that the function does not have; what a
    plot shows between its points is a choice of who drew it.
    """
    figure, axes = grid(1, 2, width=5.5, height=4.2, sharey=True)
    for ax, points in zip(axes[0], (10, 100), strict=True):
        z = np.linspace(*reach, points)
        ax.plot(z, value_and_slope("sigmoid", z)[0], "o-", color=RED, markersize=4,
                label=f"sigmoid, {points} points")  # fmt: skip
        ax.annotate(_formula("sigmoid"), (0.05, 0.62), xycoords="axes fraction", fontsize="large")
        ax.legend(loc="upper left")
        ax.set_xlabel("$z$")
    axes[0, 0].set_ylabel(r"$\phi(z)$")
    headline(figure, "The sigmoid, sampled")
    return figure


def relu_table(reach: tuple[float, float] = (-5.0, 5.0)) -> list[tuple[float, float]]:
    """The note's inputs and outputs of relu, to be printed.

    >>> relu_table((-1, 1))[:3]
    [(-1.0, 0.0), (0.0, 0.0), (1.0, 1.0)]
    """
    z = np.arange(np.ceil(reach[0]), np.floor(reach[1]) + 1, dtype=float)
    return list(zip(z.tolist(), value_and_slope("relu", z)[0].tolist(), strict=True))


def _shade_saturated(ax: Axes, z: np.ndarray, slope: np.ndarray, steepest: float) -> None:
    flat = np.abs(slope) <= SATURATED_SLOPE * steepest
    ax.fill_between(z, 0, 1, where=flat, transform=ax.get_xaxis_transform(), color=GREY, alpha=0.18,
                    linewidth=0)  # fmt: skip


def _broken(values: np.ndarray) -> np.ndarray:
    """The values with a gap where they jump, so that no line is drawn that is not there."""
    jumps = np.abs(np.diff(values)) > 0.1 * max(np.ptp(values), 1e-12)
    shown = values.astype(float).copy()
    shown[1:][jumps] = np.nan
    return shown


def _cross(ax: Axes) -> None:
    for line in (ax.axhline, ax.axvline):
        line(0, color=BLACK, linewidth=0.8)
