"""What a sweep would take, without training it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from fadeout.config import Run
from fadeout.sweeps.chunks import (
    WorkItem,
    bytes_per_run,
    deepest_group,
    memory_of_chunk,
    work_of_run,
)
from fadeout.sweeps.run_index import RunIndex, index_runs
from fadeout.sweeps.sweep import to_train
from fadeout.sweeps.training_queue import Queue
from fadeout.training.compile_groups import CompileGroup, compile_group, record_lengths
from fadeout.training.programs import compile_group_programs, train_group

LONG_ENOUGH = 0.5
"""Seconds to train for, beside which what comes with a block counts little."""


class Forecast(NamedTuple):
    """The expected cost of a sweep.

    Attributes:
      asked, stored: runs.
      programs: to compile, or to take from the cache.
      chunks: to train, each a file.
      memory, disk: bytes; memory is what the chunks in flight hold (`chunks.memory_of_chunk`).
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


def forecast(runs: Sequence[Run] | RunIndex, folder: str | Path) -> Forecast:
    """Foresees a sweep without training it.

    The calibration compiles the program with most work to do, and trains one block of lanes with it
    for a while. Work is counted as steps x layers x width x (width + examples), so that the times
    are right to within a factor of about two where widths are mixed.

    Raises:
      FadeoutError: as `sweep`.
    """
    index = runs if isinstance(runs, RunIndex) else index_runs(runs)
    missing, summary = to_train(Path(folder), index)
    if not missing.size:
        return Forecast(summary.asked, summary.stored, 0, 0, 0, 0, 0.0, 0.0)
    queue = Queue(index, missing, fail_fast=True)
    items = [*queue.to_compile, *queue.waiting]
    threads = len(queue.devices)
    chunks = [chunk.members for item in items for chunk in item.chunks]
    largest = max(map(memory_of_chunk, items))
    heaviest = max(items, key=lambda item: work_of_run(item.group) * item.members.size)
    compiled, seconds_per_work = _calibrate(queue, heaviest)
    blocks = sum(item.lanes * _work_of_blocks(index, item) for item in items)
    return Forecast(
        asked=summary.asked,
        stored=summary.stored,
        programs=len(queue.to_compile),
        chunks=len(chunks),
        memory=largest * min(threads, len(chunks)),
        disk=sum(chunk.size * bytes_per_run(deepest_group(index, chunk)) for chunk in chunks),
        compile_seconds=compiled * math.ceil(len(queue.to_compile) / threads),
        train_seconds=seconds_per_work * blocks / min(threads, len(chunks)),
    )


def _work_of_blocks(index: RunIndex, item: WorkItem) -> int:
    """The work of a lane in all blocks of an item, each of which takes as long as its deepest."""
    return sum(work_of_run(deepest_group(index, block)) for block in item.in_parts_of(item.lanes))


def _calibrate(queue: Queue, item: WorkItem) -> tuple[float, float]:
    """Seconds to compile a program, and seconds per work of training with it: of one block, which
    is trained for so long that what comes with a block counts little, where a number of steps
    compiles nothing."""
    runs = queue.index.take(item.members[-item.lanes :])
    training, device = runs[0].training, queue.devices[0]

    def brief(records: int) -> tuple[list[Run], CompileGroup]:
        steps = records * training.record_every
        own = [run.replace_unchecked(training=replace(training, steps=steps)) for run in runs]
        if record_lengths(training):  # traced: the sweep's own program, which it finds compiled
            shorter = replace(item.group.training, steps=steps)
            return own, item.group._replace(training=shorter)
        return own, compile_group(own[-1])

    def timed(own: list[Run], group: CompileGroup) -> float:
        began = perf_counter()
        train_group(group, own, item.lanes, device)
        return perf_counter() - began

    own, group = brief(1)
    began = perf_counter()
    compile_group_programs(group, item.lanes, device)
    compiled = perf_counter() - began
    timed(own, group)
    seconds = timed(own, group)
    records = min(math.ceil(LONG_ENOUGH / seconds), training.records - 1, group.program.records - 1)
    if records > 1:
        own, longer = brief(records)
        if longer.program == group.program:
            group, seconds = longer, timed(own, longer)
    return compiled, seconds / (item.lanes * max(work_of_run(group), 1))
