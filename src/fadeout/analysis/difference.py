"""Which of two configs is better, by how much, and whether the seeds suffice to say so."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import ndtri

from fadeout.analysis.comparison import is_share_of_runs
from fadeout.analysis.groups import format_label, group_by, varies, with_remedy
from fadeout.analysis.intervals import (
    Interval,
    bootstrap,
    confidence_sequence,
    mean_interval,
    paired_share_interval,
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
      `win`, the share of seeds at which A is better, with `win_low` and `win_high`; `p`, of the
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
        row["more"] = 0 if row["decided"] else _more_seeds(row)
    names = list(groups[0].labels)
    found = xr.Dataset({name: ("group", [row[name] for row in rows]) for name in rows[0]})
    found = found.assign_coords(
        {name: ("group", [group.labels[name] for group in groups]) for name in names}
    )
    found.attrs = {
        "by": by,
        "a": describe_config(a),
        "b": describe_config(b),
        "higher_is_better": int(is_higher_better(by)),
        "paired": int(all(group.paired for group in groups)),
        "pooled": ", ".join(pool),
    }
    return found if names else found.isel(group=0)


def describe_config(config: Mapping[str, Any]) -> str:
    return ", ".join(
        str(value) if isinstance(value, str) else f"{name}={format_label(value)}"
        for name, value in config.items()
    )


class PairedGroup(NamedTuple):
    """The outcomes of two configs where all else is the same.

    Attributes:
      labels: what else varies, and its value here.
      a, b: outcomes, [seed] where they are paired; -inf and inf are runs that lost or won whatever
        the other did.
      scores: 1 where A is better, 0 where B is, 1/2 where they are equal, [seed]; of pooled runs
        the mean.
      paired: whether both have the same seeds.
      runs: the places of all its runs in the results.
    """

    labels: dict[str, Any]
    a: np.ndarray
    b: np.ndarray
    scores: np.ndarray
    paired: bool
    runs: np.ndarray


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
        if not np.isfinite(values[runs]).any():
            raise FadeoutError(f"no run of {describe_config(config)} has a {by}")
    if (own[0] & own[1]).any():
        raise FadeoutError(
            f"{describe_config(a)} and {describe_config(b)} name the same runs: say in both what "
            "tells them apart"
        )
    both = own[0] | own[1]
    cut = results.isel(run=both)
    told = {"seed", *a, *b, *_parts_of_remedy({*a, *b})}
    for name in pool:
        lookup(dict.fromkeys(map(str, config_labels(results))), name, "label to pool")
    names = [
        name
        for name in config_labels(cut)
        if name not in told and name not in pool and varies(cut, name)
    ]
    names = _without_followers(cut, names, own[0][both])
    values, is_a, seeds = values[both], own[0][both], cut["seed"].values
    found = []
    for _, members in group_by(cut, names):
        pair = [members[is_a[members] == side] for side in (True, False)]
        if not all(part.size for part in pair):
            continue
        labels = {name: cut[name].values[members[0]].item() for name in names}
        runs = np.flatnonzero(both)[members]
        found.append(_paired(labels, values, seeds, pair[0], pair[1], higher, runs))
    if not found:
        raise FadeoutError(
            f"{describe_config(a)} and {describe_config(b)} are nowhere alike in all else: "
            f"{', '.join(names)} vary"
        )
    return found


def _parts_of_remedy(names: set[str]) -> tuple[str, ...]:
    from fadeout.analysis.groups import REMEDY_LABELS

    return REMEDY_LABELS if "remedy" in names else ()


def _without_followers(cut: xr.Dataset, names: list[str], is_a: np.ndarray) -> list[str]:
    """Leaves out labels that have one value in A and another in B: they belong to the configs, as
    an activation's own parameter does."""

    def of_side(name: str, side: bool) -> set:
        return set(cut[name].values[is_a == side].astype(str).tolist())

    return [
        name
        for name in names
        if not (
            len(of_side(name, True)) == len(of_side(name, False)) == 1
            or "nan" in of_side(name, True) ^ of_side(name, False)
        )
    ]


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
        chosen &= _equals(own, value)
        if not _equals(own, value).any():
            there = ", ".join(format_label(v) for v in np.unique(own[own == own])[:20])
            raise FadeoutError(f"no run has {name}={format_value(value)}: there are {there}")
    if not chosen.any():
        raise FadeoutError(f"no run has all of {describe_config(config)}")
    return chosen


def _equals(own: np.ndarray, value: Any) -> np.ndarray:
    if own.dtype.kind in "iuf" and not isinstance(value, bool):
        try:
            return np.isclose(own.astype(float), float(value), rtol=1e-9, atol=0)
        except (TypeError, ValueError):
            return np.zeros(own.shape, bool)
    return np.array([str(v).lower() == str(value).lower() for v in own.tolist()])


def _paired(
    labels: dict[str, Any], values: np.ndarray, seeds: np.ndarray, a: np.ndarray, b: np.ndarray,
    higher: bool, runs: np.ndarray,
) -> PairedGroup:  # fmt: skip
    """Pairs runs by seed, those of one seed averaged."""
    a, b = (own[~np.isnan(values[own])] for own in (a, b))
    shared = np.intersect1d(seeds[a], seeds[b])
    if shared.size < 2:
        return PairedGroup(labels, values[a], values[b], np.empty(0), False, runs)

    def by_seed(own: np.ndarray) -> np.ndarray:
        return np.array([values[own[seeds[own] == seed]].mean() for seed in shared])

    first, second = by_seed(a), by_seed(b)
    return PairedGroup(labels, first, second, score(first, second, higher), True, runs)


def score(a: np.ndarray, b: np.ndarray, higher: bool) -> np.ndarray:
    """1 where the first is better, 0 where it is worse, 1/2 where they are equal."""
    better, worse = (a > b, a < b) if higher else (a < b, a > b)
    return np.where(better, 1.0, np.where(worse, 0.0, 0.5))


def _compared(group: PairedGroup, shares: bool, higher: bool) -> dict[str, Any]:
    """All numbers of one group; `p` is not corrected yet."""
    from scipy import stats  # the import takes as long as all of JAX's

    a, b = group.a, group.b
    middle = np.mean if shares else np.median
    if not group.paired:
        ranks = stats.mannwhitneyu(a, b, alternative="two-sided")
        win = _win_unpaired(*((a, b) if higher else (-a, -b)))
        p = float(ranks.pvalue)
        value = _unpaired_difference(a, b, shares)
    else:
        win = mean_interval(group.scores)
        wins, losses = int((group.scores > 0.5).sum()), int((group.scores < 0.5).sum())
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
            "p": p, "seeds": int(min(a.size, b.size)),
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


def _win_unpaired(a: np.ndarray, b: np.ndarray) -> Interval:
    """How often a run of the one is larger than a run of the other."""
    return bootstrap(lambda a, b, axis: _mean_score(a, b), a, b)


def _mean_score(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return score(a[..., :, None], b[..., None, :], True).mean((-1, -2))


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


def _more_seeds(row: Mapping[str, Any]) -> float:
    """About how many more seeds would decide: the width of an interval falls as their root."""
    off = abs(row["win"] - 0.5)
    if not np.isfinite(off) or off == 0:
        return np.inf
    spread = row["win"] * (1 - row["win"])
    wanted = np.ceil(max(spread, 0.01) * (float(ndtri(0.975)) / off) ** 2)
    more = max(wanted - row["seeds"], 1)
    return float(more) if more < _MOST_SEEDS else np.inf


def explain(row: xr.Dataset, about: Mapping[str, Any]) -> str:
    """Says in a sentence what a group of a difference shows.

    Args:
      row: of one group.
      about: the attributes of the whole.
    """
    a, b = about["a"], about["b"]
    win, seeds = float(row["win"]), int(row["seeds"])
    interval = f"[{100 * float(row['win_low']):.0f}, {100 * float(row['win_high']):.0f} %]"
    if bool(row["decided"]):
        better, worse = (a, b) if win > 0.5 else (b, a)
        share, ends = (win, interval) if win > 0.5 else (1 - win, (
            f"[{100 * (1 - float(row['win_high'])):.0f}, {100 * (1 - float(row['win_low'])):.0f} %]"
        ))  # fmt: skip
        return f"{better} is better than {worse}: in {share:.0%} of {seeds} seeds {ends}"
    more = float(row["more"])
    seeds_wanted = f"about {more:,.0f} more seeds" if np.isfinite(more) else "no number of seeds"
    return (
        f"not decided between {a} and {b}: {a} is better in {win:.0%} of {seeds} seeds {interval}; "
        f"{seeds_wanted} would decide, if it stays so"
    )


# --- until it is decided


class Standing(NamedTuple):
    """The standing of a group after the seeds so far.

    Attributes:
      win: the share of seeds at which A is better, with an interval that is valid at any stopping
        time, for all groups together.
      word: a, b, equal or undecided.
    """

    labels: dict[str, Any]
    win: Interval
    seeds: int
    word: str

    def explain(self, a: str, b: str, indifference: float) -> str:
        low, share, high = self.win
        if self.word == "b":
            low, share, high, a, b = 1 - high, 1 - share, 1 - low, b, a
        ends = f"{share:.0%} of {self.seeds} seeds [{100 * low:.0f}, {100 * high:.0f} %]"
        if self.word in ("a", "b"):
            return f"{a} is better than {b}: in {ends}"
        if self.word == "equal":
            near = f"within 50 +- {100 * indifference:g} %"
            return f"too close to matter: {a} is better than {b} in {ends}, {near}"
        return f"not decided: {a} is better than {b} in {ends}"


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
        found.append(Standing(group.labels, win, group.scores.size, word))
    return found
