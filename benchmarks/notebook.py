"""The demo's study as a researcher's plain notebook has it: the yardstick of the time to an answer.

4 activations x 4 depths x 20 seeds, width 16, 1,000 steps of Adam, and the ten default quantities
of every layer every 10 steps. Plain JAX and optax: layers in a Python loop, seeds under vmap, one
program per activation and depth. It draws nothing, stores nothing and resumes nothing.
"""

import time

_START = time.perf_counter()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

INPUTS, TARGETS = jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), jnp.array([0.0, 1, 1, 0])
_ACTIVATIONS = {
    "step": lambda z: (z > 0).astype(z.dtype), "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh,
    "relu": jax.nn.relu,
}  # fmt: skip
WIDTH, STEPS, EVERY, SEEDS = 16, 1000, 10, 20


def _init(key, depth):
    sizes = [2] + [WIDTH] * depth + [1]
    draw = jax.nn.initializers.he_normal()
    keys = jax.random.split(key, depth + 1)
    shapes = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [(draw(k, (a, b)), jnp.zeros(b)) for k, a, b in shapes]


def _forward(params, activation, taps):
    h, zs, hs = INPUTS, [], []
    for (w, b), tap in zip(params[:-1], taps[:-1], strict=True):
        z = h @ w + b + tap
        h = activation(z)
        zs.append(z)
        hs.append(h)
    w, b = params[-1]
    return (h @ w + b + taps[-1])[:, 0], zs, hs


def _make(name, depth):
    activation, optimizer = _ACTIVATIONS[name], optax.adam(0.01)
    taps = [jnp.zeros((4, WIDTH))] * depth + [jnp.zeros((4, 1))]
    slope = jax.vmap(jax.vmap(jax.grad(activation)))
    norm = jnp.linalg.norm

    def loss(params, taps):
        out, zs, hs = _forward(params, activation, taps)
        return optax.sigmoid_binary_cross_entropy(out, TARGETS).mean(), (out, zs, hs)

    def step(carry, _):
        params, state = carry
        (value, seen), (g, d) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, taps)
        u, state = optimizer.update(g, state, params)
        return (optax.apply_updates(params, u), state), (value, *seen, g, d, u, params)

    def record(carry, _):
        new, (value, out, zs, hs, g, d, u, params) = step(carry, None)
        slopes = [slope(z) for z in zs]
        signs = [((a >= 0).all(0) | (a <= 0).all(0)).mean() for a, _ in g]
        measured = {
            "loss": value, "accuracy": ((out > 0) == (TARGETS > 0.5)).mean(),
            "gradient_norm": jnp.stack([norm(a) for a, _ in g]),
            "bias_gradient_norm": jnp.stack([norm(b) for _, b in g]),
            "delta_norm": jnp.stack([norm(x) for x in d]),
            "activation_mean": jnp.stack([h.mean() for h in hs]),
            "activation_std": jnp.stack([h.std() for h in hs]),
            "saturation": jnp.stack([(jnp.abs(s) < 0.05).mean() for s in slopes]),
            "dead_units": jnp.stack([(s == 0).all(0).mean() for s in slopes]),
            "weight_norm": jnp.stack([norm(a) for a, _ in params]),
            "update_ratio": jnp.stack(
                [norm(a) / norm(b) for (a, _), (b, _) in zip(u, params, strict=True)]
            ),
            "one_sided": jnp.stack(signs),
        }  # fmt: skip
        new, _ = jax.lax.scan(lambda c, _: (step(c, None)[0], None), new, None, length=EVERY - 1)
        return new, measured

    def run(key):
        params = _init(key, depth)
        return jax.lax.scan(record, (params, optimizer.init(params)), None, length=STEPS // EVERY)[
            1
        ]

    return jax.jit(jax.vmap(run))


def main():
    keys = jax.random.split(jax.random.key(0), SEEDS)
    compiling = training = 0.0
    for name in _ACTIVATIONS:
        for depth in (2, 4, 8, 16):
            began = time.perf_counter()
            program = _make(name, depth).lower(keys).compile()
            compiled = time.perf_counter()
            results = jax.block_until_ready(program(keys))
            compiling += compiled - began
            training += time.perf_counter() - compiled
            solved = np.mean(np.asarray(results["accuracy"])[:, -1] == 1)
            print(f"{name}, depth {depth}: {solved:.0%} solved")
    took = time.perf_counter() - _START
    print(f"compile {compiling:.1f} s, train {training:.1f} s, all {took:.1f} s")


if __name__ == "__main__":
    main()
