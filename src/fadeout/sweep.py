"""A sweep: what a folder lacks is trained, here or by workers, and stored as it finishes."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import xarray as xr

from fadeout import store
from fadeout.config import Run
from fadeout.programs import batch_of, compile_batch, keep_compiled, train_batch
from fadeout.provenance import provenance
from fadeout.queue import (
    Compiled,
    Queue,
    Survey,
    Task,
    Trained,
    bytes_per_run,
    check_memory,
    core_count,
    cut,
    memory,
    survey,
    work,
)
from fadeout.registry import FadeoutError
from fadeout.results import join, numbers


@dataclass
class Summary:
    """What a sweep did.

    Attributes:
      asked: runs that were asked for; `stored` of them were there already, or were stored meanwhile
        by another process.
      repeated: how often a run was asked for again, which makes no other.
      others: whether another process writes into the same folder.
      outcomes: of the runs of this sweep, how many ended with each status.
      to_compile: programs that are needed.
      compiled: those that are ready.
      errors: the error of each program that failed.
      train_seconds, store_seconds: as `compile_seconds` summed over threads and workers.
    """

    asked: int = 0
    stored: int = 0
    repeated: int = 0
    others: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    run_steps: int = 0
    to_compile: int = 0
    compiled: list[Compiled] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    train_seconds: float = 0.0
    store_seconds: float = 0.0

    @property
    def done(self) -> int:
        """Runs that need no more work: stored before, trained now, or failed."""
        return self.stored + self.outcomes.total()

    @property
    def compile_seconds(self) -> float:
        return sum(program.seconds for program in self.compiled)

    def add(self, other: "Summary") -> None:
        """Adds what a worker did for a part of this sweep; what became of the runs is told by the
        store, which knows also of workers that died."""
        for f in fields(self):
            if f.name not in ("asked", "stored", "repeated", "others", "outcomes"):
                setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


Watch = Callable[[Summary], None]


def unwatched(summary: Summary) -> None:
    pass


def check(folder: Path, looked: Survey) -> None:
    """Refuses a folder that cannot be written, or that holds another study.

    Raises:
      FadeoutError
    """
    store.check_folder(folder)
    store.check_protocol(folder, [batch.program.run for batch in looked.batches])


def to_train(folder: Path, looked: Survey) -> tuple[np.ndarray, Summary]:
    """The places of the runs that a folder does not hold yet, and what is known before training.

    Raises:
      FadeoutError: as `sweep`, before any compute.
    """
    check(folder, looked)
    once = looked.once()
    missing = once[~np.isin(looked.identity[once], store.stored(folder))]
    return missing, Summary(
        asked=once.size,
        stored=once.size - missing.size,
        repeated=looked.identity.size - once.size,
    )


def sweep(
    runs: Sequence[Run] | Survey,
    folder: str | Path,
    watch: Watch = unwatched,
    fail_fast: bool = False,
    threads: int | None = None,
    **about: str,
) -> Summary:
    """Trains the runs that a folder does not hold yet, and stores each chunk as it finishes.

    Several processes may do this for one folder at once: each trains what no other has stored, the
    second from the other end, so that they meet. A program that fails takes only its own
    runs down: they are stored as failed, with the error, and tried again by the next sweep. An
    interrupt (KeyboardInterrupt) waits for the chunks in flight, stores them, and goes on its way;
    a second one does not wait.

    Args:
      runs: any mixture; made one by one, where they are a grid.
      folder: where results go; created when the first chunk is stored.
      watch: called after each finished chunk and program.
      fail_fast: stop at the first failure.
      threads: on a CPU, how many train; by default one for each core.
      about: provenance to store beside the results.

    Raises:
      FadeoutError: a run that cannot be trained, a folder that cannot be written or that holds
        another study, more than the machine's memory, before any compute; a write that fails.
    """
    folder = Path(folder)
    looked = runs if isinstance(runs, Survey) else survey(runs)
    missing, summary = to_train(folder, looked)
    known = store.Known(folder)

    def left(identities: np.ndarray) -> np.ndarray:
        return ~np.isin(identities, known())

    def keep(done: Compiled | Trained) -> None:
        if isinstance(done, Compiled):
            summary.compiled.append(done)
            return
        summary.stored += done.elsewhere
        if done.part is None:
            return
        began = perf_counter()
        store.save(folder, done.part, device=queue.device, lanes=str(done.lanes), **about)
        summary.store_seconds += perf_counter() - began
        summary.train_seconds += done.seconds
        summary.run_steps += done.run_steps
        summary.outcomes.update(done.part.get("status").tolist())
        summary.errors += [done.error] * bool(done.error)

    if not missing.size:
        return summary
    check_memory(cut(looked, missing, threads=1))
    with store.writing(folder) as summary.others:
        queue = Queue(looked, missing, fail_fast, threads, left, backwards=summary.others)
        summary.to_compile = len(queue.to_compile)
        for done in queue.finished():
            keep(done)
            watch(summary)
    return summary


def distribute(
    runs: Sequence[Run] | Survey,
    folder: str | Path,
    executor: Executor,
    jobs: int,
    watch: Watch = unwatched,
    cache: str | None = None,
    attempts: int = 3,
    fail_fast: bool = False,
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

    Raises:
      FadeoutError: as `sweep`; fewer than one part.
    """
    if jobs < 1:
        raise FadeoutError(f"a sweep is cut into at least 1 part, not {jobs}: hydra.launcher.jobs")
    folder = Path(folder).absolute()
    looked = runs if isinstance(runs, Survey) else survey(runs)
    missing, summary = to_train(folder, looked)
    shards = [looked.take(places) for places in shares(looked, missing, jobs)]
    here = getattr(executor, "workers_here", None)
    threads = None if here is None else max(1, core_count() // max(1, min(here, len(shards))))
    settings = folder, cache, fail_fast, threads, provenance()["command"]
    tried = Counter(range(len(shards)))
    flying = {executor.submit(shard_sweep, s, *settings): i for i, s in enumerate(shards)}
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
                        again = executor.submit(shard_sweep, shards[number], *settings)
                        flying[again] = number
                        tried[number] += 1
                        continue
                    summary.errors.append(
                        f"job {number + 1} of {len(shards)} died {attempts} times: {error!r}"
                    )
                if fail_fast and summary.errors:
                    raise FadeoutError(f"stopped at the first failure: {summary.errors[0]}")
                summary.outcomes = became(folder, looked, missing)
                watch(summary)
    except BaseException:
        for future in flying:
            future.cancel()
        raise
    summary.outcomes = became(folder, looked, missing)
    return summary


def became(folder: Path, looked: Survey, members: np.ndarray) -> Counter[str]:
    """What became of the runs at these places, as the store tells it."""
    return store.outcomes(folder, looked.identity[members])


def shard_sweep(
    runs: Sequence[Run],
    folder: Path,
    cache: str | None,
    fail_fast: bool = False,
    threads: int | None = None,
    command: str | None = None,
) -> Summary:
    """What a worker does.

    Args:
      command: the user's, which is the provenance of what it stores.
    """
    keep_compiled(cache)
    about = {} if command is None else {"command": command}
    return sweep(runs, folder, unwatched, fail_fast, threads, **about)


def shares(looked: Survey, members: np.ndarray, jobs: int) -> list[np.ndarray]:
    """Cuts a sweep into parts of about equal work; runs of one program stay together."""
    tasks = cut(looked, members, threads=1)
    programs = list(dict.fromkeys(task.programs for task in tasks))
    tasks.sort(key=lambda task: programs.index(task.programs))
    pieces = [
        (task.members[start : start + task.lanes], work(task.batch) * task.lanes)
        for task in tasks
        for start in range(0, task.members.size, task.lanes)
    ]
    done = np.cumsum([0] + [weight for _, weight in pieces])
    owners = np.floor(done[:-1] / max(done[-1], 1) * jobs)
    parts = [[p for (p, _), owner in zip(pieces, owners, strict=True) if owner == job]
             for job in range(jobs)]  # fmt: skip
    return [np.concatenate(part) for part in parts if part]


class Forecast(NamedTuple):
    """What a sweep would take.

    Attributes:
      asked, stored: runs.
      programs: to compile, or to take from the cache.
      chunks: to train, each a file.
      memory, disk: bytes; memory is what the chunks in flight hold (`queue.memory`).
      compile_seconds, train_seconds: wall time, from the calibration.
    """

    asked: int
    stored: int
    programs: int
    chunks: int
    memory: int
    disk: int
    compile_seconds: float
    train_seconds: float


def forecast(runs: Sequence[Run] | Survey, folder: str | Path) -> Forecast:
    """Foresees a sweep without training it.

    The calibration compiles the program with most work to do, cut to two records, and trains one
    chunk with it. Work is counted as steps x layers x width x (width + examples), so that the times
    are right to within a factor of about two where widths are mixed.

    Raises:
      FadeoutError: as `sweep`.
    """
    looked = runs if isinstance(runs, Survey) else survey(runs)
    missing, summary = to_train(Path(folder), looked)
    if not missing.size:
        return Forecast(summary.asked, summary.stored, 0, 0, 0, 0, 0.0, 0.0)
    queue = Queue(looked, missing, fail_fast=True)
    tasks = [*queue.to_compile, *queue.waiting]
    threads = len(queue.devices)
    chunks = sum(len(task.chunks) for task in tasks)
    largest = max(map(memory, tasks))
    heaviest = max(tasks, key=lambda task: work(task.batch) * task.members.size)
    compiled, seconds_per_work = calibrate(queue, heaviest)
    blocks = sum(
        math.ceil(task.members.size / task.lanes) * task.lanes * work(task.batch) for task in tasks
    )
    return Forecast(
        asked=summary.asked,
        stored=summary.stored,
        programs=len(queue.to_compile),
        chunks=chunks,
        memory=largest * min(threads, chunks),
        disk=sum(task.members.size * bytes_per_run(task.batch) for task in tasks),
        compile_seconds=compiled * math.ceil(len(queue.to_compile) / threads),
        train_seconds=seconds_per_work * blocks / min(threads, chunks),
    )


def calibrate(queue: Queue, task: Task) -> tuple[float, float]:
    """Seconds to compile a program, and seconds per work of training with it."""
    runs = queue.survey.take(task.members[: task.lanes])
    training = replace(runs[0].training, steps=runs[0].training.record_every)
    brief = [replace(run, training=training) for run in runs]
    batch, device = batch_of(brief[0]), queue.devices[0]
    began = perf_counter()
    compile_batch(batch, task.lanes, device)
    compiled = perf_counter() - began
    train_batch(batch, brief, task.lanes, device)
    began = perf_counter()
    train_batch(batch, brief, task.lanes, device)
    return compiled, (perf_counter() - began) / (task.lanes * max(work(batch), 1))


def train(runs: Run | Sequence[Run]) -> xr.Dataset:
    """Trains runs in memory, without storing them.

    Args:
      runs: one, or any mixture.

    Returns:
      The dataset that `load` would give, one row for each of the runs, in their order.

    Raises:
      FadeoutError: a run that cannot be trained, before any compute.

    >>> result = train([Run(seed=seed) for seed in range(8)])
    >>> result.sizes["run"], int((result.status == "solved").sum())
    (8, 8)
    """
    looked = survey([runs] if isinstance(runs, Run) else runs)
    if not looked.identity.size:
        raise FadeoutError("no runs to train: give at least one")
    finished = Queue(looked, looked.once(), fail_fast=True).finished()
    joined = join([done.part for done in finished if isinstance(done, Trained) and done.part])
    own = numbers(joined["id"].values)
    order = np.argsort(own)
    return joined.isel(run=order[np.searchsorted(own, looked.identity, sorter=order)])
