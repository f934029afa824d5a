"""Runs cut into chunks that fit a program, a thread and the memory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fadeout.networks.activations import name_of_layers
from fadeout.registry import FadeoutError
from fadeout.sweeps.run_index import RunIndex
from fadeout.training.compile_groups import CompileGroup

_CHUNK_BYTES = 16 * 2**20
_CHUNK_WORK = 10**9
_CHUNK_RUNS = 2**13
"""A chunk of several blocks of lanes records at most so many bytes, takes a few seconds, and has at
most so many runs, each some 3 kB of Python objects while it is trained and stored."""


class WorkItem(NamedTuple):
    """One thing for a thread to do: compile a program, or train one chunk with it.

    Attributes:
      group: that of the deepest; of a chunk, that of the deepest of the whole item.
      lanes: of the program.
      members: places of the runs, sorted by depth: a block of lanes takes as long as its deepest.
      blocks: of lanes, in one chunk.
    """

    group: CompileGroup
    lanes: int
    members: np.ndarray
    blocks: int
    compiled: bool = False

    @property
    def programs(self) -> tuple:
        """The keys of the programs that are compiled. Items with the same keys share them."""
        return self.group.program, self.group.init_key, self.lanes

    @property
    def chunks(self) -> list["WorkItem"]:
        """The chunks to train once the programs are compiled."""
        parts = self.in_parts_of(self.lanes * self.blocks)
        return [self._replace(members=part, compiled=True) for part in parts]

    def in_parts_of(self, size: int) -> list[np.ndarray]:
        """Its members, so many at a time."""
        return [self.members[start : start + size] for start in range(0, len(self.members), size)]


def split_runs(index: RunIndex, members: np.ndarray, threads: int) -> list[WorkItem]:
    """Splits the runs at `members` into work items of runs that can be trained side by side."""
    numbers = index.group[members]
    together: dict[tuple, list[int]] = {}
    for number in dict.fromkeys(numbers.tolist()):
        together.setdefault(index.groups[number].block_key, []).append(number)
    items = []
    for same in together.values():
        own = members[np.isin(numbers, same)]
        group = deepest_group(index, own)
        lanes = group.program.lanes
        blocks = min(
            _CHUNK_BYTES // (lanes * bytes_per_run(group)),
            _CHUNK_WORK // (lanes * max(work_of_run(group), 1)),
            _CHUNK_RUNS // lanes,
            members.size // (lanes * threads * 4),
        )
        items.append(work_item(index, own, lanes, max(1, blocks)))
    return items


def work_item(index: RunIndex, members: np.ndarray, lanes: int, blocks: int) -> WorkItem:
    """An item to compile for, of runs that can be trained side by side."""
    depths = np.array([group.depth for group in index.groups])[index.group[members]]
    members = members[np.argsort(depths, kind="stable")]
    return WorkItem(deepest_group(index, members), lanes, members, blocks)


def work_of_run(group: CompileGroup) -> int:
    """Returns the multiplications of one run, up to a constant."""
    width, examples = group.program.run.model.width, group.program.examples
    return group.training.steps * (group.depth + 1) * width * (width + examples)


def deepest_group(index: RunIndex, members: np.ndarray) -> CompileGroup:
    """Returns the group of the deepest of some runs, which decides a block's time and a file's
    size."""
    groups = {int(number) for number in index.group[members]}
    return max((index.groups[number] for number in groups), key=lambda group: group.depth)


def bytes_per_run(group: CompileGroup) -> int:
    """Returns the bytes that one run records, labels included."""
    size = 8 if group.program.run.training.dtype == "float64" else 4
    return group.program.recorded_numbers(group.training.records, group.depth) * size + 200


def memory_of_chunk(item: WorkItem) -> int:
    """Estimates the bytes of one chunk in flight."""
    program = item.group.program
    run, examples, features = program.run, program.examples, program.features
    depth, width = run.model.depth, run.model.width
    size = 8 if run.training.dtype == "float64" else 4
    parameters = (features + 1) * width + (depth - 1) * (width + 1) * width + width + 1
    numbers = examples * features + 4 * parameters + 5 * examples * width * depth
    block = size * (2 * numbers + program.recorded_numbers(program.records, depth))
    return item.lanes * (3 * item.blocks * bytes_per_run(item.group) + block)


def _memory_here() -> int:
    """Bytes of memory of this machine, or that its control group may use."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return whole


def check_memory(items: Sequence[WorkItem]) -> None:
    """Refuses what cannot fit, before any compute.

    Raises:
      FadeoutError: with what would make it smaller.
    """
    here = _memory_here()
    for item in items:
        needed = memory_of_chunk(item)
        if needed > here:
            raise FadeoutError(
                f"{describe_groups([item.group])} needs about {needed / 1e9:,.0f} GB, "
                f"more than the {here / 1e9:,.0f} GB of this machine: set a larger "
                "training.record_every, fewer probes, or a smaller task or network"
            )


def describe_groups(groups: Sequence[CompileGroup]) -> str:
    """Describes compile groups that differ only in depth, for messages."""
    first, depths = groups[0], sorted(group.depth for group in groups)
    numbers = first.activation if isinstance(first.activation, tuple) else (first.activation,)
    activation = name_of_layers([first.program.activations[n].name for n in numbers])
    several = f"depths {depths[0]} to {depths[-1]}" if len(depths) > 1 else f"depth {depths[0]}"
    return f"{activation}, {_program_words(first, several)}"


def describe_program(group: CompileGroup) -> str:
    """Describes what a program trains in a few words. It may serve many activations and depths."""
    run = group.program.run
    if len(group.program.activations) == 1:
        return describe_groups([group])
    return f"all activations, {_program_words(group, f'depths up to {run.model.depth}')}"


def _program_words(group: CompileGroup, depth: str) -> str:
    run, prepared = group.program.run, group.init_key.run
    names = prepared.init.name, prepared.task.name, run.optimizer.name
    return f"{', '.join(names)}, {depth}, width {run.model.width}"
