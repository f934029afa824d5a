"""Examples from a file: CSV by column, or npz.

What a table leaves open is answered with an error that names the column and the row, never guessed.
"""

import csv
import functools
import hashlib
import io
import math
import re
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fadeout.files import read_regular
from fadeout.registry import FadeoutError, lookup, printable
from fadeout.schema import LARGEST_NUMBER


class _Table(NamedTuple):
    """A file of examples.

    Attributes:
      inputs: [example, feature], in float64.
      targets: [example].
      classes: the number of classes; 0 where the targets are any number.
      digest: a hash of the file's content.
      about: one line of what was read: features, classes with their counts, what was left out.
    """

    inputs: np.ndarray
    targets: np.ndarray
    classes: int
    digest: str
    about: str


class _Targets(NamedTuple):
    """The targets of a table or of arrays.

    Attributes:
      targets: [example]: a class number, or any number.
      names: of the classes, in order; empty where the targets are any number.
    """

    targets: np.ndarray
    names: tuple[str, ...]

    def about(self) -> str:
        """Describes the targets: classes with their counts, or a range of numbers.

        >>> _Targets(np.array([0, 1, 1]), ("no", "yes")).about()
        'classes no (1), yes (2)'
        """
        if not self.names:
            low, high = self.targets.min(), self.targets.max()
            return f"numbers from {low:.6g} to {high:.6g}"
        counts = np.bincount(self.targets.astype(int), minlength=len(self.names))
        shown = [f"{n} ({c})" for n, c in zip(self.names, counts, strict=True)]
        more = f", ... {len(shown) - 10} more" if len(shown) > 10 else ""
        return f"classes {', '.join(shown[:10])}{more}"


MAX_CLASSES = 100
_MANY_ROWS = 8
"""Rows from which on a column that counts them is hardly a coincidence."""

MAX_BYTES = 2 * 2**30
"""Files beyond this size are refused, also when they are unpacked."""

_MISSING = frozenset((
    "", "?", "-", "--", "\u2013", "\u2014", ".", "..", "na", "n/a", "<na>", "nan", "null", "none",
    "missing", "#n/a", "#value!", "#ref!", "#div/0!", "#name?", "#num!", "#null!",
))  # fmt: skip
"""Entries that stand for a value that is not known, in lower case."""

_ROW_NAMES = frozenset((
    "", "index", "idx", "id", "row", "rows", "rownames", "no", "no.", "nr", "nr.", "#", "s.no.",
    "sno", "sample", "unnamed: 0", "unnamed: 0.1", "\u5e8f\u53f7", "\u7f16\u53f7",
))  # fmt: skip
"""Names of a column that counts the rows, in lower case."""


def read_table(
    file: str, target: str = "", regression: bool = False, drop: str = "", **_
) -> _Table:
    """Reads the examples of a CSV or npz file.

    Args:
      file: its path.
      target: the column to learn; the last, if none is named.
      regression: whether whole numbers are numbers and not classes.
      drop: columns that are left out, separated by commas.

    Raises:
      FadeoutError: there is no such file, or something in it is no number; the message names the
        column and the row.
    """
    if not file:
        raise FadeoutError("task=table needs its file: task.file=data.csv, or .npz")
    try:
        path = Path(file).expanduser()
        status = path.stat()
        changed = status.st_mtime_ns, status.st_size, status.st_ino
        return _read_file(path.absolute(), changed, target, regression, drop)
    except (OSError, ValueError, RuntimeError) as error:  # no home, or a name that none can have
        if isinstance(error, FadeoutError):
            raise
        why = getattr(error, "strerror", None) or error
        raise FadeoutError(f"task.file={printable(file)} cannot be read: {why}") from error


@functools.lru_cache(maxsize=16)
def _read_file(
    path: Path, changed: tuple[int, ...], target: str, regression: bool, drop: str
) -> _Table:
    content = read_regular(path, MAX_BYTES)
    digest = hashlib.sha256(content).hexdigest()[:16]
    left_out: list[str] = []
    if path.suffix.lower() == ".npz":
        if drop or target not in ("", "targets"):
            raise FadeoutError(
                f"{path.name} holds inputs and targets: task.target and task.drop are of a CSV"
            )
        columns, labels = _examples_of_npz(path, content, regression)
        name = "targets"
    else:
        columns = _columns_of_csv(path, content, left_out)
        name = target or list(columns)[-1]
        if name not in columns:
            lookup(dict.fromkeys(columns), name, f"column of {path.name}")
        for word in filter(None, (w.strip() for w in drop.split(","))):
            if word == name:
                raise FadeoutError(f"task.drop={word} is the column to learn")
            lookup(dict.fromkeys(columns), word, f"column of {path.name}")
            left_out.append(f"{word} (task.drop)")
            del columns[word]
        column = columns.pop(name)
        _drop_row_numbers(columns, left_out)
        _drop_second_targets(columns, name, column, left_out)
        if not columns or not len(column):
            raise FadeoutError(f"{path.name} needs a row, and a column of features besides {name}")
        labels = parse_targets(column, f"{path.name}, column {name}", regression)
    inputs = np.stack([_numbers(c, f"{path.name}, column {n}") for n, c in columns.items()], 1)
    features = list(columns)
    shown = ", ".join(features[:8]) + (f", ... {len(features) - 8} more" if features[8:] else "")
    about = (
        f"{path.name}: {len(inputs)} examples; {name}: {labels.about()}; "
        f"{len(features)} feature{'s' * (len(features) > 1)}: {shown}"
        + (f"; left out: {', '.join(left_out)}" if left_out else "")
    )
    copies = [n for n, own in zip(columns, inputs.T, strict=True) if _copies(own, labels.targets)]
    if copies and labels.names and len(inputs) >= _MANY_ROWS:
        about += f"; {copies[0]} tells the target in every row: if it is no feature, task.drop="
        about += copies[0]
    counting = [n for n in columns if len(inputs) >= _MANY_ROWS and _counts_rows(columns[n])]
    if counting:
        about += f"; {counting[0]} numbers the rows: if it is no feature, task.drop={counting[0]}"
    return _Table(inputs, labels.targets, len(labels.names), digest, about)


# --- files


def arrays_in(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name.

    Raises:
      FadeoutError: it is none, or says to hold more than it does; a single array, as of an npy
        file, is none either.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise FadeoutError(f"{path.name} unpacks to more than {MAX_BYTES >> 30} GiB")
            for member in archive.infolist():
                _check_header(archive, member)
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    except (ValueError, OSError, TypeError, AttributeError, EOFError, MemoryError, OverflowError,
            zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # fmt: skip
        if isinstance(error, FadeoutError):
            raise
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FadeoutError(f"{path.name} is no npz file of numbers: {why}") from error


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuses an array whose header promises more than the file holds."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
            np.lib.format.read_array_header_2_0
        )  # fmt: skip
        shape, _, dtype = read(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} is cut off: its header says {shape}")


def _examples_of_npz(
    path: Path, content: bytes, regression: bool
) -> tuple[dict[str, np.ndarray], _Targets]:
    arrays = arrays_in(path, content)
    if lacking := [name for name in ("inputs", "targets") if name not in arrays]:
        raise FadeoutError(
            f"{path.name} must hold the arrays inputs [example, feature] and targets [example], "
            f"not {', '.join(arrays) or 'nothing'} (it lacks {' and '.join(lacking)})"
        )
    inputs, targets = check_shapes(arrays["inputs"], arrays["targets"], path.name)
    labels = parse_targets(targets, f"{path.name}, targets", regression)
    return {str(i): column for i, column in enumerate(inputs.T)}, labels


def check_shapes(
    inputs: np.ndarray, targets: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [example, feature] and targets [example]; a column [example, 1] of targets is one.

    Raises:
      FadeoutError: they have other shapes, or the inputs are no real numbers.
    """
    if np.ma.is_masked(inputs) or np.ma.is_masked(targets):
        raise FadeoutError(f"{where}: some values are masked: leave those examples out")
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if inputs.dtype.kind not in "biuf":
        raise FadeoutError(f"{where}: inputs must be real numbers, not {inputs.dtype}")
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1] or not inputs.size:
        raise FadeoutError(
            f"{where}: inputs must be [example, feature] and targets [example], not "
            f"{inputs.shape} and {targets.shape}"
        )
    return inputs, targets


def _columns_of_csv(path: Path, content: bytes, left_out: list[str]) -> dict[str, np.ndarray]:
    """The columns of a table by name, as text.

    Args:
      left_out: filled with the columns that are none.
    """
    text = _decoded(path, content)
    separator, text = _separator(text)
    try:
        rows = _split(text, separator)
    except csv.Error as error:
        why = "a quote is not closed" if "unexpected end" in str(error) else error
        raise FadeoutError(f"{path.name} is no CSV table: {why}") from error
    if not rows:
        raise FadeoutError(f"{path.name} is no CSV table: it is empty")
    header, rows = rows[0], rows[1:]
    said = {",": "commas", "\t": "tabs", " ": "blanks"}.get(separator, repr(separator))
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise FadeoutError(
                f"{path.name} is no CSV table: row {number} has {len(row)} values and the header "
                f"{len(header)}; it was read as separated by {said}"
            )
        if any("\n" in value for value in row):
            raise FadeoutError(f"{path.name} is no CSV table: row {number} has an open quote")
    if not rows:
        raise FadeoutError(f"{path.name} needs a row below its header {separator.join(header)}")
    table = np.array(rows, object)
    _check_header_names(path, header, table)
    if separator != ",":
        table = _with_points(table)
    columns: dict[str, np.ndarray] = {}
    for name, values in zip(header, table.T, strict=True):
        if not name:
            if all(value == "" for value in values):
                continue  # the empty columns that spreadsheets add
            if not _counts_rows(values):
                place = header.index(name) + 1
                raise FadeoutError(f"{path.name}: column {place} has no name: give it one")
        columns[name] = values
    if "" in columns:
        del columns[""]
        left_out.append("a column without a name, which numbers the rows")
    return columns


def _decoded(path: Path, content: bytes) -> str:
    """The text of a file in UTF-8, in UTF-16 with its mark, or in Windows' Western encoding.

    Raises:
      FadeoutError: it is no text, or of another encoding, in which names and classes would be lost.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    if content.startswith((b"PK", b"\x1f\x8b", b"\x93NUMPY")) or b"\0" in content[:65536]:
        raise FadeoutError(
            f"{path.name} is no CSV table: it is a workbook, an archive or another binary file; "
            "save it as CSV UTF-8"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # as older spreadsheets write
        pass
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        raise FadeoutError(f"{path.name} is not in UTF-8: save it as CSV UTF-8") from None


def _separator(text: str) -> tuple[str, str]:
    """The character between values, and the table without the line that names it.

    It is that which cuts the header and the first rows into the most values, as many in each.
    """
    first, _, rest = text.partition("\n")
    if match := re.fullmatch(r"\s*\"?sep=(.)\"?\s*", first, re.IGNORECASE):
        return match[1], rest
    best, most = ",", 1
    head = "\n".join([line for line in text.splitlines() if line.strip()][:20])
    for separator in ",;\t| ":
        if separator == " " and most > 1:  # blanks may stand inside values
            continue
        try:
            counts = {len(row) for row in _split(head, separator)}
        except csv.Error:
            continue
        if len(counts) == 1 and max(counts) > most:
            best, most = separator, max(counts)
    return best, text


def _split(text: str, separator: str) -> list[list[str]]:
    if separator == " ":
        lines = (re.sub(r"[ \t]+", " ", line.strip()) for line in text.splitlines())
        found = csv.reader(lines, delimiter=" ")
    else:
        found = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
        )
    rows = ([value.strip() for value in row] for row in found)
    return [row for row in rows if any(row)]


def _check_header_names(path: Path, header: list[str], table: np.ndarray) -> None:
    """Refuses two columns of one name, and a first row that is none of names.

    Args:
      table: the rows below it, [row, column], as text.
    """
    named = [name for name in header if name]
    if twice := next((name for name, n in Counter(named).items() if n > 1), None):
        raise FadeoutError(f"{path.name} has two columns {twice}: rename one of them")
    numeric = [name for name in named if _number(name) is not None]
    counted = [str(n) for n in range(len(numeric))]
    words = [i for i, name in enumerate(header) if name and _number(name) is None]
    values = any(header[i] in table[:, i] for i in words)  # a word that its own column has as well
    if (numeric and (numeric != counted or not words)) or (words and values and numeric):
        raise FadeoutError(
            f"{path.name} begins with numbers, as {numeric[0]}: its first row must name the columns"
        )


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")


def _with_points(table: np.ndarray) -> np.ndarray:
    """Numbers with a decimal comma, as German spreadsheets write them, with a point.

    A file has one decimal mark. Where numbers with points stand beside them, or all have three
    digits behind the comma, it may be one of thousands: they stay as they are, and are no numbers.
    """
    commas = [value for value in table.ravel() if _COMMA.fullmatch(value)]
    points = any(_POINT.fullmatch(value) for value in table.ravel())
    decimal = any(len(re.split("[,eE]", value)[1]) != 3 for value in commas)
    if not commas or points or not decimal:
        return table
    found = [v.replace(",", ".") if _COMMA.fullmatch(v) else v for v in table.ravel()]
    return np.array(found, object).reshape(table.shape)


def _counts_rows(values: np.ndarray) -> bool:
    """Returns whether a column is 0, 1, 2, ... or 1, 2, 3, ..."""
    if values.dtype.kind != "O" or len(values) < 3:
        return False
    numbers = [_number(value) for value in values]
    return numbers[0] in (0, 1) and numbers == [numbers[0] + row for row in range(len(numbers))]


def _drop_row_numbers(columns: dict[str, np.ndarray], left_out: list[str]) -> None:
    for name in [n for n in columns if n.lower() in _ROW_NAMES]:
        numbers = [_number(value) for value in columns[name]]
        whole = all(n is not None and n % 1 == 0 for n in numbers)
        if _counts_rows(columns[name]):
            left_out.append(f"{name}, which numbers the rows")
        elif whole and len(set(numbers)) == len(numbers) >= _MANY_ROWS:
            left_out.append(f"{name}, another whole number in every row")
        else:
            continue
        del columns[name]


def _drop_second_targets(
    columns: dict[str, np.ndarray], name: str, target: np.ndarray, left_out: list[str]
) -> None:
    """Leaves out what pandas calls y.1: a second column of the target's name, and its values."""
    for other in [n for n in columns if re.fullmatch(re.escape(name) + r"\.\d+", n)]:
        if (columns[other] == target).all():
            del columns[other]
            left_out.append(f"{other}, which repeats {name}")


def _copies(feature: np.ndarray, targets: np.ndarray) -> bool:
    """Returns whether a column says the same as the targets, in other numbers perhaps."""
    pairs = np.unique(np.stack([feature, targets]), axis=1).shape[1]
    return pairs == np.unique(feature).size == np.unique(targets).size


# --- values


def _numbers(values: np.ndarray, where: str) -> np.ndarray:
    """A column as float64."""
    if values.dtype.kind != "O":
        found = values.astype(float)
    else:
        found = np.array([math.nan if (n := _number(v)) is None else n for v in values])
    bad = np.flatnonzero(~(np.abs(found) < LARGEST_NUMBER))  # float32 must hold it
    if bad.size:
        said = "nothing" if values[bad[0]] == "" else repr(str(values[bad[0]]))
        comma = ", with a decimal point" if "," in said else ""
        raise FadeoutError(
            f"{where}, row {bad[0] + 1}: a finite number is needed{comma}, not {said}"
            + (f" ({bad.size} such rows)" if bad.size > 1 else "")
        )
    return found


def parse_targets(values: np.ndarray, where: str, regression: bool = False) -> _Targets:
    """The classes of some targets, or the targets as numbers.

    Words and whole numbers are classes. Numbers of which one is not whole are numbers; of floats in
    an array, whole numbers are classes only where they are 0, 1, ..., all of which occur, or -1 and
    1.

    Args:
      values: [example], text of a table or an array of any kind.

    Raises:
      FadeoutError: an entry is missing, or is a word among numbers.

    >>> parse_targets(np.array([-1, 1, 1]), "here").targets.tolist()
    [0.0, 1.0, 1.0]
    """
    if np.ma.is_masked(values):
        raise FadeoutError(f"{where}: some values are masked: leave those examples out")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind not in "biufOU":
        raise FadeoutError(f"{where} must be classes or real numbers, not {values.dtype}")
    if values.dtype.kind == "f":
        numbers = _numbers(values, where)
        found = np.unique(numbers)
        consecutive = np.array_equal(found, np.arange(found.size)) and found.size > 1
        if regression or not (consecutive or found.tolist() == [-1, 1]):
            return _Targets(numbers, ())
        return _classes(numbers, [f"{number:g}" for number in found], where)
    if values.dtype.kind in "iu":
        numbers = values.astype(float)
        return _Targets(numbers, ()) if regression else _classes(values, None, where)
    if values.dtype.kind == "b":
        return _Targets(values.astype(float), ()) if regression else _classes(values, None, where)
    return _labels_of_words(values, where, regression)


def _labels_of_words(values: np.ndarray, where: str, regression: bool) -> _Targets:
    words = np.array([str(v).strip() for v in values], object)
    numbers = [_number(word) for word in words]
    known = np.array([n is not None for n in numbers])
    if regression or 2 * known.sum() > words.size or _looks_numeric(words, known):
        if not regression and not known.all() and any(w == "" for w in words):
            row = words.tolist().index("") + 1
            raise FadeoutError(f"{where}, row {row}: the target is missing")
        found = _numbers(words, where)
        if regression or (found % 1 != 0).any():
            return _Targets(found, ())
        if (np.abs(found) >= 2**53).any():  # beyond it, two whole numbers may be one float
            return _classes(words.astype(str), None, where)
        for number in np.unique(found):
            if len(spelled := sorted(set(words[found == number]))) > 1 and any(
                re.match(r"[+-]?0\d", word) for word in spelled
            ):
                raise FadeoutError(
                    f"{where}: {' and '.join(spelled)} are one number and two words: write one way"
                )
        return _classes(found, [f"{number:.0f}" for number in np.unique(found)], where)
    if (known & np.array([n is not None and n % 1 != 0 for n in numbers])).any():
        row = int(np.flatnonzero(~known)[0]) + 1
        raise FadeoutError(
            f"{where}, row {row}: {words[row - 1]!r} stands among numbers that are not whole, "
            "which are no classes"
        )
    if _MANY_ROWS <= words.size == len(set(words)) <= MAX_CLASSES:
        raise FadeoutError(f"{where}: every row is a class of its own, as {words[0]!r}")
    lower = [word.lower() for word in words]
    if known.any() and {"true", "false"} & set(lower):
        raise FadeoutError(f"{where} mixes numbers with true and false: write them one way")
    if set(lower) <= {"true", "false"}:
        words = np.array([word.capitalize() for word in lower], object)
    named = {word for word in set(words) if word.lower() not in _MISSING}
    for row, word in enumerate(words, 1):
        if word == "" or (named and word not in named):
            said = f": {word!r} stands for no class" if word else ""
            raise FadeoutError(f"{where}, row {row}: the target is missing{said}")
    folded: dict[str, str] = {}
    for word in words:
        other = folded.setdefault(_as_seen(word), word)
        if other != word:
            way = "case" if other.casefold() == word.casefold() else "hidden or composed characters"
            raise FadeoutError(
                f"{where}: {other!r} and {word!r} differ in their {way} alone: write them one way"
            )
    return _classes(words.astype(str), None, where)


def _as_seen(word: str) -> str:
    """A word without what no reader sees: case, composition, characters of no width."""
    composed = unicodedata.normalize("NFKC", word).casefold()
    return "".join(c for c in composed if unicodedata.category(c) != "Cf")


def _looks_numeric(words: np.ndarray, known: np.ndarray) -> bool:
    """Returns whether most words are numbers, or would be with a decimal point or without
    thousands."""
    form = r"[+\-\u2212]?[$\u20ac\u00a3\u00a5]?\s*\d+([\s'\u2019,.]\d+)*\s*[%$\u20ac\u00a3\u00a5]?"
    comma = [bool(re.fullmatch(form, word)) for word in words]
    return bool(2 * (known | np.array(comma)).sum() > words.size)


def _classes(values: np.ndarray, names: list[str] | None, where: str) -> _Targets:
    found, place = np.unique(values, return_inverse=True)
    if found.size < 2:
        raise FadeoutError(f"{where}: all targets are of one class, {(names or found)[0]}")
    if found.size > MAX_CLASSES:
        raise FadeoutError(
            f"{where} has {found.size} different values, too many for classes: "
            "task.regression=true takes them as numbers (of arrays, regression=True)"
        )
    return _Targets(place.astype(float), tuple(names or map(str, found)))
