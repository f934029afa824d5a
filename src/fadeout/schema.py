"""The types of a config: frozen sections that check and convert their own values.

A float is *traced*: a new value never compiles a program. A string, integer or boolean is *static*:
it decides a shape or a program. A field's declared type says which it is, not how somebody typed
its value: 1 and 1.0 are the same learning rate. Nothing heavy is imported here, so that Hydra's
help and tab completion stay quick.
"""

import dataclasses
import json
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import Any

from fadeout.registry import FadeoutError, lookup


def bounded(default, minimum=None, maximum=None, choices=None):
    """A field with a range, or with a fixed set of words."""
    bounds = {"minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=bounds)


def declared(section: type) -> dict[str, tuple[type, bool]]:
    """Per field of a section: its declared type, and whether it may be None."""

    def kind(hint) -> tuple[type, bool]:
        if isinstance(hint, UnionType):
            return next(option for option in hint.__args__ if option is not NoneType), True
        return typing.get_origin(hint) or hint, False

    return {name: kind(hint) for name, hint in typing.get_type_hints(section).items()}


kinds: Callable[[type], dict[str, tuple[type, bool]]] = cache(declared)


@dataclass(frozen=True)
class Section:
    """A frozen dataclass that checks and converts its own values."""

    def __post_init__(self):
        for f in dataclasses.fields(self):
            kind, optional = kinds(type(self))[f.name]
            value = getattr(self, f.name)
            if value is None and optional:
                continue
            where = f"{type(self).__name__.lower()}.{f.name}".removeprefix("run.").removeprefix(
                "config."
            )
            value = convert(value, kind, where)
            check_range(value, where, **f.metadata)
            object.__setattr__(self, f.name, value)


LARGEST_NUMBER = 3e38
"""Numbers must exist in float32."""


def convert(value: Any, kind: type, where: str) -> Any:
    """`value` as the declared type, or an error that says which type was expected."""
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = value.item()  # a number of NumPy's or JAX's
    number = isinstance(value, int | float) and not isinstance(value, bool)
    number = number and abs(value) <= LARGEST_NUMBER
    if kind is float and number:
        return float(value) + 0.0  # -0.0 is 0.0: equal values are one run, of one identity
    if kind is int and number and value == int(value):
        return int(value)
    if kind is tuple and isinstance(value, list | tuple):
        if not all(isinstance(word, str) for word in value):
            raise FadeoutError(f"{where} must be a list of words, not {value!r}")
        return tuple(value)
    if kind is str and isinstance(value, str | int | float):
        return str(value)
    if kind is dict and isinstance(value, dict):
        return {str(key): inner for key, inner in value.items()}
    if kind not in (float, int, tuple) and isinstance(value, kind):
        return value
    expected = {float: "a finite number", int: "a whole number", tuple: "a list", str: "a word"}
    expected |= {bool: "true or false"}
    raise FadeoutError(f"{where} must be {expected.get(kind, kind.__name__)}, not {value!r}")


def check_range(value, where, minimum=None, maximum=None, choices=None):
    if choices is not None:
        lookup(dict.fromkeys(choices), value, where)
    if minimum is not None and value < minimum:
        raise FadeoutError(f"{where} must be at least {minimum}, not {value}")
    if maximum is not None and value > maximum:
        raise FadeoutError(f"{where} must be at most {maximum}, not {value}")


@lru_cache(maxsize=65536)
def canonical(value: Any) -> str:
    """A section or a value as JSON with sorted keys; the runs of a sweep share nearly all."""
    plain = dataclasses.asdict(value) if isinstance(value, Section) else value
    return json.dumps(plain, sort_keys=True)


def sections_of(schema: type) -> tuple[str, ...]:
    """The fields of a schema that are sections themselves."""
    return tuple(name for name, (kind, _) in kinds(schema).items() if issubclass(kind, Section))


@lru_cache(maxsize=65536)
def erase(section: Section) -> Section:
    """The section with 0 for every float: what is left is static."""
    return dataclasses.replace(section, **dict.fromkeys(traced(section), 0.0))


def traced(section: Section) -> dict[str, float]:
    """The floats of a section by name, without those that are None."""
    return {
        name: getattr(section, name)
        for name, (kind, _) in kinds(type(section)).items()
        if kind is float and getattr(section, name) is not None
    }


def options(section: Section) -> dict[str, Any]:
    """The fields of a section that only some of its options take, None where unset."""
    return {
        name: getattr(section, name)
        for name, (_, optional) in kinds(type(section)).items()
        if optional
    }
