"""Draws the pictures of a sweep, or one comparison across sweeps.

fadeout plot outputs/demo                          all its pictures, again
fadeout plot outputs/demo --quantity saturation    one comparison, theory beside it
fadeout plot outputs/a outputs/b --x depth --color sweep --quantity solved
fadeout plot outputs/demo --style paper --width 3.25in
fadeout plot outputs/rates --map learning_rate gain --quantity loss
"""

import argparse
from pathlib import Path

from fadeout import load, plots
from fadeout.analysis.looks import DEFAULT_FORMATS
from fadeout.cli.app import command
from fadeout.registry import FadeoutError
from fadeout.sweeps.joining import concat_sweeps, name_sweeps
from fadeout.sweeps.results import is_examined

_HELP = {
    "quantity": "a probe, loss, solved, born_dead, a verdict, ...; a,b: a row each",
    "x": "layer, step, or a config value: depth, width, learning_rate, ...",
    "color": "a config value, or layer; of several sweeps also sweep",
    "row": "a config value",
    "column": "a config value",
    "at": "start, end or a step, for what is not drawn over steps",
}


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="outputs/<name>")
    for name, words in _HELP.items():
        parser.add_argument(f"--{name}", help=words)
    parser.add_argument("--layer", type=int, help="of a probe that is not drawn over layers")
    parser.add_argument("--map", nargs=2, metavar=("X", "Y"), help="two swept numbers; a heat map")
    parser.add_argument("--style", default="screen", help="screen, talk or paper")
    parser.add_argument(
        "--width", type=_parse_width, help="of a paper's pictures: 3.25in is a column's"
    )
    parser.add_argument("--formats", default=",".join(DEFAULT_FORMATS), help="of png, svg and pdf")
    parser.add_argument("--to", type=Path, help="folder of the pictures; else the first one's")
    chosen = vars(parser.parse_args())
    folders, to, look = chosen.pop("folders"), chosen.pop("to"), chosen.pop("style")
    formats, width = chosen.pop("formats").split(","), chosen.pop("width")
    asked = {name: value for name, value in chosen.items() if value is not None}
    loaded = name_sweeps(folders, load)
    target = to or folders[0]
    if any(map(is_examined, loaded.values())):
        if len(folders) > 1 or asked:
            raise FadeoutError("a network of your own is drawn alone and whole: name its folder")
        (found,) = loaded.values()
        target = to or (folders[0] if folders[0].is_dir() else folders[0].parent)
        paths = plots.save_network(found, target, look, formats, width)
        print(paths[0])
        return 0
    results = concat_sweeps(loaded)
    if asked or len(folders) > 1:
        comparison = plots.Comparison.from_dict(asked)
        paths = plots.save_comparison(results, comparison, target, look, formats, width)
    else:
        paths = plots.save_all(results, target, look=look, formats=formats, width=width)
    print("\n".join(str(path) for path in paths if path.suffix[1:] == formats[0]))
    return 0


def _parse_width(text: str) -> float:
    """3.25, 3.25in, 8.3cm or 83mm."""
    units = {"in": 1.0, "cm": 2.54, "mm": 25.4}
    unit = next((unit for unit in units if text.endswith(unit)), "in")
    try:
        return float(text.removesuffix(unit)) / units[unit]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no length; 3.25in, 8.3cm, 83mm") from None


def main() -> int:
    return command(run)
