"""A search by Optuna: batches against one at a time, what is asked again, and what is refused."""

import math
import shlex
import sys

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import fadeout
from fadeout.cli import search as own
from fadeout.cli.menu import CONF
from fadeout.registry import FadeoutError
from helpers import script

WORDS = ["optimizer.learning_rate=tag(log,interval(1e-4,1))", "init.gain=interval(0,1)"]


@pytest.fixture
def loader():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("config")
        yield GlobalHydra.instance().config_loader()


def quadratic(job):
    values = dict(word.lstrip("+").split("=") for word in job)
    rate, gain = float(values["optimizer.learning_rate"]), float(values["init.gain"])
    return (math.log10(rate) + 2) ** 2 + 4 * (gain - 0.3) ** 2


def trials_needed(space, batch, seed):
    told = []

    def train(jobs):
        told.extend(map(quadratic, jobs))
        return [(quadratic(job),) for job in jobs]

    own.search(space, 96, batch, 1, seed, [False], train, lambda line: None)
    return next((n + 1 for n, value in enumerate(told) if value < 0.01), 96)


def test_batches_need_few_more_trials_than_one_at_a_time(loader):
    """The optimum of a quadratic of two numbers, to a hundredth: at most 1.5 times as many."""
    space = own.Space(loader, WORDS)
    one, many = (np.mean([trials_needed(space, b, s) for s in range(6)]) for b in (1, 8))
    assert many <= 1.5 * one + 2


def test_the_space_is_hydras(loader):
    space = own.Space(loader, [
        "optimizer.learning_rate=interval(0,1)", "model.depth=tag(log,interval(1,64))",
        "activation=tanh,relu", "seed=range(0,3)", "training.steps=20", "init=he_normal,orthogonal",
        "init=orthogonal",
    ])  # fmt: skip
    d = own.optuna().distributions
    assert space.distributions == {
        "++optimizer.learning_rate": d.FloatDistribution(0, 1),
        "model.depth": d.IntDistribution(1, 64, log=True),
        "activation": d.CategoricalDistribution(["tanh", "relu"]),
    }
    assert space.seeds == ["0", "1", "2"], "which are not searched"
    assert "init=orthogonal" in space.overrides({"activation": "relu"})
    jobs = []

    def train(more):
        jobs.extend(more)
        return [(0.0,)] * len(more)

    own.search(space, 4, 2, 8, 0, [False], train, lambda line: None)
    assert all("++axes.seed=[0,1,2]" in job for job in jobs)


def test_what_is_best_when_larger_is_better_and_what_was_asked_before():
    known = {("a",): (0.5,), ("b",): (math.nan,), ("c",): (0.75,)}
    assert own._best(known, [True]) == [(["c"], (0.75,))]
    assert own._best(known, [False]) == [(["a"], (0.5,))]


def test_of_several_quantities_all_are_best_that_none_beats():
    known = {
        ("a",): (0.5, 0.9), ("b",): (0.4, 0.8), ("c",): (0.6, 0.9), ("d",): (0.5, 0.9),
        ("e",): (math.nan, 1.0), ("f",): (math.inf, 0.1),
    }  # fmt: skip
    found = own._best(known, [False, True])
    assert [job for job, _ in found] == [["b"], ["a"], ["e"]]


def test_a_front_of_two_quadratics(loader):
    """(x - 0.2)^2 and (x - 0.8)^2: none between them beats another, those outside are beaten."""
    space = own.Space(loader, ["init.gain=interval(0,1)"])

    def train(jobs):
        gains = [float(job[-2].split("=")[1]) for job in jobs]
        return [((x - 0.2) ** 2, (x - 0.8) ** 2) for x in gains]

    found = own.search(space, 48, 8, 1, 0, [False, False], train, lambda line: None)
    between = [float(job[-2].split("=")[1]) for job, _ in found.best]
    assert len(between) >= 24, "half of them at least"
    assert min(between) > 0.15
    assert max(between) < 0.85
    assert all(0.2 <= x <= 0.8 for x in between[1:-1])


def command(*words, cwd):
    return script("train", "-m", "hydra/sweeper=fadeout_optuna", *words, cwd=cwd)


def test_a_search_trains_batches_and_goes_on_from_what_is_stored(tmp_path):
    """Of one laboratory problem: the rate at which SGD solves XOR within 200 steps."""
    words = (
        "optimizer.learning_rate=tag(log,interval(1e-4,1e8))", "optimizer=sgd", "name=searched",
        "training.steps=200", "hydra.sweeper.batch=8", "activation=relu",
        "training.loss_function=squared_error",
    )  # fmt: skip
    first = command(*words, "hydra.sweeper.n_trials=8", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    results = fadeout.load(tmp_path / "outputs/searched")
    assert results.sizes["run"] == 64, "eight seeds a trial"
    assert "diverged" in results.status.values, "and it goes on"
    again = command(*words, "hydra.sweeper.n_trials=12", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0].startswith("8 of 12 trials"), "nothing to train before"
    results = fadeout.load(tmp_path / "outputs/searched")
    assert results.sizes["run"] == 96
    best = fadeout.best(results, "loss", 1)
    (line,) = [line for line in again.stdout.splitlines() if line.startswith("  fadeout train")]
    rate = float(line.split("optimizer.learning_rate=")[1].split()[0])
    assert rate == pytest.approx(float(best.learning_rate[0]))
    done = script("train", *shlex.split(line)[2:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert fadeout.load(tmp_path / "outputs/searched").sizes["run"] == 96, "the same runs"


def test_a_search_for_two_things_at_once(tmp_path):
    words = ("optimizer.learning_rate=tag(log,interval(1e-3,1))", "training.steps=60", "name=two",
             "hydra.sweeper.n_trials=8", "hydra.sweeper.by=[loss,solved]")  # fmt: skip
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "of 8 trials that none beats in loss, solved:" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["optimizer.learning_rate=0.1"], "nothing to search: give a key"),
        (["activation=choice(tanh)"], "nothing to search: the space has one point"),
        (["init.gain=interval(1,1)"], "init.gain=interval(1,1): an interval goes from"),
        (["init.gain=tag(log,interval(0,1))"], "an interval goes from a number above 0"),
        (["init.gain=interval(0,1)", "hydra.sweeper.n_trials=0"], "n_trials must be 1 or more"),
        (["init.gain=interval(0,1)", "hydra.sweeper.by=los"], "did you mean loss?"),
        (
            ["init.gain=interval(0,1)", "hydra.sweeper.by=[loss,loss]"],
            "give a quantity, or several",
        ),
        (["init.gain=interval(0,1)", "hydra.sweeper.by=null"], "give a quantity, or several"),
        (["init.gain=interval(0,1)", "hydra.sweeper.by=[loss,los]"], "did you mean loss?"),
        (["init.gain=interval(0,1)", "hydra/launcher=basic"], "hydra/launcher=lanes"),
        (["init.gain=interval(0,1)", "hydra.sweeper.by=solved_step"], "take solved, or loss"),
        (["init.gain=interval(0,1)", "hydra.sweeper.by=validation_loss"], "needs training.held_"),
        (["seed=interval(0,9)", "init.gain=interval(0,1)"], "seeds are not searched"),
        (["model.depth=interval(1.2,1.9)"], "has no two whole numbers"),
    ],
)
def test_what_is_refused(words, told, tmp_path):
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert "HYDRA_FULL_ERROR" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_optuna_is_missing_or_old(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(FadeoutError, match=r"needs Optuna 4 or newer: pip install"):
        own.optuna()
    monkeypatch.setitem(sys.modules, "optuna", type("Old", (), {"__version__": "2.10.1"}))
    with pytest.raises(FadeoutError, match=r"this is 2\.10\.1"):
        own.optuna()
