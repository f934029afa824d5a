"""Results on disk: one netCDF file per finished chunk, complete before it bears its name.

A file is written under another name, flushed to the disk and then renamed; its name is the hash
of the runs inside. The labels that hold for all its runs are in its attribute `config`, the others
are variables.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr

from fadeout.config import NUMERICS, Run
from fadeout.provenance import provenance
from fadeout.registry import FadeoutError
from fadeout.results import AXES, DIMS, FAILED, VARIABLES, Part, dims, join, numbers

RESULTS = "results"
FORMAT = "fadeout results, version 2"


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


def save(folder: Path, part: Part, **about: str) -> Path:
    """Writes one chunk under `folder`, complete before it bears its name.

    Args:
      about: provenance that the caller knows: device, lanes, ...

    Raises:
      FadeoutError: it cannot be written; nothing stored is touched.
    """
    ids = "".join(sorted(part.labels["id"]))
    suffix = "-failed" if FAILED in part.get("status") else ""
    name = f"{hashlib.sha256(ids.encode()).hexdigest()[:16]}{suffix}.nc"
    path = Path(folder) / RESULTS / name
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
    attributes = provenance() | about | {"format": FORMAT}
    attributes |= {"protocol": json.dumps(protocol(part.run))}
    attributes |= {"config": json.dumps(part.run.as_dict())}
    data: dict[str, tuple] = {
        name: (dims(name), part.get(name), VARIABLES[name]) for name in part.kinds
    }
    data |= {name: (("run",), values, {}) for name, values in part.labels.items()}
    data |= {axis: ((axis,), getattr(part, axis), words) for axis, words in AXES.items()}
    try:
        # HDF5 itself crashes the process where a disk fills up, so that it writes to memory
        content = netcdf(data, attributes)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
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


def netcdf(data: dict[str, tuple], attributes: dict[str, str]) -> memoryview:
    """The bytes of a netCDF-4 file of variables (dims, values, attributes)."""
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        for name, (along, values, words) in data.items():
            for dim, size in zip(along, values.shape, strict=True):
                if dim not in file.dimensions:
                    file.dimensions[dim] = size
            if values.dtype.kind in "OUT":
                variable = file.create_variable(name, along, h5py.string_dtype())
                variable[:] = values.astype(object)
            else:
                variable = file.create_variable(name, along, data=values)
            variable.attrs.update(words)
        file.attrs.update(attributes)
    return buffer.getbuffer()


def files(folder: Path) -> list[Path]:
    """The finished results files of a folder, in a fixed order."""
    return sorted((Path(folder) / RESULTS).glob("*.nc"))


def stored(folder: Path) -> np.ndarray:
    """The identities of all runs that are stored in a folder, but for those that failed."""
    ids: list[np.ndarray] = [np.empty(0, np.uint64)]
    for path in files(folder):
        if FAILED not in path.stem:
            with open_results(path) as file:
                ids.append(numbers(file["id"].asstr()[:]))
    return np.unique(np.concatenate(ids))


def protocol(run: Run) -> dict[str, Any]:
    """What all runs under one name should share: how they are trained and what is recorded."""
    return dataclasses.asdict(run.training) | {"probes": list(run.probes), "numerics": NUMERICS}


def check_protocol(folder: Path, runs: Iterable[Run]) -> None:
    """Refuses to mix two studies under one name.

    More activations, depths, seeds or rates widen a study. Another number of steps, loss or
    list of probes changes it, unless the runs asked for cover the stored value as well.

    Args:
      runs: one of each protocol that is asked for.

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


def open_results(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
        whole = {"id", "step", "layer", "status"} <= set(file)
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

    Variables are read when they are first looked at.

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
    return join([head(path) for path in paths])


def head(path: Path) -> Part:
    """A file's labels and outcomes; what was recorded is read when asked for.

    Straight from HDF5, whose dims follow from our own format: xarray's reader takes ten times as
    long over files of many small variables.
    """
    with open_results(path) as file:
        inside = [name for name in file if name not in DIMS]
        variables = {name: file[name].dtype for name in inside if name in VARIABLES}
        about = {name: text for name, text in file.attrs.items() if not name.startswith("_")}
        run = Run.from_dict(json.loads(about.pop("config")))
        return Part(
            run,
            {name: values_of(file[name]) for name in inside if name not in VARIABLES},
            file["step"][:],
            file["layer"][:],
            variables,
            partial(read, path, {"status": values_of(file["status"])}),
            about,
        )


def read(path: Path, known: dict[str, np.ndarray], name: str) -> np.ndarray:
    """One variable of a file."""
    if name in known:
        return known[name]
    with open_results(path) as file:
        return values_of(file[name])


def values_of(dataset: h5py.Dataset) -> np.ndarray:
    """Numbers as they are, text as text of a fixed length."""
    if h5py.check_string_dtype(dataset.dtype):
        return dataset.asstr()[:].astype(str)
    return dataset[:]
