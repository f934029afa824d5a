"""The application: configs in; results, tables and pictures out. A single run is a sweep of one."""

import math
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from fadeout.cli.compose import compose_jobs, read_config
from fadeout.cli.config import Config
from fadeout.cli.jobs import Jobs
from fadeout.cli.plot_worker import Drawn, PlotWorker, Request, draw_shared, start_plot_worker
from fadeout.config import Run
from fadeout.extensions import load_extensions
from fadeout.registry import FadeoutError, lookup
from fadeout.sweeps.executors import EXECUTORS, core_count, executor
from fadeout.sweeps.grids import Chain
from fadeout.sweeps.interrupts import Interrupted, raising_interrupts


class Refused(CompactHydraException):
    """A mistake in what was asked: Hydra prints its message alone, and exits with status 1."""


class Launch(NamedTuple):
    """How a multirun is carried out.

    Attributes:
      fail_fast: stop at the first program that fails.
      executor: who trains, by its name in `executors`.
      jobs: into how many parts it is cut for workers.
      options: of the executor.
      by: the quantities that are returned of each config.
      quiet: nothing is drawn or shown but progress.
    """

    fail_fast: bool = False
    executor: str = "local"
    jobs: int = 4
    options: Mapping[str, Any] = {}
    by: Sequence[str] = ("loss",)
    quiet: bool = False


_LOCAL_LAUNCH = Launch()

TRAINING = Event()
"""Set as soon as runs are trained and stored."""

_MANY_RUNS = 2000
"""Jobs from which on it is said that they are being read, which takes a second or more."""


_MANY_JOBS = 24
"""Jobs from which on pictures are drawn by two processes: of fewer, one that draws is sooner done
than another with its imports."""


def run_job(config: DictConfig) -> float:
    """One job, as any Hydra launcher calls it: trains one run, and returns its final loss.

    Raises:
      Refused
    """
    with error_boundary(alone=False):
        return _search_objective(_train_all([read_config(config)])[0, 0])


def _search_objective(value: float, by: str = "loss") -> float:
    """Returns what a search is told: of a run that diverged, failed or was not trained the worst
    there is, because searches take NaN for an error."""
    from fadeout.analysis.ranking import is_higher_better

    return (-math.inf if is_higher_better(by) else math.inf) if math.isnan(value) else value


def run_jobs(
    jobs: Jobs, overrides: Sequence[Sequence[str]], launch: Launch
) -> list[float] | list[tuple[float, ...]]:
    """All jobs of a multirun at once, as our launcher calls it.

    Args:
      jobs: the multirun.
      overrides: of each job.
      launch: how they are carried out.

    Returns:
      The final loss of each job, or what `launch.by` asks for, the mean over its runs; of several
      quantities, tuples.

    Raises:
      Refused
    """
    with error_boundary():
        began = perf_counter()
        if len(overrides) > _MANY_RUNS:
            print(f"{len(overrides):,} jobs: reading and checking each of them", flush=True)
        configs = compose_jobs(jobs.context.config_loader, jobs.master, overrides)
        jobs.start(overrides)
        ends = _train_all(configs, launch, compose_seconds=perf_counter() - began)
        told = [tuple(map(_search_objective, row, launch.by)) for row in ends.tolist()]
        return told if len(launch.by) > 1 else [value for (value,) in told]


@contextmanager
def error_boundary(alone: bool = True) -> Iterator[None]:
    """Turns our errors and interrupts into what Hydra and a shell expect.

    Of this process, where Hydra would add a line about its stack trace, a mistake is printed, and
    ends the command.
    """
    try:
        with stoppable():
            yield
    except FadeoutError as error:
        if alone and os.environ.get("HYDRA_FULL_ERROR") != "1":
            print(error, file=sys.stderr)
            raise SystemExit(1) from error
        raise Refused(str(error)) from error


@contextmanager
def stoppable() -> Iterator[None]:
    """Ends a command that was interrupted with what a shell expects, once all is written."""
    TRAINING.clear()
    try:
        with raising_interrupts():
            yield
    except KeyboardInterrupt as error:
        if TRAINING.is_set():
            print("interrupted; what was trained is stored: the same command goes on from there")
        else:
            print("interrupted; nothing was trained")
        status = 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)
        if isinstance(error, Interrupted) and error.again:
            sys.stdout.flush()
            os._exit(status)  # threads that still train are not waited for
        raise SystemExit(status) from error


def command(main: Callable[[], int]) -> int:
    """Runs the body of a script: a mistake is answered in a line, and an interrupt in a word.

    Returns:
      The exit status.
    """
    try:
        return main()
    except FadeoutError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


class _PlannedSweep(NamedTuple):
    """The runs, pictures and options that belong to one output folder.

    Attributes:
      members: places of its configs among all.
      ends: how many runs the configs up to each have.
      index: all its runs.
      asked: a figure besides the usual, checked against them.
    """

    members: list[int]
    ends: np.ndarray
    index: Any
    asked: Any


def plan_sweeps(
    configs: Sequence[Config], launch: Launch = _LOCAL_LAUNCH
) -> dict[Path, _PlannedSweep]:
    """All that is asked, by its folder, and checked: nothing is computed, nothing written.

    Raises:
      FadeoutError: a run that cannot be trained, a folder that cannot be written, a figure that the
        results could not answer, or a launch that makes no sense.
    """
    from fadeout.cli import console
    from fadeout.sweeps.chunks import check_memory, split_runs
    from fadeout.sweeps.run_index import index_runs
    from fadeout.sweeps.sweep import check_sweep
    from fadeout.training.program_cache import use_program_cache

    if not configs:
        raise FadeoutError("nothing to train: the sweep is empty")
    lookup(EXECUTORS, launch.executor, "hydra.launcher.executor")
    if not isinstance(launch.jobs, int) or launch.jobs < 1:
        raise FadeoutError(f"hydra.launcher.jobs must be at least 1, not {launch.jobs}")
    use_program_cache(configs[0].cache)
    load_extensions(_extensions_used(configs))
    folders: dict[Path, list[int]] = {}
    for number, config in enumerate(configs):
        folders.setdefault(config.folder(), []).append(number)
    planned = {}
    with console.announce_solving(configs):
        for folder, members in folders.items():
            grids = [configs[number].runs() for number in members]
            if any(configs[number].skip_impossible for number in members):
                grids = _trainable_runs(grids)
            index = index_runs(Chain(grids))
            for note in check_sweep(folder, index):  # all folders, before any is filled
                print(note, flush=True)
            if launch.executor in ("local", "processes"):
                check_memory(split_runs(index, index.unique(), threads=1))
            asked = None if launch.quiet else _requested_picture(configs[members[0]], index)
            planned[folder] = _PlannedSweep(members, np.cumsum([*map(len, grids)]), index, asked)
    return planned


def _trainable_runs(grids: Sequence[Sequence[Run]]) -> list[Sequence[Run]]:
    """The runs that can be trained, of each config; what is left out is said.

    Raises:
      FadeoutError: none can.
    """
    from fadeout.training.compile_groups import compile_group

    reasons: Counter[str] = Counter()
    kept: list[Sequence[Run]] = []
    for grid in grids:
        own = []
        for run in grid:
            try:
                compile_group(run)
                own.append(run)
            except FadeoutError as error:
                reasons[str(error)] += 1
        kept.append(own)
    for why, count in reasons.items():
        print(f"left out, {count} runs: {why}")
    if not any(kept):
        raise FadeoutError("nothing to train: none of the runs is possible")
    return kept


def _train_all(
    configs: Sequence[Config], launch: Launch = _LOCAL_LAUNCH, compose_seconds: float = 0.0
) -> np.ndarray:
    """Trains the runs of all configs, stores them, and shows what became of them.

    Returns:
      What `launch.by` asks for of each config, the mean over its runs, [config, quantity]; NaN
      after a forecast, which trains nothing.

    Raises:
      FadeoutError: before any compute, where a run or a folder is not good.
      SystemExit: some runs failed; the others are stored.
    """
    from fadeout.advice import sweep_warning
    from fadeout.cli import console
    from fadeout.sweeps.forecast import forecast

    console.quiet_libraries()
    began = perf_counter()
    forecasts = any(config.forecast for config in configs)
    several = len(configs) >= _MANY_JOBS or any(config.axes for config in configs)
    drawn = bool(configs) and bool(configs[0].formats) and not forecasts and not launch.quiet
    with start_plot_worker(several and drawn and core_count() > 1) as other:
        planned = plan_sweeps(configs, launch)
        returned = np.full((len(configs), len(launch.by)), np.nan)
        if forecasts:
            for folder, sweep in planned.items():
                console.show_forecast(forecast(sweep.index, folder), folder)
            return returned
        cache, scratch = configs[0].cache, Path(configs[0].outputs)
        extensions = load_extensions(_extensions_used(configs))  # by their full paths, for workers
        failed = False
        if drawn:
            Thread(target=_import_pictures).start()
        TRAINING.set()
        for folder, sweep in planned.items():
            if not launch.quiet:
                firsts = np.unique(sweep.index.group, return_index=True)[1]
                console.show_data(sweep.index.take(firsts))
                if words := sweep_warning(sweep.index.runs):
                    console.console.print(f"warning:  {words}")
            with (
                console.progress() as watch,
                executor(launch.executor, launch.options, scratch) as workers,
            ):
                summary = _train_folder(
                    sweep.index, folder, watch, launch, workers, cache, extensions
                )
            draw: Callable = _draw_nothing
            if not launch.quiet:
                draw = partial(
                    _draw_all, other, folder, sweep.asked, configs[0].formats, extensions
                )
                console.show_account(summary, compose_seconds, perf_counter() - began)
                failed |= bool(summary.errors)
            ends = _show_and_draw(sweep.index, folder, draw, launch.by)
            parts = np.split(ends, sweep.ends[:-1])
            for member, part in zip(sweep.members, parts, strict=True):
                returned[member] = part.mean(0) if part.size else np.nan
    if failed:
        raise SystemExit(1)
    return returned


def _import_pictures() -> None:
    """Imports what draws, while XLA compiles; if it fails, so will the drawing, and say why."""
    with suppress(Exception):
        import_module("fadeout.plots")


def _extensions_used(configs: Sequence[Config]) -> list[str]:
    return list(dict.fromkeys(name for config in configs for name in config.extensions))


def _train_folder(index, folder, watch, launch: Launch, workers, cache, extensions):
    from fadeout.sweeps.distribute import distribute
    from fadeout.sweeps.sweep import sweep

    if workers is None:
        return sweep(index, folder, watch, launch.fail_fast)
    return distribute(
        index, folder, workers, launch.jobs, watch, cache, fail_fast=launch.fail_fast,
        extensions=extensions,
    )  # fmt: skip


def _requested_picture(config: Config, index):
    """The figure that a config asks for, checked against the runs that there will be.

    Raises:
      FadeoutError: an unknown key, or what the results will lack.
    """
    if not config.figure:
        return None
    from fadeout.analysis.comparison import Comparison, check_comparison
    from fadeout.sweeps.joining import join_parts
    from fadeout.sweeps.parts import planned_part
    from fadeout.sweeps.reading import read_labels, result_files

    asked = Comparison.from_dict(config.figure)
    folder = config.folder()
    parts = [read_labels(path) for path in result_files(folder)]
    every = np.arange(index.identity.size)
    parts += [planned_part(index.take(every[index.group == n])) for n in range(len(index.groups))]
    check_comparison(asked, join_parts(parts))
    return asked


def _draw_nothing(results, meanwhile: Callable[[], None]) -> None:
    pass


def _show_and_draw(index, folder: Path, draw: Callable, by: Sequence[str]) -> np.ndarray:
    """Shows what is stored of a sweep, draws it, and gives how each run ended, [run, quantity]."""
    from fadeout.analysis.ranking import outcome_values
    from fadeout.cli import console
    from fadeout.sweeps import reading
    from fadeout.sweeps.results import identity_numbers, select_identities

    if not reading.result_files(folder):  # all workers died
        return np.full((index.identity.size, len(by)), np.nan)
    results = reading.load(folder)
    own = select_identities(results, index.identity)
    if not own.sizes["run"]:
        return np.full((index.identity.size, len(by)), np.nan)
    draw(results, partial(console.show_results, own))
    identities = identity_numbers(own["id"].values)
    order = np.argsort(identities)
    place = np.searchsorted(identities, index.identity, sorter=order).clip(max=order.size - 1)
    ends = np.stack([outcome_values(own, quantity) for quantity in by], -1)[order[place]]
    return np.where((identities[order[place]] == index.identity)[:, None], ends, np.nan)


def _draw_all(
    other: PlotWorker | None, folder: Path, asked, formats: Sequence[str],
    extensions: Sequence[str], results, meanwhile: Callable[[], None],
) -> None:  # fmt: skip
    """Draws all pictures of a sweep, some of them in another process, and says where they lie.

    Args:
      meanwhile: what else there is to say, while the other process begins.
    """
    from fadeout.cli import console

    if not formats:
        meanwhile()
        console.show_places(folder, [], {})
        return
    from fadeout import plots

    def here(name: str) -> Drawn:
        return plots.save_each(results, folder, formats=formats, only=[name])

    def there(name: str) -> Drawn | None:
        assert other is not None
        return other.draw(Request(folder, name, formats, extensions))

    names = plots.informative_figures(results)
    paths, failures = draw_shared(names, here, there if other is not None else None, meanwhile)
    if asked is not None:
        more = plots.save_each(results, folder, asked, formats=formats, only=[])
        paths, failures = [*paths, *more[0]], failures | more[1]
    console.show_places(folder, paths, failures)
