"""Which of two configs is better: by hand, against SciPy, and by simulated studies."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import fadeout
from fadeout.analysis.difference import (
    PairedGroup,
    _holm,
    interquartile_mean,
    paired_groups,
    standings,
)
from fadeout.analysis.intervals import confidence_sequence, paired_share_interval
from fadeout.registry import FadeoutError
from helpers import script


def outcomes(values, depth=None):
    """A dataset of runs of two activations with these final losses, [activation][seed]."""
    rows = [
        (name, seed, value)
        for name, own in values.items()
        for seed, value in (own.items() if isinstance(own, dict) else enumerate(own))
    ]
    names, seeds, losses = map(np.array, zip(*rows, strict=True))
    size = losses.size
    return xr.Dataset(
        {
            "loss": (("run", "step"), np.stack([np.ones(size), losses], 1)),
            "status": ("run", np.where(losses < 0.1, "solved", "unsolved")),
        },
        {
            "run": np.arange(size),
            "step": [0, 10],
            "activation": ("run", names),
            "depth": ("run", np.full(size, 2) if depth is None else depth),
            "seed": ("run", seeds),
            "steps": ("run", np.full(size, 10)),
            "id": ("run", [f"{n:016x}" for n in range(size)]),
        },
    )


A, B = {"activation": "relu"}, {"activation": "tanh"}


def test_by_hand():
    a, b = [1.0, 2.0, 3.0, 4.0, 9.0, 0.5], [2.0, 3.0, 4.0, 4.0, 5.0, np.nan]
    found = fadeout.difference(outcomes({"relu": a, "tanh": b}), A, B, by="loss")
    assert found.sizes == {}
    assert float(found.win) == (3 + 0.5 + 0 + 1) / 6, "a run that diverged loses"
    assert float(found.p) == pytest.approx(stats.binomtest(4, 5).pvalue)
    assert float(found.median_a) == 2.5
    assert float(found.median_b) == 4.0
    assert float(found.value) == 3.0 - 4.0, "of the seeds at which both are finite"
    assert not found.decided
    counts = [n for n in range(5, 60) if stats.binomtest(round(0.8 * n), n).pvalue < 0.05]
    assert float(found.more) == pytest.approx(np.ceil(counts[0] * 6 / 5) - 6, abs=6)
    assert float(found.ties) == 1
    assert found.attrs["a"] == "relu"


def test_the_interval_of_medians_is_scipys():
    rng = np.random.default_rng(1)
    a, b = rng.lognormal(size=(2, 30))
    found = fadeout.difference(outcomes({"relu": a, "tanh": b}), A, B, by="loss")
    own = stats.bootstrap(
        (a, b), lambda x, y, axis: np.median(x, axis) - np.median(y, axis), paired=True,
        method="percentile", n_resamples=9999, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    width = own.high - own.low
    assert float(found.low) == pytest.approx(own.low, abs=0.12 * width)
    assert float(found.high) == pytest.approx(own.high, abs=0.12 * width)


def test_shares_are_paired():
    a = [0.0] * 9 + [1.0]
    b = [0.0] * 4 + [1.0] * 6
    found = fadeout.difference(outcomes({"relu": a, "tanh": b}), A, B)
    assert float(found.value) == pytest.approx(0.5)
    assert float(found.win) == 0.75
    assert float(found.p) == pytest.approx(2 * 0.5**5), "McNemar's exact test"


def test_newcombes_interval_covers():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        u = rng.random(25)
        v = np.where(rng.random(25) < 0.5, u, rng.random(25))
        low, _, high = paired_share_interval(u < 0.8, v < 0.6)
        inside += low <= 0.2 <= high
    assert 0.93 < inside / 2000 < 0.99
    low, value, high = paired_share_interval(np.ones(20, bool), np.ones(20, bool))
    assert (value, low) == (0, -high)
    assert high > 0.1, "twenty equal pairs do not show that all are"


def test_seeds_that_are_not_shared_are_compared_with_one_another():
    a, b = {n: float(n) for n in range(9)}, {n + 100: n + 4.5 for n in range(9)}
    results = outcomes({"relu": a, "tanh": b})
    found = fadeout.difference(results, A, B, by="loss")
    ranks = stats.mannwhitneyu([*a.values()], [*b.values()])
    assert found.attrs["paired"] == 0
    assert float(found.p) == pytest.approx(ranks.pvalue)
    assert float(found.win) == pytest.approx(1 - ranks.statistic / 81)
    far = outcomes({"relu": {0: 1.0, 1: 1.1}, "tanh": {5: 2.0, 6: 2.1}})
    assert float(fadeout.difference(far, A, B, by="loss").win_low) < 0.5, "two runs are not sure"
    assert float(found.win_low) < float(found.win) < float(found.win_high)
    with pytest.raises(FadeoutError, match="both configs need the same seeds"):
        standings(paired_groups(results, A, B, "loss", ()), 0.05)


def test_what_varies_makes_groups_or_is_pooled():
    losses = {"relu": [1.0, 2, 3, 4, 5, 6], "tanh": [2.0, 3, 4, 3, 4, 5]}
    results = outcomes(losses, depth=np.tile([2, 2, 2, 4, 4, 4], 2))
    results["seed"] = "run", np.tile([0, 1, 2], 4)
    found = fadeout.difference(results, A, B, by="loss")
    assert found.depth.values.tolist() == [2, 4]
    assert found.win.values.tolist() == [1, 0]
    assert found.p.values.tolist() == [0.5, 0.5], "Holm: 0.25 twice"
    pooled = fadeout.difference(results, A, B, by="loss", pool=["depth"])
    assert float(pooled.win) == 0.5
    assert pooled.attrs["pooled"] == "depth"


def test_holm():
    np.testing.assert_allclose(_holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])


def test_interquartile_means():
    rng = np.random.default_rng(0)
    for size in (4, 8, 20):
        values = rng.normal(size=size)
        assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert interquartile_mean(np.array([0.0, 1.0, np.inf])) == np.inf
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 3.0, np.inf])) < 3


@pytest.mark.parametrize("ties", [0.0, 0.6])
def test_equal_configs_are_seldom_declared_different(ties):
    """1,000 studies, looked at after every seed: at most 5 % see a difference."""
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(1000):
        scores = rng.choice([0, 0.5, 1], p=[(1 - ties) / 2, ties, (1 - ties) / 2], size=200)
        low, _, high = confidence_sequence(scores)
        wrong += low > 0.5 or high < 0.5
    assert wrong <= 50


def test_true_differences_are_found():
    rng = np.random.default_rng(4)
    seeds = []
    for _ in range(40):
        scores = (rng.random(600) < 0.7).astype(float)
        seeds.append(
            next(n for n in range(20, 601, 20) if confidence_sequence(scores[:n]).low > 0.5)
        )
    assert np.mean(seeds) < 120


def test_groups_share_the_error():
    group = PairedGroup(
        {}, np.zeros(40), np.ones(40), np.ones(40), True, np.arange(80), np.arange(40)
    )
    assert group.until(10).scores.size == 10
    alone, among = standings([group], 0.05)[0], standings([group] * 20, 0.05)[0]
    assert alone.word == among.word == "a"
    assert among.win.low < alone.win.low
    equal = group._replace(scores=np.full(200, 0.5))
    assert standings([equal], 0.05)[0].word == "equal"


def test_a_config_that_always_diverges_loses():
    found = fadeout.difference(outcomes({"relu": [np.nan] * 9, "tanh": [1.0] * 9}), A, B, by="loss")
    assert (float(found.win), bool(found.decided)) == (0, True)
    assert np.isnan(found.value)


def labelled(values, **labels):
    results = outcomes(values)
    return results.assign_coords({name: ("run", own) for name, own in labels.items()})


def test_what_is_confounded_is_refused():
    two = {"relu": [1.0, 2.0, 3.0], "tanh": [2.0, 3.0, 4.0]}
    results = outcomes(two, depth=np.repeat([2, 16], 3))
    with pytest.raises(FadeoutError, match=r"nowhere alike in all else \(depth is 2 and 16\)"):
        fadeout.difference(results, A, B, by="loss")
    found = fadeout.difference(results, A | {"depth": 2}, B | {"depth": 16}, by="loss")
    assert float(found.win) == 1
    assert found.attrs["a"] == "relu, depth=2"


def test_what_one_side_alone_has_must_be_one_value():
    two = {"leaky_relu": [1.0, 2.0, 3.0, 1.5, 2.5, 3.5], "tanh": [2.0, 3.0, 4.0]}
    slopes = np.array([0.1] * 3 + [0.9] * 3 + [np.nan] * 3)
    results = labelled(two, slope=slopes)
    results["seed"] = "run", np.tile([0, 1, 2], 3)
    own = {"activation": "leaky_relu"}
    with pytest.raises(FadeoutError, match=r"several values of slope \(0\.1, 0\.9\): say which"):
        fadeout.difference(results, own, B, by="loss")
    assert float(fadeout.difference(results, own | {"slope": 0.9}, B, by="loss").win) == 1
    depths = outcomes({"relu": [1.0, 2.0], "tanh": [0.5, 1.5, 9.0, 9.0]},
                      depth=np.array([2, 2, 2, 2, 16, 16]))  # fmt: skip
    depths["seed"] = "run", np.array([0, 1, 0, 1, 0, 1])
    with pytest.raises(FadeoutError, match="tanh has several values of depth"):
        fadeout.difference(depths, A | {"depth": 2}, B, by="loss")


def test_pooling_pairs_before_it_averages():
    results = outcomes({"relu": [1.0, 1.0, 9.0, 9.0], "tanh": [2.0, 2.0]},
                       depth=np.array([2, 2, 16, 16, 2, 2]))  # fmt: skip
    results["seed"] = "run", np.array([0, 1, 0, 1, 0, 1])
    found = fadeout.difference(results, A, B, by="loss", pool=["depth"])
    assert float(found.win) == 1, "depth 16 has no partner"


def test_a_label_never_hides_a_result():
    values = np.repeat([0.1, 0.2], 4)
    results = labelled(
        {"relu": [1.0] * 4, "tanh": [2.0] * 4}, value=np.tile([0.1, 0.1, 0.2, 0.2], 2)
    )
    results["seed"] = "run", np.tile([0, 1], 4)
    found = fadeout.difference(results, A, B, by="loss")
    assert found["config.value"].values.tolist() == sorted(set(values))
    assert found["value"].values.tolist() == [-1, -1]


def test_a_group_whose_runs_failed_does_not_count():
    results = outcomes(
        {"relu": [1.0] * 12, "tanh": [2.0] * 12}, depth=np.tile([2] * 6 + [4] * 6, 2)
    )
    results["seed"] = "run", np.tile(np.arange(6), 4)
    status = results["status"].values.astype("<U8")
    status[6:12] = "failed"
    found = fadeout.difference(results.assign(status=("run", status)), A, B, by="loss")
    assert float(np.ravel(found.p)[0]) == pytest.approx(2 * 0.5**6)


def test_none_is_a_value():
    results = labelled({"relu": [1.0] * 3 + [2.0] * 3}, clip=np.array([1.0] * 3 + [np.nan] * 3))
    results["seed"] = "run", np.tile([0, 1, 2], 2)
    for nothing in (None, "none", "null"):
        found = fadeout.difference(results, {"clip": 1}, {"clip": nothing}, by="loss")
        assert float(found.win) == 1


def test_ties_and_extremes_have_a_width():
    same = fadeout.difference(outcomes({"relu": [1.0] * 24, "tanh": [1.0] * 24}), A, B, by="loss")
    assert float(same.win_low) < 0.35
    assert int(same.ties) == 24
    near = outcomes({"relu": [1.0, 1, 1, 1], "tanh": [2.0, 2, 2, 1]})
    assert float(fadeout.difference(near, A, B, by="loss").win_high) <= 1


@pytest.mark.parametrize(
    ("a", "b", "options", "words"),
    [
        ({"activation": "gelu"}, B, {}, "no run has activation='gelu': there are relu, tanh"),
        ({"activtion": "relu"}, B, {}, "activation"),
        (A, A, {}, "name the same runs"),
        (A, {"depth": 2}, {}, "name the same runs"),
        (A, B, {"by": "accuracy"}, "unknown quantity"),
        (A, B, {"pool": ["width"]}, "label to pool"),
        ("relu", B, {}, "a config is given by its labels"),
    ],
)
def test_what_cannot_be_compared(a, b, options, words):
    results = outcomes({"relu": [1.0, 2.0], "tanh": [1.0, 2.0]})
    with pytest.raises(FadeoutError, match=words):
        fadeout.difference(results, a, b, **{"by": "loss"} | options)


def test_the_command_trains_until_it_is_decided(tmp_path):
    words = (
        "outputs/v",
        "activation=tanh",
        "activation=step",
        "model.depth=2,3",
        "training.steps=60",
    )
    asked = ("--by", "loss", "--until-decided", "--block", "16", "--most", "64")
    done = script("versus", *words, *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "depth 2: tanh is better than step" in done.stdout
    results = fadeout.load(tmp_path / "outputs/v")
    runs = results.sizes["run"]
    assert runs >= 64
    assert runs % 32 == 0
    assert (tmp_path / "outputs/v/versus_tanh_step_by_loss.png").exists()
    again = script("versus", *words, *asked, cwd=tmp_path)
    assert fadeout.load(tmp_path / "outputs/v").sizes["run"] == runs, "the same command goes on"
    assert again.stdout.splitlines()[-6:] == done.stdout.splitlines()[-6:]
    plain = script("versus", *words[:3], "--by", "loss", "--pool", "depth", cwd=tmp_path)
    found = fadeout.difference(results, {"activation": "tanh"}, {"activation": "step"}, "loss",
                               ["depth"])  # fmt: skip
    assert f"it wins {float(found.win):.0%} of" in plain.stdout
    assert "of each seed the mean over depth" in plain.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("outputs/none", "activation=tanh", "activation=relu"), "no results under"),
        (("outputs/none", "tanh", "activation=relu"), "write a config as activation=relu"),
        (("outputs/none", "activation=a", "activation=relu", "model.depth=2"), "--until-decided"),
        (("outputs/none", "activation=a", "activation=relu", "--until-decided"), "activation"),
        (
            ("o", "activation=a", "activation=b", "--until-decided", "--most", "1"),
            "2 seeds or more",
        ),
        (("o", "activation=a", "activation=b", "--indifference", "2"), "between 0 and 0.5"),
        (("o", "activation=a", "activation=b", "seed=1", "--until-decided"), "leave seed= out"),
        (("o", "activation=a,activation=c", "activation=b"), "names activation twice"),
        (("o", "activation=a", "activation=b", "--by", "los"), "did you mean loss?"),
    ],
)
def test_what_the_command_refuses(words, told, tmp_path):
    done = script("versus", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()
