"""The application: configs in; results, tables and pictures out. A single run is a sweep of one."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from fadeout.compose import compose_jobs, read
from fadeout.config import Config
from fadeout.executors import executor
from fadeout.grids import Chain, expand
from fadeout.interrupts import Terminated, noted
from fadeout.jobs import Jobs
from fadeout.registry import FadeoutError


class Refused(CompactHydraException):
    """A mistake in what was asked: Hydra prints its message alone, and exits with status 1."""


class Launch(NamedTuple):
    """How a multirun is carried out.

    Attributes:
      fail_fast: stop at the first program that fails.
      executor: who trains, by its name in `executors`.
      jobs: into how many parts it is cut for workers.
      options: of the executor.
    """

    fail_fast: bool = False
    executor: str = "local"
    jobs: int = 4
    options: Mapping[str, Any] = {}


LOCAL = Launch()


def run_job(config: DictConfig) -> float:
    """One job, as any Hydra launcher calls it: trains one run, and returns its final loss.

    Raises:
      Refused
    """
    with doors():
        return train_all([read(config)])[0]


def run_jobs(jobs: Jobs, overrides: Sequence[Sequence[str]], launch: Launch) -> list[float]:
    """All jobs of a multirun at once, as our launcher calls it.

    Args:
      jobs: the multirun.
      overrides: of each job.
      launch: how they are carried out.

    Returns:
      The final loss of each job.

    Raises:
      Refused
    """
    with doors():
        began = perf_counter()
        configs = compose_jobs(jobs.context.config_loader, jobs.master, overrides)
        jobs.start(overrides)
        return train_all(configs, launch, compose_seconds=perf_counter() - began)


@contextmanager
def doors() -> Iterator[None]:
    """Turns our errors and interrupts into what Hydra and a shell expect."""
    try:
        with stoppable():
            yield
    except FadeoutError as error:
        raise Refused(str(error)) from error


@contextmanager
def stoppable() -> Iterator[None]:
    """Ends a command that was interrupted with what a shell expects, once all is written."""
    try:
        with noted():
            yield
    except KeyboardInterrupt as error:
        print("interrupted; what was trained is stored: the same command goes on from there")
        raise SystemExit(143 if isinstance(error, Terminated) else 130) from error


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
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def train_all(
    configs: Sequence[Config], launch: Launch = LOCAL, compose_seconds: float = 0.0
) -> list[float]:
    """Trains the runs of all configs, stores them, and shows what became of them.

    Returns:
      The final loss of each config, the mean over its runs; NaN after a forecast, which trains
      nothing.

    Raises:
      FadeoutError: before any compute, where a run or a folder is not good.
      SystemExit: some runs failed; the others are stored.
    """
    from fadeout import console
    from fadeout.programs import keep_compiled
    from fadeout.queue import survey
    from fadeout.sweep import check, forecast

    console.hush()
    began = perf_counter()
    folders: dict[Path, list[int]] = {}
    for number, config in enumerate(configs):
        folders.setdefault(config.folder(), []).append(number)
    pictures = {folder: picture(configs[members[0]]) for folder, members in folders.items()}
    grids = [expand(config) for config in configs]
    surveys = {
        folder: survey(Chain([grids[number] for number in members]))
        for folder, members in folders.items()
    }
    losses = np.full(len(configs), np.nan)
    if any(config.forecast for config in configs):
        for folder, looked in surveys.items():
            console.foretell(forecast(looked, folder), folder)
        return losses.tolist()
    for folder, looked in surveys.items():
        check(folder, looked)  # all folders are checked before any is filled
    cache = configs[0].cache
    keep_compiled(cache)
    failed = False
    for folder, members in folders.items():
        with console.progress() as watch, executor(launch.executor, launch.options) as workers:
            summary = train_folder(surveys[folder], folder, watch, launch, workers, cache)
        ends = finish(surveys[folder], folder, pictures[folder])
        console.account(summary, compose_seconds, perf_counter() - began)
        failed |= bool(summary.errors)
        stops = np.cumsum([len(grids[number]) for number in members])
        losses[members] = [part.mean() for part in np.split(ends, stops[:-1])]
    if failed:
        raise SystemExit(1)
    return losses.tolist()


def train_folder(looked, folder, watch, launch: Launch, workers, cache):
    from fadeout.sweep import distribute, sweep

    if workers is None:
        return sweep(looked, folder, watch, launch.fail_fast)
    return distribute(looked, folder, workers, launch.jobs, watch, cache)


def picture(config: Config):
    """The figure that a config asks for.

    Raises:
      FadeoutError: an unknown key.
    """
    from fadeout.plots import Comparison

    return Comparison.from_dict(config.figure) if config.figure else None


def finish(looked, folder: Path, asked) -> np.ndarray:
    """Shows what is stored of a sweep, draws it, and returns each run's final loss."""
    from fadeout import console, plots, store
    from fadeout.results import final, numbers, only

    if not store.files(folder):  # all workers died
        return np.full(looked.identity.size, np.nan)
    results = store.load(folder)
    own = only(results, looked.identity)
    if not own.sizes["run"]:
        return np.full(looked.identity.size, np.nan)
    console.show(own, folder, plots.save_all(results, folder, asked))
    identities = numbers(own["id"].values)
    order = np.argsort(identities)
    place = np.searchsorted(identities, looked.identity, sorter=order).clip(max=order.size - 1)
    ends = final(own["loss"]).values[order[place]]
    return np.where(identities[order[place]] == looked.identity, ends, np.nan)
