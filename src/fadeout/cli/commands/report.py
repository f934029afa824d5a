"""Writes the report of a sweep as one HTML file: fadeout report outputs/<name>; of several, side by
side."""

import argparse
from pathlib import Path

from fadeout import load
from fadeout.cli.app import command
from fadeout.cli.menu import CONF
from fadeout.registry import FadeoutError

_STUDIES = CONF / "experiment"


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    words = "outputs/<name>, as the training named it"
    parser.add_argument("folders", type=Path, nargs="+", help=words)
    parser.add_argument("--to", type=Path, help="the file; else report.html in the first folder")
    words = "writes that page beside it, to open each run there"
    parser.add_argument("--playground", action="store_true", help=words)
    chosen = parser.parse_args()
    from fadeout.pages import write_network, write_playground, write_report
    from fadeout.sweeps.joining import concat_sweeps, name_sweeps
    from fadeout.sweeps.results import is_examined

    loaded = name_sweeps(chosen.folders, load)
    name = " and ".join(folder.name for folder in chosen.folders)
    if any(map(is_examined, loaded.values())):
        if len(loaded) > 1 or chosen.playground:
            raise FadeoutError("a network of your own has a page of its own: name its folder alone")
        (found,), (folder,) = loaded.values(), chosen.folders
        folder = folder if folder.is_dir() else folder.parent
        print(write_network(found, folder.name, chosen.to or folder / "report.html"))
        return 0
    results = concat_sweeps(loaded)
    asked = _study_question(chosen.folders[0]) if len(chosen.folders) == 1 else ""
    target = chosen.to or chosen.folders[0] / "report.html"
    path = write_report(results, name, target, asked, chosen.playground)
    print(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")
    if chosen.playground:
        print(write_playground(path.with_name("playground.html")))
    return 0


def _study_question(folder: Path) -> str:
    """How the YAML of the study opens, where the folder bears the name of one."""
    for parts in (folder.parts[-2:], folder.parts[-1:]):
        study = _STUDIES.joinpath(*parts).with_suffix(".yaml")
        if study.is_file():
            lines = study.read_text().splitlines()[1:]
            ends = next((i for i, line in enumerate(lines) if not line.startswith("#")), None)
            return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:ends])
    return ""


def main() -> int:
    return command(run)
