"""Axes over values: one job that is a whole grid of runs."""

import bisect
import decimal
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from fadeout.config import Run
from fadeout.registry import MAX_RUNS, TABLES, FadeoutError, lookup, parameters
from fadeout.schema import Choice, Section, kinds, sections_of


def decimal_range(start: float, stop: float, step: float = 1) -> list[float]:
    """The numbers start, start + step, ... below stop (above it where the step is negative), as a
    person would write them.

    Computed with binary fractions, 0.1, 0.2, ... up to 0.4 would hold 0.30000000000000004, and 0.4
    itself.

    >>> decimal_range(0.1, 0.4, 0.1), decimal_range(3, 1, -1)
    ([0.1, 0.2, 0.3], [3, 2])
    """
    first, end, by = (decimal.Decimal(str(number)) for number in (start, stop, step))
    count = max(0, math.ceil((end - first) / by))
    kind = int if all(isinstance(number, int) for number in (start, stop, step)) else float
    return [kind(first + place * by) for place in range(count)]


_SPACES = {
    "linspace": (np.linspace, 3, 3),
    "logspace": (np.logspace, 3, 3),
    "geomspace": (np.geomspace, 3, 3),
    "range": (decimal_range, 2, 3),
}
"""Each with as many numbers as it takes: start, stop and count, of `range` the step."""


class Grid(Sequence[Run]):
    """The product of some axes around a run, each member made when it is asked for.

    Args:
      base: what all members share.
      axes: groups of values that advance together: per group, the places (section, key) that its
        steps set, and the steps.
    """

    def __init__(self, base: Run, axes: Sequence[tuple[list[tuple[str, str]], list[tuple]]]):
        self.base = base
        self.paths = [path for paths, _ in axes for path in paths]
        self.steps = [steps for _, steps in axes]

    def __len__(self) -> int:
        return math.prod(map(len, self.steps))

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = _checked_index(index, len(self))
        values: list = []
        for steps in reversed(self.steps):
            index, step = divmod(index, len(steps))
            values[:0] = steps[step]
        return self.base.replace_unchecked(**_changed_sections(self.base, self.paths, values))


class Chain(Sequence[Run]):
    """Sequences of runs one after another, none of them copied."""

    def __init__(self, parts: Sequence[Sequence[Run]]):
        self.parts = parts
        self.ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = _checked_index(index, len(self))
        part = bisect.bisect_right(self.ends, index)
        return self.parts[part][index - (self.ends[part - 1] if part else 0)]

    def __iter__(self):
        return itertools.chain.from_iterable(self.parts)


def _checked_index(index: int, count: int) -> int:
    """A place in a sequence, counted from its end where it is negative."""
    if not -count <= index < count:
        raise IndexError(index)
    return index % count


def expand_grid(base: Run, axes: Mapping[str, Any], zipped: Sequence[str] = ()) -> Sequence[Run]:
    """The runs around one: itself, or the product of its axes.

    Axes that `zipped` names advance together, the others multiply.

    Raises:
      FadeoutError: an axis that is no key, values that cannot be read or are out of range.

    >>> runs = expand_grid(Run(), {"learning_rate": "logspace(-2,0,3)", "seed": [1, 2]})
    >>> [(run.optimizer.learning_rate, run.seed) for run in runs]
    [(0.01, 1), (0.01, 2), (0.1, 1), (0.1, 2), (1.0, 1), (1.0, 2)]
    """
    if not axes and not zipped:
        return [base]
    along = {
        _find_key(base, name): (name, _axis_values(name, text))
        for name, text in _flatten_keys(axes).items()
    }
    together = [_find_key(base, name) for name in zipped]
    for path, name in zip(together, zipped, strict=True):
        if path not in along:
            raise FadeoutError(f"zipped names {name}, which is no axis: add +axes.{name}=...")
    lengths = {len(along[path][1]) for path in together}
    if len(lengths) > 1:
        raise FadeoutError(
            f"zipped axes must be equally long, not {' and '.join(map(str, sorted(lengths)))}"
        )
    if len(set(together)) < len(together):
        raise FadeoutError(f"an axis is named twice in zipped=[{','.join(zipped)}]")
    groups = [[path] for path in along if path not in together] + [together] * bool(together)
    total = math.prod(len(along[group[0]][1]) for group in groups)
    if total > MAX_RUNS:
        raise FadeoutError(
            f"the axes make {total:,} runs, more than {MAX_RUNS:,}: give fewer points"
        )

    def settled(paths, values) -> tuple:
        """The values as a run has them; refused, before any compute, where it cannot."""
        run = replace(base, **_changed_sections(base, paths, values))
        return tuple(
            getattr(getattr(run, section) if section else run, key) for section, key in paths
        )

    steps = [
        [settled(group, values) for values in zip(*[along[path][1] for path in group], strict=True)]
        for group in groups
    ]
    return Grid(base, list(zip(groups, steps, strict=True)))


def _flatten_keys(axes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"init": {"gain": ...}} as {"init.gain": ...}, which is how Hydra writes a dotted key."""
    flat: dict[str, Any] = {}
    for key, value in axes.items():
        inner = isinstance(value, Mapping)
        flat |= _flatten_keys(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _find_key(base: Run, name: str) -> tuple[str, str]:
    """The section and the key of a value, by its path or by its last word alone."""
    known = {f"{section}.{key}": (section, key) for section, key in _all_keys(base)}
    known["seed"] = ("", "seed")
    full = [path for path in known if name in (path, path.split(".")[-1])]
    if len(full) > 1 and name not in full:
        raise FadeoutError(f"the axis {name} may be {' or '.join(full)}: say which")
    return lookup(known, name if name in full else (full or [name])[0], "axis")


def _all_keys(base: Run) -> list[tuple[str, str]]:
    """The sections and keys of all values of a run, but for names."""
    from fadeout.training import resolve  # noqa: F401 - which fills the tables

    found = []
    for section in sections_of(Run):
        own = list(kinds(kinds(Run)[section][0]))
        if isinstance(getattr(base, section), Choice):
            own += parameters(lookup(TABLES[section], getattr(base, section).name, section))
        found += [(section, key) for key in own if key != "name"]
    return found


def _axis_values(name: str, text: Any) -> Sequence[float | str]:
    """The values of an axis: a list, or one of `_SPACES` with its numbers."""
    if isinstance(text, list | tuple):
        values: Iterable = text
    else:
        form = re.fullmatch(r"(\w+)[(:](.*?)\)?", str(text).replace(" ", ""))
        if form is None or form[1] not in _SPACES:
            raise FadeoutError(_unreadable(name, text))
        function, count, most = _SPACES[form[1]]
        try:
            numbers = [float(word) for word in re.split("[,:]", form[2])]
            if not count <= len(numbers) <= most or not np.isfinite(numbers).all():
                raise ValueError
            if count == 3:
                if not 1 <= numbers[2] <= MAX_RUNS or numbers[2] % 1:
                    raise ValueError
                values = function(numbers[0], numbers[1], int(numbers[2])).tolist()
            else:
                if len(numbers) == 3 and not numbers[2]:
                    raise ValueError
                if numbers[1] - numbers[0] > MAX_RUNS * abs([*numbers, 1.0][2]):
                    raise ValueError
                values = function(*numbers)
            values = map(_as_written, values)
        except ValueError:
            raise FadeoutError(_unreadable(name, text)) from None
    values = list(values)
    if not all(isinstance(value, int | float | str) for value in values):
        raise FadeoutError(_unreadable(name, text))
    if not values:
        raise FadeoutError(f"the axis {name} is empty: {text!r}")
    return values


def _as_written(value: float) -> float:
    """A computed number as a person would write it, where that is within two units of its last
    place: the third of ten steps to 1 is 0.3.

    >>> _as_written(0.1 + 0.2), _as_written(2**0.5) == 2**0.5
    (0.3, True)
    """
    written = float(f"{value:.12g}")
    return written if abs(written - value) <= 2 * math.ulp(value) else value


def _unreadable(name: str, text: Any) -> str:
    return (
        f"axis {name}={text!r} cannot be read: give a list, [0.1,0.2], or "
        "linspace:START:STOP:COUNT, logspace (exponents of 10), geomspace, or range:START:STOP:STEP"
    )


def _changed_sections(
    base: Run, paths: Sequence[tuple[str, str]], values: Sequence[Any]
) -> dict[str, Any]:
    """The sections, and the seed, of a run with these values in these places."""
    changed: dict[str, Any] = {}
    inner: dict[str, list[tuple[str, Any]]] = {}
    for (section, key), value in zip(paths, values, strict=True):
        if section:
            inner.setdefault(section, []).append((key, value))
        else:
            changed[key] = value
    for section, pairs in inner.items():
        changed[section] = _section_with(getattr(base, section), tuple(pairs))
    return changed


@lru_cache(maxsize=65536)
def _section_with(section: Section, pairs: tuple[tuple[str, Any], ...]) -> Section:
    return replace(section, **dict(pairs))  # type: ignore[arg-type]
