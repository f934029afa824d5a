"""What is measured: one small pure function of a layer of one network at one step, per quantity.

To add a probe, write a function of a `Layer`, or of all layers where it needs them at once, put it
in `PROBES`, and name it in a config.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fadeout.networks.activations import FLAT
from fadeout.networks.lanes import contract, fold, mean, scan
from fadeout.networks.norms import average, direction, norm, root_mean_square, scaled
from fadeout.registry import lookup

HIGHEST = jax.lax.Precision.HIGHEST


class Layer(NamedTuple):
    """What one weight layer shows at one step, before the step's update.

    The readout has no activation function: there `activation` and `slope` are None.

    Attributes:
      kernel, kernel_gradient, kernel_update: [in, out].
      bias_gradient: [out].
      delta: dL/dz of each example's share of the loss, [example, out].
      below: the activations that it weighs, or the task's inputs, [example, in].
      path: of its kernel since the start.
      activation, slope: phi(z) and phi'(z), [example, out].
      steepest_slope: the largest |phi'|, a scalar.
    """

    kernel: jax.Array
    kernel_gradient: jax.Array
    kernel_update: jax.Array
    bias_gradient: jax.Array
    delta: jax.Array
    below: jax.Array
    path: "Path" = None  # type: ignore[assignment]
    activation: jax.Array = None
    slope: jax.Array = None
    steepest_slope: jax.Array = None


class Path(NamedTuple):
    """The way that a kernel has gone, kept only where a probe asks for it.

    Attributes:
      start, last_update: [in, out]; before the first step, the last update is 0.
      length: summed norms of all updates, a scalar.
    """

    start: jax.Array
    last_update: jax.Array
    length: jax.Array


class Layers(NamedTuple):
    """All layers of a network, bottom to top; the `hidden` ones but the first are stacked.

    Attributes:
      present: how many of the stack are there, if not all; a probe need not care for the others.
    """

    first: Layer
    hidden: Layer
    readout: Layer
    present: jax.Array | int | None = None

    def scan(self, function: Callable, carry, reverse: bool = False):
        """`lax.scan` over the layers of the stack that are there; of the others it gives 0."""
        places = self.hidden.kernel.shape[0]
        count = places if self.present is None else self.present
        return scan(function, carry, self.hidden, count, reverse)


def nothing(x: jax.Array) -> jax.Array:
    """Per unit 0, or NaN where one of its elements is not finite, [out]."""
    return fold(jnp.add, x, 1, lambda x: 0 * x)


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
    return share(same & ~every(gradient == 0), nothing(gradient))


def activation_mean(layer: Layer) -> jax.Array:
    """Mean of phi(z) over examples and units."""
    return average(layer.activation)


def activation_std(layer: Layer) -> jax.Array:
    """Standard deviation of phi(z) over examples and units."""
    return root_mean_square(layer.activation - average(layer.activation))


def saturation(layer: Layer) -> jax.Array:
    """Share of (example, unit) pairs where |phi'(z)| is at most 5 % of its largest value."""
    flat = jnp.abs(layer.slope) <= FLAT * layer.steepest_slope
    return share(flat, layer.activation)


def dead_units(layer: Layer) -> jax.Array:
    """Share of units where phi'(z) = 0 on every example: no gradient reaches their weights."""
    return share(every(layer.slope == 0), nothing(layer.activation))


def example_correlation(layer: Layer) -> jax.Array:
    """Mean cosine between the activations of two examples, over all pairs that have any."""
    unit = direction(layer.activation, axis=1)
    cosines = contract(unit, unit.T)
    pairs = jnp.triu(jnp.isfinite(cosines), k=1)
    return jnp.sum(jnp.where(pairs, cosines, 0)) / jnp.sum(pairs)


def effective_rank(layer: Layer) -> jax.Array:
    """exp of the entropy of the normalised singular values of the activations [example, out].

    Reference: Roy & Vetterli 2007.
    """
    values = jnp.linalg.svd(scaled(layer.activation)[0], compute_uv=False)
    shares = values / jnp.sum(values)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))


def update_cosine(layer: Layer) -> jax.Array:
    """Cosine between this step's update and the last; -1 is a zig-zag. NaN at step 0."""
    return jnp.sum(direction(layer.kernel_update) * direction(layer.path.last_update))


def path_length(layer: Layer) -> jax.Array:
    """Summed norms of all updates so far: the way that the kernel has gone."""
    return layer.path.length


def displacement(layer: Layer) -> jax.Array:
    """||W - W at the start||, which a straight path makes as long as `path_length`."""
    return norm(layer.kernel - layer.path.start)


# --- of all layers at once


def scan_up(function: Callable, start, layers: Layers) -> jax.Array:
    """[depth]: what `function(carry, layer)` gives of each hidden layer but the first, from the
    first up; `start` is the carry and the value of the first."""
    carry, first = start
    _, others = layers.scan(function, carry)
    return jnp.concatenate([first[None], others])


def jacobians(statistic: Callable, layers: Layers) -> jax.Array:
    """A statistic of dz/dz_1 of each hidden layer, [depth]; its mean over examples.

    Args:
      statistic: of a Jacobian [out, in] whose largest element is between 1/2 and 1, and the
        exponent of 2 that it lacks, so that only a true size can under- or overflow.
    """

    def summary(jacobian, exponent):
        return average(jax.vmap(statistic)(jacobian, exponent))

    def up(carry, layer):
        slope_below, jacobian, exponent = carry
        sloped, one = jax.vmap(scaled)(slope_below[:, :, None] * jacobian)
        kernel, two = scaled(layer.kernel)
        grown, three = jax.vmap(scaled)(jnp.matmul(kernel.T, sloped, precision=HIGHEST))
        exponent = exponent + one + two + three
        return (layer.slope, grown, exponent), summary(grown, exponent)

    examples, width = layers.first.slope.shape
    same = jnp.broadcast_to(jnp.eye(width, dtype=layers.first.slope.dtype) / 2,
                            (examples, width, width))  # fmt: skip
    exponent = jnp.ones(examples, jnp.int32)
    start = (layers.first.slope, same, exponent), summary(same, exponent)
    return scan_up(up, start, layers)


def jacobian_gain(layers: Layers) -> jax.Array:
    """Root mean squared singular value of dz/dz_1: how a small change at layer 1 has grown."""

    def gain(jacobian, exponent):
        return jnp.ldexp(norm(jacobian) / math.sqrt(jacobian.shape[0]), exponent)

    return jacobians(gain, layers)


def jacobian_spread(layers: Layers) -> jax.Array:
    """Var(s^2) / (E s^2)^2 over the singular values s of dz/dz_1; 0 is an isometry, and NaN the
    spread of nothing, where dz/dz_1 is 0.

    Reference: Pennington, Schoenholz & Ganguli 2017, eq. 22.
    """

    def spread(jacobian, _):
        unit = direction(jacobian)
        gram = jnp.matmul(unit.T, unit, precision=HIGHEST)
        return jacobian.shape[0] * jnp.sum(jnp.square(gram)) - 1

    return jacobians(spread, layers)


def jacobian_largest(layers: Layers) -> jax.Array:
    """Largest singular value of dz/dz_1."""
    return jacobians(lambda j, e: jnp.ldexp(jnp.linalg.svd(j, compute_uv=False)[0], e), layers)


def jacobian_smallest(layers: Layers) -> jax.Array:
    """Smallest singular value of dz/dz_1."""
    return jacobians(lambda j, e: jnp.ldexp(jnp.linalg.svd(j, compute_uv=False)[-1], e), layers)


def layer_gain(layer: Layer) -> jax.Array:
    """Root mean squared singular value of the layer's own Jacobian dh/dh_below = phi'(z) W."""
    (slope, one), (kernel, two) = scaled(layer.slope), scaled(layer.kernel)
    squares = mean(jnp.square(slope), 1) * fold(jnp.add, jnp.square(kernel), 1)
    return jnp.ldexp(jnp.sqrt(fold(jnp.add, squares) / min(kernel.shape)), one + two)


def layer_largest(layer: Layer) -> jax.Array:
    """Largest singular value of the layer's own Jacobian, its mean over examples."""
    jacobian = layer.kernel * layer.slope[:, None]
    return average(jnp.linalg.svd(jacobian, compute_uv=False)[:, 0])


def tangent_kernels(layers: Layers) -> tuple[jax.Array, jax.Array]:
    """The empirical neural tangent kernel between examples, of all parameters up to each weight
    layer, [depth + 1, example, example], and the exponents of 2 that it lacks, [depth + 1].

    Reference: Jacot, Gabriel & Hongler 2018.

    d output / dz goes down by the kernels and slopes; a layer's share of the kernel is its Gram
    matrix times that of the activations below plus 1 for the bias. All are scaled, so that only
    the kernel's true size can under- or overflow.
    """

    def gram(x):
        return jnp.matmul(x, x.T, precision=HIGHEST)

    def share_of(gradient, exponent, below):
        below, more = scaled(below)
        top = 2 * (exponent + jnp.maximum(more, 0))
        inside = jnp.ldexp(gram(below), 2 * (exponent + more) - top) + jnp.ldexp(
            jnp.ones((), gradient.dtype), 2 * exponent - top
        )
        # of a share that is nothing no exponent may rule
        return gram(gradient) * inside, jnp.where(jnp.any(gradient != 0), top, -(2**20))

    def down(carry, layer):  # of the output by this layer's activations, [example, out]
        gradient, exponent = carry
        gradient, one = scaled(gradient * layer.slope)
        kernel, two = scaled(layer.kernel)
        below, three = scaled(jnp.matmul(gradient, kernel.T, precision=HIGHEST))
        own = share_of(gradient, exponent + one, layer.below)
        return (below, exponent + one + two + three), own

    first, _, readout, count = layers
    ones = jnp.ones_like(readout.below[:, :1])
    top = share_of(ones, jnp.zeros((), jnp.int32), readout.below)
    start = scaled(jnp.broadcast_to(readout.kernel[:, 0], readout.below.shape))
    carry, (shares, exponents) = layers.scan(down, start, reverse=True)
    if count is not None:
        exponents = jnp.where(jnp.arange(exponents.size) < count, exponents, -(2**20))
    others = shares, exponents
    _, bottom = down(carry, first)
    shares, exponents = (
        jnp.concatenate([low[None], middle, high[None]])
        for low, middle, high in zip(bottom, others, top, strict=True)
    )
    largest = jax.lax.cummax(exponents)
    weights = jnp.tril(jnp.ldexp(jnp.ones((), shares.dtype), exponents[None] - largest[:, None]))
    return jnp.einsum("lk,kij->lij", weights, shares, precision=HIGHEST), largest


def ntk_largest(layers: Layers) -> jax.Array:
    """Largest eigenvalue of the neural tangent kernel of all parameters up to each layer."""
    kernels, exponents = tangent_kernels(layers)
    return jnp.ldexp(jnp.linalg.eigvalsh(kernels)[:, -1], exponents)


def ntk_smallest(layers: Layers) -> jax.Array:
    """Smallest eigenvalue of that kernel: the slowest way to learn under gradient flow."""
    kernels, exponents = tangent_kernels(layers)
    return jnp.ldexp(jnp.linalg.eigvalsh(kernels)[:, 0], exponents)


class Probe(NamedTuple):
    """Attributes:
    function: of a `Layer`, giving a scalar; or of `Layers`, giving one a layer.
    title: what it is, for an axis.
    readout: whether the readout has it too, or only layers with an activation function.
    whole: whether it is a function of all layers.
    path: whether it needs the kernels' `Path`, which then is kept at every step.
    lapack: whether it computes singular values or eigenvalues.
    """

    function: Callable[..., jax.Array]
    title: str
    readout: bool
    whole: bool = False
    path: bool = False
    lapack: bool = False


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
    # not among the defaults: the config says what each costs
    "example_correlation": Probe(example_correlation, "cosine between two examples", False),
    "effective_rank": Probe(
        effective_rank, "effective rank of the activations", False, lapack=True
    ),
    "layer_gain": Probe(layer_gain, "rms singular value of the layer's Jacobian", False),
    "layer_largest": Probe(
        layer_largest, "largest singular value of the layer's Jacobian", False, lapack=True
    ),
    "jacobian_gain": Probe(jacobian_gain, "rms singular value of dz/dz_1", False, whole=True),
    "jacobian_spread": Probe(jacobian_spread, "Var(s^2) / (E s^2)^2 of dz/dz_1", False, whole=True),
    "jacobian_largest": Probe(
        jacobian_largest, "largest singular value of dz/dz_1", False, whole=True, lapack=True
    ),
    "jacobian_smallest": Probe(
        jacobian_smallest, "smallest singular value of dz/dz_1", False, whole=True, lapack=True
    ),
    "ntk_largest": Probe(
        ntk_largest, "largest eigenvalue of the NTK up to here", True, whole=True, lapack=True
    ),
    "ntk_smallest": Probe(
        ntk_smallest, "smallest eigenvalue of the NTK up to here", True, whole=True, lapack=True
    ),
    "update_cosine": Probe(update_cosine, "cosine between successive updates", True, path=True),
    "path_length": Probe(path_length, "length of the kernel's path", True, path=True),
    "displacement": Probe(displacement, "distance of the kernel from its start", True, path=True),
}


def get_probe(name: str) -> Probe:
    """The probe of this name.

    Raises:
      FadeoutError: unknown name.
    """
    return lookup(PROBES, name, "probe")
