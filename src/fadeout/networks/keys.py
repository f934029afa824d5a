"""Keys of random draws: the hash of JAX's generator, in NumPy.

Wherever it stands in a program, the hash takes XLA longer to compile than all that is done with
what it gives. Keys are few, and made on the host: what is `below` a key is, to the last bit, what
`jax.random.fold_in` gives for a number, and `jax.random.split` for all up to one (of JAX's usual
generator, which all draws are of, whatever JAX is set to).
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import ArrayLike, UInt32

ROTATIONS = [
    [(np.array(shift, np.uint32), np.array(32 - shift, np.uint32)) for shift in shifts]
    for shifts in ((13, 15, 26, 6), (17, 29, 16, 24))
]
"""To the left and back; arrays, which NumPy takes four times sooner than numbers."""
IMPLEMENTATION = "threefry2x32"
PARITY = np.uint32(0x1BD11BDA)


def seeded(seed: int | UInt32[np.ndarray, "*many"]) -> UInt32[np.ndarray, "*many 2"]:
    """The key of a seed."""
    seed = np.asarray(seed, np.uint32)
    return np.stack([np.zeros_like(seed), seed], axis=-1)


def below(
    keys: UInt32[np.ndarray, "*many 2"], numbers: Sequence[int]
) -> UInt32[np.ndarray, "*many number 2"]:
    """The keys of these numbers below each: Threefry-2x32 of 20 rounds (Salmon 2011).

    >>> below(seeded(3), [1]).tolist() == jax.random.key_data(
    ...     jax.random.split(jax.random.key(3), 2)[1:]
    ... ).tolist()
    True
    """
    high, low = keys[..., :1], keys[..., 1:]
    inner = high, low, high ^ low ^ PARITY
    a, b = np.broadcast_arrays(high, low + np.asarray(numbers, np.uint32))
    a, b, turned = a.copy(), b.copy(), np.empty_like(b)
    for turn in range(5):
        for left, right in ROTATIONS[turn % 2]:
            a += b
            np.right_shift(b, right, out=turned)
            b <<= left
            b |= turned
            b ^= a
        a += inner[(turn + 1) % 3]
        b += inner[(turn + 2) % 3] + np.uint32(turn + 1)
    return np.stack([a, b], axis=-1)


def of_layers(
    keys: UInt32[np.ndarray, "*many 2"], depth: int
) -> UInt32[np.ndarray, "*many {depth+1} 2 2"]:
    """Of the kernel and the bias of every layer below a network's key; the readout is last. A
    layer's are the same, however many there are above it."""
    parts = below(keys, range(3))
    first, hidden, readout = parts[..., :1, :], parts[..., 1, :], parts[..., 2:, :]
    layers = [first, below(hidden, range(1, depth)), readout]
    return below(np.concatenate(layers, axis=-2), range(2))


def drawing(keys: UInt32[ArrayLike, "*many 2"]):
    """As `jax.random` takes them, [*many]."""
    return jax.random.wrap_key_data(keys, impl=IMPLEMENTATION)
