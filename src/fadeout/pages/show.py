"""What the page of single runs shows: all that is seen of their networks while they train."""

import dataclasses
from typing import Any

import numpy as np
import xarray as xr

from fadeout.analysis.answers import plane_of, run_of
from fadeout.analysis.groups import subsample
from fadeout.analysis.looks import hue_looks
from fadeout.config import Run
from fadeout.networks.activations import is_by_layer
from fadeout.networks.tasks import classes_of
from fadeout.registry import FadeoutError, format_value
from fadeout.sweeps.results import is_examined, with_run_dim
from fadeout.sweeps.sweep import train_in_memory
from fadeout.training.resolve import resolve
from fadeout.training.snapshots import draw_examples, network_output, train_with_snapshots

MOST_SHOWN, MOST_FRAMES, POINTS, MOST_EXAMPLES = 12, 41, 48, 500
_NOT_SHOWN = ("steps", "record_every")
_PROBES = ("delta_norm", "activation_mean", "activation_std", "dead_units", "saturation")


def runs_to_show(what: Any) -> list[Run]:
    """The runs that are asked for.

    Raises:
      FadeoutError: it is no run, no runs and no results, or they are too many.
    """
    if isinstance(what, xr.Dataset):
        if is_examined(what):
            raise FadeoutError("show is of runs; report draws a network of your own")
        rows = with_run_dim(what, "show")
        if rows.sizes["run"] > MOST_SHOWN:
            raise FadeoutError(
                f"show takes {MOST_SHOWN} runs at most, not {rows.sizes['run']}: choose some, as "
                "results.isel(run=[0, 1])"
            )
        return [run_of(rows.isel(run=row)) for row in range(rows.sizes["run"])]
    runs = [what] if isinstance(what, Run) else list(what) if isinstance(what, list | tuple) else []
    if not runs or not all(isinstance(run, Run) for run in runs):
        raise FadeoutError(f"show takes a Run, or results, not {format_value(what)}")
    if len(runs) > MOST_SHOWN:
        raise FadeoutError(f"show takes {MOST_SHOWN} runs at most, not {len(runs)}")
    return runs


def data_to_show(runs: list[Run]) -> dict[str, Any]:
    """All that the page needs; the runs are trained for it."""
    names = _names_of(runs)
    return {"runs": [_shown(run, name) for run, name in zip(runs, names, strict=True)]}


def _names_of(runs: list[Run]) -> list[str]:
    """Names runs by what tells them apart, by four labels at most; one alone by its depth."""
    labels = [resolve(run).labels() for run in runs]
    keys = [k for k in labels[0] if any(own.get(k) != labels[0].get(k) for own in labels)]
    keys = [key for key in keys if key not in _NOT_SHOWN][:4] or ["activation", "depth"]
    if len(runs) > 1 and len({run.seed for run in runs}) > 1:
        keys = [*keys[:3], "seed"] if "seed" not in keys else keys
    return [", ".join(_word(key, own.get(key)) for key in keys) for own in labels]


def _word(key: str, value: Any) -> str:
    return str(value) if key == "activation" else f"{key.replace('_', ' ')} {value}"


def _shown(run: Run, name: str) -> dict[str, Any]:
    """One run: its loss, its layers at every recorded step, and its answers over the plane."""
    run = resolve(dataclasses.replace(run, probes=_PROBES, keep=()))
    found = train_in_memory(run).isel(run=0)
    every = found["step"].values
    steps = subsample(every.tolist(), MOST_FRAMES)
    hidden = found.sel(step=steps, layer=slice(1, run.model.depth))
    data = draw_examples(run)
    networks = train_with_snapshots(run, steps)
    classes = classes_of(run.task.name, dict(run.task.options))
    levels = float(data.targets.min()), float(data.targets.max())
    levels = levels if levels[0] < levels[1] else (levels[0] - 1, levels[0] + 1)
    own = run.activation.name
    return {
        "name": name,
        "color": hue_looks(["relu" if is_by_layer(own) else own])[
            "relu" if is_by_layer(own) else own
        ]["color"],
        "steps": steps,
        "every": every.tolist(),
        "loss": _numbers(found["loss"].values),
        "accuracy": _numbers(found["accuracy"].values),
        "layers": {
            "delta": _rows(hidden["delta_norm"]),
            "signal": _rows(np.hypot(hidden["activation_mean"], hidden["activation_std"])),
            "dead": _rows(hidden["dead_units"]),
            "saturated": _rows(hidden["saturation"]),
        },
        "features": data.inputs.shape[1],
        "classes": classes,
        "levels": levels,
        "surface": _surface(run, networks, data.inputs, classes, levels),
        "examples": _examples(run, data, classes, levels),
    }


def _surface(
    run: Run, networks: list, inputs: np.ndarray, classes: int, levels: tuple[float, float]
) -> dict[str, Any] | None:
    """Answers over a square at every frame; None where there is no plane, or a batch decides."""
    if inputs.shape[1] != 2 or run.model.normalization == "batch":
        return None
    x, y = plane_of([inputs], POINTS)
    points = np.stack(np.meshgrid(x, y[::-1]), -1).reshape(-1, 2)
    frames = [
        _shares(run, network_output(run, network, points)[1], classes, levels)
        for network in networks
    ]
    return {
        "x": [float(x[0]), float(x[-1])],
        "y": [float(y[0]), float(y[-1])],
        "points": POINTS,
        "frames": frames,
    }


def _shares(run: Run, output: np.ndarray, classes: int, levels: tuple[float, float]) -> list[int]:
    """Answers from 0 to 100: the share of class 1; of a task without classes from the lowest target
    to the highest; of more
    classes the number of the answer; -1 where it is not finite."""
    if classes > 2:
        return np.where(np.isfinite(output).all(1), output.argmax(1), -1).tolist()
    values = output[:, 0].astype(float)
    if not classes:
        values = (values - levels[0]) / (levels[1] - levels[0])
    elif run.training.loss_function == "cross_entropy":
        with np.errstate(over="ignore"):
            values = 1 / (1 + np.exp(-values))
    elif run.task.targets == "bipolar":
        values = (values + 1) / 2
    whole = np.rint(100 * np.clip(values, 0, 1))
    return np.where(np.isfinite(whole), whole, -1).astype(int).tolist()


def _examples(run: Run, data: Any, classes: int, levels: tuple[float, float]) -> list[list[float]]:
    """Some examples, two features and the target of each: the class, or a number from 0 to 1."""
    targets = (data.targets + 1) / 2 if run.task.targets == "bipolar" else data.targets
    if not classes:
        targets = (targets - levels[0]) / (levels[1] - levels[0])
    rows = subsample(list(range(len(targets))), MOST_EXAMPLES)
    return np.column_stack([data.inputs[rows, :2], targets[rows]]).astype(float).round(5).tolist()


def _rows(values: xr.DataArray) -> list[list[float | None]]:
    return [_numbers(row) for row in values.transpose("step", "layer").values]


def _numbers(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON, of five digits; None where they are not finite."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
