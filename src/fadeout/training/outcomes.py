"""What became of a run: since when it solves its task, or where it broke."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from fadeout.networks import lanes
from fadeout.networks.layouts import EXAMPLES_FIRST, Layout
from fadeout.networks.model import MLP, Dense, Signals
from fadeout.networks.remedies import PLAIN, Remedy
from fadeout.networks.stacks import LayerCount, scan_active, take_at


class Outcome(NamedTuple):
    """The steps at which something happened to each run; -1 where it did not.

    Attributes:
      solved_step: since this step every example is classified right.
      diverged_step: here the first value that is not finite stood.
      diverged_layer: in this weight layer, counted from 1; the readout is depth + 1.
      reached_step: since this step the loss is below what was asked for.
      diverged_backward: 1 where that first value was a gradient, 0 where it was a preactivation.
    """

    solved_step: Int[Array, "run"]
    diverged_step: Int[Array, "run"]
    diverged_layer: Int[Array, "run"]
    reached_step: Int[Array, "run"]
    diverged_backward: Int[Array, "run"]


def all_finite(loss: Float[Array, "run"], gradients: MLP) -> Bool[Array, "run"]:
    """Per run, whether the loss and every preactivation and delta are finite.

    A delta that is not finite, or a preactivation, makes all deltas below it NaN or infinite: so
    that the bias gradients of the first layer, their sums, tell of all.
    """
    return jnp.isfinite(loss) & jnp.isfinite(
        lanes.reduce_leading(jnp.add, 0 * gradients.first.bias[...], 1)
    )


def _since(
    before: Int[Array, "run"], step: Int[Array, ""], so: Bool[Array, "run"]
) -> Int[Array, "run"]:
    """Returns the step since which something has been true without a break."""
    return jnp.where(so, jnp.where(before < 0, step, before), -1)


def update_outcome(
    before: Outcome,
    step: Int[Array, ""],
    right: Bool[Array, "run"] | None,
    below: Bool[Array, "run"] | None,
    suspect: Bool[Array, "run"],
    where: Callable,
) -> Outcome:
    """Updates the outcome of every run with what one step computed.

    Args:
      right: per run, whether every example is classified right at this step; None where only some
        were seen, which decides nothing.
      below: per run, whether the loss is as low as asked for; None likewise.
      suspect: per run, whether something is not finite at this step; only then is it worth looking
        `where`, which would otherwise cost a tenth of the training.
      where: gives the step and the layer of the first value that is not finite, and whether it was
        a gradient, per run.
    """
    new = suspect & (before.diverged_step < 0)
    old = before.diverged_step, before.diverged_layer, before.diverged_backward
    at_step, at_layer, backward = lax.cond(jnp.any(new), where, lambda: old)
    return Outcome(
        before.solved_step if right is None else _since(before.solved_step, step, right),
        jnp.where(new, at_step, before.diverged_step),
        jnp.where(new, at_layer, before.diverged_layer),
        before.reached_step if below is None else _since(before.reached_step, step, below),
        jnp.where(new, backward, before.diverged_backward),
    )


def locate_nonfinite(
    step: Int[Array, ""],
    model: MLP,
    x: Float[Array, "example feature run"],
    signals: Signals,
    gradients: MLP,
    count: LayerCount,
    remedy: Remedy = PLAIN,
    layout: Layout = EXAMPLES_FIRST,
) -> tuple[Int[Array, "run"], Int[Array, "run"], Int[Array, "run"]]:
    """Returns the step and the layer of the first value that was not finite, and whether it was a
    gradient, per run.

    Parameters that are not finite were broken by the previous step's backward pass, which goes
    from the top down; otherwise the forward pass broke, in its lowest broken layer; otherwise
    this step's backward pass, in its highest.
    """

    below, layers = signals.activation[:-1], (model.first, model.hidden, model.readout)
    top = take_at(signals.activation, count.most)
    ends = zip(layers[::2], (layout.arrange(x), top), strict=True)
    first, last = (layer.preactivation(h, layout) for layer, h in ends)

    def up(z, both):
        neuron, h = both
        z = remedy.add_skip(z, neuron.preactivation(h, layout), neuron)
        return z, z

    _, others = scan_active(up, first, (model.hidden, below), count.most)
    bad_forward = ~_finite_by_layer(first, others, last)
    bad_parameters, bad_backward = (
        ~jnp.concatenate([
            _finite_parameters(of.first, 0)[None],
            _finite_parameters(of.hidden, 1),
            _finite_parameters(of.readout, 0)[None],
        ])
        for of in (model, gradients)
    )  # fmt: skip

    def lowest(bad):
        return number(jnp.argmax(bad, axis=0))

    def highest(bad):
        return number(bad.shape[0] - 1 - jnp.argmax(bad[::-1], axis=0))

    def number(place):  # the readout has the last place, whatever the depth
        return jnp.where(place > count.each, count.each + 2, place + 1)

    earlier = jnp.any(bad_parameters, axis=0)
    forward = jnp.any(bad_forward, axis=0)
    layer = jnp.where(forward, lowest(bad_forward), highest(bad_backward))
    return (
        step - (earlier & (step > 0)),
        jnp.where(earlier, highest(bad_parameters), layer),
        (earlier | ~forward).astype(step.dtype),
    )


def infinite_gradients(
    rows: Float[Array, "place run"], delta: Float[Array, "... run"], slope: Float[Array, "... run"]
) -> Float[Array, "place run"]:
    """Sizes of gradients, infinite where the backward pass overflowed: there inf - inf is NaN.

    Args:
      delta: dL/d output, which is finite where the output is, whatever became of the loss.
      slope: phi'(z) of all layers; it is NaN where z is infinite, so that after a forward pass that
        overflowed NaN stays.
    """

    def overflowed() -> Float[Array, "place run"]:
        bounded = _is_finite(delta, 0) & _is_finite(slope, 0)
        return jnp.where(jnp.isnan(rows) & bounded, jnp.inf, rows)

    return lax.cond(jnp.any(jnp.isnan(rows[0])), overflowed, lambda: rows)


def _finite_by_layer(
    first: Float[Array, "... run"],
    hidden: Float[Array, "places ... run"],
    readout: Float[Array, "... run"],
) -> Bool[Array, "places+2 run"]:
    """Returns whether the values of each weight layer are finite."""
    return jnp.concatenate(
        [_is_finite(first, 0)[None], _is_finite(hidden, 1), _is_finite(readout, 0)[None]]
    )


def _finite_parameters(part: Dense, keep: int) -> Bool[Array, "*place run"]:
    """Per run, whether all parameters of a layer are finite, or of each of a stack."""
    return functools.reduce(jnp.logical_and, [_is_finite(p, keep) for p in jax.tree.leaves(part)])


def _is_finite(x: Float[Array, "... run"], keep: int) -> Bool[Array, "... run"]:
    """Per run, whether x is finite all over, but for its first `keep` axes."""
    return jnp.all(jnp.isfinite(x), axis=tuple(range(keep, x.ndim - 1)))
