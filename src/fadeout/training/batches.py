"""What runs must share to be trained side by side, and what each brings besides.

Runs that differ in floats and seeds, and on a CPU in depth, activation and steps, share their
programs: a run's own follow from it alone, never from what else a sweep holds.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from fadeout.config import MOST_STEPS, Activation, Init, Run, Task, Training
from fadeout.networks.activations import ACTIVATIONS
from fadeout.networks.initializers import FROM_DATA
from fadeout.networks.jaxprs import remembering
from fadeout.networks.settings import standard
from fadeout.registry import FadeoutError, is_own, parameters
from fadeout.schema import static_options
from fadeout.training.digests import function_digest
from fadeout.training.fit import Choice, Program
from fadeout.training.preparing import draw_keys, places, prepare_lanes
from fadeout.training.resolve import resolve


def precision(run: Run):
    """A context in which the run's dtype exists and is the default."""
    return standard(run.training.dtype == "float64")


class Preparation(NamedTuple):
    """What decides the small program that draws examples and parameters; hashable.

    Attributes:
      run: with all else erased; its `sources` are of the task, the initialiser and, where that
        looks at the examples, the activation.
    """

    run: Run


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
    """What decides the small program that finds the steepest slope of an activation; hashable."""

    activation: Choice
    surrogate: str
    dtype: str

    @property
    def floats(self) -> tuple[str, ...]:
        """The names of its traced parameters."""
        known = parameters(self.activation.function).items()
        return tuple(name for name, p in known if p.kind is float)


def steepness_of(batch: Batch) -> Steepness:
    run = batch.program.run
    chosen = batch.program.activations[batch.activation]
    return Steepness(chosen, run.activation.surrogate, run.training.dtype)


def batch_of(run: Run) -> Batch:
    """The batch that a run belongs to.

    Raises:
      FadeoutError: the run cannot be trained; nothing has been computed.
    """
    return batch_of_resolved(resolve(run))


def batch_of_resolved(run: Run) -> Batch:
    """`batch_of` a run whose defaults are written out."""
    with remembering():
        return batch_of_erased(run.erased().having(sources=run.sources), choices(run))


def choices(run: Run) -> tuple[Choice, ...]:
    """All activations with the options that decide a program: a run's own, of others the usual. Of
    a user's others those that cannot be traced now are left out."""
    found = []
    for name, function in ACTIVATIONS.items():
        own = name == run.activation.name
        options = dict(run.activation.options if own else usual(function))
        static = static_options(options)
        digest = ""
        if not is_own(function):
            try:
                digest = function_digest(run, "activation", name, options)
            except FadeoutError:
                if own:
                    raise
                continue
        found.append(Choice(name, static, digest, function))
    return tuple(found)


def usual(function: Callable) -> tuple[tuple[str, object], ...]:
    """The defaults of an entry, without those that are left open."""
    known = parameters(function).items()
    return tuple((key, p.default) for key, p in known if p.default is not None)


EVERY = "every"
"""The activation of a program that takes it as a number."""


@functools.lru_cache(maxsize=65536)
def batch_of_erased(run: Run, activations: tuple[Choice, ...]) -> Batch:
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
    ).erased()  # fmt: skip
    kinds = ("task ", "init ", "activation ") if seen is run.activation else ("task ", "init ")
    preparation = Preparation(prepared.having(sources=sources_among(run, kinds)))
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
    activation, names = run.activation, [choice.name for choice in activations]
    if cpu:
        taken = {
            key
            for choice in activations
            for key, p in parameters(choice.function).items()
            if p.kind is float
        }
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
        )
        .erased()
        .having(sources=sources_among(run, ("optimizer ", "probe "))),
        examples=count,
        outputs=outputs,
        features=features,
        activations=tuple(choice for choice in activations if choice.name in names),
    )
    place = names.index(run.activation.name)
    return Batch(program, preparation, place, kept, depth)


def sources_among(run: Run, kinds: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(source for source in run.sources if source.startswith(kinds))


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
