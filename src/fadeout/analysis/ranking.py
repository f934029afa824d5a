"""Which configs did best: a row for each, over its seeds."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from fadeout.analysis.comparison import is_share_of_runs, outcome_flags
from fadeout.analysis.groups import group_by, varies
from fadeout.analysis.intervals import mean_interval, share_interval
from fadeout.registry import FadeoutError, format_value, lookup
from fadeout.sweeps.results import config_labels, final_values, takes_results, with_run_dim
from fadeout.sweeps.variables import OVER_STEPS

_HIGHER_IS_BETTER = ("solved", "healthy", "accuracy", "validation_accuracy")
_LOWER_IS_BETTER = ("loss", "validation_loss", "solved_step", "reached_step")
KNOWN = (*_HIGHER_IS_BETTER, *_LOWER_IS_BETTER)
"""What configs are ranked by."""


def is_higher_better(by: str) -> bool:
    return by in _HIGHER_IS_BETTER


def outcome_values(results: xr.Dataset, by: str) -> np.ndarray:
    """How each run ended, by a quantity of which larger or smaller values are better, [run].

    Raises:
      FadeoutError: the results lack the quantity, or nobody can say which values are better.
    """
    known = [n for n in KNOWN if is_share_of_runs(n) or n in results]
    lookup(dict.fromkeys(known), by, "quantity")
    if is_share_of_runs(by):
        return outcome_flags(results, by).astype(float)
    values = final_values(results[by]) if by in OVER_STEPS else results[by]
    return values.values.astype(float)


@takes_results
def best(results: xr.Dataset, by: str = "solved", most: int = 10) -> pd.DataFrame:
    """The best configs of a sweep, by a quantity over their seeds.

    Args:
      by: solved or healthy, a share of runs; accuracy or loss (and validation_...), at the end;
        solved_step or reached_step, of the runs that have one.
      most: how many rows.

    Returns:
      The `rank`, which equally good configs share; the config values that vary; how many `runs`
      each row has; the mean (or the share) of the quantity with its 95 % interval, `low` and
      `high`; and the mean `final_loss`, by which equally good ones are ordered. The best first.

    Raises:
      FadeoutError: the results lack the quantity, or nobody can say which values are better.

    >>> from fadeout import Optimizer, Run, train
    >>> rates = [Optimizer(learning_rate=rate) for rate in (1e-6, 0.05)]
    >>> runs = [Run(optimizer=rate, seed=s) for rate in rates for s in range(4)]
    >>> found = best(train(runs, quiet=True))
    >>> found.learning_rate.tolist(), found.solved.tolist()
    ([0.05, 1e-06], [1.0, 0.0])
    """
    results = with_run_dim(results, "best")
    values = outcome_values(results, by)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise FadeoutError(f"at least one row is shown, not {format_value(most)}")
    names = [name for name in config_labels(results) if name != "seed" and varies(results, name)]
    seeds, rows = results["seed"].values, []
    losses = (
        final_values(results["loss"]).values.astype(float) if "loss" in results else values * np.nan
    )
    for _, members in sorted(group_by(results, names), key=lambda group: group[1][0]):
        own = members[np.isfinite(values[members])]
        if not own.size:
            continue
        first: dict[str, Any] = {name: results[name].values[own[0]] for name in names}
        interval = (
            share_interval(values[own] == 1, seeds[own])
            if is_share_of_runs(by)
            else mean_interval(values[own])
        )
        middle = float(values[own].mean())
        ends = {by: middle, "low": interval[0], "high": interval[2]}
        if by != "loss":  # by which those that are equally good are ordered
            ends["final_loss"] = (
                np.nanmean(losses[own]) if np.isfinite(losses[own]).any() else np.nan
            )
        rows.append(first | {"runs": own.size} | ends)
    then = [] if by == "loss" else ["final_loss"]
    frame = pd.DataFrame(rows, columns=[*names, "runs", by, "low", "high", *then])
    ordered = frame.sort_values(
        [by, *then], ascending=[by in _LOWER_IS_BETTER, True][: 1 + len(then)], kind="stable"
    )
    ranks = ordered[by].rank(method="min", ascending=by in _LOWER_IS_BETTER).astype(int)
    ordered.insert(0, "rank", ranks)
    return ordered.head(most).reset_index(drop=True)
