"""Results files are read here, and refused where they are not what this package would write.

What is read may come from anywhere: it is checked before anything large is read, and nothing
outside the file is ever looked at.
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from fadeout.config import Run
from fadeout.registry import FadeoutError, format_value
from fadeout.sweeps.joining import join_parts
from fadeout.sweeps.networks import NETWORK_FILE, load_network
from fadeout.sweeps.parts import Part
from fadeout.sweeps.variables import (
    AXES,
    STATUSES,
    VARIABLES,
    axes_of,
    variable_dims,
)

RESULTS_FOLDER = "results"

FORMAT = "fadeout results, version 4"


def result_files(folder: Path) -> list[Path]:
    """The finished results files of a folder, in a fixed order."""
    return sorted((Path(folder) / RESULTS_FOLDER).glob("*.nc"))


_HOW_TO_REPEAT = "move it away, and repeat the command that made the sweep to fill the gap"


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """A results file, of which only what ours would hold may be looked at.

    Raises:
      FadeoutError: one line that names the file, for whatever is wrong with it.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FadeoutError(f"{path} is no regular file: {_HOW_TO_REPEAT}")
        with h5py.File(path, "r") as file:
            _check_format(path, file)
            yield file
    except FadeoutError:
        raise
    except PermissionError as error:
        raise FadeoutError(f"{path} cannot be read: Permission denied") from error
    except FileNotFoundError as error:
        raise FadeoutError(f"{path} is gone: load the folder again") from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, BlockingIOError) or "unable to lock" in str(error):
            raise FadeoutError(
                f"{path} is held by another program that writes to it: wait until it is done"
            ) from error
        number = getattr(error, "errno", None)
        if number in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE):
            raise FadeoutError(f"{path} cannot be read: {os.strerror(number)}") from error
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FadeoutError(
            f"{path} is cut off, damaged or no results file of fadeout ({why}); {_HOW_TO_REPEAT}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, IndexError) as error:
        why = " ".join(str(error).split())[:200]
        raise FadeoutError(
            f"{path} is damaged or no results file of fadeout ({type(error).__name__}: {why}); "
            f"{_HOW_TO_REPEAT}"
        ) from error


def _check_format(path: Path, file: h5py.File) -> None:
    form = _text_of(file, "format") if "format" in file.attrs else ""
    if form.startswith("fadeout results") and form != FORMAT:
        raise FadeoutError(f"{path} is of another version of fadeout ('{form}'): read it with that")
    if form != FORMAT or "protocol" not in file.attrs:
        raise OSError(f"its format is not '{FORMAT}'")
    kinds = _expected_variables(_config_of(file))
    for name in file:
        if name in kinds:
            _check_dataset(path, file, name)
    if not {"id", *AXES, "status"} <= set(file):
        raise OSError("it lacks a variable")
    _check_kinds(file, kinds)


def _text_of(file: h5py.File, name: str) -> str:
    """A text among the attributes, of either kind that HDF5 has.

    Raises:
      OSError: it is none.
    """
    value = file.attrs[name]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise OSError(f"its {name} is no text")
    return value


_SHARED = {"steps", "record_every", "probes", "keep"}
"""Labels in which the runs of a file cannot differ: they say how large its variables are."""

_ALWAYS = dict.fromkeys((*VARIABLES, *AXES), "iuf") | {"id": "u", "status": "i", "error": "O"}


def _expected_variables(run: Run) -> dict[str, str]:
    """The variables that a file of runs like this may have and their kinds of values; no other is
    read."""
    labels = {
        name: "biuf" if isinstance(value, int | float) else "O"
        for name, value in run.labels().items()
    }
    return _ALWAYS | dict.fromkeys(run.probes, "iuf") | labels


def _check_dataset(path: Path, file: h5py.File, name: str) -> None:
    """Refuses a variable that leads out of the file, or says to be larger than it."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise OSError(f"{name} is a link to elsewhere")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise OSError(f"the values of {name} lie elsewhere")
    if dataset.dtype.kind not in "biufO" or dataset.dtype.fields is not None:
        raise OSError(f"{name} is not of numbers or text")
    if dataset.dtype.kind == "O" and not h5py.check_string_dtype(dataset.dtype):
        raise OSError(f"{name} is not of numbers or text")
    if dataset.size is None or dataset.size * dataset.dtype.itemsize > path.stat().st_size:
        raise OSError(f"{name} says to be larger than the file")


def _check_kinds(file: h5py.File, kinds: dict[str, str]) -> None:
    """Refuses variables whose values are not of the kind that ours have."""
    if file["id"].ndim != 1:
        raise OSError("id is no row of numbers")
    for name in kinds.keys() & set(file):
        if file[name].dtype.kind not in kinds[name]:
            raise OSError(f"{name} has values of another kind")


def _check_sizes(file: h5py.File, run: Run) -> None:
    """Refuses variables that are not as the config says: shapes, steps, layers and the labels that
    all runs share."""
    axes = axes_of(run, {})
    size = {"run": file["id"].size} | {axis: values.size for axis, values in axes.items()}
    kinds = _expected_variables(run)
    for name in file:
        if name in kinds:
            label = name not in VARIABLES and name not in run.probes
            along = (name,) if name in AXES else ("run",) if label else variable_dims(name)
            for dim, length in zip(along, file[name].shape, strict=False):
                size.setdefault(dim, length)  # of a kernel, which its variables must share
            wanted = tuple(size.get(dim, 0) for dim in along)
            if file[name].shape != wanted:
                raise OSError(f"{name} has the shape {file[name].shape}, and not {wanted}")
    if own := _SHARED & set(file):
        raise OSError(f"{', '.join(sorted(own))} should be one for all its runs")
    if "depth" in file and not np.isin(file["depth"][:], np.arange(1, run.model.depth + 1)).all():
        raise OSError("a run is deeper than its variables")
    for name, wanted in axes.items():
        if not np.array_equal(file[name][:], wanted):
            raise OSError(f"{name} is not as its config says")


def _config_of(file: h5py.File) -> Run:
    """The config that all runs of a file share.

    Raises:
      OSError: it is none.
    """
    try:
        found = json.loads(_text_of(file, "config"))
        if not isinstance(found, dict):
            raise FadeoutError("not a group of keys")
        return Run.from_dict(found)
    except (FadeoutError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise OSError(f"its config cannot be read: {' '.join(str(error).split())[:200]}") from error


def protocol_of(file: h5py.File) -> dict[str, Any]:
    try:
        found = json.loads(_text_of(file, "protocol"))
    except (ValueError, TypeError, RecursionError) as error:
        raise OSError("its protocol cannot be read") from error
    if not isinstance(found, dict):
        raise OSError("its protocol cannot be read")
    return found


def load(folder: str | Path) -> xr.Dataset:
    """All results under a folder as one dataset.

    Variables are read when they are first looked at.

    Args:
      folder: outputs/<name>, as the training named it; or what a watch has saved.

    Returns:
      Of a watch, its `results`. Of runs:
      Dims run, step and layer. Variables: the recorded probes, `loss`, `accuracy`, `status`,
      `solved_step`, `diverged_step`, `diverged_layer`. Coordinates on run: every config value by
      its last word (`activation`, `depth`, `learning_rate`), `id` and `config`. Layers and steps
      that a run lacks are NaN.

    Raises:
      FadeoutError: there are no results, or a file is cut off or not written by fadeout.

    >>> results = load("outputs/demo")  # doctest: +SKIP
    >>> results["delta_norm"].sel(step=0).mean("run")  # doctest: +SKIP
    """
    if not isinstance(folder, str | os.PathLike) or "\0" in str(folder):
        raise FadeoutError(f"load takes a folder, outputs/<name>, not {format_value(folder)}")
    folder = Path(folder)
    if folder.is_file():
        return load_network(folder)
    try:
        paths = result_files(folder)
    except OSError as error:
        raise FadeoutError(
            f"{format_value(str(folder))} cannot be read: {error.strerror}"
        ) from error
    if not paths and (folder / NETWORK_FILE).is_file():
        return load_network(folder / NETWORK_FILE)
    if not paths:
        raise FadeoutError(
            f"no results under {folder}: expected {folder / RESULTS_FOLDER}/*.nc, "
            "as fadeout train name=... writes them"
        )
    return join_parts([read_labels(path) for path in paths])


def read_labels(path: Path) -> Part:
    """A file's labels and outcomes; what was recorded is read when asked for.

    Straight from HDF5, whose dims follow from our own format: xarray's reader takes ten times as
    long over files of many small variables.
    """
    with open_file(path) as file:
        run = _config_of(file)
        _check_sizes(file, run)
        ours = [name for name in file if name in _expected_variables(run)]
        recorded = [name for name in ours if name in VARIABLES or name in run.probes]
        variables = {name: file[name].dtype for name in recorded}
        variables["status"] = np.dtype(str)
        lengths = {
            dim: n
            for name in recorded
            for dim, n in zip(variable_dims(name), file[name].shape, strict=True)
        }
        labels = {n: _values_of(file[n]) for n in ours if n not in recorded and n not in AXES}
        labels["id"] = np.array([f"{number:016x}" for number in file["id"][:].tolist()])
        status = status_words(file["status"])
        return Part(
            run, labels, axes_of(run, lengths), variables,
            partial(_read_variable, path, {"status": status}), provenance_of(file),
        )  # fmt: skip


def provenance_of(file: h5py.File) -> dict[str, str]:
    """The provenance."""
    try:
        found = json.loads(_text_of(file, "provenance"))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise OSError("its provenance cannot be read") from error
    if not isinstance(found, dict):
        raise OSError("its provenance cannot be read")
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _read_variable(path: Path, known: dict[str, np.ndarray], name: str) -> np.ndarray:
    """One variable of a file."""
    if name in known:
        return known[name]
    with open_file(path) as file:
        return _values_of(file[name])


def _values_of(dataset: h5py.Dataset) -> np.ndarray:
    """Numbers as they are, text as text of a fixed length."""
    if h5py.check_string_dtype(dataset.dtype):
        return dataset.asstr()[:].astype(str)
    return dataset[:]


def status_words(status: h5py.Dataset) -> np.ndarray:
    """Every run's status as a word."""
    codes = status[:]
    if not np.isin(codes, np.arange(len(STATUSES))).all():
        raise OSError("status is none of ours")
    return np.array(STATUSES)[codes]
