"""What the networks learn: small Boolean tasks, clouds in the plane, a random teacher, tables."""

import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fadeout import config, registry
from fadeout.networks.jaxprs import memoized, retraced
from fadeout.networks.lanes import matmul
from fadeout.networks.settings import standard_settings
from fadeout.networks.tables import MAX_CLASSES, check_shapes, parse_targets, read_table
from fadeout.registry import (
    Between,
    FadeoutError,
    NotNegative,
    format_value,
    function_name,
    is_builtin,
    lookup,
    user_errors,
)
from fadeout.schema import LARGEST_NUMBER

_Count = Annotated[int, Between(1, 65536)]


class Examples(NamedTuple):
    """A full batch, and what is held out of it.

    Attributes:
      targets: 0 or 1, of more classes their number, or any number.
    """

    inputs: Float[Array, "example feature *run"]
    targets: Float[Array, "example *run"]
    held_inputs: Float[Array, "held feature *run"] | None = None
    held_targets: Float[Array, "held *run"] | None = None

    def held(self, key, count: int, standardize: bool = False) -> "Examples":
        """Returns the examples with `count` of them held out, drawn by the key.

        Args:
          standardize: whether inputs are scaled to mean 0 and deviation 1 of those that remain.

        Raises:
          FadeoutError: none would be left.
        """
        total = self.targets.shape[0]
        if count >= total:
            raise FadeoutError(
                f"training.held_out={count} leaves none of the {total} examples to train on"
            )
        order = shuffle(key, total)
        (inputs, held_inputs), (targets, held_targets) = (
            (a[order[count:]], a[order[:count]]) for a in self[:2]
        )
        if standardize:
            still = jnp.max(inputs, 0) == jnp.min(inputs, 0)
            mean = jnp.where(still, inputs[0], jnp.mean(inputs, 0))
            scale = jnp.where(still, 1, jnp.std(inputs, 0))
            inputs, held_inputs = (inputs - mean) / scale, (held_inputs - mean) / scale
        return Examples(inputs, targets, held_inputs, held_targets)


def shuffle(key, count: int) -> Int[Array, "{count}"]:
    """Returns a random order of so many examples. The held-out ones come first."""
    return jax.random.permutation(key, count)


def _check_task(function: Callable) -> None:
    """Refuses what is no task.

    Raises:
      FadeoutError: JAX cannot trace it, it does not give inputs [example, feature] and targets
        [example] of real numbers, some are not finite, or not of the declared classes.
    """
    with user_errors(f"task {function_name(function)}"):
        key, levels = jax.random.key(0), INPUTS["binary"]
        jax.make_jaxpr(lambda key: call_task(function, key, levels, {}))(key)
    usual = {key: p.default for key, p in registry.parameters(function).items()}
    given = {key: value for key, value in usual.items() if value is not None}
    classes = _count_classes(function, given)
    check_targets(_draw_targets(function, {}), classes, f"task {function_name(function)}")


def _draw_targets(function: Callable, options: dict[str, Any]) -> np.ndarray:
    """The targets that a user's task gives for one key, [example].

    Raises:
      FadeoutError: they or the inputs are of a wrong shape or kind, or not finite.
    """
    what = f"task {function_name(function)}"
    with user_errors(what), jax.ensure_compile_time_eval():
        key, levels = jax.random.key(0), INPUTS["binary"]
        found = retraced(lambda key: call_task(function, key, levels, options), key)(key)
        if not isinstance(found, tuple) or len(found) != 2:
            raise FadeoutError(
                f"{what} must give inputs [example, feature] and targets [example], not "
                f"{format_value(found)}"
            )
        inputs, targets = map(np.asarray, found)
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1] or not inputs.size:
        raise FadeoutError(
            f"{what} must give inputs [example, feature] and targets [example], not "
            f"{inputs.shape} and {targets.shape}"
        )
    for name, array in (("inputs", inputs), ("targets", targets)):
        if array.dtype.kind not in "biuf":
            raise FadeoutError(f"{what} must give {name} that are real numbers, not {array.dtype}")
        if not np.isfinite(array).all():
            raise FadeoutError(f"{what} gives {name} that are not finite")
    return targets


def check_targets(targets: np.ndarray, classes: int, what: str) -> None:
    """Refuses targets that are not of so many classes.

    Raises:
      FadeoutError: one is not 0, 1, ..., classes - 1.
    """
    wrong = targets[(targets % 1 != 0) | (targets < 0) | (targets >= classes)]
    if classes and wrong.size:
        raise FadeoutError(
            f"{what} gives the target {wrong.flat[0]:g}, but its classes are 0 to {classes - 1}: "
            "give such targets, or say classes=0 for any number"
        )


def _classes_among(targets: np.ndarray) -> int:
    """How many classes some targets are of: 0, 1, ... all of which occur; 0 where they are any
    numbers.

    >>> _classes_among(np.array([0, 2, 1])), _classes_among(np.array([0, 2]))
    (3, 0)
    """
    found = np.unique(targets)
    whole = np.array_equal(found, np.arange(found.size)) and found.size > 1
    return found.size if whole else 0


_CLASSES: dict[Callable, int | Callable[..., int]] = {}
"""The number of classes that a task was declared to have, or what tells it from the task's options;
0 where targets are any number. A user's task that is not in here is looked at."""

STANDARDIZED: dict[Callable, str] = {}
"""Of a task whose inputs may be standardised, the option that says so. Mean and deviation are those
of the examples that are trained on."""

TASKS = registry.new_table(
    "task", "key", "levels", reserved=("inputs", "targets"), check=_check_task, spare=1
)


def task(function: Callable | None = None, *, classes: int | Callable[..., int] | None = None):
    """Registers a task under the name of its function.

    Args:
      function: takes a JAX key, and gives inputs [example, feature] and targets [example]: a class
        0, 1, ..., or any number. A Boolean task also takes the two numbers that stand for false and
        true. Its keyword-only parameters, all with defaults, become keys of `task`.
      classes: the number of classes; 0 means that targets are any number. By default they are
        counted among the targets that the task's defaults draw.

    Returns:
      The function as it was; without one, a decorator.

    Raises:
      FadeoutError: its name is taken, or its examples are of other shapes or not finite.

    >>> @task
    ... def ramp(key, *, examples: _Count = 8):
    ...     x = jnp.linspace(-1, 1, examples)
    ...     return x[:, None], x > 0
    >>> make_examples(None, jnp.float32, name="ramp", examples=2).targets.tolist()
    [0.0, 1.0]
    >>> del TASKS["ramp"]
    """
    if function is None:
        return functools.partial(task, classes=classes)
    if not callable(function):
        raise FadeoutError(f"task must be a function, not {format_value(function)}")
    _check_classes(classes, f"task {function_name(function)}")
    if classes is not None or is_builtin(function):
        _CLASSES[function] = 2 if classes is None else classes
    return TASKS.add(function)


def _check_classes(classes: Any, what: str) -> None:
    """Refuses what is no number of classes.

    Raises:
      FadeoutError
    """
    if classes is None or callable(classes):
        return
    whole = isinstance(classes, int) and not isinstance(classes, bool)
    if not whole or classes == 1 or not 0 <= classes <= MAX_CLASSES:
        raise FadeoutError(
            f"{what}: classes must be 2 to {MAX_CLASSES}, or 0 for targets that are any number, "
            f"not {format_value(classes)}"
        )


def classes_of(name: str, options: dict[str, Any]) -> int:
    """The number of classes of a task's targets; 0 where they are any number.

    Raises:
      FadeoutError: a user's task gives targets that are not of the classes that it declares.
    """
    function = get_task(name)
    sizes = {key: value for key, value in options.items() if not isinstance(value, float)}

    def compute() -> int:
        classes = _count_classes(function, options)
        if not is_builtin(function) and function not in registry.CONTENTS:
            check_targets(_draw_targets(function, sizes), classes, f"task {name}")
        return classes

    return memoized(("classes", function, tuple(sorted(sizes.items()))), compute)


def _count_classes(function: Callable, options: dict[str, Any]) -> int:
    """Returns the declared number of classes, or counts those of targets drawn with these sizes."""
    found = _CLASSES.get(function)
    if callable(found):
        with user_errors(f"task {function_name(function)}: its classes"):
            found = found(**options)
        _check_classes(found, f"task {function_name(function)}")
    if found is None:
        sizes = {key: value for key, value in options.items() if not isinstance(value, float)}
        found = _classes_among(_draw_targets(function, sizes))
    return found


def call_task(function: Callable, key, levels, options: dict[str, Any]) -> tuple:
    """Returns a task's inputs and targets. `levels` is passed only where the task takes it."""
    positional = inspect.signature(function).parameters.values()
    boolean = sum(p.kind is not p.KEYWORD_ONLY for p in positional) > 1
    return function(key, *[levels] * boolean, **options)


INPUTS: dict[str, tuple[float, float]] = {
    "binary": (0.0, 1.0),
    "bipolar": (-1.0, 1.0),
    "centred": (-0.5, 0.5),
}
"""How a task writes false and true on its inputs."""


def _truth_table(function: Callable[[np.ndarray], np.ndarray], bits: int, levels) -> tuple:
    """Returns all corners of {0, 1}^bits in counting order, written in `levels`, and the function's
    value at each."""
    corners = (np.arange(2**bits)[:, None] >> np.arange(bits)[::-1]) & 1
    return np.asarray(levels)[corners], function(corners)


def _is_odd(corners):
    return corners.sum(-1) % 2


@task
def xor(key, levels):
    """Same gives 0, different gives 1."""
    return _truth_table(_is_odd, 2, levels)


@task
def and_(key, levels):
    """1 where both are 1."""
    return _truth_table(lambda corners: corners.all(-1), 2, levels)


@task
def or_(key, levels):
    """1 where at least one is 1."""
    return _truth_table(lambda corners: corners.any(-1), 2, levels)


@task
def nand(key, levels):
    """0 where both are 1."""
    return _truth_table(lambda corners: ~corners.all(-1), 2, levels)


@task(classes=0)
def linear(key, levels):
    """The mean of both inputs: what a deep linear network can learn (Saxe 2014)."""
    return _truth_table(lambda corners: np.asarray(levels)[corners].mean(-1), 2, levels)


@task
def parity(key, levels, *, bits: Annotated[int, Between(1, 12)] = 4):
    """1 where the number of ones among `bits` inputs is odd; two bits are xor."""
    return _truth_table(_is_odd, bits, levels)


@task
def noisy_xor(key, levels, *, examples: _Count = 64, noise: NotNegative = 0.1):
    """XOR's four corners in turn, each input with noise N(0, noise^2) in units of the inputs."""
    corners, targets = xor(key, levels)
    turn = np.arange(examples) % 4
    return corners[turn] + noise * _draw_normal(key, (examples, 2)), targets[turn]


@task
def circles(key, *, examples: _Count = 64, noise: NotNegative = 0.05, factor: NotNegative = 0.5):
    """A ring inside another, of radius `factor` and 1, with noise (scikit-learn's make_circles)."""
    label = np.arange(examples) % 2
    turn = 2 * np.pi * np.arange(examples) / examples
    radius = jnp.where(label, factor, 1.0)[:, None]
    ring = radius * np.stack([np.cos(turn), np.sin(turn)], 1)
    return ring + noise * _draw_normal(key, (examples, 2)), label


@task
def moons(key, *, examples: _Count = 64, noise: NotNegative = 0.05):
    """Two half circles that reach into each other, with noise (scikit-learn's make_moons)."""
    label = np.arange(examples) % 2
    turn = np.pi * (np.arange(examples) // 2) / max(examples // 2 - 1, 1)
    upper = np.stack([np.cos(turn), np.sin(turn)], 1)
    moon = np.where(label[:, None], [1.0, 0.5] - upper, upper)
    return moon + noise * _draw_normal(key, (examples, 2)), label


def _cycle_arms(arms: int, **_) -> int:
    return arms


@task(classes=_cycle_arms)
def spirals(
    key,
    *,
    examples: _Count = 96,
    noise: NotNegative = 0.02,
    turns: NotNegative = 1.0,
    arms: Annotated[int, Between(2, 16)] = 2,
):
    """Arms that wind around each other, a class each, with noise (Lang & Witbrock 1988)."""
    label = np.arange(examples) % arms
    along = (np.arange(examples) // arms + 1) / max(-(-examples // arms), 1)
    turn = 2 * np.pi * (turns * along + label / arms)
    spiral = along[:, None] * jnp.stack([jnp.cos(turn), jnp.sin(turn)], 1)
    return spiral + noise * _draw_normal(key, (examples, 2)), label


def _classes_of_table(**options) -> int:
    return read_table(**options).classes


@task(classes=_classes_of_table)
def table(
    key, *, file: str = "", target: str = "", standardize: bool = True, regression: bool = False,
    drop: str = "",
):  # fmt: skip
    """Examples of a CSV file by column, or of an npz file's `inputs` and `targets`; the target is
    the last column, or the one named. Words and whole numbers are classes."""
    found = read_table(file, target, regression, drop)
    x = found.inputs
    if standardize:  # again by what is trained on, where examples are held out
        still = x.max(axis=0) == x.min(axis=0)  # of which rounding would make a deviation
        x = np.where(still, 0, (x - x.mean(axis=0)) / np.where(still, 1, x.std(axis=0)))
    return x, found.targets


registry.CONTENTS[table] = lambda **options: f"{options['file']} {read_table(**options).digest}"
STANDARDIZED[table] = "standardize"


_ARRAYS = "a notebook's arrays"


def arrays(
    inputs: Any, targets: Any, name: str | None = None, *, regression: bool = False
) -> config.Task:
    """Makes a task from your own arrays, for a notebook.

    Args:
      inputs: [example, feature], real numbers.
      targets: [example] or [example, 1]: words or whole numbers are classes, also -1 and 1; floats
        that are not whole are numbers.
      name: of the task, in results; by default from a hash of the arrays, which are copied.
      regression: whether whole numbers are numbers and not classes.

    Returns:
      What `Run(task=...)` takes.

    Raises:
      FadeoutError: other shapes, numbers that are not finite, or the name of another task.

    >>> arrays(np.eye(2), ["no", "yes"], name="two").name
    'two'
    >>> del TASKS["two"]
    """
    if not isinstance(regression, bool):
        raise FadeoutError(
            f"arrays: regression must be true or false, not {format_value(regression)}"
        )
    try:
        x, t = np.asanyarray(inputs), np.asanyarray(targets)
    except (ValueError, TypeError) as error:
        raise FadeoutError(f"arrays: {str(error).splitlines()[0]}") from None
    x, t = check_shapes(x, t, "arrays")
    x = np.array(x, float)
    if not (np.abs(x) < LARGEST_NUMBER).all():
        raise FadeoutError("arrays: inputs must be finite numbers, and some are not finite")
    labels = parse_targets(t, "arrays, targets", regression)
    told = x.tobytes() + labels.targets.tobytes() + repr((x.shape, labels.names)).encode()
    digest = hashlib.sha256(told).hexdigest()[:16]
    if name is not None and not isinstance(name, str):
        raise FadeoutError(f"arrays: name must be a word, not {format_value(name)}")
    name = name or f"arrays_{digest[:6]}"
    if name in TASKS:
        known = TASKS[name]
        if known.__module__ == _ARRAYS and registry.CONTENTS[known]() == digest:
            return config.Task(name)
        raise FadeoutError(f"there is already a task {name}, of other data: give another name")

    def given(key):
        return x, labels.targets

    given.__module__ = _ARRAYS
    _CLASSES[given] = len(labels.names)
    registry.CONTENTS[given] = lambda **_: digest
    _ABOUT[given] = f"{name}: {len(x)} examples of {x.shape[1]} features; {labels.about()}"
    TASKS.add(given, name=name)
    return config.Task(name)


_ABOUT: dict[Callable, str] = {}
"""What a notebook's arrays are, in a line."""


def describe_task(section: config.Task) -> str:
    """One line of what was read of a table or of arrays; empty for a task that is drawn."""
    function = get_task(section.name)
    if function is table:
        return read_table(**dict(section.options)).about
    return _ABOUT.get(function, "")


@task
def teacher(key, *, examples: _Count = 256, features: Annotated[int, Between(1, 4096)] = 16):
    """Gaussian inputs, halved by a random network of one layer of `features` tanh units.

    Its weights are N(0, 4 / fan-in), and its median output is the threshold.
    """
    inputs, below, above = jax.random.split(key, 3)
    x = _draw_normal(inputs, (examples, features))
    kernel = np.float32(2 / np.sqrt(features)) * _draw_normal(below, (features, features))
    score = matmul(jnp.tanh(matmul(x, kernel)), _draw_normal(above, (features, 1)))[:, 0]
    return x, score > jnp.median(score)


def _draw_normal(key, shape) -> Float[Array, "..."]:
    """Draws standard normal numbers that are the same in either precision."""
    return jax.random.normal(key, shape, jnp.float32)


def get_task(name: str) -> Callable:
    """The task of this name.

    Raises:
      FadeoutError: unknown name.
    """
    return lookup(TASKS, name, "task")


def example_shapes(section: config.Task, dtype: str) -> tuple[int, int]:
    """How many examples a task gives, those that are held out among them, and how many features."""
    key = jax.eval_shape(lambda: jax.random.key(0))

    def make(key):
        return make_examples(key, jnp.dtype(dtype), **section.as_dict())

    with user_errors(f"task {section.name}"), standard_settings(dtype == "float64"):
        shape = jax.eval_shape(make, key).inputs.shape
    return shape[0], shape[1]


def make_examples(
    key, dtype, /, *, name: str, inputs: str = "binary", targets: str = "binary", **parameters
) -> Examples:
    """Draws a task's examples.

    Args:
      key: a JAX key; only random tasks use it.
      targets: `bipolar` writes the classes 0 and 1 as -1 and 1.
      inputs: `binary` writes {0, 1} on the inputs of Boolean tasks, `bipolar` {-1, 1}, `centred`
        {-1/2, 1/2}.

    >>> make_examples(None, jnp.float32, name="xor", inputs="bipolar").inputs.tolist()
    [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    levels = lookup(INPUTS, inputs, "task.inputs")
    x, t = call_task(get_task(name), key, levels, parameters)
    x, t = jnp.asarray(x, dtype), jnp.asarray(t, dtype)
    return Examples(x, 2 * t - 1 if targets == "bipolar" else t)
