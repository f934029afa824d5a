"""The sizes of gradients, parameters and updates, kept in the state of an optax optimiser."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from fadeout.networks.norms import norm
from fadeout.registry import FadeoutError


class MonitorState(NamedTuple):
    """The last look: trees of the parameters' structure, a number for each leaf.

    Attributes:
      count: how often the optimiser was called.
      gradient_norm, parameter_norm, update_norm: at the last look; the parameters before the step.
      not_finite: the call at whose look the gradient was first not finite; -1 where it always was.
      inner: the optimiser's own state.
    """

    count: Int[Array, ""]
    gradient_norm: Any
    parameter_norm: Any
    update_norm: Any
    not_finite: Any
    inner: Any


def monitor(optimizer: Any, every: int = 10) -> optax.GradientTransformationExtraArgs:
    """An optimiser that also keeps the norms of gradients, parameters and updates, leaf by leaf.

    It changes no update, works under `jit`, `scan` and any sharding, and costs three norms a look.
    Norms are of float32 or more, and do not overflow. `optax.tree.get(state, "update_norm")` gives
    a tree of them, wherever in a chain it stands.

    Args:
      optimizer: of optax, a whole chain of transformations too.
      every: a look every so many calls, the first among them.

    Returns:
      A transformation whose state is a `MonitorState`.

    Raises:
      FadeoutError: `every` is no whole number from 1 on, or what is given is no optimiser.

    >>> optimizer = monitor(optax.sgd(0.1), every=2)
    >>> parameters = {"kernel": jnp.array([3.0, 4.0])}
    >>> updates, state = optimizer.update(parameters, optimizer.init(parameters), parameters)
    >>> print(*optax.tree.get(state, "gradient_norm").values())
    5.0
    >>> print(*optax.tree.get(state, "update_norm").values())
    0.5
    """
    if not (callable(getattr(optimizer, "init", None)) and hasattr(optimizer, "update")):
        raise FadeoutError(
            f"monitor takes an optimiser of optax, as in monitor(optax.adam(1e-3)), "
            f"not {optimizer!r:.60}"
        )
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise FadeoutError(f"every must be a whole number of calls from 1 on, not {every!r:.40}")
    own = optax.with_extra_args_support(optimizer)

    def init(parameters):
        unknown = jax.tree.map(lambda leaf: jnp.full((), jnp.nan, _dtype_of(leaf)), parameters)
        never = jax.tree.map(lambda _: jnp.full((), -1, jnp.int32), parameters)
        count = jnp.zeros((), jnp.int32)
        return MonitorState(count, unknown, unknown, unknown, never, own.init(parameters))

    def update(gradients, state, parameters=None, **more):
        updates, inner = own.update(gradients, state.inner, parameters, **more)

        def look() -> MonitorState:
            sizes = jax.tree.map(_size, gradients, state.gradient_norm)
            first = jax.tree.map(
                lambda size, known: jnp.where(
                    (known < 0) & ~jnp.isfinite(size), state.count, known
                ),
                sizes,
                state.not_finite,
            )
            known = parameters is not None
            weights = (
                jax.tree.map(_size, parameters, state.parameter_norm)
                if known
                else state.parameter_norm
            )
            return MonitorState(
                state.count,
                sizes,
                weights,
                jax.tree.map(_size, updates, state.update_norm),
                first,
                inner,
            )

        found = jax.lax.cond(state.count % every == 0, look, lambda: state._replace(inner=inner))
        return updates, found._replace(count=state.count + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _dtype_of(leaf: Any) -> Any:
    """The precision of a norm: of a complex array that of its parts."""
    kind = jnp.result_type(leaf)
    kind = jnp.finfo(kind).dtype if jnp.issubdtype(kind, jnp.inexact) else jnp.float32
    return jnp.promote_types(kind, jnp.float32)


def _size(leaf: Array, like: Array) -> Array:
    """The norm of a leaf, in the precision of another number."""
    size = jnp.abs(leaf) if jnp.iscomplexobj(leaf) else leaf
    return norm(jnp.asarray(size, _dtype_of(leaf))).astype(like.dtype)
