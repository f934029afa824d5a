"""Yardsticks in plain code: the same networks in JAX under vmap, and in PyTorch.

XOR, relu, full-batch gradient descent, the norm of every layer's weight gradient at every step.
"""

import time
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
T = np.array([0, 1, 1, 0], np.float32)
_RATE = 0.01


def _draw(key, depth, width):
    first, hidden, readout = jax.random.split(key, 3)
    scale = np.sqrt(2 / width)
    return (
        (jax.random.normal(first, (2, width)), jnp.zeros(width)),
        (
            scale * jax.random.normal(hidden, (depth - 1, width, width)),
            jnp.zeros((depth - 1, width)),
        ),
        (scale * jax.random.normal(readout, (width, 1)), jnp.zeros(1)),
    )


def _train(parameters, steps):
    """One network, as one would write it; returns the losses and the gradient norms."""

    def loss(parameters):
        (w, b), hidden, (wr, br) = parameters
        h = jax.nn.relu(_X @ w + b)
        h, _ = lax.scan(lambda h, layer: (jax.nn.relu(h @ layer[0] + layer[1]), None), h, hidden)
        y = (h @ wr + br)[:, 0]
        return jnp.mean(jax.nn.softplus(y) - T * y)

    def step(parameters, _):
        value, gradients = jax.value_and_grad(loss)(parameters)
        (first, _), (hidden, _), (readout, _) = gradients
        norms = jnp.concatenate(
            [
                jnp.linalg.norm(first)[None],
                jnp.sqrt(jnp.sum(jnp.square(hidden), (1, 2))),
                jnp.linalg.norm(readout)[None],
            ]
        )
        return jax.tree.map(lambda p, g: p - _RATE * g, parameters, gradients), (value, norms)

    return lax.scan(step, parameters, None, length=steps)[1]


def vmapped(depth, width, steps, runs, options):
    """Compiles the plain network for so many runs, with XLA's options; returns a function that
    trains them."""
    keys = jax.random.split(jax.random.key(0), runs)
    parameters = jax.jit(jax.vmap(lambda key: _draw(key, depth, width)))(keys)
    function = jax.jit(jax.vmap(lambda parameters: _train(parameters, steps)))
    compiled = function.lower(parameters).compile(compiler_options=options)
    return lambda: jax.block_until_ready(compiled(parameters))


def _torch_networks(torch, depth, width, runs):
    generator = torch.Generator().manual_seed(0)
    sizes = [2, *[width] * depth, 1]
    return [
        (
            (2 / i) ** 0.5 * torch.randn(runs, i, o, generator=generator),
            torch.zeros(runs, o),
        )
        for i, o in pairwise(sizes)
    ]


def _torch_loss(torch, parameters):
    h = torch.as_tensor(_X)
    for number, (w, b) in enumerate(parameters):
        h = h @ w + b
        if number < len(parameters) - 1:
            h = torch.relu(h)
    return torch.nn.functional.binary_cross_entropy_with_logits(h[:, 0], torch.as_tensor(T))


def torch_loop(torch, depth, width, steps):
    """Seconds to train one network with autograd, step by step."""
    parameters = [
        (w[0].requires_grad_(), b[0].requires_grad_())
        for w, b in _torch_networks(torch, depth, width, 1)
    ]
    flat = [p for pair in parameters for p in pair]
    began = time.perf_counter()
    for _ in range(steps):
        gradients = torch.autograd.grad(_torch_loss(torch, parameters), flat)
        _ = [float(g.norm()) for g in gradients[::2]]
        with torch.no_grad():
            for p, g in zip(flat, gradients, strict=True):
                p -= _RATE * g
    return time.perf_counter() - began


def torch_vmapped(torch, depth, width, steps, runs):
    """Seconds to train many networks with torch.func.vmap."""
    parameters = _torch_networks(torch, depth, width, runs)
    gradient = torch.func.vmap(torch.func.grad(lambda p: _torch_loss(torch, p)))
    began = time.perf_counter()
    for _ in range(steps):
        gradients = gradient(parameters)
        _ = [g.flatten(1).norm(dim=1) for g, _ in gradients]
        parameters = [
            (w - _RATE * gw, b - _RATE * gb)
            for (w, b), (gw, gb) in zip(parameters, gradients, strict=True)
        ]
    return time.perf_counter() - began
