"""A sweep: what a folder lacks is trained, here or by workers, and stored as it finishes."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import perf_counter

import numpy as np
import xarray as xr

from fadeout.config import Run
from fadeout.registry import FadeoutError
from fadeout.sweeps import store
from fadeout.sweeps.chunks import check_memory, split_runs
from fadeout.sweeps.joining import join_parts
from fadeout.sweeps.networks import NETWORK_FILE
from fadeout.sweeps.results import identity_numbers
from fadeout.sweeps.run_index import RunIndex, index_runs
from fadeout.sweeps.training_queue import CompiledProgram, FinishedChunk, Queue


@dataclass
class Summary:
    """The counts and times of a sweep.

    Attributes:
      asked: runs that were asked for; `stored` of them were there already, or were stored meanwhile
        by another process.
      repeated: how often a run was asked for again, which makes no other.
      others: whether another process writes into the same folder.
      outcomes: of the runs of this sweep, how many ended with each status.
      to_compile: programs that are needed.
      compiled: those that are ready; `compiling`, what those are that are made just now.
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
    compiled: list[CompiledProgram] = field(default_factory=list)
    compiling: list[str] = field(default_factory=list)
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
            if f.name not in ("asked", "stored", "repeated", "others", "outcomes", "compiling"):
                setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


OnProgress = Callable[[Summary], None]


def ignore_progress(summary: Summary) -> None:
    pass


def check_sweep(folder: Path, index: RunIndex) -> list[str]:
    """Refuses a folder that cannot be written, or that holds another study; gives what there is to
    say (`store.check_protocol`).

    Raises:
      FadeoutError
    """
    store.check_folder(folder)
    if (folder / NETWORK_FILE).exists():
        raise FadeoutError(
            f"{folder} holds a network of your own ({NETWORK_FILE}): choose another name"
        )
    return store.check_protocol(folder, index.take(np.unique(index.group, return_index=True)[1]))


def to_train(folder: Path, index: RunIndex) -> tuple[np.ndarray, Summary]:
    """The places of the runs that a folder does not hold yet, and what is known before training.

    Raises:
      FadeoutError: as `sweep`, before any compute.
    """
    check_sweep(folder, index)
    once = index.unique()
    missing = once[~np.isin(index.identity[once], store.stored_identities(folder))]
    return missing, Summary(
        asked=once.size,
        stored=once.size - missing.size,
        repeated=index.identity.size - once.size,
    )


def sweep(
    runs: Sequence[Run] | RunIndex,
    folder: str | Path,
    watch: OnProgress = ignore_progress,
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
      watch: called before the first program is compiled, after each finished chunk and program,
        and now and then in between.
      fail_fast: stop at the first failure.
      threads: on a CPU, how many train; by default one for each core.
      about: provenance to store beside the results.

    Raises:
      FadeoutError: a run that cannot be trained, a folder that cannot be written or that holds
        another study, more than the machine's memory, before any compute; a write that fails.
    """
    folder = Path(folder)
    index = runs if isinstance(runs, RunIndex) else index_runs(runs)
    missing, summary = to_train(folder, index)
    known = store.StoredIds(folder)

    def left(identities: np.ndarray) -> np.ndarray:
        try:
            return ~np.isin(identities, known())
        except FadeoutError:  # a file that another process has just moved: no fault of these runs
            return np.ones(identities.size, bool)

    def keep(done: CompiledProgram | FinishedChunk | None) -> None:
        if done is None:
            return
        if isinstance(done, CompiledProgram):
            summary.compiled.append(done)
            return
        summary.stored += done.elsewhere
        if done.part is None:
            return
        began = perf_counter()
        store.write_part(folder, done.part, device=queue.device, lanes=str(done.lanes), **about)
        summary.store_seconds += perf_counter() - began
        summary.train_seconds += done.seconds
        summary.run_steps += done.run_steps
        summary.outcomes.update(done.part.get("status").tolist())
        summary.errors += [done.error] * bool(done.error)

    if not missing.size:
        return summary
    check_memory(split_runs(index, missing, threads=1))
    with store.writing_into(folder) as summary.others:
        queue = Queue(index, missing, fail_fast, threads, left, backwards=summary.others)
        summary.to_compile = len(queue.to_compile)
        watch(summary)
        for done in queue.finished():
            keep(done)
            summary.compiling = queue.compiling
            watch(summary)
    return summary


def train_in_memory(runs: Run | Sequence[Run], watch: OnProgress = ignore_progress) -> xr.Dataset:
    """Trains runs in memory, without storing them.

    Args:
      runs: one, or any mixture.
      watch: called after each finished chunk and program, and now and then in between.

    Returns:
      The dataset that `load` would give, one row for each of the runs, in their order.

    Raises:
      FadeoutError: a run that cannot be trained, before any compute.

    >>> result = train_in_memory([Run(seed=seed) for seed in range(8)])
    >>> result.sizes["run"], int((result.status == "solved").sum())
    (8, 8)
    """
    index = index_runs([runs] if isinstance(runs, Run) else runs)
    if not index.identity.size:
        raise FadeoutError("no runs to train: give at least one")
    once = index.unique()
    queue = Queue(index, once, fail_fast=True)
    summary = Summary(asked=once.size, to_compile=len(queue.to_compile))
    watch(summary)
    parts = []
    for done in queue.finished():
        if isinstance(done, CompiledProgram):
            summary.compiled.append(done)
        elif done is not None and done.part is not None:
            parts.append(done.part)
            summary.run_steps += done.run_steps
            summary.outcomes.update(done.part.get("status").tolist())
        summary.compiling = queue.compiling
        watch(summary)
    joined = join_parts(parts)
    own = identity_numbers(joined["id"].values)
    order = np.argsort(own)
    return joined.isel(run=order[np.searchsorted(own, index.identity, sorter=order)])
