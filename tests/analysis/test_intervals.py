"""Intervals against closed forms, and their coverage where networks share draws."""

import numpy as np
import pytest

from fadeout.analysis.intervals import bootstrap, mean_interval, share_interval
from fadeout.claims.select import by_seed, compare_by_seed, ratio_of_means
from helpers import made


def test_shares_have_wilson_intervals():
    """Wilson 1927: the roots of (p - share)^2 = z^2 p (1 - p) / n."""
    for hits, n in ((0, 10), (3, 10), (50, 50)):
        low, value, high = share_interval(np.arange(n) < hits)
        assert value == hits / n
        for p in (low, high):
            z = 1.959963984540054
            assert (p - value) ** 2 == pytest.approx(z**2 * p * (1 - p) / n, abs=1e-12)


def coverage(interval, p=0.3, seeds=25, cells=16, trials=400, together=1.0):
    """How often an interval holds the truth; of a share `together` of the seeds all cells agree."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(trials):
        alone = rng.random((cells, seeds)) < p
        same = rng.random(seeds) < together
        flags = np.where(same, alone[0], alone)
        low, _, high = interval(flags.ravel(), np.tile(np.arange(seeds), cells))
        hits += low <= p <= high
    return hits / trials


def test_a_share_of_runs_that_share_seeds_covers_the_truth():
    naive = coverage(lambda flags, _: share_interval(flags))
    assert naive < 0.65, "the fault: cells that share their draws taken for independent ones"
    assert coverage(share_interval) >= 0.93
    assert coverage(share_interval, p=0.05) >= 0.93
    assert coverage(share_interval, together=0.3) >= 0.93
    assert coverage(share_interval, together=0.0) >= 0.93


def test_draws_that_are_all_distinct_change_nothing():
    flags = np.arange(40) < 13
    assert share_interval(flags, np.arange(40)) == share_interval(flags)


def test_a_share_that_is_nought_or_all_is_that_of_its_seeds():
    low, value, high = share_interval(np.zeros(200, bool), np.tile(np.arange(10), 20))
    assert (low, value) == (0, 0)
    assert high == pytest.approx(share_interval(np.zeros(10, bool)).high, abs=0.09)


def test_nothing_measured_is_nan():
    for interval in (
        share_interval(np.array([], bool)),
        mean_interval(np.array([np.nan, np.inf])),
        mean_interval(np.empty(0)),
    ):
        assert np.isnan(interval).all()


def test_bootstrap_intervals_of_a_mean_are_those_of_the_normal():
    sample = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, value, high = mean_interval(np.append(sample, np.nan))
    reach = 1.96 * sample.std() / 20
    assert value == pytest.approx(sample.mean())
    assert low == pytest.approx(value - reach, abs=0.15 * reach)
    assert high == pytest.approx(value + reach, abs=0.15 * reach)


def test_a_bootstrap_of_two_samples_and_of_constants():
    def ratio(a, b, axis):
        return np.median(a, axis=axis) / np.median(b, axis=axis)

    a, b = np.full(9, 6.0), np.full(7, 2.0)
    assert bootstrap(ratio, a, b) == (3, 3, 3)
    a = a + np.linspace(-1, 1, 9)
    low, value, high = bootstrap(ratio, a, b)
    assert 2.4 <= low < value == 3 < high <= 3.6


def test_two_measurements_of_the_same_networks_are_paired():
    """The deviation of a ratio r of means is that of the linearised difference, a - r b."""
    rng = np.random.default_rng(2)
    below = rng.lognormal(0, 0.5, 300)
    above = below * rng.normal(1, 0.05, 300)
    low, value, high = bootstrap(ratio_of_means, above, below, paired=True)
    reach = 1.96 * (above - value * below).std() / below.mean() / np.sqrt(300)
    assert high - low == pytest.approx(2 * reach, rel=0.15)
    wide = bootstrap(ratio_of_means, above, below)
    assert wide.high - wide.low > 5 * (high - low), "the fault: resampled apart"


def test_configs_that_share_seeds_are_compared_seed_by_seed():
    runs = made({"activation": ["relu"]}, seeds=30, status=lambda run: "solved")
    some = runs.isel(run=slice(5, 30))
    values = np.random.default_rng(3).lognormal(0, 1, 30)
    aligned = by_seed(values[5:], some, np.arange(30))
    assert np.isnan(aligned[:5]).all()
    np.testing.assert_array_equal(aligned[5:], values[5:])

    def ratio(a, b, axis):
        return np.nanmean(a, axis=axis) / np.nanmean(b, axis=axis)

    low, value, high = compare_by_seed(ratio, (2 * values, runs), (values, runs))
    assert (low, value, high) == pytest.approx((2, 2, 2)), "the same draws: the ratio has no spread"
    assert np.isnan(
        compare_by_seed(ratio, (values[:3], runs.isel(run=slice(3))), (values, runs))
    ).all()


SAMPLES = {
    "normal": (lambda rng, n: rng.normal(3.0, 2.0, n), 3.0),
    "lognormal": (lambda rng, n: rng.lognormal(0.0, 1.0, n), np.exp(0.5)),
    "0 or 1": (lambda rng, n: (rng.random(n) < 0.3).astype(float), 0.3),
}


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
@pytest.mark.parametrize(
    ("kind", "least"), [("normal", 0.94), ("lognormal", 0.79), ("0 or 1", 0.91)]
)
def test_a_mean_of_few_seeds_covers_the_truth(kind, least, count):
    """The fault: the percentile bootstrap covered 53, 76, 84, 89 and 92 % of normal samples."""
    draw, truth = SAMPLES[kind]
    rng = np.random.default_rng(count)
    found = [mean_interval(draw(rng, count)) for _ in range(4000)]
    covered = np.mean([low <= truth <= high for low, _, high in found])
    assert covered >= least - 0.01
    if kind == "normal":
        assert covered <= 0.96


@pytest.mark.parametrize("count", [3, 5, 10])
def test_a_bootstrap_of_few_seeds_is_widened(count):
    rng = np.random.default_rng(count)
    found = [bootstrap(np.mean, rng.normal(3.0, 2.0, count), draws=400) for _ in range(300)]
    assert np.mean([low <= 3.0 <= high for low, _, high in found]) >= 0.9


def test_one_value_has_no_interval_and_nan_is_no_flag():
    assert mean_interval(np.array([2.0])).value == 2.0
    assert np.isnan(mean_interval(np.array([2.0]))[::2]).all()
    assert np.isnan(bootstrap(np.median, np.array([2.0]))[::2]).all()
    assert np.isfinite(bootstrap(np.median, np.array([2.0, 3.0]))).all()
    assert np.isfinite(bootstrap(ratio_of_means, np.array([2.0, 3.0]), np.array([1.0, 2.0]))).all()
    flags = np.array([1.0, np.nan, 0.0, np.nan])
    assert share_interval(flags) == share_interval(np.array([True, False]))
    assert share_interval(flags, np.arange(4)) == share_interval(np.array([True, False]))
    assert np.isnan(share_interval(np.array([np.nan]))).all()
