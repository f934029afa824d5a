"""The `fadeout` command: its subcommands."""

import importlib
import sys
from typing import NamedTuple


class _Subcommand(NamedTuple):
    """A subcommand: its module in `fadeout.cli.commands`, and what it does."""

    module: str
    about: str


COMMANDS: dict[str, _Subcommand] = {
    "train": _Subcommand("train", "trains one run, or with -m a multirun; --help shows the menu"),
    "plot": _Subcommand("plot", "draws the pictures of a sweep, or one comparison across sweeps"),
    "advise": _Subcommand("advise", "what to choose before training, by theory"),
    "examine": _Subcommand("examine", "every layer of your own network: fadeout examine my_net.py"),
    "best": _Subcommand("best", "the best configs of a sweep, with intervals"),
    "versus": _Subcommand("versus", "which of two configs is better, and how sure that is"),
    "scaling": _Subcommand("scaling", "whether a config scales with width and depth"),
    "table": _Subcommand("table", "a sweep as CSV, a row for each run"),
    "report": _Subcommand("report", "writes a sweep, or several side by side, as one HTML file"),
    "playground": _Subcommand("playground", "writes a page where networks train in the browser"),
    "atlas": _Subcommand("atlas", "draws every activation with its derivative"),
    "neuron": _Subcommand("neuron", "draws a neuron, a chain, and how XOR comes to be solved"),
    "claims": _Subcommand("claims", "puts what is taught to test"),
    "list": _Subcommand("list", "what can be chosen: activations, probes, studies, ..."),
}


def main() -> None:
    """Hands the command line to a subcommand, which sees it as its own."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        from fadeout.sweeps.provenance import version

        print(f"fadeout {version('fadeout')}")
        return
    if name in ("-h", "--help"):
        print(_usage())
        return
    from fadeout.registry import FadeoutError, lookup

    try:
        chosen = lookup(COMMANDS, name, "command")
    except FadeoutError as error:
        sys.exit(f"{error}\n\n{_usage()}")
    program = "fadeout" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    sys.argv = [f"{program} {name}", *sys.argv[2:]]
    sys.exit(importlib.import_module(f"fadeout.cli.commands.{chosen.module}").main())


def _usage() -> str:
    rows = [f"  {name:<12}{command.about}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: fadeout COMMAND ... (each has --help)", "", *rows])
