"""How a small change goes through all layers: Jacobians between them, and tangent kernels.

All are scaled on the way, so that only what is true can under- or overflow.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fadeout.networks.layers import Layers
from fadeout.networks.norms import average, scale_to_one
from fadeout.networks.remedies import PLAIN
from fadeout.networks.stacks import mask_from

HIGHEST = jax.lax.Precision.HIGHEST


def _scan_up(function: Callable, start, layers: Layers) -> Float[Array, "depth"]:
    """Stacks `function(carry, layer)` over the hidden layers, from the second up.

    `start` is the carry and the value of the first.
    """
    carry, first = start
    _, others = layers.scan(function, carry)
    return jnp.concatenate([first[None], others])


def jacobians(statistic: Callable, layers: Layers) -> Float[Array, "depth"]:
    """A statistic of dz/dz_1 of each hidden layer; its mean over examples.

    Args:
      statistic: of a Jacobian [out, in] whose largest element is between 1/2 and 1, and the
        exponent of 2 that it lacks, so that only a true size can under- or overflow.
    """

    remedy = layers.remedy or PLAIN

    def summary(jacobian, exponent):
        return average(jax.vmap(statistic)(jacobian, exponent))

    def part(layer):  # what the layer above needs of it
        return layer.slope, (layer.preactivation, layer.gain, layer.shift)

    def through(below, jacobian):
        """Returns the Jacobian of the activations below from that of the preactivations."""
        slope, (z, gain, shift) = below
        if remedy.normalization != "none":
            neuron = layers.first._replace(gain=gain, shift=shift)

            def along(tangent):
                return jax.jvp(lambda z: remedy.normalise(z, neuron), (z,), (tangent,))[1]

            jacobian = jax.vmap(along, 2, 2)(jacobian)
        return slope[:, :, None] * jacobian

    def up(carry, layer):
        below, jacobian, exponent = carry
        sloped, one = jax.vmap(scale_to_one)(through(below, jacobian))
        kernel, two = scale_to_one(layer.kernel)
        grown, three = jax.vmap(scale_to_one)(jnp.matmul(kernel.T, sloped, precision=HIGHEST))
        more = one + two + three
        if remedy.branch is not None:  # besides the branch, the layer below as it is
            top = jnp.maximum(more, 0)
            above = jnp.ldexp(grown, (more - top)[:, None, None]) * remedy.factor(layer)
            grown, more = jax.vmap(scale_to_one)(jnp.ldexp(jacobian, -top[:, None, None]) + above)
            more = more + top
        exponent = exponent + more
        return (part(layer), grown, exponent), summary(grown, exponent)

    examples, width = layers.first.slope.shape
    same = jnp.broadcast_to(jnp.eye(width, dtype=layers.first.slope.dtype) / 2,
                            (examples, width, width))  # fmt: skip
    exponent = jnp.ones(examples, jnp.int32)
    start = (part(layers.first), same, exponent), summary(same, exponent)
    return _scan_up(up, start, layers)


def tangent_kernels(
    layers: Layers,
) -> tuple[Float[Array, "layer example example"], Int[Array, "layer"]]:
    """The empirical neural tangent kernel between examples, of all parameters up to each weight
    layer, the readout among them, and the exponents of 2 that it lacks.

    Reference: Jacot, Gabriel & Hongler 2018.

    d output / dz goes down by the kernels and slopes; a layer's share of the kernel is its Gram
    matrix times that of the activations below plus 1 for the bias. With a remedy, where that does
    not hold, it is the Gram matrix of the gradients of all outputs. All are scaled, so that only
    the kernel's true size can under- or overflow.
    """

    def gram(x):
        return jnp.matmul(x, x.T, precision=HIGHEST)

    def share_of(gradient, exponent, below):
        below, more = scale_to_one(below)
        top = 2 * (exponent + jnp.maximum(more, 0))
        inside = jnp.ldexp(gram(below), 2 * (exponent + more) - top) + jnp.ldexp(
            jnp.ones((), gradient.dtype), 2 * exponent - top
        )
        return gram(gradient) * inside, ruling(gradient, top)

    def ruling(gradient, exponent):
        # an all-zero term gets a very small exponent, so that it never sets the scale
        return jnp.where(jnp.any(gradient != 0), exponent, -(2**20))

    def share_of_all(gradient):  # [example, parameter]
        gradient, exponent = scale_to_one(gradient)
        return gram(gradient), ruling(gradient, 2 * exponent)

    def down(carry, layer):  # of the output by this layer's activations, [example, out]
        gradient, exponent = carry
        gradient, one = scale_to_one(gradient * layer.slope)
        kernel, two = scale_to_one(layer.kernel)
        below, three = scale_to_one(jnp.matmul(gradient, kernel.T, precision=HIGHEST))
        own = share_of(gradient, exponent + one, layer.below)
        return (below, exponent + one + two + three), own

    if layers.output_gradients is not None:
        first, stack, readout = layers.output_gradients()
        parts = first[None], stack, readout[None]
        shares, exponents = (
            jnp.concatenate(own)
            for own in zip(*(jax.vmap(share_of_all)(part) for part in parts), strict=True)
        )
        return _summed(shares, exponents)
    first, _, readout = layers[:3]
    ones = jnp.ones_like(readout.below[:, :1])
    top = share_of(ones, jnp.zeros((), jnp.int32), readout.below)
    start = scale_to_one(jnp.broadcast_to(readout.kernel[:, 0], readout.below.shape))
    carry, (shares, exponents) = layers.scan(down, start, reverse=True)
    exponents = jnp.where(jnp.arange(exponents.size) < layers.layer_count.each, exponents, -(2**20))
    shares = mask_from(shares, layers.layer_count.each)
    others = shares, exponents
    _, bottom = down(carry, first)
    shares, exponents = (
        jnp.concatenate([low[None], middle, high[None]])
        for low, middle, high in zip(bottom, others, top, strict=True)
    )
    return _summed(shares, exponents)


def singular_values(matrix: Float[Array, "rows columns"]) -> Float[Array, "smaller"]:
    """The singular values of one matrix, largest first; under `vmap` of one after another."""
    return _one_by_one(lambda x: jnp.linalg.svd(x, compute_uv=False))(matrix)


def eigenvalues(matrix: Float[Array, "row row"]) -> Float[Array, "row"]:
    """The eigenvalues of one symmetric matrix, in order; under `vmap` of one after another."""
    return _one_by_one(lambda x: jnp.linalg.eigvalsh(x))(matrix)


def _one_by_one(decompose: Callable) -> Callable:
    """Decomposes the matrices of a batch one after another on a CPU. Two batches at once, which XLA
    runs side by side, may wait for each other for good (jax 0.10: each holds threads of the pool
    that the other needs; seen with all probes of Jacobians and tangent kernels of 400 examples)."""
    on_cpu = jax.default_backend() == "cpu"
    return jax.custom_batching.sequential_vmap(decompose) if on_cpu else decompose


def _summed(
    shares: Float[Array, "layer example example"], exponents: Int[Array, "layer"]
) -> tuple[Float[Array, "layer example example"], Int[Array, "layer"]]:
    """The sums of each layer's share and all those below; each lacks a power of 2."""
    largest = jax.lax.cummax(exponents)
    weights = jnp.tril(jnp.ldexp(jnp.ones((), shares.dtype), exponents[None] - largest[:, None]))
    return jnp.einsum("lk,kij->lij", weights, shares, precision=HIGHEST), largest
