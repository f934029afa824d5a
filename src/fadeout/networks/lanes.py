"""The layout that makes many small networks train fast: the run is the last axis.

Each index of that axis is a *lane*, with one network in it. The vector instructions of a CPU then
run across networks.

Every array may carry the run as its *last* axis: kernels [in, out, run], activations
[example, unit, run]. Elementwise mathematics then needs no change at all, because NumPy
broadcasting aligns trailing axes: a bias [unit, run] meets a preactivation [example, unit, run] as
[unit] meets [example, unit]. Only contractions must know, and `matmul` is the one that is needed.

Measured on two cores with AVX-512: written as a sum of elementwise products over the lanes,
width 8 trains 5 to 13 times faster than under `jax.vmap`, where XLA makes a batch of tiny matrix
products; from width 64 on one plain matrix product per network is fastest, so a wide network has
the program to itself.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

UNROLL = 48
"""Contractions up to this size are written out as sums of products, one term per index."""

_SEVERAL = 16
"""Examples from which on a CPU has few lanes, or one network at a time."""

_NARROW, _LANES_OF_NARROW, _LANES_OF_WIDE = 8, 32, 8
"""Lanes up to width 8, and above, for tasks of `_SEVERAL` examples.

Measured at widths 4 to 48 with 16 to 1,024 examples: the kernels of a block then stay in the first
cache (4 to 36 KiB) while all examples go through them. More lanes, and fewer, took 1.2 to 5 times
as long. Tasks of fewer examples use no kernel often enough, and have as many lanes as the second
cache holds."""

_SIGNAL = 2048
"""Width times examples up to which lanes are faster than one network at a time by matrix products.
Measured, lanes against one: 8 x 4 with 256 and 512 examples 1.26 and 0.76, 16 x 4 with 128 and 256
1.43 and 0.80, 24 x 4 with 64 and 128 1.79 and 0.97, 32 x 6 with 32 and 64 1.65 and 1.02, 48 x 4
with 16 and 32 1.13 and 0.99. With normalised preactivations half of it."""

_FEW_EXAMPLES = 16
"""The gradient of a kernel is written out for one network of no more examples, which XLA then
joins with the update; a matrix product wins beyond."""

_BLOCK_BYTES = 1600 * 2**10
"""The parameters and signals of a block of lanes should stay in a core's second cache, or nearly.
Measured with one of 2 MiB: networks of width 8 and depth 30 to width 16 and depth 16 train 1.2 to
1.7 times faster in 64 lanes than in 16 or 32, in which the kernels of a layer have too little to
do, and no faster in 128."""

RECORD_BYTES = 512 * 2**20
"""What a chunk records and reads must fit in memory, several times over."""


def lane_count(
    depth: int,
    width: int,
    examples: int,
    numbers: int,
    platform: str,
    batch_size: int | None = None,
    normalised: bool = False,
) -> int:
    """How many networks a program trains at once; never a function of how many there are.

    Args:
      numbers: of one run, that are recorded or are its inputs.
      batch_size: how many examples a step sees, if not all.
      platform: `cpu`, or an accelerator's name, where lanes are many because they hide latency.
      normalised: whether preactivations are.
    """
    cpu = platform == "cpu"
    seen = batch_size or examples
    many = cpu and seen >= _SEVERAL
    if width > UNROLL or (many and width * seen > _SIGNAL // (1 + normalised)):
        lanes = least = 1 if cpu else 64
    elif many:
        lanes = _LANES_OF_NARROW if width <= _NARROW else _LANES_OF_WIDE
        least = min(lanes, 16)
    elif cpu:
        lanes, least = 128 if depth <= 4 else 64, 16
    else:
        lanes, least = 4096, 16
    state = 4 * depth * width * (examples + width)
    while lanes > least and lanes * state > _BLOCK_BYTES * (1 if cpu else 256):
        lanes //= 2
    while lanes > 1 and lanes * 4 * numbers > RECORD_BYTES:
        lanes //= 2
    return lanes


def _pairwise(operator: Callable, terms) -> Shaped[Array, "..."]:
    """Combines arrays pairwise: vectorised over the lanes, as XLA's reductions of leading axes on a
    CPU are not."""
    terms = list(terms)
    while len(terms) > 1:
        pairs = [operator(a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs) :]
    return terms[0]


_pairwise_sum = functools.partial(_pairwise, jnp.add)

_REDUCTIONS = {jnp.add: jnp.sum, jnp.maximum: jnp.max, jnp.logical_and: jnp.all}


def reduce_leading(
    operator: Callable,
    x: Shaped[Array, "..."],
    axes: int | None = None,
    of: Callable = lambda x: x,
) -> Shaped[Array, "..."]:
    """Combines the elements of an array of one network over its first `axes` axes, or over all.

    Args:
      of: an elementwise function of them, taken of slices, lest XLA keeps all its values.

    >>> print(reduce_leading(jnp.maximum, jnp.array([[1.0, 5.0], [7.0, 2.0]])))
    7.0
    """
    axes = x.ndim if axes is None else axes
    if axes and max(x.shape[:axes]) > UNROLL:
        return _REDUCTIONS[operator](of(x), axis=tuple(range(axes)))
    if axes == 0:
        return of(x)
    x = _pairwise(operator, map(of, x))
    for _ in range(axes - 1):
        x = _pairwise(operator, x)
    return x


def matmul(
    x: Float[Array, "example fan_in *run"], kernel: Float[Array, "fan_in fan_out *run"]
) -> Float[Array, "example fan_out *run"]:
    """The weighted sums x @ kernel, of one network or of one network per lane.

    >>> matmul(jnp.ones((1, 2)), jnp.ones((2, 1))).tolist()
    [[2.0]]
    """
    if x.ndim == 2:
        return jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST)
    if x.shape[-1] == 1:
        return matmul(x[..., 0], kernel[..., 0])[..., None]
    if max(kernel.shape[:2]) <= UNROLL:
        return _pairwise_sum(x[:, i, None] * kernel[None, i] for i in range(kernel.shape[0]))
    return jnp.einsum("eir,ior->eor", x, kernel, precision=lax.Precision.HIGHEST)


def matmul_transposed(
    delta: Float[Array, "example fan_out *run"], kernel: Float[Array, "fan_in fan_out *run"]
) -> Float[Array, "example fan_in *run"]:
    """The backpropagated sums delta @ kernel^T, of one network or of one network per lane.

    Of one network the kernel is transposed without its run: with it, XLA writes a transposed copy
    of every kernel at every step.

    >>> matmul_transposed(jnp.ones((1, 1)), jnp.ones((2, 1))).tolist()
    [[1.0, 1.0]]
    """
    if kernel.ndim == 3 and kernel.shape[-1] == 1:
        return matmul(delta[..., 0], kernel[..., 0].T)[..., None]
    return matmul(delta, jnp.swapaxes(kernel, 0, 1))


def kernel_gradient(
    x: Float[Array, "example fan_in *run"], g: Float[Array, "example fan_out *run"]
) -> Float[Array, "fan_in fan_out *run"]:
    """dL/dW = x^T @ delta, summed over examples, of one network or of one per lane.

    Args:
      x: the layer's input.
      g: delta, dL/dz of the layer.
    """
    if x.ndim == 2:
        return matmul_of_transposed(x, g)
    if x.shape[-1] == 1:
        if x.shape[0] <= _FEW_EXAMPLES:
            return _pairwise_sum(x[e, :, None] * g[e, None] for e in range(x.shape[0]))
        return kernel_gradient(x[..., 0], g[..., 0])[..., None]
    if max(x.shape[1], g.shape[1]) <= UNROLL:
        return _outer_in_blocks(x, g)
    return jnp.einsum("eir,eor->ior", x, g, precision=lax.Precision.HIGHEST)


def matmul_of_transposed(
    a: Float[Array, "inner rows"], b: Float[Array, "inner columns"]
) -> Float[Array, "rows columns"]:
    """a^T @ b, of a that is transposed before: XLA:CPU has a slower product, by up to a tenth of a
    training step, for what it would transpose on the way."""
    transposed = lax.optimization_barrier(a.T)
    return jnp.matmul(transposed, b, precision=lax.Precision.HIGHEST)


def _outer_in_blocks(
    x: Float[Array, "example fan_in run"], g: Float[Array, "example fan_out run"]
) -> Float[Array, "fan_in fan_out run"]:
    """Unrolled over examples; of many, one block after another."""

    def block(x, g):
        return _pairwise_sum(x[e, :, None] * g[e, None, :] for e in range(x.shape[0]))

    blocks, rest = divmod(x.shape[0], UNROLL)
    if not blocks:
        return block(x, g)
    split = blocks * UNROLL
    whole = [a[:split].reshape(blocks, UNROLL, *a.shape[1:]) for a in (x, g)]
    zero = jnp.zeros((x.shape[1], g.shape[1], *x.shape[2:]), x.dtype)
    summed, _ = lax.scan(lambda carry, xg: (carry + block(*xg), None), zero, tuple(whole))
    return summed + block(x[split:], g[split:]) if rest else summed


def mean_over(x: Float[Array, "..."], axes: int = 1) -> Float[Array, "..."]:
    """The mean over the first `axes` axes, of any number of lanes.

    >>> print(mean_over(jnp.array([[1.0, 5.0], [7.0, 2.0]])))
    [4.  3.5]
    """
    return reduce_leading(jnp.add, x, axes) / math.prod(x.shape[:axes])


def per_lane(function):
    """Maps a function of one network over the lanes: every array's last axis, in and out.

    Under `vmap` XLA still chooses the layout with the runs last, so that this costs nothing for
    elementwise work; it makes any optax optimiser right per run, also one that takes norms over
    all parameters.
    """

    @functools.wraps(function)
    def mapped(*args):
        return jax.vmap(function, in_axes=-1, out_axes=-1)(*args)

    return mapped
