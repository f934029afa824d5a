"""What became of a run: since when it solves its task, or where it broke."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fadeout.networks import lanes
from fadeout.networks.lanes import per_lane
from fadeout.networks.model import MLP, Signals


class Outcome(NamedTuple):
    """What became of each run, [run]; -1 where it did not happen.

    Attributes:
      solved_step: since this step every example is classified right.
      diverged_step: here the first value that is not finite stood.
      diverged_layer: in this weight layer, counted from 1; the readout is depth + 1.
    """

    solved_step: jax.Array
    diverged_step: jax.Array
    diverged_layer: jax.Array


# --- outcomes


@per_lane
def all_finite(loss: jax.Array, gradients: MLP) -> jax.Array:
    """Per run, whether the loss and every preactivation and delta are finite.

    A bias gradient is a sum of deltas, and below a preactivation that is not finite they are NaN:
    so that the smallest of arrays tell of all, and the large ones need not be read.
    """
    biases = (gradients.first.bias, gradients.hidden.bias, gradients.readout.bias)
    parts = [finite_all_over(bias[...]) for bias in biases if bias.size]
    return functools.reduce(jnp.logical_and, parts, finite_all_over(loss))


def finite_all_over(x: jax.Array) -> jax.Array:
    """Whether x is finite all over: 0 x is NaN where it is not."""
    return jnp.isfinite(lanes.fold(jnp.add, 0 * x))


def judge(
    before: Outcome, step: jax.Array, right: jax.Array, suspect: jax.Array, where: Callable
) -> Outcome:
    """The outcome so far.

    Args:
      right: per run, whether every example is classified right at this step.
      suspect: per run, whether something is not finite at this step; only then is it worth looking
        `where`, which would otherwise cost a tenth of the training.
      where: gives the step and the layer of the first value that is not finite, per run.
    """
    solved = jnp.where(right, jnp.where(before.solved_step < 0, step, before.solved_step), -1)
    new = suspect & (before.diverged_step < 0)
    at_step, at_layer = lax.cond(
        jnp.any(new), where, lambda: (before.diverged_step, before.diverged_layer)
    )
    return Outcome(
        solved,
        jnp.where(new, at_step, before.diverged_step),
        jnp.where(new, at_layer, before.diverged_layer),
    )


def locate(step: jax.Array, model: MLP, z: Signals, gradients: MLP) -> tuple[jax.Array, jax.Array]:
    """The step and the layer where the first value that is not finite stood, per run.

    Parameters that are not finite were broken by the previous step's backward pass, which goes
    from the top down; otherwise the forward pass broke, in its lowest broken layer; otherwise
    this step's backward pass, in its highest.
    """

    bad_parameters = ~finite_layers(model)
    bad_forward = ~finite_layers(z)
    bad_backward = ~finite_layers(gradients)
    count = bad_forward.shape[0]

    def lowest(bad):
        return jnp.argmax(bad, axis=0) + 1

    def highest(bad):
        return count - jnp.argmax(bad[::-1], axis=0)

    earlier = jnp.any(bad_parameters, axis=0)
    layer = jnp.where(jnp.any(bad_forward, axis=0), lowest(bad_forward), highest(bad_backward))
    return step - (earlier & (step > 0)), jnp.where(earlier, highest(bad_parameters), layer)


def finite(x: jax.Array, keep: int) -> jax.Array:
    """Per run, whether x is finite all over, but for its first `keep` axes."""
    return jnp.all(jnp.isfinite(x), axis=tuple(range(keep, x.ndim - 1)))


def finite_layers(of: MLP | Signals) -> jax.Array:
    """Whether the parameters or signals of each weight layer are finite: [depth + 1, run]."""

    def part(name, keep):
        leaves = [finite(x, keep) for x in jax.tree.leaves(getattr(of, name))]
        return functools.reduce(jnp.logical_and, leaves)

    return jnp.concatenate([part("first", 0)[None], part("hidden", 1), part("readout", 0)[None]])
