"""What is said to help the gradient through: residual branches, and normalised preactivations.

z_{l+1} = z_l + a (W phi(norm(z_l)) + b), from the second hidden layer on. Written for one network;
as elsewhere the run may be the last axis of every array.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fadeout.networks.lanes import mean_over
from fadeout.registry import lookup

_Sums = Float[Array, "example unit *run"]
"""Of a layer's weighted inputs."""

EPSILON = 1e-5
"""Added to every mean square before its root, as libraries do."""


def _mean_along(x: _Sums, axis: int) -> Float[Array, "..."]:
    """The mean along an axis of an array of one network, which is kept."""
    return jnp.expand_dims(mean_over(jnp.moveaxis(x, axis, 0)), axis)


def _scaled_along(x: _Sums, axis: int) -> _Sums:
    """Scales an array to mean square 1 along an axis."""
    return x * jax.lax.rsqrt(_mean_along(jnp.square(x), axis) + EPSILON)


def layer_norm(z: _Sums) -> _Sums:
    """Over the units of each example: mean 0 and variance 1 (Ba 2016)."""
    return _scaled_along(z - _mean_along(z, 1), 1)


def rms_norm(z: _Sums) -> _Sums:
    """Over the units of each example: mean square 1 (Zhang & Sennrich 2019)."""
    return _scaled_along(z, 1)


def batch_norm(z: _Sums) -> _Sums:
    """Over the examples, of each unit: mean 0 and variance 1 (Ioffe & Szegedy 2015)."""
    return _scaled_along(z - _mean_along(z, 0), 0)


NORMALIZATIONS: dict[str, Callable | None] = {
    "none": None,
    "layer": layer_norm,
    "rms": rms_norm,
    "batch": batch_norm,
}


class Remedy(NamedTuple):
    """The residual branches and the normalisation of the hidden layers.

    Attributes:
      normalization: of preactivations before the activation, by its name.
      branch: the factor a of every residual branch; None where there are none.
    """

    normalization: str = "none"
    branch: Any = None

    def normalise(self, z: _Sums, dense: Any) -> _Sums:
        """Returns the activation's input: z, normalised, with the layer's gain and shift if it has
        them."""
        function = lookup(NORMALIZATIONS, self.normalization, "model.normalization")
        if function is None:
            return z
        z = function(z)
        return z if dense.gain is None else dense.gain[...] * z + dense.shift[...]

    def add_skip(self, below: _Sums | None, sums: _Sums, dense: Any) -> _Sums:
        """z of a layer, of z below and the weighted sums of its own."""
        return sums if self.branch is None else below + self.factor(dense) * sums

    def factor(self, dense: Any) -> Any:
        """Returns the factor of this layer's residual branch."""
        return self.branch if dense.factor is None else dense.factor[...] * self.branch


def residual_factor(residual: Any, scale: str, depth: Any) -> Any:
    """Returns the factor of residual branches, by which a trained one (`zero`) is multiplied."""
    return residual / depth**0.5 if scale == "sqrt_depth" else residual


PLAIN = Remedy()
