"""What the networks learn: small Boolean tasks, a random teacher, and losses that judge."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fadeout.networks.lanes import contract
from fadeout.registry import lookup


class Examples(NamedTuple):
    """A full batch.

    Attributes:
      inputs: [example, feature].
      targets: [example], 0 or 1; of the linear task any number.
    """

    inputs: jax.Array
    targets: jax.Array


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


def xor(key, levels):
    """Same gives 0, different gives 1."""
    return truth_table(odd, 2, levels)


def and_(key, levels):
    """1 where both are 1."""
    return truth_table(lambda corners: corners.all(-1), 2, levels)


def or_(key, levels):
    """1 where at least one is 1."""
    return truth_table(lambda corners: corners.any(-1), 2, levels)


def nand(key, levels):
    """0 where both are 1."""
    return truth_table(lambda corners: ~corners.all(-1), 2, levels)


def linear(key, levels):
    """The mean of both inputs: what a deep linear network can learn (Saxe 2014)."""
    return truth_table(lambda corners: np.asarray(levels)[corners].mean(-1), 2, levels)


def parity(key, levels, *, bits=4):
    """1 where the number of ones among `bits` inputs is odd; two bits are xor."""
    return truth_table(odd, bits, levels)


def noisy_xor(key, levels, *, examples=64, noise=0.1):
    """XOR's four corners in turn, each input with noise N(0, noise^2) in units of the inputs."""
    corners, targets = xor(key, levels)
    turn = np.arange(examples) % 4
    return corners[turn] + noise * drawn(key, (examples, 2)), targets[turn]


def teacher(key, levels, *, examples=256, features=16):
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


TASKS: dict[str, Callable] = {
    "xor": xor,
    "and": and_,
    "or": or_,
    "nand": nand,
    "linear": linear,
    "parity": parity,
    "noisy_xor": noisy_xor,
    "teacher": teacher,
}

WITHOUT_CLASSES = ("linear",)
"""Tasks whose targets are any number: no example is classified right or wrong."""


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
    inputs, targets = get_task(name)(key, levels, **parameters)
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
