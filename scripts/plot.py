"""Draws the pictures of a folder of results: python scripts/plot.py outputs/<name>."""

import argparse
import sys
from pathlib import Path

from fadeout import load, plots
from fadeout.registry import FadeoutError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="outputs/<name>, as the training named it")
    folder = parser.parse_args().folder
    try:
        paths = plots.save_all(load(folder), folder)
    except FadeoutError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(str(path) for path in paths if path.suffix == ".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
