"""Writes the report of a sweep as one HTML file: fadeout report outputs/<name>."""

import argparse
from pathlib import Path

from fadeout import load
from fadeout.cli.app import command
from fadeout.cli.places import CONF

STUDIES = CONF / "experiment"


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="outputs/<name>, as the training named it")
    parser.add_argument("--to", type=Path, help="the file; else report.html in the folder")
    chosen = parser.parse_args()
    from fadeout.pages import write_report

    folder = chosen.folder
    target = chosen.to or folder / "report.html"
    path = write_report(load(folder), folder.name, target, question(folder))
    print(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def question(folder: Path) -> str:
    """How the YAML of the study opens, where the folder bears the name of one."""
    for parts in (folder.parts[-2:], folder.parts[-1:]):
        study = STUDIES.joinpath(*parts).with_suffix(".yaml")
        if study.is_file():
            lines = study.read_text().splitlines()[1:]
            ends = next((i for i, line in enumerate(lines) if not line.startswith("#")), None)
            return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:ends])
    return ""


def main() -> int:
    return command(run)
