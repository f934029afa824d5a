"""The largest eigenvalue of a Hessian that is known by its products alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_STEPS = 24
"""Products with the Hessian: of small networks they give the eigenvalue to five digits."""

_HALVINGS = 60


class Curvature(NamedTuple):
    """The Hessian of the loss, of all parameters of several networks side by side.

    Attributes:
      product: of a direction in the parameters, gives H v. All arrays have the run last.
      start: a direction to begin with, random, and 0 where a network has no parameter.
    """

    product: Callable[[Any], Any]
    start: Any


def largest_eigenvalue(curvature: Curvature, steps: int = _STEPS) -> Float[Array, "run"]:
    """The largest eigenvalue, by Lanczos' iteration with full reorthogonalisation.

    >>> H = jnp.diag(jnp.array([1.0, -5.0, 3.0]))
    >>> product = lambda v: [H @ v[0]]
    >>> print(largest_eigenvalue(Curvature(product, [jnp.ones((3, 1))]), steps=3).round(4))
    [3.]
    """
    first = _scaled(curvature.start, 1 / _size(curvature.start))
    runs = jax.tree.leaves(first)[0].shape[-1]
    basis = jax.tree.map(lambda a: jnp.zeros((steps + 1, *a.shape), a.dtype).at[0].set(a), first)
    dtype = jax.tree.leaves(first)[0].dtype

    def step(number, state):
        basis, diagonal, beside = state
        own = jax.tree.map(lambda a: a[number], basis)
        new = curvature.product(own)
        diagonal = diagonal.at[number].set(_dot(own, new))
        for _ in range(2):  # once leaves what rounding has mixed in
            new = _without(basis, new)
        size = _size(new)
        known = size > 1e-6 * jnp.max(jnp.abs(diagonal), axis=0)
        factor = jnp.where(known, 1 / jnp.where(known, size, 1), 0)
        basis = jax.tree.map(lambda a, b: a.at[number + 1].set(b), basis, _scaled(new, factor))
        return basis, diagonal, beside.at[number].set(jnp.where(known, size, 0))

    zeros = jnp.zeros((steps, runs), dtype)
    _, diagonal, beside = lax.fori_loop(0, steps, step, (basis, zeros, zeros))
    reached = jnp.cumprod(jnp.pad(beside[:-1] > 0, ((1, 0), (0, 0)), constant_values=True), axis=0)
    least = jnp.min(jnp.where(reached == 1, diagonal, jnp.inf), axis=0)
    diagonal = jnp.where(reached == 1, diagonal, least)  # what no direction was left for
    return largest_of_tridiagonal(diagonal, beside[:-1])


def largest_of_tridiagonal(
    diagonal: Float[Array, "size run"], beside: Float[Array, "size-1 run"]
) -> Float[Array, "run"]:
    """The largest eigenvalue of symmetric tridiagonal matrices, by bisection: Sturm's sequence
    counts how many are larger than a number."""
    around = jnp.pad(jnp.abs(beside), ((1, 0), (0, 0))) + jnp.pad(jnp.abs(beside), ((0, 1), (0, 0)))
    high = jnp.max(diagonal + around, axis=0)
    low = jnp.max(diagonal, axis=0)
    squares = jnp.pad(jnp.square(beside), ((1, 0), (0, 0)))
    tiny = jnp.finfo(diagonal.dtype).tiny

    def has_larger(x):
        def row(before, own):
            entry, square = own
            pivot = entry - x - square / jnp.where(before == 0, tiny, before)
            return pivot, pivot > 0

        _, positive = lax.scan(row, jnp.ones_like(x), (diagonal, squares))
        return jnp.any(positive, axis=0)

    def halve(_, ends):
        low, high = ends
        middle = low + (high - low) / 2
        larger = has_larger(middle)
        return jnp.where(larger, middle, low), jnp.where(larger, high, middle)

    low, high = lax.fori_loop(0, _HALVINGS, halve, (low, high))
    return low + (high - low) / 2


def _dot(a: Any, b: Any) -> Float[Array, "run"]:
    parts = jax.tree.map(lambda a, b: jnp.sum(a * b, axis=tuple(range(a.ndim - 1))), a, b)
    return sum(jax.tree.leaves(parts))


def _dots(basis: Any, a: Any) -> Float[Array, "size run"]:
    """The products of each of a basis, which comes first, with a vector."""
    parts = jax.tree.map(lambda b, a: jnp.sum(b * a, axis=tuple(range(1, b.ndim - 1))), basis, a)
    return sum(jax.tree.leaves(parts))


def _without(basis: Any, a: Any) -> Any:
    """A vector less its parts along a basis."""
    shares = _dots(basis, a)

    def rest(a: Array, b: Array) -> Array:
        own = shares.reshape(shares.shape[0], *(1,) * (b.ndim - 2), shares.shape[-1])
        return a - jnp.sum(own * b, axis=0)

    return jax.tree.map(rest, a, basis)


def _size(a: Any) -> Float[Array, "run"]:
    return jnp.sqrt(_dot(a, a))


def _scaled(a: Any, factor: Float[Array, "run"]) -> Any:
    return jax.tree.map(lambda x: x * factor, a)
