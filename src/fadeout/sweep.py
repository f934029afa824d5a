"""A sweep is a queue of chunks: programs compile while others train, results stream to disk."""

import dataclasses
import os
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import jax
import xarray as xr

from fadeout import store
from fadeout.activations import ACTIVATIONS
from fadeout.config import Run
from fadeout.programs import Batch, batch_of, compile_batch, resolve, train_chunk
from fadeout.registry import FadeoutError, refuse
from fadeout.training import Trace


@dataclass
class Summary:
    """What a sweep did.

    Attributes:
      asked: runs that were asked for; `stored` of them were there already.
      outcomes: of the runs of this sweep, how many ended with each status.
      programs: compiled by this sweep, of `to_compile`.
      errors: the error of each program that failed.
      compile_seconds, train_seconds, store_seconds: the first two summed over threads.
    """

    asked: int
    stored: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    run_steps: int = 0
    programs: int = 0
    to_compile: int = 0
    errors: list[str] = field(default_factory=list)
    compile_seconds: float = 0.0
    train_seconds: float = 0.0
    store_seconds: float = 0.0

    @property
    def done(self) -> int:
        """Runs that need no more work: stored before, trained now, or failed."""
        return self.stored + sum(self.outcomes.values())


Watch = Callable[[Summary], None]


def resolve_all(runs: Iterable[Run]) -> list[Run]:
    """The runs with their defaults written out, each once.

    Raises:
      FadeoutError: runs that cannot be trained; all reasons at once, before any compute.
    """
    resolved: dict[Run, None] = {}
    reasons: Counter[str] = Counter()
    for run in runs:
        try:
            run = resolve(run)
            batch_of(run)
            resolved[run] = None
        except FadeoutError as error:
            reasons[str(error)] += 1
    refuse(reasons, "runs cannot be trained")
    return list(resolved)


def asked_and_pending(runs: Iterable[Run], folder: Path) -> tuple[list[Run], list[Run]]:
    """The runs with their defaults written out, and those that the folder does not hold yet.

    Raises:
      FadeoutError: as `sweep`, before any compute.
    """
    resolved = resolve_all(runs)
    store.check_folder(folder)
    store.check_protocol(folder, resolved)
    return resolved, store.pending(folder, resolved)


def sweep(
    runs: Sequence[Run],
    folder: str | Path,
    watch: Watch | None = None,
    fail_fast: bool = False,
) -> Summary:
    """Trains the runs that a folder does not hold yet, and stores each chunk as it finishes.

    A program that fails takes only its own runs down: they are stored as failed, with the error,
    and tried again by the next sweep. An interrupt (KeyboardInterrupt) waits for the chunks in
    flight, stores them, and goes on its way.

    Args:
      runs: any mixture.
      folder: where results go; created when the first chunk is stored.
      watch: called after each finished chunk and program.
      fail_fast: stop at the first failure.

    Raises:
      FadeoutError: a run that cannot be trained, a folder that cannot be written or that holds
        another study, before any compute; a write that fails.
    """
    folder = Path(folder)
    runs, todo = asked_and_pending(runs, folder)
    summary = Summary(len(runs), stored=len(runs) - len(todo))
    queue = Queue(todo, summary, watch or (lambda summary: None), fail_fast)
    for done in queue.finished():
        began = perf_counter()
        dataset = done.dataset()
        store.save(folder, dataset, **queue.about(done))
        summary.outcomes.update(dataset["status"].values.tolist())
        summary.run_steps += sum(run.training.steps for run in done.runs)
        summary.store_seconds += perf_counter() - began
        queue.watch(summary)
    return summary


class Forecast(NamedTuple):
    """What a sweep would take.

    Attributes:
      asked, stored: runs.
      programs: to compile, or to take from the cache.
      chunks: to train, each a file.
      memory, disk: bytes; memory is what the chunks in flight record, held three times over.
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


def forecast(runs: Sequence[Run], folder: str | Path) -> Forecast:
    """Foresees a sweep without training it.

    The calibration compiles the program with most work to do, cut to two records, and trains one
    chunk with it. Work is counted as steps x layers x width x (width + examples), so that the times
    are right to within a factor of about two where widths are mixed.

    Raises:
      FadeoutError: as `sweep`.
    """
    runs, todo = asked_and_pending(runs, Path(folder))
    if not todo:
        return Forecast(len(runs), len(runs), 0, 0, 0, 0, 0.0, 0.0)
    queue = Queue(todo, Summary(len(runs)), lambda summary: None, fail_fast=True)
    tasks = [*queue.to_compile, *queue.waiting]
    threads = len(queue.devices)
    chunks = sum(len(task.chunks) for task in tasks)
    largest = max(task.lanes * bytes_per_run(task.batch) for task in tasks)

    heaviest = max(tasks, key=lambda task: work(task.batch) * len(task.runs))
    every = heaviest.runs[0].training.record_every
    brief = [
        dataclasses.replace(run, training=dataclasses.replace(run.training, steps=every))
        for run in heaviest.runs[: heaviest.lanes]
    ]
    batch = batch_of(brief[0])
    began = perf_counter()
    compile_batch(batch, heaviest.lanes, queue.devices[0])
    compiled = perf_counter() - began
    train_chunk(batch, brief, heaviest.lanes, queue.devices[0])
    began = perf_counter()
    train_chunk(batch, brief, heaviest.lanes, queue.devices[0])
    trained = perf_counter() - began
    seconds_per_work = trained / (heaviest.lanes * max(work(batch), 1))
    whole = sum(len(task.chunks) * task.lanes * work(task.batch) for task in tasks)
    return Forecast(
        asked=len(runs),
        stored=len(runs) - len(todo),
        programs=len(queue.to_compile),
        chunks=chunks,
        memory=3 * largest * min(threads, chunks),
        disk=sum(len(task.runs) * bytes_per_run(task.batch) for task in tasks),
        compile_seconds=compiled * -(-len(queue.to_compile) // threads),
        train_seconds=seconds_per_work * whole / min(threads, chunks),
    )


def work(batch: Batch) -> int:
    """Multiplications of one run, but for a constant."""
    run = batch.program.run
    width, examples = run.model.width, batch.program.examples
    return run.training.steps * (run.model.depth + 1) * width * (width + examples)


def bytes_per_run(batch: Batch) -> int:
    """What one run records, and its labels."""
    size = 8 if batch.program.run.training.dtype == "float64" else 4
    return batch.program.recorded * size + 2000


def train(runs: Run | Sequence[Run]) -> xr.Dataset:
    """Trains runs in memory, without storing them.

    Args:
      runs: one, or any mixture.

    Returns:
      The dataset that `load` would give, in the order of their labels.

    Raises:
      FadeoutError: a run that cannot be trained, before any compute.

    >>> result = train([Run(seed=seed) for seed in range(8)])
    >>> result.sizes["run"], int((result.status == "solved").sum())
    (8, 8)
    """
    runs = resolve_all([runs] if isinstance(runs, Run) else runs)
    if not runs:
        raise FadeoutError("no runs to train: give at least one")
    queue = Queue(runs, Summary(len(runs)), lambda summary: None, fail_fast=True)
    return store.in_order(store.merge([done.dataset() for done in queue.finished()]))


class Done(NamedTuple):
    """A chunk that came back: with what was recorded, or with an error."""

    runs: Sequence[Run]
    lanes: int
    trace: Trace | None
    error: str = ""

    def dataset(self) -> xr.Dataset:
        if self.trace is None:
            return store.failed_dataset(self.runs, self.error)
        return store.to_dataset(self.runs, self.trace)


class Task(NamedTuple):
    """What a thread is given: to compile a program for these runs, or to train one chunk of them.

    Attributes:
      lanes: of the program.
    """

    batch: Batch
    lanes: int
    runs: Sequence[Run]
    compiled: bool = False

    @property
    def programs(self) -> tuple:
        """What is compiled for it; tasks that share it need it once."""
        return self.batch.program, self.batch.preparation, self.lanes

    @property
    def chunks(self) -> list["Task"]:
        """What is to train once it is compiled."""
        starts = range(0, len(self.runs), self.lanes)
        parts = [self.runs[start : start + self.lanes] for start in starts]
        return [Task(self.batch, self.lanes, part, compiled=True) for part in parts]


class Queue:
    """Compiles each program once and trains its chunks, on every core or every device at once.

    On CPU one device serves all threads: a program of lanes uses one core, so that as many run
    side by side as there are cores (measured: two threads on one device are 1.95 times as fast as
    one; two virtual devices are no faster, and compile everything twice).
    """

    def __init__(self, runs: Sequence[Run], summary: Summary, watch: Watch, fail_fast: bool):
        self.summary = summary
        self.watch = watch
        self.fail_fast = fail_fast
        devices = jax.local_devices()
        on_cpu = devices[0].platform == "cpu"
        self.devices = [devices[0]] * core_count() if on_cpu else devices
        batches: dict[Batch, list[Run]] = {}
        for run in runs:
            batches.setdefault(batch_of(run), []).append(run)
        tasks = [Task(batch, batch.program.lanes, members) for batch, members in batches.items()]
        first = {task.programs: task for task in reversed(tasks)}
        self.to_compile = deque(task for task in tasks if task is first[task.programs])
        self.waiting = [task for task in tasks if task is not first[task.programs]]
        self.to_train: deque[Task] = deque()
        self.in_flight: dict[Future, tuple[Task, jax.Device]] = {}
        summary.to_compile = len(self.to_compile)

    def about(self, done: Done) -> dict[str, str]:
        """Provenance that only the queue knows."""
        device = self.devices[0]
        return {"device": f"{device.platform}: {device.device_kind}", "lanes": str(done.lanes)}

    def finished(self) -> Iterator[Done]:
        """Yields every chunk, in the order in which they finish."""
        idle = deque(self.devices)
        interrupted = None
        with ThreadPoolExecutor(len(self.devices)) as pool:
            while self.in_flight or ((self.to_train or self.to_compile) and not interrupted):
                try:
                    while idle and not interrupted and (self.to_train or self.to_compile):
                        task = (self.to_train or self.to_compile).popleft()
                        device = idle.popleft()
                        self.in_flight[pool.submit(self.work, task, device)] = task, device
                    ready = wait(self.in_flight, return_when=FIRST_COMPLETED).done
                except KeyboardInterrupt as error:
                    if interrupted:
                        raise
                    interrupted = error
                    continue
                for future in ready:
                    task, device = self.in_flight.pop(future)
                    idle.append(device)
                    yield from self.settle(task, future)
        if interrupted:
            raise interrupted

    def work(self, task: Task, device: jax.Device) -> Trace | None:
        """What a thread does."""
        began = perf_counter()
        if task.compiled:
            trace = train_chunk(task.batch, task.runs, task.lanes, device)
            self.summary.train_seconds += perf_counter() - began
            return trace
        compile_batch(task.batch, task.lanes, device)
        self.summary.compile_seconds += perf_counter() - began
        return None

    def settle(self, task: Task, future: Future) -> Iterator[Done]:
        """Takes a thread's answer: a program is compiled, or a chunk is trained."""
        error = future.exception()
        if error is None and task.compiled:
            yield Done(task.runs, task.lanes, future.result())
        elif error is None:
            self.summary.programs += 1
            self.watch(self.summary)
            for ready in self.sharing(task):
                self.to_train.extend(ready.chunks)
        elif out_of_memory(error) and task.lanes > 1:
            for smaller in self.halved(task):
                self.to_compile.appendleft(smaller)
        elif self.fail_fast or not isinstance(error, Exception):
            raise error
        else:
            self.summary.errors.append(f"{describe(task.batch)}: {type(error).__name__}: {error}")
            text = "".join(traceback.format_exception(error))
            for failed in [task] if task.compiled else self.sharing(task):
                yield Done(failed.runs, failed.lanes, None, text)

    def sharing(self, task: Task) -> list[Task]:
        """A task and those that waited for the same programs, which now wait no more."""
        same = [other for other in self.waiting if other.programs == task.programs]
        self.waiting = [other for other in self.waiting if other.programs != task.programs]
        return [task, *same]

    def halved(self, task: Task) -> list[Task]:
        """A task and all that waits for its batch, to be tried with half the lanes."""
        same = [t for t in self.to_train if (t.batch, t.lanes) == (task.batch, task.lanes)]
        for other in same:
            self.to_train.remove(other)
        runs = [run for t in (task, *same) for run in t.runs]
        lanes = max(1, min(task.lanes, len(runs)) // 2)
        others = [] if task.compiled else self.sharing(task)[1:]
        return [Task(task.batch, lanes, runs), *(o._replace(lanes=o.lanes // 2) for o in others)]


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def describe(batch: Batch) -> str:
    """A batch in a few words."""
    run, prepared = batch.program.run, batch.preparation
    return (
        f"{list(ACTIVATIONS)[batch.activation]}, {prepared.init.name}, {prepared.task.name}, "
        f"{run.optimizer.name}, depth {run.model.depth}, width {run.model.width}"
    )


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
