"""Pages that open from disk, with all they need inside: the report of a sweep, and the playground.

A page is a template, a style, a script and data; nothing is fetched. What a config says enters as
JSON in which no markup can close, and reaches the page as text.
"""

import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from fadeout.config import Run
from fadeout.files import write_atomically
from fadeout.pages.network import network_summary
from fadeout.pages.playground import functions, page_tours, playground_data
from fadeout.pages.show import data_to_show, runs_to_show
from fadeout.pages.summary import summary
from fadeout.registry import FadeoutError


def write_report(
    results: xr.Dataset, name: str, path: str | Path, question: str = "", playground: bool = False
) -> Path:
    """Writes the report of a sweep as one HTML file.

    Args:
      results: as `fadeout.load` gives them.
      name: of the sweep.
      path: of the file.
      question: what the study asks, as its YAML opens.
      playground: whether its page lies beside this one, for each run to be opened there.

    Raises:
      FadeoutError: plotly is not installed, or the sweep holds nothing to show.
    """
    data = summary(results, name, question, playground)
    return _write_page(Path(path), f"{name} - fadeout", "report", data, _words_of("report"))


def write_network(found: xr.Dataset, name: str, path: str | Path) -> Path:
    """Writes what `fadeout.examine` or a watch has seen of a network as one HTML file.

    Raises:
      FadeoutError: plotly is not installed.
    """
    data = network_summary(found, name)
    return _write_page(Path(path), f"{name} - fadeout", "network", data)


def write_playground(path: str | Path) -> Path:
    """Writes the playground as one HTML file: networks are drawn and trained in the browser.

    Raises:
      FadeoutError: plotly is not installed.
    """
    scripts = [
        functions(),
        _words_of("playground"),
        f"const {{ tours: TOURS, starts: STARTS }} = {as_json(page_tours())};",
        *map(read_text, ("networks.js", "experiments.js", "panels.js", "tours.js")),
    ]
    data = playground_data()
    return _write_page(Path(path), "fadeout playground", "playground", data, *scripts)


class ShownRuns(NamedTuple):
    """A page for a notebook, which shows itself; a script may save it.

    Attributes:
      page: HTML that needs no server, and fetches nothing.
    """

    page: str

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 800px; border: 0"
        return f'<iframe srcdoc="{html.escape(self.page)}" style="{style}"></iframe>'

    def save(self, path: str | Path) -> Path:
        """Writes the page as one file."""
        return write_atomically(Path(path), self.page.encode())

    def __repr__(self) -> str:
        return f"ShownRuns({len(self.page) / 1e6:.1f} MB of HTML; save(path) writes it)"


def show(what: Run | Sequence[Run] | xr.Dataset) -> ShownRuns:
    """Shows runs step by step: what they answer over the plane, their signal, gradient and units by
    layer, and the loss, with a slider over the steps and a film. They are trained for it.

    It is HTML with all it needs inside: Jupyter, VS Code and Colab show it without a server.

    Args:
      what: a run, or up to twelve runs or rows of results.

    Returns:
      A page that a notebook shows; `save(path)` writes it.

    Raises:
      FadeoutError: neither, too many, or a run that cannot be trained.

    >>> from fadeout import Training
    >>> show(Run(training=Training(20, 5)))  # doctest: +ELLIPSIS
    ShownRuns(0... MB of HTML; save(path) writes it)
    """
    data = data_to_show(runs_to_show(what))
    return ShownRuns(_make_page("fadeout", "show", data, _words_of("show")))


def _write_page(path: Path, title: str, page: str, data: Mapping[str, Any], *scripts: str) -> Path:
    content = _make_page(title, page, data, _charting_library(), *scripts)
    return write_atomically(path, content.encode())


def _make_page(title: str, page: str, data: Mapping[str, Any], *scripts: str) -> str:
    parts = {
        "title": html.escape(title),
        "style": read_text("style.css"),
        "body": read_text(f"{page}.html"),
        "data": as_json(data),
        "common": read_text("common.js"),
    }
    content = read_text("page.html")
    for name, part in parts.items():
        content = content.replace(f"<!--{name}-->", part, 1)
    own = [f"<script>{script}</script>" for script in (*scripts, read_text(f"{page}.js"))]
    return content.replace("<!--scripts-->", "\n".join(own), 1)


def page_texts(page: str) -> dict[str, Any]:
    """Every text of a page, in both languages."""
    return json.loads(read_text(f"{page}.json"))


def _words_of(page: str) -> str:
    return f"const WORDS = {as_json(page_texts(page))};"


def read_text(name: str) -> str:
    return files("fadeout.pages").joinpath(name).read_text("utf-8")


def as_json(data: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element, whatever its texts are."""
    dumped = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return dumped.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _charting_library() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise FadeoutError("pages need plotly: pip install 'fadeout[report]'") from error
    return get_plotlyjs()
