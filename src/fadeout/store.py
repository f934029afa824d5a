"""Results as labelled arrays: one netCDF file per finished chunk, one dataset when loaded.

A file is written under another name, flushed to the disk and then renamed, so that a file that
bears its name is complete. Its name is the hash of the runs inside.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from fadeout.config import NUMERICS, Run
from fadeout.probes import PROBES
from fadeout.provenance import provenance
from fadeout.registry import FadeoutError
from fadeout.training import Trace

RESULTS = "results"
FORMAT = "fadeout results, version 1"
FAILED = "failed"

UNITS = {"units": "1"}
VARIABLES = {
    "loss": {"long_name": "loss", **UNITS},
    "accuracy": {"long_name": "share of examples classified right", **UNITS},
    "status": {"long_name": "solved, unsolved, diverged or failed"},
    "error": {"long_name": "why a run failed"},
    "solved_step": {"long_name": "step since which every example is classified right"},
    "diverged_step": {"long_name": "step of the first value that is not finite"},
    "diverged_layer": {"long_name": "weight layer of the first value that is not finite"},
} | {
    name: {
        "long_name": probe.title,
        "layers": "hidden layers and readout" if probe.readout else "hidden layers",
        **UNITS,
    }
    for name, probe in PROBES.items()
}


def to_dataset(runs: Sequence[Run], trace: Trace) -> xr.Dataset:
    """What was recorded of runs of one batch, labelled.

    Returns:
      A dataset with dims run, step and layer (weight layers from 1; the readout is depth + 1), one
      variable per probe, and one coordinate on run per config value.
    """
    solved, diverged_step, diverged_layer = (
        np.where(np.asarray(value) < 0, np.nan, value) for value in trace.outcome
    )
    diverged = ~np.isnan(diverged_step)
    solved = np.where(diverged, np.nan, solved)
    status = np.where(diverged, "diverged", np.where(np.isnan(solved), "unsolved", "solved"))
    data = {
        "loss": (("run", "step"), np.transpose(trace.loss)),
        "accuracy": (("run", "step"), np.transpose(trace.accuracy)),
        "status": ("run", status),
        "solved_step": ("run", solved),
        "diverged_step": ("run", diverged_step),
        "diverged_layer": ("run", diverged_layer),
    } | {
        name: (("run", "step", "layer"), np.moveaxis(values, -1, 0))
        for name, values in trace.layers.items()
    }
    return describe(xr.Dataset(data, coordinates(runs), {"format": FORMAT}))


def failed_dataset(runs: Sequence[Run], error: str) -> xr.Dataset:
    """Runs of one batch that could not be trained: all labels, and the error."""
    count, training = len(runs), runs[0].training
    records = training.steps // training.record_every + 1
    data = {
        "loss": (("run", "step"), np.full((count, records), np.nan, np.float32)),
        "status": ("run", np.full(count, FAILED)),
        "error": ("run", np.full(count, error)),
    }
    return describe(xr.Dataset(data, coordinates(runs), {"format": FORMAT}))


def coordinates(runs: Sequence[Run]) -> dict[str, Any]:
    """The labels of runs of one batch, their steps and their weight layers."""
    training, depth = runs[0].training, runs[0].model.depth
    return {
        "step": np.arange(0, training.steps + 1, training.record_every),
        "layer": np.arange(1, depth + 2),
        "id": ("run", [run.identity() for run in runs]),
        "config": ("run", [json.dumps(run.as_dict()) for run in runs]),
        **label_coordinates(runs),
    }


def label_coordinates(runs: Sequence[Run]) -> dict[str, tuple[str, np.ndarray]]:
    """Every config value of the runs as an array; what a run lacks is NaN."""
    labels = [run.labels() for run in runs]
    return {key: ("run", column([row[key] for row in labels])) for key in labels[0]}


def column(values: list) -> np.ndarray:
    if any(isinstance(value, str) for value in values):
        return np.array(values, dtype=np.str_)
    if any(value is None for value in values):
        return np.array([np.nan if value is None else value for value in values], float)
    return np.array(values)


def describe(dataset: xr.Dataset) -> xr.Dataset:
    for name, attributes in VARIABLES.items():
        if name in dataset:
            dataset[name].attrs.update(attributes)
    for name in set(Run().labels()) & set(dataset.coords):
        dataset[name].attrs.update(long_name=str(name).replace("_", " "))
    dataset["step"].attrs.update(long_name="optimiser steps taken", units="1")
    dataset["layer"].attrs.update(long_name="weight layer; the readout is depth + 1", units="1")
    return dataset


def check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be written, without making it.

    Raises:
      FadeoutError
    """
    folder = Path(folder).absolute()
    place = folder / RESULTS
    try:
        nearest = next(path for path in (place, *place.parents) if path.exists())
    except OSError as error:
        raise FadeoutError(f"results cannot go to {folder}: {error.strerror}") from error
    if not nearest.is_dir():
        raise FadeoutError(f"results cannot go to {folder}: {nearest} is a file, not a folder")
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise FadeoutError(
            f"results cannot go to {folder}: {nearest} is not writable ({error.strerror}); "
            "choose another place with outputs=..."
        ) from error


def save(folder: Path, dataset: xr.Dataset, **about: str) -> Path:
    """Writes one chunk's dataset under `folder`, complete before it bears its name.

    Args:
      about: provenance that the caller knows: device, lanes, ...

    Raises:
      FadeoutError: it cannot be written; nothing stored is touched.
    """
    ids = "".join(sorted(dataset["id"].values))
    failed = "-failed" if (dataset["status"] == FAILED).any() else ""
    name = f"{hashlib.sha256(ids.encode()).hexdigest()[:16]}{failed}.nc"
    path = Path(folder) / RESULTS / name
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        run = Run.from_dict(json.loads(dataset["config"].values[0]))
        about = provenance() | about | {"protocol": json.dumps(protocol(run))}
        dataset.assign_attrs(about).to_netcdf(partial, engine="h5netcdf")
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise FadeoutError(
            f"results could not be written to {path.parent}: {error.strerror or error}; "
            "what was stored before is whole, and the same command goes on from there"
        ) from error
    return path


def files(folder: Path) -> list[Path]:
    """The finished results files of a folder, in a fixed order."""
    return sorted((Path(folder) / RESULTS).glob("*.nc"))


def stored_ids(folder: Path) -> set[str]:
    """The identities of all runs that are stored in a folder, but for those that failed."""
    ids: set[str] = set()
    for path in files(folder):
        with open_results(path) as file:
            if FAILED not in path.stem:
                ids.update(file["id"].asstr()[:])
    return ids


def protocol(run: Run) -> dict[str, Any]:
    """What all runs under one name should share: how they are trained and what is recorded."""
    return dataclasses.asdict(run.training) | {"probes": list(run.probes), "numerics": NUMERICS}


def check_protocol(folder: Path, runs: Iterable[Run]) -> None:
    """Refuses to mix two studies under one name.

    More activations, depths, seeds or rates widen a study. Another number of steps, loss or
    list of probes changes it, unless the runs asked for cover the stored value as well.

    Raises:
      FadeoutError: with the difference.
    """
    before: list[dict[str, Any]] = []
    for path in files(folder):
        with open_results(path) as file:
            before.append(json.loads(file.attrs["protocol"]))
    now = [json.loads(text) for text in {json.dumps(protocol(run)) for run in runs}]
    lines = []
    for key in protocol(Run()) if before and now else ():
        stored, asked = ({json.dumps(values[key]) for values in side} for side in (before, now))
        if not stored & asked:
            lines.append(f"  {key}: {', '.join(sorted(stored))} -> {', '.join(sorted(asked))}")
    if lines:
        raise FadeoutError(
            "\n".join([f"{folder} holds runs of another study (stored -> asked for):", *lines])
            + "\nchoose another name=..."
        )


def pending(folder: Path, runs: Iterable[Run]) -> list[Run]:
    """The runs that are not stored yet, each once, in order."""
    have = stored_ids(folder)
    return list({run.identity(): run for run in runs if run.identity() not in have}.values())


def open_results(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
        whole = {"id", "config", "step", "layer", "status"} <= set(file)
        if file.attrs.get("format") != FORMAT or "protocol" not in file.attrs or not whole:
            file.close()
            raise OSError(f"its format is not '{FORMAT}'")
    except OSError as error:
        raise FadeoutError(
            f"{path} is cut off or no results file of fadeout ({str(error).splitlines()[0]}); "
            "move it away, and repeat the command that made the sweep to fill the gap"
        ) from error
    return file


def load(folder: str | Path) -> xr.Dataset:
    """All results under a folder as one dataset.

    Args:
      folder: outputs/<name>, as the training named it.

    Returns:
      Dims run, step and layer. Variables: the recorded probes, `loss`, `accuracy`, `status`,
      `solved_step`, `diverged_step`, `diverged_layer`. Coordinates on run: every config value by
      its last word (`activation`, `depth`, `learning_rate`), `id` and `config`. Layers and steps
      that a run lacks are NaN.

    Raises:
      FadeoutError: nothing there, or a file that is cut off or not ours.
    """
    folder = Path(folder)
    paths = files(folder)
    if not paths:
        raise FadeoutError(
            f"no results under {folder}: expected {folder / RESULTS}/*.nc, "
            "as python scripts/train.py name=... writes them"
        )
    return in_order(merge([read(path) for path in paths]))


def read(path: Path) -> xr.Dataset:
    """One results file.

    Straight from HDF5, whose dims follow from our own format: xarray's reader takes ten times as
    long over files of many small variables.
    """
    with open_results(path) as file:
        arrays = {}
        for name, stored in file.items():
            if name in ("run", "step", "layer"):
                dims: tuple[str, ...] = (name,)
            else:
                dims = ("run", "step", "layer")[: stored.ndim]
            text = h5py.check_string_dtype(stored.dtype)
            arrays[name] = dims, stored.asstr()[:] if text else stored[:]
        about = {name: text for name, text in file.attrs.items() if not name.startswith("_")}
    arrays.pop("run", None)  # a bare dimension
    dataset = xr.Dataset({name: pair for name, pair in arrays.items() if name in VARIABLES})
    labels = {name: pair for name, pair in arrays.items() if name not in VARIABLES}
    return dataset.assign_coords(labels).assign_attrs(about)


def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Datasets joined along run; a step or layer that one of them lacks is NaN there."""
    axes = {
        dim: np.unique(np.concatenate([part[dim].values for part in parts]))
        for dim in ("step", "layer")
    }
    count = sum(part.sizes["run"] for part in parts)
    data: dict[str, tuple] = {}
    for name in dict.fromkeys(name for part in parts for name in part.variables):
        if name in axes:
            continue
        dims = next(part[name].dims for part in parts if name in part.variables)
        columns = [part[name].values if name in part.variables else None for part in parts]
        if dims == ("run",):
            known = next(values for values in columns if values is not None)
            missing = "" if known.dtype.kind in "OUT" else np.nan
            filled = [
                np.full(part.sizes["run"], missing) if values is None else values
                for part, values in zip(parts, columns, strict=True)
            ]
            data[name] = dims, np.concatenate(filled)
            continue
        kind = np.result_type(*[values.dtype for values in columns if values is not None])
        whole = np.full((count, *(axes[dim].size for dim in dims[1:])), np.nan, kind)
        start = 0
        for part, values in zip(parts, columns, strict=True):
            stop = start + part.sizes["run"]
            if values is not None:
                where = [np.searchsorted(axes[dim], part[dim].values) for dim in dims[1:]]
                whole[np.ix_(np.arange(start, stop), *where)] = values
            start = stop
        data[name] = dims, whole
    coordinates = {name for part in parts for name in part.coords} - axes.keys()
    merged = xr.Dataset(
        {name: value for name, value in data.items() if name not in coordinates},
        axes | {name: value for name, value in data.items() if name in coordinates},
        joined_attributes(parts),
    )
    return describe(merged)


def joined_attributes(parts: Sequence[xr.Dataset]) -> dict[str, str]:
    """The provenance of all parts; where they differ, every value."""
    names = dict.fromkeys(name for part in parts for name in part.attrs)
    values = {n: dict.fromkeys(str(p.attrs[n]) for p in parts if n in p.attrs) for n in names}
    return {str(name): "; ".join(texts) for name, texts in values.items()}


def in_order(dataset: xr.Dataset) -> xr.Dataset:
    """The runs sorted by their labels, whatever file they lay in.

    Each identity comes once: a run that failed first and succeeded later has succeeded.
    """
    labels = [name for name in Run().labels() if name in dataset.coords]
    keys = [
        dataset[name].values.astype(str)
        if dataset[name].dtype.kind in "OUT"
        else dataset[name].values
        for name in labels
    ]
    failed = dataset["status"].values == FAILED
    order = np.lexsort([failed, dataset["id"].values.astype(str), *reversed(keys)])
    _, first = np.unique(dataset["id"].values[order].astype(str), return_index=True)
    return dataset.isel(run=order[np.sort(first)])


def only(dataset: xr.Dataset, runs: Sequence[Run]) -> xr.Dataset:
    """The part of a dataset that belongs to these runs."""
    return dataset.isel(run=dataset["id"].isin([run.identity() for run in runs]).values)


def final(values: xr.DataArray) -> xr.DataArray:
    """The values at each run's last recorded step."""
    last = values["steps"] if "steps" in values.coords else values["step"].max()
    return values.sel(step=last)
