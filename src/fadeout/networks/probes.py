"""What is measured: one small pure function of a layer of one network at one step, per quantity.

A probe is a function of a `Layer`, or of all layers where it needs them at once. It comes in by
`probe`, in this file or in one of a user's own.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fadeout import config
from fadeout.networks.activations import SATURATED_SLOPE
from fadeout.networks.curvature import Curvature, largest_eigenvalue
from fadeout.networks.jacobians import (
    HIGHEST,
    eigenvalues,
    jacobians,
    singular_values,
    tangent_kernels,
)
from fadeout.networks.lanes import matmul, mean_over, reduce_leading
from fadeout.networks.layers import Layer, Layers, Path
from fadeout.networks.norms import average, direction, norm, root_mean_square, scale_to_one
from fadeout.registry import (
    FadeoutError,
    format_value,
    function_name,
    is_builtin,
    lookup,
    new_table,
    user_errors,
)
from fadeout.schema import kinds


def _zero_or_nan(x: Float[Array, "any fan_out"]) -> Float[Array, "fan_out"]:
    """Returns 0 per unit, or NaN where an element is not finite."""
    return reduce_leading(jnp.add, x, 1, lambda x: 0 * x)


def _share_of(flags: Bool[Array, "*size"], of: Float[Array, "*size"]) -> Float[Array, ""]:
    """Returns the share of true flags, or NaN where an element of `of` is not finite."""
    return mean_over(flags + 0 * of, of.ndim)


def _all_of_unit(flags: Bool[Array, "any fan_out"]) -> Bool[Array, "fan_out"]:
    """Returns whether all of a unit's flags are true."""
    return reduce_leading(jnp.logical_and, flags, 1)


class Probe(NamedTuple):
    """A quantity that is recorded in every layer, and all that figures need to know of it.

    Attributes:
      function: of a `Layer`, giving a scalar; or of `Layers`, giving one a layer.
      title: what it is, for an axis.
      readout: whether the readout has it too, or only layers with an activation function.
      whole: whether it is a function of all layers.
      path: whether it needs the kernels' `Path`, which then is kept at every step.
      lapack: whether it computes singular values or eigenvalues.
      gradient: whether it is a size of gradients: infinite where the backward pass overflows, and
        drawn on a logarithmic axis.
      share: whether it is a share, from 0 to 1, drawn in per cent.
      label: a shorter title, for legends; the title unless given.
      symbol: the quantity in matplotlib's mathtext, without dollars.
      curvature: whether it is a function of the network's `Curvature`, and one number for all its
        layers.
    """

    function: Callable[..., Array]
    title: str
    readout: bool
    whole: bool = False
    path: bool = False
    lapack: bool = False
    gradient: bool = False
    share: bool = False
    label: str = ""
    symbol: str = ""
    curvature: bool = False

    @property
    def axis_label(self) -> str:
        """The label of an axis of a figure: in words and in symbols."""
        return f"{self.label}  ${self.symbol}$" if self.symbol else self.label


PROBES = new_table("probe", "layer", check=None)


def probe(
    title: str | Callable,
    *,
    readout: bool = False,
    whole: bool = False,
    path: bool = False,
    lapack: bool = False,
    gradient: bool = False,
    share: bool = False,
    label: str = "",
    symbol: str = "",
) -> Callable[[Callable], Callable]:
    """Registers a quantity that is recorded in every layer, under the name of its function.

    Args:
      title: what it is, for an axis.
      readout: whether the readout has it too, or only layers with an activation function.
      whole: whether the function takes all `Layers` and gives one number for each; else it takes a
        `Layer` and gives a scalar.
      path: whether it needs the kernels' `Path`, which is then updated at every step.
      lapack: whether it computes singular values or eigenvalues; for your own probes this is also
        detected.
      gradient: whether it is a size of gradients: infinite where the backward pass overflows, and
        drawn on a logarithmic axis.
      share: whether it is a share from 0 to 1, which is drawn in per cent.
      label: a shorter title, for legends.
      symbol: the quantity in matplotlib's mathtext, without dollars: `r"\\|W\\|"`.

    Returns:
      A decorator, which gives the function back as it was.

    Raises:
      FadeoutError: its name is taken, or it does not give a scalar.

    >>> @probe("largest weight", readout=True)
    ... def largest_weight(layer):
    ...     return reduce_leading(jnp.maximum, jnp.abs(layer.kernel))
    >>> PROBES["largest_weight"].title
    'largest weight'
    >>> del PROBES["largest_weight"]
    """

    flags = {"readout": readout, "whole": whole, "path": path, "lapack": lapack,
             "gradient": gradient, "share": share}  # fmt: skip
    for key, flag in flags.items():
        if not isinstance(flag, bool):
            raise FadeoutError(f"probe: {key} must be true or false, not {format_value(flag)}")
    for key, word in (("label", label), ("symbol", symbol)):
        if not isinstance(word, str):
            raise FadeoutError(f"probe: {key} must be a text, not {format_value(word)}")

    def decorator(function: Callable) -> Callable:
        name = function_name(function)
        if name in {*config.DATASET_NAMES, *config.Run().labels(), *kinds(config.Run)}:
            raise FadeoutError(f"results have a {name} already: give the probe another name")
        entry = Probe(
            function, str(title), readout, whole, path, lapack, gradient, share,
            str(label or title), str(symbol),
        )  # fmt: skip
        if not is_builtin(function):
            entry = _check_probe(entry)
        return PROBES.add(function, entry)

    if callable(title):
        raise FadeoutError(
            f'a probe needs its title for an axis: @fadeout.probe("{function_name(title)}")'
        )
    return decorator


def _check_probe(entry: Probe) -> Probe:
    """Tries a user's probe once on a small network.

    Raises:
      FadeoutError: it cannot be traced by JAX, or gives no scalar where it should.
    """
    what = f"probe {function_name(entry.function)}"
    x, w, scalar = jnp.ones((4, 3)), jnp.ones((3, 3)), jnp.ones(())
    layer = Layer(w, w, w, jnp.ones(3), x, x, Path(w, w, scalar), x, x, scalar)
    above = layer._replace(activation=None, slope=None, steepest_slope=None)
    stacked = jax.tree.map(lambda a: jnp.stack([a, a]), layer)
    tries: list[tuple] = [(layer, ())] + [(above, ())] * entry.readout
    if entry.whole:
        tries = [(Layers(layer, stacked, above), (3 + entry.readout,))]
    for given, shape in tries:
        where = " of the readout, which has no activation," if given is above else ""
        with user_errors(what + where):
            traced = jax.make_jaxpr(entry.function)(given)
        if [aval.shape for aval in traced.out_avals] != [shape]:
            raise FadeoutError(
                f"{what} must give one number of a layer{', [layer] of all' * entry.whole}, not "
                f"{', '.join(str(aval.shape) for aval in traced.out_avals)}"
            )
        if any(jnp.iscomplexobj(aval) for aval in traced.out_avals):
            raise FadeoutError(f"{what} must give a real number")
        if any(word in str(traced) for word in ("svd", "eigh", "eig[", "qr", "cholesky", "lu[")):
            entry = entry._replace(lapack=True)
    return entry


@probe(
    "norm of the weight gradient", readout=True, gradient=True, label="weight gradient",
    symbol=r"\|\partial L/\partial W\|",
)  # fmt: skip
def gradient_norm(layer: Layer) -> Float[Array, ""]:
    """||dL/dW||, the Frobenius norm of the weight gradient."""
    return norm(layer.kernel_gradient)


@probe("norm of the bias gradient", readout=True, gradient=True)
def bias_gradient_norm(layer: Layer) -> Float[Array, ""]:
    """||dL/db||."""
    return norm(layer.bias_gradient)


@probe(
    "norm of the backpropagated signal delta = dL/dz", readout=True, gradient=True,
    label="backpropagated signal", symbol=r"\|\delta\| = \|\partial L/\partial z\|",
)  # fmt: skip
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


@probe("standard deviation of the activations", label=r"deviation of $\phi(z)$")
def activation_std(layer: Layer) -> Float[Array, ""]:
    """Standard deviation of phi(z) over examples and units."""
    return root_mean_square(layer.activation - average(layer.activation))


@probe("share of saturated units", share=True, label="saturated units")
def saturation(layer: Layer) -> Float[Array, ""]:
    """Share of (example, unit) pairs where |phi'(z)| is at most 5 % of its largest value."""
    flat = jnp.abs(layer.slope) <= SATURATED_SLOPE * layer.steepest_slope
    return _share_of(flat, layer.activation)


@probe("share of dead units", share=True, label="dead units")
def dead_units(layer: Layer) -> Float[Array, ""]:
    """Share of units where phi'(z) = 0 on every example: no gradient reaches their weights."""
    return _share_of(_all_of_unit(layer.slope == 0), _zero_or_nan(layer.activation))


@probe("norm of the weights", readout=True)
def weight_norm(layer: Layer) -> Float[Array, ""]:
    """||W||."""
    return norm(layer.kernel)


@probe("norm of the update over norm of the weights", readout=True)
def update_ratio(layer: Layer) -> Float[Array, ""]:
    """||step of W|| / ||W||; about 1e-3 is often called healthy."""
    return norm(layer.kernel_update) / norm(layer.kernel)


@probe("share of units with one-signed weight gradients", readout=True, share=True)
def one_sided(layer: Layer) -> Float[Array, ""]:
    """Share of units whose incoming weight gradients all have one sign and are not all 0."""
    gradient = layer.kernel_gradient
    same = _all_of_unit(gradient >= 0) | _all_of_unit(gradient <= 0)
    return _share_of(same & ~_all_of_unit(gradient == 0), _zero_or_nan(gradient))


@probe("mean of the weight gradient", readout=True)
def gradient_mean(layer: Layer) -> Float[Array, ""]:
    """Mean of dL/dW over all weights."""
    return average(layer.kernel_gradient)


@probe("standard deviation of the weight gradient", readout=True, gradient=True)
def gradient_std(layer: Layer) -> Float[Array, ""]:
    """Standard deviation of dL/dW over all weights (Glorot & Bengio 2010, fig. 7)."""
    return root_mean_square(layer.kernel_gradient - average(layer.kernel_gradient))


@probe("cosine between two examples")
def example_correlation(layer: Layer) -> Float[Array, ""]:
    """Mean cosine between the activations of two examples, over all pairs that have any."""
    unit = direction(layer.activation, axis=1)
    cosines = matmul(unit, unit.T)
    pairs = jnp.triu(jnp.isfinite(cosines), k=1)
    return jnp.sum(jnp.where(pairs, cosines, 0)) / jnp.sum(pairs)


@probe("effective rank of the activations", lapack=True)
def effective_rank(layer: Layer) -> Float[Array, ""]:
    """exp of the entropy of the normalised singular values of the activations [example, out].

    Reference: Roy & Vetterli 2007.
    """
    values = singular_values(scale_to_one(layer.activation)[0])
    shares = values / jnp.sum(values)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))


@probe("rms singular value of the layer's Jacobian")
def layer_gain(layer: Layer) -> Float[Array, ""]:
    """Root mean squared singular value of the layer's own Jacobian dh/dh_below = phi'(z) W."""
    (slope, one), (kernel, two) = scale_to_one(layer.slope), scale_to_one(layer.kernel)
    squares = mean_over(jnp.square(slope), 1) * reduce_leading(jnp.add, jnp.square(kernel), 1)
    return jnp.ldexp(jnp.sqrt(reduce_leading(jnp.add, squares) / min(kernel.shape)), one + two)


@probe("largest singular value of the layer's Jacobian", lapack=True)
def layer_largest(layer: Layer) -> Float[Array, ""]:
    """Largest singular value of the layer's own Jacobian, its mean over examples."""
    jacobian = layer.kernel * layer.slope[:, None]
    return average(jax.vmap(singular_values)(jacobian)[:, 0])


# --- of all layers at once


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
    return jacobians(lambda j, e: jnp.ldexp(singular_values(j)[0], e), layers)


@probe("smallest singular value of dz/dz_1", whole=True, lapack=True)
def jacobian_smallest(layers: Layers) -> Float[Array, "depth"]:
    """Smallest singular value of dz/dz_1."""
    return jacobians(lambda j, e: jnp.ldexp(singular_values(j)[-1], e), layers)


@probe("largest eigenvalue of the NTK up to here", readout=True, whole=True, lapack=True)
def ntk_largest(layers: Layers) -> Float[Array, "layer"]:
    """Largest eigenvalue of the neural tangent kernel of all parameters up to each layer."""
    kernels, exponents = tangent_kernels(layers)
    return jnp.ldexp(jax.vmap(eigenvalues)(kernels)[:, -1], exponents)


@probe("smallest eigenvalue of the NTK up to here", readout=True, whole=True, lapack=True)
def ntk_smallest(layers: Layers) -> Float[Array, "layer"]:
    """Smallest eigenvalue of that kernel: the slowest way to learn under gradient flow."""
    kernels, exponents = tangent_kernels(layers)
    return jnp.ldexp(jax.vmap(eigenvalues)(kernels)[:, 0], exponents)


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


def sharpness(curvature: Curvature) -> Float[Array, "run"]:
    """Largest eigenvalue of the Hessian of the loss; of the whole network, the same in each layer.

    Gradient descent is stable below 2 / learning rate (Cohen et al. 2021). NaN with a surrogate
    slope, whose backward pass is no gradient of any function.
    """
    return largest_eigenvalue(curvature)


PROBES.add(
    sharpness,
    Probe(sharpness, "sharpness: largest eigenvalue of the Hessian", readout=True, gradient=False,
          label="sharpness", symbol=r"\lambda_1", curvature=True),
)  # fmt: skip


def get_probe(name: str) -> Probe:
    """The probe of this name.

    Raises:
      FadeoutError: unknown name.
    """
    return lookup(PROBES, name, "probe")
