"""Base classes of config dataclasses: they check and convert their values, and say what is traced.

A float is *traced*: a new value never compiles a program. A string, integer or boolean is *static*:
it decides a shape or a program. A field's declared type says which it is, not how somebody typed
its value: 1 and 1.0 are the same learning rate. Nothing heavy is imported here, so that Hydra's
help and tab completion stay quick.
"""

import dataclasses
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from types import NoneType, UnionType
from typing import Any

from fadeout.registry import (
    FadeoutError,
    did_you_mean,
    entry_name,
    format_value,
    lookup,
    parameters,
    plain_number,
)


def bounded_field(default, minimum=None, maximum=None, choices=None):
    """A field with a range, or with a fixed set of words."""
    bounds = {"minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=bounds)


def _field_types(section: type) -> dict[str, tuple[type, bool]]:
    """Per field of a section: its declared type, and whether it may be None."""

    def kind(hint) -> tuple[type, bool]:
        if isinstance(hint, UnionType):
            return next(option for option in hint.__args__ if option is not NoneType), True
        return typing.get_origin(hint) or hint, False

    hints = typing.get_type_hints(section)
    return {name: kind(hint) for name, hint in hints.items() if name != "options"}


kinds: Callable[[type], dict[str, tuple[type, bool]]] = cache(_field_types)


@dataclass(frozen=True)
class Section:
    """A frozen dataclass that checks and converts its own values."""

    def __post_init__(self):
        for name, kind, optional, where, bounds in _field_checks(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if value is None and optional:
                continue
            if type(value) is kind and not bounds and issubclass(kind, str | bool | Section):
                continue  # as it should be
            found = convert_value(value, kind, where)
            if bounds:
                _check_range(found, where, **bounds)
            if found is not value:
                object.__setattr__(self, name, found)

    def placeholder_floats(self) -> dict[str, float]:
        """Returns a fixed value for every float, for the static part of a config."""
        return dict.fromkeys(self.traced, 0.0)

    @cached_property
    def traced(self) -> Mapping[str, float]:
        """Its floats by name, without those that are None."""
        found = {
            name: getattr(self, name)
            for name, (kind, _) in kinds(type(self)).items()
            if kind is float and getattr(self, name) is not None
        }
        own = self.options if isinstance(self, Choice) else ()
        return found | {key: value for key, value in own if isinstance(value, float)}

    def as_dict(self) -> dict[str, Any]:
        """Its values by key, as plain data."""
        return {name: _to_plain(getattr(self, name)) for name in kinds(type(self))}

    @cached_property
    def all_keys(self) -> tuple[str, ...]:
        """Its keys, those of its options too."""
        return tuple(self.as_dict())

    @cached_property
    def as_text(self) -> str:
        """Its values as JSON with sorted keys.

        Defaults are left out, so that a new key does not change the identity of other runs. If you
        change a default, raise `config.NUMERICS`.
        """
        usual = default_values(type(self))  # type: ignore[arg-type]
        data = {k: v for k, v in self.as_dict().items() if k not in usual or v != usual[k]}
        return json.dumps(data, sort_keys=True)


@cache
def _field_checks(section: type) -> list[tuple[str, type, bool, str, dict[str, Any]]]:
    """Per field of a section: its name and type, whether it may be None, what errors call it, and
    its range, if it has one."""
    found = []
    for f in dataclasses.fields(section):
        if f.name in kinds(section):
            kind, optional = kinds(section)[f.name]
            own = section.__name__.lower()
            where = f.name if own in ("run", "config") else f"{own}.{f.name}"
            bounds = {key: bound for key, bound in f.metadata.items() if bound is not None}
            found.append((f.name, kind, optional, where, bounds))
    return found


@dataclass(frozen=True, init=False)
class Choice(Section):
    """A section that chooses a registered function by name and sets its options.

    The options, which the function's signature declares, are keys of the section, and attributes
    where they are set.

    Their types are known when the entry is looked up (`fill_options`). Until then a value may be a
    number, a word or a truth value. None is left out.

    Attributes:
      name: of the entry; or the function itself.
      options: sorted pairs of key and value.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def __init__(self, *values: Any, options: Any = (), **given: Any):
        known = [f for f in dataclasses.fields(self) if f.name != "options"]
        if len(values) > len(known):
            raise TypeError(f"{type(self).__name__} takes at most {len(known)} positional values")
        given |= {f.name: value for f, value in zip(known, values, strict=False)}
        for f in known:
            object.__setattr__(self, f.name, given.pop(f.name, f.default))
        kind = type(self).__name__.lower()
        if callable(self.name):
            object.__setattr__(self, "name", entry_name(self.name, kind))
        if not isinstance(options, tuple | list | dict):
            raise FadeoutError(f"{kind}.options must be pairs, not {format_value(options)}")
        try:
            pairs = dict(options)
        except (TypeError, ValueError):
            raise FadeoutError(
                f"{kind}.options must be pairs of a key and a value, not {format_value(options)}"
            ) from None
        merged = {
            key: _convert_option(value, f"{kind}.{key}")
            for key, value in (pairs | given).items()
            if value is not None
        }
        object.__setattr__(self, "options", tuple(sorted(merged.items())))
        self.__post_init__()

    def __getattr__(self, key: str) -> Any:
        found = dict(self.__dict__.get("options", ()))
        if key in found:
            return found[key]
        raise AttributeError(f"{type(self).__name__} {self.__dict__.get('name')} has no {key} set")

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | dict(self.options)


def _convert_option(value: Any, where: str) -> Any:
    """A value of an option whose type is not known yet."""
    value = plain_number(value)
    if isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return convert_value(value, float, where)
    raise FadeoutError(
        f"{where} must be a number, a word or true or false, not {format_value(value)}"
    )


def fill_options(section: Choice, function: Callable, group: str) -> Choice:
    """The section with all options of its entry: what is set, in the declared type, and defaults
    for the rest.

    Raises:
      FadeoutError: an option that this entry does not take, or a value that it cannot be.

    >>> fill_options(Choice("leaky"), lambda z, *, slope=0.01: z, "activation").slope
    0.01
    """
    takes, given = parameters(function), dict(section.options)
    for key in given:
        if key not in takes:
            has = f"it takes {' and '.join(takes)}" if takes else "it takes no parameter"
            near = did_you_mean(key, [*takes, *kinds(type(section))])
            raise FadeoutError(
                f"{group} {section.name} has no {key}{near}: {has}; leave {group}.{key} out"
            )
    filled = {}
    for key, (kind, default, between) in takes.items():
        value = given.get(key, default)
        if value is not None:
            value = convert_value(value, kind, f"{group}.{key}")
            _check_range(value, f"{group}.{key}", *between)
            filled[key] = value
    options = tuple(sorted(filled.items()))
    if [(k, type(v), v) for k, v in options] == [(k, type(v), v) for k, v in section.options]:
        return section
    return dataclasses.replace(section, options=options)


LARGEST_NUMBER = 3e38
"""Numbers must exist in float32."""


def convert_value(value: Any, kind: type, where: str) -> Any:
    """`value` as the declared type, or an error that says which type was expected."""
    value = plain_number(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    number = number and abs(value) <= LARGEST_NUMBER
    if kind is float and number:
        return float(value) + 0.0  # -0.0 is 0.0: equal values are one run, of one identity
    if kind is int and number and value == int(value):
        return int(value)
    if kind is tuple and isinstance(value, list | tuple):
        if not all(isinstance(word, str) for word in value):
            raise FadeoutError(f"{where} must be a list of words, not {format_value(value)}")
        return tuple(value)
    if kind is str and isinstance(value, str | int | float):
        return str(value)
    if kind is dict and isinstance(value, dict):
        return {str(key): inner for key, inner in value.items()}
    if kind not in (float, int, tuple) and isinstance(value, kind):
        return value
    if issubclass(kind, Choice) and (isinstance(value, str) or callable(value)):
        return kind(value)  # by its name alone
    expected = {float: "a finite number", int: "a whole number", tuple: "a list", str: "a word"}
    expected |= {bool: "true or false"}
    raise FadeoutError(
        f"{where} must be {expected.get(kind, kind.__name__)}, not {format_value(value)}"
    )


def _check_range(value, where, minimum=None, maximum=None, choices=None):
    if choices is not None:
        lookup(dict.fromkeys(choices), value, where)
    if minimum is not None and value < minimum:
        raise FadeoutError(f"{where} must be at least {minimum}, not {value}")
    if maximum is not None and value > maximum:
        raise FadeoutError(f"{where} must be at most {maximum}, not {value}")


def to_json(value: Any) -> str:
    """A section or a value as JSON; the runs of a sweep share nearly all sections."""
    return value.as_text if isinstance(value, Section) else json.dumps(value)


def _to_plain(value: Any) -> Any:
    """A value of a section as JSON would have it."""
    if isinstance(value, Section):
        return value.as_dict()
    return list(value) if isinstance(value, tuple) else value


@cache
def default_values(section: type) -> dict[str, Any]:
    """Every key's default; the name has none."""
    fields = dataclasses.fields(section)
    return {f.name: _to_plain(f.default) for f in fields if f.name not in ("name", "options")}


def _find_sections(schema: type) -> tuple[str, ...]:
    """The fields of a schema that are sections themselves."""
    return tuple(name for name, (kind, _) in kinds(schema).items() if issubclass(kind, Section))


sections_of: Callable[[type], tuple[str, ...]] = cache(_find_sections)


@lru_cache(maxsize=65536)
def static_section(section: Section) -> Section:
    """The section with 0 for every float: what is left is static."""
    return dataclasses.replace(section, **section.placeholder_floats())


def static_options(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Returns the options that decide a program, sorted."""
    return tuple(sorted((k, v) for k, v in options.items() if not isinstance(v, float)))
