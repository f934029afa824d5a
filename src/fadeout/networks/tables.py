"""Examples from a file: CSV by column, or npz."""

import functools
import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fadeout.registry import FadeoutError, lookup


class Table(NamedTuple):
    """A file of examples.

    Attributes:
      inputs: [example, feature], in float64.
      targets: [example].
      classes: how many; 0 where the targets are any number.
      digest: a hash of the file's content.
    """

    inputs: np.ndarray
    targets: np.ndarray
    classes: int
    digest: str


MOST_CLASSES = 100


def read_table(file: str, target: str, regression: bool, **_) -> Table:
    """Examples of a CSV or npz file.

    Raises:
      FadeoutError: there is no such file, or something in it is no number; the message names the
        column and the row.
    """
    if not file:
        raise FadeoutError("task=table needs its file: task.file=data.csv, or .npz")
    path = Path(file).expanduser()
    try:
        status = path.stat()
        return read_file(path.absolute(), status.st_mtime_ns, status.st_size, target, regression)
    except OSError as error:
        raise FadeoutError(f"task.file={file} cannot be read: {error.strerror}") from error


@functools.lru_cache(maxsize=16)
def read_file(path: Path, changed: int, size: int, target: str, regression: bool) -> Table:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    frame = frame_of(path, content)
    name = target or str(frame.columns[-1])
    if name not in frame:
        lookup(dict.fromkeys(map(str, frame.columns)), name, f"column of {path.name}")
    features = frame.drop(columns=name)
    if not features.shape[1] or not len(frame):
        raise FadeoutError(f"{path.name} needs a row, and a column of features besides {name}")
    inputs = np.stack([numbers_of(features[c], path) for c in features], axis=1)
    targets, classes = targets_of(frame[name], path, regression)
    return Table(inputs, targets, classes, digest)


def arrays_in(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name.

    Raises:
      FadeoutError: it is none; a single array, as of an npy file, is none either.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    except (ValueError, OSError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise FadeoutError(f"{path.name} is no npz file of numbers: {error}") from error


def frame_of(path: Path, content: bytes) -> pd.DataFrame:
    """A table with a name for every column."""
    if path.suffix == ".npz":
        arrays = arrays_in(path, content)
        lacking = [name for name in ("inputs", "targets") if name not in arrays]
        if lacking:
            raise FadeoutError(
                f"{path.name} must hold the arrays inputs [example, feature] and targets "
                f"[example], not {', '.join(arrays) or 'nothing'}"
            )
        inputs, targets = arrays["inputs"], arrays["targets"]
        if inputs.dtype.kind not in "biuf":
            raise FadeoutError(f"{path.name}: inputs must be real numbers, not {inputs.dtype}")
        if inputs.ndim != 2 or targets.shape != inputs.shape[:1]:
            raise FadeoutError(
                f"{path.name}: inputs must be [example, feature] and targets [example], not "
                f"{inputs.shape} and {targets.shape}"
            )
        frame = pd.DataFrame(inputs).rename(columns=str)
        return frame.assign(targets=targets)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frame = pd.read_csv(
                io.BytesIO(content), skipinitialspace=True, index_col=False, dtype=str,
                keep_default_na=False, encoding="utf-8-sig",
            )  # fmt: skip
    except (ValueError, Warning) as error:
        raise FadeoutError(f"{path.name} is no CSV table: {str(error).splitlines()[0]}") from error
    frame = frame.rename(columns=lambda name: str(name).strip())
    for mark in ";\t":
        if frame.shape[1] == 1 and mark in frame.columns[0]:
            raise FadeoutError(f"{path.name} is separated by {mark!r}: write it with commas")
    numeric = [name for name in frame.columns if pd.notna(pd.to_numeric(name, errors="coerce"))]
    if numeric:
        raise FadeoutError(
            f"{path.name} begins with numbers, as {numeric[0]}: its first row must name the columns"
        )
    return frame.apply(lambda column: column.str.strip())


def numbers_of(column: pd.Series, path: Path) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        found = column.iloc[bad[0]]
        said = "nothing" if pd.isna(found) or found == "" else repr(str(found))
        raise FadeoutError(
            f"{path.name}, column {column.name}, row {bad[0] + 1}: a finite number is needed, not "
            f"{said}" + (f" ({bad.size} such rows)" if bad.size > 1 else "")
        )
    return values


def targets_of(column: pd.Series, path: Path, regression: bool) -> tuple[np.ndarray, int]:
    """A class number for each word or whole number, or the numbers as they are."""
    if regression:
        return numbers_of(column, path), 0
    words = column.astype(str)
    if (words == "").any() or column.isna().any():
        row = int(np.flatnonzero((words == "") | column.isna())[0])
        where = f"{path.name}, column {column.name}, row {row + 1}"
        raise FadeoutError(f"{where}: the target is missing")
    numbers = pd.to_numeric(words, errors="coerce")
    if numbers.notna().all() and column.dtype.kind != "b":
        if (numbers % 1 != 0).any():
            return numbers_of(column, path), 0
        words = numbers  # so that 10 stands after 9
    classes, place = np.unique(words, return_inverse=True)
    if classes.size < 2:
        raise FadeoutError(f"{path.name}: all targets are of one class, {classes[0]}")
    if classes.size > MOST_CLASSES:
        raise FadeoutError(
            f"{path.name}, column {column.name} has {classes.size} different values, too many for "
            "classes: task.regression=true takes them as numbers"
        )
    return place, classes.size
