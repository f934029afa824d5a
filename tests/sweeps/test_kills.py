"""Under force: workers and parents killed, interrupts struck twice, two writers at once."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import fadeout
from conftest import COMPILED, small_runs
from fadeout.files import machine_id, process_alive
from fadeout.registry import FadeoutError
from fadeout.sweeps import reading, store
from fadeout.sweeps.interrupts import Interrupted, raising_interrupts
from fadeout.sweeps.sweep import sweep
from helpers import ROOT

LONG = """
import sys, time
from fadeout.sweeps import executors
def work(number):
    print("working", flush=True)
    time.sleep(60)
if __name__ == "__main__":
    with executors.executor("processes", {"max_workers": 2}) as workers:
        flying = [workers.submit(work, n) for n in range(2)]
        time.sleep(60)
"""


def children(process: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            if parent == process:
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def started(program: str, folder: Path, **how):
    """A process that runs a program of its own, and that one can read."""
    (folder / "program.py").write_text(program)
    command = [sys.executable, "program.py"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, **how) as process:
        yield process


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    with started(LONG, tmp_path) as parent:
        assert [parent.stdout.readline().strip() for _ in range(2)] == ["working"] * 2
        workers = children(parent.pid)
        assert len(workers) >= 2
        parent.kill()
        assert until(lambda: not any(map(process_alive, workers)), 20)


WAITS = """
import time
from pathlib import Path
from fadeout.cli import app
from fadeout.config import Run, Training
from fadeout.sweeps import executors, training_queue
from fadeout.sweeps.distribute import sweep_part
from fadeout.sweeps.sweep import sweep
real, runs = training_queue.train_group, [Run(training=Training(2, 1), probes=())]
def train_batch(*arguments):
    print("in flight", flush=True)
    time.sleep({seconds})
    return real(*arguments)
"""
"""What trains a chunk says so, and takes its time."""

SLOW = (
    WAITS.format(seconds=20)
    + """
training_queue.train_group = train_batch
with app.stoppable():
    app.TRAINING.set()
    sweep(runs, "out")
"""
)


@pytest.mark.parametrize("again", [False, True])
def test_a_second_interrupt_does_not_wait(tmp_path, again):
    with started(SLOW, tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().strip() == "in flight"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        if again:
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - began
    assert process.returncode == 130
    assert "the same command goes on from there" in out
    assert "Traceback" not in err
    assert took < 10 if again else took > 10
    assert len(reading.result_files(tmp_path / "out")) == (0 if again else 1)


GROUP = (
    WAITS.format(seconds=3)
    + """
def slow(*arguments):
    training_queue.train_group = train_batch
    return sweep_part(*arguments)
if __name__ == "__main__":
    with app.stoppable(), executors.executor("processes", {"max_workers": 1}) as workers:
        flying = workers.submit(slow, runs, Path("out"), None)
        time.sleep(60)
"""
)


def test_ctrl_c_in_a_terminal_keeps_what_workers_have_in_flight(tmp_path):
    """A terminal strikes the whole group, and the parent tells its workers as well."""
    with started(GROUP, tmp_path, start_new_session=True) as process:
        assert process.stdout.readline().strip() == "in flight"
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(reading.result_files(tmp_path / "out")) == 1


def test_a_file_that_is_gone_when_it_is_looked_for_fails_no_run(tmp_path, monkeypatch):
    class Gone(store.StoredIds):
        def __call__(self):
            raise FadeoutError("x.nc is gone")

    monkeypatch.setattr(store, "StoredIds", Gone)
    monkeypatch.setattr(store, "stored_identities", lambda folder: np.empty(0, np.uint64))
    summary = sweep(small_runs(), tmp_path)
    assert not summary.errors
    assert summary.outcomes["failed"] == 0


def test_an_interrupt_that_the_loop_did_not_look_for_any_more_is_raised_at_the_end():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted), raising_interrupts(hold=True):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_inside_a_destructor_is_raised_a_little_later(capfd):
    class Bad:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted), raising_interrupts():  # noqa: PT012
        Bad()
        time.sleep(5)
    assert "Exception ignored" not in capfd.readouterr().err


def test_a_signal_that_was_not_set_from_python_is_left_alone(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with raising_interrupts():
            pass
    finally:
        signal.signal(signal.SIGTERM, before)


def test_two_writers_share_the_work(tmp_path, monkeypatch):
    """The second begins from the other end, and trains nothing that the first has stored."""
    place = tmp_path / "results"
    place.mkdir()
    host_mark = place / ".0123abcd.another-machine.1.writer"
    host_mark.touch()
    runs = small_runs(seeds=4)
    order = []
    summary = sweep(runs, tmp_path, lambda s: order.append(s.outcomes.total()))
    assert summary.others
    assert summary.outcomes.total() == 16
    assert host_mark.exists(), "it is not ours to remove"
    assert not list(place.glob(f".*.{os.getpid()}.writer"))


def test_what_another_process_stores_meanwhile_is_not_trained_again(tmp_path, small_sweep):
    stolen = []

    def meanwhile(summary):
        if not stolen:
            stolen.append(True)
            for path in reading.result_files(small_sweep):
                os.link(path, tmp_path / "results" / path.name)

    summary = sweep(small_runs(), tmp_path, meanwhile)
    assert summary.stored > 0
    assert summary.stored + summary.outcomes.total() == summary.asked == 8
    xr.testing.assert_equal(fadeout.load(tmp_path), fadeout.load(small_sweep))


def test_a_killed_write_leaves_nothing_for_good(tmp_path, small_sweep):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    place = tmp_path / "results"
    place.mkdir()
    left = [place / f".0123abcd.{machine_id()}.{dead.pid}.{kind}" for kind in ("partial", "writer")]
    for path in left:
        path.touch()
    sweep(small_runs(), tmp_path)
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


COMMAND = [
    sys.executable, str(ROOT / "scripts/train.py"), "-m",
    "activation=step,tanh", "model.depth=1,2,3", "seed=range(0,40)", "model.width=4",
    "training.steps=400", "probes=[delta_norm]", "name=killed", f"cache={COMPILED}",
    "formats=[]",
    "hydra.launcher.executor=processes", "hydra.launcher.jobs=3",
    "+hydra.launcher.options.max_workers=2",
]  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_worker_of_a_command_is_followed_by_another(tmp_path):
    with subprocess.Popen(COMMAND, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        folder = tmp_path / "outputs/killed"
        assert until(lambda: reading.result_files(folder) or process.poll() is not None)
        workers = [child for child in children(process.pid) if children_of_spawn(child)]
        assert workers
        os.kill(workers[0], signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "BrokenProcessPool" not in err
    assert fadeout.load(folder).sizes["run"] == 240
    assert "240: 240" not in out


def children_of_spawn(process: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
