"""Results on disk: one netCDF file per finished chunk, complete before it bears its name.

A file is written under another name, flushed to the disk and then renamed; its name is the hash
of the runs inside. The labels that hold for all its runs are in its attribute `config`, the others
are variables. Every number is guarded by a checksum.

What is read may come from anywhere: it is refused where it is not what a file of ours would be,
before anything large is read, and nothing outside the file is ever looked at.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr

from fadeout.config import NUMERICS, Run
from fadeout.extensions import source_text
from fadeout.files import is_abandoned, remove_abandoned, replace_file, temporary_name
from fadeout.registry import TABLES, FadeoutError, entry_function, format_value
from fadeout.sweeps.provenance import provenance, version
from fadeout.sweeps.results import (
    AXES,
    FAILED,
    STATUSES,
    VARIABLES,
    Part,
    axes_of,
    identity_numbers,
    join_parts,
    variable_attributes,
    variable_dims,
)

RESULTS_FOLDER = "results"
_MOST_TEXT = 4000
"""Characters of one text of the provenance: few and short attributes lie in the file's head, which
has a checksum; of many HDF5 makes a heap that has none, and that a flipped bit sends in circles."""

_FORMAT = "fadeout results, version 4"
_TEXTUAL = "fadeout results, version 2"
"""Its `id` and `status` were text, and nothing had a checksum."""

OLDER = ("fadeout results, version 3", _TEXTUAL)
"""Formats that are still read; all runs of a file were of one depth."""

_STATUS_FLAGS = {
    "flag_values": np.arange(len(STATUSES), dtype=np.int8),
    "flag_meanings": " ".join(STATUSES),
}


def check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be written, without making it.

    Raises:
      FadeoutError
    """
    folder = Path(folder).absolute()
    place = folder / RESULTS_FOLDER
    nearest = place
    try:
        while not nearest.exists():
            if nearest.is_symlink():
                raise FadeoutError(
                    f"results cannot go to {folder}: {nearest} is a link that leads nowhere"
                )
            nearest = nearest.parent
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


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[bool]:
    """Marks a folder as being written into, and sweeps up what killed writers have left there.

    Yields whether another process writes into it now.
    """
    place = Path(folder) / RESULTS_FOLDER
    mark = place / temporary_name("writer")
    made = [path for path in (place, place.parent) if not path.exists()]
    try:
        while True:
            place.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another's that ended has removed it
                mark.touch()
                break
        remove_abandoned(place)
        others = any(path != mark and not is_abandoned(path) for path in place.glob(".*.writer"))
    except OSError as error:
        raise FadeoutError(f"results cannot go to {folder}: {error.strerror}") from error
    try:
        yield others
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)
            for path in made:  # where nothing came of it
                path.rmdir()


class Known:
    """The identities that a folder holds; files are read once, however often it is asked."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.seen: set[Path] = set()
        self.found = np.empty(0, np.uint64)
        self.lock = threading.Lock()  # all threads that train ask

    def __call__(self) -> np.ndarray:
        with self.lock:
            new = [path for path in result_files(self.folder) if path not in self.seen]
            parts = [_identities(path) for path in new if FAILED not in path.stem]
            if parts:
                self.found = np.unique(np.concatenate([self.found, *parts]))
            self.seen.update(new)
            return self.found


def _identities(path: Path) -> np.ndarray:
    """Returns the identities of the runs in a file, as numbers."""
    with _open_file(path) as file:
        return _numbers_of(file["id"])


def stored_identities(folder: Path) -> np.ndarray:
    """Returns the identities of all runs stored in a folder, except failed ones."""
    return Known(folder)()


def count_outcomes(folder: Path, wanted: np.ndarray) -> Counter[str]:
    """Counts the stored statuses of the runs with these identities."""
    found: dict[int, str] = {}
    for path in sorted(result_files(folder), key=lambda path: FAILED not in path.stem):
        with _open_file(path) as file:
            own = _numbers_of(file["id"])
            inside = np.isin(own, wanted)
            words = _status_words(file["status"])[inside].tolist()
            found |= dict(zip(own[inside].tolist(), words, strict=True))
    return Counter(found.values())


def write_part(folder: Path, part: Part, **about: str) -> Path:
    """Writes one chunk under `folder`; a file that bears its name is complete.

    Args:
      about: provenance that the caller knows: device, lanes, ...

    Raises:
      FadeoutError: it cannot be written; nothing stored is touched.
    """
    ids = "".join(sorted(part.labels["id"]))
    status = part.get("status")
    suffix = "-failed" if FAILED in status else ""
    name = f"{hashlib.sha256(ids.encode()).hexdigest()[:16]}{suffix}.nc"
    path = Path(folder) / RESULTS_FOLDER / name
    told = provenance() | about | _user_sources(part.run)
    told = {name: text[:_MOST_TEXT] for name, text in told.items()}
    attributes = {
        "format": _FORMAT,
        "config": json.dumps(part.run.as_dict()),
        "protocol": json.dumps(study_protocol(part.run)),
        "provenance": json.dumps(told),
    }
    data: dict[str, tuple] = {
        name: (variable_dims(name), part.get(name), variable_attributes(name))
        for name in part.kinds
    }
    data |= {name: (("run",), values, {}) for name, values in part.labels.items()}
    data["id"] = (
        ("run",),
        identity_numbers(part.labels["id"]),
        {"long_name": "identity; hexadecimal in text"},
    )
    codes = np.array([STATUSES.index(word) for word in status.tolist()], np.int8)
    data["status"] = ("run",), codes, VARIABLES["status"] | _STATUS_FLAGS
    data |= {axis: ((axis,), part.axes[axis], words) for axis, words in AXES.items()}
    try:
        # HDF5 itself crashes the process where a disk fills up, so that it writes to memory
        replace_file(path, _netcdf(data, attributes))
    except OSError as error:
        raise FadeoutError(
            f"results could not be written to {path.parent}: {error.strerror or error}; "
            "what was stored before is whole, and the same command goes on from there"
        ) from error
    return path


def _user_sources(run: Run) -> dict[str, str]:
    """The source of every function of a user's own that a run uses, for people."""
    found = {}
    for source in run.sources:
        kind, name, *_ = source.split(" ")
        text = source_text(entry_function(TABLES[kind][name])) if name in TABLES[kind] else ""
        if text:
            found[f"source of {kind} {name}"] = text
    return found


def _netcdf(data: dict[str, tuple], attributes: dict[str, str]) -> memoryview:
    """The bytes of a netCDF-4 file of variables (dims, values, attributes), each with a checksum.

    Measured with 128 runs of 16 layers and ten probes, 9 MB, against the same without checksums: as
    many bytes, 1.0 to 1.8 times as long to make (0.1 s), 1.6 times as long to read (11 ms).
    """
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w", libver="v110") as file:
        for name, (along, values, words) in data.items():
            for dim, size in zip(along, values.shape, strict=True):
                if dim not in file.dimensions:
                    file.dimensions[dim] = size
            if values.dtype.kind in "OUT":  # errors: text has no checksum in HDF5
                variable = file.create_variable(name, along, h5py.string_dtype())
                variable[:] = values.astype(object)
            else:
                variable = file.create_variable(
                    name, along, data=values, chunks=_chunk_shape(values), fletcher32=True
                )
            variable.attrs.update(words)
        # of a fixed length, which lies in the file's head and not in a heap without a checksum
        file.attrs.update({name: np.bytes_(text) for name, text in attributes.items()})
    return buffer.getbuffer()


def _chunk_shape(values: np.ndarray) -> tuple[int, ...]:
    """The shape of what shares a checksum: all, or of very much some runs or steps."""
    shape = list(values.shape)
    for axis in range(len(shape)):
        while shape[axis] > 1 and values.dtype.itemsize * np.prod(shape, dtype=float) > 2**28:
            shape[axis] = -(-shape[axis] // 2)
    return tuple(shape)


def result_files(folder: Path) -> list[Path]:
    """The finished results files of a folder, in a fixed order."""
    return sorted((Path(folder) / RESULTS_FOLDER).glob("*.nc"))


def study_protocol(run: Run) -> dict[str, Any]:
    """Returns what all runs in one folder must share: how they are trained, what is recorded, and
    what a user's names stand for."""
    sources = {f"what is {s.rsplit(' ', 1)[0]}": s.rsplit(" ", 1)[1] for s in run.sources}
    recorded = {"probes": list(run.probes), "keep": list(run.keep)}
    return run.training.as_dict() | recorded | {"numerics": NUMERICS} | sources


def check_protocol(folder: Path, runs: Iterable[Run]) -> list[str]:
    """Refuses to mix two studies under one name.

    More activations, depths, seeds or rates widen a study. Another number of steps, loss or
    list of probes changes it, unless the runs asked for cover the stored value as well.

    Args:
      runs: one of each protocol that is asked for.

    Returns:
      A line for each function that another version of JAX traced as another program, so that its
      runs are trained again.

    Raises:
      FadeoutError: with the difference.
    """
    before: list[dict[str, Any]] = []
    traced_by: dict[str, str] = {}
    for path in result_files(folder):
        with _open_file(path) as file:
            before.append({"keep": []} | _protocol_of(file))
            for key in before[-1]:
                if key.startswith("what is "):
                    traced_by[f"{key} {before[-1][key]}"] = _about_of(file).get("version_jax", "")
    now = [json.loads(text) for text in {json.dumps(study_protocol(run)) for run in runs}]
    lines, notes = [], []
    for key in sorted({key for values in (*before, *now) for key in values}):
        stored, asked = (
            {json.dumps(values[key]) for values in side if key in values} for side in (before, now)
        )
        if stored and asked and not stored & asked:
            others = {traced_by.get(f"{key} {json.loads(value)}", "") for value in stored}
            if key.startswith("what is ") and version("jax") not in others | {""}:
                notes.append(
                    f"{key.removeprefix('what is ')} is another program for jax {version('jax')} "
                    f"than for {', '.join(sorted(others))}: its runs are trained again"
                )
                continue
            lines.append(f"  {key}: {', '.join(sorted(stored))} -> {', '.join(sorted(asked))}")
    if lines:
        raise FadeoutError(
            "\n".join([f"{folder} holds runs of another study (stored -> asked for):", *lines])
            + "\nchoose another name=..."
        )
    return notes


_HOW_TO_REPEAT = "move it away, and repeat the command that made the sweep to fill the gap"


@contextlib.contextmanager
def _open_file(path: Path) -> Iterator[h5py.File]:
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
    if form.startswith("fadeout results") and not _known_format(form):
        raise FadeoutError(f"{path} is of another version of fadeout ('{form}'): read it with that")
    if not _known_format(form) or "protocol" not in file.attrs:
        raise OSError(f"its format is not '{_FORMAT}'")
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


def _known_format(form: str) -> bool:
    return form in (_FORMAT, *OLDER)


_SHARED = {"steps", "record_every", "probes", "keep"}
"""Labels in which the runs of a file cannot differ: they say how large its variables are."""

_ALWAYS = dict.fromkeys((*VARIABLES, *AXES), "iuf") | {"id": "uO", "status": "iO", "error": "O"}


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


def _protocol_of(file: h5py.File) -> dict[str, Any]:
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
      folder: outputs/<name>, as the training named it.

    Returns:
      Dims run, step and layer. Variables: the recorded probes, `loss`, `accuracy`, `status`,
      `solved_step`, `diverged_step`, `diverged_layer`. Coordinates on run: every config value by
      its last word (`activation`, `depth`, `learning_rate`), `id` and `config`. Layers and steps
      that a run lacks are NaN.

    Raises:
      FadeoutError: nothing there, or a file that is cut off or not ours.

    >>> results = load("outputs/demo")  # doctest: +SKIP
    >>> results["delta_norm"].sel(step=0).mean("run")  # doctest: +SKIP
    """
    if not isinstance(folder, str | os.PathLike) or "\0" in str(folder):
        raise FadeoutError(f"load takes a folder, outputs/<name>, not {format_value(folder)}")
    folder = Path(folder)
    try:
        paths = result_files(folder)
    except OSError as error:
        raise FadeoutError(
            f"{format_value(str(folder))} cannot be read: {error.strerror}"
        ) from error
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
    with _open_file(path) as file:
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
        labels["id"] = np.array([f"{number:016x}" for number in _numbers_of(file["id"]).tolist()])
        status = _status_words(file["status"])
        return Part(
            run, labels, axes_of(run, lengths), variables,
            partial(_read_variable, path, {"status": status}), _about_of(file),
        )  # fmt: skip


def _about_of(file: h5py.File) -> dict[str, str]:
    """The provenance; of the older format, all attributes but the config."""
    texts: Any = dict(file.attrs)
    if _text_of(file, "format") != _TEXTUAL:
        try:
            found = json.loads(_text_of(file, "provenance"))
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise OSError("its provenance cannot be read") from error
        if not isinstance(found, dict):
            raise OSError("its provenance cannot be read")
        texts = found
    hidden = ("config", "_NCProperties")
    return {k: v for k, v in texts.items() if isinstance(v, str) and k not in hidden}


def _read_variable(path: Path, known: dict[str, np.ndarray], name: str) -> np.ndarray:
    """One variable of a file."""
    if name in known:
        return known[name]
    with _open_file(path) as file:
        return _values_of(file[name])


def _values_of(dataset: h5py.Dataset) -> np.ndarray:
    """Numbers as they are, text as text of a fixed length."""
    if h5py.check_string_dtype(dataset.dtype):
        return dataset.asstr()[:].astype(str)
    return dataset[:]


def _numbers_of(ids: h5py.Dataset) -> np.ndarray:
    """Identities as numbers."""
    return ids[:] if ids.dtype == np.uint64 else identity_numbers(_values_of(ids))


def _status_words(status: h5py.Dataset) -> np.ndarray:
    """Every run's status as a word."""
    values = _values_of(status)
    if values.dtype.kind != "U" and (values < 0).any():
        raise OSError("status is none of ours")
    words = values if values.dtype.kind == "U" else np.array(STATUSES)[values]
    if not set(words.tolist()) <= set(STATUSES):
        raise OSError("status is none of ours")
    return words
