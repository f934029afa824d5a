"""What the networks learn: small Boolean tasks, and the losses that judge them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fadeout.registry import lookup


class Examples(NamedTuple):
    """A full batch.

    Attributes:
      inputs: [example, feature].
      targets: [example], 0 or 1.
    """

    inputs: jax.Array
    targets: jax.Array


INPUTS: dict[str, tuple[float, float]] = {"binary": (0.0, 1.0), "bipolar": (-1.0, 1.0)}
"""How a task writes false and true on its inputs."""


def truth_table(function: Callable[[np.ndarray], np.ndarray], bits: int) -> tuple:
    """All corners of {0, 1}^bits in counting order, and what `function` makes of each."""
    corners = (np.arange(2**bits)[:, None] >> np.arange(bits)[::-1]) & 1
    return corners, function(corners)


def odd(corners):
    return corners.sum(-1) % 2


def xor(key):
    """Same gives 0, different gives 1."""
    return truth_table(odd, 2)


def and_(key):
    """1 where both are 1."""
    return truth_table(lambda corners: corners.all(-1), 2)


def or_(key):
    """1 where at least one is 1."""
    return truth_table(lambda corners: corners.any(-1), 2)


def nand(key):
    """0 where both are 1."""
    return truth_table(lambda corners: ~corners.all(-1), 2)


def parity(key, *, bits=4):
    """1 where the number of ones among `bits` inputs is odd; two bits are xor."""
    return truth_table(odd, bits)


def noisy_xor(key, *, examples=64, noise=0.1):
    """XOR's four corners in turn, each input with noise N(0, noise^2) in units of the inputs."""
    corners, targets = truth_table(odd, 2)
    turn = np.arange(examples) % 4
    return corners[turn], targets[turn], noise * jax.random.normal(key, (examples, 2))


TASKS: dict[str, Callable] = {
    "xor": xor,
    "and": and_,
    "or": or_,
    "nand": nand,
    "parity": parity,
    "noisy_xor": noisy_xor,
}


def get_task(name: str) -> Callable:
    """The task of this name.

    Raises:
      FadeoutError: unknown name.
    """
    return lookup(TASKS, name, "task")


def make_examples(key, dtype, *, name: str, inputs: str = "binary", **parameters) -> Examples:
    """Draws a task's examples.

    Args:
      key: a JAX key; only tasks with noise use it.
      inputs: `binary` writes {0, 1} on the inputs, `bipolar` {-1, 1}.

    >>> make_examples(None, jnp.float32, name="xor", inputs="bipolar").inputs.tolist()
    [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    low, high = lookup(INPUTS, inputs, "task.inputs")
    corners, targets, *noise = get_task(name)(key, **parameters)
    corners = low + (high - low) * jnp.asarray(corners, dtype)
    if noise:
        corners = corners + noise[0].astype(dtype)
    return Examples(corners, jnp.asarray(targets, dtype))


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
