"""Optimisers and learning-rate schedules by name. The only room that knows optax."""

from collections.abc import Callable

import optax

from fadeout.registry import lookup

apply_updates = optax.apply_updates


def sgd(learning_rate):
    return optax.sgd(learning_rate)


def momentum(learning_rate, *, momentum=0.9):
    return optax.sgd(learning_rate, momentum)


def nesterov(learning_rate, *, momentum=0.9):
    return optax.sgd(learning_rate, momentum, nesterov=True)


def adam(learning_rate, *, b1=0.9, b2=0.999, eps=1e-8):
    return optax.adam(learning_rate, b1, b2, eps)


def adamw(learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4):
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)


def rmsprop(learning_rate, *, decay=0.9, eps=1e-8):
    return optax.rmsprop(learning_rate, decay, eps)


def adagrad(learning_rate, *, eps=1e-7):
    return optax.adagrad(learning_rate, eps=eps)


def lion(learning_rate, *, b1=0.9, b2=0.99, weight_decay=1e-3):
    return optax.lion(learning_rate, b1, b2, weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    function.__name__: function
    for function in (sgd, momentum, nesterov, adam, adamw, rmsprop, adagrad, lion)
}

ELEMENTWISE = frozenset(OPTIMIZERS.values())
"""Those whose update of a parameter looks at that parameter and its gradient alone, so that the
layers may be updated one after another."""

SCHEDULES: dict[str, Callable[[int, int], optax.Schedule]] = {
    "constant": lambda steps, warmup_steps: optax.constant_schedule(1.0),
    "cosine": lambda steps, warmup_steps: optax.cosine_decay_schedule(1.0, max(steps, 1)),
    "warmup": lambda steps, warmup_steps: optax.warmup_cosine_decay_schedule(
        0.0, 1.0, warmup_steps, max(steps, warmup_steps + 1)
    ),
}
"""Factors of the learning rate, of the steps in all and the steps of linear warmup."""


def get_optimizer(
    name: str,
    learning_rate: float,
    schedule: str = "constant",
    warmup_steps: int = 0,
    steps: int = 0,
    **hyperparameters: float,
) -> optax.GradientTransformation:
    """The optax optimiser of this name, with optax's names for its hyperparameters.

    Args:
      learning_rate, hyperparameters: numbers or traced scalars.
      schedule: `constant`, `cosine` (to 0 at the last step), or `warmup` (linear from 0 over
        `warmup_steps`, then cosine).

    Raises:
      FadeoutError: unknown name.
    """
    optimizer = lookup(OPTIMIZERS, name, "optimizer")(learning_rate, **hyperparameters)
    factor = lookup(SCHEDULES, schedule, "optimizer.schedule")(steps, warmup_steps)
    if schedule == "constant":
        return optimizer
    return optax.chain(optimizer, optax.scale_by_schedule(factor))
