"""The store: what goes in comes out, and nothing stored is ever damaged."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import fadeout
from conftest import small_runs
from fadeout.config import DEFAULT_PROBES, Run, Task, Training
from fadeout.registry import FadeoutError
from fadeout.sweeps import reading
from fadeout.sweeps.provenance import source_revision
from fadeout.sweeps.sweep import sweep
from fadeout.training.programs import train_runs
from fadeout.training.resolve import identity, resolve
from helpers import ROOT


def test_what_is_loaded_is_what_was_trained(small_sweep):
    results = fadeout.load(small_sweep)
    assert results.sizes == {"run": 8, "step": 3, "layer": 6}
    assert set(DEFAULT_PROBES) | {"loss", "accuracy", "status", "solved_step"} <= set(results)
    for run in small_runs():
        trace = train_runs(run)
        mine = results.isel(run=results["id"].values.tolist().index(identity(run)))
        layers = run.model.depth + 1
        for name, values in trace.layers.items():
            np.testing.assert_array_equal(mine[name].values[:, :layers], values[..., 0])
            assert np.isnan(mine[name].values[:, layers:]).all()
        np.testing.assert_array_equal(mine["loss"], trace.loss[:, 0])
        for word, value in resolve(run).labels().items():
            assert (value is None and np.isnan(mine[word])) or mine[word].item() == value


def test_a_stranger_learns_what_each_variable_is(small_sweep):
    results = fadeout.load(small_sweep)
    for name, variable in results.data_vars.items():
        assert variable.attrs["long_name"], name
    for key in ("command", "source_revision", "version_jax", "device", "lanes", "python"):
        assert results.attrs[key]
    configs = [Run.from_dict(json.loads(config)) for config in results["config"].values]
    assert set(configs) == set(map(resolve, small_runs()))


def test_a_result_of_a_checkout_bears_its_commit():
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert source_revision().removesuffix("+changes") == head.stdout.strip()


def test_other_tools_read_the_files(small_sweep):
    path = reading.result_files(small_sweep)[0]
    plain = xr.open_dataset(path, engine="h5netcdf")
    assert plain["delta_norm"].dims == ("run", "step", "layer")
    plain.close()


@pytest.fixture
def copy(small_sweep, tmp_path):
    return shutil.copytree(small_sweep, tmp_path / "copy")


def test_a_file_that_is_cut_off_or_foreign_is_named(copy):
    path = reading.result_files(copy)[0]
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a results file"):
        path.write_bytes(content)
        with pytest.raises(
            FadeoutError, match=f"{path.name} is cut off, damaged or no results file"
        ):
            fadeout.load(copy)
    xr.Dataset({"a": 1}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(FadeoutError, match="its format is not"):
        fadeout.load(copy)


def test_a_half_written_file_is_not_seen(copy):
    before = fadeout.load(copy)
    path = reading.result_files(copy)[0]
    (path.parent / f".{path.stem}.1.partial").write_bytes(path.read_bytes()[:100])
    xr.testing.assert_identical(before, fadeout.load(copy))


def test_no_results():
    with pytest.raises(FadeoutError, match="no results under nowhere"):
        fadeout.load("nowhere")


def test_a_folder_that_cannot_be_written_is_refused_before_any_compute(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FadeoutError, match="is a file, not a folder"):
        sweep([Run()], tmp_path / "file" / "below")
    with pytest.raises(FadeoutError, match="/proc is not writable"):
        sweep([Run()], "/proc/new")
    for name, target in (("dangling", "nowhere"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(FadeoutError, match="is a link that leads nowhere"):
            sweep([Run()], tmp_path / name / "below")


def test_a_full_disk_damages_nothing(copy, monkeypatch):
    before = fadeout.load(copy)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FadeoutError, match=r"No space left.*what was stored before is whole"):
        sweep(small_runs(seeds=3), copy)
    monkeypatch.undo()
    xr.testing.assert_identical(before, fadeout.load(copy))
    assert not list((copy / reading.RESULTS_FOLDER).glob("*.partial"))
    assert sweep(small_runs(seeds=3), copy).outcomes.total() == 4


def test_a_sweep_goes_on_where_it_stopped(copy):
    before = fadeout.load(copy)
    assert sweep(small_runs(), copy).outcomes.total() == 0
    os.unlink(reading.result_files(copy)[1])
    summary = sweep(small_runs(), copy)
    assert (summary.outcomes.total(), summary.stored) == (2, 6)
    after = fadeout.load(copy)
    xr.testing.assert_equal(before, after)


def test_the_order_of_runs_and_files_does_not_matter(small_sweep, tmp_path):
    sweep(small_runs()[::-1], tmp_path / "reversed")
    xr.testing.assert_equal(fadeout.load(small_sweep), fadeout.load(tmp_path / "reversed"))
    xr.testing.assert_equal(fadeout.load(small_sweep), fadeout.train(small_runs()))


def test_results_can_be_sent_to_another_process(small_sweep):
    results = fadeout.load(small_sweep)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(results)), results)


def test_runs_trained_in_memory_come_back_in_the_order_asked_for():
    runs = [*small_runs()[::-1], small_runs()[3]]
    results = fadeout.train(runs)
    assert results["id"].values.tolist() == [identity(run) for run in runs]
    assert results["depth"].values.tolist() == [run.model.depth for run in runs]


def test_a_task_without_classes_is_not_solved(tmp_path):
    run = Run(task=Task("linear"), training=Training(4, 2, "squared_error"))
    sweep([run], tmp_path)
    results = fadeout.load(tmp_path)
    assert results["status"].values.tolist() == ["trained"]
    assert np.isnan(results["accuracy"]).all()
    assert np.isnan(results["solved_step"]).all()


def test_a_run_stored_twice_counts_once(copy):
    path = reading.result_files(copy)[0]
    shutil.copy(path, path.with_name("0000.nc"))
    assert fadeout.load(copy).sizes["run"] == 8


def test_importing_the_package_is_light():
    code = "import fadeout, sys; fadeout.Run; print({'jax', 'xarray'} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 200 kB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_keeps_what_it_has(tiny_disk):
    with pytest.raises(FadeoutError, match=r"No space left.*what was stored before is whole"):
        sweep(small_runs(seeds=200), tiny_disk)
    assert 0 < fadeout.load(tiny_disk).sizes["run"] < 800
    assert not list((tiny_disk / reading.RESULTS_FOLDER).glob("*.partial"))
