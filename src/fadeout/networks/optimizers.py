"""Optimisers and learning-rate schedules by name."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from fadeout.networks.jaxprs import mixing_primitive, trace
from fadeout.networks.norms import norm
from fadeout.registry import (
    Between,
    DecayRate,
    FadeoutError,
    NotNegative,
    function_name,
    is_builtin,
    lookup,
    new_table,
    user_errors,
)

apply_updates = optax.apply_updates


def _check_optimizer(function: Callable) -> None:
    """Refuses what is no optimiser.

    Raises:
      FadeoutError: it gives no `optax.GradientTransformation`, or one that JAX cannot trace, or
        whose updates are not shaped as the parameters.
    """
    what = f"optimizer {function_name(function)}"
    parameters = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}

    def once(rate):
        made = function(rate)
        return made.update(parameters, made.init(parameters), parameters)[0]

    with user_errors(what):
        found = jax.eval_shape(once, jnp.float32(0.1))
    if jax.tree.map(jnp.shape, found) != jax.tree.map(jnp.shape, parameters):
        raise FadeoutError(f"{what} must give updates shaped as the parameters")


OPTIMIZERS = new_table(
    "optimizer", "learning_rate", check=_check_optimizer,
    reserved=("readout_factor", "schedule", "warmup_steps", "clip"),
)  # fmt: skip


def optimizer(function: Callable) -> Callable:
    """Registers an optimiser under its own name.

    Args:
      function: takes a learning rate, which is traced, and gives an `optax.GradientTransformation`.
        Its keyword-only hyperparameters, all with defaults, become keys of `optimizer`.

    Returns:
      The function as it was.

    Raises:
      FadeoutError: its name is taken, or its updates are not shaped as the parameters.

    >>> @optimizer
    ... def signed(learning_rate, *, decay: float = 0.0):
    ...     return optax.chain(optax.scale_by_sign(), optax.scale(-learning_rate))
    >>> "signed" in OPTIMIZERS
    True
    >>> del OPTIMIZERS["signed"]
    """
    return OPTIMIZERS.add(function)


@lru_cache(maxsize=64)
def is_elementwise(function: Callable) -> bool:
    """Returns whether an optimiser of the package updates each element on its own, so that layers
    can be updated one after another.

    A user's optimiser is never taken as elementwise: it may treat large arrays in another way.
    """
    return is_builtin(function) and updates_elementwise(function(0.1))


def updates_elementwise(transformation: optax.GradientTransformation) -> bool:
    """Returns whether the update of an element depends on that element and its gradient alone.

    It is read from the traced update of a small kernel.

    >>> updates_elementwise(optax.adam(0.1)), updates_elementwise(optax.lamb(0.1))
    (True, False)
    """
    kernel = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    leaves, structure = jax.tree.flatten(jax.eval_shape(transformation.init, kernel))
    if not {leaf.shape for leaf in leaves} <= {(), kernel.shape}:
        return False
    moments = [i for i, leaf in enumerate(leaves) if leaf.shape == kernel.shape]

    def update(gradient, parameter, *arrays):
        own = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        for i, array in zip(moments, arrays, strict=True):
            own[i] = array
        updates, state = transformation.update(gradient, structure.unflatten(own), parameter)
        return updates, jax.tree.leaves(state)  # scalars too: they may sum over all elements

    arguments = [kernel] * (2 + len(moments))
    return mixing_primitive(trace(update, *arguments), len(arguments)) is None


@optimizer
def sgd(learning_rate):
    """W - rate * dL/dW."""
    return optax.sgd(learning_rate)


@optimizer
def momentum(learning_rate, *, momentum: Annotated[float, Between(0, 1)] = 0.9):
    """Steps along a decaying sum of gradients (Polyak 1964)."""
    return optax.sgd(learning_rate, momentum)


@optimizer
def nesterov(learning_rate, *, momentum: Annotated[float, Between(0, 1)] = 0.9):
    """Momentum whose gradient is taken ahead (Nesterov 1983)."""
    return optax.sgd(learning_rate, momentum, nesterov=True)


@optimizer
def adam(learning_rate, *, b1: DecayRate = 0.9, b2: DecayRate = 0.999, eps: NotNegative = 1e-8):
    """Steps scaled by running moments of the gradient (Kingma & Ba 2015)."""
    return optax.adam(learning_rate, b1, b2, eps)


@optimizer
def adamw(
    learning_rate,
    *,
    b1: DecayRate = 0.9,
    b2: DecayRate = 0.999,
    eps: NotNegative = 1e-8,
    weight_decay: NotNegative = 1e-4,
):
    """Adam, with weights that decay by themselves (Loshchilov & Hutter 2019)."""
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)


@optimizer
def rmsprop(
    learning_rate,
    *,
    decay: DecayRate = 0.9,
    eps: NotNegative = 1e-8,
    eps_in_sqrt: bool = False,
):
    """Steps scaled by the running size of the gradient (Tieleman & Hinton 2012).

    g / (sqrt(v) + eps), v = decay v + (1 - decay) g^2. With `eps_in_sqrt`, as optax has it by
    default, g / sqrt(v + eps): gradients far below 1e-4 then make steps in proportion to
    themselves.
    """
    return optax.rmsprop(learning_rate, decay, eps, eps_in_sqrt=eps_in_sqrt)


@optimizer
def adagrad(
    learning_rate,
    *,
    eps: NotNegative = 1e-10,
    eps_in_sqrt: bool = False,
    initial_accumulator: NotNegative = 0.0,
):
    """Steps scaled by the size of all gradients so far (Duchi 2011).

    g / (sqrt(s) + eps), s the sum of g^2 from `initial_accumulator` on; with `eps_in_sqrt`
    g / sqrt(s + eps). Optax and Keras begin at 0.1, which gradients far below 0.3 never outgrow.
    """
    if eps_in_sqrt:
        return optax.adagrad(learning_rate, initial_accumulator, eps)

    def init(parameters):
        return optax.ScaleByRssState(optax.tree.full_like(parameters, initial_accumulator))

    def update(gradients, state, parameters=None):
        total = jax.tree.map(lambda g, s: s + g**2, gradients, state.sum_of_squares)
        steps = jax.tree.map(
            lambda g, s: jnp.where(s > 0, g / (jnp.sqrt(s) + eps), 0), gradients, total
        )
        return steps, optax.ScaleByRssState(total)

    scaled = optax.GradientTransformation(init, update)
    return optax.chain(scaled, optax.scale_by_learning_rate(learning_rate))


@optimizer
def lion(
    learning_rate, *, b1: DecayRate = 0.9, b2: DecayRate = 0.99, weight_decay: NotNegative = 1e-3
):
    """Steps of one size, by the sign of a momentum (Chen 2023)."""
    return optax.lion(learning_rate, b1, b2, weight_decay=weight_decay)


def _warmup(steps: int, warmup_steps: int) -> optax.Schedule:
    """Linear from 0 over the steps of warmup, then cosine to 0 at the last: optax's, whose joined
    schedules are of float32 whatever the precision."""
    after = optax.cosine_decay_schedule(1.0, max(steps - warmup_steps, 1))

    def schedule(count):
        count = jnp.asarray(count, jnp.result_type(float))
        rising = count / max(warmup_steps, 1)
        return jnp.where(count < warmup_steps, rising, after(count - warmup_steps))

    return schedule


SCHEDULES: dict[str, Callable[[int, int], optax.Schedule]] = {
    "constant": lambda steps, warmup_steps: optax.constant_schedule(1.0),
    "cosine": lambda steps, warmup_steps: optax.cosine_decay_schedule(1.0, max(steps, 1)),
    "warmup": _warmup,
}
"""Factors of the learning rate, of the steps in all and the steps of linear warmup."""


def _clip_by_global_norm(largest: float | Float[Array, ""]) -> optax.GradientTransformation:
    """optax's, whose norm is infinite, and its every step 0, from about 2e19 on in float32: where
    it is wanted most."""

    def update(gradients, state, parameters=None):
        size = norm(jnp.stack([norm(leaf) for leaf in jax.tree.leaves(gradients)]))

        def cut(gradient):
            return jnp.where(size < largest, gradient, gradient / size * largest)

        return jax.tree.map(cut, gradients), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def get_optimizer(
    name: str,
    learning_rate: float,
    schedule: str = "constant",
    warmup_steps: int = 0,
    steps: int = 0,
    clip: float | None = None,
    hyperparameters: Mapping[str, Any] = {},
) -> optax.GradientTransformation:
    """The optax optimiser of this name, with optax's names for its hyperparameters.

    Args:
      learning_rate, hyperparameters: numbers or traced scalars.
      schedule: `constant`, `cosine` (to 0 at the last step), or `warmup` (linear from 0 over
        `warmup_steps`, then cosine).
      clip: the largest norm of the gradient of all parameters together; None cuts nothing.

    Raises:
      FadeoutError: unknown name.
    """
    optimizer = lookup(OPTIMIZERS, name, "optimizer")(learning_rate, **hyperparameters)
    if clip is not None:
        optimizer = optax.chain(_clip_by_global_norm(clip), optimizer)
    factor = lookup(SCHEDULES, schedule, "optimizer.schedule")(steps, warmup_steps)
    if schedule == "constant":
        return optimizer
    return optax.chain(optimizer, optax.scale_by_schedule(factor))
