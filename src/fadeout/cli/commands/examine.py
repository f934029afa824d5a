"""Looks at every layer of your own network, before it is trained.

fadeout examine my_net.py                  its function make: () -> (loss, parameters, data)
fadeout examine my_net.py:small --name a   another function; results in outputs/a
fadeout examine my_net.py --seeds 64       make(key) -> (loss, parameters, data), drawn 64 times

The loss is a function of parameters and data, and gives a number. The parameters are a module of
flax.nnx or any tree of arrays; the data are the loss's other arguments, several in a tuple.
"""

import argparse
import inspect
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from fadeout.cli.app import command
from fadeout.extensions import load_file
from fadeout.registry import FadeoutError, user_errors


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", help="a Python file, and after a colon its function, else make")
    parser.add_argument("--seeds", type=int, help="how many networks to draw")
    parser.add_argument("--name", help="of the folder in --outputs; else date and time")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    chosen = parser.parse_args()
    from fadeout.sweeps.networks import check_new

    folder = chosen.outputs / (chosen.name or f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    check_new(folder)
    make, what = _load_make(chosen.network)
    if chosen.seeds is not None and chosen.seeds < 1:
        raise FadeoutError(f"--seeds must be at least 1, not {chosen.seeds}")
    if (chosen.seeds is not None) != bool(inspect.signature(make).parameters):
        raise FadeoutError(
            f"{what} must take a key for --seeds"
            if chosen.seeds is not None
            else f"{what} takes arguments: add --seeds 64, or let it take none"
        )
    import jax

    from fadeout import examine
    from fadeout.analysis.watch import summarize
    from fadeout.plots import save_network
    from fadeout.sweeps.networks import store_network

    with user_errors(what, "fails"):
        made = make() if chosen.seeds is None else make(jax.random.key(0))
    loss, parameters, data = _parts_of(made, what)
    if chosen.seeds is None:
        found = examine(loss, parameters, *data)
    else:
        found = examine(loss, lambda key: make(key)[1], *data, seeds=chosen.seeds)
    print(summarize(found))
    paths = [store_network(found, folder), *save_network(found, folder), *_report(found, folder)]
    print(f"written:  {', '.join(path.name for path in paths)}, in {folder}")
    return 0


def _load_make(text: str) -> tuple[Callable, str]:
    """The function that a file and a name mean, and what to call it.

    Raises:
      FadeoutError: there is none.
    """
    name, _, word = text.partition(":")
    word = word or "make"
    if not name.endswith(".py"):
        raise FadeoutError(f"{text}: name a Python file and its function, as my_net.py:make")
    sys.path.insert(0, str(Path(name).absolute().parent))  # as `python my_net.py` would
    module = load_file(name)
    make = getattr(module, word, None)
    if not callable(make):
        known = [
            key
            for key, own in vars(module).items()
            if inspect.isfunction(own) and own.__module__ == module.__name__
        ]
        raise FadeoutError(
            f"{name} has no function {word}: define def {word}(): return loss, parameters, data"
            + (f"; or name one of {', '.join(known)} after a colon" if known else "")
        )
    return make, f"{name}:{word}"


def _parts_of(made: Any, what: str) -> tuple[Callable, Any, tuple]:
    """Loss, parameters and the loss's other arguments.

    Raises:
      FadeoutError: it is no such triple.
    """
    if not (isinstance(made, tuple | list) and len(made) == 3 and callable(made[0])):
        raise FadeoutError(
            f"{what} must return loss, parameters, data (a function, a tree of arrays, and a tuple "
            f"of what follows them), not {type(made).__name__}"
        )
    loss, parameters, data = made
    several = tuple(data) if isinstance(data, tuple | list) else (data,)
    try:
        inspect.signature(loss).bind(parameters, *several)
    except TypeError:
        several = (data,)  # a batch that is a tuple itself
    except ValueError:
        pass  # a function without a signature
    return loss, parameters, several


def _report(found: Any, folder: Path) -> list[Path]:
    """Writes the page, where what draws it is installed."""
    from importlib.util import find_spec

    from fadeout.pages import write_network

    if find_spec("plotly") is None:
        return []
    return [write_network(found, folder.name, folder / "report.html")]


def main() -> int:
    return command(run)
