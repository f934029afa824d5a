"""Sizes of arrays that under- and overflow only where their true values do."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fadeout.networks.lanes import UNROLL, mean_over, reduce_leading


def norm(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The Euclidean norm, which underflows only where its true value does.

    Sigmoid at depth 50 in float32 has delta near 1e-32, whose squares are all exactly 0. In float64
    they are not; and what is float64 itself is scaled first, as is all on accelerators, where it is
    slow or missing. Elements below the smallest normal number may count as 0.

    >>> print(norm(jnp.array([3e-30, 4e-30])))
    5e-30
    """
    return _norm_over(x.ndim, 0)(x)


def root_mean_square(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The norm over the root of the number of elements, which overflows only where it does itself.

    >>> print(root_mean_square(jnp.array([2e38, 2e38, 2e38, 2e38])))
    2e+38
    """
    return _norm_over(x.ndim, 0, of_mean=True)(x)


@functools.cache
def _norm_over(axes: int, mapped: int, of_mean: bool = False) -> Callable:
    """The norm over so many axes of an array, those before them `mapped`; `of_mean`, of the mean
    square instead of the sum.

    What `vmap` maps over is moved to the end, where lanes belong; but of an array too long to be
    unrolled it stays first, because XLA is quicker to sum whole rows.
    """

    @jax.custom_batching.custom_vmap
    def call(x):
        own = _in_double if x.dtype == jnp.float32 and jax.default_backend() == "cpu" else by_scale
        return _nested(functools.partial(own, axes=axes, of_mean=of_mean), mapped)(x)

    @call.def_vmap
    def rule(size, in_batched, x):
        first = mapped + 1
        if mapped or max(x.shape[first : first + axes], default=0) > UNROLL:
            return _norm_over(axes, first, of_mean)(x), True
        return jnp.moveaxis(call(jnp.moveaxis(x, 0, -1)), -1, 0), True

    return call


def _nested(function: Callable, depth: int) -> Callable:
    """A function under so many `vmap`s."""
    return function if depth == 0 else jax.vmap(_nested(function, depth - 1))


def _in_double(x: Float[Array, "..."], axes: int, of_mean: bool) -> Float[Array, "*lane"]:
    """Computes the norm of a float32 array in float64, which has room for its squares."""
    with jax.enable_x64(True):
        return _root_of_sum(x, axes, of_mean, jnp.float64).astype(x.dtype)


def by_scale(x: Float[Array, "..."], axes: int, of_mean: bool) -> Float[Array, "*lane"]:
    """Over a power of two, with which the largest magnitude lies between 1/2 and 1."""
    _, exponent = jnp.frexp(reduce_leading(jnp.maximum, x, axes, jnp.abs))
    return jnp.ldexp(_root_of_sum(jnp.ldexp(x, -exponent), axes, of_mean, x.dtype), exponent)


def _root_of_sum(x: Float[Array, "..."], axes: int, of_mean: bool, dtype) -> Float[Array, "*lane"]:
    squares = reduce_leading(jnp.add, x, axes, lambda x: jnp.square(x.astype(dtype)))
    norm = jnp.sqrt(squares)
    return norm / jnp.asarray(math.sqrt(math.prod(x.shape[:axes])), dtype) if of_mean else norm


def average(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The mean of all elements, also where their sum overflows."""
    plain = mean_over(x, x.ndim)
    return jnp.where(
        jnp.isfinite(plain), plain, reduce_leading(jnp.add, x, x.ndim, lambda x_: x_ / x.size)
    )


def scale_to_one(
    x: Float[Array, "*size"], axis: int | None = None
) -> tuple[Float[Array, "*size"], Int[Array, "..."]]:
    """x over a power of two, so that its largest element (along an axis: each largest) lies between
    1/2 and 1, and the exponent: products of such have room, and `jnp.ldexp` gives the size back,
    or inf."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(x), axis=axis, keepdims=axis is not None))
    return jnp.ldexp(x, -exponent), exponent


def direction(x: Float[Array, "*size"], axis: int | None = None) -> Float[Array, "*size"]:
    """x over its norm; NaN where x is 0. Of a size that no square can lose."""
    x, _ = scale_to_one(x, axis)
    return x / jnp.sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=True))
