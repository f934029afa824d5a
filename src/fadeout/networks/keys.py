"""JAX's usual generator of random numbers, to the last bit, and sooner compiled.

On a CPU, JAX's hash is a loop that XLA compiles again wherever it stands, which takes longer than
everything done with the numbers. Written out it becomes one kernel, two to four times faster. Keys
are few and are hashed on the host in NumPy: `fold_in` gives what `jax.random.fold_in` gives for a
number, and `jax.random.split` for all numbers up to one. Runs draw from this generator, whatever
generator JAX is set to.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl
from jaxtyping import ArrayLike, UInt32

from fadeout.registry import is_builtin

_ROTATIONS = [
    [(np.array(shift, np.uint32), np.array(32 - shift, np.uint32)) for shift in shifts]
    for shifts in ((13, 15, 26, 6), (17, 29, 16, 24))
]
"""To the left and back; arrays, which NumPy takes four times sooner than numbers."""
_PARITY = np.uint32(0x1BD11BDA)


def _threefry(high, low, counts) -> tuple:
    """Computes Threefry-2x32 with 20 rounds (Salmon 2011), on NumPy's or JAX's arrays.

    Args:
      high, low: the words of a key.
      counts: below 2^32; they broadcast with the words.
    """
    inner = high, low, high ^ low ^ _PARITY
    a, b = high, low + counts
    for turn in range(5):
        for left, right in _ROTATIONS[turn % 2]:
            a = a + b
            b = (b << left | b >> right) ^ a
        a = a + inner[(turn + 1) % 3]
        b = b + (inner[(turn + 2) % 3] + np.uint32(turn + 1))
    return a, b


def seed_key(seed: int | UInt32[np.ndarray, "*many"]) -> UInt32[np.ndarray, "*many 2"]:
    """Returns the key of a seed."""
    seed = np.asarray(seed, np.uint32)
    return np.stack([np.zeros_like(seed), seed], axis=-1)


def fold_in(
    keys: UInt32[np.ndarray, "*many 2"], numbers: Sequence[int]
) -> UInt32[np.ndarray, "*many number 2"]:
    """Folds numbers into keys, as `jax.random.fold_in` does.

    >>> fold_in(seed_key(3), [1]).tolist() == jax.random.key_data(
    ...     jax.random.split(jax.random.key(3), 2)[1:]
    ... ).tolist()
    True
    """
    counts = np.asarray(numbers, np.uint32)
    return np.stack(_threefry(keys[..., :1], keys[..., 1:], counts), axis=-1)


def layer_keys(
    keys: UInt32[np.ndarray, "*many 2"], depth: int
) -> UInt32[np.ndarray, "*many {depth+1} 2 2"]:
    """Returns the keys of each layer's kernel and bias, readout last.

    A layer's keys do not depend on how many layers are above it.
    """
    parts = fold_in(keys, range(3))
    first, hidden, readout = parts[..., :1, :], parts[..., 1, :], parts[..., 2:, :]
    layers = [first, fold_in(hidden, range(1, depth)), readout]
    return fold_in(np.concatenate(layers, axis=-2), range(2))


# --- the same for `jax.random`


def _hash_counts(key, shape: tuple[int, ...]) -> tuple:
    """Returns the hashes of the counts 0, 1, ... for a shape."""
    size = math.prod(shape)
    if size >= 2**32:
        raise NotImplementedError(f"{size} random numbers of one key")
    counts = jax.lax.iota(jnp.uint32, size).reshape(shape)
    return _threefry(key[0], key[1], counts)


def _random_bits(key, width: int, shape: tuple[int, ...]):
    a, b = _hash_counts(key, shape)
    if width == 64:
        return a.astype(jnp.uint64) << 32 | b.astype(jnp.uint64)
    return (a ^ b).astype(f"uint{width}")


GENERATOR = define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jnp.stack([jnp.zeros((), jnp.uint32), seed.astype(jnp.uint32)]),
    split=lambda key, shape: jnp.stack(_hash_counts(key, shape), axis=-1),
    random_bits=_random_bits,
    fold_in=lambda key, number: jnp.stack(_threefry(key[0], key[1], number.astype(jnp.uint32))),
    name="threefry2x32 written out",
    tag="threefry",
)


def drawing_keys(keys: UInt32[ArrayLike, "*many 2"], function: Callable):
    """Keys with which a function draws by `jax.random`, [*many]; a user's own has JAX's, since some
    of `jax.random`, as `poisson`, takes no others."""
    return jax.random.wrap_key_data(
        keys, impl=GENERATOR if is_builtin(function) else "threefry2x32"
    )
