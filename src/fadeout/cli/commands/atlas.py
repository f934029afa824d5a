"""Draws the activations: all on one sheet, a page each, and the lecture note's own figures.

fadeout atlas
fadeout atlas --activation gelu --range -6 6 --style paper
fadeout atlas --activation relu --print      relu's inputs and outputs as well
"""

import argparse
from pathlib import Path

from fadeout.cli.app import command


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--activation", action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--range", type=float, nargs=2, default=(-5.0, 5.0), metavar=("LOW", "HIGH")
    )
    parser.add_argument("--print", action="store_true", help="print relu's inputs and outputs")
    parser.add_argument("--style", default="screen", help="screen, talk or paper")
    parser.add_argument("--to", type=Path, default=Path("outputs/atlas"))
    chosen = parser.parse_args()
    from fadeout.plots import save_atlas
    from fadeout.plots.atlas import relu_table

    paths = save_atlas(chosen.activation, tuple(chosen.range), chosen.to, chosen.style)
    if chosen.print:
        for z, value in relu_table(chosen.range):
            print(f"relu({z:g}) = {value:g}")
    print("\n".join(str(path) for path in paths if path.suffix == ".png"))
    return 0


def main() -> int:
    return command(run)
