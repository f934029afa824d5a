"""Parts joined to one dataset of run, step and layer, and sweeps joined to one."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from fadeout.config import Run
from fadeout.networks.probes import PROBES
from fadeout.sweeps.parts import Part
from fadeout.sweeps.variables import AXES, FAILED, VARIABLES, variable_attributes, variable_dims


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
