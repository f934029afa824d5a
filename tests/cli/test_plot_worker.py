"""Pictures by two processes are those of one, whatever becomes of the second."""

import os
import signal
import time
from functools import partial

import pytest

from fadeout import plots
from fadeout.cli.plot_worker import PlotWorker, Request, draw_shared, start_plot_worker
from fadeout.sweeps import reading


def drawn_here(results, folder, name):
    return plots.save_each(results, folder, only=[name])


@pytest.fixture
def sweep(small_sweep, tmp_path):
    """Results in a folder of their own, which fills with pictures."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small/results").symlink_to(small_sweep / "results")
    return tmp_path / "small"


def test_pictures_of_two_processes_are_those_of_one(sweep, tmp_path):
    results, told = reading.load(sweep), []
    names = plots.informative_figures(results)
    with start_plot_worker(True) as other:
        there = lambda name: other.draw(Request(sweep, name, ("png", "svg"), ()))  # noqa: E731
        assert there(names[0]) is not None, "the other process draws"
        here = partial(drawn_here, results, sweep)
        paths, failures = draw_shared(names, here, there, lambda: told.append("meanwhile"))
    assert failures == {}
    assert told == ["meanwhile"]
    assert [path.stem for path in paths[::2]] == names
    alone = plots.save_all(results, tmp_path / "alone")
    for one, other in zip(paths, alone, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_a_process_that_dies_leaves_its_pictures_to_the_other(sweep):
    results = reading.load(sweep)
    names = plots.informative_figures(results)
    other, asked = PlotWorker(), []
    os.kill(other.process.pid, signal.SIGKILL)

    def there(name):
        asked.append(name)
        return other.draw(Request(sweep, name, ("png",), ()))

    def here(name):
        time.sleep(0.05)  # so that it is asked before all is done
        return [sweep / name], {}

    paths, failures = draw_shared(names, here, there, lambda: time.sleep(0.2))
    other.end()
    assert [path.name for path in paths] == names
    assert failures == {}
    assert asked == names[:1], "it is not asked again"


def test_an_error_here_waits_for_no_picture_there(sweep):
    began = time.monotonic()
    names = ["gradient_profile_at_start"] * 1000
    with start_plot_worker(True) as other:

        def there(name):
            return other.draw(Request(sweep, name, ("png",), ()))

        def interrupted():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            draw_shared(names, None, there, interrupted)
    assert other.process.returncode is not None
    assert time.monotonic() - began < 60


def test_a_folder_of_anybodys_files_is_not_imported_from(sweep, tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('not yours')")
    monkeypatch.chdir(tmp_path)
    with start_plot_worker(True) as other:
        assert other.draw(
            Request(sweep, plots.informative_figures(reading.load(sweep))[0], ("png",), ())
        )


def test_it_ends_with_whoever_started_it():
    other = PlotWorker()
    other.process.stdin.close()
    other.process.stdin = None
    assert other.process.wait(60) == 0
    other.end()
