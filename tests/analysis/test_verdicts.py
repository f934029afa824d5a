"""Every verdict on a run made for it."""

import numpy as np
import pytest
import xarray as xr

import fadeout
from fadeout.analysis import verdicts as judging
from fadeout.analysis.slopes import log10_slopes
from fadeout.analysis.verdicts import verdict_shares, verdicts
from fadeout.config import Activation, Init, Model, Run, Training
from fadeout.registry import FadeoutError
from fadeout.sweeps.results import final_values

pytestmark = pytest.mark.few("tanh", "relu", "identity", "step")


def made(depth=3, activation="identity", **changes):
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
         "depth": ("run", [depth]), "activation": ("run", [activation])},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("healthy", {}),
        ("failed", {"status": "failed"}),
        ("diverged", {"status": "diverged", "delta_norm": np.nan}),
        ("dead", {"dead_units": [[0, 0, 0, 0], [0, 1, 0, 0]], "delta_norm": [1e-3, 1, 1, 1]}),
        ("healthy", {"dead_units": [[0, 1, 0, 0], [0, 0.5, 0, 0]]}),
        (
            "partly_dead",
            {
                "dead_units": [[0, 1, 0, 0], [0, 0.75, 0, 0]],
                "saturation": 0.9,
                "activation": "relu",
            },
        ),
        ("vanishing", {"delta_norm": [0.009, 0.1, 1, 9], "saturation": 0.9}),
        ("vanishing", {"delta_norm": [0, 0.1, 1, 9]}),
        ("healthy", {"delta_norm": [0.011, 0.1, 1, 9]}),
        ("exploding", {"delta_norm": [101, 10, 1, 9]}),
        ("no_gradient", {"delta_norm": [0, 0, 0, 1.0]}),
        ("vanishing", {"delta_norm": [0, 0, 1e-9, 1.0]}),
        ("exploding", {"delta_norm": [np.inf, np.inf, np.inf, 1.0]}),
        ("saturated", {"saturation": [[0.1] * 4, [0.5, 0.6, 0.5, 0.5]]}),
        ("healthy", {"saturation": [[0.9] * 4, [0.5] * 4]}),
        ("healthy", {"saturation": [[0.1] * 4, [0.7] * 4], "activation": "relu"}),
        ("saturated", {"saturation": [[0.1] * 4, [0.76] * 4], "activation": "relu"}),
        ("saturated", {"saturation": [[0.1] * 4, [0.7] * 4], "activation": "a user's own"}),
    ],
)
def test_the_first_verdict_that_applies(word, changes):
    results = made(activation=changes.pop("activation", "identity"), **changes)
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
    assert log10_slopes(falling["delta_norm"].sel(step=0)) == pytest.approx([2.0])
    dead = made(depth=4, delta_norm=[0.0, 0, 0, 1, 1])
    assert np.isnan(log10_slopes(dead["delta_norm"].sel(step=0))), "and nothing is said on the way"


def test_networks_that_work_are_not_called_saturated():
    """relu's zero half, which untrained networks of He's initialisation show, is expected."""
    runs = [
        Run(Activation("relu"), Init("he_normal"), model=Model(4, 16), training=Training(0, 1),
            seed=seed)
        for seed in range(40)
    ]  # fmt: skip
    results = fadeout.train(runs)
    counted = final_values(results["saturation"]).mean("layer").values > 0.5
    assert counted.mean() > 0.3, "more than half of the units, as the rule had it before"
    assert not (verdicts(results) == "saturated").any()


def test_zero_weights_have_no_gradient():
    results = fadeout.train(Run(init=Init("zeros"), training=Training(4, 4)))
    assert verdicts(results).tolist() == ["no_gradient"]


def test_what_is_expected_of_an_activation_is_worked_out_once(monkeypatch):
    """Runs without a slope or an alpha have NaN there, which is unequal to itself."""
    asked = []
    monkeypatch.setattr(judging, "expected_share", lambda labels: asked.append(labels) or 0.0)
    many = xr.concat([made(activation="relu")] * 50, "run").assign_coords(
        slope=("run", np.full(50, np.nan)), alpha=("run", np.full(50, np.nan))
    )
    verdicts(many)
    assert len(asked) == 1
