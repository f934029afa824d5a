"""Choices by name. Every table is read through `lookup`. Functions, the package's own and a user's,
are added to their table by `_Entries.add`.

The signature is the schema: the keyword-only parameters of an entry, with their types and defaults,
are its config keys.
"""

import contextlib
import difflib
import inspect
import typing
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar

T = TypeVar("T")


MAX_RUNS = 10_000_000
"""Runs of one sweep: a value too many is answered, not allocated."""


def printable(text: str) -> str:
    r"""Returns a text whose control characters, which could steer a terminal, are written out.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


class FadeoutError(ValueError):
    """An error that a user can mend. The message says what was expected and what to do."""

    def __init__(self, message: str = ""):
        super().__init__(printable(str(message)))


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Returns the entry `name` of a table of choices.

    Raises:
      FadeoutError: there is no such entry; the message names the nearest and lists them all.

    >>> lookup({"relu": 1, "tanh": 2}, "rleu", "name")
    Traceback (most recent call last):
    ...
    fadeout.registry.FadeoutError: unknown name 'rleu' (did you mean relu?); choose from: relu, tanh
    """
    try:
        return table[name]
    except (KeyError, TypeError):  # a list, say, is no key of a table
        raise FadeoutError(
            f"unknown {kind} {format_value(name)}{did_you_mean(name, table)}; "
            f"choose from: {', '.join(table)}"
        ) from None


def did_you_mean(name: str, names) -> str:
    """The nearest of some names, as a question."""
    nearest = difflib.get_close_matches(str(name), names, n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def format_value(value: object) -> str:
    """A value as an error says it: an array by its shape, what is long by its beginning.

    >>> format_value("relu"), format_value(range(10**6))
    ("'relu'", 'range(0, 1000000)')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"an array of shape {shape}"
    try:
        text = repr(value)
    except Exception:
        text = f"an object of {type(value).__name__}"
    if "\n" in text:
        text = f"an object of {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain_number(value: Any) -> Any:
    """A number of NumPy's or JAX's as one of Python's; whatever else, as it is.

    >>> plain_number(1.5), plain_number("relu")
    (1.5, 'relu')
    """
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except (NotImplementedError, TypeError, ValueError):  # a random key
        return value


class Between(NamedTuple):
    """The range of a parameter, in its annotation: `noise: Annotated[float, Between(0)] = 0.1`.

    What lies outside is refused before any compute.

    Attributes:
      minimum, maximum: both belong to the range; None is no bound.

    >>> Between(0)
    Between(minimum=0, maximum=None)
    """

    minimum: float | None = None
    maximum: float | None = None


NotNegative = Annotated[float, Between(0)]
DecayRate = Annotated[float, Between(0, 0.99999)]


class _Parameter(NamedTuple):
    """A keyword-only parameter of an entry, which is one of its config keys.

    Attributes:
      kind: float, which is traced; or int, str or bool, which decide a program.
      default: None where it is left open.
    """

    kind: type
    default: Any
    between: Between = Between()


@lru_cache(maxsize=4096)
def parameters(function: Callable) -> dict[str, _Parameter]:
    """The keyword-only parameters of an entry: what a config may set on it.

    Raises:
      FadeoutError: one without a default, or of a type that no config has.

    >>> parameters(lambda z, *, slope=0.01: z)["slope"].default
    0.01
    """
    try:
        signature = inspect.signature(function).parameters.values()
        inner = getattr(function, "func", function)  # of what `bound` has filled in part
        hints = typing.get_type_hints(inner, include_extras=True)
    except Exception as error:  # of as many kinds as there are annotations
        raise FadeoutError(
            f"the annotations of {function_name(function)} cannot be read: {error}"
        ) from None
    return {
        p.name: _make_parameter(p.name, p.default, hints.get(p.name), function_name(function))
        for p in signature
        if p.kind is p.KEYWORD_ONLY
    }


def _make_parameter(name: str, default: Any, hint: Any, of: str) -> _Parameter:
    if default is inspect.Parameter.empty:
        raise FadeoutError(f"{of}: its parameter {name} needs a default")
    between = Between()
    if typing.get_origin(hint) is Annotated:
        hint, *notes = typing.get_args(hint)
        between = next((note for note in notes if isinstance(note, Between)), between)
    kind = type(default) if hint is None else hint
    if isinstance(kind, UnionType) and default is None:
        kind = next(option for option in kind.__args__ if option is not NoneType)
    if kind not in (float, int, str, bool):
        word = getattr(kind, "__name__", str(kind))
        raise FadeoutError(
            f"{of}: its parameter {name} is of type {word}, and a config has only float, int, str "
            "and bool: annotate it with one of these"
        )
    if default is not None:
        good = (int, float) if kind is float else kind
        if not isinstance(default, good) or (isinstance(default, bool) and kind is not bool):
            raise FadeoutError(f"{of}: the default of {name}, {default!r}, is no {kind.__name__}")
        default = kind(default)
    return _Parameter(kind, default, between)


@contextlib.contextmanager
def user_errors(what: str, fails: str = "cannot be traced by JAX") -> Iterator[None]:
    """Turns whatever a user's code raises into a `FadeoutError` of one line."""
    try:
        yield
    except FadeoutError:
        raise
    except Exception as error:  # whatever a user's code may do
        why = " ".join(str(error).split())[:200]
        kind = type(error).__name__
        raise FadeoutError(f"{what} {fails} ({kind}: {why})") from error


NAMES: dict[Callable, str] = {}
"""What every entry is called: a function may be given wherever its name is asked for."""


def function_name(function: Callable) -> str:
    """Returns the name of a function: under which it is registered, or its own."""
    if isinstance(function, Hashable) and function in NAMES:
        return NAMES[function]
    return getattr(function, "__name__", repr(function))


def entry_name(function: Callable, kind: str) -> str:
    """The name of an entry that is given as the function itself.

    Raises:
      FadeoutError: it is in no table.
    """
    try:
        return NAMES[function]
    except (KeyError, TypeError):
        decorator = {"init": "initializer"}.get(kind, kind)
        raise FadeoutError(
            f"{function_name(function)} is not known as {kind}: "
            f"put @fadeout.{decorator} above its definition"
        ) from None


SECTION_NAMES = frozenset((
    "name", "options", "all_keys", "as_dict", "as_text", "placeholder_floats", "traced", "self",
    "defaults", "step", "layer", "run", "activation",
))  # fmt: skip
"""What the section of an entry has besides its parameters, or a config, or results as axes: none
may be called so."""


class _Entries(dict[str, Any]):
    """A table of functions by name.

    Args:
      kind: what they are, and the group of the config that chooses among them.
      positional: what they take by position, in words; how many of these may be left out.
      reserved: keys that the group has for all of them.
      check: refuses a user's function that cannot be what it says, before anything is computed.
    """

    def __init__(
        self,
        kind: str,
        positional: tuple[str, ...],
        reserved: tuple[str, ...] = (),
        check: Callable[[Callable], None] | None = None,
        spare: int = 0,
    ):
        super().__init__()
        self.kind, self.positional, self.reserved = kind, positional, SECTION_NAMES.union(reserved)
        self.check, self.spare = check, spare

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def add(self, function: Callable, entry: Any = None, name: str | None = None) -> Callable:
        """Takes a function in under its name.

        Args:
          entry: what the table holds of it, if not the function itself.

        Raises:
          FadeoutError: its name is taken, its signature says not what it takes, or `check` refuses.
        """
        if not callable(function):
            raise FadeoutError(f"{self.kind} must be a function, not {format_value(function)}")
        if not isinstance(function, Hashable):
            raise FadeoutError(f"{self.kind} must be hashable: define it with def")
        name = name or function_name(function).rstrip("_")
        if not name.isidentifier():
            raise FadeoutError(f"{self.kind} {name} needs a name: define it with def")
        before = self.get(name)
        if before is not None and _origin(entry_function(before)) != _origin(function):
            an = "an" if self.kind[0] in "aeio" else "a"
            raise FadeoutError(f"there is already {an} {self.kind} {name}: choose another name")
        try:
            self.check_signature(function, name)
        except ValueError as error:  # of a function of C
            if isinstance(error, FadeoutError):
                raise
            raise FadeoutError(f"{self.kind} {name}: {error}; define it with def") from None
        if not is_builtin(function) and self.check is not None:
            self.check(function)
        self[name] = function if entry is None else entry
        NAMES[function] = name
        return function

    def check_signature(self, function: Callable, name: str) -> None:
        taken = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        most = len(self.positional)
        if not most - self.spare <= len(taken) <= most:
            raise FadeoutError(
                f"{self.kind} {name} must take ({', '.join(self.positional)}) by position, and its "
                f"parameters after a *: not ({', '.join(p.name for p in taken)})"
            )
        for key in parameters(function):
            if key in self.reserved or key.startswith("__"):
                raise FadeoutError(
                    f"{self.kind} {name}: {self.kind}.{key} is there already; give its parameter "
                    "another name"
                )

    def user_entries(self) -> dict[str, Any]:
        """The entries that are a user's."""
        return {n: e for n, e in self.items() if not is_builtin(entry_function(e))}


TABLES: dict[str, _Entries] = {}
"""All tables of functions, by the group of the config that chooses among them, and the probes."""

CONTENTS: dict[Callable, Callable[..., str]] = {}
"""For a function that reads a file or arrays: a function of its options that returns the name of
the file and a hash of its content."""


def new_table(kind: str, *positional: str, **about: Any) -> _Entries:
    """A new table of functions."""
    TABLES[kind] = _Entries(kind, positional, **about)
    return TABLES[kind]


def entry_function(entry: Any) -> Callable:
    """Returns the function of an entry: the entry itself, or a probe's or loss's function."""
    return getattr(entry, "function", entry)


def _origin(function: Callable) -> tuple[bool, str]:
    """Returns where a function was defined.

    One that is defined again, as in a notebook, replaces itself.
    """
    return is_builtin(function), getattr(function, "__module__", "") or ""


@lru_cache(maxsize=4096)
def is_builtin(function: Callable) -> bool:
    """Returns whether the package wrote it; `functools.wraps` alone gives another function its
    name."""
    written = getattr(function, "__globals__", {}).get("__name__") or ""
    told = getattr(function, "__module__", None) or ""
    return told.split(".")[0] == "fadeout" and written.split(".")[0] in ("fadeout", *_CHECKERS)


_CHECKERS = "jaxtyping", "beartype"
"""Packages that wrap functions of this one to check the shapes that they declare."""


def raise_grouped(reasons: Counter[str], what: str) -> None:
    """Raises one error for many things, grouped by cause; none where there is no reason.

    >>> raise_grouped(Counter({"depth is 0": 2}), "runs cannot be trained")
    Traceback (most recent call last):
    ...
    fadeout.registry.FadeoutError: 2 runs cannot be trained:
      2 x depth is 0
    """
    if reasons.total() == 1:
        raise FadeoutError(next(iter(reasons)))
    if reasons:
        lines = [f"  {count} x {reason}" for reason, count in reasons.most_common(6)]
        if len(reasons) > 6:
            lines.append(f"  ... and {len(reasons) - 6} other reasons")
        raise FadeoutError("\n".join([f"{reasons.total()} {what}:", *lines]))
