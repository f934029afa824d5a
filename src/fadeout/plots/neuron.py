"""A single neuron, a chain of them, and the surface that a network lays over XOR."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy.special import expit

from fadeout.analysis.intervals import share_interval
from fadeout.analysis.looks import BLACK, BLUE, GREY, ORANGE, RED, hue_looks
from fadeout.plots.style import blank_figure, grid, headline
from fadeout.theory.gaussian import value_and_slope

_INPUTS = {
    "one weak input": [0.4],
    "one strong input": [3.0],
    "ten weak inputs": [0.4] * 10,
}
_BIAS = -1.5


def one_neuron(names: Sequence[str]) -> Figure:
    """A neuron's answer to a weak, a strong and many weak inputs: phi(sum of inputs + bias).

    What to conclude: past the threshold a step answers all or nothing; sigmoid and tanh answer by
    degrees and then saturate, so that ten weak inputs and one strong look alike; relu goes on
    growing.
    """
    sums = np.array([sum(inputs) + _BIAS for inputs in _INPUTS.values()])
    figure, axes = grid(1, len(names), width=3.4, height=4.0, sharex=True)
    style = hue_looks(names)
    for ax, name in zip(axes[0], names, strict=True):
        z = np.linspace(-2.5, 3.5, 601)
        ax.plot(z, value_and_slope(name, z)[0], color=style[name]["color"])
        answers = value_and_slope(name, sums)[0]
        for (words, inputs), total, answer, mark in zip(
            _INPUTS.items(), sums, answers, ("v", "^", "s"), strict=True
        ):
            ax.plot([total, total], [0, answer], ":", color=GREY, linewidth=1.5)
            ax.plot(total, answer, mark, color=BLACK, markersize=9,
                    label=f"{words}: {' + '.join(f'{x:g}' for x in inputs[:2])}"
                    f"{' + ...' if len(inputs) > 2 else ''} {_BIAS:+g} = {total:g}")  # fmt: skip
        ax.set_title(name)
        ax.set_xlabel("weighted sum + bias")
    axes[0, 0].set_ylabel("answer")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", fontsize="small")
    headline(figure, f"One neuron, threshold {-_BIAS:g}: who fires, and how strongly")
    return figure


def firing_rate(draws: int = 2000) -> Figure:
    """How often a neuron fires over its input: hard threshold, noisy threshold, sigmoid.

    What to conclude: a threshold with standard logistic noise fires exactly with the sigmoid's
    probability; the graded answer of the note is a rate, and the sigmoid its formula.
    """
    rng = np.random.default_rng(0)
    z = np.linspace(-6, 6, 25)
    rates = [share_interval(x + rng.logistic(size=draws) > 0) for x in z]
    figure, axes = grid(1, 1, width=8, height=4.6)
    ax = axes[0, 0]
    ax.plot([-6, 0, 0, 6], [0, 0, 1, 1], color=GREY, label="hard threshold")
    fine = np.linspace(-6, 6, 400)
    ax.plot(fine, expit(fine), color=RED, label=r"sigmoid: $1 / (1 + e^{-z})$")
    middle = np.array([rate.value for rate in rates])
    reach = [middle - [rate.low for rate in rates], [rate.high for rate in rates] - middle]
    ax.errorbar(z, middle, np.clip(reach, 0, None), fmt="o", color=BLUE, capsize=3,
                label=f"threshold with logistic noise, {draws} trials each")  # fmt: skip
    ax.set_xlabel("input $z$")
    ax.set_ylabel("firing rate")
    ax.legend(loc="upper left", fontsize="small")
    headline(figure, "A fuzzy threshold is a sigmoid (bars: Wilson 95 % intervals)")
    return figure


def chain(names: Sequence[str], length: int = 12, start: float = 1.0) -> Figure:
    """A signal through a chain of single neurons of weight 1, and the gradient on its way back.

    What to conclude: the gradient at the chain's foot is the product of all slopes on the way; with
    sigmoid each is at most 1/4, so that twelve neurons leave at most 6e-8; relu passes a positive
    signal on unharmed.
    """
    figure, axes = grid(1, 2, width=5.4, height=4.4)
    style = hue_looks(names)
    positions = np.arange(length + 1)
    for name in names:
        values, slopes = [start], []
        for _ in range(length):
            value, slope = value_and_slope(name, np.array([values[-1]]))
            values.append(float(value[0]))
            slopes.append(float(slope[0]))
        passed = np.cumprod([1.0, *slopes[::-1]])[::-1]
        axes[0, 0].plot(positions, values, **style[name], label=name)
        shown = np.where(passed > 0, passed, np.nan)
        label = f"{name}: exactly zero" if np.isnan(shown[0]) else name
        axes[0, 1].plot(positions, shown, **style[name], label=label)
    axes[0, 0].set_ylabel("signal")
    axes[0, 1].set_ylabel("gradient of the last neuron's output")
    axes[0, 1].set_yscale("log")
    for ax in axes[0]:
        ax.set_xlabel("neurons passed")
        ax.legend(fontsize="small")
    headline(figure, f"A chain of {length} neurons: the signal up, the gradient down")
    return figure


# --- XOR

_ANSWERS = LinearSegmentedColormap.from_list("answers", [BLUE, "white", ORANGE])
_CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


class Surface:
    """The output of a two-input network over the square, with the lines at which its hidden units
    turn.

    Attributes:
      axis: the coordinates of the square's grid.
      answers: probabilities, [y, x].
      lines: weights and bias of every unit of the first layer, [unit, 3].
    """

    def __init__(self, answers: np.ndarray, kernel: np.ndarray, bias: np.ndarray):
        self.axis = _surface_axis()
        self.answers = expit(answers).reshape(self.axis.size, self.axis.size)
        self.lines = np.column_stack([kernel.T, bias])


def _surface_axis(points: int = 121) -> np.ndarray:
    return np.linspace(-0.5, 1.5, points)


def surface_inputs() -> np.ndarray:
    """The points of the square at which `Surface` wants answers, [point, 2]."""
    x, y = np.meshgrid(_surface_axis(), _surface_axis())
    return np.column_stack([x.ravel(), y.ravel()])


def _draw_surface(ax: Axes, surface: Surface, title: str) -> None:
    axis = surface.axis
    ax.pcolormesh(axis, axis, surface.answers, cmap=_ANSWERS, vmin=0, vmax=1, rasterized=True,
                  shading="nearest")  # fmt: skip
    if surface.answers.min() < 0.5 < surface.answers.max():
        ax.contour(axis, axis, surface.answers, levels=[0.5], colors=BLACK, linewidths=2)
    x, y = np.meshgrid(axis, axis)
    for weight_x, weight_y, bias in surface.lines:
        ax.contour(axis, axis, weight_x * x + weight_y * y + bias, levels=[0.0], colors="#444444",
                   linestyles="dashed", linewidths=1)  # fmt: skip
    for target, mark in ((0, "o"), (1, "D")):
        own = _CORNERS[_CORNERS.sum(1) % 2 == target]
        ax.plot(own[:, 0], own[:, 1], mark, markersize=11, markerfacecolor=(BLUE, ORANGE)[target],
                markeredgecolor=BLACK)  # fmt: skip
    ax.set_aspect("equal")
    ax.grid(False)
    ax.set_xticks([0, 1])
    ax.set_yticks([0, 1])
    ax.set_title(title, fontsize="small")


def xor_surfaces(surfaces: Sequence[Surface], titles: Sequence[str], heading: str) -> Figure:
    """The answer over the square at several moments or of several networks.

    What to conclude: a network solves XOR when the black line parts the diamonds (1) from the discs
    (0); the dashed lines, where its hidden units' sums are 0, show that at least two must be at
    work, or one unit that turns back.
    """
    columns = min(4, len(surfaces))
    figure, axes = grid(-(-len(surfaces) // columns), columns, width=3.2, height=3.5)
    for ax, surface, title in zip(axes.flat, surfaces, titles, strict=False):
        _draw_surface(ax, surface, title)
    for ax in axes.flat[len(surfaces) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("$x_1$")
    for ax in axes[:, 0]:
        ax.set_ylabel("$x_2$")
    headline(
        figure,
        f"{heading}\norange: 1, blue: 0; black: where they meet; dashed: a hidden unit's sum is 0",
    )
    return figure


def animation(surfaces: Sequence[Surface], titles: Sequence[str], seconds: float = 6.0) -> bytes:
    """The surfaces as an animated GIF."""
    figure = blank_figure(5, 5.2)
    figure.set_layout_engine("none")
    ax = figure.subplots()

    def frame(i: int):
        ax.clear()
        _draw_surface(ax, surfaces[i], titles[i])
        return []

    moving = FuncAnimation(figure, frame, frames=len(surfaces), blit=False)
    with tempfile.TemporaryDirectory() as folder:  # the writer wants a file
        path = Path(folder) / "film.gif"
        moving.save(path, writer=PillowWriter(fps=len(surfaces) / seconds), dpi=80)
        return path.read_bytes()
