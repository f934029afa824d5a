"""By what a network's answer is judged: losses, and whether an example is classified right."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fadeout.registry import lookup


class Loss(NamedTuple):
    """Attributes:
    function: of an output and a target, elementwise, for networks of one output.
    threshold: an output above it is read as the answer 1.
    classes: of outputs [example, class] and classes [example], gives [example].
    """

    function: Callable[[Array, Array], Array]
    threshold: float
    classes: Callable[[Array, Array], Array]

    def of(
        self, output: Float[Array, "example output *run"], targets: Float[Array, "example *run"]
    ) -> Float[Array, "example *run"]:
        """The loss of every example.

        Args:
          targets: of one output a number, of several a class.
        """
        if output.shape[1] == 1:
            return self.function(output[:, 0], targets)
        return self.classes(output, targets)

    def right(
        self,
        output: Float[Array, "example output *run"],
        targets: Float[Array, "example *run"],
        threshold: float,
    ) -> Bool[Array, "example *run"]:
        """Returns which examples are classified right; never one with an output that is not finite.

        Args:
          threshold: of one output, above which the answer is 1.
        """
        if output.shape[1] > 1:
            chosen = jnp.argmax(output, axis=1) == targets
            return chosen & jnp.all(jnp.isfinite(output), axis=1)
        answer = output[:, 0]
        return ((answer > threshold) == (targets > 0.5)) & jnp.isfinite(answer)


def _one_hot(
    targets: Float[Array, "example *run"], classes: int
) -> Float[Array, "example {classes} *run"]:
    """1 at each example's class."""
    numbers = jnp.arange(classes).reshape(classes, *(1,) * (targets.ndim - 1))
    return (targets[:, None] == numbers).astype(targets.dtype)


def _cross_entropy(logit, target):
    """-log of the probability that sigmoid(logit) gives to the target."""
    return jax.nn.softplus(logit) - target * logit


def _softmax_cross_entropy(logits, classes):
    """-log of the probability that softmax(logits) gives to the class."""
    own = jnp.sum(_one_hot(classes, logits.shape[1]) * logits, axis=1)
    return jax.nn.logsumexp(logits, axis=1) - own


def _squared_error(output, target):
    """(output - target)^2."""
    return jnp.square(output - target)


def _summed_squared_error(outputs, classes):
    """The squared distance from the corner that stands for the class."""
    return jnp.sum(jnp.square(outputs - _one_hot(classes, outputs.shape[1])), axis=1)


_LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(_cross_entropy, 0.0, _softmax_cross_entropy),
    "squared_error": Loss(_squared_error, 0.5, _summed_squared_error),
}

OUTPUTS: dict[str, Callable] = {
    "linear": lambda z: z,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}
"""What is made of the readout's weighted sums before the loss sees them."""


def get_loss(name: str) -> Loss:
    """The loss of this name.

    Raises:
      FadeoutError: unknown name.

    >>> print(get_loss("cross_entropy").function(jnp.zeros(()), 1.0))
    0.6931472
    """
    return lookup(_LOSSES, name, "loss_function")
