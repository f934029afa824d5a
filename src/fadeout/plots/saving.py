"""Pictures, drawn and written as files: figures of a sweep, comparisons, claims, the atlas."""

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from fadeout.analysis import groups
from fadeout.analysis.comparison import Comparison
from fadeout.analysis.difference import PairedGroup, Standing
from fadeout.analysis.looks import DEFAULT_FORMATS
from fadeout.analysis.scaling import Check
from fadeout.claims import Claim, Finding, Verdict
from fadeout.config import Run
from fadeout.files import write_atomically
from fadeout.networks.activations import ACTIVATIONS
from fadeout.networks.model import MLP, Dense
from fadeout.plots import atlas, comparison, neuron, style
from fadeout.plots.figures import FIGURES
from fadeout.plots.forest import forest
from fadeout.plots.network import draw_network
from fadeout.plots.scaling import draw_scaling
from fadeout.plots.versus import draw_versus
from fadeout.registry import FadeoutError, lookup
from fadeout.sweeps.provenance import version
from fadeout.sweeps.results import is_examined, takes_results, with_run_dim
from fadeout.training.snapshots import network_output


def save_all(
    results: xr.Dataset,
    folder: str | Path,
    asked: Comparison | None = None,
    look: str = "screen",
    formats: Sequence[str] = DEFAULT_FORMATS,
    width: float | None = None,
) -> list[Path]:
    """Draws every figure that the recorded probes allow.

    Args:
      results: as `fadeout.load` gives them.
      folder: where the pictures go.
      asked: one more.
      look: screen, talk (one panel, large letters) or paper (serif, no title).
      formats: of png, svg and pdf.
      width: of a paper's pictures, in inches: 3.25 is a column's.

    Returns:
      The files written; drawn twice from the same results they are equal byte for byte.
    """
    paths, failures = save_each(results, folder, asked, look, formats, width)
    if failures:
        raise FadeoutError("; ".join(f"{name}: {error}" for name, error in failures.items()))
    return paths


def informative_figures(results: xr.Dataset) -> list[str]:
    """The names of the figures that say something of these results."""
    results = groups.with_remedy(results)
    return [name for name, drawing in FIGURES.items() if drawing.says_something(results)]


def save_each(
    results: xr.Dataset,
    folder: str | Path,
    asked: Comparison | None = None,
    look: str = "screen",
    formats: Sequence[str] = DEFAULT_FORMATS,
    width: float | None = None,
    only: Sequence[str] | None = None,
) -> tuple[list[Path], dict[str, str]]:
    """Draws all pictures like `save_all`; one that fails does not stop the others.

    Args:
      only: the names of the usual figures to draw, if not all.

    Returns:
      The files written, and by the name of each picture that failed its error in a line.
    """
    paths: list[Path] = []
    failures: dict[str, str] = {}
    names = informative_figures(results) if only is None else only
    about, results = _picture_description(results), groups.with_remedy(results)
    drawings: dict[str, Callable[[], Any]] = {
        name: partial(FIGURES[name].draw, results) for name in names
    }
    with style.styled(look, formats, width):
        if asked is not None:
            drawings[asked.file_name(results)] = partial(comparison.draw_comparison, results, asked)
        for name, draw in drawings.items():
            try:
                paths += style.save_figure(draw(), Path(folder), name, about)
            except Exception as error:  # the results are stored, and matter more than a picture
                failures[name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return paths, failures


def save_comparison(
    results: xr.Dataset,
    asked: Comparison,
    folder: str | Path,
    look: str = "screen",
    formats: Sequence[str] = DEFAULT_FORMATS,
    width: float | None = None,
) -> list[Path]:
    """Draws one comparison, in files named by what it shows.

    Raises:
      FadeoutError: a quantity or an axis that the results lack.
    """
    with style.styled(look, formats, width):
        figure = comparison.draw_comparison(results, asked)
        return style.save_figure(
            figure, Path(folder), asked.file_name(results), _picture_description(results)
        )


@takes_results
def compare(
    results: xr.Dataset, look: str = "screen", width: float | None = None, **asked: Any
) -> Figure:
    """A comparison as a figure, which a notebook shows.

    Args:
      results: from `fadeout.load` or `fadeout.train`; or from `fadeout.examine` or a watch, which
        is drawn whole, without `asked`.
      look: screen, talk (one panel, large letters) or paper (serif, no title).
      width: of a picture for a paper, in inches.
      asked: what `fadeout plot` takes: `quantity` (a probe, loss, solved, a verdict, ...), `x`
        (layer, step or a config value), `color`, `row`, `column`, `at`, `layer`, `map`.

    Returns:
      A matplotlib figure, without a window. Theory is dashed where it predicts the quantity.

    Raises:
      FadeoutError: a quantity or an axis that the results lack, or an unknown word.

    >>> import fadeout
    >>> runs = [Run("tanh", depth=depth) for depth in (2, 4)]
    >>> results = fadeout.train(runs, cache=None, quiet=True)
    >>> len(compare(results, quantity="loss", x="step", column="depth").axes)
    2
    """
    with style.styled(look, width=width):
        if is_examined(results):
            if asked:
                raise FadeoutError(f"of one network all is drawn: leave {', '.join(asked)} out")
            return draw_network(results)
        results = with_run_dim(results, "compare")
        figure = comparison.draw_comparison(results, Comparison.from_dict(asked))
        style.fit_words(figure)
        return figure


def save_network(
    found: xr.Dataset,
    folder: str | Path,
    look: str = "screen",
    formats: Sequence[str] = DEFAULT_FORMATS,
    width: float | None = None,
) -> list[Path]:
    """Draws what `fadeout.examine` or a watch has seen, as <folder>/network.png and others."""
    with style.styled(look, formats, width):
        return style.save_figure(draw_network(found), Path(folder), "network", _drawn_by())


def save_versus(
    found: xr.Dataset, groups: Sequence[PairedGroup], decided: Sequence[Standing] | None,
    folder: Path,
) -> list[Path]:  # fmt: skip
    """Draws which of two configs is better, as <folder>/versus_....png and .svg."""
    about = found.attrs
    words = f"versus_{about['a']}_{about['b']}_by_{about['by']}"
    name = re.sub(r"[^\w.=-]+", "_", words)
    with style.styled():
        return style.save_figure(draw_versus(found, groups, decided), folder, name, _drawn_by())


def save_scaling(check: Check, table: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws a coordinate check as <folder>/scaling.png and .svg."""
    with style.styled():
        return style.save_figure(draw_scaling(check, table), folder, "scaling", _drawn_by())


def save_claim(
    name: str, claim: Claim, findings: Sequence[Finding], verdict: Verdict, folder: Path
) -> list[Path]:
    """Draws a judged claim as <folder>/<name>.png and .svg."""
    with style.styled():
        figure = forest(claim, findings, verdict)
        return style.save_figure(figure, folder, name, f"claim {name}; {_drawn_by()}")


def save_atlas(
    names: Sequence[str] | None, reach: tuple[float, float], folder: Path, look: str = "screen"
) -> list[Path]:
    """Draws activations: one sheet of all, a page each, and the lecture note's sigmoid.

    Args:
      names: None means all of the table.
      reach: the range of inputs.

    Raises:
      FadeoutError: an unknown name, or an empty range.
    """
    if not reach[0] < reach[1]:
        raise FadeoutError(f"the range must go from a lower to a higher number, not {reach}")
    for name in names or ():
        lookup(ACTIVATIONS, name, "activation")
    chosen = list(names or ACTIVATIONS)
    with style.styled(look):
        figures = {name: atlas.activation_page(name, reach) for name in chosen}
        if not names:
            figures |= {"all": atlas.all_activations(chosen, reach)}
            figures |= {"sampled_sigmoid": atlas.sampled_sigmoid()}
        drawn = (style.save_figure(f, folder, name, _drawn_by()) for name, f in figures.items())
        return [path for paths in drawn for path in paths]


NOTE_ACTIVATIONS = ("step", "sigmoid", "tanh", "relu")
"""The lecture note's four activations."""


def save_neurons(
    run: Run, networks: Sequence[MLP], folder: Path, look: str = "screen"
) -> list[Path]:
    """Draws single neurons, chains of them, and the surface that a network lays over XOR while it
    trains, the last also as a film.

    Args:
      run: whose networks these are, of two inputs.
      networks: as `snapshots.train_with_snapshots` gives them.
    """
    inputs = neuron.surface_inputs()
    surfaces = [
        neuron.Surface(
            network_output(run, network, inputs)[1][:, 0], *_incoming_weights(network.first)
        )
        for network in networks
    ]
    each = run.training.steps // max(len(networks) - 1, 1)
    titles = [f"step {each * i}" for i in range(len(networks))]
    shown = sorted({round(i) for i in np.linspace(0, len(networks) - 1, 8)})
    units = f"{run.model.width} {run.activation.name} unit{'s' * (run.model.width > 1)}"
    heading = f"XOR, {units} a layer, seed {run.seed}"
    with style.styled(look):
        figures = {
            "one_neuron": neuron.one_neuron(NOTE_ACTIVATIONS),
            "firing_rate": neuron.firing_rate(),
            "chain": neuron.chain(NOTE_ACTIVATIONS),
            "xor_surface": neuron.xor_surfaces(
                [surfaces[i] for i in shown], [titles[i] for i in shown], heading
            ),
        }
        drawn = (style.save_figure(f, folder, name, _drawn_by()) for name, f in figures.items())
        paths = [path for written in drawn for path in written]
        moving = write_atomically(folder / "xor_surface.gif", neuron.animation(surfaces, titles))
    return [*paths, moving]


def _incoming_weights(layer: Dense) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(layer.kernel), np.asarray(layer.bias)


def _picture_description(results: xr.Dataset) -> str:
    """Returns which runs a picture shows, and what drew it, for the file's metadata."""
    text = "".join(sorted(results["id"].values.tolist()))
    identity = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{results.sizes['run']} runs {identity}; {_drawn_by()}"


def _drawn_by() -> str:
    return f"fadeout {version('fadeout')}"
