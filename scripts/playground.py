"""Writes the playground, where networks are drawn in the browser: python scripts/playground.py."""

import argparse
import sys
from pathlib import Path

from fadeout.cli.app import command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("outputs/playground.html"))
    target = parser.parse_args().to
    from fadeout.pages import write_playground

    print(write_playground(target))
    return 0


if __name__ == "__main__":
    sys.exit(command(main))
