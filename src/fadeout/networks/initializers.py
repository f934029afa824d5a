"""Initialisers of a kernel [in, out], each of a key, a shape and a dtype.

The samplers are JAX's own; their truncated normals are corrected to have the variance that their
name promises. Parameters are keyword-only and may be traced. All draw in float32, so that a seed
gives the same network in either precision.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from jax.nn import initializers as library
from jaxtyping import Array, Float

from fadeout.networks.weight_files import read_weights
from fadeout.registry import (
    CONTENTS,
    Between,
    FadeoutError,
    NotNegative,
    function_name,
    is_builtin,
    lookup,
    new_table,
    user_errors,
)

DRAWN = jnp.float32
"""The precision of all draws."""


def _check_initializer(function: Callable) -> None:
    """Refuses what is no initialiser.

    Raises:
      FadeoutError: JAX cannot trace it, or it gives another shape or dtype than asked for.
    """
    what = f"init {function_name(function)}"
    key = jax.eval_shape(lambda: jax.random.key(0))
    for shape in ((3, 5), (5, 1)):
        with user_errors(what):
            drawn = jax.eval_shape(lambda key, shape=shape: function(key, shape, DRAWN), key)
        if getattr(drawn, "shape", None) != shape or drawn.dtype != DRAWN:
            raise FadeoutError(
                f"{what} must give a kernel [in, out] of the shape and dtype that it is given"
            )


INITIALIZERS = new_table(
    "init", "key", "shape", "dtype", reserved=("gain", "bias_variance"), check=_check_initializer
)


def initializer(function: Callable) -> Callable:
    """Registers an initialiser under its own name.

    Args:
      function: takes a JAX key, the shape (fan_in, fan_out) and a dtype, and gives a kernel
        [fan_in, fan_out]. Its keyword-only parameters, all with defaults, become keys of `init`.

    Returns:
      The function as it was.

    Raises:
      FadeoutError: its name is taken, or it gives no kernel of that shape.

    >>> @initializer
    ... def ones(key, shape, dtype, *, scale: float = 1.0):
    ...     return scale * jnp.ones(shape, dtype)
    >>> get_initializer("ones")(None, (1, 2), jnp.float32, scale=3.0).tolist()
    [[3.0, 3.0]]
    >>> del INITIALIZERS["ones"]
    """
    return INITIALIZERS.add(function)


_SCALINGS = {
    "zeros": (0.0, "fixed"),
    "constant": (0.0, "fixed"),
    "lecun": (1.0, "fan_in"),
    "glorot": (1.0, "fan_avg"),
    "he": (2.0, "fan_in"),
    "torch": (1 / 3, "fan_in"),
    "orthogonal": (1.0, "fan_max"),
}
"""The variance of a weight: a scale, and what it is divided by."""


@initializer
def zeros(key, shape, dtype):
    """All 0: every unit of a layer stays the twin of every other."""
    return jnp.zeros(shape, dtype)


@initializer
def constant(key, shape, dtype, *, value: float = 0.1):
    """All `value`."""
    return jnp.full(shape, value)  # in the precision of training: nothing is drawn


@initializer
def normal(key, shape, dtype, *, stddev: NotNegative = 0.01):
    """N(0, stddev^2), whatever the fan-in."""
    return stddev * jax.random.normal(key, shape, dtype)


@initializer
def uniform(key, shape, dtype, *, limit: NotNegative = 0.05):
    """U(-limit, limit), whatever the fan-in."""
    return limit * jax.random.uniform(key, shape, dtype, -1, 1)


@initializer
def lecun_normal(key, shape, dtype):
    """N(0, 1 / fan_in), cut at two deviations (LeCun 1998)."""
    return library.variance_scaling(*_SCALINGS["lecun"], "truncated_normal")(key, shape, dtype)


@initializer
def lecun_uniform(key, shape, dtype):
    """Uniform, of variance 1 / fan_in."""
    return library.variance_scaling(*_SCALINGS["lecun"], "uniform")(key, shape, dtype)


@initializer
def glorot_normal(key, shape, dtype):
    """N(0, 2 / (fan_in + fan_out)), cut at two deviations (Glorot & Bengio 2010)."""
    return library.variance_scaling(*_SCALINGS["glorot"], "truncated_normal")(key, shape, dtype)


@initializer
def glorot_uniform(key, shape, dtype):
    """Uniform, of variance 2 / (fan_in + fan_out)."""
    return library.variance_scaling(*_SCALINGS["glorot"], "uniform")(key, shape, dtype)


@initializer
def he_normal(key, shape, dtype):
    """N(0, 2 / fan_in), cut at two deviations (He 2015)."""
    return library.variance_scaling(*_SCALINGS["he"], "truncated_normal")(key, shape, dtype)


@initializer
def he_uniform(key, shape, dtype):
    """Uniform, of variance 2 / fan_in."""
    return library.variance_scaling(*_SCALINGS["he"], "uniform")(key, shape, dtype)


@initializer
def torch(key, shape, dtype):
    """U(-1, 1) / sqrt(fan_in), the biases too: what PyTorch's Linear does unasked."""
    return jax.random.uniform(key, shape, dtype, -1, 1) / jnp.sqrt(jnp.asarray(shape[0], dtype))


@initializer
def orthogonal(key, shape, dtype):
    """Orthogonal rows or columns (Saxe 2014)."""
    return library.orthogonal()(key, shape, dtype)


@initializer
def mean_field(key, shape, dtype, *, weight_variance: NotNegative = 1.0):
    """N(0, weight_variance / fan_in): sigma_w^2 of Poole 2016 and Schoenholz 2017."""
    deviation = jnp.sqrt(jnp.asarray(weight_variance) / shape[0])
    return deviation * jax.random.normal(key, shape, dtype)


@initializer
def critical_(key, shape, dtype, *, weight_variance: Annotated[float | None, Between(0)] = None):
    """`mean_field` on the activation's edge of chaos, which `training.resolve` solves."""
    return mean_field(key, shape, dtype, weight_variance=weight_variance)


@initializer
def lsuv(key, shape, dtype):
    """Orthogonal; then each layer is scaled until its preactivations on the task's examples have
    variance 1 (`MLP.scaled`). Reference: Mishkin & Matas 2016."""
    return library.orthogonal()(key, shape, dtype)


@initializer
def given(key, shape, dtype, *, npz: str = ""):
    """Weights of a file; until they come, all is 0 (`MLP.with_weights`)."""
    return jnp.zeros(shape, dtype)


CONTENTS[given] = lambda npz, **_: f"{npz} {read_weights(npz).digest}"

_ORTHOGONAL = ("orthogonal", "lsuv")
"""Those that decompose a matrix; a user's may."""

OWN_BIASES = ("torch", "given")
"""Those that have biases of their own."""

FROM_FILE = ("given",)
"""Those that read a file: see `networks.weight_files`."""

FROM_DATA = ("lsuv",)
"""Those that look at the task's examples, through the run's activation."""


def variance_scaling(name: str, **parameters: float) -> tuple[float, str] | None:
    """The variance of a kernel's weights as `jax.nn.initializers.variance_scaling` says it: a scale
    over `fan_in`, `fan_avg`, `fan_max` or, if `fixed`, over nothing. None where the name does not
    tell, as of a user's own.

    >>> variance_scaling("he_normal"), variance_scaling("normal", stddev=0.5)
    ((2.0, 'fan_in'), (0.25, 'fixed'))
    """
    if name in ("mean_field", "critical"):
        known = parameters.get("weight_variance", 1.0 if name == "mean_field" else None)
        return None if known is None else (known, "fan_in")
    if name == "normal":
        return parameters.get("stddev", 0.01) ** 2, "fixed"
    if name == "uniform":
        return parameters.get("limit", 0.05) ** 2 / 3, "fixed"
    return _SCALINGS.get(name.removesuffix("_normal").removesuffix("_uniform"))


def kernel_variance(name: str, fan_in: int, fan_out: int, **parameters: float) -> float | None:
    """The variance of a weight of a kernel [fan_in, fan_out] at gain 1; None where the name does
    not tell.

    >>> kernel_variance("glorot_normal", 2, 8)
    0.2
    """
    known = variance_scaling(name, **parameters)
    if known is None:
        return None
    fans = {"fan_in": fan_in, "fan_avg": (fan_in + fan_out) / 2, "fan_max": max(fan_in, fan_out),
            "fixed": 1}  # fmt: skip
    return known[0] / fans[known[1]]


def decomposes(name: str) -> bool:
    """Returns whether an initialiser may decompose a matrix."""
    return name in _ORTHOGONAL or not is_builtin(INITIALIZERS[name])


def get_initializer(name: str) -> Callable:
    """The initialiser of this name: `(key, shape, dtype, **parameters) -> kernel [in, out]`.

    Raises:
      FadeoutError: unknown name.

    >>> get_initializer("constant")(None, (1, 2), jnp.float32, value=3.0).tolist()
    [[3.0, 3.0]]
    """
    return lookup(INITIALIZERS, name, "init")


def initialize(
    keys, shape, dtype, *, name: str, gain=1.0, bias_variance=0.0, **parameters
) -> tuple[Float[Array, "fan_in fan_out"], Float[Array, "fan_out"]]:
    """Draws one layer's kernel and bias.

    The kernel is `gain` times what the initialiser draws; the bias is N(0, bias_variance), or the
    initialiser's own (`OWN_BIASES`).

    Args:
      keys: of the one and of the other.
    """
    weights, biases = keys
    kernel = get_initializer(name)(weights, shape, DRAWN, **parameters).astype(dtype)
    if name in OWN_BIASES:  # as a row of the kernel
        bias = get_initializer(name)(biases, (shape[0], shape[1]), DRAWN, **parameters)[0]
        return gain * kernel, bias.astype(dtype)
    bias = jax.random.normal(biases, shape[1:], DRAWN).astype(dtype)
    return gain * kernel, jnp.sqrt(jnp.asarray(bias_variance, dtype)) * bias
