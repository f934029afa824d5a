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
from fadeout.networks.lanes import contract
from fadeout.networks.tables import read_table
from fadeout.registry import Between, FadeoutError, NotNegative, is_own, lookup, named, tried

Count = Annotated[int, Between(1, 65536)]


class Examples(NamedTuple):
    """A full batch, and what is held out of it.

    Attributes:
      targets: 0 or 1, of more classes their number, or any number.
    """

    inputs: Float[Array, "example feature *run"]
    targets: Float[Array, "example *run"]
    held_inputs: Float[Array, "held feature *run"] | None = None
    held_targets: Float[Array, "held *run"] | None = None

    def held(self, key, count: int) -> "Examples":
        """With so many of them held out, drawn by the key.

        Raises:
          FadeoutError: none would be left.
        """
        total = self.targets.shape[0]
        if count >= total:
            raise FadeoutError(
                f"training.held_out={count} leaves none of the {total} examples to train on"
            )
        order = shuffle(key, total)
        cut = [(a[order[count:]], a[order[:count]]) for a in self[:2]]
        return Examples(cut[0][0], cut[1][0], cut[0][1], cut[1][1])


def shuffle(key, count: int) -> Int[Array, "{count}"]:
    """So many examples in an order that the key draws; those that are held out are the first."""
    return jax.random.permutation(key, count)


def gives_examples(function: Callable) -> None:
    """Refuses what is no task, and sees how many classes it has.

    Raises:
      FadeoutError: JAX cannot trace it, it does not give inputs [example, feature] and targets
        [example], or some are not finite.
    """
    what = f"task {named(function)}"
    with tried(what):
        key, levels = jax.random.key(0), INPUTS["binary"]
        jax.make_jaxpr(lambda key: call(function, key, levels, {}))(key)
        inputs, targets = map(np.asarray, call(function, key, levels, {}))
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1] or not targets.size:
        raise FadeoutError(
            f"{what} must give inputs [example, feature] and targets [example], not "
            f"{inputs.shape} and {targets.shape}"
        )
    if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
        raise FadeoutError(f"{what} gives examples that are not finite")
    CLASSES.setdefault(function, functools.partial(count_classes, function))


def count_classes(function: Callable, **options: Any) -> int:
    """As its targets look that are drawn with these options."""
    sizes = {key: value for key, value in options.items() if not isinstance(value, float)}
    return drawn_classes(function, tuple(sorted(sizes.items())))


@functools.lru_cache(maxsize=256)
def drawn_classes(function: Callable, sizes: tuple[tuple[str, Any], ...]) -> int:
    return classes_among(
        np.asarray(call(function, jax.random.key(0), INPUTS["binary"], dict(sizes))[1])
    )


def classes_among(targets: np.ndarray) -> int:
    """How many classes some targets are of: 0, 1, ... all of which occur; 0 where they are any
    numbers."""
    found = np.unique(targets)
    whole = np.array_equal(found, np.arange(found.size)) and found.size > 1
    return found.size if whole else 0


CLASSES: dict[Callable, int | Callable[..., int]] = {}
"""How many classes a task's targets are of; 0 where they are any number, and no example is
classified right or wrong. Or what tells it, of the task's options."""

TASKS = registry.table(
    "task", "key", "levels", reserved=("inputs", "targets"), check=gives_examples, spare=1
)


def task(function: Callable | None = None, *, classes: int | Callable[..., int] | None = None):
    """Takes in a task, by the name of its function.

    Args:
      function: of a JAX key, and if it is a Boolean task of the two numbers by which false and true
        are written, gives inputs [example, feature] and targets [example]: a class, 0, 1, ..., or
        any number. Its parameters are keyword-only with defaults, which become keys of `task`.
      classes: how many there are, 0 for targets that are any number; by default as the targets look
        that are drawn with the defaults.

    Returns:
      The function as it was.

    Raises:
      FadeoutError: its name is taken, or it gives no finite examples of such shapes.

    >>> @task
    ... def ramp(key, *, examples: Count = 8):
    ...     x = jnp.linspace(-1, 1, examples)
    ...     return x[:, None], x > 0
    >>> make_examples(None, jnp.float32, name="ramp", examples=2).targets.tolist()
    [0.0, 1.0]
    >>> del TASKS["ramp"]
    """
    if function is None:
        return functools.partial(task, classes=classes)
    if classes is not None or is_own(function):
        CLASSES[function] = 2 if classes is None else classes
    return TASKS.add(function)


def classes_of(name: str, options: dict[str, Any]) -> int:
    """How many classes the targets of a task are of; 0 where they are any number."""
    found = CLASSES.get(TASKS[name], 2)
    return found(**options) if callable(found) else found


def call(function: Callable, key, levels, options: dict[str, Any]) -> tuple:
    """A task's inputs and targets; `levels` only where it asks for them."""
    positional = inspect.signature(function).parameters.values()
    boolean = sum(p.kind is not p.KEYWORD_ONLY for p in positional) > 1
    return function(key, *[levels] * boolean, **options)


INPUTS: dict[str, tuple[float, float]] = {
    "binary": (0.0, 1.0),
    "bipolar": (-1.0, 1.0),
    "centred": (-0.5, 0.5),
}
"""How a task writes false and true on its inputs."""


def truth_table(function: Callable[[np.ndarray], np.ndarray], bits: int, levels) -> tuple:
    """All corners of {0, 1}^bits in counting order, written in `levels`, and what `function` makes
    of each."""
    corners = (np.arange(2**bits)[:, None] >> np.arange(bits)[::-1]) & 1
    return np.asarray(levels)[corners], function(corners)


def odd(corners):
    return corners.sum(-1) % 2


@task
def xor(key, levels):
    """Same gives 0, different gives 1."""
    return truth_table(odd, 2, levels)


@task
def and_(key, levels):
    """1 where both are 1."""
    return truth_table(lambda corners: corners.all(-1), 2, levels)


@task
def or_(key, levels):
    """1 where at least one is 1."""
    return truth_table(lambda corners: corners.any(-1), 2, levels)


@task
def nand(key, levels):
    """0 where both are 1."""
    return truth_table(lambda corners: ~corners.all(-1), 2, levels)


@task(classes=0)
def linear(key, levels):
    """The mean of both inputs: what a deep linear network can learn (Saxe 2014)."""
    return truth_table(lambda corners: np.asarray(levels)[corners].mean(-1), 2, levels)


@task
def parity(key, levels, *, bits: Annotated[int, Between(1, 12)] = 4):
    """1 where the number of ones among `bits` inputs is odd; two bits are xor."""
    return truth_table(odd, bits, levels)


@task
def noisy_xor(key, levels, *, examples: Count = 64, noise: NotNegative = 0.1):
    """XOR's four corners in turn, each input with noise N(0, noise^2) in units of the inputs."""
    corners, targets = xor(key, levels)
    turn = np.arange(examples) % 4
    return corners[turn] + noise * drawn(key, (examples, 2)), targets[turn]


@task
def circles(key, *, examples: Count = 64, noise: NotNegative = 0.05, factor: NotNegative = 0.5):
    """A ring inside another, of radius `factor` and 1, with noise (scikit-learn's make_circles)."""
    label = np.arange(examples) % 2
    turn = 2 * np.pi * np.arange(examples) / examples
    radius = jnp.where(label, factor, 1.0)[:, None]
    ring = radius * np.stack([np.cos(turn), np.sin(turn)], 1)
    return ring + noise * drawn(key, (examples, 2)), label


@task
def moons(key, *, examples: Count = 64, noise: NotNegative = 0.05):
    """Two half circles that reach into each other, with noise (scikit-learn's make_moons)."""
    label = np.arange(examples) % 2
    turn = np.pi * (np.arange(examples) // 2) / max(examples // 2 - 1, 1)
    upper = np.stack([np.cos(turn), np.sin(turn)], 1)
    moon = np.where(label[:, None], [1.0, 0.5] - upper, upper)
    return moon + noise * drawn(key, (examples, 2)), label


def as_many(arms: int, **_) -> int:
    return arms


@task(classes=as_many)
def spirals(
    key,
    *,
    examples: Count = 96,
    noise: NotNegative = 0.02,
    turns: NotNegative = 1.0,
    arms: Annotated[int, Between(2, 16)] = 2,
):
    """Arms that wind around each other, a class each, with noise (Lang & Witbrock 1988)."""
    label = np.arange(examples) % arms
    along = (np.arange(examples) // arms + 1) / max(-(-examples // arms), 1)
    turn = 2 * np.pi * (turns * along + label / arms)
    spiral = along[:, None] * jnp.stack([jnp.cos(turn), jnp.sin(turn)], 1)
    return spiral + noise * drawn(key, (examples, 2)), label


def classes_of_table(**options) -> int:
    return read_table(**options).classes


@task(classes=classes_of_table)
def table(
    key, *, file: str = "", target: str = "", standardize: bool = True, regression: bool = False
):
    """Examples of a CSV file by column, or of an npz file's `inputs` and `targets`; the target is
    the last column, or the one named. Words and whole numbers are classes."""
    found = read_table(file, target, regression)
    x = found.inputs
    if standardize:
        deviation = x.std(axis=0)
        x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return x, found.targets


registry.CONTENTS[table] = lambda **options: f"{options['file']} {read_table(**options).digest}"


ARRAYS = "a notebook's arrays"


def arrays(inputs: Any, targets: Any, name: str | None = None) -> config.Task:
    """A task of one's own arrays, for a notebook.

    Args:
      inputs: [example, feature].
      targets: [example]: a class, 0, 1, ..., or any number.
      name: of the task, in results; by default from a hash of the arrays, which are copied.

    Returns:
      What `Run(task=...)` takes.

    Raises:
      FadeoutError: other shapes, numbers that are not finite, or the name of another task.

    >>> arrays(np.eye(2), [0, 1], name="two").name
    'two'
    >>> del TASKS["two"]
    """
    x, t = np.array(inputs, float), np.array(targets)
    told = x.tobytes() + t.tobytes() + repr((x.shape, t.dtype)).encode()
    digest = hashlib.sha256(told).hexdigest()[:16]
    name = name or f"arrays_{digest[:6]}"
    if name in TASKS:
        known = TASKS[name]
        if known.__module__ == ARRAYS and registry.CONTENTS[known]() == digest:
            return config.Task(name)
        raise FadeoutError(f"there is already a task {name}, of other data: give another name")

    def given(key):
        return x, t

    given.__module__ = ARRAYS
    TASKS.add(given, name=name)
    registry.CONTENTS[given] = lambda **_: digest
    return config.Task(name)


@task
def teacher(key, *, examples: Count = 256, features: Annotated[int, Between(1, 4096)] = 16):
    """Gaussian inputs, halved by a random network of one layer of `features` tanh units.

    Its weights are N(0, 4 / fan-in), and its median output is the threshold.
    """
    inputs, below, above = jax.random.split(key, 3)
    x = drawn(inputs, (examples, features))
    kernel = np.float32(2 / np.sqrt(features)) * drawn(below, (features, features))
    score = contract(jnp.tanh(contract(x, kernel)), drawn(above, (features, 1)))[:, 0]
    return x, score > jnp.median(score)


def drawn(key, shape) -> Float[Array, "..."]:
    """Standard normal numbers, the same in either precision of training."""
    return jax.random.normal(key, shape, jnp.float32)


def get_task(name: str) -> Callable:
    """The task of this name.

    Raises:
      FadeoutError: unknown name.
    """
    return lookup(TASKS, name, "task")


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
    x, t = call(get_task(name), key, levels, parameters)
    x, t = jnp.asarray(x, dtype), jnp.asarray(t, dtype)
    return Examples(x, 2 * t - 1 if targets == "bipolar" else t)
