"""Results as labelled arrays: parts of a sweep, joined to one dataset of run, step and layer."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from fadeout.config import Run
from fadeout.networks.model import MLP
from fadeout.networks.probes import PROBES
from fadeout.networks.tasks import classes_of
from fadeout.registry import FadeoutError, format_value, parameters
from fadeout.schema import sections_of
from fadeout.training.fit import Trace

FAILED = "failed"
STATUSES = ("solved", "unsolved", "trained", "diverged", FAILED)
"""How a run may end; *trained* are those of a task without classes, which cannot be solved."""

_UNITS = {"units": "1"}
VARIABLES = {
    "loss": {"long_name": "loss", **_UNITS},
    "accuracy": {"long_name": "share of examples classified right", **_UNITS},
    "validation_loss": {"long_name": "loss on examples held out", **_UNITS},
    "validation_accuracy": {"long_name": "share of held-out examples classified right", **_UNITS},
    "status": {"long_name": f"{', '.join(STATUSES[:-1])} or failed"},
    "error": {"long_name": "why a run failed"},
    "solved_step": {"long_name": "step since which every example is classified right"},
    "reached_step": {"long_name": "step since which the loss is below until_loss"},
    "diverged_step": {"long_name": "step of the first value that is not finite"},
    "diverged_layer": {"long_name": "weight layer of the first value that is not finite"},
    "diverged_backward": {
        "long_name": "1: that value was a gradient, 0: a preactivation",
        **_UNITS,
    },
    "last_kernel": {"long_name": "kernel after the last step", **_UNITS},
    "last_bias": {"long_name": "bias after the last step", **_UNITS},
    "last_gain": {"long_name": "gain of the normalisation after the last step", **_UNITS},
    "last_shift": {"long_name": "shift of the normalisation after the last step", **_UNITS},
    "last_factor": {"long_name": "trained factor of the branch after the last step", **_UNITS},
    "last_output": {"long_name": "output after the last step", **_UNITS},
    "last_target": {"long_name": "target", **_UNITS},
}
_LAST_NETWORK = {
    "weights": {
        "last_kernel": ("layer", "fan_in", "fan_out"),
        "last_bias": ("layer", "fan_out"),
        "last_gain": ("layer", "fan_out"),
        "last_shift": ("layer", "fan_out"),
        "last_factor": ("layer",),
    },
    "outputs": {"last_output": ("example", "output_unit"), "last_target": ("example",)},
}
"""The variables of each word of `keep`, and their dims besides the run."""
AXES = {
    "step": {"long_name": "optimiser steps taken", **_UNITS},
    "layer": {"long_name": "weight layer; the readout is depth + 1", **_UNITS},
}
_DIMS = ("run", *AXES)


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


OVER_STEPS = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def variable_dims(name: str) -> tuple[str, ...]:
    """The dims of a variable; what is not known here is a probe."""
    if name in OVER_STEPS:
        return _DIMS[:2]
    for own in _LAST_NETWORK.values():
        if name in own:
            return ("run", *own[name])
    return _DIMS[:1] if name in VARIABLES else _DIMS


def variable_attributes(name: str) -> dict[str, str]:
    """Returns a variable's attributes: its long name and units."""
    if name in VARIABLES:
        return VARIABLES[name]
    probe = PROBES.get(name)  # None where it is of a file that is not imported here
    if probe is None:
        return {"long_name": name.replace("_", " "), **_UNITS}
    layers = "hidden layers and readout" if probe.readout else "hidden layers"
    return {"long_name": probe.title, "layers": layers, **_UNITS}


def is_share(name: str) -> bool:
    """Returns whether a variable is a share from 0 to 1, which is shown in per cent."""
    return name.endswith("accuracy") or (name in PROBES and PROBES[name].share)


def is_probe(name: str) -> bool:
    """Returns whether a variable is recorded in every layer."""
    return name not in VARIABLES


def config_labels(results: xr.Dataset) -> list[str]:
    """The labels of a dataset, in the schema's order."""
    told = ("id", "config", "sweep", "run")
    return [str(n) for n, v in results.coords.items() if v.dims == ("run",) and n not in told]


def options_of(section: str, function: Callable, labels: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an entry among some labels, those that are there."""
    found = {}
    for key, (kind, *_) in parameters(function).items():
        value = labels.get(f"{section}.{key}", labels.get(key))
        if value is not None and value == value and value != "":
            found[key] = kind(value)
    return found


def trained_part(runs: Sequence[Run], traces: Mapping[int, Trace]) -> Part:
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


def _trace_variables(runs: Sequence[Run], trace: Trace, reached: bool) -> dict[str, np.ndarray]:
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


def _last_networks(run: Run, trace: Trace) -> dict[str, np.ndarray]:
    """Returns the final parameters, with NaN where a layer lacks a unit or a parameter."""
    found: dict[str, Any] = {}
    if "weights" in run.keep:
        found |= {
            f"last_{name}": values for name, values in _parameters_by_name(trace.model).items()
        }
    if "outputs" in run.keep:
        found |= dict(zip(_LAST_NETWORK["outputs"], trace.answers, strict=True))
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


def axes_of(run: Run, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The axes of what is recorded of runs like this; others than steps and layers count from 0."""
    training = run.training
    others = {dim: np.arange(size) for dim, size in sizes.items() if dim not in _DIMS}
    return {
        "step": np.arange(0, training.steps + 1, training.record_every),
        "layer": np.arange(1, run.model.depth + 2),
    } | others


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


def join_parts(parts: Sequence[Part]) -> xr.Dataset:
    """Joins parts to one dataset, sorted by the runs' labels.

    Each identity comes once: a run that failed first and succeeded later has succeeded. Values are
    gathered when they are first looked at, and labels that hold for all runs take no memory.
    """
    named = _label_names(parts)
    rows = [
        {name: p.labels.get(word, shared[word]) for word, name in own.items()}
        for p, own, shared in zip(parts, named, [p.run.labels() for p in parts], strict=True)
    ]
    labels = {
        name: _joined_labels([row.get(name) for row in rows], parts)
        for name in sorted({name for row in rows for name in row}, key=_labels_in_order(rows).index)
    }
    identity = np.concatenate([p.labels["id"] for p in parts])
    status = np.concatenate([p.get("status") for p in parts]).astype(str)
    keys = [values for values in labels.values() if values.strides[0]]
    order = np.lexsort([status == FAILED, identity, *reversed(keys)])
    _, first = np.unique(identity[order], return_index=True)
    order = order[np.sort(first)]
    known = dict.fromkeys(axis for p in parts for axis in p.axes)
    axes = {
        axis: np.unique(np.concatenate([p.axes[axis] for p in parts if axis in p.axes]))
        for axis in known
    }
    sizes = {"run": order.size} | {axis: values.size for axis, values in axes.items()}
    place = np.full(identity.size, -1)
    place[order] = np.arange(order.size)

    def gathered(name: str) -> _Gathered:
        kinds = [p.kinds[name] for p in parts if name in p.kinds]
        text = any(kind.kind in "OUT" for kind in kinds)
        kind = np.dtype(object) if text else np.result_type(*kinds, np.float32)
        shape = tuple(sizes[dim] for dim in variable_dims(name))
        return _Gathered(shape, kind, partial(_gather, name, kind, shape, parts, place, axes))

    recorded = {name for p in parts for name in p.kinds}
    variables: dict[str, tuple] = {
        name: (
            variable_dims(name),
            indexing.LazilyIndexedArray(gathered(name)),
            variable_attributes(name),
        )
        for name in dict.fromkeys((*VARIABLES, *PROBES, *sorted(recorded)))
        if name != "status" and name in recorded
    }
    variables["status"] = ("run",), status[order], VARIABLES["status"]
    coordinates: dict[str, tuple] = {
        name: ("run", values[order] if values.strides[0] else values[: order.size],
               {"long_name": name.replace("_", " ")})
        for name, values in labels.items()
    }  # fmt: skip
    texts = partial(_config_texts, parts, order)
    configs = _Gathered((order.size,), np.dtype(object), texts)
    coordinates["config"] = "run", indexing.LazilyIndexedArray(configs), {}
    coordinates["id"] = "run", identity[order], {}
    coordinates |= {axis: (axis, axes[axis], about) for axis, about in AXES.items()}
    return xr.Dataset(variables, coordinates, _joined_attributes(parts))


def _label_names(parts: Sequence[Part]) -> list[dict[str, str]]:
    """Returns, for each part, the names of its labels in the whole: the short name, or the full key
    where another part uses the short name for something else."""
    words = [p.run.words() for p in parts]
    meanings: dict[str, set] = {}
    for own in words:
        for word, place in own.items():
            meanings.setdefault(word, set()).add(place)
    return [
        {word: word if len(meanings[word]) == 1 else ".".join(place) for word, place in own.items()}
        | {"seed": "seed"}
        for own in words
    ]


def _labels_in_order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The labels of all parts in the schema's order, options after what all have."""
    fixed = Run().labels()
    return [*fixed, *sorted({name for row in rows for name in row} - fixed.keys())]


def _joined_labels(values: list, parts: Sequence[Part]) -> np.ndarray:
    """One label of all parts' runs, [run]: of each part an array, or one value for all its runs;
    NaN where it has none, and of words the empty one."""
    text = any(np.asarray(value).dtype.kind == "U" for value in values if value is not None)
    values = [("" if text else np.nan) if value is None else value for value in values]
    if all(np.ndim(value) == 0 for value in values) and len(set(values)) == 1:
        return np.broadcast_to(np.array(values[0]), sum(p.size for p in parts))
    columns = [np.broadcast_to(v, p.size) for v, p in zip(values, parts, strict=True)]
    return np.concatenate(columns)


def _gather(name, kind, shape, parts: Sequence[Part], place: np.ndarray, axes: dict) -> np.ndarray:
    """A variable of all runs; a step or layer that a part lacks is NaN there."""
    whole = np.full(shape, "" if kind.hasobject else np.nan, kind)
    start = 0
    for p in parts:
        rows = place[start : start + p.size]
        start += p.size
        if name not in p.kinds:
            continue
        values, wanted = p.get(name), rows >= 0
        where = [np.searchsorted(axes[dim], p.axes[dim]) for dim in variable_dims(name)[1:]]
        if all(index.size == size for index, size in zip(where, shape[1:], strict=True)):
            whole[rows[wanted]] = values[wanted]
        else:
            whole[np.ix_(rows[wanted], *where)] = values[wanted]
    return whole


def _config_texts(parts: Sequence[Part], order: np.ndarray) -> np.ndarray:
    """The full config of every run as JSON, in this order."""
    texts = []
    for p in parts:
        own = {name: values.tolist() for name, values in p.labels.items() if name != "id"}
        for row in range(p.size):
            run = p.run.with_labels({name: values[row] for name, values in own.items()})
            texts.append(json.dumps(run.as_dict()))
    return np.array(texts, object)[order]


class _Gathered(BackendArray):
    """An array that is made when it is first looked at, and kept."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, make: Callable[[], np.ndarray]):
        self.shape, self.dtype, self.make = shape, dtype, make

    @cached_property
    def whole(self) -> np.ndarray:
        return self.make()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        basic = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, basic, self.whole.__getitem__)


def _joined_attributes(parts: Sequence[Part]) -> dict[str, str]:
    """The provenance of all parts; where they differ, every value."""
    names = dict.fromkeys(name for p in parts for name in p.about)
    values = {n: dict.fromkeys(str(p.about[n]) for p in parts if n in p.about) for n in names}
    return {str(name): "; ".join(texts) for name, texts in values.items()}


def name_sweeps(folders: Sequence[Path], load: Callable) -> dict[str, xr.Dataset]:
    """Sweeps by their folders' names; by their paths, where two are called the same."""
    same = len({folder.name for folder in folders}) < len(folders)
    return {str(folder) if same else folder.name: load(folder) for folder in folders}


def concat_sweeps(sweeps: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Joins several sweeps with the coordinate `sweep`. What one of them lacks is NaN."""
    told = [
        results.assign_coords(sweep=("run", np.full(results.sizes["run"], name)))
        for name, results in sweeps.items()
    ]
    if len(told) == 1:
        return told[0]
    return xr.concat(told, "run", data_vars="all", coords="minimal", compat="override",
                     join="outer", combine_attrs="drop_conflicts")  # fmt: skip


def select_identities(dataset: xr.Dataset, identities: np.ndarray) -> xr.Dataset:
    """Selects the runs with these identities, given as numbers."""
    return dataset.isel(run=np.isin(identity_numbers(dataset["id"].values), identities))


def final_values(values: xr.DataArray) -> xr.DataArray:
    """Returns the values at each run's last recorded step."""
    last = values["steps"] if "steps" in values.coords else values["step"].max()
    shared = np.unique(last.values)
    return values.sel(step=shared[0] if shared.size == 1 else last)  # run by run it takes longer


def is_examined(results: Any) -> bool:
    """Returns whether this is what `fadeout.examine` gives, a row for each layer of one network."""
    return isinstance(results, xr.Dataset) and "module" in results.attrs


def with_run_dim(results: Any, what: str) -> xr.Dataset:
    """Results with the dimension `run`, also of one run that was cut out of them.

    Args:
      what: asks, for an error.

    Raises:
      FadeoutError: they are no results of runs.
    """
    needs = f"{what} takes results, as fadeout.load and fadeout.train give them"
    if not isinstance(results, xr.Dataset):
        raise FadeoutError(f"{needs}, not {_shown_kind(results)}")
    if "depth" not in results.coords or "step" not in results.coords:
        raise FadeoutError(f"{needs}: these are of no runs")
    if "run" in results.dims:
        if "status" in results:  # `where` leaves rows of runs that it has masked
            known = np.isin(results["status"].values.astype(str), STATUSES)
            results = results if known.all() else results.isel(run=known)
        if not results.sizes["run"]:
            raise FadeoutError(f"{needs}: these have no run")
        return results
    labels = {
        name: ("run", values.values.reshape(1))
        for name, values in results.coords.items()
        if not values.ndim and name not in (*AXES, "run")
    }
    axes = {name: results[name] for name in results.dims if name in results.coords}
    variables = {
        name: (("run", *values.dims), values.values[None], values.attrs)
        for name, values in results.data_vars.items()
    }
    return xr.Dataset(variables, labels | axes, results.attrs)


def takes_results(function: Callable) -> Callable:
    """A function of results, which says so where a part of them is missing, as after a `sel`."""

    @functools.wraps(function)
    def call(*arguments: Any, **given: Any) -> Any:
        try:
            return function(*arguments, **given)
        except FadeoutError:
            raise
        except (KeyError, IndexError, ValueError, TypeError) as error:
            results = arguments[0] if arguments else given.get("results")
            if not isinstance(results, xr.Dataset) or _is_whole(results):
                raise
            raise FadeoutError(
                f"{function.__name__} takes whole results, all steps and layers, and these lack "
                "some: call it on what fadeout.load and fadeout.train give"
            ) from error

    return call


def _is_whole(results: xr.Dataset) -> bool:
    """Returns whether results have what all of them have: their axes, labels and outcomes."""
    if not {"run", "step", "layer"} <= set(results.dims) or 0 not in results["step"]:
        return False
    if not {"id", "seed", "depth", "activation", "steps"} <= set(results.coords):
        return False
    labels = all(results[name].dims == ("run",) for name in ("id", "seed", "depth"))
    numbers = all(results[n].dtype.kind != "O" for n in results.data_vars if is_probe(str(n)))
    if not labels or not numbers or results["depth"].max() >= results.sizes["layer"]:
        return False
    ends = np.unique(results["steps"].values)
    return "status" in results and "loss" in results and bool(np.isin(ends, results["step"]).all())


def _shown_kind(value: Any) -> str:
    """Describes a value that is no results, in a few words."""
    kind = type(value).__name__
    if isinstance(value, xr.DataArray):
        return f"the variable {value.name} alone (a DataArray)"
    return f"a {kind}" if isinstance(value, list | dict | tuple) else format_value(value)


@takes_results
def to_frame(results: xr.Dataset) -> Any:
    """A row for every run: its config values, how it ended, and the final loss and accuracy.

    Args:
      results: as `fadeout.load` and `fadeout.train` give them; of `fadeout.examine` the rows are
        layers.

    Returns:
      A pandas.DataFrame with the runs' identities as index, without what all runs share and what
      none has; its `to_csv` writes it.

    Raises:
      FadeoutError: they are no results.

    >>> import fadeout
    >>> runs = [Run("tanh", seed=seed) for seed in (0, 1)]
    >>> to_frame(fadeout.train(runs, cache=None, quiet=True)).columns.tolist()
    ['seed', 'status', 'solved_step', 'loss', 'accuracy']
    """
    if is_examined(results):
        return results.to_dataframe()
    results = with_run_dim(results, "to_frame")
    ends = {name: final_values(results[name]) for name in ("loss", "accuracy") if name in results}
    told = {
        name: results[name]
        for name in ("status", "solved_step", "diverged_step")
        if name in results
    }
    labels = {
        name: values
        for name, values in results.coords.items()
        if values.dims == ("run",) and name not in ("id", "config", "run")
    }
    values = {name: array.values for name, array in (labels | told | ends).items()}
    frame = pd.DataFrame(values, index=pd.Index(results["id"].values, name="id"))
    varying = [name for name in labels if frame[name].astype(str).nunique() > 1]
    return frame[[*varying, *told, *ends]].dropna(axis="columns", how="all")


def weights(result: xr.Dataset) -> dict[str, np.ndarray]:
    """The last kernels and biases of a run that keeps them, by name.

    `np.savez("weights.npz", **weights)` writes what `init=given init.npz=weights.npz` reads.

    Args:
      result: of one run, `results.isel(run=0)`, trained with `keep=[weights]`.

    Returns:
      NumPy arrays: `kernel_1` [in, out], `bias_1` [out], ..., the readout's last.

    Raises:
      FadeoutError: there are several, or it does not keep them, or they are not finite, or it has
        trained gains or factors besides.

    >>> import fadeout
    >>> trained = fadeout.train(Run(keep=["weights"]))  # doctest: +SKIP
    >>> weights(trained.isel(run=0))["kernel_1"].shape  # doctest: +SKIP
    (2, 8)
    """
    if is_examined(result):
        raise FadeoutError("weights are of a run; examine leaves a module's own where they are")
    runs = with_run_dim(result, "weights")
    if runs.sizes["run"] > 1:
        raise FadeoutError("weights are of one run: results.isel(run=0)")
    result = runs.isel(run=0)
    if "last_kernel" not in result:
        raise FadeoutError("this run did not keep its weights: train it with keep=[weights]")
    found = {}
    for layer in range(1, int(result["depth"]) + 2):
        own = result.sel(layer=layer)
        kernel, bias = own["last_kernel"].values, own["last_bias"].values
        there = ~np.isnan(kernel)
        kernel = kernel[there.any(1)][:, there.any(0)]
        if not kernel.size or not np.isfinite(kernel).all():
            raise FadeoutError("this run kept no finite weights: none at all, or it diverged")
        found[f"kernel_{layer}"] = kernel
        found[f"bias_{layer}"] = bias[there.any(0)]
    more = [n for n in ("last_gain", "last_factor") if n in result and result[n].notnull().any()]
    if more:
        raise FadeoutError(
            "kernels and biases are not all of this network: its trained gains, shifts and factors "
            f"are in {', '.join(more)}"
        )
    return found


def identity_numbers(identities: Any) -> np.ndarray:
    """Identities as 64-bit numbers, which take an eighth of their memory."""
    return np.array([int(text, 16) for text in identities], np.uint64)
