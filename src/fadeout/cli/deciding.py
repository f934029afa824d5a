"""Trains seeds of two configs until it is decided which is better."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from fadeout.analysis.difference import (
    PairedGroup,
    Standing,
    equals,
    paired_groups,
    standings,
)
from fadeout.analysis.groups import with_remedy
from fadeout.config import Run
from fadeout.sweeps.reading import load
from fadeout.sweeps.results import with_run_dim


class Question(NamedTuple):
    """A question to be decided.

    Attributes:
      a, b: values of the configs by their labels.
      by: the quantity.
      pool: labels that make no groups.
      indifference: a win within 1/2 +- this is no difference.
      shared: of labels, the values to which the question is restricted, as texts.
    """

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    by: str
    pool: Sequence[str] = ()
    indifference: float = 0.05
    shared: Mapping[str, Sequence[str]] = {}

    def groups(self, folder: Path) -> tuple[xr.Dataset, list[PairedGroup]]:
        """Reads a folder; gives its results and the groups in which both can be compared."""
        results = with_remedy(with_run_dim(load(folder), "versus"))
        for name, texts in self.shared.items():
            if name in results.coords and name not in {*self.a, *self.b}:
                own = np.any([equals(results[name].values, text) for text in texts], axis=0)
                results = results.isel(run=own)
        return results, paired_groups(results, self.a, self.b, self.by, self.pool)


def decide(
    question: Question, folder: Path, train: Callable[[Sequence[Run]], None], block: int,
    most: int, tell: Callable[[str], None],
) -> list[Standing]:  # fmt: skip
    """Trains blocks of seeds into a folder, and looks after each.

    Seeds count in rising order, those from 0 to as many as were tried, so that a look sees what
    earlier ones saw, and more.

    Args:
      folder: has runs of both configs already.
      train: trains runs and stores them there.
      block: seeds trained between two looks.
      most: seeds of each config and group, at most.
      tell: is told what each look has shown.
    """
    tried: dict[tuple, int] = {}
    while True:
        results, groups = question.groups(folder)
        keys = [tuple(group.labels.values()) for group in groups]
        for key in keys:
            tried.setdefault(key, min(block, most))
        seen = [group.until(tried[key]) for group, key in zip(groups, keys, strict=True)]
        found = standings(seen, question.indifference)
        settled = sum(standing.word != "undecided" for standing in found)
        fewest = min(standing.seeds for standing in found)
        tell(f"{fewest} seeds and more: {settled} of {len(found)} decided")
        left = [
            (group, key)
            for group, key, standing in zip(groups, keys, found, strict=True)
            if standing.word == "undecided" and tried[key] < most
        ]
        if not left:
            return found
        for group, key in left:
            tried[key] = min(most, tried[key] + block)
            train([
                run
                for base in _configs_of(results, group)
                for run in _seeds(base, tried[key])
            ])  # fmt: skip


def _configs_of(results: xr.Dataset, group: PairedGroup) -> list[Run]:
    """The configs of a group's runs, each once."""
    texts = results["config"].values[group.runs].tolist()
    runs = (Run.from_dict(json.loads(text) | {"seed": 0, "sources": ()}) for text in texts)
    return list(dict.fromkeys(runs))


def _seeds(base: Run, count: int) -> list[Run]:
    return [base.replace_unchecked(seed=seed) for seed in range(count)]
