"""Runs surveyed, cut into chunks and trained: programs compile while others train."""

import os
import traceback
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import jax
import numpy as np

from fadeout import results
from fadeout.config import Run
from fadeout.interrupts import noted
from fadeout.programs import Batch, batch_of, cache, compile_batch, resolve, train_batch
from fadeout.registry import FadeoutError, refuse
from fadeout.results import Part

CHUNK_BYTES = 16 * 2**20
CHUNK_WORK = 10**9
"""A chunk of several blocks of lanes records at most so many bytes and takes a few seconds."""

POLL_SECONDS = 0.2
"""How often an interrupt is looked for while nothing finishes."""


class Survey(NamedTuple):
    """What is known of many runs before any is trained, in twelve bytes a run.

    Attributes:
      runs: made when asked for, where they are a grid.
      batches: all that occur.
      batch: the place in `batches` of each run's, [run].
      identity: of each run, as a 64-bit number, [run].
    """

    runs: Sequence[Run]
    batches: list[Batch]
    batch: np.ndarray
    identity: np.ndarray

    def once(self) -> np.ndarray:
        """The places of the runs, each identity once, in order."""
        return np.sort(np.unique(self.identity, return_index=True)[1])

    def take(self, places: np.ndarray) -> list[Run]:
        """The runs at these places, their defaults written out."""
        return [resolve(self.runs[place]) for place in places]


def survey(runs: Sequence[Run]) -> Survey:
    """Looks at every run once.

    Raises:
      FadeoutError: runs that cannot be trained; all reasons at once, before any compute.
    """
    batches: dict[Batch, int] = {}
    batch, identity = array("i"), array("Q")
    reasons: Counter[str] = Counter()
    for run in runs:
        try:
            run = resolve(run)
            batch.append(batches.setdefault(batch_of(run), len(batches)))
            identity.append(int(run.digest(), 16))
        except FadeoutError as error:
            reasons[str(error)] += 1
    refuse(reasons, "runs cannot be trained")
    return Survey(runs, list(batches), np.array(batch, np.int32), np.array(identity, np.uint64))


class Task(NamedTuple):
    """What a thread is given: to compile a program for these runs, or to train one chunk of them.

    Attributes:
      lanes: of the program.
      members: places of the runs.
      blocks: of lanes, in one chunk.
    """

    batch: Batch
    lanes: int
    members: np.ndarray
    blocks: int
    compiled: bool = False

    @property
    def programs(self) -> tuple:
        """What is compiled for it; tasks that share it need it once."""
        return self.batch.program, self.batch.preparation, self.lanes

    @property
    def chunks(self) -> list["Task"]:
        """What is to train once it is compiled."""
        size = self.lanes * self.blocks
        starts = range(0, len(self.members), size)
        parts = [self.members[start : start + size] for start in starts]
        return [self._replace(members=part, compiled=True) for part in parts]


def cut(survey: Survey, members: np.ndarray, threads: int) -> list[Task]:
    """The runs at `members` as one task a batch."""
    tasks = []
    numbers = survey.batch[members]
    for number in dict.fromkeys(numbers.tolist()):
        batch = survey.batches[number]
        lanes = batch.program.lanes
        blocks = min(
            CHUNK_BYTES // (lanes * bytes_per_run(batch)),
            CHUNK_WORK // (lanes * max(work(batch), 1)),
            members.size // (lanes * threads * 4),
        )
        tasks.append(Task(batch, lanes, members[numbers == number], max(1, blocks)))
    return tasks


def work(batch: Batch) -> int:
    """Multiplications of one run, but for a constant."""
    run = batch.program.run
    width, examples = run.model.width, batch.program.examples
    return run.training.steps * (run.model.depth + 1) * width * (width + examples)


def bytes_per_run(batch: Batch) -> int:
    """What one run records, and its labels."""
    size = 8 if batch.program.run.training.dtype == "float64" else 4
    return batch.program.recorded * size + 200


def memory(task: Task) -> int:
    """Bytes that one chunk in flight holds, about: what it records, three times over, and for one
    block of lanes the examples, parameters with two moments and gradients, and signals."""
    program = task.batch.program
    run, examples, features = program.run, program.examples, program.features
    depth, width = run.model.depth, run.model.width
    size = 8 if run.training.dtype == "float64" else 4
    parameters = (features + 1) * width + (depth - 1) * (width + 1) * width + width + 1
    numbers = examples * features + 4 * parameters + 5 * examples * width * depth
    return task.lanes * (3 * task.blocks * bytes_per_run(task.batch) + 2 * size * numbers)


def memory_here() -> int:
    """Bytes of memory of this machine, or that its control group may use."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return whole


def check_memory(tasks: Sequence[Task]) -> None:
    """Refuses what cannot fit, before any compute.

    Raises:
      FadeoutError: with what would make it smaller.
    """
    here = memory_here()
    for task in tasks:
        needed = memory(task)
        if needed > here:
            raise FadeoutError(
                f"{describe(task.batch)} needs about {needed / 1e9:,.0f} GB, more than the "
                f"{here / 1e9:,.0f} GB of this machine: set a larger training.record_every, fewer "
                "probes, or a smaller task or network"
            )


class Compiled(NamedTuple):
    """A program that is ready."""

    program: str
    seconds: float
    cached: bool


class Trained(NamedTuple):
    """A chunk that came back, with what was recorded, or with an error of one line; `elsewhere`
    counts those of its runs that another process has stored meanwhile."""

    part: Part | None
    lanes: int
    run_steps: int
    seconds: float
    error: str = ""
    elsewhere: int = 0


class Queue:
    """Compiles each program once and trains its chunks, on every core or every device at once.

    On CPU one device serves all threads: a program of lanes uses one core, so that as many run
    side by side as there are cores (measured: two threads on one device are 1.95 times as fast as
    one; two virtual devices are no faster, and compile everything twice).

    Args:
      survey: of all runs.
      members: the places of those to train.
      fail_fast: raise at the first failure.
      threads: on a CPU, how many; all cores where None.
      left: of identities, which are still to train, [run]: asked before each chunk.
      backwards: from the last to the first, to meet another process in the middle.
    """

    def __init__(
        self,
        survey: Survey,
        members: np.ndarray,
        fail_fast: bool,
        threads: int | None = None,
        left: Callable[[np.ndarray], np.ndarray] | None = None,
        backwards: bool = False,
    ):
        self.survey = survey
        self.fail_fast = fail_fast
        self.left = left
        devices = jax.local_devices()
        count = threads or core_count()
        self.devices = [devices[0]] * count if on_cpu(devices[0]) else devices
        members = members[::-1] if backwards else members
        tasks = cut(survey, members, len(self.devices))
        check_memory(tasks)
        first = {task.programs: task for task in reversed(tasks)}
        self.to_compile = deque(task for task in tasks if task is first[task.programs])
        self.waiting = [task for task in tasks if task is not first[task.programs]]
        self.to_train: deque[Task] = deque()
        self.in_flight: dict[Future, tuple[Task, jax.Device]] = {}
        self.compiled: set[tuple] = set()

    @property
    def device(self) -> str:
        return f"{self.devices[0].platform}: {self.devices[0].device_kind}"

    def finished(self) -> Iterator[Compiled | Trained]:
        """Yields every program and every chunk, in the order in which they finish.

        An interrupt is raised once what is in flight has come back; a second one does not wait.
        """
        idle = deque(self.devices)
        with noted(hold=True) as interrupts, pool_of(len(self.devices)) as pool:
            while self.in_flight or (not interrupts and (self.to_train or self.to_compile)):
                while idle and not interrupts and (self.to_train or self.to_compile):
                    task = (self.to_train or self.to_compile).popleft()
                    device = idle.popleft()
                    work = self.train if task.compiled else self.compile
                    self.in_flight[pool.submit(work, task, device)] = task, device
                ready = wait(self.in_flight, POLL_SECONDS, FIRST_COMPLETED).done
                for future in ready:
                    task, device = self.in_flight.pop(future)
                    idle.append(device)
                    yield from self.settle(task, future)
            if interrupts:
                raise interrupts[0]

    def compile(self, task: Task, device: jax.Device) -> Compiled:
        began, hits, misses = perf_counter(), cache.hits, cache.misses
        compile_batch(task.batch, task.lanes, device)
        cached = cache.hits > hits and cache.misses == misses
        name = describe(task.batch._replace(activation=-1) if on_cpu(device) else task.batch)
        return Compiled(name, perf_counter() - began, cached)

    def train(self, task: Task, device: jax.Device) -> Trained:
        began = perf_counter()
        members = task.members
        if self.left is not None:
            members = members[self.left(self.survey.identity[members])]
        elsewhere = task.members.size - members.size
        if not members.size:
            return Trained(None, task.lanes, 0, 0.0, elsewhere=elsewhere)
        runs = self.survey.take(members)
        trace = train_batch(task.batch, runs, task.lanes, device)
        run_steps = len(runs) * runs[0].training.steps
        part = results.recorded(runs, trace)
        seconds = perf_counter() - began
        return Trained(part, task.lanes, run_steps, seconds, elsewhere=elsewhere)

    def settle(self, task: Task, future: Future) -> Iterator[Compiled | Trained]:
        """Takes a thread's answer."""
        error = future.exception()
        if error is None:
            if not task.compiled:
                for ready in self.sharing(task):
                    self.to_train.extend(ready.chunks)
            if task.compiled or task.programs not in self.compiled:
                yield future.result()
            self.compiled.add(task.programs)
        elif out_of_memory(error) and task.lanes > 1:
            self.halve(task)
        elif self.fail_fast or not isinstance(error, Exception):
            raise error
        else:
            line = f"{describe(task.batch)}: {type(error).__name__}: {error}"
            text = "".join(traceback.format_exception(error))
            for lost in [task] if task.compiled else self.sharing(task):
                part = results.failed(self.survey.take(lost.members), text)
                yield Trained(part, lost.lanes, 0, 0.0, line if lost is task else "")

    def sharing(self, task: Task) -> list[Task]:
        """A task and those that waited for the same programs, which now wait no more."""
        same = [other for other in self.waiting if other.programs == task.programs]
        self.waiting = [other for other in self.waiting if other.programs != task.programs]
        return [task, *same]

    def halve(self, task: Task) -> None:
        """Puts a task and all that needs its programs back, to be tried with half the lanes."""
        same = [t for t in self.to_train if t.programs == task.programs]
        self.to_train = deque(t for t in self.to_train if t.programs != task.programs)
        same += [] if task.compiled else self.sharing(task)[1:]
        members: dict[Batch, list[np.ndarray]] = {}
        for t in (task, *same):
            members.setdefault(t.batch, []).append(t.members)
        most = max(sum(part.size for part in parts) for parts in members.values())
        lanes = max(1, min(task.lanes, most) // 2)
        first, *others = [
            Task(batch, lanes, np.concatenate(parts), task.blocks)
            for batch, parts in members.items()
        ]
        self.to_compile.appendleft(first)
        self.waiting += others


@contextmanager
def pool_of(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are waited for, unless something is raised."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def on_cpu(device: jax.Device) -> bool:
    return device.platform == "cpu"


def describe(batch: Batch) -> str:
    """A batch in a few words; one without an activation stands for its program on a CPU."""
    run, prepared = batch.program.run, batch.preparation.run
    activation = "all activations"
    if batch.activation >= 0:
        activation, _ = batch.program.activations[batch.activation]
    return (
        f"{activation}, {prepared.init.name}, {prepared.task.name}, "
        f"{run.optimizer.name}, depth {run.model.depth}, width {run.model.width}"
    )


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
