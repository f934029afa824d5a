"""A sweep as a table, a row for each run: its config values that vary, and how it ended.

fadeout table outputs/demo                    as CSV on standard output
fadeout table outputs/demo --to runs.csv
"""

import argparse
import sys
from pathlib import Path

from fadeout import load, to_frame
from fadeout.cli.app import command
from fadeout.files import write_atomically


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="outputs/<name>")
    parser.add_argument("--to", type=Path, help="a file")
    chosen = parser.parse_args()
    text = to_frame(load(chosen.folder)).to_csv()
    if chosen.to is None:
        sys.stdout.write(text)
    else:
        print(write_atomically(chosen.to, text.encode()))
    return 0


def main() -> int:
    return command(run)
