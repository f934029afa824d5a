"""What a chunk recorded, packed for a file: a part of a sweep."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fadeout.config import Run
from fadeout.networks.model import MLP
from fadeout.networks.tasks import classes_of
from fadeout.schema import sections_of
from fadeout.sweeps.variables import FAILED, LAST_NETWORK, axes_of, variable_dims
from fadeout.training.fit import History


class Part(NamedTuple):
    """The recorded values of some runs that differ only in traced values and depth.

    Attributes:
      run: the deepest of them; what is not among `labels` holds for all.
      labels: the config values in which they differ, each [run], and their identities, `id`.
      axes: which steps and layers were recorded; of other dims, numbers from 0 on.
      kinds: the dtype of every variable; its dims follow from `variable_dims`.
      get: a variable's values by its name, [run], [run, step] or [run, step, layer].
      about: provenance.
    """

    run: Run
    labels: dict[str, np.ndarray]
    axes: dict[str, np.ndarray]
    kinds: dict[str, np.dtype]
    get: Callable[[str], np.ndarray]
    about: dict[str, str]

    @property
    def size(self) -> int:
        return len(self.labels["id"])


def trained_part(runs: Sequence[Run], traces: Mapping[int, History]) -> Part:
    """Returns the part of a chunk that was trained.

    Args:
      traces: by depth, each of the runs of that depth in their order.
    """
    by_depth = {depth: [run for run in runs if run.model.depth == depth] for depth in traces}
    reached = any(run.training.until_loss for run in runs)
    found = [_trace_variables(own, traces[depth], reached) for depth, own in by_depth.items()]
    values = {name: _stacked(name, [own[name] for own in found]) for name in found[0]}
    return _make_part([run for own in by_depth.values() for run in own], values)


def _stacked(name: str, values: list[np.ndarray]) -> np.ndarray:
    """A variable of networks of several depths; NaN where one lacks a layer."""
    if "layer" in variable_dims(name):
        axis = variable_dims(name).index("layer")
        most = max(array.shape[axis] for array in values)
        values = [_padded(array, axis, most) for array in values]
    return values[0] if len(values) == 1 else np.concatenate(values)


def _padded(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    ends = [(0, size - values.shape[axis]) if i == axis else (0, 0) for i in range(values.ndim)]
    return np.pad(values, ends, constant_values=np.nan) if ends[axis][1] else values


def _trace_variables(runs: Sequence[Run], trace: History, reached: bool) -> dict[str, np.ndarray]:
    """The variables of networks of one depth.

    Args:
      reached: whether to tell since when the loss is as low as was asked for.
    """
    solved, diverged_step, diverged_layer, reached_step, diverged_backward = (
        np.where(np.asarray(value) < 0, np.nan, value) for value in trace.outcome
    )
    diverged = ~np.isnan(diverged_step)
    solved = np.where(diverged, np.nan, solved)
    accuracy = np.transpose(trace.accuracy)
    status = np.where(np.isnan(solved), "unsolved", "solved")
    validation = {name: np.transpose(values) for name, values in trace.validation.items()}
    if not classes_of(runs[0].task.name, dict(runs[0].task.options)):
        accuracy, solved, status = accuracy * np.nan, solved * np.nan, "trained"
        validation.pop("validation_accuracy", None)
    if reached:
        validation["reached_step"] = np.where(diverged, np.nan, reached_step)
    found = {
        "loss": np.transpose(trace.loss),
        "accuracy": accuracy,
        "status": np.where(diverged, "diverged", status),
        "solved_step": solved,
        "diverged_step": diverged_step,
        "diverged_layer": diverged_layer,
        "diverged_backward": diverged_backward,
    }
    layers = {name: np.moveaxis(values, -1, 0) for name, values in trace.layers.items()}
    return found | validation | _last_networks(runs[0], trace) | layers


def _last_networks(run: Run, trace: History) -> dict[str, np.ndarray]:
    """Returns the final parameters, with NaN where a layer lacks a unit or a parameter."""
    found: dict[str, Any] = {}
    if "weights" in run.keep:
        found |= {
            f"last_{name}": values for name, values in _parameters_by_name(trace.model).items()
        }
    if "outputs" in run.keep:
        found |= dict(zip(LAST_NETWORK["outputs"], trace.answers, strict=True))
    return {name: np.moveaxis(np.asarray(values), -1, 0) for name, values in found.items()}


def _parameters_by_name(model: MLP) -> dict[str, np.ndarray]:
    """The parameters of networks by name, each [layer, ..., run]."""
    others, width, _, runs = model.hidden.kernel.shape
    fan_in = max(model.first.kernel.shape[0], width)
    fan_out = max(model.readout.kernel.shape[1], width)
    shapes = {"kernel": (fan_in, fan_out), "bias": (fan_out,), "gain": (fan_out,),
              "shift": (fan_out,), "factor": ()}  # fmt: skip
    found: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        whole = np.full((others + 2, *shape, runs), np.nan, model.first.kernel.dtype)
        places = {"first": 0, "hidden": slice(1, -1), "readout": -1}
        for part, place in places.items():
            own = getattr(getattr(model, part), name)
            if own is not None:
                values = np.asarray(own[...])
                inside = values.shape[values.ndim - len(shape) - 1 : -1]
                whole[(place, *map(slice, inside))] = values
                found[name] = whole
    return found


def failed_part(runs: Sequence[Run], error: str) -> Part:
    """Returns the part of a chunk that could not be trained: its labels, and the error."""
    training = runs[0].training
    losses = np.full((len(runs), training.records), np.nan, np.float32)
    words = {"status": np.full(len(runs), FAILED), "error": np.full(len(runs), error)}
    return _make_part(runs, {"loss": losses} | words)


_DECIDED = ("solved_step", "diverged_step", "diverged_layer", "diverged_backward")
"""What is decided of every run once."""


def planned_part(runs: Sequence[Run]) -> Part:
    """Returns the part that runs will record, with 0 everywhere. It takes no memory."""
    first = runs[0]
    training, count = first.training, len(runs)
    size = {"run": count, "step": training.records, "layer": first.model.depth + 1}
    names = ("loss", "accuracy", *_DECIDED, *first.probes)
    values = {
        name: np.broadcast_to(np.float32(0), [size[d] for d in variable_dims(name)])
        for name in names
    }
    return _make_part(runs, values | {"status": np.full(count, "unsolved")})


def _make_part(runs: Sequence[Run], values: dict[str, np.ndarray]) -> Part:
    sizes = {
        d: n
        for name, a in values.items()
        for d, n in zip(variable_dims(name), a.shape, strict=True)
    }
    deepest = max(runs, key=lambda run: run.model.depth)
    return Part(
        deepest,
        _differing_labels(runs) | {"id": np.array([run.digest() for run in runs])},
        axes_of(deepest, sizes),
        {name: array.dtype for name, array in values.items()},
        values.__getitem__,
        {},
    )


def _differing_labels(runs: Sequence[Run]) -> dict[str, np.ndarray]:
    """The labels in which runs differ; all others are those of the first."""
    sections = {name: [getattr(run, name) for run in runs] for name in sections_of(Run)}
    several = {name for name, own in sections.items() if any(one is not own[0] for one in own)}
    found = {
        name: [getattr(own, key) for own in sections[section]]
        for name, (section, key) in runs[0].words().items()
        if section in several
    }
    found["seed"] = [run.seed for run in runs]
    return {
        name: np.array(values)
        for name, values in found.items()
        if any(value != values[0] for value in values)
    }
