"""A hand-written network in NumPy: the oracle of the training tests. Knows nothing of fadeout."""

import numpy as np
from scipy.special import erf

SQRT_2 = np.sqrt(2.0)
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def sigma(z):
    return 1 / (1 + np.exp(-z))


def Phi(z):
    return 0.5 * (1 + erf(z / SQRT_2))


def density(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def softplus(z):
    return np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0)


def gelu_tanh(z):
    return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def gelu_tanh_slope(z):
    u = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    du = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    return (1 + np.tanh(u)) / 2 + z / 2 * (1 - np.tanh(u) ** 2) * du


def elu(z, a=1.0):
    return np.where(z > 0, z, a * np.expm1(np.minimum(z, 0)))


def elu_slope(z, a=1.0):
    return np.where(z > 0, 1, a * np.exp(np.minimum(z, 0)))


def mish_slope(z):
    t = np.tanh(softplus(z))
    return t + z * (1 - t**2) * sigma(z)


FUNCTIONS = {
    "step": (lambda z: (z > 0) * 1.0, lambda z: 0 * z),
    "sigmoid": (sigma, lambda z: sigma(z) * (1 - sigma(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "leaky_relu": (
        lambda z: np.where(z >= 0, z, 0.01 * z),
        lambda z: np.where(z >= 0, 1, 0.01),
    ),
    "elu": (elu, elu_slope),
    "selu": (
        lambda z: SELU_SCALE * elu(z, SELU_ALPHA),
        lambda z: SELU_SCALE * elu_slope(z, SELU_ALPHA),
    ),
    "gelu": (lambda z: z * Phi(z), lambda z: Phi(z) + z * density(z)),
    "gelu_tanh": (gelu_tanh, gelu_tanh_slope),
    "silu": (lambda z: z * sigma(z), lambda z: sigma(z) + z * sigma(z) * (1 - sigma(z))),
    "mish": (lambda z: z * np.tanh(softplus(z)), mish_slope),
    "softplus": (softplus, sigma),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), lambda z: (np.abs(z) < 1) * 1.0),
    "hard_sigmoid": (
        lambda z: np.clip((z + 3) / 6, 0, 1),
        lambda z: (np.abs(z) < 3) / 6,
    ),
    "lecun_tanh": (
        lambda z: 1.7159 * np.tanh(2 * z / 3),
        lambda z: 1.7159 * 2 / 3 * (1 - np.tanh(2 * z / 3) ** 2),
    ),
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))),
    "sin": (np.sin, np.cos),
    "relu6": (lambda z: np.clip(z, 0, 6), lambda z: ((z > 0) & (z < 6)) * 1.0),
    "squared_relu": (lambda z: np.maximum(z, 0) ** 2, lambda z: 2 * np.maximum(z, 0)),
}
"""phi and phi' of every activation, written out."""


def forward(weights, x, phi):
    """Preactivations and activations of every layer; the readout's activation is its output."""
    zs, hs = [], [x]
    for i, (kernel, bias) in enumerate(weights):
        z = hs[-1] @ kernel + bias
        zs.append(z)
        hs.append(phi(z) if i < len(weights) - 1 else z)
    return zs, hs


def backward(weights, x, t, phi, slope, loss="cross_entropy"):
    """Backpropagation by hand: the loss, and per layer delta, dL/dW and dL/db."""
    zs, hs = forward(weights, x, phi)
    y = zs[-1][:, 0]
    if loss == "cross_entropy":
        value = np.mean(np.maximum(y, 0) - y * t + np.log1p(np.exp(-np.abs(y))))
        delta = ((sigma(y) - t) / len(t))[:, None]
    else:
        value = np.mean((y - t) ** 2)
        delta = (2 * (y - t) / len(t))[:, None]
    deltas, kernels, biases = [], [], []
    for i in reversed(range(len(weights))):
        deltas.append(delta)
        kernels.append(hs[i].T @ delta)
        biases.append(delta.sum(0))
        if i:
            delta = (delta @ weights[i][0].T) * slope(zs[i - 1])
    return value, deltas[::-1], kernels[::-1], biases[::-1], zs, hs


def probes(weights, x, t, phi, slope, steepest, loss="cross_entropy", learning_rate=0.1):
    """Every probe of the package, layer by layer, for plain gradient descent."""
    _, deltas, kernels, biases, zs, hs = backward(weights, x, t, phi, slope, loss)
    hidden = range(len(weights) - 1)

    def one_sided(g):
        columns = [g[:, j] for j in range(g.shape[1])]
        return np.mean([((c >= 0).all() or (c <= 0).all()) and (c != 0).any() for c in columns])

    nan = [np.nan]
    return {
        "delta_norm": [np.linalg.norm(d) for d in deltas],
        "gradient_norm": [np.linalg.norm(g) for g in kernels],
        "bias_gradient_norm": [np.linalg.norm(g) for g in biases],
        "weight_norm": [np.linalg.norm(w) for w, _ in weights],
        "update_ratio": [
            np.linalg.norm(learning_rate * g) / np.linalg.norm(w)
            for g, (w, _) in zip(kernels, weights, strict=True)
        ],
        "one_sided": [one_sided(g) for g in kernels],
        "activation_mean": [hs[i + 1].mean() for i in hidden] + nan,
        "activation_std": [hs[i + 1].std() for i in hidden] + nan,
        "saturation": [np.mean(np.abs(slope(zs[i])) <= 0.05 * steepest) for i in hidden] + nan,
        "dead_units": [np.mean((slope(zs[i]) == 0).all(0)) for i in hidden] + nan,
    }
