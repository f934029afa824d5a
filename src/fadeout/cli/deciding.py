"""Trains seeds of two configs until it is decided which is better."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from fadeout.analysis.difference import PairedGroup, Standing, paired_groups, standings
from fadeout.analysis.groups import with_remedy
from fadeout.config import Run
from fadeout.registry import FadeoutError
from fadeout.sweeps.reading import load


class Question(NamedTuple):
    """A question to be decided.

    Attributes:
      a, b: values of the configs by their labels.
      by: the quantity.
      pool: labels that make no groups.
      indifference: a win within 1/2 +- this is no difference.
    """

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    by: str
    pool: Sequence[str] = ()
    indifference: float = 0.05

    def groups(self, folder: Path) -> tuple[xr.Dataset, list[PairedGroup]]:
        """Reads a folder; gives its results and the groups in which both can be compared."""
        results = with_remedy(load(folder))
        return results, paired_groups(results, self.a, self.b, self.by, self.pool)


def decide(
    question: Question, folder: Path, train: Callable[[Sequence[Run]], None], block: int,
    most: int, tell: Callable[[str], None],
) -> list[Standing]:  # fmt: skip
    """Trains blocks of seeds into a folder, and looks after each.

    Args:
      folder: has runs of both configs already.
      train: trains runs and stores them there.
      block: seeds trained between two looks.
      most: seeds of each config and group, at most.
      tell: is told what each look has shown.
    """
    while True:
        results, groups = question.groups(folder)
        found = standings(groups, question.indifference)
        left = [
            group
            for group, standing in zip(groups, found, strict=True)
            if standing.word == "undecided" and standing.seeds < most
        ]
        settled = sum(standing.word != "undecided" for standing in found)
        fewest = min(standing.seeds for standing in found)
        tell(f"{fewest} seeds and more: {settled} of {len(found)} decided")
        if not left:
            return found
        for group in left:
            until = min(most, (group.scores.size // block + 1) * block)
            train([run for base in _configs_of(results, group) for run in _seeds(base, until)])
        _, again = question.groups(folder)
        if sum(g.scores.size for g in again) == sum(g.scores.size for g in groups):
            raise FadeoutError("the new seeds changed nothing: their runs failed")


def _configs_of(results: xr.Dataset, group: PairedGroup) -> list[Run]:
    """The configs of a group's runs, each once."""
    texts = results["config"].values[group.runs].tolist()
    runs = (Run.from_dict(json.loads(text) | {"seed": 0, "sources": ()}) for text in texts)
    return list(dict.fromkeys(runs))


def _seeds(base: Run, count: int) -> list[Run]:
    return [base.replace_unchecked(seed=seed) for seed in range(count)]
