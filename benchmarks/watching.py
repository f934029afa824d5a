"""What a watched training step costs: python benchmarks/watching.py

A step of `jax.value_and_grad`, jitted, against the same under `fadeout.watch(every=10)`, in rounds
that alternate; and a second `fadeout.examine` of the same shapes against the first.
"""

import itertools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fadeout

KEY = jax.random.key(0)


def mlp(parameters, x, y):
    for kernel, bias in parameters[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = parameters[-1]
    return jnp.mean(jnp.square(x @ kernel + bias - y))


def cnn(parameters, x, y):
    for kernel in parameters[:-1]:
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x)
    return jnp.mean(jnp.square(x.mean((1, 2)) @ parameters[-1] - y))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norms = nnx.List([nnx.LayerNorm(64, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(4, 64, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(64, 256, rngs=rngs), nnx.Linear(256, 64, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class Transformer(nnx.Module):
    def __init__(self, rngs):
        self.embed, self.head = nnx.Embed(64, 64, rngs=rngs), nnx.Linear(64, 64, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(6)])

    def __call__(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


GRAPH, STATE = nnx.split(Transformer(nnx.Rngs(0)))


def transformer(state, tokens):
    logits = nnx.merge(GRAPH, state)(tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


def cases() -> dict[str, tuple[Callable, tuple, int]]:
    """Losses with their arguments, and how many steps are timed together."""
    keys = jax.random.split(KEY, 7)
    sizes = list(itertools.pairwise([32] + [256] * 6 + [1]))
    layers = [
        (jax.random.normal(k, s) * np.sqrt(2 / s[0]), jnp.zeros(s[1]))
        for k, s in zip(keys, sizes, strict=True)
    ]
    x, images = jax.random.normal(KEY, (128, 32)), jax.random.normal(KEY, (16, 16, 16, 3))
    kernels = [
        jax.random.normal(k, (3, 3, size, 16)) * np.sqrt(2 / (9 * size))
        for k, size in zip(keys[:6], [3] + [16] * 5, strict=True)
    ]
    return {
        "MLP, 6 x 256, 128 examples": (mlp, (layers, x, x[:, :1]), 200),
        "CNN, 6 layers of 16 channels": (
            cnn,
            ([*kernels, jnp.ones((16, 1))], images, images.mean((1, 2))[:, :1]),
            30,
        ),
        "transformer, 6 blocks of width 64": (
            transformer,
            (STATE, jax.random.randint(KEY, (16, 33), 0, 64)),
            10,
        ),
    }


def seconds(function: Callable, arguments: tuple, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        found = function(*arguments)
    jax.block_until_ready(found[1])
    return (time.perf_counter() - began) / steps


def main() -> None:
    for name, (loss, arguments, steps) in cases().items():
        plain, watch = jax.jit(jax.value_and_grad(loss)), fadeout.watch(loss, every=10)
        ratios = []
        for number in range(8):
            one, other = (seconds(own, arguments, steps) for own in (plain, watch))
            ratios += [other / one] * (number > 0)
        print(f"{name}: a watched step takes {np.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f}) of a plain one")  # fmt: skip
    loss, arguments, _ = cases()["transformer, 6 blocks of width 64"]
    first, second = (
        seconds(lambda *own: (0, fadeout.examine(loss, *own).delta_norm.values), arguments, 1)
        for _ in range(2)
    )
    print(f"examine: {first:.1f} s, and the same shapes again {second / first:.2f} of it")


if __name__ == "__main__":
    main()
