"""The best configs of a sweep, by a quantity over their seeds, with 95 % intervals.

fadeout best outputs/rates                    by the share solved
fadeout best outputs/rates --by loss --most 3
"""

import argparse
from pathlib import Path

from fadeout import best, load
from fadeout.cli.app import command


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="outputs/<name>")
    parser.add_argument("--by", default="solved", help="solved, healthy, accuracy, loss, ...")
    parser.add_argument("--most", type=int, default=10, help="how many rows")
    chosen = parser.parse_args()
    found = best(load(chosen.folder), chosen.by, chosen.most)
    print(found.to_string(index=False, float_format="{:.4g}".format))
    return 0


def main() -> int:
    return command(run)
