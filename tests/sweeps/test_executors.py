"""Workers of other engines: the same results, and a worker that dies loses nothing."""

import gc
import os
import signal
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
import xarray as xr

import fadeout
from conftest import COMPILED, small_runs
from fadeout.config import Run, Training
from fadeout.registry import FadeoutError
from fadeout.sweeps import distribute as sweeping
from fadeout.sweeps.distribute import distribute, split_by_work
from fadeout.sweeps.executors import executor
from fadeout.sweeps.provenance import provenance
from fadeout.sweeps.run_index import index_runs
from helpers import script


def equal(folder, small_sweep):
    xr.testing.assert_equal(fadeout.load(folder), fadeout.load(small_sweep))


@pytest.mark.filterwarnings("default")  # of the engines' own
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("processes", {"max_workers": 2}),
        ("submitit", {"cluster": "local", "timeout_min": 5}),
        ("dask", {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}),
    ],
)
def test_every_engine_gives_the_same_results(name, options, tmp_path, small_sweep):
    if name == "submitit":
        options = options | {"folder": str(tmp_path / "logs")}
    with executor(name, options) as workers:
        summary = distribute(small_runs(), tmp_path / "out", workers, jobs=2, cache=COMPILED)
    assert summary.outcomes.total() == summary.asked == 8
    assert not summary.errors
    equal(tmp_path / "out", small_sweep)
    with executor(name, options) as workers:
        assert distribute(small_runs(), tmp_path / "out", workers, jobs=2).stored == 8
    attributes = fadeout.load(tmp_path / "out").attrs
    assert attributes["command"] == provenance()["command"], "the user's, not the worker's"


def die_once(marker: Path, runs, *settings):
    """A worker that is killed the first time, after it has stored a part of its share."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return sweeping.sweep_part(runs, *settings)
    sweeping.sweep_part(runs[:2], *settings)
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """An executor whose first worker is killed."""

    def __init__(self, workers, marker):
        self.workers, self.marker = workers, marker

    def submit(self, _, *arguments):
        return self.workers.submit(die_once, self.marker, *arguments)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("processes", {"max_workers": 2}),
        ("submitit", {"cluster": "local", "timeout_min": 5}),
        ("dask", {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}),
    ],
)
def test_a_worker_that_is_killed_is_followed_by_another(
    name, options, tmp_path, small_sweep, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with executor(name, options, tmp_path) as workers:
        mortal = Mortal(workers, tmp_path / "died")
        summary = distribute(small_runs(), tmp_path / "out", mortal, jobs=2, cache=COMPILED)
    assert (tmp_path / "died").exists()
    assert not summary.errors
    assert summary.outcomes.total() == 8, "what the dead worker had stored counts"
    equal(tmp_path / "out", small_sweep)


class Broken:
    """An executor whose workers always die."""

    def __init__(self):
        self.count = 0

    def submit(self, *_):
        self.count += 1
        future = Future()
        future.set_exception(RuntimeError("no heartbeat"))
        return future


def test_workers_that_always_die_are_told(tmp_path):
    broken = Broken()
    summary = distribute(small_runs(), tmp_path, broken, jobs=2, attempts=3)
    assert broken.count == 6
    assert len(summary.errors) == 2
    assert "died 3 times" in summary.errors[0]
    assert "no heartbeat" in summary.errors[0]


def test_shares_hold_every_run_once_and_keep_programs_together():
    index = index_runs(small_runs(seeds=200))
    parts = split_by_work(index, index.unique(), 4)
    assert sorted(place for part in parts for place in part) == list(range(800))
    assert 3 <= len(parts) <= 4
    depths = [{run.model.depth for run in index.take(part)} for part in parts]
    assert sum(len(found) for found in depths) <= 5


@pytest.mark.parametrize("steps", [(1000, 0), (0,)])
def test_shares_lose_no_run_that_takes_no_step(steps):
    runs = [Run(training=Training(n, n or 1), probes=(), seed=s) for n in steps for s in range(4)]
    index = index_runs(runs)
    parts = split_by_work(index, index.unique(), 4)
    assert sorted(place for part in parts for place in part) == list(range(len(runs)))


@pytest.mark.filterwarnings("default")  # Dask leaves behind what it could not make
@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("slurm", {}, "unknown hydra.launcher.executor 'slurm'"),
        ("local", {"a": 1}, "options are of an executor"),
        ("processes", {"workers": 2}, "processes refuses hydra.launcher.options"),
        ("submitit", {"cluster": "local", "tiemout": 1}, "submitit refuses"),
        ("processes", {"max_workers": 0}, "max_workers must be at least 1"),
        ("dask", {"address": "tcp://127.0.0.1:1", "n_workers": 1}, "takes no other options"),
        ("dask", {"n_wokers": 1}, "dask refuses hydra.launcher.options"),
    ],
)
def test_what_an_engine_does_not_take_is_refused(name, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FadeoutError, match=words), executor(name, options):
        pass
    gc.collect()  # now, and not in a later test


def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(FadeoutError, match="pip install 'fadeout\\[submitit\\]'"):
        executor("submitit", {}).__enter__()


def test_an_executor_from_the_config(tmp_path):
    done = script(
        "train", "-m", "activation=step,tanh", "model.depth=1,2", "training.steps=20", "name=far",
        "hydra.launcher.executor=processes", "hydra.launcher.jobs=2",
        "+hydra.launcher.options.max_workers=2", "hydra.launcher.job_dirs=true", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert fadeout.load(tmp_path / "outputs/far").sizes["run"] == 4
    overrides = (tmp_path / "outputs/far/jobs/3/.hydra/overrides.yaml").read_text()
    assert "- activation=tanh\n- model.depth=2\n" in overrides
