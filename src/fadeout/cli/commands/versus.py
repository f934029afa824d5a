"""Which of two configs is better, by how much, and whether the seeds suffice to say so.

fadeout versus outputs/mine activation=relu activation=tanh --by loss
fadeout versus outputs/mine optimizer=adam,learning_rate=0.01 optimizer=sgd --pool depth
fadeout versus outputs/new activation=gelu activation=relu model.depth=16 --until-decided

Runs are paired by seed. Whatever else varies makes groups, which are compared one by one. With
--until-decided, seeds are trained in blocks until an interval that is valid whenever one looks
decides; words after the two configs say what both share, as in fadeout train -m.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fadeout.cli.app import TRAINING, command, stoppable
from fadeout.config import Run
from fadeout.extensions import load_extensions
from fadeout.registry import FadeoutError, lookup


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="outputs/<name>")
    parser.add_argument("a", help="values of the config, between commas")
    parser.add_argument("b", help="likewise")
    parser.add_argument("shared", nargs="*", help="what both share, where they are to be trained")
    parser.add_argument("--by", default="solved", help="solved, healthy, accuracy, loss, ...")
    parser.add_argument(
        "--pool", action="append", default=[], help="a label that makes no groups; repeatable"
    )
    parser.add_argument("--until-decided", action="store_true", help="trains more seeds")
    parser.add_argument("--most", type=int, default=2000, help="seeds at most (2000)")
    parser.add_argument("--block", type=int, default=64, help="seeds between two looks (64)")
    parser.add_argument(
        "--indifference", type=float, default=0.05, help="a win in 50 %% +- this is none (0.05)"
    )
    parser.add_argument("--extensions", nargs="*", default=[], help="files of your own")
    chosen = parser.parse_intermixed_args()
    _check_numbers(chosen)
    a, b = map(_parse_config, (chosen.a, chosen.b))
    load_extensions(chosen.extensions)
    from fadeout.analysis.ranking import KNOWN
    from fadeout.cli.deciding import Question

    lookup(dict.fromkeys(KNOWN), chosen.by, "--by")
    shared = {word.partition("=")[0].rpartition(".")[2]: word.partition("=")[2].split(",")
              for word in chosen.shared}  # fmt: skip
    question = Question(a, b, chosen.by, chosen.pool, chosen.indifference, shared)
    decided = None
    if chosen.until_decided:
        with stoppable():
            decided = _train_until_decided(chosen, question)
    elif chosen.shared:
        raise FadeoutError(
            f"{' '.join(chosen.shared)}: what both share is for runs to be trained, with "
            "--until-decided"
        )
    _show(chosen.folder, question, decided)
    return 0


def _check_numbers(chosen: argparse.Namespace) -> None:
    if chosen.most < 2 or chosen.block < 2:
        raise FadeoutError("--most and --block must be 2 seeds or more")
    if not 0 < chosen.indifference < 0.5:
        raise FadeoutError(f"--indifference must lie between 0 and 0.5, not {chosen.indifference}")


def _parse_config(text: str) -> dict[str, Any]:
    """Labels and values of `optimizer=adam,learning_rate=0.01`.

    Raises:
      FadeoutError: it is not written so.
    """
    found = {}
    for word in text.split(","):
        path, equals, value = word.partition("=")
        if not equals or not path or not value:
            raise FadeoutError(f"{text}: write a config as activation=relu,depth=8")
        label = path.lstrip("+").rpartition(".")[2]
        if label in found:
            raise FadeoutError(f"{text} names {label} twice")
        found[label] = value
    return found


def _train_until_decided(chosen: argparse.Namespace, question: Any) -> list:
    """Trains what is missing, and more seeds until it is decided."""
    from fadeout.cli import console
    from fadeout.cli.deciding import decide
    from fadeout.sweeps.reading import result_files
    from fadeout.sweeps.sweep import sweep
    from fadeout.training.program_cache import use_program_cache

    console.quiet_libraries()
    use_program_cache("auto")

    def train(runs: Sequence[Run]) -> None:
        TRAINING.set()
        with console.progress() as watch:
            sweep(runs, chosen.folder, watch)

    if chosen.shared or not result_files(chosen.folder):
        train(_first_runs(chosen))
    return decide(question, chosen.folder, train, chosen.block, chosen.most, print)


def _first_runs(chosen: argparse.Namespace) -> list:
    from fadeout import expand

    seeds = f"seed=range(0,{min(chosen.block, chosen.most)})"
    shared = " ".join(f"'{word}'" for word in (*chosen.shared, seeds))
    for word in chosen.shared:
        if word.startswith("seed="):
            raise FadeoutError("seeds are added until it is decided: leave seed= out")
    return [
        run
        for config in (chosen.a, chosen.b)
        for run in expand(f"{' '.join(config.split(','))} {shared}")
    ]


def _show(folder: Path, question: Any, decided: list | None) -> None:
    from fadeout.analysis.difference import difference, explain
    from fadeout.plots import save_versus

    results, groups = question.groups(folder)
    found = difference(results, question.a, question.b, question.by, question.pool)
    print(_table(found).to_string(index=False, float_format="{:.3g}".format))
    about = found.attrs
    several = "group" in found.dims
    for number, group in enumerate(groups):
        where = ", ".join(f"{k} {v}" for k, v in group.labels.items())
        row = found.isel(group=number) if several else found
        words = (
            explain(row, about)
            if decided is None
            else decided[number].explain(about["a"], about["b"], question.indifference)
        )
        print(f"{where}: {words}" if where else words)
    if about["pooled"]:
        print(f"of each seed the mean over {about['pooled']}")
    if not about["paired"]:
        print("unpaired: the configs share fewer than two seeds")
    if decided is not None:
        print(
            "the intervals in words are valid whenever one looks, for all groups together; those "
            "of the table are of these seeds alone"
        )
    print(save_versus(found, groups, decided, folder)[0])


def _table(found: Any) -> Any:
    """The dataset as a table, without what the sentences say."""
    from fadeout.analysis.comparison import is_share_of_runs

    frame = (found if "group" in found.dims else found.expand_dims("group")).to_dataframe()
    about = found.attrs
    names = {
        "median_a": about["a"], "median_b": about["b"], "value": "difference",
        "iqm_a": f"iqm {about['a']}", "iqm_b": f"iqm {about['b']}",
    }  # fmt: skip
    shown = [*found.coords, "seeds", "median_a", "median_b", "value", "low", "high"]
    if not is_share_of_runs(about["by"]):
        shown += ["iqm_a", "iqm_b"]
    return frame.reset_index()[shown].rename(columns=names)


def main() -> int:
    return command(run)
