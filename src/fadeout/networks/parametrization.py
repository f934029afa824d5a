"""How initial weights and steps follow from the width, so that a wide network learns as a narrow
one does."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fadeout.networks.initializers import variance_scaling
from fadeout.registry import FadeoutError, function_name


class StepFactors(NamedTuple):
    """The factors of the steps of a network's parts, each of kernels and of biases."""

    first: tuple[float, float]
    hidden: tuple[float, float]
    readout: tuple[float, float]


@lru_cache(maxsize=64)
def step_exponent(optimizer: Callable) -> int:
    """The power of the gradient to which an optimiser's first step is proportional: 1 of SGD and
    its like, 0 of Adam and its like. It is measured.

    Raises:
      FadeoutError: it is neither.

    >>> from fadeout.networks.optimizers import OPTIMIZERS
    >>> step_exponent(OPTIMIZERS["momentum"]), step_exponent(OPTIMIZERS["adam"])
    (1, 0)
    """
    with jax.ensure_compile_time_eval():
        own = optimizer(0.1)
        kernel = jnp.zeros((2, 3))

        def first_step(size: float) -> Any:
            return own.update(jnp.full((2, 3), size), own.init(kernel), kernel)[0]

        ratio = jnp.linalg.norm(first_step(2.0)) / jnp.linalg.norm(first_step(1.0))
    for exponent in (0, 1):
        if abs(float(ratio) - 2.0**exponent) < 0.01:
            return exponent
    raise FadeoutError(
        f"model.parametrization knows optimisers whose step is proportional to the gradient or "
        f"does not depend on its size, and {function_name(optimizer)} is neither"
    )


def step_factors(
    parametrization: str, width: int, base_width: int, exponent: int
) -> StepFactors | None:
    """The factors of a parametrisation, n being width / base_width; None of the standard one.

    mup has (Yang et al. 2022, Tensor Programs V, table 3) for SGD n at the first kernel and at
    hidden biases, 1 at hidden kernels, 1 / n at the readout's; for Adam 1, 1, 1 / n and 1 / n. In
    the ntk parametrisation (Jacot 2018), a kernel is a trained array over the root of its fan-in:
    of SGD its steps are over n, of Adam over the root of n, but for the first.

    Weight decay is a part of the steps, and scaled with them.

    Args:
      exponent: as `step_exponent` gives it.

    >>> step_factors("mup", 256, 64, 0).hidden
    (0.25, 1.0)
    """
    n = width / base_width
    if parametrization == "standard":
        return None
    if parametrization == "ntk":
        narrow = (1 / n if exponent else n**-0.5), 1.0
        return StepFactors((1.0, 1.0), narrow, narrow)
    if exponent:
        return StepFactors((n, n), (1.0, n), (1 / n, 1.0))
    return StepFactors((1.0, 1.0), (1 / n, 1.0), (1 / n, 1.0))


def check_initializer(parametrization: str, name: str, options: Mapping[str, Any]) -> None:
    """Refuses initialisers whose variances are not over the fan-in, from which the rules of a
    parametrisation begin.

    Raises:
      FadeoutError
    """
    known = variance_scaling(name, **options)
    if (
        parametrization != "standard"
        and name != "given"
        and (known is None or known[1] != "fan_in")
    ):
        raise FadeoutError(
            f"model.parametrization={parametrization} begins with variances over the fan-in, and "
            f"init={name} has others: take lecun_normal, he_normal or mean_field"
        )


def readout_factor(parametrization: str, width: int, base_width: int) -> float:
    """The factor of the readout's kernel at the start: mup has variance 1 / fan_in^2."""
    return (base_width / width) ** 0.5 if parametrization == "mup" else 1.0


def scale_steps(updates: Any, factors: tuple[float, float]) -> Any:
    """The updates of a layer, or a stack of them, times factors of its kernel and of all else."""
    kernel, others = factors

    def scale(path: Any, update: Any) -> Any:
        names = {str(getattr(key, "key", getattr(key, "name", key))) for key in path}
        if "factor" in names:  # of a residual branch: one number, whatever the width
            return update
        return (kernel if "kernel" in names else others) * update

    return jax.tree_util.tree_map_with_path(scale, updates)
