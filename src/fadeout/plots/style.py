"""One look for all figures: colours, marks, sizes, and files that are equal byte for byte."""

import copy
import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from fadeout.analysis.groups import subsample
from fadeout.analysis.looks import DEFAULT_FORMATS, check_formats
from fadeout.files import write_atomically
from fadeout.registry import FadeoutError, lookup

_RC: dict[str, Any] = {
    "figure.dpi": 100,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "svg.hashsalt": "fadeout",
    "pdf.fonttype": 42,
    "path.simplify": True,
}
_SIZES = {
    "font.size": 1, "axes.labelsize": 1, "axes.titlesize": 1.08, "figure.titlesize": 1.15,
    "legend.fontsize": 0.92, "xtick.labelsize": 0.92, "ytick.labelsize": 0.92,
}  # fmt: skip
"""Of each kind of text beside a figure's letters."""

_METADATA: dict[str, dict] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_ABOUT = {"png": "Description", "svg": "Description", "pdf": "Subject"}
"""Where each format says what a picture was made of."""


class _Style(NamedTuple):
    """The sizes of letters and strokes for a medium.

    Attributes:
      letters: size of its text, in points.
      strokes: widths of lines and sizes of markers, beside a screen's.
      inches: size of its panels, beside a screen's.
      width: of every figure exactly, in inches; None: as its panels need.
      family: of its letters.
      titled: whether it says what it is; a paper's caption does.
      columns: panels side by side, at most.
      single: whether there is one panel, whatever might be shown.
      dots: an inch, in a PNG.
    """

    letters: float = 13
    strokes: float = 1.0
    inches: float = 1.0
    width: float | None = None
    family: str = "DejaVu Sans"
    titled: bool = True
    columns: int = 8
    single: bool = False
    dots: int = 150


STYLES = {
    "screen": _Style(),
    "talk": _Style(letters=20, strokes=1.6, inches=1.25, columns=1, single=True),
    "paper": _Style(letters=8.5, strokes=0.6, width=6.75, family="DejaVu Serif", titled=False,
                   columns=4, dots=300),
}  # fmt: skip
"""To be looked at; to be read from the back of a room, one message in one panel; and to be printed,
as wide as a page of two columns or as asked for, in letters of at least 7 points."""
_LEAST_PANEL = 1.45
"""Inches that a panel takes in a column of a paper."""
_PAGE = 9.0
"""Inches that a paper's picture may be high."""

current: ContextVar[_Style] = ContextVar("current", default=STYLES["screen"])
_formats: ContextVar[Sequence[str]] = ContextVar("formats", default=DEFAULT_FORMATS)


@contextmanager
def styled(
    name: str = "screen", files: Sequence[str] = DEFAULT_FORMATS, width: float | None = None
) -> Iterator[None]:
    """Draws in our style, whatever the user's own is, and saves as such files.

    Args:
      name: of `STYLES`.
      files: formats.
      width: of every figure, in inches; a paper's alone.

    Raises:
      FadeoutError: an unknown style or format, or a width that no panel fits into.
    """
    style = lookup(STYLES, name, "style")
    check_formats(files)
    if width is not None:
        if style.width is None:
            raise FadeoutError(
                f"a width is a paper's: --style paper, or leave --width out ({name})"
            )
        if not _LEAST_PANEL <= width <= 50:
            raise FadeoutError(f"width must be from {_LEAST_PANEL} to 50 inches, not {width:g}")
        style = style._replace(width=width, columns=int(width / _LEAST_PANEL))
    tokens = current.set(style), _formats.set(files)
    try:
        with mpl.rc_context(), mpl.style.context("default"):
            mpl.rcParams.update(_RC | {key: style.letters * size for key, size in _SIZES.items()})
            mpl.rcParams["savefig.dpi"] = style.dots
            mpl.rcParams["font.family"] = style.family
            mpl.rcParams["mathtext.fontset"] = style.family.replace(" ", "").lower()
            mpl.rcParams["lines.linewidth"] = 2 * style.strokes
            mpl.rcParams["lines.markersize"] = 6 * style.strokes
            yield
    finally:
        current.reset(tokens[0])
        _formats.reset(tokens[1])


class _ShownFigure(Figure):
    """A figure that any notebook shows, without `%matplotlib inline` and without a window."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png", dpi=_SHOWN_DOTS)
        return drawn.getvalue()


_SHOWN_DOTS = 100
"""Dots per inch of a figure in a notebook."""


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches of a screen; no window is ever opened."""
    style = current.get()
    across = style.inches * width if style.width is None else style.width
    figure = _ShownFigure(figsize=(across, height * across / width))
    figure.set_layout_engine("constrained")
    return figure


def panelled(rows: int, columns: int, width: float = 4.2, height: float = 3.6) -> Figure:
    """An empty figure for so many panels of a size, and what stands around them."""
    style = current.get()
    figure = blank_figure(
        max(width * columns + 0.6, 8), height * rows + (2.4 if has_one_panel() else 0.9)
    )
    if style.width is not None:  # a narrow panel is no flat one; around it, its labels
        panel = min(style.width / columns, width) * height / width
        panel = min(max(panel, 0.85 * _LEAST_PANEL), _PAGE / rows)
        figure.set_figheight(panel * rows + 0.7)
    return figure


def grid(rows: int, columns: int, width: float = 4.2, height: float = 3.6, **share):
    """A figure and its [rows, columns] axes."""
    figure = panelled(rows, columns, width, height)
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def wrapped(count: int) -> tuple[Figure, np.ndarray]:
    """A figure and its [1, count] axes, in as many lines as they need, with one vertical axis."""
    across = min(count, current.get().columns)
    lines = -(-count // across)
    figure, axes = grid(lines, across, sharex="col", sharey=True)
    for ax in axes.flat[count:]:
        ax.remove()
    for ax in axes.flat[max(count - across, 0) : count]:
        ax.xaxis.set_tick_params(labelbottom=True)
    return figure, axes.reshape(1, -1)[:, :count]


def is_outer(axis: Axis) -> bool:
    """Returns whether an axis shows its numbers: of those that panels share, the outer one does."""
    return any(axis.get_tick_params().get(f"label{side}") for side in ("left", "bottom"))


def fitting(values: list, lines: int = 1) -> list:
    """The values that get a panel each: the last alone, or evenly spread ones.

    Args:
      lines: of panels side by side.
    """
    style = current.get()
    return values[-1:] if style.columns == 1 else subsample(values, style.columns * lines)


def fitting_rows(values: list, height: float) -> list:
    """Returns the values that get a panel each, one above the other.

    Args:
      height: of a panel, in inches.
    """
    return values if current.get().width is None else subsample(values, int(_PAGE / height))


def has_one_panel() -> bool:
    """Returns whether a figure has one panel."""
    return current.get().single


def headline(figure: Figure, words: str) -> None:
    """Writes a headline over the figure."""
    if current.get().titled:
        figure.suptitle(_wrap_words(figure.get_figwidth(), words, _SIZES["figure.titlesize"]))


def _wrap_words(inches: float, words: str, size: float = 1.0) -> str:
    """The words in lines that are no longer than so many inches.

    Args:
      size: of the letters, beside the figure's own.
    """
    letters = max(int(inches * 72 / (0.56 * size * current.get().letters)), 12)
    if max(map(len, words.split("\n"))) > letters:
        words = words.replace("  ", "\n")  # where a formula begins, which is not broken
    lines = words.split("\n")
    return "\n".join(line if "$" in line else textwrap.fill(line, letters) for line in lines)


def fit_words(figure: Figure) -> None:
    """Breaks the labels of axes where a panel is too small for them, and thins out its ticks."""
    for ax in figure.axes:
        place = ax.get_subplotspec()
        rows, columns = place.get_gridspec().get_geometry() if place else (1, 1)
        width, height = 0.8 * figure.get_figwidth() / columns, 0.58 * figure.get_figheight() / rows
        ax.set_xlabel(_wrap_words(width, ax.get_xlabel()))
        ax.set_ylabel(_wrap_words(height, ax.get_ylabel()))
        locator, letters = ax.xaxis.get_major_locator(), current.get().letters
        most = int(width * 72 / (3 * letters))  # a label of three digits, and room
        if isinstance(locator, MaxNLocator) and most < 6:
            locator.set_params(nbins=max(most, 2))
        elif isinstance(locator, FixedLocator) and ax.xaxis.get_tick_params()["labelbottom"]:
            # axes above share the locator and the words, and show none
            words = [label.get_text() for label in ax.get_xticklabels()]
            longest = max(map(len, words), default=0) + 1.5
            each = -(-len(words) // max(int(width * 72 / (0.58 * letters * longest)), 1))
            ax.set_xticklabels([w if i % each == 0 else "" for i, w in enumerate(words)])


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
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles[label] = _clearer(handles.get(label), handle)
    for label, handle in handles.items():
        if isinstance(handle, Line2D) and _points(handle) <= 1 and handle.get_marker():
            mark = copy.copy(handle)
            mark.set_linestyle("")  # dots beside a marker look like a broken one
            handles[label] = mark
    if "theory" in handles:
        handles["theory"] = handles.pop("theory")  # last
    lengths = [len(word) for word in handles]
    room = figure.get_figwidth() * 72 / (_SIZES["legend.fontsize"] * current.get().letters)
    narrow = current.get().width is not None
    columns = _fitting_columns(lengths, room, 3.2 if narrow else 4.5)
    note = _wrap_words(figure.get_figwidth(), note, 0.833)
    if narrow:  # a paper grows by what stands below its panels
        lines = -(-len(handles) // columns) + note.count("\n") + 1
        below = lines * 1.5 * current.get().letters / 72 + 0.2
        figure.set_figheight(figure.get_figheight() + below)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        title=note,
        title_fontsize="small",
        **{"handlelength": 1.4, "handletextpad": 0.5, "columnspacing": 1.0} if narrow else {},
    )


def _points(line: Line2D) -> int:
    """How many points of a line are drawn."""
    y = np.asarray(line.get_ydata(), float)
    shown = y > 0 if line.axes is not None and line.axes.get_yscale() == "log" else np.isfinite(y)
    return int(shown.sum())


def _clearer(known: Any, other: Any) -> Any:
    """Returns that of two handles of one label whose line has more points."""
    if isinstance(known, Line2D) and isinstance(other, Line2D):
        return max(known, other, key=_points)
    return other


def _fitting_columns(lengths: Sequence[int], room: float, besides: float) -> int:
    """How many columns of a legend stand side by side, which is filled column by column.

    Args:
      lengths: of its words, in letters.
      room: in ems, as `besides`: what each column takes besides its words.
    """
    for columns in range(min(len(lengths), 7), 1, -1):
        high = -(-len(lengths) // columns)
        longest = [max(lengths[at : at + high]) for at in range(0, len(lengths), high)]
        if sum(0.56 * length + besides for length in longest) <= room:
            return columns
    return 1


def save_figure(figure: Figure, folder: Path, name: str, about: str) -> list[Path]:
    """Writes a figure in the formats asked for, without dates: twice the same is equal byte for
    byte.

    Args:
      about: what it was made of, for the files' metadata.
    """
    paths = []
    fit_words(figure)
    layout = figure.get_layout_engine()
    if layout is not None:  # once: with it, each format would be drawn twice
        layout.execute(figure)
        figure.set_layout_engine(None)
    for suffix in _formats.get():
        path = folder / f"{name}.{suffix}"
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix, metadata=_METADATA[suffix] | {_ABOUT[suffix]: about})
        write_atomically(path, drawn.getvalue())
        paths.append(path)
    return paths
