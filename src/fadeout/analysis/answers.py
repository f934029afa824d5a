"""What trained networks answer: to any inputs, and over a plane."""

import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from fadeout.config import Run, Task
from fadeout.networks.model import MLP, Dense
from fadeout.networks.tasks import Examples
from fadeout.registry import FadeoutError, format_value
from fadeout.sweeps.results import is_examined, takes_results, with_run_dim
from fadeout.training.snapshots import draw_examples, network_output

_PARAMETERS = ("kernel", "bias", "factor", "gain", "shift")
_MOST_POINTS = 2001


def examples(what: Run | Task, seed: int = 0) -> Examples:
    """The data of a run or of a task, as NumPy arrays.

    Args:
      what: a run, or a task as a run of this seed draws it.

    Returns:
      `inputs` [example, feature] and `targets` [example], in the task's order, with those that a
      run holds out.

    Raises:
      FadeoutError: neither a run nor a task, or one that cannot be drawn.

    >>> found = examples(Task("xor"))
    >>> found.inputs.tolist(), found.targets.tolist()
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 1.0, 1.0, 0.0])
    """
    if isinstance(what, Task):
        what = Run(task=what, seed=seed)
    if not isinstance(what, Run):
        raise FadeoutError(f"examples are of a Run or a Task, not of {format_value(what)}")
    return draw_examples(what)


@takes_results
def predict(results: xr.Dataset, inputs: Any) -> xr.DataArray:
    """Gives the outputs of trained networks for any inputs.

    Args:
      results: of runs that were trained with `keep=[weights]`.
      inputs: [example, feature], in the units of `examples`: columns of a table are standardised.

    Returns:
      The outputs [run, example], as `keep=[outputs]` has them: with cross-entropy, logits, whose
      class is 1 above 0. Of more than two classes [run, example, output], where the largest is the
      answer. Runs of which no finite weights are kept have NaN.

    Raises:
      FadeoutError: no weights were kept, or inputs of another number of features.

    >>> from fadeout import train
    >>> trained = train(Run(keep=["weights"]), quiet=True)
    >>> (predict(trained, [[0, 0], [0, 1]]) > 0).values.tolist()
    [[False, True]]
    """
    if is_examined(results):
        raise FadeoutError("predict is of runs: call your own network with its parameters")
    runs = with_run_dim(results, "predict")
    if "last_kernel" not in runs:
        raise FadeoutError("predict needs the weights: train these runs with keep=[weights]")
    try:
        points = np.asarray(inputs, float)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2:
        raise FadeoutError("inputs must be numbers, [example, feature]")
    answers = [_answer(row, points) for row in _rows(runs)]
    most = max(answer.shape[1] for answer in answers)
    whole = np.full((len(answers), points.shape[0], most), np.nan)
    for row, answer in zip(whole, answers, strict=True):
        row[:, : answer.shape[1]] = answer
    dims = ["run", "example", "output"]
    labels = {name: v for name, v in runs.coords.items() if v.dims == ("run",) and name != "config"}
    found = xr.DataArray(whole, labels, dims, "answer")
    return found if most > 1 else found.isel(output=0)


def surface(results: xr.Dataset, points: int = 101, reach: float | None = None) -> xr.DataArray:
    """Gives the outputs of networks of two features over a square around their examples.

    Args:
      results: as `predict` takes them.
      points: along each side.
      reach: half of the side; without it, a quarter more than the examples need.

    Returns:
      The outputs of `predict` as [run, y, x], with the coordinates of the points; of more than two
      classes [run, y, x, output].

    Raises:
      FadeoutError: a task of another number of features.

    >>> from fadeout import train
    >>> trained = train(Run(keep=["weights"]), quiet=True)
    >>> over_square = surface(trained, points=3, reach=1.0)
    >>> over_square.sizes["run"], over_square.x.values.tolist()
    (1, [-0.5, 0.5, 1.5])
    """
    runs = with_run_dim(results, "surface")
    whole = isinstance(points, int | np.integer) and not isinstance(points, bool)
    if not whole or not 2 <= points <= _MOST_POINTS:
        raise FadeoutError(f"points must be from 2 to {_MOST_POINTS}, not {format_value(points)}")
    if reach is not None and not (isinstance(reach, int | float) and 0 < reach < np.inf):
        raise FadeoutError(f"reach must be above 0, not {format_value(reach)}")
    tasks = {own.task: own for own in map(run_of, _rows(runs))}
    x, y = plane_of([draw_examples(own).inputs for own in tasks.values()], int(points), reach)
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    found = predict(results, grid)
    shape = (runs.sizes["run"], points, points, *found.shape[2:])
    dims = ["run", "y", "x", *found.dims[2:]]
    labels = {name: v for name, v in found.coords.items() if v.dims == ("run",)}
    return xr.DataArray(found.values.reshape(shape), labels | {"x": x, "y": y}, dims, "answer")


def plane_of(
    inputs: list[np.ndarray], points: int, reach: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates of a square around the examples of some tasks, [point] and [point].

    Raises:
      FadeoutError: they have another number of features than two.
    """
    for own in inputs:
        if own.shape[1] != 2:
            raise FadeoutError(f"a surface is of two features, and this task has {own.shape[1]}")
    every = np.concatenate(inputs)
    low, high = every.min(0), every.max(0)
    half = 1.25 * max((high - low).max() / 2, 1e-6) if reach is None else reach
    middle = (low + high) / 2
    x, y = (np.linspace(m - half, m + half, points) for m in middle)
    return x, y


def _rows(runs: xr.Dataset) -> list[xr.Dataset]:
    return [runs.isel(run=row) for row in range(runs.sizes["run"])]


def run_of(result: xr.Dataset) -> Run:
    """The run of one row of results."""
    return Run.from_dict(json.loads(str(result["config"].item())))


def _answer(result: xr.Dataset, points: np.ndarray) -> np.ndarray:
    """The outputs of one run, [example, output]; NaN where its weights are not finite."""
    run, network = run_of(result), _kept_network(result)
    if network is None:
        return np.full((len(points), 1), np.nan)
    features = network.first.kernel.shape[0]
    if points.shape[1] != features:
        raise FadeoutError(f"inputs have {points.shape[1]} features, and this network {features}")
    return network_output(run, network, points)[1]


def _kept_network(result: xr.Dataset) -> MLP | None:
    """The network whose parameters a run kept; None where they are not finite, or not there."""
    depth, width = int(result["depth"]), int(result["width"])
    layers = []
    for layer in range(1, depth + 2):
        own = {name: result[f"last_{name}"].sel(layer=layer).values
               for name in _PARAMETERS if f"last_{name}" in result}  # fmt: skip
        there = ~np.isnan(own["kernel"])
        inside = there.any(1), there.any(0)
        kernel = own["kernel"][inside[0]][:, inside[1]]
        square = (layer == 1 or len(kernel) == width) and (layer > depth or len(kernel.T) == width)
        if not square or not kernel.size or not np.isfinite(kernel).all():
            return None
        others = {"bias": own["bias"][inside[1]]}
        for name in ("gain", "shift"):
            if name in own and np.isfinite(own[name]).any():
                others[name] = own[name][inside[1]]
        if "factor" in own and np.isfinite(own["factor"]):
            others["factor"] = own["factor"]
        layers.append(Dense(kernel, **others))
    first, *hidden, readout = layers
    return MLP(first, _stacked(hidden, first), readout)


def _stacked(layers: list[Dense], like: Dense) -> Dense:
    """Layers as one stack, which has no place where there are none."""
    if not layers:
        width = like.bias.shape[0]
        return Dense(jnp.zeros((0, width, width)), jnp.zeros((0, width)))
    parts = {
        name: np.stack([np.asarray(getattr(layer, name)[...]) for layer in layers])
        for name in _PARAMETERS
        if getattr(layers[0], name) is not None
    }
    return Dense(**parts)
