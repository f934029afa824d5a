"""What is said to help the gradient through: residual branches, and normalised preactivations.

z_{l+1} = z_l + a (W phi(norm(z_l)) + b), from the second hidden layer on. Written for one network;
as elsewhere the run may be the last axis of every array.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fadeout.networks.layouts import EXAMPLES_FIRST, Layout
from fadeout.registry import lookup

_Sums = Float[Array, "..."]
"""Of a layer's weighted inputs: [example, unit, *run], or in another layout."""

EPSILON = 1e-5
"""Added to every mean square before its root, as libraries do."""


class Normalization(NamedTuple):
    """Scales preactivations to mean square 1.

    Attributes:
      of_each: the mean is taken over the examples of each `unit`, or over the units of each
        `example`.
      centred: whether their mean is subtracted first, so that their variance is 1.
    """

    of_each: str
    centred: bool

    def __call__(self, z: _Sums, layout: Layout = EXAMPLES_FIRST) -> _Sums:
        return self._scaled(z, layout)[0]

    def _mean(self, x: _Sums, layout: Layout) -> _Sums:
        """The mean, kept as an axis of length 1."""
        axis = layout.unit_axis if self.of_each == "example" else layout.example_axis
        if x.ndim == 3 and x.shape[-1] == 1:
            # by a matrix product: XLA computes a sum anew in every consumer that it is fused with,
            # 30 times slower at 32 units and 256 examples
            weights = jnp.full(x.shape[axis], 1 / x.shape[axis], x.dtype)
            found = jnp.tensordot(weights, x[..., 0], (0, axis), precision=lax.Precision.HIGHEST)
            return jnp.expand_dims(found, (axis, 2))
        return jnp.mean(x, axis, keepdims=True)

    def _scaled(self, z: _Sums, layout: Layout) -> tuple[_Sums, _Sums]:
        """Returns z, normalised, and what it was multiplied by."""
        if self.centred:
            z = z - self._mean(z, layout)
        scale = lax.rsqrt(self._mean(jnp.square(z), layout) + EPSILON)
        return z * scale, scale

    def gradient(self, z: _Sums, g: _Sums, layout: Layout) -> tuple[_Sums, _Sums]:
        """Returns dL/dz of dL/d(the normalised z), and the normalised z.

        With y = scale (z - mean): dL/dz = scale (g - mean(g) - y mean(g y)), without the mean of g
        where z is not centred. JAX's own VJP takes up to 30 times as long.
        """
        y, scale = self._scaled(z, layout)
        found = g - y * self._mean(g * y, layout)
        if self.centred:
            found = found - self._mean(g, layout)
        return scale * found, y


NORMALIZATIONS: dict[str, Normalization | None] = {
    "none": None,
    "layer": Normalization("example", centred=True),
    "rms": Normalization("example", centred=False),
    "batch": Normalization("unit", centred=True),
}
"""By its name: Ba 2016 (layer), Zhang & Sennrich 2019 (rms), Ioffe & Szegedy 2015 (batch)."""


class Remedy(NamedTuple):
    """The residual branches and the normalisation of the hidden layers.

    Attributes:
      normalization: of preactivations before the activation, by its name.
      branch: the factor a of every residual branch; None where there are none.
    """

    normalization: str = "none"
    branch: Any = None

    def normalise(self, z: _Sums, dense: Any, layout: Layout = EXAMPLES_FIRST) -> _Sums:
        """Returns the activation's input: z, normalised, with the layer's gain and shift if it has
        them."""
        function = lookup(NORMALIZATIONS, self.normalization, "model.normalization")
        if function is None:
            return z
        z = function(z, layout)
        if dense.gain is None:
            return z
        return layout.per_unit(dense.gain[...]) * z + layout.per_unit(dense.shift[...])

    def normalised_gradient(
        self, z: _Sums | None, g: _Sums, dense: Any, layout: Layout
    ) -> tuple[_Sums, dict[str, Array]]:
        """Returns dL/dz of dL/d(the activation's input); and of the layer's gain and shift, if it
        has them."""
        function = lookup(NORMALIZATIONS, self.normalization, "model.normalization")
        if function is None:
            return g, {}
        if dense.gain is None:
            return function.gradient(z, g, layout)[0], {}
        delta, y = function.gradient(z, layout.per_unit(dense.gain[...]) * g, layout)
        return delta, {"gain": layout.bias_gradient(g * y), "shift": layout.bias_gradient(g)}

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
