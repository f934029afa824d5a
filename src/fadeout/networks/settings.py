"""JAX's settings inside fadeout, whatever the user's are."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def standard_settings(x64: bool) -> Iterator[None]:
    """Sets JAX's promotion and NaN options to the package's own, whatever the user's are.

    `JAX_DEBUG_NANS=1`, `JAX_DISABLE_JIT=1` and strict promotion are for a user's own code: here
    they would make healthy runs fail.

    Args:
      x64: whether float64 exists and is the default.
    """
    with (
        jax.enable_x64(x64),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.disable_jit(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield
