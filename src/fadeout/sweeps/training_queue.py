"""Runs surveyed, cut into chunks and trained: programs compile while others train."""

import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

import jax
import numpy as np

from fadeout.sweeps import results
from fadeout.sweeps.chunks import Assignment, check_memory, cut, describe, describe_program
from fadeout.sweeps.interrupts import noted
from fadeout.sweeps.results import Part
from fadeout.sweeps.survey import Survey
from fadeout.training.compiled import kept
from fadeout.training.programs import Batch, compile_batch, train_batch

POLL_SECONDS = 0.2
"""How often an interrupt is looked for while nothing finishes."""


class Compiled(NamedTuple):
    """A program that is ready.

    Attributes:
      cached: whether it came from the folder of compiled programs.
      refused: why what lay there could not be used, and was compiled again and replaced.
    """

    program: str
    seconds: float
    cached: bool
    refused: tuple[str, ...] = ()


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
        self.to_train: deque[Assignment] = deque()
        self.in_flight: dict[Future, tuple[Assignment, jax.Device]] = {}
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

    def compile(self, task: Assignment, device: jax.Device) -> Compiled:
        began, hits, misses, refused = perf_counter(), kept.hits, kept.misses, len(kept.refused)
        compile_batch(task.batch, task.lanes, device)
        cached = kept.hits > hits and kept.misses == misses
        name = describe_program(task.batch)
        reasons = tuple(kept.refused[refused:])
        return Compiled(name, perf_counter() - began, cached, reasons)

    def train(self, task: Assignment, device: jax.Device) -> Trained:
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

    def settle(self, task: Assignment, future: Future) -> Iterator[Compiled | Trained]:
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

    def sharing(self, task: Assignment) -> list[Assignment]:
        """A task and those that waited for the same programs, which now wait no more."""
        same = [other for other in self.waiting if other.programs == task.programs]
        self.waiting = [other for other in self.waiting if other.programs != task.programs]
        return [task, *same]

    def halve(self, task: Assignment) -> None:
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
            Assignment(batch, lanes, np.concatenate(parts), task.blocks)
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


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
