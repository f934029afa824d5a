"""What runs must share to be trained side by side, and what each brings besides.

Runs that differ in floats and seeds, and on a CPU in depth, activation and steps, share their
programs: a run's own follow from it alone, never from what else a sweep holds.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from fadeout.config import MOST_DEPTH, MOST_STEPS, Activation, Init, Run, Task, Training
from fadeout.extensions import source
from fadeout.networks.activations import ACTIVATIONS, SURROGATES, bound
from fadeout.networks.initializers import FROM_DATA, INITIALIZERS
from fadeout.networks.losses import get_loss
from fadeout.networks.optimizers import OPTIMIZERS
from fadeout.networks.probes import get_probe
from fadeout.networks.tasks import TASKS
from fadeout.registry import FadeoutError, function_in, is_own, parameters
from fadeout.schema import static_options
from fadeout.training.fit import Program
from fadeout.training.preparing import draw_keys, prepare_lanes
from fadeout.training.resolve import resolve


def precision(run: Run):
    """A context in which the run's dtype exists and is the default."""
    return jax.enable_x64(run.training.dtype == "float64")


class Preparation(NamedTuple):
    """What decides the small program that draws examples and parameters; hashable.

    Attributes:
      run: with all else erased.
      functions: that it calls by name, so that another function of a name is another program.
    """

    run: Run
    functions: tuple


class Batch(NamedTuple):
    """What runs share whose results are of one shape; hashable.

    Attributes:
      program: trains them.
      preparation: draws their examples and parameters.
      activation: its place among the program's.
      training: with its traced values erased.
      depth: of the networks.
    """

    program: Program
    preparation: Preparation
    activation: int
    training: Training
    depth: int

    @property
    def block(self) -> tuple:
        """What those share that are trained side by side: all but the depth, unless that is of the
        program."""
        return self[:-1]


class Steepness(NamedTuple):
    """What decides the small program that finds the steepest slope of an activation; hashable.

    Attributes:
      floats: the names of its traced parameters.
      functions: that it calls by name, besides the function.
    """

    function: Callable
    floats: tuple[str, ...]
    surrogate: str
    dtype: str
    functions: tuple


def steepness_of(batch: Batch) -> Steepness:
    program = batch.program
    _, function = program.activations[batch.activation]
    floats = tuple(name for name, p in parameters(function).items() if p.kind is float)
    run = program.run
    stand_in = SURROGATES[run.activation.surrogate]
    functions = stand_in, *made_of((getattr(function, "func", function), stand_in))
    return Steepness(function, floats, run.activation.surrogate, run.training.dtype, functions)


def batch_of(run: Run) -> Batch:
    """The batch that a run belongs to.

    Raises:
      FadeoutError: the run cannot be trained; nothing has been computed.
    """
    return batch_of_resolved(resolve(run))


def batch_of_resolved(run: Run) -> Batch:
    """`batch_of` a run whose defaults are written out."""
    own = run.activation.name, static_options(run.activation)
    return batch_of_erased(
        run.erased(), choices(tuple(ACTIVATIONS.items()), *own), functions_of(run)
    )


@functools.lru_cache(maxsize=4096)
def choices(
    table: tuple[tuple[str, Callable], ...], name: str, static: tuple[tuple[str, object], ...]
) -> tuple[tuple[str, Callable], ...]:
    """All activations with the options that decide a program: a run's own, of others the usual."""

    def usual(function: Callable) -> tuple[tuple[str, object], ...]:
        known = parameters(function).items()
        return tuple(sorted((key, p.default) for key, p in known if p.kind is not float))

    return tuple((n, bound(f, static if n == name else usual(f))) for n, f in table)


def functions_of(run: Run) -> tuple[tuple, tuple]:
    """What a run's names stand for now: what its preparation calls, and what its program calls
    besides the activations."""
    activation = ACTIVATIONS[run.activation.name] if run.init.name in FROM_DATA else None
    drawn_by = INITIALIZERS[run.init.name], TASKS[run.task.name], activation
    prepares = (*drawn_by, *made_of(drawn_by))
    trains: tuple = (
        SURROGATES[run.activation.surrogate], OPTIMIZERS[run.optimizer.name],
        get_loss(run.training.loss_function), *map(get_probe, run.probes),
    )  # fmt: skip
    return prepares, (*trains, *made_of((*trains, *ACTIVATIONS.values())))


@functools.lru_cache(maxsize=1024)
def brought(functions: tuple) -> tuple[Callable, ...]:
    """Those of some functions, probes and losses that are a user's own."""
    found = (function_in(entry) for entry in functions if entry is not None)
    return tuple(f for f in found if callable(f) and not is_own(f))


def made_of(functions: tuple) -> tuple[str, ...]:
    """What those of a user's own are made of now, which may change while they stay the same."""
    return tuple(source(function) for function in brought(functions))


EVERY = "every"
"""The activation of a program that takes it as a number."""


@functools.lru_cache(maxsize=65536)
def batch_of_erased(
    run: Run, activations: tuple[tuple[str, Callable], ...], functions: tuple[tuple, tuple]
) -> Batch:
    prepares, trains = functions
    kept = run.training
    training = dataclasses.replace(Training(), dtype=kept.dtype, held_out=kept.held_out)
    seen = run.activation if run.init.name in FROM_DATA else Activation()
    depth, cpu = run.model.depth, jax.default_backend() == "cpu"
    if cpu:
        run = dataclasses.replace(run, model=dataclasses.replace(run.model, depth=places(depth)))
        if run.optimizer.schedule == "constant":
            room = records_for(kept.records)
            numbers = dataclasses.replace(kept, steps=room - 1, record_every=1)
            run = dataclasses.replace(run, training=numbers)
    prepared = Run(
        seen, run.init, run.task, run.model, training=training,
        sources=tuple(s for s in run.sources if s.startswith(("task ", "init "))),
    ).erased()  # fmt: skip
    preparation = Preparation(prepared, prepares)
    count, features, outputs = sizes_of(preparation)
    size = run.training.batch_size
    if run.model.normalization == "batch" and 1 in (count, size, run.training.held_out):
        raise FadeoutError(
            "batch normalisation of one example gives 0, whatever comes in: take more examples, or "
            "model.normalization=layer"
        )
    if size is not None and size > count:
        raise FadeoutError(
            f"training.batch_size={size} is more than the {count} examples there are"
        )
    activation, names = run.activation, [name for name, _ in activations]
    if cpu:
        taken = {key for _, f in activations for key, p in parameters(f).items() if p.kind is float}
        activation = Activation(EVERY, activation.surrogate, **dict.fromkeys(taken, 0.0))
    else:
        names = [activation.name]
    program = Program(
        dataclasses.replace(
            run,
            init=Init(),
            task=Task(targets=run.task.targets),
            activation=activation,
            keep=run.keep,
            sources=(),
        ).erased(),
        examples=count,
        outputs=outputs,
        features=features,
        activations=tuple(pair for pair in activations if pair[0] in names),
        functions=trains,
    )
    place = names.index(run.activation.name)
    return Batch(program, preparation, place, kept, depth)


@functools.lru_cache(maxsize=4096)
def sizes_of(preparation: Preparation) -> tuple[int, int, int]:
    """How many examples to train on, features and outputs it prepares.

    Raises:
      FadeoutError: it cannot.
    """
    run = preparation.run
    with precision(run):
        values = prepare_values(run, [run])
        examples, model = jax.eval_shape(functools.partial(prepare_lanes, run), values)
    return *examples.inputs.shape[:2], model.readout.kernel.shape[1]


def places(depth: int) -> int:
    """How many hidden layers a program has room for that trains networks of this depth: a power of
    4, so that all depths from 1 to 64 need three programs, and a run's follows from its own.

    >>> [places(depth) for depth in (1, 4, 5, 64, 65)]
    [4, 4, 16, 64, 256]
    """
    return min(next(4**n for n in itertools.count(1) if 4**n >= depth), MOST_DEPTH)


def records_for(records: int) -> int:
    """For how many records a program has room that makes so many: at least 128, and at most a
    quarter more than are made.

    >>> [records_for(records) for records in (2, 101, 129, 201, 1001)]
    [128, 128, 160, 224, 1024]
    """
    unit = 32 * 2 ** max(0, (records - 1).bit_length() - 8)
    return min(max(128, -(-records // unit) * unit), MOST_STEPS + 1)


def prepare_values(like: Run, runs: Sequence[Run]) -> dict:
    """What the preparation `like` this takes of each run: {section: {key: [run]}}, the keys of
    its draws and its depth."""
    values = {name: stack(runs, name, like) for name in ("activation", "init", "task")}
    return values | {"keys": draw_keys(seeds(runs), like.model.depth)} | depths(runs)


def train_values(like: Run, runs: Sequence[Run]) -> dict:
    """What the training program `like` this takes of each run, [run]."""
    values = {name: stack(runs, name, like) for name in FITTED}
    return values | {"seed": seeds(runs)} | depths(runs)


FITTED = ("activation", "optimizer", "training", "model")
"""The sections whose floats a program takes."""


def seeds(runs: Sequence[Run]) -> np.ndarray:
    return np.array([run.seed for run in runs], np.uint32)


def depths(runs: Sequence[Run]) -> dict:
    """The depths as numbers, on a CPU. An accelerator must know how long a loop is, or it waits for
    its host at every layer."""
    if jax.default_backend() != "cpu":
        return {}
    return {"depth": np.array([run.model.depth for run in runs], np.int32)}


def lengths(training: Training) -> dict:
    """The number of records and the steps between them, likewise."""
    if jax.default_backend() != "cpu":
        return {}
    return {"records": np.int32(training.records), "every": np.int32(training.record_every)}


def stack(runs: Sequence[Run], name: str, like: Run) -> dict[str, np.ndarray]:
    """The traced values of one section of the runs, each [run]; 0 for what a run lacks."""
    dtype = like.training.dtype
    rows = [getattr(run, name).traced for run in runs]
    return {
        key: np.array([row.get(key, 0.0) for row in rows], dtype)
        for key in getattr(like, name).traced
    }
