"""A sweep by workers, which write into one folder."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from fadeout.config import Run
from fadeout.extensions import load_extensions
from fadeout.registry import FadeoutError
from fadeout.sweeps import store
from fadeout.sweeps.chunks import deepest_group, split_runs, work_of_run
from fadeout.sweeps.executors import core_count
from fadeout.sweeps.provenance import provenance
from fadeout.sweeps.run_index import RunIndex, index_runs
from fadeout.sweeps.sweep import OnProgress, Summary, ignore_progress, sweep, to_train
from fadeout.training.program_cache import use_program_cache


def distribute(
    runs: Sequence[Run] | RunIndex,
    folder: str | Path,
    executor: Executor,
    jobs: int,
    watch: OnProgress = ignore_progress,
    cache: str | None = None,
    attempts: int = 3,
    fail_fast: bool = False,
    extensions: Sequence[str] = (),
) -> Summary:
    """`sweep` by workers, which write into one folder.

    A worker that dies is followed by another, which trains what the first left.

    Args:
      folder: on a disk that all workers share.
      executor: anything that can `submit` like one of `concurrent.futures`. Where it says how many
        of its workers share a machine, in an attribute `workers_here`, they share its cores.
      jobs: how many parts the sweep is cut into, each for one worker.
      cache: folder of compiled programs, best shared as well.
      attempts: how often a part is given to a worker before it is given up.
      fail_fast: stop at the first failure.
      extensions: that the workers import, files on a disk that they share.

    Raises:
      FadeoutError: as `sweep`; fewer than one part.
    """
    if jobs < 1:
        raise FadeoutError(f"a sweep is cut into at least 1 part, not {jobs}: hydra.launcher.jobs")
    folder = Path(folder).absolute()
    index = runs if isinstance(runs, RunIndex) else index_runs(runs)
    missing, summary = to_train(folder, index)
    shards = [index.take(places) for places in split_by_work(index, missing, jobs)]
    here = getattr(executor, "workers_here", None)
    threads = None if here is None else max(1, core_count() // max(1, min(here, len(shards))))
    settings = folder, cache, fail_fast, threads, provenance()["command"], tuple(extensions)
    tried = Counter(range(len(shards)))
    flying = {executor.submit(sweep_part, s, *settings): i for i, s in enumerate(shards)}
    try:
        while flying:
            ready = [future for future in flying if future.done()]
            if not ready:
                time.sleep(0.1)
            for future in ready:
                number = flying.pop(future)
                try:
                    summary.add(future.result())
                except FadeoutError:
                    raise
                except Exception as error:
                    if tried[number] < attempts:
                        again = executor.submit(sweep_part, shards[number], *settings)
                        flying[again] = number
                        tried[number] += 1
                        continue
                    summary.errors.append(
                        f"job {number + 1} of {len(shards)} died {attempts} times: {error!r}"
                    )
                if fail_fast and summary.errors:
                    raise FadeoutError(f"stopped at the first failure: {summary.errors[0]}")
                summary.outcomes = _count_outcomes(folder, index, missing)
                watch(summary)
    except BaseException:
        for future in flying:
            future.cancel()
        raise
    summary.outcomes = _count_outcomes(folder, index, missing)
    return summary


def _count_outcomes(folder: Path, index: RunIndex, members: np.ndarray) -> Counter[str]:
    """Counts how the runs at these positions ended, as stored."""
    return store.count_outcomes(folder, index.identity[members])


def sweep_part(
    runs: Sequence[Run],
    folder: Path,
    cache: str | None,
    fail_fast: bool = False,
    threads: int | None = None,
    command: str | None = None,
    extensions: Sequence[str] = (),
) -> Summary:
    """Trains one part of a sweep. This is what a worker runs.

    Args:
      command: the user's, which is the provenance of what it stores.
    """
    load_extensions(extensions)
    use_program_cache(cache)
    about = {} if command is None else {"command": command}
    return sweep(runs, folder, ignore_progress, fail_fast, threads, **about)


def split_by_work(index: RunIndex, members: np.ndarray, jobs: int) -> list[np.ndarray]:
    """Cuts a sweep into parts of about equal work; runs of one program stay together."""
    pieces = split_runs(index, members, threads=1)
    programs = list(dict.fromkeys(piece.programs for piece in pieces))
    pieces.sort(key=lambda piece: programs.index(piece.programs))
    portions = [
        (block, max(work_of_run(deepest_group(index, block)), 1) * piece.lanes)
        for piece in pieces
        for block in piece.in_parts_of(piece.lanes)
    ]
    done = np.cumsum([0] + [weight for _, weight in portions])
    owners = np.floor(done[:-1] / max(done[-1], 1) * jobs)
    parts = [[p for (p, _), owner in zip(portions, owners, strict=True) if owner == job]
             for job in range(jobs)]  # fmt: skip
    return [np.concatenate(part) for part in parts if part]
