"""Lists what can be chosen, with parameters, defaults and a line each.

fadeout list                 what there is to list
fadeout list activations
fadeout list activations my_lab.py      yours among them
fadeout list studies
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from fadeout.cli.app import command
from fadeout.cli.menu import CONF
from fadeout.extensions import load_extensions
from fadeout.registry import TABLES, entry_function, lookup, parameters, printable


def _first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return printable(lines[0]) if lines else ""


def _signature(name: str, function: Callable) -> str:
    """A name with the keys that it takes and their defaults.

    >>> _signature("leaky", lambda z, *, slope=0.01: z)
    'leaky (slope=0.01)'
    """
    keys = ", ".join(f"{key}={p.default}" for key, p in parameters(function).items())
    return f"{name} ({keys})" if keys else name


def _entries(kind: str) -> Iterator[tuple[str, str]]:
    """The entries of a table, a user's own among them."""
    from fadeout.networks import activations, initializers, optimizers, probes, tasks  # noqa: F401

    for name, entry in TABLES[kind].items():
        function = entry_function(entry)
        yield _signature(name, function), _first_line(function.__doc__)


def _verdicts() -> Iterator[tuple[str, str]]:
    from fadeout.analysis.verdicts import VERDICTS

    return ((word, "") for word in VERDICTS)


def _claims() -> Iterator[tuple[str, str]]:
    from fadeout.claims import CLAIMS

    return ((name, f"{claim.sentence} ({claim.source})") for name, claim in CLAIMS.items())


def _studies() -> Iterator[tuple[str, str]]:
    folder = CONF / "experiment"
    for path in sorted(folder.rglob("*.yaml")):
        yield str(path.relative_to(folder).with_suffix("")), _study_heading(path)


def _study_heading(path: Path) -> str:
    """Returns the comment at the top of a study's YAML."""
    lines = (line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    return next(lines).removeprefix("# ")


_LISTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "activations": functools.partial(_entries, "activation"),
    "initializers": functools.partial(_entries, "init"),
    "tasks": functools.partial(_entries, "task"),
    "optimizers": functools.partial(_entries, "optimizer"),
    "probes": functools.partial(_entries, "probe"),
    "verdicts": _verdicts,
    "claims": _claims,
    "studies": _studies,
}


def run() -> int:
    parser = argparse.ArgumentParser(
        "fadeout list", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", help=", ".join(_LISTS))
    parser.add_argument("extensions", nargs="*", help="files or modules of your own")
    arguments = parser.parse_args()
    what = arguments.what
    load_extensions(arguments.extensions)
    if what is None:
        print("\n".join(_LISTS))
        return 0
    what = {"init": "initializers", "inits": "initializers"}.get(what, what)
    several = what if what in _LISTS else f"{what}s"  # as a config group is called
    rows = list(lookup(_LISTS, several if several in _LISTS else what, "list")())
    width = max(len(name) for name, _ in rows) + 2
    print("\n".join(f"{name:<{width}}{about}".rstrip() for name, about in rows))
    return 0


def main() -> int:
    return command(run)
