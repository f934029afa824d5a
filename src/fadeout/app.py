"""The application: configs in; results, tables and pictures out. A single run is a sweep of one."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from fadeout.compose import compose_jobs, read
from fadeout.config import Config, Run
from fadeout.grids import expand
from fadeout.registry import FadeoutError


class Refused(CompactHydraException):
    """A mistake in what was asked: Hydra prints its message alone, and exits with status 1."""


def run_job(config: DictConfig) -> float:
    """One job, as any Hydra launcher calls it: trains one run, and returns its final loss.

    Raises:
      Refused
    """
    with doors():
        return train_all([read(config)])[0]


def run_jobs(
    loader: Any, master: DictConfig, jobs: Sequence[Sequence[str]], fail_fast: bool = False
) -> list[float]:
    """All jobs of a multirun at once, as our launcher calls it.

    Args:
      loader: Hydra's config loader.
      master: the multirun's own config.
      jobs: the overrides of each job.
      fail_fast: stop at the first program that fails.

    Returns:
      The final loss of each job.

    Raises:
      Refused
    """
    with doors():
        began = perf_counter()
        configs = compose_jobs(loader, master, jobs)
        return train_all(configs, fail_fast, compose_seconds=perf_counter() - began)


@contextmanager
def doors() -> Iterator[None]:
    """Turns our errors and interrupts into what Hydra and a shell expect."""

    def terminate(*_):
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread: another launcher's worker
        before = None
    try:
        yield
    except FadeoutError as error:
        raise Refused(str(error)) from error
    except KeyboardInterrupt as error:
        print("interrupted; what was trained is stored: repeat the command with the same name=")
        raise SystemExit(143 if isinstance(error, Terminated) else 130) from error
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which should end a sweep as Ctrl-C does."""


def train_all(
    configs: Sequence[Config], fail_fast: bool = False, compose_seconds: float = 0.0
) -> list[float]:
    """Trains the runs of all configs, stores them, and shows what became of them.

    Returns:
      The final loss of each config, the mean over its runs; NaN after a forecast, which trains
      nothing.

    Raises:
      FadeoutError: before any compute, where a run or a folder is not good.
      SystemExit: some runs failed; the others are stored.
    """
    from fadeout import console, plots, store
    from fadeout.programs import keep_compiled, resolve
    from fadeout.sweep import forecast, resolve_all, sweep

    console.hush()
    began = perf_counter()
    folders: dict[Path, list[Run]] = {}
    grids = [expand(config) for config in configs]
    for config, grid in zip(configs, grids, strict=True):
        folders.setdefault(config.folder(), []).extend(grid)
    for folder, runs in folders.items():
        folders[folder] = resolve_all(runs)
        store.check_folder(folder)
        store.check_protocol(folder, runs)
    if any(config.forecast for config in configs):
        for folder, runs in folders.items():
            console.foretell(forecast(runs, folder), folder)
        return [float("nan")] * len(configs)
    keep_compiled(configs[0].cache)
    losses: dict[tuple[Path, str], float] = {}
    failed = False
    for folder, runs in folders.items():
        with console.progress() as watch:
            summary = sweep(runs, folder, watch, fail_fast)
        results = store.load(folder)
        console.show(store.only(results, runs), folder, plots.save_all(results, folder))
        console.account(summary, compose_seconds, perf_counter() - began)
        failed |= bool(summary.errors)
        final = zip(results["id"].values, store.final(results["loss"]).values, strict=True)
        losses |= {(folder, identity): float(loss) for identity, loss in final}
    if failed:
        raise SystemExit(1)
    return [
        fmean(losses[config.folder(), resolve(run).identity()] for run in grid)
        for config, grid in zip(configs, grids, strict=True)
    ]
