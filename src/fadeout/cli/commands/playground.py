"""Writes the playground, where networks train in the browser: fadeout playground."""

import argparse
from pathlib import Path

from fadeout.cli.app import command


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("outputs/playground.html"))
    target = parser.parse_args().to
    from fadeout.pages import write_playground

    print(write_playground(target))
    return 0


def main() -> int:
    return command(run)
