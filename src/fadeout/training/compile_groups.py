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
from fadeout.networks.activations import ACTIVATIONS, is_by_layer, layers_of_name
from fadeout.networks.initializers import FROM_DATA
from fadeout.networks.jaxprs import memoizing
from fadeout.networks.optimizers import OPTIMIZERS
from fadeout.networks.parametrization import check_initializer, step_exponent
from fadeout.networks.settings import standard_settings
from fadeout.registry import FadeoutError, is_builtin, parameters
from fadeout.schema import static_options
from fadeout.training.digests import function_digest
from fadeout.training.fit import ActivationBranch, ProgramKey
from fadeout.training.initialization import depth_bucket, initialize_lanes, run_keys
from fadeout.training.resolve import resolve


def precision_of(run: Run):
    """Returns a context in which the run's dtype exists and is the default."""
    return standard_settings(run.training.dtype == "float64")


class InitKey(NamedTuple):
    """The key of the small program that draws examples and parameters.

    Attributes:
      run: with all else erased; its `sources` are of the task, the initialiser and, where that
        looks at the examples, the activation.
    """

    run: Run


class CompileGroup(NamedTuple):
    """The key of runs that one program trains and whose results have one shape.

    Attributes:
      program: trains them.
      init_key: draws their examples and parameters.
      activation: its place among the program's; of an activation for each layer, theirs.
      training: with its traced values erased.
      depth: of the networks.
    """

    program: ProgramKey
    init_key: InitKey
    activation: int | tuple[int, ...]
    training: Training
    depth: int

    @property
    def block_key(self) -> tuple:
        """The part of the key that runs in one block share: all of it, except a traced depth."""
        return self[:-1]


class SlopeKey(NamedTuple):
    """The key of the small program that finds an activation's steepest slope."""

    activation: ActivationBranch
    surrogate: str
    dtype: str

    @property
    def floats(self) -> tuple[str, ...]:
        """The names of the activation's traced parameters."""
        known = parameters(self.activation.function).items()
        return tuple(name for name, p in known if p.kind is float)


def slope_keys(group: CompileGroup) -> dict[int, SlopeKey]:
    """The keys for all activations of a group's networks, by their numbers."""
    run, numbers = group.program.run, np.ravel(group.activation).tolist()
    return {
        number: SlopeKey(
            group.program.activations[number], run.activation.surrogate, run.training.dtype
        )
        for number in dict.fromkeys(numbers)
    }


def compile_group(run: Run) -> CompileGroup:
    """Returns the compile group of a run.

    Raises:
      FadeoutError: the run cannot be trained; nothing has been computed.
    """
    return compile_group_of_resolved(resolve(run))


def compile_group_of_resolved(run: Run) -> CompileGroup:
    """Like `compile_group`, of a run that `resolve` has already processed."""
    with memoizing():
        return _compile_group_of_static(
            run.static_part().replace_unchecked(sources=run.sources), _activation_branches(run)
        )


def _activation_branches(run: Run) -> tuple[ActivationBranch, ...]:
    """All activations with the options that decide a program: a run's own, of others the usual. Of
    a user's others those that cannot be traced now are left out."""
    found = []
    for name, function in ACTIVATIONS.items():
        own = name == run.activation.name
        options = dict(run.activation.options if own else _default_options(function))
        static = static_options(options)
        digest = ""
        if not is_builtin(function):
            try:
                digest = function_digest(run, "activation", name, options)
            except FadeoutError:
                if own:
                    raise
                continue
        found.append(ActivationBranch(name, static, digest, function))
    return tuple(found)


def _default_options(function: Callable) -> tuple[tuple[str, object], ...]:
    """Returns the defaults of an entry, without those that are None."""
    known = parameters(function).items()
    return tuple((key, p.default) for key, p in known if p.default is not None)


_EVERY = "every"
"""The activation of a program that takes it as a number."""
_EVERY_BY_LAYER = "every-by-layer"
"""Of one that takes a number for each layer."""


@functools.lru_cache(maxsize=65536)
def _compile_group_of_static(run: Run, activations: tuple[ActivationBranch, ...]) -> CompileGroup:
    kept = run.training
    training = dataclasses.replace(Training(), dtype=kept.dtype, held_out=kept.held_out)
    seen = run.activation if run.init.name in FROM_DATA else Activation()
    depth, cpu = run.model.depth, jax.default_backend() == "cpu"
    if cpu:
        run = dataclasses.replace(
            run, model=dataclasses.replace(run.model, depth=depth_bucket(depth))
        )
        if run.optimizer.schedule == "constant":
            room = _records_for(kept.records)
            numbers = dataclasses.replace(kept, steps=room - 1, record_every=1)
            run = dataclasses.replace(run, training=numbers)
    prepared = Run(
        seen, run.init, run.task, run.model, training=training,
    ).static_part()  # fmt: skip
    kinds = ("task ", "init ", "activation ") if seen is run.activation else ("task ", "init ")
    init_key = InitKey(prepared.replace_unchecked(sources=_sources_among(run, kinds)))
    count, features, outputs = _sizes_of(init_key)
    size = run.training.batch_size
    if run.model.parametrization != "standard":
        step_exponent(OPTIMIZERS[run.optimizer.name])  # refuses an optimiser of neither kind
        check_initializer(run.model.parametrization, run.init.name, dict(run.init.options))
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
    by_layer = is_by_layer(activation.name)
    own = layers_of_name(activation.name) if by_layer else [activation.name]
    if cpu:
        taken = {
            key
            for choice in activations
            for key, p in parameters(choice.function).items()
            if p.kind is float
        }
        every = _EVERY_BY_LAYER if by_layer else _EVERY
        activation = Activation(every, activation.surrogate, **dict.fromkeys(taken, 0.0))
    else:
        names = [name for name in names if name in own]
    program = ProgramKey(
        dataclasses.replace(
            run,
            init=Init(),
            task=Task(targets=run.task.targets),
            activation=activation,
            keep=run.keep,
        )
        .static_part()
        .replace_unchecked(sources=_sources_among(run, ("optimizer ", "probe "))),
        examples=count,
        outputs=outputs,
        features=features,
        activations=tuple(choice for choice in activations if choice.name in names),
    )
    places = tuple(map(names.index, own))
    return CompileGroup(program, init_key, places if by_layer else places[0], kept, depth)


def _sources_among(run: Run, kinds: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(source for source in run.sources if source.startswith(kinds))


@functools.lru_cache(maxsize=4096)
def _sizes_of(init_key: InitKey) -> tuple[int, int, int]:
    """Returns the number of examples to train on, features and outputs.

    Raises:
      FadeoutError: it cannot.
    """
    run = init_key.run
    with precision_of(run):
        values = init_values(run, [run])
        examples, model = jax.eval_shape(functools.partial(initialize_lanes, run), values)
    return *examples.inputs.shape[:2], model.readout.kernel.shape[1]


def _records_for(records: int) -> int:
    """Returns the room for records in a program: at least 128, and at most a quarter more than
    needed.

    >>> [_records_for(records) for records in (2, 101, 129, 201, 1001)]
    [128, 128, 160, 224, 1024]
    """
    unit = 32 * 2 ** max(0, (records - 1).bit_length() - 8)
    return min(max(128, -(-records // unit) * unit), MOST_STEPS + 1)


def init_values(like: Run, runs: Sequence[Run]) -> dict:
    """Stacks the traced values that an initialisation program takes: {section: {key: [run]}}, the
    keys of the draws and the depth."""
    values = {name: _stack_values(runs, name, like) for name in ("activation", "init", "task")}
    return values | {"keys": run_keys(_stack_seeds(runs), like.model.depth)} | _stack_depths(runs)


def train_values(like: Run, runs: Sequence[Run]) -> dict:
    """Stacks the traced values that a training program takes, [run]."""
    values = {name: _stack_values(runs, name, like) for name in _FITTED}
    return values | {"seed": _stack_seeds(runs)} | _stack_depths(runs)


_FITTED = ("activation", "optimizer", "training", "model")
"""The sections whose floats a program takes."""


def _stack_seeds(runs: Sequence[Run]) -> np.ndarray:
    return np.array([run.seed for run in runs], np.uint32)


def _stack_depths(runs: Sequence[Run]) -> dict:
    """The depths as numbers, on a CPU. An accelerator must know how long a loop is, or it waits for
    its host at every layer."""
    if jax.default_backend() != "cpu":
        return {}
    return {"depth": np.array([run.model.depth for run in runs], np.int32)}


def record_lengths(training: Training) -> dict:
    """Returns the number of records and the steps between them, where they are traced."""
    if jax.default_backend() != "cpu":
        return {}
    return {"records": np.int32(training.records), "every": np.int32(training.record_every)}


def _stack_values(runs: Sequence[Run], name: str, like: Run) -> dict[str, np.ndarray]:
    """Stacks the traced values of one section of the runs, each [run]; 0 where a run has none."""
    dtype = like.training.dtype
    rows = [getattr(run, name).traced for run in runs]
    return {
        key: np.array([row.get(key, 0.0) for row in rows], dtype)
        for key in getattr(like, name).traced
    }
