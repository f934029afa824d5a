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
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from fadeout.analysis.looks import USUAL, check_formats
from fadeout.files import write_whole
from fadeout.registry import lookup

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
    "axes.formatter.useoffset": False,
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

METADATA: dict[str, dict] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
ABOUT = {"png": "Description", "svg": "Description", "pdf": "Subject"}
"""Where each format says what a picture was made of."""

STYLES = {"talk": 1.0, "paper": 0.6}
"""The size of all that is drawn: to be read from the back of a room, or in a column of a page."""

scale: ContextVar[float] = ContextVar("scale", default=1.0)
formats: ContextVar[Sequence[str]] = ContextVar("formats", default=USUAL)


@contextmanager
def styled(name: str = "talk", files: Sequence[str] = USUAL) -> Iterator[None]:
    """Draws in our style, whatever the user's own is, and saves as such files."""
    size = lookup(STYLES, name, "style")
    check_formats(files)
    tokens = scale.set(size), formats.set(files)
    try:
        with mpl.rc_context(), mpl.style.context("default"):
            mpl.rcParams.update(RC)
            for key in RC:
                if key.endswith(("size", "width")):
                    mpl.rcParams[key] = size * RC[key]
            yield
    finally:
        scale.reset(tokens[0])
        formats.reset(tokens[1])


def sheet(width: float, height: float) -> Figure:
    """An empty figure, in inches of a talk; no window is ever opened."""
    figure = Figure(figsize=(scale.get() * width, scale.get() * height))
    figure.set_layout_engine("constrained")
    return figure


def grid(rows: int, columns: int, width: float = 4.2, height: float = 3.6, **share):
    """A figure and its [rows, columns] axes."""
    figure = sheet(max(width * columns + 0.6, 8), height * rows + 0.9)
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


ZEROS = "zeros of "
"""Before a line's label: marks of what a logarithmic axis cannot show."""


def to_logarithmic(ax: Axes, least: float = 0.0) -> None:
    """Makes an axis logarithmic, of a decade at least; exact zeros are marked at its foot.

    Args:
      least: what lies below does not stretch the axis.
    """
    ax.set_yscale("log", nonpositive="mask")
    marks = {str(line.get_gid()): line for line in ax.get_lines() if line.get_gid()}
    for line in ax.get_lines():
        zeros = marks.get(f"{ZEROS}{line.get_label()}")
        if zeros is not None:
            zeros.set_visible(True)
            zeros.set_label(f"{line.get_label()}: exactly zero")
            if not (np.asarray(line.get_ydata(), float) > 0).any():
                line.set_label("_none")
    low, high = ax.get_ylim()
    low = max(low, least)
    if high < 10 * low:
        low, high = (middle := (low * high) ** 0.5) / 10**0.5, middle * 10**0.5
    ax.set_ylim(low, high)
    if high > 1e3 * low:  # of many decades the ticks between take longer to draw than all else
        ax.yaxis.set_minor_locator(NullLocator())
    elif high < 30 * low:  # 0.2 is easier to read than 2 x 10^-1
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())


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
    """Writes a figure in the formats asked for, without dates: twice the same is equal byte for
    byte.

    Args:
      about: what it was made of, for the files' metadata.
    """
    paths = []
    for suffix in formats.get():
        path = folder / f"{name}.{suffix}"
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix, metadata=METADATA[suffix] | {ABOUT[suffix]: about})
        write_whole(path, drawn.getvalue())
        figure.set_layout_engine(None)  # laid out once: half of the draws of the next format
        paths.append(path)
    return paths
