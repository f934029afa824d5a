"""What is measured: one small pure function of a layer of one network at one step, per quantity.

To add a probe, write a function of a `Layer`, put it in `PROBES`, and name it in a config.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fadeout.lanes import fold, mean
from fadeout.registry import lookup


class Layer(NamedTuple):
    """What one weight layer shows at one step, before the step's update.

    The readout has no activation function: there `activation` and `slope` are None.

    Attributes:
      kernel, kernel_gradient, kernel_update: [in, out].
      bias_gradient: [out].
      delta: dL/dz of each example's share of the loss, [example, out].
      activation, slope: phi(z) and phi'(z), [example, out].
      steepest_slope: the largest |phi'|, a scalar.
    """

    kernel: jax.Array
    kernel_gradient: jax.Array
    kernel_update: jax.Array
    bias_gradient: jax.Array
    delta: jax.Array
    activation: jax.Array = None
    slope: jax.Array = None
    steepest_slope: jax.Array = None


def norm(x: jax.Array) -> jax.Array:
    """The Euclidean norm, which underflows only where its true value does.

    The largest magnitude is scaled to 1 before squaring: sigmoid at depth 50 in float32 has
    delta near 1e-32, whose squares are all exactly 0.

    >>> print(norm(jnp.array([3e-30, 4e-30])))
    5e-30
    """
    tiny = jnp.finfo(x.dtype).tiny
    scale = 1 / jnp.clip(fold(jnp.maximum, jnp.abs(x)), tiny, 1 / tiny)
    return jnp.sqrt(fold(jnp.add, jnp.square(x * scale))) / scale


def share(flags: jax.Array, of: jax.Array) -> jax.Array:
    """The share of true flags, each about one element of `of`; NaN where one is not finite."""
    return mean(flags + 0 * of, of.ndim)


def every(flags: jax.Array) -> jax.Array:
    """Whether all of a unit's flags are true, [out]."""
    return fold(jnp.logical_and, flags, 1)


def gradient_norm(layer: Layer) -> jax.Array:
    """||dL/dW||, the Frobenius norm of the weight gradient."""
    return norm(layer.kernel_gradient)


def bias_gradient_norm(layer: Layer) -> jax.Array:
    """||dL/db||."""
    return norm(layer.bias_gradient)


def delta_norm(layer: Layer) -> jax.Array:
    """||dL/dz||, the backpropagated signal, over all examples and units of the layer.

    This, not the weight gradient, is what vanishes: weight-gradient norms can stay level while
    delta shrinks, because the activations that multiply it grow (Glorot & Bengio 2010, fig. 8).
    """
    return norm(layer.delta)


def weight_norm(layer: Layer) -> jax.Array:
    """||W||."""
    return norm(layer.kernel)


def update_ratio(layer: Layer) -> jax.Array:
    """||step of W|| / ||W||; about 1e-3 is often called healthy."""
    return norm(layer.kernel_update) / norm(layer.kernel)


def one_sided(layer: Layer) -> jax.Array:
    """Share of units whose incoming weight gradients all have one sign and are not all 0."""
    gradient = layer.kernel_gradient
    same = every(gradient >= 0) | every(gradient <= 0)
    return share(same & ~every(gradient == 0), fold(jnp.add, gradient, 1))


def activation_mean(layer: Layer) -> jax.Array:
    """Mean of phi(z) over examples and units."""
    return mean(layer.activation, 2)


def activation_std(layer: Layer) -> jax.Array:
    """Standard deviation of phi(z) over examples and units."""
    return jnp.sqrt(mean(jnp.square(layer.activation - activation_mean(layer)), 2))


def saturation(layer: Layer) -> jax.Array:
    """Share of (example, unit) pairs where |phi'(z)| is at most 5 % of its largest value."""
    flat = jnp.abs(layer.slope) <= 0.05 * layer.steepest_slope
    return share(flat, layer.activation)


def dead_units(layer: Layer) -> jax.Array:
    """Share of units where phi'(z) = 0 on every example: no gradient reaches their weights."""
    return share(every(layer.slope == 0), fold(jnp.add, layer.activation, 1))


class Probe(NamedTuple):
    """Attributes:
    function: of a `Layer`, giving a scalar.
    title: what it is, for an axis.
    readout: whether the readout has it too, or only layers with an activation function.
    """

    function: Callable[[Layer], jax.Array]
    title: str
    readout: bool


PROBES: dict[str, Probe] = {
    "gradient_norm": Probe(gradient_norm, "norm of the weight gradient", True),
    "bias_gradient_norm": Probe(bias_gradient_norm, "norm of the bias gradient", True),
    "delta_norm": Probe(delta_norm, "norm of the backpropagated signal delta = dL/dz", True),
    "activation_mean": Probe(activation_mean, "mean activation", False),
    "activation_std": Probe(activation_std, "standard deviation of the activations", False),
    "saturation": Probe(saturation, "share of saturated units", False),
    "dead_units": Probe(dead_units, "share of dead units", False),
    "weight_norm": Probe(weight_norm, "norm of the weights", True),
    "update_ratio": Probe(update_ratio, "norm of the update over norm of the weights", True),
    "one_sided": Probe(one_sided, "share of units with one-signed weight gradients", True),
}


def get_probe(name: str) -> Probe:
    """The probe of this name.

    Raises:
      FadeoutError: unknown name.
    """
    return lookup(PROBES, name, "probe")
