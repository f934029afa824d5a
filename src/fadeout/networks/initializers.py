"""Initialisers of a kernel [in, out], each of a key, a shape and a dtype.

The samplers are JAX's own; their truncated normals are corrected to have the variance that their
name promises. Parameters are keyword-only and may be traced. All draw in float32, so that a seed
gives the same network in either precision.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn import initializers as library

from fadeout.registry import lookup


def zeros(key, shape, dtype):
    """All 0: every unit of a layer stays the twin of every other."""
    return jnp.zeros(shape, dtype)


def constant(key, shape, dtype, *, value=0.1):
    """All `value`."""
    return jnp.full(shape, value, dtype)


def normal(key, shape, dtype, *, stddev=0.01):
    """N(0, stddev^2), whatever the fan-in."""
    return stddev * jax.random.normal(key, shape, dtype)


def uniform(key, shape, dtype, *, limit=0.05):
    """U(-limit, limit), whatever the fan-in."""
    return limit * jax.random.uniform(key, shape, dtype, -1, 1)


def mean_field(key, shape, dtype, *, weight_variance=1.0):
    """N(0, weight_variance / fan_in): sigma_w^2 of Poole 2016 and Schoenholz 2017."""
    deviation = jnp.sqrt(jnp.asarray(weight_variance) / shape[0])
    return deviation * jax.random.normal(key, shape, dtype)


def critical(key, shape, dtype, *, weight_variance=None):
    """`mean_field` on the activation's edge of chaos, which `programs.resolve` solves."""
    return mean_field(key, shape, dtype, weight_variance=weight_variance)


def lsuv(key, shape, dtype):
    """Orthogonal; then each layer is scaled until its preactivations on the task's examples have
    variance 1 (`MLP.scaled`). Reference: Mishkin & Matas 2016."""
    return library.orthogonal()(key, shape, dtype)


INITIALIZERS: dict[str, Callable] = {
    "zeros": zeros,
    "constant": constant,
    "normal": normal,
    "uniform": uniform,
    "lecun_normal": library.lecun_normal(),
    "lecun_uniform": library.lecun_uniform(),
    "glorot_normal": library.glorot_normal(),
    "glorot_uniform": library.glorot_uniform(),
    "he_normal": library.he_normal(),
    "he_uniform": library.he_uniform(),
    "orthogonal": library.orthogonal(),
    "mean_field": mean_field,
    "critical": critical,
    "lsuv": lsuv,
}

ORTHOGONAL = ("orthogonal", "lsuv")
"""Those that decompose a matrix."""

DRAWN = jnp.float32
"""The precision of all draws."""

FROM_DATA = ("lsuv",)
"""Those that look at the task's examples, through the run's activation."""


def get_initializer(name: str) -> Callable:
    """The initialiser of this name: `(key, shape, dtype, **parameters) -> kernel [in, out]`.

    Raises:
      FadeoutError: unknown name.

    >>> get_initializer("constant")(None, (1, 2), jnp.float32, value=3.0).tolist()
    [[3.0, 3.0]]
    """
    return lookup(INITIALIZERS, name, "init")


def initialize(
    key, shape, dtype, *, name: str, gain=1.0, bias_variance=0.0, **parameters
) -> tuple[jax.Array, jax.Array]:
    """Draws one layer's kernel [in, out] and bias [out].

    The kernel is `gain` times what the initialiser draws; the bias is N(0, bias_variance).
    """
    weights, biases = jax.random.split(key)
    kernel = get_initializer(name)(weights, shape, DRAWN, **parameters).astype(dtype)
    bias = jax.random.normal(biases, shape[1:], DRAWN).astype(dtype)
    return gain * kernel, jnp.sqrt(jnp.asarray(bias_variance, dtype)) * bias
