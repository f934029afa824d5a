"""JAX's usual generator of random numbers, to the last bit, and sooner compiled.

JAX's own hash is on a CPU a loop, which XLA compiles anew wherever it stands, for longer than all
that is done with what it gives. Here it is written out, and becomes one kernel, in which it is also
two to four times faster; and keys, which are few, are hashed on the host, in NumPy: what is `below`
a key is what `jax.random.fold_in` gives for a number, and `jax.random.split` for all up to one.
Runs draw from it, whatever generator JAX is set to.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl
from jaxtyping import ArrayLike, UInt32

from fadeout.registry import is_own

ROTATIONS = [
    [(np.array(shift, np.uint32), np.array(32 - shift, np.uint32)) for shift in shifts]
    for shifts in ((13, 15, 26, 6), (17, 29, 16, 24))
]
"""To the left and back; arrays, which NumPy takes four times sooner than numbers."""
PARITY = np.uint32(0x1BD11BDA)


def hashed(high, low, counts) -> tuple:
    """Threefry-2x32 of 20 rounds (Salmon 2011), of NumPy's arrays or JAX's.

    Args:
      high, low: the words of a key.
      counts: below 2^32; they broadcast with the words.
    """
    inner = high, low, high ^ low ^ PARITY
    a, b = high, low + counts
    for turn in range(5):
        for left, right in ROTATIONS[turn % 2]:
            a = a + b
            b = (b << left | b >> right) ^ a
        a = a + inner[(turn + 1) % 3]
        b = b + (inner[(turn + 2) % 3] + np.uint32(turn + 1))
    return a, b


def seeded(seed: int | UInt32[np.ndarray, "*many"]) -> UInt32[np.ndarray, "*many 2"]:
    """The key of a seed."""
    seed = np.asarray(seed, np.uint32)
    return np.stack([np.zeros_like(seed), seed], axis=-1)


def below(
    keys: UInt32[np.ndarray, "*many 2"], numbers: Sequence[int]
) -> UInt32[np.ndarray, "*many number 2"]:
    """The keys of these numbers below each.

    >>> below(seeded(3), [1]).tolist() == jax.random.key_data(
    ...     jax.random.split(jax.random.key(3), 2)[1:]
    ... ).tolist()
    True
    """
    counts = np.asarray(numbers, np.uint32)
    return np.stack(hashed(keys[..., :1], keys[..., 1:], counts), axis=-1)


def of_layers(
    keys: UInt32[np.ndarray, "*many 2"], depth: int
) -> UInt32[np.ndarray, "*many {depth+1} 2 2"]:
    """Of the kernel and the bias of every layer below a network's key; the readout is last. A
    layer's are the same, however many there are above it."""
    parts = below(keys, range(3))
    first, hidden, readout = parts[..., :1, :], parts[..., 1, :], parts[..., 2:, :]
    layers = [first, below(hidden, range(1, depth)), readout]
    return below(np.concatenate(layers, axis=-2), range(2))


# --- the same for `jax.random`


def counted(key, shape: tuple[int, ...]) -> tuple:
    """The hash of as many counts."""
    size = math.prod(shape)
    if size >= 2**32:
        raise NotImplementedError(f"{size} random numbers of one key")
    counts = jax.lax.iota(jnp.uint32, size).reshape(shape)
    return hashed(key[0], key[1], counts)


def bits(key, width: int, shape: tuple[int, ...]):
    a, b = counted(key, shape)
    if width == 64:
        return a.astype(jnp.uint64) << 32 | b.astype(jnp.uint64)
    return (a ^ b).astype(f"uint{width}")


GENERATOR = define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jnp.stack([jnp.zeros((), jnp.uint32), seed.astype(jnp.uint32)]),
    split=lambda key, shape: jnp.stack(counted(key, shape), axis=-1),
    random_bits=bits,
    fold_in=lambda key, number: jnp.stack(hashed(key[0], key[1], number.astype(jnp.uint32))),
    name="threefry2x32 written out",
    tag="threefry",
)


def drawing(keys: UInt32[ArrayLike, "*many 2"], function: Callable):
    """Keys with which a function draws by `jax.random`, [*many]; a user's own has JAX's, since some
    of `jax.random`, as `poisson`, takes no others."""
    return jax.random.wrap_key_data(keys, impl=GENERATOR if is_own(function) else "threefry2x32")
