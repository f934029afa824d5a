"""Training throughput at the shapes that people bring, against plain JAX.

    python benchmarks/shapes.py [--quick] [--rounds N]

Plain JAX is the better of two ways to write the same in thirty lines: all networks under one vmap,
or one jitted network at a time on as many threads as there are cores. Relu, He, full-batch gradient
descent, and the norms of the last gradients. Everything is compiled before it is timed, and rounds
alternate. A ratio above 1 means that fadeout is faster. GFLOP/s count the hidden layers' products;
the first line says what one matrix product of 1024 x 1024 reaches on this machine.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import fadeout
from fadeout import Init, Model, Optimizer, Run, Task, Training
from fadeout.sweeps.executors import core_count

SHAPES = (
    (4, 4, 4, 1024, 2000), (8, 2, 4, 1024, 2000), (16, 8, 4, 256, 2000), (32, 16, 4, 64, 1000),
    (64, 8, 4, 64, 1000), (128, 8, 4, 16, 1000), (256, 10, 4, 8, 500), (512, 4, 4, 8, 300),
    (8, 4, 64, 256, 2000), (16, 4, 64, 128, 1000), (32, 6, 64, 64, 1000), (64, 6, 64, 32, 500),
    (8, 4, 256, 128, 1000), (16, 4, 256, 64, 500), (32, 6, 256, 32, 300), (64, 6, 256, 16, 300),
    (128, 6, 256, 8, 200), (16, 3, 1024, 32, 200), (32, 3, 1024, 16, 200), (64, 3, 1024, 8, 200),
)  # fmt: skip
"""Width, depth, examples (4 are XOR's), runs and steps."""

QUICK = tuple(SHAPES[i] for i in (1, 4, 10, 14))


def train_ours(width, depth, examples, runs, steps, seed) -> None:
    task = Task("xor") if examples == 4 else Task("circles", examples=examples)
    base = Run(
        "relu", Init("he_normal"), task, Model(depth, width), Optimizer("sgd", learning_rate=0.01),
        Training(steps, steps), probes=("gradient_norm",),
    )  # fmt: skip
    seeds = range(seed, seed + runs)
    fadeout.train([base.replace_unchecked(seed=s) for s in seeds], quiet=True)


def plain_network(width, depth, examples, steps) -> Callable:
    """Trains one network, as one would write it."""
    x = np.random.default_rng(0).normal(size=(examples, 2)).astype(np.float32)
    if examples == 4:
        x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    t = (x[:, 0] * x[:, 1] > 0).astype(np.float32)

    def draw(key):
        a, b, c = jax.random.split(key, 3)
        scale = np.sqrt(2 / width)
        hidden = scale * jax.random.normal(b, (depth - 1, width, width))
        readout = scale * jax.random.normal(c, (width, 1))
        first = jax.random.normal(a, (2, width))
        zeros = jnp.zeros((depth - 1, width))
        return (first, jnp.zeros(width)), (hidden, zeros), (readout, jnp.zeros(1))

    def loss(parameters):
        (w, b), hidden, (v, c) = parameters

        def layer(h, own):
            return jax.nn.relu(h @ own[0] + own[1]), None

        h, _ = lax.scan(layer, jax.nn.relu(x @ w + b), hidden)
        y = (h @ v + c)[:, 0]
        return jnp.mean(jax.nn.softplus(y) - t * y)

    def train(key):
        def step(parameters, _):
            gradients = jax.grad(loss)(parameters)
            return jax.tree.map(lambda p, g: p - 0.01 * g, parameters, gradients), None

        parameters, _ = lax.scan(step, draw(key), None, length=steps)
        value, gradients = jax.value_and_grad(loss)(parameters)
        return (
            value,
            jax.tree.map(jnp.linalg.norm, (gradients[0][0], gradients[2][0])),
            jnp.sqrt(jnp.sum(gradients[1][0] ** 2, (1, 2))),
        )

    return train


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def compare(width, depth, examples, runs, steps, rounds, cores) -> dict[str, float]:
    """Median seconds of fadeout, of vmap, and of one network at a time."""
    train = plain_network(width, depth, examples, steps)
    keys = jax.random.split(jax.random.key(0), runs)
    mapped = jax.jit(jax.vmap(train)).lower(keys).compile()
    single = jax.jit(train).lower(keys[0]).compile()
    pool = ThreadPoolExecutor(cores)
    ways = {
        "fadeout": lambda seed: train_ours(width, depth, examples, runs, steps, seed),
        "vmap": lambda _: jax.block_until_ready(mapped(keys)),
        "one by one": lambda _: list(
            pool.map(lambda key: jax.block_until_ready(single(key)), list(keys))
        ),
    }
    for way in ways.values():
        way(0)
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        for name, way in ways.items():
            took[name].append(seconds(lambda way=way, number=number: way(100_000 * number)))
    return {name: float(np.median(values)) for name, values in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="four shapes")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cores, logs = core_count(), []
    product = jax.jit(lambda a: a @ a)
    square = jnp.ones((1024, 1024))
    jax.block_until_ready(product(square))
    best = min(seconds(lambda: jax.block_until_ready(product(square))) for _ in range(5))
    print(
        f"{cores} cores, jax {jax.__version__}; one product: {2 * 1024**3 / best / 1e9:.0f} GFLOP/s"
    )
    print("| width x depth, examples | against plain JAX | vmap | one by one | GFLOP/s |")
    print("|---|---|---|---|---|")
    for width, depth, examples, runs, steps in QUICK if arguments.quick else SHAPES:
        took = compare(width, depth, examples, runs, steps, arguments.rounds, cores)
        mapped, single = took["vmap"] / took["fadeout"], took["one by one"] / took["fadeout"]
        logs.append(np.log(min(mapped, single)))
        flops = 6 * examples * (depth - 1) * width**2 * runs * steps / took["fadeout"] / 1e9
        print(f"| {width} x {depth}, {examples} | {min(mapped, single):.2f}x | {mapped:.2f}x | "
              f"{single:.2f}x | {flops:.1f} |", flush=True)  # fmt: skip
    least, middle = np.exp(min(logs)), np.exp(np.mean(logs))
    print(f"least {least:.2f}x, geometric mean {middle:.2f}x of {len(logs)} shapes")


if __name__ == "__main__":
    main()
