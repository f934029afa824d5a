"""Layers stacked along a leading axis, and loops over those of them that are there.

How many there are may be traced, and of each lane its own, so that one program serves many depths
and one block of lanes several.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

LayerIndex: TypeAlias = Int[Array, ""] | int | np.integer
"""A layer's place in a stack, or a number of layers; it may be traced."""

_Places: TypeAlias = Int[Array, "*run"] | int | np.integer
"""Of each lane its own, or of all."""


class LayerCount(NamedTuple):
    """How many layers of a padded stack are active.

    Attributes:
      most: the largest layer count in the block; layer loops run this many iterations.
      by_lane: each lane's own layer count; None where every lane has `most` layers.
    """

    most: LayerIndex
    by_lane: Int[Array, "*run"] | None = None

    @property
    def each(self) -> _Places:
        """The number of layers, one for each lane or one for all."""
        return self.most if self.by_lane is None else self.by_lane

    def where_active(self, place: LayerIndex, new, old):
        """Returns the new value in lanes that have a layer at this position, else the old one."""
        return new if self.by_lane is None else jnp.where(place < self.by_lane, new, old)


def take_at(stack, place: LayerIndex):
    """One entry of every array of a tree. The place must be there: it is not checked, since the
    check would cost as much as what is taken. Of an empty stack, which is traced where a loop takes
    no turn, it is 0."""

    def one(a):
        if a.shape[0] == 0:
            return jnp.zeros(a.shape[1:], a.dtype)
        return lax.dynamic_index_in_dim(a, place, keepdims=False, allow_negative_indices=False)

    return jax.tree.map(one, stack)


def set_at(stack, place: LayerIndex, new):
    """The stack with another entry in this place, which must be there; an empty one stays."""

    def one(a, b):
        if a.shape[0] == 0:
            return a
        return lax.dynamic_update_index_in_dim(a, b, place, 0, allow_negative_indices=False)

    return jax.tree.map(one, stack, new)


def mask_from(stack, count: _Places):
    """Sets a stack to 0 from position `count` on, which may differ between lanes."""

    def there(a):
        return jnp.where(jnp.arange(a.shape[0]).reshape(-1, *(1,) * (a.ndim - 1)) < count, a, 0)

    return jax.tree.map(there, stack)


def scan_active(function: Callable, carry, xs, count: LayerIndex, reverse: bool = False, like=None):
    """`lax.scan` over the first `count` of a stack; of the others it gives 0. The count may be
    traced, and then the loop has no gradient.

    Args:
      like: arrays of the shapes that the function finds; without them it is traced once more.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    if isinstance(count, int) and count == length:
        return lax.scan(function, carry, xs, reverse=reverse)
    if like is None:
        _, like = jax.eval_shape(lambda carry, xs: function(carry, take_at(xs, 0)), carry, xs)
    nothing = jax.tree.map(lambda a: jnp.zeros((length, *a.shape), a.dtype), like)

    def body(number, state):
        carry, found = state
        place = count - 1 - number if reverse else number
        carry, new = function(carry, take_at(xs, place))
        return carry, set_at(found, place, new)

    return lax.fori_loop(0, count, body, (carry, nothing))
