"""Training throughput at the shapes that people bring, against plain JAX.

    python benchmarks/shapes.py [--quick] [--varied] [--rounds N]

Plain JAX is the better of two ways to write the same in thirty lines: all networks under one vmap,
or one jitted network at a time on as many threads as there are cores. Relu, He, full-batch gradient
descent, and the norms of the last gradients; a second table has Adam, minibatches, three classes,
residual branches with layer normalisation, and all of fadeout's probes. Everything is compiled
before it is timed, and rounds alternate. A ratio above 1 means that fadeout is faster. GFLOP/s
count the hidden layers' products; the first line says what one matrix product of 1024 x 1024
reaches on this machine.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


@dataclasses.dataclass(frozen=True)
class Variant:
    """What a row of the second table has besides: of fadeout's run, and in plain code.

    Attributes:
      optimizer: of both.
      batch: examples a step.
      classes: of the task.
      remedies: residual branches and layer normalisation.
      probes: the ten default probes at every tenth step, of fadeout alone.
    """

    name: str
    optimizer: str = "sgd"
    batch: int | None = None
    classes: int = 2
    remedies: bool = False
    probes: bool = False


PLAIN = Variant("")
VARIANTS = (
    Variant("ten probes every 10 steps", probes=True),
    Variant("Adam", optimizer="adam"),
    Variant("minibatches of 32", batch=32),
    Variant("three classes", classes=3),
    Variant("residual, layer norm", remedies=True),
)
VARIED = ((8, 2, 4, 1024, 1000), (16, 4, 64, 64, 500), (32, 6, 256, 16, 200), (64, 3, 1024, 8, 100))
"""The shapes of the second table. XOR has no minibatches and two classes."""


def train_ours(width, depth, examples, runs, steps, seed, variant=PLAIN) -> None:
    if examples == 4:
        task = Task("xor")
    elif variant.classes > 2:
        task = Task("spirals", examples=examples, arms=variant.classes)
    else:
        task = Task("circles", examples=examples)
    base = Run(
        "relu", Init("he_normal"), task,
        Model(depth, width, **(_REMEDIES if variant.remedies else {})),
        Optimizer(variant.optimizer, learning_rate=0.01),
        Training(steps, 10 if variant.probes else steps, batch_size=variant.batch),
        **({} if variant.probes else {"probes": ("gradient_norm",)}),
    )  # fmt: skip
    seeds = range(seed, seed + runs)
    fadeout.train([base.replace_unchecked(seed=s) for s in seeds], quiet=True)


_REMEDIES = {"residual": 1.0, "normalization": "layer"}


def plain_network(width, depth, examples, steps, variant=PLAIN) -> Callable:
    """Trains one network, as one would write it."""
    x = np.random.default_rng(0).normal(size=(examples, 2)).astype(np.float32)
    if examples == 4:
        x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    t = (x[:, 0] * x[:, 1] > 0).astype(np.float32)
    if variant.classes > 2:
        t = np.arange(examples) % variant.classes
    outputs = 1 if variant.classes == 2 else variant.classes
    optimizer = optax.sgd(0.01) if variant.optimizer == "sgd" else optax.adam(0.01)

    def draw(key):
        a, b, c = jax.random.split(key, 3)
        scale = np.sqrt(2 / width)
        hidden = scale * jax.random.normal(b, (depth - 1, width, width))
        readout = scale * jax.random.normal(c, (width, outputs))
        first = jax.random.normal(a, (2, width))
        zeros = jnp.zeros((depth - 1, width))
        return (first, jnp.zeros(width)), (hidden, zeros), (readout, jnp.zeros(outputs))

    def normed(z):
        z = z - z.mean(1, keepdims=True)
        return z * lax.rsqrt(jnp.square(z).mean(1, keepdims=True) + 1e-5)

    def loss(parameters, x, t):
        (w, b), hidden, (v, c) = parameters

        def layer(h, own):
            return jax.nn.relu(h @ own[0] + own[1]), None

        def block(z, own):
            return z + jax.nn.relu(normed(z)) @ own[0] + own[1], None

        if variant.remedies:
            z, _ = lax.scan(block, x @ w + b, hidden)
            h = jax.nn.relu(normed(z))
        else:
            h, _ = lax.scan(layer, jax.nn.relu(x @ w + b), hidden)
        y = h @ v + c
        if variant.classes > 2:
            return optax.softmax_cross_entropy_with_integer_labels(y, t).mean()
        return jnp.mean(jax.nn.softplus(y[:, 0]) - t * y[:, 0])

    def batches(key):
        """The examples of each step: all, or the next of this epoch's order."""
        if variant.batch is None:
            return None
        each = examples // variant.batch
        orders = jax.vmap(lambda key: jax.random.permutation(key, examples))(
            jax.random.split(key, -(-steps // each))
        )
        return orders[:, : each * variant.batch].reshape(-1, variant.batch)[:steps]

    def train(key):
        def step(state, rows):
            parameters, moments = state
            some = (x, t) if rows is None else (jnp.asarray(x)[rows], jnp.asarray(t)[rows])
            gradients = jax.grad(loss)(parameters, *some)
            updates, moments = optimizer.update(gradients, moments, parameters)
            return (optax.apply_updates(parameters, updates), moments), None

        parameters = draw(key)
        start = parameters, optimizer.init(parameters)
        (parameters, _), _ = lax.scan(step, start, batches(key), length=steps)
        value, gradients = jax.value_and_grad(loss)(parameters, x, t)
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


def compare(
    width, depth, examples, runs, steps, rounds, cores, variant=PLAIN, single=True
) -> dict[str, float]:
    """Median seconds of fadeout, of vmap, and of one network at a time, if that is asked for."""
    train = plain_network(width, depth, examples, steps, variant)
    keys = jax.random.split(jax.random.key(0), runs)
    mapped = jax.jit(jax.vmap(train)).lower(keys).compile()
    alone = jax.jit(train).lower(keys[0]).compile() if single else None
    pool = ThreadPoolExecutor(cores)
    ways = {
        "fadeout": lambda seed: train_ours(width, depth, examples, runs, steps, seed, variant),
        "vmap": lambda _: jax.block_until_ready(mapped(keys)),
        "one by one": lambda _: list(
            pool.map(lambda key: jax.block_until_ready(alone(key)), list(keys))
        ),
    }
    if not single:
        del ways["one by one"]
    for way in ways.values():
        way(0)
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        for name, way in ways.items():
            took[name].append(seconds(lambda way=way, number=number: way(100_000 * number)))
    return {name: float(np.median(values)) for name, values in took.items()}


def table(cases, rounds, cores) -> list[float]:
    """Prints a row for each shape and variant; returns the logarithms of the ratios."""
    print("| width x depth, examples | against plain JAX | vmap | one by one | GFLOP/s |")
    print("|---|---|---|---|---|")
    logs = []
    for variant, (width, depth, examples, runs, steps) in cases:
        took = compare(width, depth, examples, runs, steps, rounds, cores, variant)
        mapped, single = took["vmap"] / took["fadeout"], took["one by one"] / took["fadeout"]
        logs.append(np.log(min(mapped, single)))
        seen = variant.batch or examples
        flops = 6 * seen * (depth - 1) * width**2 * runs * steps / took["fadeout"] / 1e9
        what = f"{width} x {depth}, {examples}" + (f", {variant.name}" if variant.name else "")
        print(f"| {what} | {min(mapped, single):.2f}x | {mapped:.2f}x | {single:.2f}x | "
              f"{flops:.1f} |", flush=True)  # fmt: skip
    print(f"least {np.exp(min(logs)):.2f}x, geometric mean {np.exp(np.mean(logs)):.2f}x "
          f"of {len(logs)} shapes\n")  # fmt: skip
    return logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="four shapes")
    parser.add_argument("--varied", action="store_true", help="only the second table")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cores = core_count()
    product = jax.jit(lambda a: a @ a)
    square = jnp.ones((1024, 1024))
    jax.block_until_ready(product(square))
    best = min(seconds(lambda: jax.block_until_ready(product(square))) for _ in range(5))
    print(
        f"{cores} cores, jax {jax.__version__}; one product: {2 * 1024**3 / best / 1e9:.0f} GFLOP/s"
    )
    if not arguments.varied:
        table(
            [(PLAIN, shape) for shape in (QUICK if arguments.quick else SHAPES)],
            arguments.rounds, cores,
        )  # fmt: skip
    if not arguments.quick:
        table(
            [(variant, (*shape, runs, 10 * steps if variant.batch else steps))
             for variant in VARIANTS for *shape, runs, steps in VARIED
             if shape[2] > 4 or (variant.batch is None and variant.classes == 2)],
            arguments.rounds, cores,
        )  # fmt: skip


if __name__ == "__main__":
    main()
