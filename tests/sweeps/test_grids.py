"""Axes: products, zips, and what is refused."""

import json

import numpy as np
import pytest

from fadeout.cli.config import Config
from fadeout.config import NUMERICS, Activation, Init, Optimizer, Run
from fadeout.registry import FadeoutError
from fadeout.sweeps.grids import Chain
from fadeout.sweeps.run_index import index_runs
from fadeout.training.compile_groups import compile_group
from fadeout.training.resolve import identity, resolve


def values(config):
    return [(run.optimizer.learning_rate, run.init.gain) for run in config.runs()]


def test_axes_multiply_and_share_one_program():
    axes = {"optimizer": {"learning_rate": "geomspace:0.001:10:5"}, "gain": "linspace(0.2, 4, 3)"}
    config = Config(axes=axes)
    expected = [(r, g) for r in np.geomspace(0.001, 10, 5) for g in np.linspace(0.2, 4, 3)]
    np.testing.assert_allclose(values(config), expected)
    assert len({compile_group(run) for run in config.runs()}) == 1


def test_zipped_axes_advance_together_and_the_others_multiply():
    axes = {"learning_rate": [0.1, 0.2], "init.gain": [1, 2], "seed": "range:0:3"}
    runs = Config(axes=axes, zipped=("learning_rate", "gain")).runs()
    assert [(r.seed, r.optimizer.learning_rate, r.init.gain) for r in runs] == [
        (seed, rate, gain) for seed in range(3) for rate, gain in [(0.1, 1.0), (0.2, 2.0)]
    ]


def test_pairs_of_zipped_axes_are_never_torn_apart():
    axes = {"learning_rate": [0.1, 0.1, 0.01], "gain": [1, 2, 2]}
    assert values(Config(axes=axes, zipped=("learning_rate", "gain"))) == [
        (0.1, 1.0), (0.1, 2.0), (0.01, 2.0)
    ]  # fmt: skip
    axes = {"learning_rate": [0.1, 0.1], "gain": [1, 2]}
    assert len(values(Config(axes=axes, zipped=("learning_rate", "gain")))) == 2


def test_points_are_the_numbers_that_one_writes():
    axes = {"gain": "linspace:0.1:1:10", "learning_rate": "logspace:-3:1:5"}
    found = values(Config(axes=axes))
    assert sorted({gain for _, gain in found}) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert sorted({rate for rate, _ in found}) == [0.001, 0.01, 0.1, 1.0, 10.0]
    (run,) = (r for r in Config(axes=axes).runs() if (r.init.gain, r.optimizer.learning_rate) ==
              (0.3, 0.1))  # fmt: skip
    assert identity(run) == identity(
        Run(init=Init(gain=0.3), optimizer=Optimizer(learning_rate=0.1))
    )
    odd = np.geomspace(1, 2, 7)
    assert values(Config(axes={"gain": "geomspace:1:2:7"}))[3][1] == odd[3], "nobody writes that"


def test_members_are_as_runs_that_are_checked_one_by_one():
    axes = {"seed": "range:0:3", "gain": [1, 2.0], "learning_rate": [1, 0.5], "depth": [2.0, 3]}
    runs = Config(axes=axes).runs()
    for run in runs:
        assert repr(run) == repr(Run.from_dict(run.as_dict())), "the types as well"
    index = index_runs([*runs, Run(Activation("relu")), runs[0]])
    assert index.identity.tolist() == [int(identity(run), 16) for run in index.runs]
    assert repr(index.take(np.arange(26))) == repr([resolve(run) for run in index.runs])
    assert [index.groups[n] for n in index.group] == [compile_group(run) for run in index.runs]


def test_a_grid_is_a_sequence():
    grid = Config(axes={"seed": "range:0:10"}).runs()
    assert [run.seed for run in grid[2:8:3]] == [2, 5]
    assert grid[-1].seed == 9
    with pytest.raises(IndexError):
        grid[10]
    assert [run.seed for run in Chain([grid, grid])[8:12]] == [8, 9, 0, 1]
    assert Chain([grid, grid])[-11].seed == 9


def test_no_axes_is_one_run():
    assert Config(seed=4).runs() == [Run(seed=4)]


def test_the_identity_is_the_hash_of_all_that_is_not_at_its_default():
    import hashlib

    run = resolve(Run(Activation("leaky_relu"), init=Init("glorot_normal", gain=1.0), seed=7))
    said = {
        "activation": {"name": "leaky_relu", "slope": 0.01},
        "init": {"name": "glorot_normal"},
        "model": {},
        "optimizer": {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8},
        "probes": list(run.probes),
        "seed": 7,
        "task": {"name": "xor"},
        "training": {},
    }
    text = json.dumps([NUMERICS, said], sort_keys=True)
    assert run.digest() == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_an_axis_may_decide_programs():
    axes = {"depth": [2, 4, 8], "width": [16, 8, 4], "steps": "range:10:30:10"}
    runs = Config(axes=axes, zipped=("depth", "width")).runs()
    assert [(r.model.depth, r.model.width, r.training.steps) for r in runs] == [
        (2, 16, 10), (4, 8, 10), (8, 4, 10), (2, 16, 20), (4, 8, 20), (8, 4, 20)
    ]  # fmt: skip
    runs = Config(axes={"schedule": ["constant", "cosine"]}).runs()
    assert [run.optimizer.schedule for run in runs] == ["constant", "cosine"]
    with pytest.raises(FadeoutError, match="unknown axis 'slope'"):
        Config(axes={"slope": [0.1]}).runs()
    run = Config(activation=Activation("leaky_relu"), axes={"slope": [0.1]}).runs()[0]
    assert run.activation == Activation("leaky_relu", slope=0.1)


def test_a_negative_zero_is_zero():
    minus, plus = (Config(axes={"gain": [zero]}).runs()[0] for zero in (-0.0, 0.0))
    assert minus.as_dict() == plus.as_dict()
    assert str(minus.init.gain) == "0.0"
    assert identity(minus) == identity(plus)


@pytest.mark.parametrize(
    ("axes", "zipped", "words"),
    [
        ({"model.depth": [1, 2.5]}, (), "model.depth must be a whole number"),
        ({"lerning_rate": [1]}, (), "unknown axis 'lerning_rate'"),
        ({"gain": "linspac:0:1:5"}, (), "axis gain='linspac:0:1:5' cannot be read"),
        ({"gain": "linspace:0:1"}, (), "cannot be read"),
        ({"gain": "linspace:0:1:2.5"}, (), "cannot be read"),
        ({"gain": "linspace:0:1:1e12"}, (), "cannot be read"),
        ({"gain": "range:0:1:0"}, (), "cannot be read"),
        ({"gain": "range:0:1:1e-12"}, (), "cannot be read"),
        ({"gain": 3}, (), "cannot be read"),
        ({"gain": [[1]]}, (), "cannot be read"),
        ({"gain": []}, (), "the axis gain is empty"),
        ({"learning_rate": [-1.0]}, (), "optimizer.learning_rate must be at least 0"),
        ({"seed": [0.5]}, (), "seed must be a whole number"),
        ({"gain": [1, 2], "seed": [1]}, ("gain", "seed"), "equally long, not 1 and 2"),
        ({"gain": [1]}, ("seed",), "zipped names seed, which is no axis"),
        ({"gain": "linspace:0:1:9999", "seed": "range:0:9999"}, (), "give fewer points"),
    ],
    ids=str,
)
def test_what_is_no_axis_is_refused(axes, zipped, words):
    with pytest.raises(FadeoutError, match=words):
        Config(axes=axes, zipped=zipped).runs()
