"""Choices by name: every table of the laboratory is read through `lookup`."""

import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


LARGEST = 10_000_000
"""Runs of one sweep: a value too many is answered, not allocated."""


class FadeoutError(ValueError):
    """What was asked cannot be done; the message says what was expected and what to do."""


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Returns the entry `name` of a table of choices.

    Raises:
      FadeoutError: there is no such entry; the message names the nearest and lists them all.

    >>> lookup({"relu": 1, "tanh": 2}, "rleu", "name")
    Traceback (most recent call last):
    ...
    fadeout.registry.FadeoutError: unknown name 'rleu' (did you mean relu?); choose from: relu, tanh
    """
    if name in table:
        return table[name]
    nearest = difflib.get_close_matches(str(name), table, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    raise FadeoutError(f"unknown {kind} {name!r}{hint}; choose from: {', '.join(table)}")


def parameters(function: Callable) -> dict[str, object]:
    """The keyword-only parameters of an entry and their defaults: what a config may set on it.

    >>> parameters(lambda z, *, slope=0.01: z)
    {'slope': 0.01}
    """
    signature = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}


def complete(
    function: Callable, given: Mapping[str, object], kind: str, name: str
) -> dict[str, object]:
    """What the entry `name` is called with: what is given, and defaults for the rest.

    Args:
      given: the parameters that some entries of this kind take, None where unset.

    Raises:
      FadeoutError: a parameter that this entry does not take.

    >>> complete(lambda z, *, slope=0.01: z, {"slope": None, "alpha": None}, "activation", "leaky")
    {'slope': 0.01, 'alpha': None}
    """
    takes = parameters(function)
    for key, value in given.items():
        if value is not None and key not in takes:
            has = f"it takes {' and '.join(takes)}" if takes else "it takes no parameter"
            raise FadeoutError(f"{kind} {name} has no {key}: {has}; leave {kind}.{key} out")
    return {key: takes.get(key) if value is None else value for key, value in given.items()}


def refuse(reasons: Counter[str], what: str) -> None:
    """Raises one error for many things, grouped by cause; none where there is no reason.

    >>> refuse(Counter({"depth is 0": 2}), "runs cannot be trained")
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
