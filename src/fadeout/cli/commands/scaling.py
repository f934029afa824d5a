"""Whether a config scales: signal and gradient against width and depth, after a few steps.

fadeout scaling activation=tanh init=lecun_normal
fadeout scaling init=lecun_normal model.parametrization=mup --over width=64,128,256,512
fadeout scaling activation=relu init=he_normal --over depth=4,16,64 --steps 0 --name mine

Words are those of fadeout train. Each axis is a sweep of its own; runs are stored, and the same
command goes on.
"""

import argparse
from pathlib import Path
from typing import Any

from fadeout.cli.app import TRAINING, command, stoppable
from fadeout.registry import FadeoutError

_DEFAULT = "width=64,128,256,512"


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="as of fadeout train")
    parser.add_argument(
        "--over", action="append", help=f"width= or depth=; repeatable ({_DEFAULT})"
    )
    parser.add_argument("--steps", default="0,1,10", help="after which is looked (0,1,10)")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--name", help="of the folder in --outputs; else from the words")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    chosen = parser.parse_intermixed_args()
    axes = [_parse_axis(text) for text in chosen.over or [_DEFAULT]]
    steps = _parse_steps(chosen.steps)
    if chosen.seeds < 2:
        raise FadeoutError("--seeds must be 2 or more, for an interval")
    if reserved := [w for w in chosen.words if w.startswith(("seed=", "name=", "training.steps="))]:
        raise FadeoutError(f"{reserved[0]}: use --seeds, --name and --steps")
    with stoppable():
        for over, sizes in axes:
            _check(chosen, over, sizes, steps)
    return 0


def _parse_axis(text: str) -> tuple[str, list[int]]:
    name, _, values = text.partition("=")
    name = name.rpartition(".")[2]
    try:
        sizes = [int(value) for value in values.split(",")]
    except ValueError:
        sizes = []
    if name not in ("width", "depth") or len(set(sizes)) < 3:
        raise FadeoutError(f"--over {text}: give three sizes or more, as width=32,64,128")
    return name, sizes


def _parse_steps(text: str) -> tuple[int, ...]:
    try:
        steps = tuple(sorted({int(step) for step in text.split(",")}))
    except ValueError:
        steps = (-1,)
    if steps[0] < 0:
        raise FadeoutError(f"--steps {text}: give whole numbers from 0 on, as 0,1,10")
    return steps


def _check(chosen: argparse.Namespace, over: str, sizes: list[int], steps: tuple[int, ...]) -> None:
    """Trains what is missing of one axis, prints the slopes and draws them."""
    import math
    import re

    from fadeout import expand, load
    from fadeout.analysis.scaling import PROBES_OF_SCALING, check_runs, slopes
    from fadeout.cli import console
    from fadeout.plots import save_scaling
    from fadeout.sweeps.results import select_identities
    from fadeout.sweeps.run_index import index_runs
    from fadeout.sweeps.sweep import sweep
    from fadeout.training.program_cache import use_program_cache

    console.quiet_libraries()
    use_program_cache("auto")
    every = math.gcd(*steps) or 1
    more = [
        f"model.{over}={','.join(map(str, sizes))}", f"seed=range(0,{chosen.seeds})",
        f"training.steps={max(steps)}", f"training.record_every={every}",
        f"probes=[{','.join(PROBES_OF_SCALING)}]",
    ]  # fmt: skip
    index = index_runs(expand(" ".join(f"'{word}'" for word in (*chosen.words, *more))))
    words = re.sub(r"[^\w.=+-]+", "_", "_".join(chosen.words)) or "default"
    usual = f"scaling/{words[:120]}" + ("" if chosen.steps == "0,1,10" else f"_steps_{steps}")
    folder = chosen.outputs / (chosen.name or re.sub(r"[ (),]+", "_", usual).strip("_")) / over
    TRAINING.set()
    with console.progress() as watch:
        sweep(index, folder, watch)
    results: Any = select_identities(load(folder), index.identity)
    check = check_runs(results, over, steps)
    table = slopes(check)
    shown = table.drop(columns="wanted" if table.theory.notna().any() else ["wanted", "theory"])
    print(shown.to_string(index=False, float_format="{:+.3f}".format, na_rep=""))
    for path in save_scaling(check, table, folder)[:1]:
        print(path)


def main() -> int:
    return command(run)
