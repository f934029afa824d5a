"""Draws the activations: all on one sheet, a page each, and the lecture note's own figures.

python scripts/atlas.py
python scripts/atlas.py --activation gelu --range -6 6 --style paper
python scripts/atlas.py --activation relu --print      relu's inputs and outputs as well
"""

import argparse
import sys
from pathlib import Path

from fadeout.cli.app import command


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--activation", action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--range", type=float, nargs=2, default=(-5.0, 5.0), metavar=("LOW", "HIGH")
    )
    parser.add_argument("--print", action="store_true", help="print relu's inputs and outputs")
    parser.add_argument("--style", default="talk", help="talk or paper")
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


if __name__ == "__main__":
    sys.exit(command(main))
