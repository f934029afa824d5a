"""The queue: what it groups, and that nothing is lost whatever happens to it."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import xarray as xr

import fadeout
from conftest import COMPILED, small_runs
from fadeout.config import Activation, Init, Model, Optimizer, Run, Training
from fadeout.registry import FadeoutError
from fadeout.sweeps import forecast, reading, store, training_queue
from fadeout.sweeps.grids import Chain, expand_grid
from fadeout.sweeps.run_index import index_runs
from fadeout.sweeps.sweep import sweep, train_in_memory
from fadeout.training import programs
from fadeout.training.fit import ProgramKey
from helpers import ROOT


def test_new_floats_and_seeds_compile_nothing(tmp_path):
    runs = [
        dataclasses.replace(run, optimizer=Optimizer(learning_rate=0.5), init=Init("he_normal", 2))
        for run in small_runs(seeds=5)
    ]
    sweep(small_runs(), tmp_path)
    before = programs.compile_fit.count
    summary = sweep(runs, tmp_path)
    assert programs.compile_fit.count == before
    assert summary.outcomes.total() == 20


def test_all_reasons_are_given_at_once_and_grouped():
    bad = [Run(Activation("rleu"), seed=s) for s in range(3)] + [Run(init=Init("he")), Run()]
    with pytest.raises(FadeoutError) as caught:
        index_runs(bad)
    assert str(caught.value).startswith("4 runs cannot be trained:\n  3 x unknown activation")


@pytest.fixture
def broken_depth(monkeypatch):
    """The program of depth 5 does not compile."""

    def compile_fit(program, *rest):
        if program.run.model.depth == 16:
            raise RuntimeError("no such kernel")
        return real(program, *rest)

    real = programs.compile_fit
    monkeypatch.setattr(programs, "compile_fit", compile_fit)


def test_a_program_that_fails_takes_only_its_own_runs_down(
    tmp_path, small_sweep, broken_depth, monkeypatch
):
    summary = sweep(small_runs(), tmp_path)
    assert summary.outcomes["failed"] == 4
    assert len(summary.errors) == 1
    assert "step, he_normal, xor, adam, depth 5" in summary.errors[0]
    results = fadeout.load(tmp_path)
    assert results.sizes["run"] == 8
    failed = results.isel(run=(results["status"] == "failed").values)
    assert set(failed["depth"].values) == {5}
    assert set(failed["activation"].values) == {"step", "tanh"}
    assert all("no such kernel" in error for error in failed["error"].values)
    whole = fadeout.load(small_sweep)
    sound = (results["depth"] == 1).values
    first = whole.isel(layer=slice(results.sizes["layer"]))
    for name in whole:
        np.testing.assert_array_equal(results[name].values[sound], first[name].values[sound])
    # mended, the same command trains what failed, and nothing else
    monkeypatch.undo()
    assert sweep(small_runs(), tmp_path).outcomes.total() == 4
    after = fadeout.load(tmp_path)
    xr.testing.assert_equal(after.drop_vars("error"), whole)


def test_depths_share_their_blocks_and_fail_together(tmp_path, monkeypatch):
    runs = [dataclasses.replace(run, model=dataclasses.replace(run.model, depth=depth))
            for run in small_runs() for depth in (4, 1, 3)]  # fmt: skip
    blocks = []

    def train_block(batch, members, *rest):
        blocks.append([run.model.depth for run in members])
        return real(batch, members, *rest)

    real = programs.train_block
    monkeypatch.setattr(programs, "train_block", train_block)
    summary = sweep(runs, tmp_path / "sound")
    assert sorted(blocks) == [[1, 1, 3, 3, 4, 4]] * 2, "one block an activation"
    assert summary.outcomes.total() == 12
    results = fadeout.load(tmp_path / "sound")
    for depth in (1, 3, 4):
        own = [run for run in runs if run.model.depth == depth and run.activation.name == "tanh"]
        alone = train_in_memory(list(dict.fromkeys(own)))
        found = results.isel(run=results["id"].isin(alone["id"].values).values)
        layers = slice(depth + 1)
        np.testing.assert_array_equal(
            found["delta_norm"].isel(layer=layers), alone["delta_norm"].sortby("seed")
        )
        assert np.isnan(found["delta_norm"].isel(layer=slice(depth + 1, None))).all()

    def broken(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(programs, "train_block", broken)
    summary = sweep(runs, tmp_path / "broken")
    assert summary.outcomes["failed"] == 12
    assert any("tanh, he_normal, xor, adam, depths 1 to 4, width 4" in e for e in summary.errors)
    failed = fadeout.load(tmp_path / "broken")
    assert sorted(set(failed["depth"].values)) == [1, 3, 4]


@pytest.mark.parametrize("losses", [(0.1, 0.0), (0.0, 0.1)])
def test_what_is_asked_of_some_depths_is_told_of_those(losses):
    runs = [
        Run(Activation("tanh"), model=Model(depth, 4), training=Training(6, 3, until_loss=loss))
        for depth, loss in zip((1, 3), losses, strict=True)
    ]
    found = train_in_memory(runs)
    assert found["reached_step"].shape == (2,)


def test_fail_fast_stops_at_the_first(tmp_path, broken_depth):
    with pytest.raises(RuntimeError, match="no such kernel"):
        sweep(small_runs(), tmp_path, fail_fast=True)


def test_out_of_memory_halves_the_chunk_and_tries_again(tmp_path, small_sweep, monkeypatch):
    tried = []

    def train_batch(batch, runs, lanes, device):
        tried.append(lanes)
        if lanes > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
        return real(batch, runs, lanes, device)

    real = training_queue.train_group
    monkeypatch.setattr(training_queue, "train_group", train_batch)
    runs = [run for run in small_runs(seeds=8) if run.activation.name == "tanh"]
    sweep(runs, tmp_path)
    assert sorted(set(tried), reverse=True) == [128, 64, 4, 2]
    results = fadeout.load(tmp_path)
    assert results.sizes["run"] == 16
    assert set(results["status"].values) <= {"solved", "unsolved"}
    whole = fadeout.load(small_sweep)
    some = results.isel(run=results["id"].isin(whole["id"].values).values)
    tanh = whole.isel(run=(whole["activation"] == "tanh").values)
    np.testing.assert_allclose(some["loss"], tanh["loss"], rtol=1e-5)


def test_an_interrupt_stores_what_is_in_flight(tmp_path):
    def interrupt(summary):
        if summary.outcomes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(small_runs(), tmp_path, interrupt)
    kept = fadeout.load(tmp_path).sizes["run"]
    assert 0 < kept < 8
    assert sweep(small_runs(), tmp_path).stored == kept


def test_another_study_under_the_same_name_is_refused_with_the_difference(small_sweep):
    other = Training(steps=9, record_every=3)
    runs = [dataclasses.replace(run, training=other) for run in small_runs()]
    with pytest.raises(FadeoutError, match=r"holds runs of another study.*\n  steps: 6 -> 9\n"):
        sweep(runs, small_sweep)
    store.check_protocol(small_sweep, runs + small_runs())  # widening is not


def test_many_chunks_of_one_program_fill_the_store(tmp_path):
    runs = [Run(training=Training(2, 1), model=Model(1, 2), probes=(), seed=s) for s in range(300)]
    summary = sweep(runs, tmp_path)
    assert len(summary.compiled) == 1
    assert len(reading.result_files(tmp_path)) == 3
    assert fadeout.load(tmp_path)["seed"].values.tolist() == list(range(300))


def test_chunks_of_several_blocks_give_the_same_results_in_fewer_files(tmp_path, monkeypatch):
    runs = [Run(training=Training(2, 1), model=Model(1, 2), probes=(), seed=s) for s in range(300)]
    sweep(runs, tmp_path / "single")
    monkeypatch.setattr(training_queue, "core_count", lambda: 1)
    monkeypatch.setattr(ProgramKey, "lanes", 16)
    sweep(runs, tmp_path / "blocks")
    assert len(reading.result_files(tmp_path / "blocks")) == 5  # of 4 blocks of 16
    single, blocks = (fadeout.load(tmp_path / name) for name in ("single", "blocks"))
    assert single["seed"].equals(blocks["seed"])
    np.testing.assert_allclose(single["loss"], blocks["loss"], rtol=1e-5)


def test_a_forecast_trains_long_enough_and_compiles_nothing_for_it(tmp_path, monkeypatch):
    steps = []

    def spied(batch, runs, *others):
        steps.append(runs[0].training.steps)
        return programs.train_group(batch, runs, *others)

    monkeypatch.setattr(forecast, "train_group", spied)
    run = Run(model=Model(1, 4), training=Training(300, 1), probes=())
    for long_enough in (0, 1e9):
        monkeypatch.setattr(forecast, "LONG_ENOUGH", long_enough)
        assert forecast.forecast([run], tmp_path).train_seconds > 0
    assert steps == [1, 1, 1, 1, 300], "as many records as the run has"
    compiled = programs.compile_fit.count
    sweep([run], tmp_path)
    assert programs.compile_fit.count == compiled, "the forecast's program is the sweep's"


def test_a_grid_is_never_held_as_a_list():
    grid = expand_grid(Run(), {"learning_rate": "logspace:-3:0:1000", "seed": "range:0:1000"})
    assert len(grid) == 1_000_000
    assert grid[1_000 * 7 + 3].seed == 3
    index = index_runs(Chain([grid.__class__(grid.base, []), [Run(seed=9)], [Run(seed=9)]]))
    assert index.unique().tolist() == [0, 1]
    assert index.take(np.array([1]))[0].seed == 9
    assert index.group.itemsize + index.identity.itemsize == 12


# --- real processes


COMMAND = [
    sys.executable, str(ROOT / "scripts/train.py"), "-m",
    "activation=step,sigmoid,tanh,relu,elu,gelu,silu,mish", "model.depth=1,2,3", "model.width=4",
    "training.steps=1200",
    "probes=[delta_norm]", "name=killed", "formats=[]", f"cache={COMPILED}",
]  # fmt: skip


def start(where, **options):
    return subprocess.Popen(
        COMMAND, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def stored(where):
    return len(reading.result_files(where / "outputs/killed"))


def wait_for_files(process, where, count):
    deadline = time.monotonic() + 120
    while stored(where) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    where = tmp_path_factory.mktemp("uninterrupted")
    process = start(where)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return fadeout.load(where / "outputs/killed")


def test_kill_9_loses_at_most_the_chunks_in_flight(tmp_path, uninterrupted):
    for moment in (1, 2, 5):
        process = start(tmp_path)
        wait_for_files(process, tmp_path, moment)
        process.kill()
        process.communicate()
        kept = stored(tmp_path)
        assert kept >= moment
        fadeout.load(tmp_path / "outputs/killed")
    process = start(tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "were stored already" in out
    xr.testing.assert_equal(fadeout.load(tmp_path / "outputs/killed"), uninterrupted)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_finish_writing_and_say_how_to_go_on(tmp_path, number, status):
    process = start(tmp_path)
    wait_for_files(process, tmp_path, 1)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status
    assert "the same command goes on" in out
    assert "Traceback" not in err
    assert 0 < fadeout.load(tmp_path / "outputs/killed").sizes["run"] < 24


def test_two_processes_may_write_into_one_sweep(tmp_path, uninterrupted):
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    xr.testing.assert_equal(fadeout.load(tmp_path / "outputs/killed"), uninterrupted)


EIGHT = """
import jax, numpy as np
from fadeout import Model, Run, Training, train
from fadeout.sweeps import training_queue as queue
assert len(jax.local_devices()) == 8
queue._on_cpu = lambda device: False  # as accelerators: a device each instead of a thread each
used, real = set(), queue.train_group
def train_batch(batch, runs, lanes, device):
    used.add(device.id)
    return real(batch, runs, lanes, device)
queue.train_group = train_batch
runs = [Run(model=Model(1, 49), training=Training(2, 1), probes=(), seed=s) for s in range(40)]
results = train(runs)
assert used == set(range(8)), used
print(results["loss"].values.tobytes().hex())
"""


def test_eight_devices_share_a_sweep_and_change_no_bit():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, "-c", EIGHT], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    runs = [Run(model=Model(1, 49), training=Training(2, 1), probes=(), seed=s) for s in range(40)]
    # how it goes is said elsewhere than what the script prints
    assert done.stdout.strip() == fadeout.train(runs, quiet=True)["loss"].values.tobytes().hex()
