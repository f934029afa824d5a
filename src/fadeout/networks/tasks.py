"""What the networks learn: small Boolean tasks, a random teacher, and losses that judge."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fadeout.networks.lanes import contract
from fadeout.registry import Between, FadeoutError, NotNegative, is_own, lookup, named, table, tried

Count = Annotated[int, Between(1, 65536)]


class Examples(NamedTuple):
    """A full batch.

    Attributes:
      inputs: [example, feature].
      targets: [example], 0 or 1; of the linear task any number.
    """

    inputs: jax.Array
    targets: jax.Array


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
    CLASSES.setdefault(function, classes_among(targets))


def classes_among(targets: np.ndarray) -> int:
    """How many classes some targets are of: 0, 1, ... all of which occur; 0 where they are any
    numbers."""
    found = np.unique(targets)
    whole = np.array_equal(found, np.arange(found.size)) and found.size > 1
    return found.size if whole else 0


CLASSES: dict[Callable, int | Callable[..., int]] = {}
"""How many classes a task's targets are of; 0 where they are any number, and no example is
classified right or wrong. Or what tells it, of the task's options."""

TASKS = table("task", "key", "levels", reserved=("inputs",), check=gives_examples, spare=1)


def task(function: Callable | None = None, *, classes: int | Callable[..., int] | None = None):
    """Takes in a task: of a key, and if it is a Boolean one of the two numbers by which false and
    true are written, gives inputs [example, feature] and targets [example]: a class, 0, 1, ..., or
    any number. Its parameters are keyword-only with defaults.

    Args:
      classes: how many there are, 0 for targets that are any number; by default as the targets look
        that are drawn with the defaults.

    Raises:
      FadeoutError: its name is taken, or it is none.
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
def teacher(key, *, examples: Count = 256, features: Annotated[int, Between(1, 4096)] = 16):
    """Gaussian inputs, halved by a random network of one layer of `features` tanh units.

    Its weights are N(0, 4 / fan-in), and its median output is the threshold.
    """
    inputs, below, above = jax.random.split(key, 3)
    x = drawn(inputs, (examples, features))
    kernel = np.float32(2 / np.sqrt(features)) * drawn(below, (features, features))
    score = contract(jnp.tanh(contract(x, kernel)), drawn(above, (features, 1)))[:, 0]
    return x, score > jnp.median(score)


def drawn(key, shape) -> jax.Array:
    """Standard normal numbers, the same in either precision of training."""
    return jax.random.normal(key, shape, jnp.float32)


def get_task(name: str) -> Callable:
    """The task of this name.

    Raises:
      FadeoutError: unknown name.
    """
    return lookup(TASKS, name, "task")


def make_examples(key, dtype, *, name: str, inputs: str = "binary", **parameters) -> Examples:
    """Draws a task's examples.

    Args:
      key: a JAX key; only random tasks use it.
      inputs: `binary` writes {0, 1} on the inputs of Boolean tasks, `bipolar` {-1, 1}, `centred`
        {-1/2, 1/2}.

    >>> make_examples(None, jnp.float32, name="xor", inputs="bipolar").inputs.tolist()
    [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    levels = lookup(INPUTS, inputs, "task.inputs")
    inputs, targets = call(get_task(name), key, levels, parameters)
    return Examples(jnp.asarray(inputs, dtype), jnp.asarray(targets, dtype))


class Loss(NamedTuple):
    """Attributes:
    function: of an output and a target, elementwise.
    threshold: an output above it is read as the answer 1.
    """

    function: Callable[[jax.Array, jax.Array], jax.Array]
    threshold: float


def cross_entropy(logit, target):
    """-log of the probability that sigmoid(logit) gives to the target."""
    return jax.nn.softplus(logit) - target * logit


def squared_error(output, target):
    """(output - target)^2."""
    return jnp.square(output - target)


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy, 0.0),
    "squared_error": Loss(squared_error, 0.5),
}


def get_loss(name: str) -> Loss:
    """The loss of this name.

    Raises:
      FadeoutError: unknown name.

    >>> print(get_loss("cross_entropy").function(jnp.zeros(()), 1.0))
    0.6931472
    """
    return lookup(LOSSES, name, "loss_function")
