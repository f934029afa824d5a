"""The `fadeout` command: one subcommand for each thing that the laboratory does."""

import importlib
import sys
from typing import NamedTuple


class Door(NamedTuple):
    """A subcommand: its module in `fadeout.cli`, and what it does."""

    module: str
    about: str


COMMANDS: dict[str, Door] = {
    "train": Door("train", "trains one run, or with -m a multirun; --help shows the menu"),
    "plot": Door("plot", "draws the pictures of a sweep, or one comparison across sweeps"),
    "advise": Door("advise", "what to choose before training, by theory"),
    "best": Door("best", "the best configs of a sweep, with intervals"),
    "table": Door("table", "a sweep as CSV, a row for each run"),
    "report": Door("report", "writes a sweep, or several side by side, as one HTML file"),
    "playground": Door("playground", "writes a page where networks train in the browser"),
    "atlas": Door("atlas", "draws every activation with its derivative"),
    "neuron": Door("neuron", "draws a neuron, a chain, and how XOR comes to be solved"),
    "claims": Door("claims", "puts what is taught to test"),
    "list": Door("listing", "what can be chosen: activations, probes, studies, ..."),
    "bench": Door("bench", "measures fadeout against other ways to do the same"),
}


def main() -> None:
    """Hands the command line to a subcommand, which sees it as its own."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        from fadeout.sweeps.provenance import version

        print(f"fadeout {version('fadeout')}")
        return
    if name in ("-h", "--help"):
        print(usage())
        return
    from fadeout.registry import FadeoutError, lookup

    try:
        door = lookup(COMMANDS, name, "command")
    except FadeoutError as error:
        sys.exit(f"{error}\n\n{usage()}")
    sys.argv = [f"{sys.argv[0]} {name}", *sys.argv[2:]]
    sys.exit(importlib.import_module(f"fadeout.cli.{door.module}").main())


def usage() -> str:
    rows = [f"  {name:<12}{door.about}" for name, door in COMMANDS.items()]
    return "\n".join(["usage: fadeout COMMAND ... (each has --help)", "", *rows])
