"""Intervals against closed forms and coverage; every verdict on a run made for it."""

import numpy as np
import pytest
import xarray as xr

from fadeout.registry import FadeoutError
from fadeout.verdicts import bootstrap, mean, share, slopes, verdict_shares, verdicts


def test_shares_have_wilson_intervals():
    """Wilson 1927: the roots of (p - share)^2 = z^2 p (1 - p) / n."""
    for hits, n in ((0, 10), (3, 10), (50, 50)):
        low, value, high = share(np.arange(n) < hits)
        assert value == hits / n
        for p in (low, high):
            z = 1.959963984540054
            assert (p - value) ** 2 == pytest.approx(z**2 * p * (1 - p) / n, abs=1e-12)


def test_bootstrap_intervals_of_a_mean_are_those_of_the_normal():
    sample = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, value, high = mean(np.append(sample, np.nan))
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
    assert 2.5 <= low < value == 3 < high <= 3.5


def made(depth=3, **changes):
    """One run that is healthy but for the changes."""
    ones = np.ones((1, 2, depth + 1))
    values = {
        "delta_norm": ones, "dead_units": 0 * ones, "saturation": 0.1 * ones
    } | changes  # fmt: skip
    dims = ("run", "step", "layer")
    variables = {name: (dims, np.broadcast_to(v, ones.shape)) for name, v in values.items()
                 if name != "status"}  # fmt: skip
    return xr.Dataset(
        variables | {"status": ("run", [changes.get("status", "solved")])},
        {"step": [0, 10], "layer": np.arange(1, depth + 2), "steps": ("run", [10]),
         "depth": ("run", [depth])},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("healthy", {}),
        ("failed", {"status": "failed"}),
        ("diverged", {"status": "diverged", "delta_norm": np.nan}),
        ("dead", {"dead_units": [[0, 0, 0, 0], [0, 1, 0, 0]], "delta_norm": [1e-3, 1, 1, 1]}),
        ("healthy", {"dead_units": [[0, 1, 0, 0], [0, 0.9, 0, 0]]}),
        ("vanishing", {"delta_norm": [0.009, 0.1, 1, 9], "saturation": 0.9}),
        ("vanishing", {"delta_norm": [0, 0.1, 1, 9]}),
        ("healthy", {"delta_norm": [0.011, 0.1, 1, 9]}),
        ("exploding", {"delta_norm": [101, 10, 1, 9]}),
        ("saturated", {"saturation": [[0.1] * 4, [0.5, 0.6, 0.5, 0.5]]}),
        ("healthy", {"saturation": [[0.9] * 4, [0.5] * 4]}),
    ],
)
def test_the_first_verdict_that_applies(word, changes):
    results = made(**changes)
    for name in ("dead_units", "saturation"):  # the readout has none
        results[name] = results[name].where(results["layer"] <= 3)
    assert verdicts(results).tolist() == [word]


def test_verdicts_say_which_probes_they_lack():
    with pytest.raises(FadeoutError, match="need the probes delta_norm, saturation: record"):
        verdicts(made().drop_vars(["delta_norm", "saturation"]))


def test_shares_of_verdicts_come_in_their_order():
    shares = verdict_shares(np.array(["healthy", "healthy", "dead", "healthy"]))
    assert list(shares) == ["dead", "healthy"]
    assert shares["healthy"].value == 0.75


def test_slopes_are_per_layer_and_over_hidden_layers_only():
    falling = made(depth=4, delta_norm=10.0 ** np.array([-6, -4, -2, 0, 5]))
    assert slopes(falling["delta_norm"].sel(step=0)) == pytest.approx([2.0])
