"""Compiled programs, and chunks of a fixed number of lanes that go through them.

One run or ten thousand go through the same program, so that a run's result cannot depend on its
neighbours. A new float or seed never compiles anything.
"""

import contextlib
import contextvars
import functools
import itertools
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fadeout.config import Run
from fadeout.networks.activations import largest_slope, switch_value_and_slope
from fadeout.networks.initializers import decomposes
from fadeout.networks.jaxprs import memoizing, retraced
from fadeout.networks.keys import layer_keys, seed_key
from fadeout.networks.lanes import per_lane
from fadeout.networks.model import MLP
from fadeout.networks.probes import get_probe
from fadeout.networks.settings import standard_settings
from fadeout.networks.tasks import TASKS, Examples, check_targets, classes_of
from fadeout.registry import CONTENTS, FadeoutError, is_builtin
from fadeout.training.compile_groups import (
    CompileGroup,
    InitKey,
    SlopeKey,
    compile_group,
    init_values,
    precision_of,
    record_lengths,
    slope_keys,
    train_values,
)
from fadeout.training.fit import History, ProgramKey, fit
from fadeout.training.initialization import extra_parameters, initialize_lanes
from fadeout.training.program_cache import load_or_compile
from fadeout.training.resolve import resolve

_MOST_PROGRAMS = 128
"""How many of each kind a process holds: every program takes maps of its memory, of which Linux
gives a process 65,530, and beyond them XLA aborts without a word."""


def _compiled_once(function: Callable) -> Callable:
    """Caches a function, but for what was not asked for longest; threads that ask for the same
    thing wait for the first."""
    results: OrderedDict = OrderedDict()
    locks: defaultdict = defaultdict(threading.Lock)
    made = itertools.count(1)

    @functools.wraps(function)
    def call(*key):
        with locks[key]:
            found = results.get(key)
            if found is None:
                found = results[key] = function(*key)
                call.count = next(made)  # type: ignore[attr-defined]
                while len(results) > _MOST_PROGRAMS:
                    results.popitem(last=False)
            with contextlib.suppress(KeyError):  # which another thread made room for just now
                results.move_to_end(key)
            return found

    call.count = 0  # type: ignore[attr-defined]
    call.clear = results.clear  # type: ignore[attr-defined]
    return call


def compile_group_programs(group: CompileGroup, lane_count: int, device: jax.Device) -> None:
    """Compiles all programs of a group for so many lanes on one device."""

    def prepare() -> None:
        with precision_of(group.init_key.run):
            compile_init(group.init_key, lane_count, device)

    with precision_of(group.init_key.run), ThreadPoolExecutor(1) as beside:
        prepared = beside.submit(contextvars.copy_context().run, prepare)
        for of in slope_keys(group).values():
            compile_slope(of)
        compile_fit(group.program, lane_count, device)
        prepared.result()


@_compiled_once
def compile_init(init_key: InitKey, lane_count: int, device: jax.Device) -> Callable:
    def compile_now() -> Callable:
        run = init_key.run
        values = init_values(run, [run] * lane_count)
        return compile_for(
            device, functools.partial(initialize_lanes, run), values, own=bool(run.sources)
        )

    what = "prepare", init_key.run.as_dict(), lane_count
    matrices = decomposes(init_key.run.init.name)
    return load_or_compile(what, matrices, device, compile_now)


@_compiled_once
def compile_slope(of: SlopeKey) -> Callable:
    device = jax.local_devices()[0]

    def steepest(values: dict) -> Float[Array, ""]:
        graded = switch_value_and_slope((of.activation.bound,), of.surrogate, 0, values)
        return largest_slope(lambda z: graded(z)[1], of.dtype)

    def compile_now() -> Callable:
        with standard_settings(of.dtype == "float64"):
            values = {n: np.zeros((), of.dtype) for n in of.floats}
            return compile_for(device, steepest, values, own=bool(of.activation.digest))

    return load_or_compile(("steepest", *of), False, device, compile_now)


@_compiled_once
def compile_fit(program: ProgramKey, lane_count: int, device: jax.Device) -> Callable:
    def compile_now() -> Callable:
        arguments = fit_arguments(program, lane_count)
        own = bool(program.run.sources) or any(choice.digest for choice in program.activations)
        return compile_for(device, functools.partial(fit, program), *arguments, own=own)

    what = "fit", program.run.as_dict(), *program[1:], lane_count, CPU_OPTIONS
    matrices = any(get_probe(name).lapack for name in program.run.probes)
    return load_or_compile(what, matrices, device, compile_now)


def fit_arguments(program: ProgramKey, lane_count: int) -> tuple:
    """Returns the shapes and dtypes of the arguments of `fit` after the program key."""
    run, dtype = program.run, jnp.dtype(program.run.training.dtype)

    def shapes(seed):
        model = MLP.create(
            layer_keys(seed_key(0), run.model.depth), program.features, run.model.width, dtype,
            outputs=program.outputs, **extra_parameters(run), init={"name": run.init.name},
        )  # fmt: skip
        total = program.examples + run.training.held_out
        examples = Examples(jnp.zeros((total, program.features), dtype), jnp.zeros(total, dtype))
        if run.training.held_out:
            examples = examples.held(jax.random.key(seed), run.training.held_out)
        return examples, model

    values = train_values(run, [run] * lane_count)
    room = (run.model.depth,) if program.by_layer else ()
    values |= {"steepest": np.zeros((*room, lane_count), dtype), "index": np.zeros(room, np.int32)}
    values |= record_lengths(run.training)
    return values, *jax.eval_shape(per_lane(shapes), values["seed"])


CPU_OPTIONS = {"xla_backend_optimization_level": 1}


def compile_for(device: jax.Device, function: Callable, *arguments, own: bool = False) -> Callable:
    """Compiles a function for arguments like these on one device.

    Args:
      own: whether it calls functions of a user's own, whose jitted helpers JAX may remember as they
        were.

    On a CPU, at the default optimisation level programs of 4 x 4, 8 x 16 and 32 x 16 train 2.1,
    3.4 and 1.6 times slower than at level 1, and shallow ones as fast. Not asked for are vectors of
    512 bits (`xla_cpu_prefer_vector_width`), which train up to 1.3 times faster at width 32: with
    them XLA's arctan of float32 is wrong (jaxlib 0.10.2: 0 in the place of atan(0.5)), and other
    functions of a user's may be.
    """
    options = CPU_OPTIONS if device.platform == "cpu" else {}
    sharding = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), arguments
    )
    if own:
        function = retraced(function, *shapes)
    return jax.jit(function).lower(*shapes).compile(compiler_options=options)


def fit_values(group: CompileGroup, runs: Sequence[Run]) -> dict:
    """Returns the traced values of a training program: those of each run, and those that all share,
    the index of the activation and the number of records."""
    values = train_values(group.program.run, runs)
    shared = record_lengths(group.training)
    numbers = np.int32(group.activation)
    slopes = {
        number: _largest_slopes_of_runs(of, values["activation"], len(runs))
        for number, of in slope_keys(group).items()
    }
    steepest = slopes[int(numbers)] if not numbers.ndim else None
    if steepest is None:  # one for each layer; of places without a layer, the last one's
        numbers = np.pad(numbers, (0, group.program.run.model.depth - numbers.size), "edge")
        steepest = np.stack([slopes[number] for number in numbers.tolist()])
    return values | {"steepest": steepest, "index": numbers} | shared


def _largest_slopes_of_runs(of: SlopeKey, values: dict[str, np.ndarray], runs: int) -> np.ndarray:
    """The largest |phi'| of each run, [run]. In the training program, all activations would stand
    once more for it.

    Args:
      values: of the activation, each [run].
    """
    own = (values[name].tolist() for name in of.floats)
    rows = list(zip(*own, strict=True)) if of.floats else [()] * runs
    with standard_settings(of.dtype == "float64"):
        known = {row: _largest_slopes(of, row) for row in set(rows)}
    return np.array([known[row] for row in rows], of.dtype)


@functools.lru_cache(maxsize=65536)
def _largest_slopes(of: SlopeKey, values: tuple[float, ...]) -> float:
    given = {name: np.array(v, of.dtype) for name, v in zip(of.floats, values, strict=True)}
    return float(compile_slope(of)(given))


def train_runs(runs: Run | Sequence[Run], device: jax.Device | None = None) -> History:
    """Trains runs of one group in this thread, and returns what was recorded.

    A single run goes through the same compiled program as thousands: blocks of a fixed number of
    lanes, the last one filled up with copies.

    Args:
      runs: one run, or several that differ only in floats and seeds.
      device: where; by default JAX's first.

    Returns:
      A `History` of NumPy arrays, its last axis in the order of the runs.

    Raises:
      FadeoutError: a run that cannot be trained, or runs of several groups.

    >>> trace = train_runs(Run(seed=3))
    >>> trace.loss.shape, int(trace.outcome.solved_step[0]) > 0
    ((101, 1), True)
    """
    with memoizing():
        runs = [resolve(run) for run in ([runs] if isinstance(runs, Run) else runs)]
        groups = {compile_group(run) for run in runs}
    if len(groups) != 1:
        raise FadeoutError(
            f"{len(runs)} runs of {len(groups)} compile groups: train together only runs that "
            "differ in floats and seeds, or use fadeout.train, which groups them"
        )
    group = groups.pop()
    device = device or jax.local_devices()[0]
    (trace,) = train_group(group, runs, group.program.lanes, device).values()
    return trace


def train_group(
    group: CompileGroup, runs: Sequence[Run], lane_count: int, device: jax.Device
) -> dict[int, History]:
    """Trains runs that share all of their groups but the depth, one block of lanes after another.

    Returns:
      By their depths, the traces of the runs, in their order.
    """
    blocks = [runs[i : i + lane_count] for i in range(0, len(runs), lane_count)]
    found: dict[int, list[History]] = {}
    for block in blocks:
        for depth, trace in train_block(group, block, lane_count, device):
            found.setdefault(depth, []).append(trace)
    return {depth: _join_traces(traces) for depth, traces in found.items()}


def _join_traces(traces: list[History]) -> History:
    if len(traces) == 1:
        return traces[0]
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *traces)


def train_block(
    group: CompileGroup, runs: Sequence[Run], lane_count: int, device: jax.Device
) -> list[tuple[int, History]]:
    """Trains at most `lane_count` runs. The program is filled up with copies of the last.

    Returns:
      Of neighbours of one depth each, that and their trace.
    """
    full = [*runs, *[runs[-1]] * (lane_count - len(runs))]
    with precision_of(runs[0]):
        examples, model = draw_networks(group, full, device)
        trace = fit_networks(group, full, device, examples, model)
    # cut by NumPy: JAX takes a millisecond for each index, which was half of a block's time
    trace = jax.tree.map(np.asarray, trace)
    found, start = [], 0
    for depth, same in itertools.groupby(run.model.depth for run in runs):
        lanes = slice(start, start + len(list(same)))
        found.append((depth, trace.trim(depth, group.training.records, lanes)))
        start = lanes.stop
    return found


def draw_networks(
    group: CompileGroup, runs: Sequence[Run], device: jax.Device
) -> tuple[Examples, MLP]:
    """Draws examples and networks, one a lane, in the runs' precision."""
    program = compile_init(group.init_key, len(runs), device)
    like = group.init_key.run
    values = jax.device_put(init_values(like, runs), device)
    with _lapack_lock(device, decomposes(like.init.name)):
        drawn = jax.block_until_ready(program(values))
    _check_drawn(like, drawn[0])
    return drawn


def _check_drawn(run: Run, examples: Examples) -> None:
    """Refuses targets of a user's task that are none of its classes, whatever the seed.

    Raises:
      FadeoutError
    """
    name = run.task.name
    if is_builtin(TASKS[name]) or TASKS[name] in CONTENTS or run.task.targets == "bipolar":
        return
    classes = classes_of(name, dict(run.task.options))
    for targets in (examples.targets, examples.held_targets):
        if targets is not None:
            check_targets(np.asarray(targets), classes, f"task {name}")


def fit_networks(
    group: CompileGroup, runs: Sequence[Run], device: jax.Device, examples: Examples, model: MLP
) -> History:
    """Trains networks that were drawn, one a lane, without trimming padded layers."""
    program = compile_fit(group.program, len(runs), device)
    like = group.program.run
    values = jax.device_put(fit_values(group, runs), device)
    with _lapack_lock(device, any(get_probe(name).lapack for name in like.probes)):
        return jax.block_until_ready(program(values, examples, model))


_LAPACK = threading.Lock()


def _lapack_lock(device: jax.Device, matrices: bool):
    """A lock for programs that decompose matrices: on a CPU, two of them at once wait for each
    other for good (jax 0.10: each holds threads of the pool that the other's calls need)."""
    return _LAPACK if matrices and device.platform == "cpu" else contextlib.nullcontext()
