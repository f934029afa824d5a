"""Runs surveyed, cut into chunks and trained: programs compile while others train."""

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
from fadeout.sweeps.results import Part
from fadeout.sweeps.run_index import RunIndex
from fadeout.training.compile_groups import slope_key
from fadeout.training.program_cache import counting_compiles
from fadeout.training.programs import compile_group_programs, compile_slope, train_group

_POLL_SECONDS = 0.2
"""How often an interrupt is looked for while nothing finishes."""


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
      survey: of all runs.
      members: the places of those to train.
      fail_fast: raise at the first failure.
      threads: on a CPU, how many; all cores where None.
      left: of identities, which are still to train, [run]: asked before each chunk.
      backwards: from the last to the first, to meet another process in the middle.
    """

    def __init__(
        self,
        survey: RunIndex,
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
        self.devices = [devices[0]] * count if _on_cpu(devices[0]) else devices
        pieces = split_runs(survey, members, len(self.devices))
        if backwards:
            pieces = [piece._replace(members=piece.members[::-1]) for piece in pieces[::-1]]
        check_memory(pieces)
        first = {piece.programs: piece for piece in reversed(pieces)}
        self.to_compile = deque(piece for piece in pieces if piece is first[piece.programs])
        self.waiting = [piece for piece in pieces if piece is not first[piece.programs]]
        self.to_train: deque[WorkItem] = deque()
        self.in_flight: dict[Future, tuple[WorkItem, jax.Device]] = {}
        self.compiled: set[tuple] = set()

    @property
    def device(self) -> str:
        return f"{self.devices[0].platform}: {self.devices[0].device_kind}"

    def finished(self) -> Iterator[CompiledProgram | FinishedChunk]:
        """Yields every program and every chunk, in the order in which they finish.

        An interrupt is raised once what is in flight has come back; a second one does not wait.
        """
        idle = deque(self.devices)
        with raising_interrupts(hold=True) as interrupts, _pool_of(len(self.devices)) as pool:
            while self.in_flight or (not interrupts and (self.to_train or self.to_compile)):
                while idle and not interrupts and (self.to_train or self.to_compile):
                    piece = (self.to_train or self.to_compile).popleft()
                    device = idle.popleft()
                    work = self.train if piece.compiled else self.compile
                    self.in_flight[pool.submit(work, piece, device)] = piece, device
                ready = wait(self.in_flight, _POLL_SECONDS, FIRST_COMPLETED).done
                for future in ready:
                    piece, device = self.in_flight.pop(future)
                    idle.append(device)
                    yield from self.settle(piece, future)
            if interrupts:
                raise interrupts[0]

    def compile(self, piece: WorkItem, device: jax.Device) -> CompiledProgram:
        began = perf_counter()
        with counting_compiles() as tally:
            compile_group_programs(piece.batch, piece.lanes, device)
            for other in self.waiting:  # what else they need is of an activation
                if other.programs == piece.programs:
                    compile_slope(slope_key(other.batch))
        cached = bool(tally.found) and all(tally.found)
        name = describe_program(piece.batch)
        return CompiledProgram(name, perf_counter() - began, cached, tuple(tally.refused))

    def train(self, piece: WorkItem, device: jax.Device) -> FinishedChunk:
        began = perf_counter()
        members = piece.members
        if self.left is not None:
            members = members[self.left(self.survey.identity[members])]
        elsewhere = piece.members.size - members.size
        if not members.size:
            return FinishedChunk(None, piece.lanes, 0, 0.0, elsewhere=elsewhere)
        runs = self.survey.take(members)
        traces = train_group(piece.batch, runs, piece.lanes, device)
        run_steps = len(runs) * piece.batch.training.steps
        part = results.trained_part(runs, traces)
        seconds = perf_counter() - began
        return FinishedChunk(part, piece.lanes, run_steps, seconds, elsewhere=elsewhere)

    def settle(self, piece: WorkItem, future: Future) -> Iterator[CompiledProgram | FinishedChunk]:
        """Takes a thread's answer."""
        error = future.exception()
        if error is None:
            if not piece.compiled:
                for ready in self.sharing(piece):
                    self.to_train.extend(ready.chunks)
            if piece.compiled or piece.programs not in self.compiled:
                yield future.result()
            self.compiled.add(piece.programs)
        elif _out_of_memory(error) and piece.lanes > 1:
            self.halve(piece)
        elif self.fail_fast or not isinstance(error, Exception):
            raise error
        else:
            numbers = set(self.survey.batch[piece.members].tolist())
            what = describe_groups([self.survey.batches[number] for number in numbers])
            line = f"{what}: {type(error).__name__}: {error}"
            text = "".join(traceback.format_exception(error))
            for lost in [piece] if piece.compiled else self.sharing(piece):
                part = results.failed_part(self.survey.take(lost.members), text)
                yield FinishedChunk(part, lost.lanes, 0, 0.0, line if lost is piece else "")

    def sharing(self, piece: WorkItem) -> list[WorkItem]:
        """A piece and those that waited for the same programs, which now wait no more."""
        same = [other for other in self.waiting if other.programs == piece.programs]
        self.waiting = [other for other in self.waiting if other.programs != piece.programs]
        return [piece, *same]

    def halve(self, piece: WorkItem) -> None:
        """Puts a piece and all that needs its programs back, to be tried with half the lanes."""
        same = [t for t in self.to_train if t.programs == piece.programs]
        self.to_train = deque(t for t in self.to_train if t.programs != piece.programs)
        same += [] if piece.compiled else self.sharing(piece)[1:]
        together: dict[tuple, list[WorkItem]] = {}
        for t in (piece, *same):
            together.setdefault(t.batch.block, []).append(t)
        most = max(sum(t.members.size for t in parts) for parts in together.values())
        lanes = max(1, min(piece.lanes, most) // 2)
        first, *others = [
            work_item(self.survey, np.concatenate([t.members for t in parts]), lanes, piece.blocks)
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
