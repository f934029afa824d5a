"""One look for all figures: colours, marks, sizes, and files that are equal byte for byte."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fadeout.files import write_whole
from fadeout.registry import lookup

# Okabe & Ito's palette, which colour-blind readers tell apart; markers tell it apart in grey.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"

LOOKS: dict[str, tuple[str, str, str]] = {
    "step": (BLACK, ":", "s"),
    "sigmoid": (RED, "-", "o"),
    "tanh": (BLUE, "-", "^"),
    "relu": (GREEN, "-", "D"),
    "identity": (GREY, "-", "x"),
    "leaky_relu": (GREEN, "--", "d"),
    "elu": (SKY, "-", "v"),
    "selu": (SKY, "--", "<"),
    "gelu": (PURPLE, "-", "P"),
    "gelu_tanh": (PURPLE, ":", "p"),
    "silu": (PURPLE, "--", "*"),
    "mish": (PURPLE, "-.", "h"),
    "softplus": (ORANGE, "-", ">"),
    "softsign": (BLUE, "-.", "1"),
    "hard_tanh": (BLUE, "--", "2"),
    "hard_sigmoid": (RED, "--", "8"),
    "lecun_tanh": (BLUE, ":", "3"),
    "erf": (SKY, ":", "4"),
    "sin": (ORANGE, "--", "+"),
    "relu6": (GREEN, "-.", "H"),
    "squared_relu": (GREEN, ":", "X"),
}
"""Colour, line and marker of each activation, the same in every figure."""

CYCLE = [LOOKS[name] for name in ("tanh", "sigmoid", "relu", "softplus", "gelu", "elu", "step")]


def looks(hues: Sequence[str]) -> dict[str, dict[str, str]]:
    """How to draw each hue: an activation by its own look, numbers from dark to light, anything
    else in turn."""
    if len(hues) > 2 and all(map(is_number, hues)):
        shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(hues)))
        return {
            hue: {"color": to_hex(shade), "linestyle": "-", "marker": CYCLE[i % 7][2]}
            for i, (hue, shade) in enumerate(zip(hues, shades, strict=True))
        }
    return {
        hue: dict(zip(("color", "linestyle", "marker"), LOOKS.get(hue, CYCLE[i % 7]), strict=True))
        for i, hue in enumerate(hues)
    }


def is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


RC: dict[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "figure.titlesize": 15,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "lines.linewidth": 2,
    "lines.markersize": 6,
    "svg.hashsalt": "fadeout",
    "pdf.fonttype": 42,
    "path.simplify": True,
}

FORMATS: dict[str, dict] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
ABOUT = {"png": "Description", "svg": "Description", "pdf": "Subject"}
"""Where each format says what a picture was made of."""

STYLES = {"talk": 1.0, "paper": 0.6}
"""The size of all that is drawn: to be read from the back of a room, or in a column of a page."""

scale: ContextVar[float] = ContextVar("scale", default=1.0)


@contextmanager
def styled(name: str = "talk") -> Iterator[None]:
    """Draws in our style, whatever the user's own is."""
    size = lookup(STYLES, name, "style")
    token = scale.set(size)
    try:
        with mpl.rc_context(), mpl.style.context("default"):
            mpl.rcParams.update(RC)
            for key in RC:
                if key.endswith(("size", "width")):
                    mpl.rcParams[key] = size * RC[key]
            yield
    finally:
        scale.reset(token)


def sheet(width: float, height: float) -> Figure:
    """An empty figure, in inches of a talk; no window is ever opened."""
    figure = Figure(figsize=(scale.get() * width, scale.get() * height))
    figure.set_layout_engine("constrained")
    return figure


def grid(rows: int, columns: int, width: float = 4.2, height: float = 3.6, **share):
    """A figure and its [rows, columns] axes."""
    figure = sheet(max(width * columns + 0.6, 8), height * rows + 0.9)
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def legend_below(figure: Figure, axes: Sequence[Axes], note: str) -> None:
    """One legend for all axes, and one line that says what the bands are."""
    handles: dict[str, Any] = {}
    for ax in axes:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if "theory" in handles:
        handles["theory"] = handles.pop("theory")  # last
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(len(handles), 7) or 1,
        title=note,
        title_fontsize="small",
    )


def save(figure: Figure, folder: Path, name: str, about: str) -> list[Path]:
    """Writes a figure in every format, without dates: twice the same is equal byte for byte.

    Args:
      about: what it was made of, for the files' metadata.
    """
    paths = []
    for suffix, metadata in FORMATS.items():
        path = folder / f"{name}.{suffix}"
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix, metadata=metadata | {ABOUT[suffix]: about})
        write_whole(path, drawn.getvalue())
        figure.set_layout_engine("none")  # laid out once: a third of the time of a large figure
        paths.append(path)
    return paths
