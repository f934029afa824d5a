"""Runs indexed, split into chunks and trained: programs compile while others train."""

import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

import jax
import numpy as np

from fadeout.sweeps import parts
from fadeout.sweeps.chunks import (
    WorkItem,
    check_memory,
    describe_groups,
    describe_program,
    split_runs,
    work_item,
)
from fadeout.sweeps.executors import core_count
from fadeout.sweeps.interrupts import raising_interrupts
from fadeout.sweeps.parts import Part
from fadeout.sweeps.run_index import RunIndex
from fadeout.training.compile_groups import slope_keys
from fadeout.training.program_cache import counting_compiles
from fadeout.training.programs import compile_group_programs, compile_slope, train_group

_POLL_SECONDS = 0.2
"""Seconds between two looks for an interrupt while nothing finishes."""


class CompiledProgram(NamedTuple):
    """A program that is ready.

    Attributes:
      cached: whether it came from the folder of compiled programs.
      refused: why what lay there could not be used, and was compiled again and replaced.
    """

    program: str
    seconds: float
    cached: bool
    refused: tuple[str, ...] = ()


class FinishedChunk(NamedTuple):
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
      index: of all runs.
      members: the places of those to train.
      fail_fast: raise at the first failure.
      threads: on a CPU, how many; all cores where None.
      left: of identities, which are still to train, [run]: asked before each chunk.
      backwards: from the last to the first, to meet another process in the middle.
    """

    def __init__(
        self,
        index: RunIndex,
        members: np.ndarray,
        fail_fast: bool,
        threads: int | None = None,
        left: Callable[[np.ndarray], np.ndarray] | None = None,
        backwards: bool = False,
    ):
        self.index = index
        self.fail_fast = fail_fast
        self.left = left
        devices = jax.local_devices()
        count = threads or core_count()
        self.devices = [devices[0]] * count if _on_cpu(devices[0]) else devices
        items = split_runs(index, members, len(self.devices))
        if backwards:
            items = [item._replace(members=item.members[::-1]) for item in items[::-1]]
        check_memory(items)
        first = {item.programs: item for item in reversed(items)}
        self.to_compile = deque(item for item in items if item is first[item.programs])
        self.waiting = [item for item in items if item is not first[item.programs]]
        self.to_train: deque[WorkItem] = deque()
        self.in_flight: dict[Future, tuple[WorkItem, jax.Device]] = {}
        self.compiled: set[tuple] = set()

    @property
    def device(self) -> str:
        return f"{self.devices[0].platform}: {self.devices[0].device_kind}"

    @property
    def compiling(self) -> list[str]:
        """The programs that are compiled just now."""
        in_flight = (item for item, _ in self.in_flight.values() if not item.compiled)
        return [describe_program(item.group) for item in in_flight]

    def finished(self) -> Iterator[CompiledProgram | FinishedChunk | None]:
        """Yields every program and every chunk, in the order in which they finish, and None while
        nothing does.

        An interrupt is raised once what is in flight has come back; a second one does not wait.
        """
        idle = deque(self.devices)
        with raising_interrupts(hold=True) as interrupts, _pool_of(len(self.devices)) as pool:
            while self.in_flight or (not interrupts and (self.to_train or self.to_compile)):
                while idle and not interrupts and (self.to_train or self.to_compile):
                    item = (self.to_train or self.to_compile).popleft()
                    device = idle.popleft()
                    work = self.train if item.compiled else self.compile
                    self.in_flight[pool.submit(work, item, device)] = item, device
                ready = wait(self.in_flight, _POLL_SECONDS, FIRST_COMPLETED).done
                if not ready:
                    yield None
                for future in ready:
                    item, device = self.in_flight.pop(future)
                    idle.append(device)
                    yield from self._settle(item, future)
            if interrupts:
                raise interrupts[0]

    def compile(self, item: WorkItem, device: jax.Device) -> CompiledProgram:
        began = perf_counter()
        with counting_compiles() as tally:
            compile_group_programs(item.group, item.lanes, device)
            for other in self.waiting:  # what else they need is of an activation
                if other.programs == item.programs:
                    for of in slope_keys(other.group).values():
                        compile_slope(of)
        cached = bool(tally.found) and all(tally.found)
        name = describe_program(item.group)
        return CompiledProgram(name, perf_counter() - began, cached, tuple(tally.refused))

    def train(self, item: WorkItem, device: jax.Device) -> FinishedChunk:
        began = perf_counter()
        members = item.members
        if self.left is not None:
            members = members[self.left(self.index.identity[members])]
        elsewhere = item.members.size - members.size
        if not members.size:
            return FinishedChunk(None, item.lanes, 0, 0.0, elsewhere=elsewhere)
        runs = self.index.take(members)
        traces = train_group(item.group, runs, item.lanes, device)
        run_steps = len(runs) * item.group.training.steps
        part = parts.trained_part(runs, traces)
        seconds = perf_counter() - began
        return FinishedChunk(part, item.lanes, run_steps, seconds, elsewhere=elsewhere)

    def _settle(self, item: WorkItem, future: Future) -> Iterator[CompiledProgram | FinishedChunk]:
        """Takes a thread's answer."""
        error = future.exception()
        if error is None:
            if not item.compiled:
                for ready in self._sharing(item):
                    self.to_train.extend(ready.chunks)
            if item.compiled or item.programs not in self.compiled:
                yield future.result()
            self.compiled.add(item.programs)
        elif _out_of_memory(error) and item.lanes > 1:
            self._halve(item)
        elif self.fail_fast or not isinstance(error, Exception):
            raise error
        else:
            numbers = set(self.index.group[item.members].tolist())
            what = describe_groups([self.index.groups[number] for number in numbers])
            line = f"{what}: {type(error).__name__}: {error}"
            text = "".join(traceback.format_exception(error))
            for lost in [item] if item.compiled else self._sharing(item):
                part = parts.failed_part(self.index.take(lost.members), text)
                yield FinishedChunk(part, lost.lanes, 0, 0.0, line if lost is item else "")

    def _sharing(self, item: WorkItem) -> list[WorkItem]:
        """An item and those that waited for the same programs, which now wait no more."""
        same = [other for other in self.waiting if other.programs == item.programs]
        self.waiting = [other for other in self.waiting if other.programs != item.programs]
        return [item, *same]

    def _halve(self, item: WorkItem) -> None:
        """Puts an item and all that needs its programs back, to be tried with half the lanes."""
        same = [t for t in self.to_train if t.programs == item.programs]
        self.to_train = deque(t for t in self.to_train if t.programs != item.programs)
        same += [] if item.compiled else self._sharing(item)[1:]
        together: dict[tuple, list[WorkItem]] = {}
        for t in (item, *same):
            together.setdefault(t.group.block_key, []).append(t)
        most = max(sum(t.members.size for t in parts) for parts in together.values())
        lanes = max(1, min(item.lanes, most) // 2)
        first, *others = [
            work_item(self.index, np.concatenate([t.members for t in parts]), lanes, item.blocks)
            for parts in together.values()
        ]
        self.to_compile.appendleft(first)
        self.waiting += others


@contextmanager
def _pool_of(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are waited for, unless something is raised."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _on_cpu(device: jax.Device) -> bool:
    return device.platform == "cpu"
