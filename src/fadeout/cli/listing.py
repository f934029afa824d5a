"""Lists what can be chosen, with parameters, defaults and a line each.

fadeout list                 what there is to list
fadeout list activations
fadeout list studies
"""

import argparse
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fadeout.cli.app import command
from fadeout.cli.places import CONF
from fadeout.registry import lookup, parameters


def first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[0] if lines else ""


def signature(name: str, function: Callable) -> str:
    """A name with the keys that it takes and their defaults.

    >>> signature("leaky", lambda z, *, slope=0.01: z)
    'leaky (slope=0.01)'
    """
    keys = ", ".join(f"{key}={value}" for key, value in parameters(function).items())
    return f"{name} ({keys})" if keys else name


def functions(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, function in table.items():
        own = inspect.isfunction(function) and function.__module__.startswith("fadeout")
        yield signature(name, function), first_line(function.__doc__) if own else ""


def activations() -> Iterator[tuple[str, str]]:
    from fadeout.networks.activations import ACTIVATIONS

    return functions(ACTIVATIONS)


def initializers() -> Iterator[tuple[str, str]]:
    from fadeout.networks.initializers import INITIALIZERS

    return functions(INITIALIZERS)


def tasks() -> Iterator[tuple[str, str]]:
    from fadeout.networks.tasks import TASKS

    return functions(TASKS)


def optimizers() -> Iterator[tuple[str, str]]:
    from fadeout.networks.optimizers import OPTIMIZERS

    return functions(OPTIMIZERS)


def probes() -> Iterator[tuple[str, str]]:
    from fadeout.networks.probes import PROBES

    return ((name, first_line(probe.function.__doc__)) for name, probe in PROBES.items())


def verdicts() -> Iterator[tuple[str, str]]:
    from fadeout.analysis.verdicts import VERDICTS

    return ((word, "") for word in VERDICTS)


def claims() -> Iterator[tuple[str, str]]:
    from fadeout.claims import CLAIMS

    return ((name, f"{claim.sentence} ({claim.source})") for name, claim in CLAIMS.items())


def studies() -> Iterator[tuple[str, str]]:
    folder = CONF / "experiment"
    for path in sorted(folder.rglob("*.yaml")):
        yield str(path.relative_to(folder).with_suffix("")), head(path)


def head(path: Path) -> str:
    """What a study's YAML says first."""
    lines = (line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    return next(lines).removeprefix("# ")


LISTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    function.__name__: function
    for function in (
        activations, initializers, tasks, optimizers, probes, verdicts, claims, studies,
    )
}  # fmt: skip


def run() -> int:
    parser = argparse.ArgumentParser(
        "fadeout list", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", help=", ".join(LISTS))
    what = parser.parse_args().what
    if what is None:
        print("\n".join(LISTS))
        return 0
    rows = list(lookup(LISTS, what, "list")())
    width = max(len(name) for name, _ in rows) + 2
    print("\n".join(f"{name:<{width}}{about}".rstrip() for name, about in rows))
    return 0


def main() -> int:
    return command(run)
