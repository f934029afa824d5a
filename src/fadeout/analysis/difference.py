"""Which of two configs is better, by how much, and whether the seeds suffice to say so."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from fadeout.analysis.comparison import is_share_of_runs
from fadeout.analysis.groups import REMEDY_LABELS, format_label, group_by, varies, with_remedy
from fadeout.analysis.intervals import (
    Interval,
    bootstrap,
    confidence_sequence,
    mean_interval,
    paired_share_interval,
    score_interval,
    share_interval,
)
from fadeout.analysis.ranking import is_higher_better, outcome_values
from fadeout.registry import FadeoutError, format_value, lookup
from fadeout.sweeps.results import config_labels, takes_results, with_run_dim

_CONFIDENCE = 0.95
_MOST_SEEDS = 1_000_000


@takes_results
def difference(
    results: xr.Dataset,
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    by: str = "solved",
    pool: Sequence[str] = (),
) -> xr.Dataset:
    """The difference between two configs of a sweep, A minus B, paired by seed.

    Whatever else varies makes groups, which are compared one by one; of what is pooled, the runs
    of each seed are averaged first. A seed counts for the better of its two runs, and half for
    each where they are equal; a run that diverged, or never got there, loses.

    Args:
      a, b: values of the config by their labels, `{"activation": "relu"}`.
      by: as `fadeout.best` takes it: solved, healthy, accuracy, loss, solved_step, ...
      pool: labels that make no groups.

    Returns:
      Scalars, or over `group` with a coordinate for each label that varies: `value`, the
      difference of shares (Newcombe's interval), or of medians of the seeds at which both are
      finite (paired bootstrap), with its 95 % interval `low` and `high`; of each config
      `median_a`, `median_b` (shares, for shares) and the interquartile means `iqm_a` and `iqm_b`;
      `win`, the share of seeds at which A is better, with Wilson's interval `win_low` and
      `win_high`, and how many `ties` are counted half in it; `p`, of the
      exact sign test, after Holm's correction for the number of groups; `decided`, whether that is
      below 0.05; `seeds`, how many; and `more`, about how many more would decide if things stay as
      they are, 0 where it is decided. Where fewer than two seeds are shared, runs are compared
      with one another instead (Mann & Whitney), and the attribute `paired` is 0.

    Raises:
      FadeoutError: A or B names nothing that is there, or both name the same runs.

    >>> from fadeout import Run, train
    >>> runs = [Run(name, seed=s) for name in ("tanh", "step") for s in range(12)]
    >>> found = difference(train(runs, cache=None, quiet=True), {"activation": "tanh"},
    ...                    {"activation": "step"}, by="loss")
    >>> bool(found.decided), float(found.win), int(found.seeds)
    (True, 1.0, 12)
    """
    results = with_remedy(with_run_dim(results, "difference"))
    groups = paired_groups(results, a, b, by, pool)
    rows = [_compared(group, is_share_of_runs(by), is_higher_better(by)) for group in groups]
    for row, p in zip(rows, _holm([row["p"] for row in rows]), strict=True):
        row |= {"p": p, "decided": p < 1 - _CONFIDENCE}
        row["more"] = 0 if row["decided"] else _more_seeds(row, len(rows))
    names = list(groups[0].labels)
    found = xr.Dataset({name: ("group", [row[name] for row in rows]) for name in rows[0]})
    found = found.assign_coords({
        f"config.{name}" if name in found else name:
            ("group", [group.labels[name] for group in groups])
        for name in names
    })  # fmt: skip
    found.attrs = {
        "by": by,
        "a": describe_config(a),
        "b": describe_config(b),
        "higher_is_better": int(is_higher_better(by)),
        "paired": int(all(group.paired for group in groups)),
        "pooled": ", ".join(pool),
    }
    return found if names else found.isel(group=0)


_SAID_ALONE = ("activation", "init", "task", "optimizer", "remedy")
"""Labels whose values need no name: relu, and depth=8."""


def describe_config(config: Mapping[str, Any]) -> str:
    return ", ".join(
        str(value) if name in _SAID_ALONE else f"{name}={format_label(value)}"
        for name, value in config.items()
    )


class PairedGroup(NamedTuple):
    """The outcomes of two configs where all else is the same.

    Attributes:
      labels: what else varies, and its value here.
      a, b: outcomes, [seed] where they are paired; -inf and inf are runs that lost or won whatever
        the other did.
      scores: 1 where A is better, 0 where B is, 1/2 where they are equal, [seed].
      paired: whether both have the same seeds.
      runs: the places of all its runs in the results.
      seeds: in rising order, where they are paired.
    """

    labels: dict[str, Any]
    a: np.ndarray
    b: np.ndarray
    scores: np.ndarray
    paired: bool
    runs: np.ndarray
    seeds: np.ndarray

    def until(self, seed: int) -> "PairedGroup":
        """The group with the seeds below a number alone."""
        own = self.seeds < seed
        return self._replace(
            a=self.a[own], b=self.b[own], scores=self.scores[own], seeds=self.seeds[own]
        )


def paired_groups(
    results: xr.Dataset, a: Mapping[str, Any], b: Mapping[str, Any], by: str, pool: Sequence[str]
) -> list[PairedGroup]:
    """The groups in which two configs are compared, seeds in rising order.

    Raises:
      FadeoutError: as `difference`.
    """
    values = outcome_values(results, by)
    higher = is_higher_better(by)
    lost = -np.inf if higher else np.inf
    values = np.where(results["status"].values == "failed", np.nan, np.where(
        np.isnan(values) & ~np.full(values.shape, is_share_of_runs(by)), lost, values
    ))  # fmt: skip
    own = [_chosen_runs(results, config) for config in (a, b)]
    for config, runs in zip((a, b), own, strict=True):
        if np.isnan(values[runs]).all():
            raise FadeoutError(f"no run of {describe_config(config)} has a {by}")
    if (own[0] & own[1]).any():
        raise FadeoutError(
            f"{describe_config(a)} and {describe_config(b)} name the same runs: say in both what "
            "tells them apart"
        )
    for name in pool:
        lookup(dict.fromkeys(map(str, config_labels(results))), name, "label to pool")
    both = own[0] | own[1]
    cut, is_a = results.isel(run=both), own[0][both]
    names = _labels_of_groups(cut, is_a, (a, b), pool)
    cells = [cut[name].values.astype(str) for name in pool if name not in {*a, *b}]
    values, seeds = values[both], cut["seed"].values
    found = []
    for _, members in group_by(cut, names):
        pair = [members[is_a[members] == side] for side in (True, False)]
        pair = [part[~np.isnan(values[part])] for part in pair]
        if not all(part.size for part in pair):
            continue
        labels = {name: np.asarray(cut[name].values[members[0]]).item() for name in names}
        runs = np.flatnonzero(both)[members]
        found.append(_paired(labels, values, seeds, cells, pair[0], pair[1], higher, runs))
    if not found:
        where = "; ".join(f"{name} is {_values_of(cut, name, is_a)} and "
                          f"{_values_of(cut, name, ~is_a)}" for name in names)  # fmt: skip
        raise FadeoutError(
            f"{describe_config(a)} and {describe_config(b)} are nowhere alike in all else ({where})"
            ": name it in both, or pool it"
        )
    return found


def _labels_of_groups(
    cut: xr.Dataset, is_a: np.ndarray, configs: tuple[Mapping, Mapping], pool: Sequence[str]
) -> list[str]:
    """The labels whose values make groups: what varies and is not named. An option that only one
    side has is part of its config, and must have one value there.

    Raises:
      FadeoutError: a side has several values of what the other names, or alone has.
    """
    a, b = configs
    told = {"seed", *pool, *(REMEDY_LABELS if "remedy" in {*a, *b} else ())}
    found = []
    for name in config_labels(cut):
        if name in told or (name in a and name in b) or not varies(cut, name):
            continue
        there = ~_is_missing(cut[name].values)
        sides = [there & is_a, there & ~is_a]
        if name in a or name in b:
            alone = [sides[1 if name in a else 0]]
        elif not (sides[0].any() and sides[1].any()):
            alone = [sides[0] if sides[0].any() else sides[1]]
        else:
            found.append(name)
            continue
        for side in alone:
            if np.unique(cut[name].values[side].astype(str)).size > 1:
                config = a if is_a[side].any() else b
                raise FadeoutError(
                    f"{describe_config(config)} has several values of {name} "
                    f"({_values_of(cut, name, side)}): say which, or pool it"
                )
    return found


def _is_missing(values: np.ndarray) -> np.ndarray:
    """Flags of values that a run does not have."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([value is None or value != value or value == "" for value in values.tolist()])


def _values_of(cut: xr.Dataset, name: str, side: np.ndarray) -> str:
    return ", ".join(format_label(value) for value in np.unique(cut[name].values[side])[:8])


def _chosen_runs(results: xr.Dataset, config: Mapping[str, Any]) -> np.ndarray:
    """Flags of the runs that have these values, [run].

    Raises:
      FadeoutError: a label or a value that no run has.
    """
    if not isinstance(config, Mapping) or not config:
        raise FadeoutError(
            f"a config is given by its labels, as {{'activation': 'relu'}}, not "
            f"{format_value(config)}"
        )
    known = dict.fromkeys([*config_labels(results), *["remedy"] * ("remedy" in results.coords)])
    chosen = np.ones(results.sizes["run"], bool)
    for name, value in config.items():
        lookup(known, name, "config value")
        own = results[name].values
        chosen &= equals(own, value)
        if not equals(own, value).any():
            there = ", ".join(dict.fromkeys(map(format_label, own[~_is_missing(own)].tolist())))
            raise FadeoutError(f"no run has {name}={format_value(value)}: there are {there:.200}")
    if not chosen.any():
        raise FadeoutError(f"no run has all of {describe_config(config)}")
    return chosen


def equals(own: np.ndarray, value: Any) -> np.ndarray:
    """Flags of the runs whose label has this value, also where it is given as text."""
    if value is None or str(value).lower() in ("none", "null"):
        return _is_missing(own) | np.array([str(v).lower() == "none" for v in own.tolist()])
    if own.dtype.kind in "iuf" and not isinstance(value, bool):
        try:
            return np.isclose(own.astype(float), float(value), rtol=1e-9, atol=0)
        except (TypeError, ValueError):
            return np.zeros(own.shape, bool)
    return np.array([str(v).lower() == str(value).lower() for v in own.tolist()])


def _paired(
    labels: dict[str, Any], values: np.ndarray, seeds: np.ndarray, cells: Sequence[np.ndarray],
    a: np.ndarray, b: np.ndarray, higher: bool, runs: np.ndarray,
) -> PairedGroup:  # fmt: skip
    """Pairs runs by seed and by what is pooled, and averages the pairs of each seed.

    Args:
      cells: the labels that are pooled, each [run].
    """

    def by_cell(own: np.ndarray) -> dict[tuple, float]:
        keys = zip(seeds[own].tolist(), *(cell[own].tolist() for cell in cells), strict=True)
        return dict(zip(keys, values[own].tolist(), strict=True))

    first, second = by_cell(a), by_cell(b)
    of_seed: dict[int, list[tuple]] = {}
    for key in first:
        if key in second:
            of_seed.setdefault(key[0], []).append(key)
    shared = sorted(of_seed)
    if len(shared) < 2:
        nothing = np.empty(0)
        return PairedGroup(labels, values[a], values[b], nothing, False, runs, nothing)

    def averaged(of: dict[tuple, float]) -> np.ndarray:
        return np.array([np.mean([of[key] for key in of_seed[seed]]) for seed in shared])

    own, other = averaged(first), averaged(second)
    return PairedGroup(labels, own, other, score(own, other, higher), True, runs, np.array(shared))


def score(a: np.ndarray, b: np.ndarray, higher: bool) -> np.ndarray:
    """1 where the first is better, 0 where it is worse, 1/2 where they are equal."""
    better, worse = (a > b, a < b) if higher else (a < b, a > b)
    return np.where(better, 1.0, np.where(worse, 0.0, 0.5))


def _compared(group: PairedGroup, shares: bool, higher: bool) -> dict[str, Any]:
    """All numbers of one group; `p` is not corrected yet."""
    from scipy import stats  # the import takes as long as all of JAX's

    a, b = group.a, group.b
    middle = np.mean if shares else np.median
    ties = 0
    if not group.paired:
        ranks = stats.mannwhitneyu(a, b, alternative="two-sided")
        share = float(ranks.statistic) / (a.size * b.size)
        win = score_interval(share if higher else 1 - share, min(a.size, b.size))
        p, value = float(ranks.pvalue), _unpaired_difference(a, b, shares)
    else:
        win = score_interval(float(group.scores.mean()), group.scores.size)
        wins, losses = int((group.scores > 0.5).sum()), int((group.scores < 0.5).sum())
        ties = group.scores.size - wins - losses
        p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
        flags = shares and np.isin(np.concatenate([a, b]), (0.0, 1.0)).all()
        known = np.isfinite(a) & np.isfinite(b)
        if flags:
            value = paired_share_interval(a == 1, b == 1)
        elif shares:
            value = mean_interval(a - b, flags=False)
        else:
            value = bootstrap(_difference_of_medians, a[known], b[known], paired=True)
    with np.errstate(invalid="ignore"):
        return {
            "value": value.value, "low": value.low, "high": value.high,
            "median_a": float(middle(a)), "median_b": float(middle(b)),
            "iqm_a": interquartile_mean(a), "iqm_b": interquartile_mean(b),
            "win": win.value, "win_low": win.low, "win_high": win.high,
            "p": p, "seeds": int(min(a.size, b.size)), "ties": ties,
        }  # fmt: skip


def _difference_of_medians(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return np.median(a, axis=axis) - np.median(b, axis=axis)


def _unpaired_difference(a: np.ndarray, b: np.ndarray, shares: bool) -> Interval:
    if not shares:
        return bootstrap(_difference_of_medians, a[np.isfinite(a)], b[np.isfinite(b)])
    (low_a, p, high_a), (low_b, q, high_b) = share_interval(a == 1), share_interval(b == 1)
    return Interval(
        p - q - np.hypot(p - low_a, high_b - q), p - q, p - q + np.hypot(high_a - p, q - low_b)
    )


def interquartile_mean(values: np.ndarray) -> float:
    """The mean of the middle half, of which the outermost values count in part (Agarwal 2021).

    >>> interquartile_mean(np.array([0.0, 1.0, 2.0, 100.0]))
    1.5
    """
    ordered, size = np.sort(values), values.size
    place = np.arange(size)
    share = np.clip(np.minimum(place + 1, 0.75 * size) - np.maximum(place, 0.25 * size), 0, 1)
    used = share > 0
    return float(np.sum(share[used] * ordered[used]) / share.sum())


def _holm(p: Sequence[float]) -> np.ndarray:
    """p-values that hold together (Holm 1979)."""
    values = np.asarray(p, float)
    order = np.argsort(values)
    factors = values.size - np.arange(values.size)
    corrected = np.empty(values.size)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return corrected


def _more_seeds(row: Mapping[str, Any], groups: int) -> float:
    """About how many more seeds would make the sign test decide, at the same shares of wins and of
    ties, and for all groups together; inf where wins and losses are equal."""
    from scipy.stats import binomtest

    seeds, ties = row["seeds"], row["ties"]
    told = seeds - ties
    wins = row["win"] * seeds - ties / 2
    if not told or not np.isfinite(wins) or abs(2 * wins - told) < 1e-9:
        return np.inf

    def decides(count: int) -> bool:
        return binomtest(round(wins / told * count), count).pvalue < (1 - _CONFIDENCE) / groups

    high = told
    while not decides(high):
        high *= 2
        if high > _MOST_SEEDS:
            return np.inf
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return float(max(np.ceil(high * seeds / told) - seeds, 1))


def explain(row: xr.Dataset, about: Mapping[str, Any]) -> str:
    """Says in a sentence what a group of a difference shows.

    Args:
      row: of one group.
      about: the attributes of the whole.
    """
    a, b = about["a"], about["b"]
    low, win, high = (float(row[name]) for name in ("win_low", "win", "win_high"))
    seeds, ties, more = int(row["seeds"]), int(row["ties"]), float(row["more"])
    if bool(row["decided"]):
        if win < 0.5:
            low, win, high, a, b = 1 - high, 1 - win, 1 - low, b, a
        return f"{a} is better than {b}: it wins {_wins(low, win, high, seeds, ties)}"
    wanted = f"about {more:,.0f} more seeds" if np.isfinite(more) else "no number of seeds"
    return (
        f"not decided: {a} wins against {b} in {_wins(low, win, high, seeds, ties)}; {wanted} "
        "would decide, if it stays so"
    )


def _wins(low: float, share: float, high: float, seeds: int, ties: int) -> str:
    """A share of seeds with its interval, and how many of them are ties.

    >>> _wins(0.5, 0.75, 0.9, 8, 2)
    '75% of 8 seeds [50, 90 %], 2 ties counted half'
    """
    said = f", {ties} tie{'s' * (ties > 1)} counted half" if ties else ""
    return f"{share:.0%} of {seeds} seeds [{100 * low:.0f}, {100 * high:.0f} %]{said}"


# --- until it is decided


class Standing(NamedTuple):
    """The standing of a group after the seeds so far.

    Attributes:
      win: the share of seeds at which A is better, a tie counted half, with an interval that is
        valid at any stopping time, for all groups together.
      word: a, b, equal or undecided.
    """

    labels: dict[str, Any]
    win: Interval
    seeds: int
    ties: int
    word: str

    def explain(self, a: str, b: str, indifference: float) -> str:
        low, share, high = self.win
        if self.word == "b":
            low, share, high, a, b = 1 - high, 1 - share, 1 - low, b, a
        wins = _wins(low, share, high, self.seeds, self.ties)
        if self.word in ("a", "b"):
            return f"{a} is better than {b}: it wins {wins}"
        if self.word == "equal":
            near = f"within 50 +- {100 * indifference:g} %"
            return f"too close to matter: {a} wins against {b} in {wins}, {near}"
        return f"not decided: {a} wins against {b} in {wins}"


def standings(groups: Sequence[PairedGroup], indifference: float) -> list[Standing]:
    """Says of each group whether it is decided, at whatever time it is looked at.

    Args:
      indifference: a win within 1/2 +- this is no difference.

    Raises:
      FadeoutError: a group is not paired.
    """
    level = 1 - (1 - _CONFIDENCE) / len(groups)
    found = []
    for group in groups:
        if not group.paired:
            raise FadeoutError("until it is decided, both configs need the same seeds")
        win = confidence_sequence(group.scores, level)
        word = "undecided"
        if win.low > 0.5 or win.high < 0.5:
            word = "a" if win.low > 0.5 else "b"
        elif win.low > 0.5 - indifference and win.high < 0.5 + indifference:
            word = "equal"
        ties = int((group.scores == 0.5).sum())
        found.append(Standing(group.labels, win, group.scores.size, ties, word))
    return found
