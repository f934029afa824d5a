"""Sizes of arrays that under- and overflow only where their true values do."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from fadeout.networks.lanes import UNROLL, fold, mean


def norm(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The Euclidean norm, which underflows only where its true value does.

    Sigmoid at depth 50 in float32 has delta near 1e-32, whose squares are all exactly 0. The first
    pass scales by a constant, and is right for norms from about 1e-23 to 8e9 (in float32) and for
    0; a second, in which the largest magnitude is 1, is made if one lane of the block needs it.
    Elements below the smallest normal number count as 0.

    >>> print(norm(jnp.array([3e-30, 4e-30])))
    5e-30
    """
    return norm_over(x.ndim, 0)(x)


def root_mean_square(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The norm over the root of the number of elements, which overflows only where it does itself.

    >>> print(root_mean_square(jnp.array([2e38, 2e38, 2e38, 2e38])))
    2e+38
    """
    return norm_over(x.ndim, 0, of_mean=True)(x)


@functools.cache
def norm_over(axes: int, mapped: int, of_mean: bool = False) -> Callable:
    """The norm over so many axes of an array, those before them `mapped`; `of_mean`, of the mean
    square instead of the sum.

    What `vmap` maps over is moved to the end, where lanes belong; but of an array too long to be
    unrolled it stays first, because XLA is quicker to sum whole rows.
    """
    one_pass, two_pass = (
        nested(functools.partial(function, axes=axes, of_mean=of_mean), mapped)
        for function in (one_pass_norm, two_pass_norm)
    )

    @jax.custom_batching.custom_vmap
    def call(x):
        first, missed = one_pass(x)

        def mended():  # the others keep theirs: no run depends on its neighbours
            return jnp.where(missed, two_pass(x), first)

        return lax.cond(jnp.any(missed), mended, lambda: first)

    @call.def_vmap
    def rule(size, in_batched, x):
        first = mapped + 1
        if mapped or max(x.shape[first : first + axes], default=0) > UNROLL:
            return norm_over(axes, first, of_mean)(x), True
        return jnp.moveaxis(call(jnp.moveaxis(x, 0, -1)), -1, 0), True

    return call


def nested(function: Callable, depth: int) -> Callable:
    """A function under so many `vmap`s."""
    return function if depth == 0 else jax.vmap(nested(function, depth - 1))


def one_pass_norm(
    x: Float[Array, "..."], axes: int, of_mean: bool
) -> tuple[Float[Array, "*lane"], Bool[Array, "*lane"]]:
    """The norm, and whether a square that counts was lost of it: what is not 0 has a square that
    is not, so that only true zeros sum to 0."""
    info = jnp.finfo(x.dtype)
    up, floor = 2.0 ** (-info.minexp // 4), 2.0 ** (info.minexp // 2)

    def square(x):  # without the maximum, XLA may square x first and scale it too late
        return jnp.where(x == 0, 0, jnp.square(jnp.maximum(up * jnp.abs(x), floor)))

    norm, count = jnp.sqrt(fold(jnp.add, x, axes, square)), math.prod(x.shape[:axes])
    least = math.sqrt(count * info.tiny / info.eps)
    missed = ((norm > 0) & (norm < least)) | (norm == jnp.inf)
    return norm / (up * math.sqrt(count) if of_mean else up), missed


def two_pass_norm(x: Float[Array, "..."], axes: int, of_mean: bool) -> Float[Array, "..."]:
    """Rarely needed, and so not unrolled: it runs longer and compiles sooner."""
    tiny, count = jnp.finfo(x.dtype).tiny, math.prod(x.shape[:axes])
    all_axes = tuple(range(axes))
    size = jnp.max(jnp.abs(x), axis=all_axes)
    size = jnp.where(size == 0, 1, size)  # XLA would square 1 / tiny where it knows that x is 0
    scale = 1 / jnp.clip(size, tiny, 1 / tiny)
    norm = jnp.sqrt(jnp.sum(jnp.square(x * scale), axis=all_axes))
    return (norm / math.sqrt(count) if of_mean else norm) / scale


def average(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The mean of all elements, also where their sum overflows."""
    plain = mean(x, x.ndim)
    return jnp.where(jnp.isfinite(plain), plain, fold(jnp.add, x, x.ndim, lambda x_: x_ / x.size))


def scaled(
    x: Float[Array, "*size"], axis: int | None = None
) -> tuple[Float[Array, "*size"], Int[Array, "..."]]:
    """x over a power of two, so that its largest element (along an axis: each largest) lies between
    1/2 and 1, and the exponent: products of such have room, and `jnp.ldexp` gives the size back,
    or inf."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(x), axis=axis, keepdims=axis is not None))
    return jnp.ldexp(x, -exponent), exponent


def direction(x: Float[Array, "*size"], axis: int | None = None) -> Float[Array, "*size"]:
    """x over its norm; NaN where x is 0. Of a size that no square can lose."""
    x, _ = scaled(x, axis)
    return x / jnp.sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=True))
