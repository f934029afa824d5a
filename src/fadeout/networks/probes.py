"""What is measured: one small pure function of a layer of one network at one step, per quantity.

A probe is a function of a `Layer`, or of all layers where it needs them at once. It comes in by
`probe`, in this file or in one of a user's own.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fadeout import config
from fadeout.networks.activations import FLAT
from fadeout.networks.lanes import contract, fold, mean
from fadeout.networks.norms import average, direction, norm, root_mean_square, scaled
from fadeout.networks.remedies import PLAIN, Remedy
from fadeout.networks.stacks import Count, scan
from fadeout.registry import FadeoutError, is_own, lookup, named, table, tried
from fadeout.schema import kinds

HIGHEST = jax.lax.Precision.HIGHEST


class Layer(NamedTuple):
    """What one weight layer shows at one step, before the step's update.

    The readout has no activation function: there `activation` and `slope` are None.

    Attributes:
      delta: dL/dz of each example's share of the loss.
      below: the activations that it weighs, or the task's inputs.
      path: of its kernel since the start.
      activation, slope: phi(z) and phi'(z).
      steepest_slope: the largest |phi'|.
      preactivation: z, where it is normalised; and the `gain` and `shift` of that, where they are
        trained.
      factor: of its residual branch, where that is trained.
    """

    kernel: Float[Array, "fan_in fan_out"]
    kernel_gradient: Float[Array, "fan_in fan_out"]
    kernel_update: Float[Array, "fan_in fan_out"]
    bias_gradient: Float[Array, "fan_out"]
    delta: Float[Array, "example fan_out"]
    below: Float[Array, "example fan_in"]
    path: "Path" = None  # type: ignore[assignment]
    activation: Float[Array, "example fan_out"] = None  # type: ignore[assignment]
    slope: Float[Array, "example fan_out"] = None  # type: ignore[assignment]
    steepest_slope: Float[Array, ""] = None  # type: ignore[assignment]
    preactivation: Float[Array, "example fan_out"] = None  # type: ignore[assignment]
    gain: Float[Array, "fan_out"] = None  # type: ignore[assignment]
    shift: Float[Array, "fan_out"] = None  # type: ignore[assignment]
    factor: Float[Array, ""] = None  # type: ignore[assignment]


class Path(NamedTuple):
    """The way that a kernel has gone, kept only where a probe asks for it.

    Attributes:
      last_update: before the first step it is 0.
      length: summed norms of all updates.
    """

    start: Float[Array, "fan_in fan_out"]
    last_update: Float[Array, "fan_in fan_out"]
    length: Float[Array, ""]


class Layers(NamedTuple):
    """All layers of a network, bottom to top; the `hidden` ones but the first are stacked.

    Attributes:
      present: how many of the stack are there, if not all; a probe need not care for the others.
      remedy: what the network has besides neurons, if anything.
      of_outputs: gives the gradient of each example's output by every parameter: of `first` and
        `readout` [example, parameter], of `hidden` [place, example, parameter]. There only where
        the network has a remedy, by which one example may depend on others.
    """

    first: Layer
    hidden: Layer
    readout: Layer
    present: Count | None = None
    remedy: Remedy | None = None
    of_outputs: Callable[[], tuple[Array, ...]] | None = None

    def scan(self, function: Callable, carry, reverse: bool = False):
        """`lax.scan` over the layers of the stack that are there; of the others it gives 0."""
        count = self.present or Count(self.hidden.kernel.shape[0])

        def there(carry, numbered):
            place, layer = numbered
            new, found = function(carry, layer)
            return jax.tree.map(functools.partial(count.where_there, place), new, carry), found

        numbered = jnp.arange(self.hidden.kernel.shape[0]), self.hidden
        return scan(there, carry, numbered, count.most, reverse)


def nothing(x: Float[Array, "any fan_out"]) -> Float[Array, "fan_out"]:
    """Per unit 0, or NaN where one of its elements is not finite."""
    return fold(jnp.add, x, 1, lambda x: 0 * x)


def share(flags: Bool[Array, "*size"], of: Float[Array, "*size"]) -> Float[Array, ""]:
    """The share of true flags, each about one element of `of`; NaN where one is not finite."""
    return mean(flags + 0 * of, of.ndim)


def every(flags: Bool[Array, "any fan_out"]) -> Bool[Array, "fan_out"]:
    """Whether all of a unit's flags are true."""
    return fold(jnp.logical_and, flags, 1)


class Probe(NamedTuple):
    """Attributes:
    function: of a `Layer`, giving a scalar; or of `Layers`, giving one a layer.
    title: what it is, for an axis.
    readout: whether the readout has it too, or only layers with an activation function.
    whole: whether it is a function of all layers.
    path: whether it needs the kernels' `Path`, which then is kept at every step.
    lapack: whether it computes singular values or eigenvalues.
    """

    function: Callable[..., Array]
    title: str
    readout: bool
    whole: bool = False
    path: bool = False
    lapack: bool = False


PROBES = table("probe", "layer", check=None)


def probe(
    title: str | Callable,
    *,
    readout: bool = False,
    whole: bool = False,
    path: bool = False,
    lapack: bool = False,
) -> Callable[[Callable], Callable]:
    """Takes in a quantity that is recorded in every layer, by the name of its function.

    Args:
      title: what it is, for an axis.
      readout: whether the readout has it too, or only layers with an activation function.
      whole: whether the function is of `Layers`, and gives one number for each; else it is of a
        `Layer`, and gives a scalar.
      path: whether it needs the kernels' `Path`, which then is kept at every step.
      lapack: whether it computes singular values or eigenvalues; that is found out as well.

    Returns:
      A decorator, which gives the function back as it was.

    Raises:
      FadeoutError: its name is taken, or it gives no scalar.

    >>> @probe("largest weight", readout=True)
    ... def largest_weight(layer):
    ...     return fold(jnp.maximum, jnp.abs(layer.kernel))
    >>> PROBES["largest_weight"].title
    'largest weight'
    >>> del PROBES["largest_weight"]
    """

    def door(function: Callable) -> Callable:
        name = named(function)
        if name in {*config.TAKEN, *config.Run().labels(), *kinds(config.Run)}:
            raise FadeoutError(f"results have a {name} already: give the probe another name")
        entry = Probe(function, str(title), readout, whole, path, lapack)
        if not is_own(function):
            entry = looked_at(entry)
        return PROBES.add(function, entry)

    if callable(title):
        raise FadeoutError(f'a probe needs its title for an axis: @fadeout.probe("{named(title)}")')
    return door


def looked_at(entry: Probe) -> Probe:
    """A user's probe, tried once on a small network.

    Raises:
      FadeoutError: it cannot be traced by JAX, or gives no scalar where it should.
    """
    what = f"probe {named(entry.function)}"
    x, w, scalar = jnp.ones((4, 3)), jnp.ones((3, 3)), jnp.ones(())
    layer = Layer(w, w, w, jnp.ones(3), x, x, Path(w, w, scalar), x, x, scalar)
    above = layer._replace(activation=None, slope=None, steepest_slope=None)
    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), layer)
    tries: list[tuple] = [(layer, ())] + [(above, ())] * entry.readout
    if entry.whole:
        tries = [(Layers(layer, stacked, above), (3 + entry.readout,))]
    for given, shape in tries:
        where = " of the readout, which has no activation," if given is above else ""
        with tried(what + where):
            traced = jax.make_jaxpr(entry.function)(given)
        if [aval.shape for aval in traced.out_avals] != [shape]:
            raise FadeoutError(
                f"{what} must give one number of a layer{', [layer] of all' * entry.whole}, not "
                f"{', '.join(str(aval.shape) for aval in traced.out_avals)}"
            )
        if any(word in str(traced) for word in ("svd", "eigh", "eig[", "qr", "cholesky", "lu[")):
            entry = entry._replace(lapack=True)
    return entry


@probe("norm of the weight gradient", readout=True)
def gradient_norm(layer: Layer) -> Float[Array, ""]:
    """||dL/dW||, the Frobenius norm of the weight gradient."""
    return norm(layer.kernel_gradient)


@probe("norm of the bias gradient", readout=True)
def bias_gradient_norm(layer: Layer) -> Float[Array, ""]:
    """||dL/db||."""
    return norm(layer.bias_gradient)


@probe("norm of the backpropagated signal delta = dL/dz", readout=True)
def delta_norm(layer: Layer) -> Float[Array, ""]:
    """||dL/dz||, the backpropagated signal, over all examples and units of the layer.

    This, not the weight gradient, is what vanishes: weight-gradient norms can stay level while
    delta shrinks, because the activations that multiply it grow (Glorot & Bengio 2010, fig. 8).
    """
    return norm(layer.delta)


@probe("mean activation")
def activation_mean(layer: Layer) -> Float[Array, ""]:
    """Mean of phi(z) over examples and units."""
    return average(layer.activation)


@probe("standard deviation of the activations")
def activation_std(layer: Layer) -> Float[Array, ""]:
    """Standard deviation of phi(z) over examples and units."""
    return root_mean_square(layer.activation - average(layer.activation))


@probe("share of saturated units")
def saturation(layer: Layer) -> Float[Array, ""]:
    """Share of (example, unit) pairs where |phi'(z)| is at most 5 % of its largest value."""
    flat = jnp.abs(layer.slope) <= FLAT * layer.steepest_slope
    return share(flat, layer.activation)


@probe("share of dead units")
def dead_units(layer: Layer) -> Float[Array, ""]:
    """Share of units where phi'(z) = 0 on every example: no gradient reaches their weights."""
    return share(every(layer.slope == 0), nothing(layer.activation))


@probe("norm of the weights", readout=True)
def weight_norm(layer: Layer) -> Float[Array, ""]:
    """||W||."""
    return norm(layer.kernel)


@probe("norm of the update over norm of the weights", readout=True)
def update_ratio(layer: Layer) -> Float[Array, ""]:
    """||step of W|| / ||W||; about 1e-3 is often called healthy."""
    return norm(layer.kernel_update) / norm(layer.kernel)


@probe("share of units with one-signed weight gradients", readout=True)
def one_sided(layer: Layer) -> Float[Array, ""]:
    """Share of units whose incoming weight gradients all have one sign and are not all 0."""
    gradient = layer.kernel_gradient
    same = every(gradient >= 0) | every(gradient <= 0)
    return share(same & ~every(gradient == 0), nothing(gradient))


@probe("mean of the weight gradient", readout=True)
def gradient_mean(layer: Layer) -> Float[Array, ""]:
    """Mean of dL/dW over all weights."""
    return average(layer.kernel_gradient)


@probe("standard deviation of the weight gradient", readout=True)
def gradient_std(layer: Layer) -> Float[Array, ""]:
    """Standard deviation of dL/dW over all weights (Glorot & Bengio 2010, fig. 7)."""
    return root_mean_square(layer.kernel_gradient - average(layer.kernel_gradient))


@probe("cosine between two examples")
def example_correlation(layer: Layer) -> Float[Array, ""]:
    """Mean cosine between the activations of two examples, over all pairs that have any."""
    unit = direction(layer.activation, axis=1)
    cosines = contract(unit, unit.T)
    pairs = jnp.triu(jnp.isfinite(cosines), k=1)
    return jnp.sum(jnp.where(pairs, cosines, 0)) / jnp.sum(pairs)


@probe("effective rank of the activations", lapack=True)
def effective_rank(layer: Layer) -> Float[Array, ""]:
    """exp of the entropy of the normalised singular values of the activations [example, out].

    Reference: Roy & Vetterli 2007.
    """
    values = jnp.linalg.svd(scaled(layer.activation)[0], compute_uv=False)
    shares = values / jnp.sum(values)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))


@probe("rms singular value of the layer's Jacobian")
def layer_gain(layer: Layer) -> Float[Array, ""]:
    """Root mean squared singular value of the layer's own Jacobian dh/dh_below = phi'(z) W."""
    (slope, one), (kernel, two) = scaled(layer.slope), scaled(layer.kernel)
    squares = mean(jnp.square(slope), 1) * fold(jnp.add, jnp.square(kernel), 1)
    return jnp.ldexp(jnp.sqrt(fold(jnp.add, squares) / min(kernel.shape)), one + two)


@probe("largest singular value of the layer's Jacobian", lapack=True)
def layer_largest(layer: Layer) -> Float[Array, ""]:
    """Largest singular value of the layer's own Jacobian, its mean over examples."""
    jacobian = layer.kernel * layer.slope[:, None]
    return average(jnp.linalg.svd(jacobian, compute_uv=False)[:, 0])


# --- of all layers at once


def scan_up(function: Callable, start, layers: Layers) -> Float[Array, "depth"]:
    """What `function(carry, layer)` gives of each hidden layer but the first, from the
    first up; `start` is the carry and the value of the first."""
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
        """Of the activations of the layer below, of its preactivations."""
        slope, (z, gain, shift) = below
        if remedy.normalization != "none":
            neuron = layers.first._replace(gain=gain, shift=shift)

            def along(tangent):
                return jax.jvp(lambda z: remedy.normalise(z, neuron), (z,), (tangent,))[1]

            jacobian = jax.vmap(along, 2, 2)(jacobian)
        return slope[:, :, None] * jacobian

    def up(carry, layer):
        below, jacobian, exponent = carry
        sloped, one = jax.vmap(scaled)(through(below, jacobian))
        kernel, two = scaled(layer.kernel)
        grown, three = jax.vmap(scaled)(jnp.matmul(kernel.T, sloped, precision=HIGHEST))
        more = one + two + three
        if remedy.branch is not None:  # besides the branch, the layer below as it is
            top = jnp.maximum(more, 0)
            above = jnp.ldexp(grown, (more - top)[:, None, None]) * remedy.factor(layer)
            grown, more = jax.vmap(scaled)(jnp.ldexp(jacobian, -top[:, None, None]) + above)
            more = more + top
        exponent = exponent + more
        return (part(layer), grown, exponent), summary(grown, exponent)

    examples, width = layers.first.slope.shape
    same = jnp.broadcast_to(jnp.eye(width, dtype=layers.first.slope.dtype) / 2,
                            (examples, width, width))  # fmt: skip
    exponent = jnp.ones(examples, jnp.int32)
    start = (part(layers.first), same, exponent), summary(same, exponent)
    return scan_up(up, start, layers)


@probe("rms singular value of dz/dz_1", whole=True)
def jacobian_gain(layers: Layers) -> Float[Array, "depth"]:
    """Root mean squared singular value of dz/dz_1: how a small change at layer 1 has grown."""

    def gain(jacobian, exponent):
        return jnp.ldexp(norm(jacobian) / math.sqrt(jacobian.shape[0]), exponent)

    return jacobians(gain, layers)


@probe("Var(s^2) / (E s^2)^2 of dz/dz_1", whole=True)
def jacobian_spread(layers: Layers) -> Float[Array, "depth"]:
    """Var(s^2) / (E s^2)^2 over the singular values s of dz/dz_1; 0 is an isometry, and NaN the
    spread of nothing, where dz/dz_1 is 0.

    Reference: Pennington, Schoenholz & Ganguli 2017, eq. 22.
    """

    def spread(jacobian, _):
        unit = direction(jacobian)
        gram = jnp.matmul(unit.T, unit, precision=HIGHEST)
        return jacobian.shape[0] * jnp.sum(jnp.square(gram)) - 1

    return jacobians(spread, layers)


@probe("largest singular value of dz/dz_1", whole=True, lapack=True)
def jacobian_largest(layers: Layers) -> Float[Array, "depth"]:
    """Largest singular value of dz/dz_1."""
    return jacobians(lambda j, e: jnp.ldexp(jnp.linalg.svd(j, compute_uv=False)[0], e), layers)


@probe("smallest singular value of dz/dz_1", whole=True, lapack=True)
def jacobian_smallest(layers: Layers) -> Float[Array, "depth"]:
    """Smallest singular value of dz/dz_1."""
    return jacobians(lambda j, e: jnp.ldexp(jnp.linalg.svd(j, compute_uv=False)[-1], e), layers)


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
        below, more = scaled(below)
        top = 2 * (exponent + jnp.maximum(more, 0))
        inside = jnp.ldexp(gram(below), 2 * (exponent + more) - top) + jnp.ldexp(
            jnp.ones((), gradient.dtype), 2 * exponent - top
        )
        return gram(gradient) * inside, ruling(gradient, top)

    def ruling(gradient, exponent):  # of a share that is nothing no exponent may rule
        return jnp.where(jnp.any(gradient != 0), exponent, -(2**20))

    def share_of_all(gradient):  # [example, parameter]
        gradient, exponent = scaled(gradient)
        return gram(gradient), ruling(gradient, 2 * exponent)

    def down(carry, layer):  # of the output by this layer's activations, [example, out]
        gradient, exponent = carry
        gradient, one = scaled(gradient * layer.slope)
        kernel, two = scaled(layer.kernel)
        below, three = scaled(jnp.matmul(gradient, kernel.T, precision=HIGHEST))
        own = share_of(gradient, exponent + one, layer.below)
        return (below, exponent + one + two + three), own

    if layers.of_outputs is not None:
        first, stack, readout = layers.of_outputs()
        parts = first[None], stack, readout[None]
        shares, exponents = (
            jnp.concatenate(own)
            for own in zip(*(jax.vmap(share_of_all)(part) for part in parts), strict=True)
        )
        return summed(shares, exponents)
    first, _, readout, count = layers[:4]
    ones = jnp.ones_like(readout.below[:, :1])
    top = share_of(ones, jnp.zeros((), jnp.int32), readout.below)
    start = scaled(jnp.broadcast_to(readout.kernel[:, 0], readout.below.shape))
    carry, (shares, exponents) = layers.scan(down, start, reverse=True)
    if count is not None:
        exponents = jnp.where(jnp.arange(exponents.size) < count.each, exponents, -(2**20))
    others = shares, exponents
    _, bottom = down(carry, first)
    shares, exponents = (
        jnp.concatenate([low[None], middle, high[None]])
        for low, middle, high in zip(bottom, others, top, strict=True)
    )
    return summed(shares, exponents)


def summed(
    shares: Float[Array, "layer example example"], exponents: Int[Array, "layer"]
) -> tuple[Float[Array, "layer example example"], Int[Array, "layer"]]:
    """The sums of each layer's share and all those below; each lacks a power of 2."""
    largest = jax.lax.cummax(exponents)
    weights = jnp.tril(jnp.ldexp(jnp.ones((), shares.dtype), exponents[None] - largest[:, None]))
    return jnp.einsum("lk,kij->lij", weights, shares, precision=HIGHEST), largest


@probe("largest eigenvalue of the NTK up to here", readout=True, whole=True, lapack=True)
def ntk_largest(layers: Layers) -> Float[Array, "layer"]:
    """Largest eigenvalue of the neural tangent kernel of all parameters up to each layer."""
    kernels, exponents = tangent_kernels(layers)
    return jnp.ldexp(jnp.linalg.eigvalsh(kernels)[:, -1], exponents)


@probe("smallest eigenvalue of the NTK up to here", readout=True, whole=True, lapack=True)
def ntk_smallest(layers: Layers) -> Float[Array, "layer"]:
    """Smallest eigenvalue of that kernel: the slowest way to learn under gradient flow."""
    kernels, exponents = tangent_kernels(layers)
    return jnp.ldexp(jnp.linalg.eigvalsh(kernels)[:, 0], exponents)


@probe("cosine between successive updates", readout=True, path=True)
def update_cosine(layer: Layer) -> Float[Array, ""]:
    """Cosine between this step's update and the last; -1 is a zig-zag. NaN at step 0."""
    return jnp.sum(direction(layer.kernel_update) * direction(layer.path.last_update))


@probe("length of the kernel's path", readout=True, path=True)
def path_length(layer: Layer) -> Float[Array, ""]:
    """Summed norms of all updates so far: the way that the kernel has gone."""
    return layer.path.length


@probe("distance of the kernel from its start", readout=True, path=True)
def displacement(layer: Layer) -> Float[Array, ""]:
    """||W - W at the start||, which a straight path makes as long as `path_length`."""
    return norm(layer.kernel - layer.path.start)


def get_probe(name: str) -> Probe:
    """The probe of this name.

    Raises:
      FadeoutError: unknown name.
    """
    return lookup(PROBES, name, "probe")
